//! Which page an address names. Pure: from path and query to a [`Place`], and back to links.

use std::fmt;

use tern_protocol::ids::{DeviceId, ModelId, ModelName, TeamId};

/// A page of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The fleet as a whole; the devices after one of this name.
    Fleet {
        /// The last device of the page before; empty for the first.
        after: String,
    },
    /// One device.
    Device(DeviceId),
    /// Every model's versions.
    Models,
    /// One model.
    Model(ModelName),
    /// Rollouts, newest first.
    Rollouts,
    /// One rollout, by its id.
    Rollout(String),
    /// Incidents, newest first.
    Incidents,
    /// One incident, by its number.
    Incident(u64),
    /// Events, newest first, before this number.
    Events {
        /// The oldest event of the page before; none for the newest.
        before: Option<i64>,
    },
}

/// Longest id of a rollout that is looked up, in bytes.
const MAX_ID: usize = 64;

impl Place {
    /// The page of this path and query; none where there is no such page.
    pub fn parse(path: &str, query: &str) -> Option<Self> {
        let member = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match parts[..] {
            [""] => Self::Fleet { after: after(member("after")) },
            ["devices", id] => Self::Device(id.parse().ok()?),
            ["models"] => Self::Models,
            ["models", team, model] => Self::Model(name(team, model)?),
            ["rollouts"] => Self::Rollouts,
            ["rollouts", id] => Self::Rollout(plain_id(id)?),
            ["incidents"] => Self::Incidents,
            ["incidents", number] => Self::Incident(number.parse().ok()?),
            ["events"] => Self::Events { before: member("before").and_then(|n| n.parse().ok()) },
            _ => return None,
        })
    }

    /// What the page is called.
    pub fn title(&self) -> String {
        match self {
            Self::Fleet { .. } => "Fleet".into(),
            Self::Device(device) => format!("Device {device}"),
            Self::Models => "Models".into(),
            Self::Model(model) => format!("Model {model}"),
            Self::Rollouts => "Rollouts".into(),
            Self::Rollout(id) => format!("Rollout {id}"),
            Self::Incidents => "Incidents".into(),
            Self::Incident(number) => format!("Incident {number}"),
            Self::Events { .. } => "Events".into(),
        }
    }

    /// The place in the navigation that it belongs to.
    pub fn section(&self) -> &'static str {
        match self {
            Self::Fleet { .. } | Self::Device(_) => "/",
            Self::Models | Self::Model(_) => "/models",
            Self::Rollouts | Self::Rollout(_) => "/rollouts",
            Self::Incidents | Self::Incident(_) => "/incidents",
            Self::Events { .. } => "/events",
        }
    }
}

impl fmt::Display for Place {
    /// The page's address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet { after } if after.is_empty() => f.write_str("/"),
            Self::Fleet { after } => write!(f, "/?after={after}"),
            Self::Device(device) => write!(f, "/devices/{device}"),
            Self::Model(model) => write!(f, "/models/{}/{}", model.team, model.model),
            Self::Rollout(id) => write!(f, "/rollouts/{id}"),
            Self::Incident(number) => write!(f, "/incidents/{number}"),
            Self::Events { before: Some(before) } => write!(f, "/events?before={before}"),
            Self::Models | Self::Rollouts | Self::Incidents | Self::Events { before: None } => {
                f.write_str(self.section())
            }
        }
    }
}

/// A device's name, or nothing: whatever else stands there begins the list from its start.
fn after(text: Option<&str>) -> String {
    text.filter(|text| text.parse::<DeviceId>().is_ok()).unwrap_or_default().to_owned()
}

fn name(team: &str, model: &str) -> Option<ModelName> {
    Some(ModelName { team: team.parse::<TeamId>().ok()?, model: model.parse::<ModelId>().ok()? })
}

fn plain_id(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ((1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_pages_and_pages_their_address() {
        for address in [
            "/",
            "/?after=cam-7",
            "/devices/cam-1",
            "/models",
            "/models/demo/meter-digits",
            "/rollouts",
            "/rollouts/meter-digits-1",
            "/incidents",
            "/incidents/12",
            "/events",
            "/events?before=90",
        ] {
            let (path, query) = address.split_once('?').unwrap_or((address, ""));
            let place = Place::parse(path, query).unwrap_or_else(|| panic!("{address}"));
            assert_eq!(place.to_string(), address);
            assert!(address.starts_with(place.section()));
        }
    }

    #[test]
    fn whatever_else_is_no_page() {
        for path in
            ["", "x", "/x", "/devices", "/devices/", "/devices/_fleet", "/devices/a/b", "/models/demo", "/models/../x"]
        {
            assert_eq!(Place::parse(path, ""), None, "{path}");
        }
        for path in ["/incidents/-1", "/incidents/x", "/rollouts/a%20b", "/rollouts/%3Cscript%3E", "//", "/events/1"] {
            assert_eq!(Place::parse(path, ""), None, "{path}");
        }
        assert_eq!(Place::parse("/", "after=<script>"), Some(Place::Fleet { after: String::new() }));
        assert_eq!(Place::parse("/events", "before=x"), Some(Place::Events { before: None }));
    }
}
