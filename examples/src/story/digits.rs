//! The chapter in which every device reads its share of the digits.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tern_fleet_server::forms::DeviceRow;
use tern_protocol::twin::ModelState;

use super::{DEVICES, MODEL, Teller};
use crate::{
    cameras::{Answer, Camera, Digit},
    clock::Moment,
    facts::DeviceFact,
};

/// Whether `version` answers on this device, whatever it thinks of newer ones.
pub(super) fn answers(row: &DeviceRow, version: &str) -> bool {
    let settled = [ModelState::OnProbation, ModelState::Idle, ModelState::Committed];
    row.models.iter().any(|m| {
        m.model.to_string() == MODEL
            && m.version.as_ref().is_some_and(|v| v.to_string() == version)
            && settled.contains(&m.state)
    })
}

/// What `train.py` wrote of onnxruntime's answers.
#[derive(Deserialize)]
struct Expected {
    versions: BTreeMap<String, ExpectedVersion>,
}

#[derive(Deserialize)]
struct ExpectedVersion {
    eighths: Vec<ExpectedShare>,
    misread: Vec<Misread>,
}

/// An image that the model reads wrong, and as what.
#[derive(Deserialize)]
struct Misread {
    row: usize,
    answer: i64,
}

#[derive(Deserialize)]
struct ExpectedShare {
    first_row: usize,
    rows: usize,
}

impl Teller {
    pub(super) async fn read_digits(&mut self, digits: &[Digit]) -> anyhow::Result<()> {
        let clock = self.begin("cameras read real handwritten digits");
        let file = self.options.assets.join("data/expected.json");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut expected: Expected = serde_json::from_str(&text).context("reading the expected answers")?;
        let ExpectedVersion { eighths: shares, misread } =
            expected.versions.remove("1.0.0").context("no expected answers of 1.0.0")?;
        ensure!(shares.len() == DEVICES, "expected answers for {} devices", shares.len());
        let bar = self.bar(digits.len() as u64, "digits");
        let mut reading = tokio::task::JoinSet::new();
        for (index, share) in shares.into_iter().enumerate() {
            let device = self.world.devices[index].clone();
            let own = digits.get(share.first_row..share.first_row + share.rows).context("too few digits")?.to_vec();
            let rows = share.first_row..share.first_row + share.rows;
            let wrong = misread.iter().filter(|m| rows.contains(&m.row)).map(|m| (m.row - share.first_row, m.answer));
            let (bar, limit, wrong) = (bar.clone(), self.limit, wrong.collect::<BTreeMap<_, _>>());
            reading.spawn(async move {
                let answers = read_share(Camera::new(device.address), &own, limit, || bar.inc(1)).await?;
                anyhow::Ok((index, fact(device.name, &own, &answers, &wrong)))
            });
        }
        let mut facts = Vec::new();
        while let Some(read) = reading.join_next().await {
            facts.push(read??);
        }
        bar.finish_and_clear();
        facts.sort_by_key(|(index, _)| *index);
        self.facts.devices = facts.into_iter().map(|(_, fact)| fact).collect();
        let is_odd = |d: &&DeviceFact| d.as_onnxruntime != d.rows || d.version != "1.0.0";
        let wrong: Vec<_> = self.facts.devices.iter().filter(is_odd).collect();
        let wrong = (!wrong.is_empty()).then(|| format!("other answers than onnxruntime's: {wrong:?}"));
        let (rows, correct) = self.facts.devices.iter().fold((0, 0), |(r, c), d| (r + d.rows, c + d.correct));
        let share = 100.0 * correct as f64 / rows as f64;
        self.end(clock, format!("{correct} of {rows} right ({share:.1} %), each as onnxruntime reads it"));
        if let Some(wrong) = wrong {
            self.fault(wrong);
        }
        Ok(())
    }
}

/// Every digit's answer. A question that fails is asked again until `limit`: the process may have been killed.
async fn read_share(
    mut camera: Camera,
    digits: &[Digit],
    limit: Duration,
    progress: impl Fn(),
) -> anyhow::Result<Vec<Answer>> {
    let started = Moment::now();
    let mut answers = Vec::new();
    for digit in digits {
        let answer = loop {
            match camera.look(digit).await {
                Ok(answer) => break answer,
                Err(error) if started.elapsed() > limit => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        answers.push(answer);
        progress();
    }
    Ok(answers)
}

/// `misread` are the rows that onnxruntime reads wrong, and as what.
fn fact(device: String, digits: &[Digit], answers: &[Answer], misread: &BTreeMap<usize, i64>) -> DeviceFact {
    let same = digits.iter().zip(answers).enumerate();
    let same = same.filter(|(row, (digit, answer))| answer.label == *misread.get(row).unwrap_or(&digit.label));
    let correct = digits.iter().zip(answers).filter(|(digit, answer)| digit.label == answer.label).count();
    let mut latencies: Vec<_> = answers.iter().map(|answer| answer.latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q).round() as usize];
    let mut versions: Vec<_> = answers.iter().map(|answer| answer.version.as_str()).collect();
    versions.dedup();
    DeviceFact {
        device,
        version: versions.join(","),
        rows: digits.len(),
        correct,
        as_onnxruntime: same.count(),
        accuracy: correct as f64 / digits.len() as f64,
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
    }
}
