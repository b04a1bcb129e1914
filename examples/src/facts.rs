//! What a story found out: the facts that `--json` writes and the table at the end shows.

use std::collections::BTreeMap;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
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
    /// What onnxruntime read right of the same digits.
    pub expected_correct: usize,
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

impl Facts {
    /// The tables for people.
    pub fn tables(&self) -> String {
        let mut devices = table(["device", "answered by", "digits", "right", "accuracy", "onnxruntime", "p50", "p95"]);
        for d in &self.devices {
            devices.add_row([
                d.device.clone(),
                d.version.clone(),
                d.rows.to_string(),
                d.correct.to_string(),
                format!("{:.1} %", 100.0 * d.accuracy),
                d.expected_correct.to_string(),
                format!("{:.2} ms", d.p50_ms),
                format!("{:.2} ms", d.p95_ms),
            ]);
        }
        let mut refusals = table(["tried", "refused as", "by", "still answers"]);
        for r in &self.refusals {
            let by = r.devices.values().filter(|code| **code == r.expected).count();
            refusals.add_row([&r.attempt, &r.expected, &format!("{by} of {}", r.devices.len()), &r.still_answers]);
        }
        let mut steps = table(["step", "what happened", "seconds"]);
        for s in &self.steps {
            steps.add_row([&s.step, &s.outcome, &format!("{:.1}", s.seconds)]);
        }
        format!("{steps}\n\n{devices}\n\n{refusals}\n")
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}
