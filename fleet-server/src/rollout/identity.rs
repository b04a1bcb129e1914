//! A rollout's name: safe in a topic, a path and a command line, and the salt of its order of devices.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceId, InvalidName};

/// A rollout's name, unique on the server for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutId(String);

impl RolloutId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RolloutId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // One rule for every name that stands in a topic.
        match text.parse::<DeviceId>() {
            Ok(name) => Ok(Self(name.into())),
            Err(error) => Err(InvalidName { kind: "rollout", ..error }),
        }
    }
}

impl TryFrom<String> for RolloutId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> String {
        id.0
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_escape_a_topic_is_refused_as_a_rollout() {
        for text in ["", "_fleet", "a/b", "+", "A", "-x"] {
            assert_eq!(text.parse::<RolloutId>().unwrap_err().kind, "rollout", "{text:?}");
        }
        assert_eq!("digits-1-1-0".parse::<RolloutId>().unwrap().as_str(), "digits-1-1-0");
    }
}
