//! The manifest: the one signed page that names every other file of a bundle.
//!
//! Format 1. Readers refuse other formats and unknown members; writers write format 1 in canonical form.
//! A manifest is a TUF target, so whoever reads one must have checked its digest first: see [`Manifest::from_target`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    canonical,
    contract::{Contract, ContractError},
    digest::Digest,
    ids::{ByteCount, DeviceClass, ModelVersion, Version},
};

/// Longest manifest, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Most files in a bundle.
pub const MAX_FILES: usize = 1024;
/// The only format so far.
pub const FORMAT: u32 = 1;

/// What a file of a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The ONNX model; exactly one.
    Model,
    /// A tensor of a golden vector, under `test_data_set_<n>/`.
    Golden,
    /// The reference profile that decay is judged against.
    Reference,
    /// The model card, for people.
    Card,
    /// Names of output classes.
    Labels,
    /// How it was made: in-toto statements.
    Provenance,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path in the bundle: relative, `/` between parts, no `.` or `..`.
    pub path: String,
    /// What it is for.
    pub role: FileRole,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its length.
    pub length: ByteCount,
}

/// How far an answer may lie from the golden one: `|got - want| <= absolute + relative * |want|`, as in `numpy.allclose`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The absolute part.
    pub absolute: f64,
    /// The relative part.
    pub relative: f64,
}

/// What a version may cost on one class of devices (`*`: on any).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// 95th percentile of one inference at batch 1, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_latency_ms: Option<f64>,
    /// Peak resident memory that loading and running adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<ByteCount>,
    /// Bytes of the whole bundle on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<ByteCount>,
}

/// What the version was made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Where the data came from.
    pub data_origin: String,
    /// How many rows it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_rows: Option<u64>,
    /// Its digest, if it was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<Digest>,
    /// The revision of the training code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_revision: Option<String>,
    /// The random seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What the metrics were taken on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluated_on: Option<String>,
    /// The digest of that data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluated_sha256: Option<Digest>,
    /// Metrics over all the evaluation data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The same per slice of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A bundle's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Which version this is.
    pub model: ModelVersion,
    /// Every other file.
    pub files: Vec<File>,
    /// Inputs and outputs.
    pub contract: Contract,
    /// Costs by device class; `*` is the default.
    #[serde(default)]
    pub budgets: BTreeMap<String, Budget>,
    /// Device classes it may run on; empty for all.
    #[serde(default)]
    pub device_classes: Vec<DeviceClass>,
    /// The oldest agent that may run it.
    pub minimum_agent: Version,
    /// How far answers may lie from the golden ones.
    pub golden_tolerance: Tolerance,
    /// What it was made from.
    #[serde(default)]
    pub training: Training,
    /// The version it was made from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Version>,
}

/// Why a manifest is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_BYTES`].
    #[error("manifest of {0} bytes is over the limit")]
    TooLarge(usize),
    /// The bytes are not those that were signed.
    #[error("manifest does not match its signed digest")]
    DigestMismatch,
    /// Not JSON of the right form.
    #[error("malformed manifest: {0}")]
    Malformed(String),
    /// A format that this reader does not know.
    #[error("manifest format {0} is not known: update the agent")]
    UnknownFormat(u64),
    /// The bytes are not in canonical form.
    #[error("manifest is not in canonical form")]
    NotCanonical,
    /// It names another version than the path it was signed under.
    #[error("manifest is of {found} but was signed as {expected}")]
    WrongVersion {
        /// The version in the signed path.
        expected: ModelVersion,
        /// The version in the manifest.
        found: ModelVersion,
    },
    /// A file's path leaves the bundle or is not plain.
    #[error("file path {0:?} is not a plain relative path")]
    BadPath(String),
    /// One path twice, or more than [`MAX_FILES`].
    #[error("manifest lists too many files or one path twice")]
    BadFileList,
    /// Not exactly one model.
    #[error("manifest must name exactly one model file, it names {0}")]
    ModelCount(usize),
    /// No golden vectors, which are mandatory, or sets that are not whole.
    #[error("golden vectors are missing or not whole: {0}")]
    Golden(String),
    /// A number that is negative or not finite where it may not be.
    #[error("{0} must be a finite number, not negative")]
    BadNumber(&'static str),
    /// The contract cannot be enforced.
    #[error(transparent)]
    Contract(#[from] ContractError),
}

impl Manifest {
    /// The manifest in `bytes`, which TUF signed as `expected` with `digest`.
    ///
    /// # Errors
    /// The first thing found wrong, in the order of [`ManifestError`].
    pub fn from_target(bytes: &[u8], expected: &ModelVersion, digest: &Digest) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        if Digest::of(bytes) != *digest {
            return Err(ManifestError::DigestMismatch);
        }
        let manifest = Self::from_slice(bytes)?;
        if manifest.model != *expected {
            return Err(ManifestError::WrongVersion { expected: expected.clone(), found: manifest.model });
        }
        Ok(manifest)
    }

    /// The manifest in `bytes`, checked in itself but against no signature: for those who write manifests.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(ManifestError::UnknownFormat(format)),
            None => return Err(ManifestError::Malformed("no format".into())),
        }
        let canonical = canonical::document(&value).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        if canonical != bytes {
            return Err(ManifestError::NotCanonical);
        }
        let manifest: Self = serde_json::from_value(value).map_err(malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The canonical bytes: what is hashed, signed and served.
    ///
    /// # Errors
    /// Where the manifest is not one that a reader would accept.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        canonical::document(self).map_err(|e| ManifestError::Malformed(e.to_string()))
    }

    /// The model file.
    pub fn model_file(&self) -> &File {
        self.files.iter().find(|f| f.role == FileRole::Model).expect("invariant: checked manifests have one model")
    }

    /// The reference profile, where there is one.
    pub fn reference_file(&self) -> Option<&File> {
        self.files.iter().find(|f| f.role == FileRole::Reference)
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> ByteCount {
        ByteCount(self.files.iter().fold(0, |sum, file| sum.saturating_add(file.length.0)))
    }

    /// The budget on `class`: its own, else that of `*`.
    pub fn budget(&self, class: &DeviceClass) -> Option<&Budget> {
        self.budgets.get(class.as_str()).or_else(|| self.budgets.get("*"))
    }

    /// Whether it may run on `class`.
    pub fn allows(&self, class: &DeviceClass) -> bool {
        self.device_classes.is_empty() || self.device_classes.contains(class)
    }

    /// The golden vectors: for each set its input and output files, in order.
    ///
    /// # Errors
    /// Where there is none, or a set misses a tensor.
    pub fn golden_sets(&self) -> Result<Vec<GoldenSet<'_>>, ManifestError> {
        let mut sets: BTreeMap<u32, BTreeMap<(bool, u32), &File>> = BTreeMap::new();
        for file in self.files.iter().filter(|f| f.role == FileRole::Golden) {
            let (set, place) = golden_place(&file.path).ok_or_else(|| {
                ManifestError::Golden(format!("{:?} is not test_data_set_N/input_I.pb or output_I.pb", file.path))
            })?;
            sets.entry(set).or_default().insert(place, file);
        }
        if sets.is_empty() {
            return Err(ManifestError::Golden("there is none".into()));
        }
        sets.into_iter().map(|(number, files)| GoldenSet::new(number, &files)).collect()
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::UnknownFormat(self.format.into()));
        }
        let paths: std::collections::BTreeSet<_> = self.files.iter().map(|f| f.path.as_str()).collect();
        if paths.len() != self.files.len() || self.files.len() > MAX_FILES {
            return Err(ManifestError::BadFileList);
        }
        if let Some(bad) = paths.iter().find(|path| !is_plain_path(path)) {
            return Err(ManifestError::BadPath((*bad).into()));
        }
        let models = self.files.iter().filter(|f| f.role == FileRole::Model).count();
        if models != 1 {
            return Err(ManifestError::ModelCount(models));
        }
        self.check_numbers()?;
        self.golden_sets()?;
        Ok(self.contract.check()?)
    }

    fn check_numbers(&self) -> Result<(), ManifestError> {
        let fine = |x: f64| x.is_finite() && x >= 0.0;
        if !fine(self.golden_tolerance.absolute) || !fine(self.golden_tolerance.relative) {
            return Err(ManifestError::BadNumber("golden_tolerance"));
        }
        if self.budgets.values().filter_map(|b| b.p95_latency_ms).any(|ms| !fine(ms)) {
            return Err(ManifestError::BadNumber("p95_latency_ms"));
        }
        Ok(())
    }
}

/// The files of one golden vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenSet<'a> {
    /// The `<n>` of `test_data_set_<n>`.
    pub number: u32,
    /// `input_0.pb`, `input_1.pb`, …
    pub inputs: Vec<&'a File>,
    /// `output_0.pb`, `output_1.pb`, …
    pub outputs: Vec<&'a File>,
}

impl<'a> GoldenSet<'a> {
    fn new(number: u32, files: &BTreeMap<(bool, u32), &'a File>) -> Result<Self, ManifestError> {
        let side = |output: bool| -> Option<Vec<&'a File>> {
            let count = files.keys().filter(|(o, _)| *o == output).count() as u32;
            (0..count).map(|index| files.get(&(output, index)).copied()).collect()
        };
        match (side(false), side(true)) {
            (Some(inputs), Some(outputs)) if !inputs.is_empty() && !outputs.is_empty() => {
                Ok(Self { number, inputs, outputs })
            }
            _ => Err(ManifestError::Golden(format!("test_data_set_{number} lacks an input or an output"))),
        }
    }
}

/// Set number, whether output, and index of a golden tensor's path.
fn golden_place(path: &str) -> Option<(u32, (bool, u32))> {
    let (set, tensor) = path.strip_prefix("test_data_set_")?.split_once('/')?;
    let stem = tensor.strip_suffix(".pb")?;
    let (output, index) = match stem.strip_prefix("input_") {
        Some(index) => (false, index),
        None => (true, stem.strip_prefix("output_")?),
    };
    Some((plain_number(set)?, (output, plain_number(index)?)))
}

/// A number without sign or leading zeros, so that one number has one spelling.
fn plain_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Whether `path` is relative and stays where it is on every file system: plain ASCII parts, none hidden.
pub fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 128
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    path.len() <= 512 && path.split('/').all(plain)
}

#[cfg(test)]
mod tests;
