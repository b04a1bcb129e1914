//! The form of `tern.toml`, format 1. Unknown keys are refused by name, so that a typing error never changes a contract.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tern_protocol::{
    contract::{DataType, Derived, Prediction, Violation},
    digest::Digest,
    ids::{ModelName, Version},
    manifest::{FORMAT, FileRole},
};

use super::{BundleError, DESCRIPTION, MAX_DESCRIPTION_BYTES};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// Checked on its own before the rest, which another format would not fit.
    #[serde(rename = "format")]
    _format: u32,
    pub model: ModelName,
    pub version: Version,
    pub parent: Option<Version>,
    pub device_classes: Vec<String>,
    pub minimum_agent: Version,
    pub files: Files,
    pub golden: Golden,
    pub contract: Contract,
    #[serde(default)]
    pub budgets: BTreeMap<String, Budget>,
    pub training: Training,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    model: String,
    card: Option<String>,
    reference: Option<String>,
    labels: Option<String>,
    #[serde(default)]
    provenance: Vec<String>,
}

impl Files {
    /// Key, path and role of each file that is named.
    pub(super) fn named(&self) -> Vec<(String, &str, FileRole)> {
        let single = [
            ("files.model", Some(&self.model), FileRole::Model),
            ("files.card", self.card.as_ref(), FileRole::Card),
            ("files.reference", self.reference.as_ref(), FileRole::Reference),
            ("files.labels", self.labels.as_ref(), FileRole::Labels),
        ];
        let single = single.into_iter().filter_map(|(key, path, role)| Some((key.to_owned(), path?.as_str(), role)));
        let many =
            self.provenance.iter().map(|path| ("files.provenance".to_owned(), path.as_str(), FileRole::Provenance));
        single.chain(many).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Golden {
    pub sets: usize,
    pub absolute_tolerance: f64,
    pub relative_tolerance: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contract {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub prediction: Option<Prediction>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tensor {
    pub name: String,
    pub dtype: DataType,
    pub shape: Vec<i64>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub out_of_range: Option<Violation>,
    pub missing: Option<Violation>,
    #[serde(default)]
    pub nan: Violation,
    #[serde(default)]
    pub features: Vec<Feature>,
    #[serde(default)]
    pub derive: Vec<Derived>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feature {
    pub name: String,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub out_of_range: Option<Violation>,
    #[serde(default)]
    pub categories: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub p95_latency_ms: Option<f64>,
    pub peak_rss_mb: Option<u64>,
    pub bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Training {
    pub data_origin: String,
    pub data_rows: Option<u64>,
    pub data_sha256: Option<Digest>,
    pub code_revision: Option<String>,
    pub seed: Option<u64>,
    #[serde(default)]
    pub metrics: Metrics,
    #[serde(default)]
    pub slices: Vec<Slice>,
}

/// Numbers under names of the author's choice, and what they were taken on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metrics {
    pub evaluated_on: Option<String>,
    pub evaluated_sha256: Option<Digest>,
    #[serde(flatten)]
    pub values: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Slice {
    pub name: String,
    pub value: String,
    #[serde(flatten)]
    pub values: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: Option<u64>,
}

/// The description in `folder`.
pub(super) fn read(folder: &Path) -> Result<Description, BundleError> {
    let path = folder.join(DESCRIPTION);
    let text = text(folder, &path)?;
    let wrong = |message: String| BundleError::Description { path: path.clone(), message };
    let parse_error = |e: toml::de::Error| wrong(e.to_string().trim_end().to_owned());
    match toml::from_str::<OnlyFormat>(&text).map_err(parse_error)?.format {
        Some(format) if format == u64::from(FORMAT) => toml::from_str(&text).map_err(parse_error),
        Some(format) => Err(BundleError::UnknownFormat(format)),
        None => Err(wrong(format!("there is no `format`: begin with `format = {FORMAT}`"))),
    }
}

fn text(folder: &Path, path: &PathBuf) -> Result<String, BundleError> {
    let none = || BundleError::NoDescription(folder.to_owned());
    let facts = std::fs::symlink_metadata(path).map_err(|_| none())?;
    if facts.is_symlink() {
        return Err(BundleError::Symlink(DESCRIPTION.into()));
    }
    if !facts.is_file() {
        return Err(BundleError::NotAFile(DESCRIPTION.into()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|_| none())?;
    file.take(MAX_DESCRIPTION_BYTES + 1).read_to_end(&mut bytes).map_err(|_| none())?;
    if bytes.len() as u64 > MAX_DESCRIPTION_BYTES {
        let bytes = facts.len().max(bytes.len() as u64);
        return Err(BundleError::TooLarge { path: DESCRIPTION.into(), bytes, limit: MAX_DESCRIPTION_BYTES });
    }
    String::from_utf8(bytes)
        .map_err(|_| BundleError::Description { path: path.clone(), message: "it is not UTF-8 text".into() })
}
