//! The decision: may this holder of a token do this to that? Pure; every route asks it, and `tern policy test` too.
//!
//! Two questions, both must be answered with yes: does the role allow the action, and does what is touched lie inside the
//! token's scope. What touches everything lies inside no scope but the whole fleet. Selectors are held against each other
//! by their terms: an order lies inside a scope if it names every term of the scope. A scope of teams that names no
//! devices holds devices for what its teams own and no further: it puts their models onto any of them, and enrols, revokes
//! and reidentifies none, for whoever runs on a device would feel that. Reading changes nothing and is not bounded so.

use tern_protocol::ids::{DeviceClass, DeviceId, Labels, TeamId};

use super::{Operator, Permission, Role, Scope};
use crate::selector::Selector;

/// How much of one kind of thing a request touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched<T> {
    /// Nothing of this kind, or a list that is cut to the scope.
    Nothing,
    /// This.
    One(T),
    /// All there are.
    Everything,
}

/// The devices that one request touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// One, by what selectors look at.
    Facts(DeviceFacts),
    /// Those that a selector picks, now or later.
    Picked(Selector),
}

/// What selectors look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its name.
    pub device: DeviceId,
    /// Its hardware kind.
    pub class: DeviceClass,
    /// Its labels, the operator's over its own.
    pub labels: Labels,
}

/// What a request touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Whose models.
    pub team: Touched<TeamId>,
    /// Which devices.
    pub devices: Touched<Devices>,
}

impl Resource {
    /// Nothing of the fleet, or a list that is cut to the scope.
    pub const NONE: Self = Self { team: Touched::Nothing, devices: Touched::Nothing };
    /// The fleet as a whole.
    pub const FLEET: Self = Self { team: Touched::Everything, devices: Touched::Everything };
    /// All devices, whatever they run.
    pub const DEVICES: Self = Self { team: Touched::Nothing, devices: Touched::Everything };

    /// Models of a team.
    pub fn team(team: &TeamId) -> Self {
        Self { team: Touched::One(team.clone()), devices: Touched::Nothing }
    }

    /// One device.
    pub fn device(facts: DeviceFacts) -> Self {
        Self { team: Touched::Nothing, devices: Touched::One(Devices::Facts(facts)) }
    }

    /// The same, on the devices that a selector picks.
    #[must_use]
    pub fn on(self, selector: &Selector) -> Self {
        Self { devices: Touched::One(Devices::Picked(selector.clone())), ..self }
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role does not do this.
    #[error("role {} may not {}: ask an admin", .0.as_str(), .1.as_str())]
    Role(Role, Permission),
    /// It touches models of a team outside the scope.
    #[error("the token is for {scope}, not for models of {team}: use a token of that team")]
    Team {
        /// The scope.
        scope: Scope,
        /// The team.
        team: TeamId,
    },
    /// It touches a device outside the scope.
    #[error("the token is for {scope}, which does not hold {device}")]
    Device {
        /// The scope.
        scope: Scope,
        /// The device.
        device: DeviceId,
    },
    /// It touches whatever a selector picks, which may lie outside the scope.
    #[error("the token is for {scope}; {selector} may pick devices outside: add those terms to it")]
    Selector {
        /// The scope.
        scope: Scope,
        /// The selector.
        selector: Selector,
    },
    /// It touches devices themselves, not models of a team on them, and the scope names teams alone.
    #[error(
        "the token is for {scope}, and that holds no device itself, only its models on devices: use a token whose scope \
         names devices"
    )]
    Itself {
        /// The scope.
        scope: Scope,
    },
    /// It touches the whole fleet.
    #[error(
        "the token is for {scope}, and this concerns the whole fleet: name a part of it, or use a token for all of it"
    )]
    Whole {
        /// The scope.
        scope: Scope,
    },
}

/// Whether `operator` may do `action` to `resource`.
///
/// # Errors
/// The first reason why not.
pub fn decide(operator: &Operator, action: Permission, resource: &Resource) -> Result<(), Denied> {
    if !operator.role.allows(action) {
        return Err(Denied::Role(operator.role, action));
    }
    let scope = || operator.scope.clone();
    if let Some(teams) = &operator.scope.teams {
        match &resource.team {
            Touched::Nothing => {}
            Touched::One(team) if teams.contains(team) => {}
            Touched::One(team) => return Err(Denied::Team { scope: scope(), team: team.clone() }),
            Touched::Everything => return Err(Denied::Whole { scope: scope() }),
        }
    }
    let is_itself = resource.team == Touched::Nothing && resource.devices != Touched::Nothing;
    if operator.scope.is_teams_alone() && is_itself && action.changes() {
        return Err(Denied::Itself { scope: scope() });
    }
    if let Some(devices) = &operator.scope.devices {
        match &resource.devices {
            Touched::Nothing => {}
            Touched::One(Devices::Facts(DeviceFacts { device, class, labels })) => {
                if !devices.matches(device, class, labels) {
                    return Err(Denied::Device { scope: scope(), device: device.clone() });
                }
            }
            Touched::One(Devices::Picked(selector)) => {
                if !selector.is_within(devices) {
                    return Err(Denied::Selector { scope: scope(), selector: selector.clone() });
                }
            }
            Touched::Everything => return Err(Denied::Whole { scope: scope() }),
        }
    }
    Ok(())
}

/// Whether `grantor` may hand out a token with this role and scope, and take one back: nobody makes a mightier one than
/// their own.
pub fn covers(grantor: &Operator, role: Role, scope: &Scope) -> bool {
    let allows = Permission::ALL.into_iter().all(|p| grantor.role.allows(p) || !role.allows(p));
    let has_teams =
        grantor.scope.teams.as_ref().is_none_or(|own| scope.teams.as_ref().is_some_and(|t| t.is_subset(own)));
    let has_devices = match &grantor.scope.devices {
        Some(own) => scope.devices.as_ref().is_some_and(|devices| devices.is_within(own)),
        // To name devices gives more than to name none.
        None => !grantor.scope.is_teams_alone() || scope.devices.is_none(),
    };
    allows && has_teams && has_devices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(name: &str) -> TeamId {
        name.parse().unwrap()
    }

    fn scoped(role: Role, teams: &[&str], devices: Option<&str>) -> Operator {
        let teams = (!teams.is_empty()).then(|| teams.iter().map(|t| team(t)).collect());
        let scope = Scope { teams, devices: devices.map(|d| d.parse().unwrap()) };
        Operator { scope, ..Operator::new("a", role) }
    }

    fn cam(site: &str) -> DeviceFacts {
        let labels = [("site".parse().unwrap(), site.parse().unwrap())].into();
        DeviceFacts { device: "cam-1".parse().unwrap(), class: "pi".parse().unwrap(), labels }
    }

    #[test]
    fn the_role_is_asked_first_and_for_every_action() {
        for role in Role::ALL {
            for action in Permission::ALL {
                let decided = decide(&Operator::new("a", role), action, &Resource::FLEET);
                let expected = if role.allows(action) { Ok(()) } else { Err(Denied::Role(role, action)) };
                assert_eq!(decided, expected);
            }
        }
        let outside = scoped(Role::Viewer, &["vision"], None);
        let denied = decide(&outside, Permission::Publish, &Resource::team(&team("audio")));
        assert_eq!(denied, Err(Denied::Role(Role::Viewer, Permission::Publish)));
    }

    #[test]
    fn a_team_token_touches_its_teams_only() {
        let publisher = scoped(Role::Publisher, &["vision"], None);
        let scope = publisher.scope.clone();
        let may = |resource: &Resource| decide(&publisher, Permission::Publish, resource);
        assert_eq!(may(&Resource::team(&team("vision"))), Ok(()));
        assert_eq!(may(&Resource::NONE), Ok(()));
        assert_eq!(may(&Resource::DEVICES), Err(Denied::Itself { scope: scope.clone() }));
        let audio = team("audio");
        assert_eq!(may(&Resource::team(&audio)), Err(Denied::Team { scope: scope.clone(), team: audio }));
        assert_eq!(may(&Resource::FLEET), Err(Denied::Whole { scope }));
    }

    #[test]
    fn a_team_token_touches_devices_for_its_models_only() {
        let operator = scoped(Role::Operator, &["vision"], None);
        let itself = Err(Denied::Itself { scope: operator.scope.clone() });
        let may = |resource: &Resource| decide(&operator, Permission::Operate, resource);
        let (cam, picked) = (Resource::device(cam("hall-2")), "site=hall-2".parse().unwrap());
        for alone in [&cam, &Resource::DEVICES, &Resource::NONE.on(&picked)] {
            assert_eq!(may(alone), itself, "{alone:?}");
            assert_eq!(decide(&operator, Permission::Read, alone), Ok(()));
        }
        let own = Resource::team(&team("vision"));
        for models in [own.clone().on(&Selector::all()), Resource { team: own.team, ..cam.clone() }] {
            assert_eq!(may(&models), Ok(()), "{models:?}");
        }
        let local = scoped(Role::Operator, &["vision"], Some("site=hall-2"));
        assert_eq!(decide(&local, Permission::Operate, &cam), Ok(()), "devices are named");
    }

    #[test]
    fn a_device_token_touches_its_devices_only() {
        let operator = scoped(Role::Operator, &[], Some("site=hall-2"));
        let scope = operator.scope.clone();
        let may = |resource: &Resource| decide(&operator, Permission::Operate, resource);
        let vision = Resource::team(&team("vision"));
        assert_eq!(may(&vision), Ok(()), "it says nothing of teams");
        assert_eq!(may(&Resource::device(cam("hall-2"))), Ok(()));
        let device = cam("hall-1").device;
        assert_eq!(may(&Resource::device(cam("hall-1"))), Err(Denied::Device { scope: scope.clone(), device }));
        assert_eq!(may(&Resource::DEVICES), Err(Denied::Whole { scope: scope.clone() }));
        let on = |selector: &str| may(&vision.clone().on(&selector.parse().unwrap()));
        assert_eq!(on("line=a,site=hall-2"), Ok(()));
        for outside in ["*", "line=a", "site in (hall-2,hall-3)", "site!=hall-1"] {
            let selector = outside.parse().unwrap();
            assert_eq!(on(outside), Err(Denied::Selector { scope: scope.clone(), selector }), "{outside}");
        }
    }

    #[test]
    fn nobody_hands_out_more_than_they_have() {
        let admin = Operator::new("root", Role::Admin);
        assert!(Role::ALL.into_iter().all(|role| covers(&admin, role, &Scope::WHOLE)));
        let local = scoped(Role::Admin, &["vision", "audio"], Some("site=hall-2"));
        let scope = |teams: &[&str], devices| scoped(Role::Viewer, teams, devices).scope;
        assert!(covers(&local, Role::Admin, &local.scope));
        assert!(covers(&local, Role::Publisher, &scope(&["vision"], Some("site=hall-2,line=a"))));
        for (teams, devices) in [
            (&[][..], Some("site=hall-2")),
            (&["vision"], None),
            (&["vision", "other"], Some("site=hall-2")),
            (&["vision"], Some("site=hall-1")),
            (&["vision"], Some("*")),
        ] {
            assert!(!covers(&local, Role::Viewer, &scope(teams, devices)), "{teams:?} {devices:?}");
        }
        let of_team = scoped(Role::Admin, &["vision"], None);
        assert!(covers(&of_team, Role::Admin, &of_team.scope));
        assert!(!covers(&of_team, Role::Operator, &scope(&["vision"], Some("*"))), "that would hold devices");
        assert!(!covers(&Operator::new("p", Role::Publisher), Role::Approver, &Scope::WHOLE));
        assert!(covers(&Operator::new("p", Role::Publisher), Role::Viewer, &Scope::WHOLE));
    }

    #[test]
    fn denials_say_what_to_do() {
        let operator = scoped(Role::Operator, &["vision"], Some("site=hall-2"));
        let words = |resource: &Resource| decide(&operator, Permission::Operate, resource).unwrap_err().to_string();
        assert_eq!(
            words(&Resource::team(&team("audio"))),
            "the token is for team vision, devices site=hall-2, not for models of audio: use a token of that team"
        );
        assert!(words(&Resource::FLEET).contains("use a token for all of it"));
        assert!(words(&Resource::NONE.on(&Selector::all())).contains("add those terms"));
    }
}
