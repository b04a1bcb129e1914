//! What a story found out: the facts that `--json` writes and the table at the end shows.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{chaos::Kills, footprint::Footprint, witness::Testimony};

/// Everything that is known at the end of a story.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    /// Whether everything ended as the story tells it.
    pub ended_as_told: bool,
    /// What did not, for people.
    pub faults: Vec<String>,
    /// The steps in order.
    pub steps: Vec<StepFact>,
    /// The devices.
    pub devices: Vec<DeviceFact>,
    /// What was refused.
    pub refusals: Vec<RefusalFact>,
    /// What was answered while things were refused.
    pub witness: Testimony,
    /// How much the agents work while nothing is wrong.
    pub load: LoadFact,
    /// How well digits were read, phase by phase.
    pub phases: Vec<PhaseFact>,
    /// Incidents while nothing was wrong.
    pub false_incidents: usize,
    /// Incidents that had to come, in the order in which they were found.
    pub incidents: Vec<IncidentFact>,
    /// Rollouts, in order.
    pub rollouts: Vec<RolloutFact>,
    /// What both sides counted.
    pub accounts: AccountsFact,
    /// What agents weigh before they have a model.
    pub idle: Footprint,
    /// What they weigh at the end, with a model that answers.
    pub serving: Footprint,
    /// What chaos killed; none where there was no chaos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kills: Option<Kills>,
    /// Seconds of the whole story.
    pub seconds: f64,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct StepFact {
    /// What was done.
    pub step: String,
    /// What came of it.
    pub outcome: String,
    /// How long it took.
    pub seconds: f64,
}

/// One device's reading of its share of the digits.
#[derive(Debug, Serialize)]
pub struct DeviceFact {
    /// The device.
    pub device: String,
    /// The version that answered.
    pub version: String,
    /// Digits read.
    pub rows: usize,
    /// Digits read right.
    pub correct: usize,
    /// Digits read as onnxruntime reads them, right or wrong.
    pub as_onnxruntime: usize,
    /// Share read right.
    pub accuracy: f64,
    /// Median time of an answer, as the camera sees it, in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile of the same.
    pub p95_ms: f64,
}

/// Something that every device had to refuse.
#[derive(Debug, Serialize)]
pub struct RefusalFact {
    /// What was tried.
    pub attempt: String,
    /// The variant by which it had to be refused.
    pub expected: String,
    /// The variant by which each device refused it.
    pub devices: BTreeMap<String, String>,
    /// The version that answered on all devices afterwards.
    pub still_answers: String,
}

/// How much the agents' processes work, on average over devices and time.
#[derive(Debug, Default, Serialize)]
pub struct LoadFact {
    /// Requests answered per second and device.
    pub requests_per_second: f64,
    /// Share of one processor that control took.
    pub control_cpu: f64,
    /// Share of one processor that the worker took.
    pub worker_cpu: f64,
    /// What they weighed then.
    pub memory: Footprint,
}

/// How well digits were read in one phase of the story.
#[derive(Debug, Serialize)]
pub struct PhaseFact {
    /// Which.
    pub phase: String,
    /// The version that answered.
    pub version: String,
    /// Rows answered.
    pub rows: u64,
    /// Requests without an answer.
    pub failed: u64,
    /// Share answered right, by the true label of every row; only the cameras know it.
    pub accuracy: f64,
    /// Labels that reached the server in the phase.
    pub labels: u64,
    /// The same share by those labels, as the server counts; none where no label came.
    pub labelled_accuracy: Option<f64>,
    /// What the server estimates from confidences alone, at the end of the phase.
    pub estimated_accuracy: Option<f64>,
}

/// An incident that had to come.
#[derive(Debug, Serialize)]
pub struct IncidentFact {
    /// Its number.
    pub number: u64,
    /// What it says: `device-fault`, …
    pub kind: String,
    /// How much it asks for a person.
    pub severity: String,
    /// The likely cause.
    pub cause: String,
    /// The devices that it names.
    pub devices: Vec<String>,
    /// The features that it names.
    pub features: Vec<String>,
    /// Detection windows of a device between the fouling and the moment it was seen.
    pub windows: f64,
    /// Seconds between the same.
    pub seconds: f64,
}

/// A rollout's end.
#[derive(Debug, Serialize)]
pub struct RolloutFact {
    /// The version.
    pub version: String,
    /// How the rollout ended.
    pub phase: String,
    /// Devices by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Why, by device, where one refused the version or took it back.
    pub codes: BTreeMap<String, String>,
}

/// What both sides counted in the end.
#[derive(Debug, Default, Serialize)]
pub struct AccountsFact {
    /// Rows by device and version.
    pub counts: Vec<CountFact>,
    /// Reports that reached the server since it started last.
    pub reports: u64,
    /// Windows, corrections and events in them.
    pub received: u64,
    /// Those of them that it had already.
    pub duplicates: u64,
    /// Those that it put aside as impossible.
    pub quarantined: u64,
    /// Rows that the devices counted and the server did not.
    pub lost: u64,
    /// Rows of reports that still waited on devices.
    pub waiting: u64,
}

/// Rows of one version on one device.
#[derive(Debug, Default, Serialize)]
pub struct CountFact {
    /// The device.
    pub device: String,
    /// The version.
    pub version: String,
    /// As the device counts.
    pub on_device: u64,
    /// As the server does.
    pub on_server: u64,
}

impl Facts {
    /// The tables for people.
    pub fn tables(&self) -> String {
        let mut devices =
            table(["device, clean lens", "answered by", "digits", "right", "accuracy", "as onnxruntime", "p50", "p95"]);
        for d in &self.devices {
            devices.add_row([
                d.device.clone(),
                d.version.clone(),
                d.rows.to_string(),
                d.correct.to_string(),
                format!("{:.1} %", 100.0 * d.accuracy),
                d.as_onnxruntime.to_string(),
                format!("{:.2} ms", d.p50_ms),
                format!("{:.2} ms", d.p95_ms),
            ]);
        }
        let mut refusals = table(["tried", "refused as", "by", "still answers"]);
        for r in &self.refusals {
            let by = r.devices.values().filter(|code| **code == r.expected).count();
            refusals.add_row([&r.attempt, &r.expected, &format!("{by} of {}", r.devices.len()), &r.still_answers]);
        }
        let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |s| format!("{:.1} %", 100.0 * s));
        let mut phases =
            table(["phase", "version", "rows", "right, all labels", "by late labels", "server's estimate"]);
        for p in &self.phases {
            phases.add_row([
                p.phase.clone(),
                p.version.clone(),
                p.rows.to_string(),
                share(Some(p.accuracy)),
                share(p.labelled_accuracy),
                share(p.estimated_accuracy),
            ]);
        }
        let mut incidents =
            table(["incident, as first told", "severity", "likely cause", "devices", "features", "windows"]);
        for i in &self.incidents {
            let windows = format!("{:.0}", i.windows);
            incidents.add_row([&i.kind, &i.severity, &i.cause, &i.devices.join(" "), &i.features.join(" "), &windows]);
        }
        let mut steps = table(["step", "what happened", "seconds"]);
        for s in &self.steps {
            steps.add_row([&s.step, &s.outcome, &format!("{:.1}", s.seconds)]);
        }
        format!("{steps}\n\n{devices}\n\n{refusals}\n\n{phases}\n\n{incidents}\n")
    }
}

/// Columns of a terminal that the tables fit in.
const WIDTH: u16 = 120;

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}
