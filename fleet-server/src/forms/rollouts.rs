//! Forms of rollouts. Policy, state, plan and evidence are the planner's own types: their JSON is that of the database.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{DeviceClass, DeviceId, ModelVersion, Version},
    refusal::RefusalCode,
};

use crate::{
    rollout::{Entry, Evidence, HoldReason, Phase, Plan, Policy, RolloutId, TakeBackCause, Tally, Verdict},
    store::{Happened, RolloutRecord},
};

/// What [`is_key`] asks for.
pub const KEY_RULE: &str = "an idempotency key has 1 to 128 visible characters of ASCII, and spaces inside";
/// Longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 128;

/// Whether this can be an `Idempotency-Key`: text that a header carries as it is.
pub fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.trim() == text && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// `POST /api/v1/rollouts`; with the header `Idempotency-Key` the same request finds the rollout that it made before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutOrder {
    /// What to roll out.
    pub model: ModelVersion,
    /// To which devices.
    pub selector: String,
    /// On which terms.
    pub policy: Policy,
    /// Why.
    pub reason: String,
    /// Whether it starts at once.
    #[serde(default)]
    pub start: bool,
}

/// `POST /api/v1/rollouts/{id}/{verb}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutVerb {
    /// Why.
    pub reason: String,
    /// The phase that the caller saw; in any other the verb is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_phase: Option<Phase>,
}

/// A rollout in a list (`GET /api/v1/rollouts`, newest first), as the answer of a verb, and on `_fleet/rollout/<id>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutRow {
    /// Its number, in the order of creation.
    pub number: i64,
    /// Its name.
    pub id: RolloutId,
    /// What it rolls out.
    pub model: ModelVersion,
    /// To which devices.
    pub selector: String,
    /// In which phase it is.
    pub phase: Phase,
    /// The current stage, from 1.
    pub stage: u32,
    /// How many stages there are.
    pub stages: u32,
    /// Why it is held, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReason>,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Why.
    pub reason: String,
    /// Who approved it.
    pub approvals: Vec<String>,
    /// When it last changed.
    pub moved: Timestamp,
    /// Counts the changes.
    pub revision: u64,
    /// Since when it has nothing more to demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
    /// Where its devices stand, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Tally>,
}

impl RolloutRow {
    /// The row of a record, whose devices are not counted.
    pub fn of(record: &RolloutRecord) -> Self {
        let state = &record.state;
        Self {
            number: record.number,
            id: record.id.clone(),
            model: record.target.clone(),
            selector: record.selector.to_string(),
            phase: state.phase,
            stage: state.stage.saturating_add(1),
            stages: record.policy.last_stage().saturating_add(1),
            held: state.held.as_ref().map(ToString::to_string),
            hold: state.held.clone(),
            created: record.created,
            created_by: state.created_by.clone(),
            reason: record.reason.clone(),
            approvals: state.approvals.iter().cloned().collect(),
            moved: state.moved,
            revision: state.revision,
            closed: record.closed,
            devices: None,
        }
    }
}

/// `GET /api/v1/rollouts/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutDetail {
    /// The row of the list.
    #[serde(flatten)]
    pub row: RolloutRow,
    /// Its terms.
    pub policy: Policy,
    /// What the planner makes of it now, for people.
    pub why: String,
    /// On which grounds.
    pub evidence: Evidence,
    /// When time alone changes that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Every device that it concerns, by name.
    pub rows: Vec<RolloutDevice>,
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutDevice {
    /// Which.
    pub device: DeviceId,
    /// Its class.
    pub class: DeviceClass,
    /// Where it stands: `survived`, `failed`, `rejected`, `idle`, `silent`, `unreached`, `pending`; without an assignment
    /// `waiting`, `absent`, `held-back`, `already`, `excluded`, `left`, `returned`.
    pub stands: String,
    /// The device's reason, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<RefusalCode>,
    /// In which stage it was assigned, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Timestamp>,
    /// When its outcome was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
    /// Why the version was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakeBackCause>,
    /// The version that answers there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Version>,
    /// The version that is demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Version>,
    /// Whether it is there.
    pub online: bool,
}

/// `GET /api/v1/rollouts/{id}/plan`: what would be done, and whom each stage reaches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// Whether this is what its start would do.
    pub as_if_started: bool,
    /// What would be done now.
    pub plan: Plan,
    /// Whom each stage reaches that the one before does not; the last may be the control group.
    pub stages: Vec<Vec<DeviceId>>,
}

/// A line of `GET /api/v1/rollouts/{id}/verdicts`: every change, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutHistory {
    /// Its number.
    pub number: i64,
    /// What changed, by whom and why.
    #[serde(flatten)]
    pub entry: Entry,
    /// What the planner decided, and on which grounds, where it was the planner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl From<Happened> for RolloutHistory {
    fn from(Happened { number, entry, verdict }: Happened) -> Self {
        Self { number, entry, verdict }
    }
}
