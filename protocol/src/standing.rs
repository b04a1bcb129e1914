//! What a team says of its models besides listing versions: the floor, and the versions that may run no more.
//!
//! Member [`MODELS`] of the team's TUF role, so the release keys sign it: for each model an object
//! `{"floor": "1.2.0", "recalled": {"1.1.0": "reason"}, "on_recall": "fallback"}`, every member optional. A version is
//! allowed if it does not lie below the floor and is not recalled. The newest verified list counts as it stands, but a
//! floor never falls under the same set of keys: see [`Standing::raised`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ModelId, Version};

/// The member of a team's role.
pub const MODELS: &str = "x-tern-models";
/// Most models and most recalled versions that are read: what is longer is refused as a whole.
pub const MAX_ENTRIES: usize = 1024;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 500;

/// What is signed about one model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// No version below this one may be installed or run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
    /// Versions that may run no more, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recalled: BTreeMap<Version, String>,
    /// What a device does that runs such a version.
    #[serde(default, skip_serializing_if = "OnRecall::is_default")]
    pub on_recall: OnRecall,
}

/// What a device does that runs a version which is not allowed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRecall {
    /// The newest allowed version on its disk takes over; without one the model stops.
    #[default]
    Fallback,
    /// The model stops at once.
    Stop,
}

impl OnRecall {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a version may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disallowed {
    /// The team took it out of service.
    #[error("version {version} was recalled by its team: {reason}")]
    Recalled {
        /// Which.
        version: Version,
        /// Why, as the team signed it.
        reason: String,
    },
    /// The team wants newer ones only.
    #[error("version {version} lies below the floor {floor} that its team signed")]
    BelowFloor {
        /// Which.
        version: Version,
        /// The lowest that is allowed.
        floor: Version,
    },
}

/// A team's list does not say what it must in the form that it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{MODELS}` is malformed: {0}")]
pub struct InvalidStanding(pub String);

impl Standing {
    /// Whether `version` may run.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn allows(&self, version: &Version) -> Result<(), Disallowed> {
        if let Some(reason) = self.recalled.get(version) {
            return Err(Disallowed::Recalled { version: version.clone(), reason: reason.clone() });
        }
        match &self.floor {
            Some(floor) if version < floor => {
                Err(Disallowed::BelowFloor { version: version.clone(), floor: floor.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What counts after `newer` was verified under the same keys: its word, and the higher of both floors.
    #[must_use]
    pub fn raised(&self, newer: &Self) -> Self {
        Self { floor: self.floor.clone().max(newer.floor.clone()), ..newer.clone() }
    }
}

/// What a team's verified role says of its models; `extra` are the members of the role that TUF itself does not know.
///
/// # Errors
/// Where the member is there and not of its form.
pub fn of_role(extra: &BTreeMap<String, Value>) -> Result<BTreeMap<ModelId, Standing>, InvalidStanding> {
    let Some(value) = extra.get(MODELS) else { return Ok(BTreeMap::new()) };
    let models = BTreeMap::<ModelId, Standing>::deserialize(value).map_err(|e| InvalidStanding(e.to_string()))?;
    let entries = models.len() + models.values().map(|s| s.recalled.len()).sum::<usize>();
    if entries > MAX_ENTRIES {
        return Err(InvalidStanding(format!("{entries} entries are more than {MAX_ENTRIES}")));
    }
    if models.values().flat_map(|s| s.recalled.values()).any(|reason| reason.len() > MAX_REASON) {
        return Err(InvalidStanding(format!("a reason is longer than {MAX_REASON} bytes")));
    }
    Ok(models)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn read(value: Value) -> Result<BTreeMap<ModelId, Standing>, InvalidStanding> {
        of_role(&BTreeMap::from([(MODELS.to_owned(), value)]))
    }

    #[test]
    fn recalled_versions_and_those_below_the_floor_may_not_run() {
        let models =
            read(json!({"digits": {"floor": "1.1.0", "recalled": {"1.2.0": "wrong labels"}, "on_recall": "stop"}}));
        let standing = models.unwrap().remove(&"digits".parse().unwrap()).unwrap();
        assert_eq!(standing.on_recall, OnRecall::Stop);
        let below = Disallowed::BelowFloor { version: version("1.0.9"), floor: version("1.1.0") };
        assert_eq!(standing.allows(&version("1.0.9")), Err(below));
        let recalled = Disallowed::Recalled { version: version("1.2.0"), reason: "wrong labels".into() };
        assert_eq!(standing.allows(&version("1.2.0")), Err(recalled));
        assert_eq!(standing.allows(&version("1.1.0")).and(standing.allows(&version("1.3.0"))), Ok(()));
    }

    #[test]
    fn a_floor_never_falls_and_a_role_without_the_member_says_nothing() {
        let high = Standing { floor: Some(version("2.0.0")), ..Standing::default() };
        let newer = Standing { recalled: BTreeMap::from([(version("2.1.0"), "x".into())]), ..Standing::default() };
        let both = high.raised(&newer);
        assert_eq!((both.floor, both.recalled.len()), (Some(version("2.0.0")), 1));
        assert_eq!(of_role(&BTreeMap::new()), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_malformed_or_too_much_is_refused() {
        let many: BTreeMap<String, Value> = (0..=MAX_ENTRIES).map(|n| (format!("m{n}"), json!({}))).collect();
        let long = json!({"m": {"recalled": {"1.0.0": "x".repeat(MAX_REASON + 1)}}});
        for value in [json!([]), json!({"M": {}}), json!({"m": {"flor": "1.0.0"}}), json!(many), long] {
            assert!(read(value).is_err());
        }
    }
}
