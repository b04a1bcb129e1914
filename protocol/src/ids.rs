//! Names of things: devices, fleets, teams, models, versions, labels, generations.
//!
//! Every name is checked once, when text becomes one of these types; nothing here compares or orders by meaning.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest device, fleet, team or model name, in bytes.
pub const MAX_ID_LENGTH: usize = 63;
/// Longest version, in bytes.
pub const MAX_VERSION_LENGTH: usize = 64;

/// Text that is no valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What the text was meant to be.
    pub kind: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

const ID_RULE: &str = "use 1 to 63 of a-z, 0-9 and '-', not starting with '-'";
const VERSION_RULE: &str =
    "use a semantic version without build metadata, such as 1.4.0 or 2.0.0-rc.1, of at most 64 bytes";
const LABEL_RULE: &str = "use 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'";
const MODEL_NAME_RULE: &str = "write it as team/model";
const MODEL_VERSION_RULE: &str = "write it as team/model@version";

fn invalid(kind: &'static str, text: &str, rule: &'static str) -> InvalidName {
    InvalidName { kind, text: text.chars().take(80).collect(), rule }
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

macro_rules! name {
    ($name:ident, $kind:literal, $check:ident, $rule:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $check(text) { Ok(Self(text.to_owned())) } else { Err(invalid($kind, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    DeviceId,
    "device",
    is_id,
    ID_RULE,
    "A device's name, unique in its fleet and equal to its certificate's common name."
);
name!(FleetId, "fleet", is_id, ID_RULE, "A fleet's name.");
name!(TeamId, "team", is_id, ID_RULE, "The name of a team, which owns models and signs their versions.");
name!(ModelId, "model", is_id, ID_RULE, "A model's name without its team: unique on a device.");
name!(DeviceClass, "device class", is_id, ID_RULE, "A kind of hardware.");
name!(LabelKey, "label key", is_label, LABEL_RULE, "The key of a device's label.");
name!(LabelValue, "label value", is_label, LABEL_RULE, "The value of a device's label.");

/// A device's labels.
pub type Labels = std::collections::BTreeMap<LabelKey, LabelValue>;

/// A model's version: semantic, without build metadata (which semver does not order).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

impl FromStr for Version {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = || invalid("version", text, VERSION_RULE);
        if text.len() > MAX_VERSION_LENGTH {
            return Err(refused());
        }
        let version = semver::Version::parse(text).map_err(|_| refused())?;
        if version.build.is_empty() { Ok(Self(version)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A model's full name, written `team/model`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName {
    /// The team that owns it.
    pub team: TeamId,
    /// Its name within the team, and on devices.
    pub model: ModelId,
}

impl FromStr for ModelName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (team, model) = text.split_once('/').ok_or_else(|| invalid("model name", text, MODEL_NAME_RULE))?;
        Ok(Self { team: team.parse()?, model: model.parse()? })
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> String {
        name.to_string()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.team, self.model)
    }
}

/// One version of one model, written `team/model@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelVersion {
    /// Which model.
    pub name: ModelName,
    /// Which version of it.
    pub version: Version,
}

impl ModelVersion {
    /// The TUF target path of this version's manifest: `models/<team>/<model>/<version>/manifest.json`.
    pub fn target_path(&self) -> String {
        format!("models/{}/{}/{}/manifest.json", self.name.team, self.name.model, self.version)
    }

    /// The TUF target path of its manifest while it is a candidate.
    pub fn candidate_path(&self) -> String {
        format!("candidates/{}/{}/{}/manifest.json", self.name.team, self.name.model, self.version)
    }

    /// The version whose manifest has this TUF target path, or none where the path is not of that form.
    pub fn from_target_path(path: &str) -> Option<Self> {
        Self::from_path(path, "models")
    }

    /// The candidate whose manifest has this TUF target path, or none where the path is not of that form.
    pub fn from_candidate_path(path: &str) -> Option<Self> {
        Self::from_path(path, "candidates")
    }

    fn from_path(path: &str, folder: &str) -> Option<Self> {
        let path = path.strip_prefix(folder)?;
        let mut parts = path.split('/');
        let (Some(""), Some(team), Some(model), Some(version), Some("manifest.json"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let name = ModelName { team: team.parse().ok()?, model: model.parse().ok()? };
        Some(Self { name, version: version.parse().ok()? })
    }
}

impl FromStr for ModelVersion {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (name, version) = text.split_once('@').ok_or_else(|| invalid("model version", text, MODEL_VERSION_RULE))?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

impl TryFrom<String> for ModelVersion {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ModelVersion> for String {
    fn from(version: ModelVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// The number of a device's desired state. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_escape_a_topic_or_a_path_are_refused() {
        for text in ["", "_fleet", "-a", "A", "a/b", "a+b", "#", "..", "a b", "a\0", "ä", &"a".repeat(64)] {
            assert!(text.parse::<DeviceId>().is_err(), "{text:?}");
        }
        assert!("cam-01".parse::<DeviceId>().is_ok());
        assert!("a".repeat(63).parse::<ModelId>().is_ok());
    }

    #[test]
    fn a_version_carries_no_build_metadata() {
        assert!("1.0.0+x".parse::<Version>().is_err());
        assert!("1.0".parse::<Version>().is_err());
        assert!(format!("1.0.0-{}", "a".repeat(70)).parse::<Version>().is_err());
        assert!("1.0.0-rc.1".parse::<Version>().unwrap() < "1.0.0".parse().unwrap());
    }

    #[test]
    fn target_path_and_model_version_are_inverse() {
        let version: ModelVersion = "demo/meter-digits@1.0.0".parse().unwrap();
        assert_eq!(version.target_path(), "models/demo/meter-digits/1.0.0/manifest.json");
        assert_eq!(ModelVersion::from_target_path(&version.target_path()), Some(version.clone()));
        assert_eq!(ModelVersion::from_candidate_path(&version.candidate_path()), Some(version.clone()));
        assert_eq!(ModelVersion::from_target_path(&version.candidate_path()), None);
        for path in ["models/demo/x/1.0.0/manifest.json/y", "models/../x/1.0.0/manifest.json", "models/a/b/1.0.0/other"]
        {
            assert_eq!(ModelVersion::from_target_path(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in ".{0,80}") {
            if let Ok(id) = text.parse::<DeviceId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(name) = text.parse::<ModelVersion>() { prop_assert_eq!(name.to_string(), text); }
        }
    }
}
