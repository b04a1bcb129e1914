//! What devices have reported: figures, windows, and what could not be used.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, ModelVersion, Version},
};

/// `GET /api/v1/figures` (`?model=&device=`): what a version has come to on a device, exact and for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FiguresRow {
    /// The device.
    pub device: DeviceId,
    /// Model and version.
    pub model: ModelVersion,
    /// Rows served.
    pub rows: u64,
    /// Inferences answered.
    pub inferences: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// Values that broke the contract.
    pub violations: u64,
    /// Windows that were reported.
    pub windows: u64,
    /// Labels that came.
    pub labels: u64,
    /// Predictions that they contradict.
    pub label_errors: u64,
    /// Share of labelled predictions that were right, where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The accuracy that the confidences lead to expect, over all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedAccuracy>,
    /// Median latency of an inference over the newest windows, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Its 95th percentile, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// When the newest row came.
    pub updated: Timestamp,
}

/// An accuracy without labels. Advisory: it cannot see a model that is wrong and sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EstimatedAccuracy {
    /// The accuracy.
    pub accuracy: f64,
    /// Its sampling standard deviation.
    pub sd: f64,
    /// Rows that it stands on.
    pub rows: u64,
}

/// `GET /api/v1/devices/{id}/windows` (`?model=&after=`): a window of a device, as charts want it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowRow {
    /// Its number in the order of commits.
    pub id: i64,
    /// The version.
    pub version: Version,
    /// Its start by the device's time, in milliseconds since 1970.
    pub start_ms: i64,
    /// Its end, likewise.
    pub end_ms: i64,
    /// When it came.
    pub received: Timestamp,
    /// Rows served.
    pub rows: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// Labels that came, late ones too.
    pub labels: u64,
    /// Predictions that they contradict.
    pub label_errors: u64,
    /// Rows per bin of confidence, from the lowest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidence: Vec<u64>,
    /// The accuracy that the confidences lead to expect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedAccuracy>,
    /// Median latency, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Its 95th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Watched inputs, then outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureRow>,
}

/// One feature of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// Its name in the contract.
    pub name: String,
    /// Mean of a number, wild values clipped to eight reference deviations from the reference median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Share of values that were missing, NaN or infinite.
    pub missing: f64,
    /// Values per category, then those of none; empty of numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
}

/// `GET /api/v1/quarantine` (`?after=`): something that a device sent and that could not be used, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// Its number.
    pub id: i64,
    /// From whom.
    pub device: DeviceId,
    /// Why: `report-format`, `report-malformed`, `row-version`, `row-shape`, …
    pub code: String,
    /// When it last came.
    pub received: Timestamp,
    /// How often.
    pub times: u64,
    /// The row's stream, where it is a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its number in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why, for people.
    pub message: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many they are.
    pub bytes: u64,
}
