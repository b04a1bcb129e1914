//! What the console may see, page by page: plain values, and the trait that fills them.
//!
//! The pages render these and never reach the store, the keys or the broker. Every list is bounded where it is filled.

use std::{future::Future, pin::Pin};

use jiff::Timestamp;
use tern_protocol::ids::{DeviceId, FleetId, ModelName, ModelVersion, Version};
use tokio::sync::watch;

use super::{chart::Chart, place::Place};
use crate::{
    forms::{DeviceRow, EventRow, VersionRow},
    store::Counts,
};

/// A page's contents.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The fleet's name.
    pub fleet: FleetId,
    /// Whether every key lies on this machine (`init --solo`), which a page must say.
    pub solo: bool,
    /// Incidents that are open now.
    pub open_incidents: u64,
    /// What the page is about.
    pub view: View,
}

/// What a page is about.
#[derive(Debug, Clone)]
pub enum View {
    /// The fleet as a whole.
    Fleet(Box<FleetView>),
    /// One device.
    Device(Box<DeviceView>),
    /// Every model's versions.
    Models(Listed<VersionRow>),
    /// One model.
    Model(Box<ModelView>),
    /// Rollouts.
    Rollouts(Listed<RolloutLine>),
    /// One rollout.
    Rollout(Box<RolloutView>),
    /// Incidents.
    Incidents(Listed<IncidentLine>),
    /// One incident.
    Incident(Box<IncidentView>),
    /// Events.
    Events(Listed<EventRow>),
}

/// The rows of a list that a page shows.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether there are more than these.
    pub more: bool,
}

impl<T> Listed<T> {
    /// At most `most` of `rows`, which are one more where the list goes on.
    pub fn of(mut rows: Vec<T>, most: usize) -> Self {
        let more = rows.len() > most;
        rows.truncate(most);
        Self { rows, more }
    }

    /// No rows.
    pub fn none() -> Self {
        Self { rows: Vec::new(), more: false }
    }
}

/// The fleet as a whole.
#[derive(Debug, Clone)]
pub struct FleetView {
    /// How many devices stand where.
    pub counts: Counts,
    /// Devices by name.
    pub devices: Listed<DeviceRow>,
    /// Versions that answer on some device.
    pub in_service: Listed<VersionRow>,
    /// Incidents that are open, newest first.
    pub incidents: Listed<IncidentLine>,
    /// Rollouts that are not over, newest first.
    pub rollouts: Listed<RolloutLine>,
    /// The newest events, newest first.
    pub events: Listed<EventRow>,
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// Its row.
    pub row: DeviceRow,
    /// What it counted, a version a row.
    pub figures: Listed<Figures>,
    /// How its newest windows went.
    pub charts: Vec<Chart>,
    /// Incidents that name it, newest first.
    pub incidents: Listed<IncidentLine>,
    /// Its newest events, newest first.
    pub events: Listed<EventRow>,
}

/// Exact sums of one version, on one device or on all.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Which version.
    pub version: ModelVersion,
    /// Inferences answered.
    pub inferences: u64,
    /// Rows in them.
    pub rows: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// Windows that were reported.
    pub windows: u64,
    /// Labels that came.
    pub labels: u64,
    /// Predictions that they contradict.
    pub label_errors: u64,
}

impl Figures {
    /// The share of labelled predictions that were right; none without labels.
    pub fn accuracy(&self) -> Option<f64> {
        (self.labels > 0).then(|| 1.0 - self.label_errors as f64 / self.labels as f64)
    }
}

/// One model.
#[derive(Debug, Clone)]
pub struct ModelView {
    /// Which.
    pub model: ModelName,
    /// Its versions, newest first.
    pub versions: Listed<VersionRow>,
    /// What they counted on all devices.
    pub figures: Listed<Figures>,
    /// Where they answer.
    pub running: Listed<Running>,
    /// What can be seen of the version that answers; none where no version is signed.
    pub blind_spots: Option<BlindSpots>,
    /// How the newest windows of all devices went.
    pub charts: Vec<Chart>,
    /// Its incidents, newest first.
    pub incidents: Listed<IncidentLine>,
    /// Its rollouts, newest first.
    pub rollouts: Listed<RolloutLine>,
}

/// A version that answers on a device.
#[derive(Debug, Clone)]
pub struct Running {
    /// The version.
    pub version: Version,
    /// The device.
    pub device: DeviceId,
}

/// What can be seen of a version and what cannot.
#[derive(Debug, Clone)]
pub struct BlindSpots {
    /// The version that answers on most devices; the newest signed one where none answers anywhere.
    pub version: Version,
    /// On how many devices it answers.
    pub devices: u64,
    /// What its reference profile can see; none without one.
    pub sees: Option<Sees>,
}

/// What a reference profile can see.
#[derive(Debug, Clone)]
pub struct Sees {
    /// Windows of the baseline.
    pub windows: u64,
    /// Rows of a window.
    pub window_rows: f64,
    /// Windows between false alarms of one device, in expectation.
    pub false_alarm_every: f64,
    /// What is watched.
    pub features: Listed<Sight>,
}

/// How well one feature is seen.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The feature or output.
    pub name: String,
    /// Whether it is a category: those have no smallest change.
    pub is_category: bool,
    /// The smallest constant change found in about ten windows, in reference standard deviations; none where the profile
    /// names none.
    pub smallest: Option<f64>,
    /// What of the year its reference knows.
    pub season: Season,
}

/// What of the year a reference knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Season {
    /// All of it.
    Whole,
    /// These days, for people.
    Part(String),
    /// Nothing: its rows had no times.
    Timeless,
}

/// A rollout in a list.
#[derive(Debug, Clone)]
pub struct RolloutLine {
    /// Its id.
    pub id: String,
    /// What is rolled out.
    pub target: ModelVersion,
    /// Its phase, such as `running`.
    pub phase: String,
    /// The current stage, from 1.
    pub stage: u32,
    /// How many stages there are.
    pub stages: u32,
    /// How many devices stand where, such as (`survived`, 3), in the order of the words.
    pub tally: Vec<(String, u64)>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
}

/// One rollout.
#[derive(Debug, Clone)]
pub struct RolloutView {
    /// Its line.
    pub line: RolloutLine,
    /// Which devices it is for.
    pub selector: String,
    /// Why it was made.
    pub reason: String,
    /// Why it is held or aborted, while it is.
    pub cause: Option<String>,
    /// Its stages.
    pub stages: Vec<StageLine>,
    /// Where every device stands.
    pub devices: Listed<RolloutDevice>,
    /// What was decided, newest first.
    pub verdicts: Listed<VerdictLine>,
}

/// One stage of a rollout.
#[derive(Debug, Clone)]
pub struct StageLine {
    /// From 1.
    pub number: u32,
    /// How many devices have the version at its end, such as `2` or `50 %`.
    pub share: String,
    /// What it waits for, such as a bake time.
    pub terms: String,
    /// `done`, `current` or `to come`.
    pub state: &'static str,
}

/// A device in a rollout.
#[derive(Debug, Clone)]
pub struct RolloutDevice {
    /// The device.
    pub device: DeviceId,
    /// The stage that it came with, from 1; none before it is assigned.
    pub stage: Option<u32>,
    /// How it stands, such as `survived`.
    pub outcome: String,
    /// The device's reason, where it gave one.
    pub code: String,
    /// Since when it has the assignment.
    pub since: Option<Timestamp>,
}

/// A decision on a rollout.
#[derive(Debug, Clone)]
pub struct VerdictLine {
    /// Its number.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What, such as `promote`.
    pub what: String,
    /// By whom.
    pub by: String,
    /// Why, for people.
    pub why: String,
    /// On which figures, as names and values.
    pub evidence: Vec<(String, String)>,
}

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To know.
    Notice,
    /// To look at.
    Alarm,
    /// To act on.
    Critical,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Alarm => "alarm",
            Self::Critical => "critical",
        }
    }
}

/// An incident in a list.
#[derive(Debug, Clone)]
pub struct IncidentLine {
    /// Its number.
    pub number: u64,
    /// Its kind, such as `device fault`.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it is open.
    pub is_open: bool,
    /// Which version.
    pub version: ModelVersion,
    /// Which devices; empty where it concerns all.
    pub devices: Vec<DeviceId>,
    /// Which features.
    pub features: Vec<String>,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it was resolved.
    pub resolved: Option<Timestamp>,
}

/// One incident.
#[derive(Debug, Clone)]
pub struct IncidentView {
    /// Its line.
    pub line: IncidentLine,
    /// Since when the change is there, by the evidence.
    pub since: Option<Timestamp>,
    /// What is the matter, in one sentence.
    pub summary: String,
    /// The likely cause, for people.
    pub cause: String,
    /// What speaks for it, as names and values.
    pub evidence: Listed<EvidenceLine>,
    /// What policy and people did.
    pub actions: Listed<(Option<Timestamp>, String)>,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
    /// Until when it is muted.
    pub muted_until: Option<Timestamp>,
    /// Why it is muted.
    pub mute_reason: Option<String>,
    /// The score over the windows.
    pub charts: Vec<Chart>,
}

/// One piece of evidence.
#[derive(Debug, Clone)]
pub struct EvidenceLine {
    /// Which detector.
    pub detector: String,
    /// On what: a feature, a device, or empty.
    pub subject: String,
    /// What it found, for people.
    pub found: String,
    /// When the newest window that shows it came.
    pub at: Timestamp,
}

/// A future that a trait object can return.
pub type Showing<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Option<Shown>>> + Send + 'a>>;

/// Where the console gets its contents from.
pub trait ConsoleSource: Send + Sync + 'static {
    /// What stands at a place now; none where there is no such thing.
    ///
    /// # Errors
    /// Where the records cannot be read.
    fn show<'a>(&'a self, place: &'a Place) -> Showing<'a>;

    /// Wakes whoever follows a page after the records changed.
    fn changes(&self) -> watch::Receiver<u64>;
}
