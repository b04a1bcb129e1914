//! What a device says of itself: the retained JSON of `status` and `twin`.
//!
//! Readers ignore members that they do not know; writers never change what a member means.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{DeviceClass, Generation, Labels, ModelName, Version},
    refusal::RefusalCode,
};

/// Longest twin or status that the server reads, in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// The payload of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the device is there. The last will says false.
    pub online: bool,
    /// Random identity of this start of the agent.
    pub boot: String,
    /// The agent's version.
    pub agent_version: String,
    /// Since when, by the device's clock.
    pub since: Timestamp,
}

/// The payload of `twin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The newest desired state that was taken over.
    pub generation: Generation,
    /// Its models and those still on the device.
    pub models: Vec<ModelTwin>,
    /// The device's class.
    pub device_class: DeviceClass,
    /// Its labels.
    pub labels: Labels,
    /// The agent's version.
    pub agent_version: String,
    /// The newest refusal that concerns no single model: a desired state that was not taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// One model on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTwin {
    /// Which model.
    pub model: ModelName,
    /// The version that answers, if any.
    pub version: Option<Version>,
    /// The digest of its manifest.
    pub digest: Option<Digest>,
    /// Where the newest demanded version stands.
    pub state: ModelState,
    /// The version that is demanded.
    pub desired: Option<Version>,
    /// The generation that demanded it.
    pub generation: Generation,
    /// Since when it stands there.
    pub since: Timestamp,
    /// The newest refusal of this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// Where the newest demanded version of a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelState {
    /// It is being verified and fetched.
    Fetching,
    /// It is being tried in a throw-away process.
    Probing,
    /// It is verified and on disk.
    Staged,
    /// It answers, and may still be taken back by itself.
    OnProbation,
    /// It answers, probation time has passed, too few inferences came.
    Idle,
    /// It answers.
    Committed,
    /// It was refused; the version before answers, if there was one.
    Rejected,
    /// It answered and was taken back; the version before answers, if there was one.
    RolledBack,
    /// Nothing answers: what answered was recalled or fell below its floor, and no version that may run is on the device.
    Stopped,
    /// The model is not demanded any more.
    Removed,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// What was refused and why.
    pub code: RefusalCode,
    /// The same for people, at most 500 characters.
    pub message: String,
    /// The version that was refused, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The generation that demanded it, or that the refused state carries.
    #[serde(default)]
    pub generation: Generation,
    /// When, by the device's clock.
    pub at: Timestamp,
    /// How often since the agent started.
    #[serde(default)]
    pub count: u64,
}
