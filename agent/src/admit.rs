//! From a verified manifest and its files to a model that is what the manifest says: digest, load, contract, profile.
//!
//! Shared by the worker and the probe, the only processes that may parse ONNX. Knows nothing of sockets or limits of the
//! kernel; reads the file that it is given and nothing else.

use std::{fs::File, io, os::unix::fs::FileExt};

use tern_engine::{LoadError, Model, TensorSpec};
use tern_protocol::{
    contract::{Contract, DataType, TensorContract},
    digest::Digest,
    manifest::{self, Manifest},
    reference,
    refusal::RefusalCode,
};
use tern_stats::profile::Profile;

/// Why a version is not admitted; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The cause, from the closed list.
    pub code: RefusalCode,
    /// The same for people; at most 800 characters.
    pub message: String,
}

impl Refused {
    /// A refusal with `message`, cut.
    pub fn new(code: RefusalCode, message: impl AsRef<str>) -> Self {
        Self { code, message: message.as_ref().chars().take(800).collect() }
    }
}

/// A version that may serve.
#[derive(Debug)]
pub struct Admitted {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its model.
    pub model: Model,
    /// What its inputs and outputs are counted by, where its bundle says.
    pub profile: Option<Profile>,
}

/// The manifest in `bytes`, the model in `file` and the profile in `reference`, which must be those that the manifest names.
/// `reference` is empty where it names none.
///
/// # Errors
/// `manifest`, `blob-length`, `blob-digest`, `load-failed` or `contract-mismatch`, in this order of checks.
pub fn admit(bytes: &[u8], reference: &[u8], file: &File) -> Result<Admitted, Refused> {
    let manifest = Manifest::from_slice(bytes).map_err(|e| Refused::new(RefusalCode::Manifest, e.to_string()))?;
    let limits = tern_engine::Limits::default();
    let named = manifest.model_file();
    if named.length.0 > limits.file_bytes {
        let message = format!("model of {} is over the limit of {} B", named.length, limits.file_bytes);
        return Err(Refused::new(RefusalCode::LoadFailed, message));
    }
    let model = read_exactly(file, 0, named.length.0).map_err(|error| {
        let code = if error.kind() == io::ErrorKind::UnexpectedEof {
            RefusalCode::BlobLength
        } else {
            RefusalCode::LoadFailed
        };
        Refused::new(code, format!("model file cannot be read: {error}"))
    })?;
    if Digest::of(&model) != named.sha256 {
        return Err(Refused::new(RefusalCode::BlobDigest, "model file differs from its signed digest"));
    }
    let model = Model::load(&model, &limits)
        .map_err(|error: LoadError| Refused::new(RefusalCode::LoadFailed, format!("model does not load: {error}")))?;
    check_contract(&manifest.contract, &model)
        .map_err(|why| Refused::new(RefusalCode::ContractMismatch, format!("model and contract differ: {why}")))?;
    let profile = profile(&manifest, reference)?;
    Ok(Admitted { manifest, model, profile })
}

fn profile(manifest: &Manifest, bytes: &[u8]) -> Result<Option<Profile>, Refused> {
    let Some(named) = manifest.reference_file() else { return Ok(None) };
    check_reference_length(named)?;
    if bytes.len() as u64 != named.length.0 {
        return Err(Refused::new(RefusalCode::BlobLength, "reference profile is not as long as its manifest says"));
    }
    if Digest::of(bytes) != named.sha256 {
        return Err(Refused::new(RefusalCode::BlobDigest, "reference profile differs from its signed digest"));
    }
    let read = reference::read(bytes, &manifest.contract);
    read.map(Some).map_err(|error| Refused::new(RefusalCode::ContractMismatch, error.to_string()))
}

/// Whether a reference profile is short enough to be read at all.
///
/// # Errors
/// `contract-mismatch` where it is longer than any profile.
pub fn check_reference_length(named: &manifest::File) -> Result<(), Refused> {
    if named.length.0 <= reference::MAX_BYTES as u64 {
        return Ok(());
    }
    let length = usize::try_from(named.length.0).unwrap_or(usize::MAX);
    let error = reference::ReferenceError::TooLarge(length);
    Err(Refused::new(RefusalCode::ContractMismatch, error.to_string()))
}

/// `length` bytes of `file` from `offset`. The position of the file, which other processes share, stays as it is.
///
/// # Errors
/// Those of the file; `UnexpectedEof` where it is shorter.
pub fn read_exactly(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn check_contract(contract: &Contract, model: &Model) -> Result<(), String> {
    check_side("input", &contract.inputs, model.inputs(), false)?;
    check_side("output", &contract.outputs, model.outputs(), true)
}

fn check_side(
    side: &str,
    contract: &[TensorContract],
    model: &[TensorSpec],
    open_is_unknown: bool,
) -> Result<(), String> {
    if contract.len() != model.len() {
        return Err(format!("the contract names {} {side}s, the model has {}", contract.len(), model.len()));
    }
    for (ours, theirs) in contract.iter().zip(model) {
        if ours.name != theirs.name {
            return Err(format!("{side} `{}` is `{}` in the model; keep the model's order", ours.name, theirs.name));
        }
        if ours.datatype.name() != theirs.dtype.name() {
            let (ours_name, theirs_name) = (ours.datatype.name(), theirs.dtype.name());
            return Err(format!("{side} `{}` is {ours_name} in the contract, {theirs_name} in the model", ours.name));
        }
        if !fits(&ours.shape, &theirs.dims, open_is_unknown) {
            let shape = theirs.shape_text();
            return Err(format!(
                "{side} `{}` has shape {:?} in the contract, {shape} in the model",
                ours.name, ours.shape
            ));
        }
        check_categories(ours)?;
    }
    Ok(())
}

/// The contract may pin an open batch, but not open a fixed one.
fn fits(ours: &[i64], theirs: &[Option<usize>], open_is_unknown: bool) -> bool {
    let one = |(ours, theirs): (&i64, &Option<usize>)| match (usize::try_from(*ours), theirs) {
        (Ok(ours), Some(theirs)) => ours == *theirs,
        (Ok(_), None) | (Err(_), None) => true,
        (Err(_), Some(_)) => open_is_unknown,
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(one)
}

fn check_categories(tensor: &TensorContract) -> Result<(), String> {
    if tensor.datatype == DataType::Bytes {
        return Ok(());
    }
    let categories = tensor.features.iter().flat_map(|feature| &feature.categories);
    match categories.into_iter().find(|category| category.parse::<f64>().is_err()) {
        None => Ok(()),
        Some(category) => Err(format!("category {category:?} of `{}` is no number, but the tensor is", tensor.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_may_pin_what_the_model_leaves_open_but_not_the_reverse() {
        assert!(fits(&[-1, 64], &[None, Some(64)], false));
        assert!(fits(&[1, 64], &[None, Some(64)], false));
        assert!(!fits(&[-1, 64], &[Some(1), Some(64)], false));
        assert!(!fits(&[-1, 64], &[None, Some(63)], false));
        assert!(!fits(&[-1], &[None, Some(64)], false));
    }

    #[test]
    fn a_file_that_is_too_short_says_so() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read_exactly(&file, 0, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read_exactly(&file, 7, 0).unwrap(), b"");
    }
}
