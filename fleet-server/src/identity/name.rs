//! The name of a token: who stands in the records.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceId, InvalidName};

/// Names that the records use for others.
const KEPT: [&str; 3] = ["server", "somebody", "various"];
const RULE: &str = "use 1 to 63 of a-z, 0-9 and '-', not starting with '-'; not server, somebody, various";

/// A token's name: never given twice, so that a name in the records means one holder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl TokenName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // The letters of a device's name.
        if text.parse::<DeviceId>().is_ok() && !KEPT.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { kind: "token", text: text.chars().take(80).collect(), rule: RULE })
    }
}

impl TryFrom<String> for TokenName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_plain_and_nobody_elses() {
        for good in ["ann", "ci-vision", "a"] {
            assert_eq!(good.parse::<TokenName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "-", "Ann", "a b", "a/b", "server", "somebody", "various", &long] {
            assert!(bad.parse::<TokenName>().is_err(), "{bad}");
        }
    }
}
