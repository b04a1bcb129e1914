//! Everything that a plan may know: the rollout as it is recorded, and each device as the server last knew it.
//!
//! All times are the server's own, those that it read when it learned of something; a device's clock counts for nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{DeviceClass, DeviceId, Generation, ModelVersion, Version},
    refusal::RefusalCode,
    twin::ModelState,
};

use super::{Outcome, RolloutId, RolloutState};

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSnapshot {
    /// Which rollout.
    pub rollout: RolloutId,
    /// What it rolls out.
    pub target: ModelVersion,
    /// Where it stands.
    pub state: RolloutState,
    /// Since when this server hears devices without a gap: its start, or the newest jump of its clock. Silence before
    /// then is the server's, not the devices'.
    pub hearing_since: Timestamp,
    /// What the gates say, each at most once.
    pub gates: BTreeMap<String, Gate>,
    /// The devices that the selector picks, and all that were ever assigned by this rollout.
    pub devices: BTreeMap<DeviceId, DeviceView>,
}

/// What a gate says: a health test, an open incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it wants.
    pub says: Says,
    /// Its evidence, for people.
    pub detail: String,
}

/// What a gate wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// The stage may be left.
    Pass,
    /// It cannot tell yet: the stage goes on and is not left.
    Undecided,
    /// A human is to look.
    Hold,
    /// The version does harm.
    Abort,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its kind of hardware.
    pub class: DeviceClass,
    /// Whether the version may be assigned to it.
    pub eligible: Eligibility,
    /// Whether it has a session.
    pub online: bool,
    /// When the server last heard of it.
    pub last_seen: Option<Timestamp>,
    /// The version of this model that answers on it.
    pub running: Option<Version>,
    /// The newest generation demanded of it.
    pub generation: Generation,
    /// The version of this model that is demanded of it.
    pub desired: Option<Version>,
    /// What it last said of this model.
    pub twin: Option<TwinView>,
    /// What this rollout did to it.
    pub assignment: Option<Assignment>,
}

/// Whether the version may be assigned to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Eligibility {
    /// It may.
    Eligible,
    /// The selector picks it no more.
    Unselected,
    /// The version does not allow its class, or its agent is too old.
    Unsuited,
    /// Another rollout of the model has it.
    Taken,
    /// It is quarantined or revoked.
    Barred,
}

/// What a device said of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinView {
    /// The generation that it took over last.
    pub generation: Generation,
    /// The version that it understands to be demanded.
    pub desired: Option<Version>,
    /// Where that version stands.
    pub state: ModelState,
    /// When the server first heard of this state.
    pub changed: Timestamp,
    /// Its newest refusal.
    pub error: Option<RefusalView>,
}

/// A device's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalView {
    /// What and why.
    pub code: RefusalCode,
    /// Of which version.
    pub version: Option<Version>,
    /// Which generation demanded it.
    pub generation: Generation,
}

/// What this rollout did to a device, recorded in the transaction that changed the device's desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// In which stage.
    pub stage: u32,
    /// In which round of retries.
    pub round: u32,
    /// When.
    pub at: Timestamp,
    /// The generation that brought the version.
    pub generation: Generation,
    /// What was demanded before.
    pub previous: Option<Version>,
    /// When the device first fetched something of the version since.
    pub fetched: Option<Timestamp>,
    /// How it ended, once that was recorded.
    pub settled: Option<Settled>,
    /// Why the version was taken back, if it was.
    pub taken_back: Option<TakeBackCause>,
}

/// How an assignment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// How.
    pub outcome: Outcome,
    /// The device's reason, where it gave one.
    pub code: Option<RefusalCode>,
    /// When that was recorded.
    pub at: Timestamp,
}

/// Why a version is taken back from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakeBackCause {
    /// The rollout was aborted.
    Aborted,
    /// The rollout was undone.
    Undone,
    /// The version failed there; the demand follows what the device did by itself.
    Failed,
    /// The device rejected the version; the demand follows.
    Rejected,
    /// The device was never seen again: it is assigned anew when it is there.
    Unreached,
}
