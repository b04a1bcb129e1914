//! Figures for people and dashboards: the retained JSON of `m/<model>` and `m/system`, small and flat.
//!
//! They are a view, and nothing counts on them: what is counted travels in reports. Readers ignore members that they do not
//! know; writers never change what a member means.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{ModelName, Version},
    twin::ModelState,
};

/// The payload of `m/<model>`. Totals are those of the version that answers, since it first answered on this device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// Which model, with its team.
    pub model: ModelName,
    /// The version that answers, if any.
    pub version: Option<Version>,
    /// Where the newest demanded version stands.
    pub state: ModelState,
    /// Rows answered.
    pub rows: u64,
    /// Inferences answered; one holds a row or several.
    pub inferences: u64,
    /// Requests that failed, for any reason.
    pub errors: u64,
    /// Inferences answered per second, since these figures were made before.
    pub requests_per_second: f64,
    /// Median latency of an inference over the open window, in milliseconds; none where there was no inference.
    pub latency_p50_ms: Option<f64>,
    /// The latency that 95 of 100 inferences stayed within, likewise.
    pub latency_p95_ms: Option<f64>,
    /// Labels that came for predictions.
    pub labels: u64,
    /// Predictions that a label contradicts.
    pub label_errors: u64,
    /// When these figures were made, by the device's clock.
    pub at: Timestamp,
}

/// The payload of `m/system`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemFigures {
    /// Processor time of control and worker since these figures were made before, in percent of one core; none in the first
    /// figures after a start, which have no span to measure over.
    pub cpu_percent: Option<f64>,
    /// Resident memory of control and worker, in bytes.
    pub rss_bytes: u64,
    /// Free bytes where Tern keeps its files.
    pub disk_free_bytes: u64,
    /// Rows of the outbox that the server has not said it committed.
    pub outbox_rows: u64,
    /// Size of the outbox on the disk, in bytes.
    pub outbox_bytes: u64,
    /// Time since the agent started, in seconds.
    pub uptime_seconds: u64,
    /// How often the agent has started on this device.
    pub boot: u64,
    /// When these figures were made, by the device's clock.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_flat_and_have_one_spelling() {
        let model = ModelFigures {
            model: "vision/digits".parse().unwrap(),
            version: Some("1.0.0".parse().unwrap()),
            state: ModelState::Committed,
            rows: 10,
            inferences: 9,
            errors: 1,
            requests_per_second: 0.5,
            latency_p50_ms: Some(1.5),
            latency_p95_ms: None,
            labels: 2,
            label_errors: 1,
            at: Timestamp::UNIX_EPOCH,
        };
        let text = serde_json::to_string(&model).unwrap();
        let wanted = r#"{"model":"vision/digits","version":"1.0.0","state":"committed","rows":10,"inferences":9,"errors":1,"requests_per_second":0.5,"latency_p50_ms":1.5,"latency_p95_ms":null,"labels":2,"label_errors":1,"at":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<ModelFigures>(wanted).unwrap(), model);
        let system = SystemFigures {
            cpu_percent: Some(1.0),
            rss_bytes: 2,
            disk_free_bytes: 3,
            outbox_rows: 4,
            outbox_bytes: 5,
            uptime_seconds: 6,
            boot: 7,
            at: Timestamp::UNIX_EPOCH,
        };
        let text = serde_json::to_string(&system).unwrap();
        assert!(text.starts_with(r#"{"cpu_percent":1.0,"rss_bytes":2,"disk_free_bytes":3,"outbox_rows":4"#), "{text}");
        assert_eq!(serde_json::from_str::<SystemFigures>(&text).unwrap(), system);
        let first = serde_json::to_string(&SystemFigures { cpu_percent: None, ..system }).unwrap();
        assert!(first.starts_with(r#"{"cpu_percent":null,"#), "{first}");
    }
}
