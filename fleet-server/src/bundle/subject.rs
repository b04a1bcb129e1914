//! What is needed of a bundle's folder to try its model before the folder is complete: contract, model, and where the
//! reference profile belongs.

use std::path::{Path, PathBuf};

use tern_protocol::{contract::Contract, manifest::FileRole};

use super::{BundleError, description, files, terms};

/// A model that is to be tried.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its contract, checked.
    pub contract: Contract,
    /// Where its file lies.
    pub model: PathBuf,
    /// Where its reference profile belongs, whether there is one yet or not.
    pub reference: PathBuf,
}

/// The model in `folder`.
///
/// # Errors
/// The first thing found wrong; a `tern.toml` that names no reference profile is refused with the line to add.
pub fn subject(folder: &Path) -> Result<Subject, BundleError> {
    let description = description::read(folder)?;
    let named = description.files.named();
    let of = |role: FileRole| named.iter().find(|(_, _, named)| *named == role);
    let mut found = files::Found::default();
    if let Some((key, path, role)) = of(FileRole::Model) {
        found.add(folder, key, path, *role)?;
    }
    let wrong = |key: &str, rule: String| BundleError::Value { key: key.into(), rule };
    let model = found.blobs.into_values().next().ok_or_else(|| wrong("files.model", "is wanted".into()))?.path;
    let (key, path, _) = of(FileRole::Reference).ok_or_else(|| {
        wrong("files.reference", "is not there: add `reference = \"reference.json\"` under [files]".into())
    })?;
    let reference = files::place_for(folder, key, path)?;
    let contract = terms::contract(description.contract)?;
    contract.check().map_err(|error| wrong("contract", format!("cannot be used: {error}")))?;
    Ok(Subject { contract, model, reference })
}
