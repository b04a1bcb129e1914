//! Who calls the operator routes and what they may do: roles, scopes, tokens. Deny by default.
//!
//! [`policy`] decides; nothing here knows routes, the store or the clock.

use std::{collections::BTreeSet, fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};
use tern_protocol::{digest::Digest, ids::TeamId};

use crate::selector::Selector;

pub mod cases;
mod name;
pub mod policy;

pub use name::TokenName;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees lists and telemetry.
    Viewer,
    /// Uploads versions and proposes lists of them.
    Publisher,
    /// Signs versions off, and recalls them.
    Approver,
    /// Enrols devices, assigns versions, rolls them out.
    Operator,
    /// Reads everything, changes nothing.
    Auditor,
    /// Everything.
    Admin,
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// To see lists, manifests and telemetry.
    Read,
    /// To read the bytes of models.
    ReadModel,
    /// To upload manifests and blobs, and to propose what a team lists.
    Publish,
    /// To sign off, to recall.
    Approve,
    /// To enrol devices, assign versions, roll them out, answer incidents, admit dashboards.
    Operate,
    /// To read who read and who was refused.
    Audit,
    /// To make and revoke tokens, to change what the fleet trusts.
    Administer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Publisher, Self::Approver, Self::Operator, Self::Auditor, Self::Admin];

    /// The role as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// Whether the role may do this. What is not named here is denied.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission::{Approve, Audit, Operate, Publish, Read, ReadModel};
        match self {
            Self::Viewer => matches!(permission, Read),
            Self::Publisher => matches!(permission, Read | ReadModel | Publish),
            Self::Approver => matches!(permission, Read | ReadModel | Approve),
            Self::Operator => matches!(permission, Read | Operate),
            Self::Auditor => matches!(permission, Read | ReadModel | Audit),
            Self::Admin => true,
        }
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::ReadModel, Self::Publish, Self::Approve, Self::Operate, Self::Audit, Self::Administer];

    /// Whether it is to change something.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::ReadModel | Self::Audit)
    }

    /// The permission as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadModel => "read-model",
            Self::Publish => "publish",
            Self::Approve => "approve",
            Self::Operate => "operate",
            Self::Audit => "audit",
            Self::Administer => "administer",
        }
    }
}

/// Text that names no role or permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is called {text:?}: write {known}")]
pub struct Unknown {
    what: &'static str,
    text: String,
    known: String,
}

fn named<T: Copy>(what: &'static str, all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, Unknown> {
    let known = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| Unknown { what, text: text.chars().take(40).collect(), known: known() })
}

impl FromStr for Role {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        named("role", &Self::ALL, Self::as_str, text)
    }
}

impl FromStr for Permission {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        named("action", &Self::ALL, Self::as_str, text)
    }
}

/// What of the fleet a token is for; none of a part is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The teams whose models it may touch.
    pub teams: Option<BTreeSet<TeamId>>,
    /// The devices that it may touch; where teams are named and no devices, any, for models of those teams only.
    pub devices: Option<Selector>,
}

impl Scope {
    /// The whole fleet.
    pub const WHOLE: Self = Self { teams: None, devices: None };

    /// Whether it holds the models of a team.
    pub fn has_team(&self, team: &TeamId) -> bool {
        self.teams.as_ref().is_none_or(|teams| teams.contains(team))
    }

    /// Whether it names teams and no devices: those it holds for models of these teams only.
    pub fn is_teams_alone(&self) -> bool {
        self.teams.is_some() && self.devices.is_none()
    }

    /// Whether it is the whole fleet.
    pub fn is_whole(&self) -> bool {
        *self == Self::WHOLE
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let teams = self.teams.iter().flatten().map(|team| format!("team {team}"));
        let parts: Vec<_> = teams.chain(self.devices.iter().map(|devices| format!("devices {devices}"))).collect();
        f.write_str(if parts.is_empty() { "the whole fleet" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The token's name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// What of the fleet it is for.
    pub scope: Scope,
}

impl Operator {
    /// A holder for the whole fleet.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, scope: Scope::WHOLE }
    }
}

/// A secret that is shown once: an operator's token, or an enrolment's secret. The server keeps [`Secret::hash`] only.
pub struct Secret(String);

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness to make a secret from")]
pub struct NoRandomness;

impl Secret {
    /// 32 random bytes.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self(hex::encode(random::<32>()?)))
    }

    /// The secret as text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it.
    pub fn hash(&self) -> Digest {
        secret_hash(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What the store keeps of a presented secret. It has 256 random bits, so a plain hash cannot be searched.
pub fn secret_hash(presented: &str) -> Digest {
    Digest::of(presented.as_bytes())
}

/// Random bytes from the system.
///
/// # Errors
/// Where it has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_does_only_what_it_is_for() {
        use Permission::{Administer, Approve, Audit, Operate, Publish, Read, ReadModel};
        let allowed = |role: Role| Permission::ALL.into_iter().filter(|p| role.allows(*p)).collect::<Vec<_>>();
        assert_eq!(allowed(Role::Viewer), [Read]);
        assert_eq!(allowed(Role::Publisher), [Read, ReadModel, Publish]);
        assert_eq!(allowed(Role::Approver), [Read, ReadModel, Approve]);
        assert_eq!(allowed(Role::Operator), [Read, Operate]);
        assert_eq!(allowed(Role::Auditor), [Read, ReadModel, Audit]);
        assert_eq!(allowed(Role::Admin), [Read, ReadModel, Publish, Approve, Operate, Audit, Administer]);
    }

    #[test]
    fn a_scope_says_what_it_is() {
        assert_eq!(Scope::WHOLE.to_string(), "the whole fleet");
        let teams = ["vision", "audio"].map(|team| team.parse().unwrap()).into();
        let scope = Scope { teams: Some(teams), devices: Some("site=hall-2".parse().unwrap()) };
        assert_eq!(scope.to_string(), "team audio, team vision, devices site=hall-2");
        assert!(!scope.is_whole() && Scope::default().is_whole());
    }

    #[test]
    fn roles_are_text_in_the_store() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        let unknown = "root".parse::<Role>().unwrap_err().to_string();
        assert!(unknown.contains("\"root\"") && unknown.contains("viewer, publisher"), "{unknown}");
        assert!("rule".parse::<Permission>().is_err());
    }

    #[test]
    fn secrets_differ_and_never_print_themselves() {
        let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.hash(), secret_hash(a.reveal()));
        assert_eq!((a.reveal().len(), format!("{a:?}")), (64, "Secret".to_owned()));
    }
}
