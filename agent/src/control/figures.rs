//! Figures for people and dashboards: retained JSON of `m/<model>` and `m/system`, made at a bounded rate.
//!
//! The first are made at the start, before the server's settings are known; when the next are due follows the settings in
//! force at each look. What is measured over a span is left out of the first.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tern_protocol::{
    figures::{ModelFigures, SystemFigures},
    ids::{ModelName, ModelVersion},
    topics::{Channel, DeviceTopic},
};
use tokio::sync::watch;

use super::Control;
use crate::{
    link::Figures,
    telemetry::{Now, Reading},
};

/// Figures are made anew so often at most, except where reports themselves are made every second.
const SLOWEST_LOOK: Duration = Duration::from_secs(10);
/// Figures per report interval: at the default of 15 minutes two topics then take a third of a megabyte a day.
const PER_REPORT: u32 = 5;

/// What was shown last.
#[derive(Debug)]
pub(super) struct FiguresSide {
    out: watch::Sender<Figures>,
    last: Option<Made>,
    inferences: BTreeMap<ModelVersion, u64>,
    models: BTreeMap<ModelName, ModelFigures>,
    system: Option<SystemFigures>,
}

/// When figures were made, and what the device said then.
#[derive(Debug, Clone, Copy)]
struct Made {
    uptime: Duration,
    reading: Reading,
}

impl FiguresSide {
    pub(super) fn new(out: watch::Sender<Figures>) -> Self {
        Self { out, last: None, inferences: BTreeMap::new(), models: BTreeMap::new(), system: None }
    }
}

/// Whether figures are to be made anew: the first at once, others by the report interval that holds now.
fn is_due(last: Option<&Made>, uptime: Duration, report: Duration) -> bool {
    last.is_none_or(|last| uptime >= last.uptime.saturating_add(interval(report)))
}

/// How often figures are made, for this report interval.
fn interval(report: Duration) -> Duration {
    if report <= Duration::from_secs(1) { report } else { (report / PER_REPORT).max(SLOWEST_LOOK) }
}

impl Control {
    /// Makes the figures anew where they are due, and hands over those that differ in more than their time.
    pub(super) fn publish_figures(&mut self, now: &Now) {
        if !is_due(self.figures.last.as_ref(), now.uptime, self.telemetry.machine.report_interval()) {
            return;
        }
        let made = Made { uptime: now.uptime, reading: now.reading };
        let last = self.figures.last.replace(made);
        let period = last.map_or(Duration::ZERO, |last| now.uptime.saturating_sub(last.uptime));
        let mut shown = self.figures.out.borrow().clone();
        let before = shown.clone();
        let names: Vec<ModelName> = self.machines.keys().cloned().collect();
        self.figures.models.retain(|name, _| names.contains(name));
        let topics: Vec<String> = names.iter().map(|name| self.topic(Channel::Model(name.model.clone()))).collect();
        let system_topic = self.topic(Channel::System);
        shown.retain(|topic, _| topics.contains(topic) || *topic == system_topic);
        for (name, topic) in names.iter().zip(topics) {
            let Some(figures) = self.model_figures(name, period) else { continue };
            if self.figures.models.get(name) != Some(&figures) {
                show(&mut shown, topic, &ModelFigures { at: now.time, ..figures.clone() });
                self.figures.models.insert(name.clone(), figures);
            }
        }
        let system = self.system_figures(now, last.as_ref());
        if self.figures.system.as_ref() != Some(&system) {
            show(&mut shown, system_topic, &SystemFigures { at: now.time, ..system.clone() });
            self.figures.system = Some(system);
        }
        if shown != before {
            self.figures.out.send_replace(shown);
        }
    }

    fn topic(&self, channel: Channel) -> String {
        let (fleet, device) = (self.enrolment.fleet.clone(), self.enrolment.device.clone());
        DeviceTopic { fleet, device, channel }.to_string()
    }

    fn model_figures(&mut self, name: &ModelName, period: Duration) -> Option<ModelFigures> {
        let machine = self.machines.get(name)?;
        let (record, answers) = (machine.record(), machine.answering().or(machine.record().active.as_ref()));
        let version = answers.map(|a| ModelVersion { name: name.clone(), version: a.version.clone() });
        let totals = version.as_ref().map(|v| self.telemetry.machine.totals(v)).unwrap_or_default();
        let latency = |rank| {
            let us = self.telemetry.machine.latency(version.as_ref()?, rank)?;
            // To the microsecond: more is noise.
            Some((f64::from(us)).round() / 1000.0)
        };
        let latencies = (latency(0.5), latency(0.95));
        let counted = version.clone().and_then(|v| self.figures.inferences.insert(v, totals.inferences));
        let fresh = totals.inferences.saturating_sub(counted.unwrap_or(totals.inferences));
        Some(ModelFigures {
            model: name.clone(),
            version: version.map(|v| v.version),
            state: record.state,
            rows: totals.rows,
            inferences: totals.inferences,
            errors: totals.errors,
            requests_per_second: per_second(fresh as f64, period),
            latency_p50_ms: latencies.0,
            latency_p95_ms: latencies.1,
            labels: totals.labels,
            label_errors: totals.label_errors,
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn system_figures(&self, now: &Now, last: Option<&Made>) -> SystemFigures {
        let (reading, page) = (&now.reading, self.telemetry.outbox.page());
        SystemFigures {
            cpu_percent: cpu_percent(last, now),
            rss_bytes: reading.worker_rss_bytes.saturating_add(reading.control_rss_bytes),
            disk_free_bytes: reading.disk_free_bytes,
            outbox_rows: page.waiting.saturating_add(page.offered),
            outbox_bytes: page.bytes,
            uptime_seconds: now.uptime.as_secs(),
            boot: self.telemetry.machine.boot(),
            at: Timestamp::UNIX_EPOCH,
        }
    }
}

/// Processor time since the last figures, in percent of one core; none where there are no figures before.
fn cpu_percent(last: Option<&Made>, now: &Now) -> Option<f64> {
    let last = last?;
    let cpu = |r: &Reading| r.worker_cpu_ms.saturating_add(r.control_cpu_ms);
    let ms = cpu(&now.reading).saturating_sub(cpu(&last.reading));
    Some(per_second(ms as f64 / 10.0, now.uptime.saturating_sub(last.uptime)))
}

/// With one decimal: enough for people, and quiet figures stay the same.
fn per_second(amount: f64, period: Duration) -> f64 {
    let seconds = period.as_secs_f64();
    if seconds > 0.0 { (amount / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

fn show(shown: &mut Figures, topic: String, figures: &impl Serialize) {
    match serde_json::to_vec(figures) {
        Ok(bytes) => drop(shown.insert(topic, Bytes::from(bytes))),
        Err(error) => tracing::error!(%error, "figures cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seconds: u64, cpu_ms: u64) -> Made {
        let reading = Reading { worker_cpu_ms: cpu_ms, control_cpu_ms: cpu_ms, ..Reading::default() };
        Made { uptime: Duration::from_secs(seconds), reading }
    }

    #[test]
    fn when_figures_are_due_follows_the_settings_in_force() {
        let seconds = Duration::from_secs;
        assert!(is_due(None, Duration::ZERO, seconds(900)), "the first at once");
        let first = made(1, 0);
        // By the defaults, until the server's settings come.
        assert!(!is_due(Some(&first), seconds(180), seconds(900)));
        assert!(is_due(Some(&first), seconds(181), seconds(900)));
        assert!(is_due(Some(&first), seconds(11), seconds(2)));
        assert!(!is_due(Some(&first), seconds(10), seconds(2)));
        assert!(is_due(Some(&first), seconds(2), seconds(1)));
        assert!(!is_due(Some(&first), seconds(181), seconds(3600)), "and later where they are longer");
    }

    #[test]
    fn processor_time_is_measured_over_a_real_span() {
        let now = |seconds, cpu_ms| {
            let Made { uptime, reading } = made(seconds, cpu_ms);
            Now { uptime, reading, time: Timestamp::UNIX_EPOCH, trusted: true }
        };
        assert_eq!(cpu_percent(None, &now(0, 700)), None, "what was used before the first look");
        assert_eq!(cpu_percent(Some(&made(1, 700)), &now(11, 950)), Some(5.0));
        assert_eq!(cpu_percent(Some(&made(1, 700)), &now(11, 600)), Some(0.0));
    }

    #[test]
    fn figures_follow_the_report_interval_within_bounds() {
        let seconds = Duration::from_secs;
        for (report, figures) in [(1, 1), (2, 10), (60, 12), (900, 180)] {
            assert_eq!(interval(seconds(report)), seconds(figures));
        }
        // Both topics changing all day, with names of ordinary length, beside 40 kB of reports (`outbox/tests/day.rs`).
        let model = r#"{"model":"vision/meter-digits","version":"1.10.0","state":"on-probation","rows":123456789,"inferences":123456789,"errors":12345,"requests_per_second":123.4,"latency_p50_ms":12.345,"latency_p95_ms":123.456,"labels":1234567,"label_errors":12345,"at":"2026-06-01T00:00:00.123456789Z"}"#;
        let system = r#"{"cpu_percent":12.3,"rss_bytes":123456789,"disk_free_bytes":123456789012,"outbox_rows":12345,"outbox_bytes":12345678,"uptime_seconds":12345678,"boot":1234,"at":"2026-06-01T00:00:00.123456789Z"}"#;
        let topics = "tern/v1/berlin/camera-0123/m/meter-digits".len() + "tern/v1/berlin/camera-0123/m/system".len();
        serde_json::from_str::<ModelFigures>(model).unwrap();
        serde_json::from_str::<SystemFigures>(system).unwrap();
        let a_day = 86_400 / interval(seconds(900)).as_secs() as usize;
        assert!(a_day * (model.len() + system.len() + topics + 16) < 300 << 10);
        assert_eq!((per_second(25.0, seconds(10)), per_second(1.0, Duration::ZERO)), (2.5, 0.0));
    }
}
