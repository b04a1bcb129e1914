//! Incidents as the HTTPS interface, MQTT (`_fleet/incident/<number>`), hooks and webhooks show them: JSON, additive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceId, ModelVersion};
use tern_stats::step::Direction;

macro_rules! words {
    ($name:ident, $doc:literal, $($variant:ident = $text:literal, $what:literal;)*) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $(#[doc = $what] $variant,)*
        }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in JSON, tables and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it says, for people.
            pub fn says(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
            }
        }
    };
}

/// Text that is none of a closed list's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not known")]
pub struct UnknownWord(pub String);

words! { IncidentKind, "What kind of decay an incident is.",
    DataQuality = "data-quality", "values are missing, stuck, out of range or unknown";
    DeviceFault = "device-fault", "some devices see something that their cohort does not";
    PopulationChange = "population-change", "most devices see something that the reference did not";
    ObjectiveBreached = "objective-breached", "more errors than the publisher promised";
    ModelBroken = "model-broken", "the model is wrong more often than its confidence allows for";
    LatencyOrErrors = "latency-or-errors", "inferences fail";
}

words! { Severity, "How much an incident asks for a person; grows only, while it is open.",
    Notice = "notice", "worth knowing";
    Alarm = "alarm", "asks for a person";
    Critical = "critical", "asks for a person now";
}

words! { Cause, "The likely cause.",
    Device = "device", "the devices themselves: others of the cohort, under the same weather, do not show it";
    Population = "population", "what the devices see has changed, or a season that the reference does not cover";
    LocalOrSeasonal = "local-or-seasonal", "local or seasonal: no concurrent evidence that the device is to blame";
    Pipeline = "pipeline", "what prepares the inputs: most devices lack values or send unknown ones";
    Unattributed = "unattributed", "the device or what feeds it: there is no cohort of eight to tell";
    Model = "model", "what the model learned no longer holds for what it sees";
    Service = "service", "the engine, its deadline, or answers that are no numbers";
}

words! { Layer, "Which detector speaks.",
    Hard = "hard", "a share beyond the baseline's own worst; at once, no probability claim";
    Step = "step", "a feature of one device against the reference";
    Concurrent = "concurrent", "a feature of one device against its cohort";
    Pooled = "pooled", "a feature's mean over the fleet against the reference";
    Calibration = "calibration", "labels against the errors that the confidence allows for";
    Slo = "slo", "labels against the error rate that the publisher promised";
    Estimate = "estimate", "the errors that the confidences lead to expect; advisory";
    Service = "service", "share of inferences that failed";
}

words! { Resolution, "Why an incident ended.",
    Quiet = "quiet", "its evidence did not come again for ten windows";
    Superseded = "superseded", "a population change explains it";
    VersionGone = "version-gone", "no device reports under the version any more";
}

/// One thing that a detector saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which detector.
    pub layer: Layer,
    /// On which device; none where it is of all.
    pub device: Option<DeviceId>,
    /// In which feature.
    pub feature: Option<String>,
    /// Which score or rule: `spread`, `missing`, `out-of-range`, ...
    pub measure: String,
    /// Which way a score went.
    pub direction: Option<Direction>,
    /// log10 of a sequential detector over its threshold: it speaks at 0 and above.
    pub strength: Option<f64>,
    /// What was counted: a share from 0 to 1 (hard rules, failed inferences, errors among labels).
    pub share: Option<f64>,
    /// What the share may be at most.
    pub limit: Option<f64>,
    /// What the share is of: values, inferences or labels.
    pub of: Option<u64>,
    /// When the server received the newest window that shows it.
    pub at: Timestamp,
}

/// What policy did about an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `notify`, `retrain` or `webhook`.
    pub hook: String,
    /// `opened` or `resolved`.
    pub occasion: String,
    /// `waiting`, `done`, `failed` or `muted`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When that was last written down.
    pub at: Timestamp,
    /// How it ended, for people.
    pub detail: String,
}

/// `GET /api/v1/incidents/{number}`, a row of `GET /api/v1/incidents`, and the payload of topic and hooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// Its number; the idempotency key of hooks.
    pub number: u64,
    /// Model and version that it is about.
    pub model: ModelVersion,
    /// What it is.
    pub kind: IncidentKind,
    /// How much it asks for a person.
    pub severity: Severity,
    /// `open` or `resolved`.
    pub state: String,
    /// The likely cause.
    pub cause: Cause,
    /// One sentence for people.
    pub summary: String,
    /// The devices that show it, by name; of a population change those that show it by themselves.
    pub devices: Vec<DeviceId>,
    /// The features that show it, most devices first.
    pub features: Vec<String>,
    /// When the server received the first window that shows it.
    pub since: Timestamp,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// The strongest evidence, newest state of each, at most 24.
    pub evidence: Vec<Evidence>,
    /// Who has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// Until when its hooks keep quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Timestamp>,
    /// Who muted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute_reason: Option<String>,
    /// What policy did.
    pub actions: Vec<Action>,
}

/// `POST /api/v1/incidents/{number}/acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Why, or what is done about it; kept with the record.
    pub reason: String,
}

/// `POST /api/v1/incidents/{number}/mute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Why; kept with the record.
    pub reason: String,
    /// For how many hours from now, 1 to 720.
    pub hours: u32,
}

/// A version as the detectors see it: in `_fleet/model/<team>/<model>` and on the console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchRow {
    /// Model and version.
    pub model: ModelVersion,
    /// `watching`, or why nothing is detected: `no-profile`, `profile-unusable`.
    pub status: String,
    /// Devices whose newest windows are of it.
    pub devices: u64,
    /// Detection windows judged.
    pub windows: u64,
    /// What they say.
    pub figures: WatchFigures,
    /// Numbers of its open incidents.
    pub open_incidents: Vec<u64>,
    /// When that was written down.
    pub updated: Timestamp,
}

/// Figures of a version under watch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WatchFigures {
    /// Rounds judged: the devices' windows held against one another.
    #[serde(default)]
    pub rounds: u64,
    /// Rows that a detection window takes.
    #[serde(default)]
    pub window_rows: u64,
    /// Error rate that the confidences of the newest round lead to expect, 0 to 1; advisory.
    #[serde(default)]
    pub estimated_error: Option<f64>,
    /// Labels weighed.
    #[serde(default)]
    pub labels: u64,
    /// Predictions that they contradict.
    #[serde(default)]
    pub label_errors: u64,
    /// Error rate that the publisher promised, 0 to 1; none where the profile promises none.
    #[serde(default)]
    pub objective: Option<f64>,
    /// Windows left out because they were counted under another profile.
    #[serde(default)]
    pub unfit: u64,
    /// Windows that came more than six hours after the end of their day or week: they are none of the evidence.
    #[serde(default)]
    pub late: u64,
    /// Smallest constant bias found in about ten windows, in reference standard deviations, by feature: quiet is never
    /// "no decay".
    #[serde(default)]
    pub mde: Vec<(String, Option<f64>)>,
    /// Whether the reference spans the year, by feature: outside the days that it saw little is looked for; none where it had
    /// no times.
    #[serde(default)]
    pub covered: Vec<(String, Option<bool>)>,
}

/// The payload of `_fleet/model/<team>/<model>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// Its versions that report, newest windows first.
    pub versions: Vec<WatchRow>,
}
