//! A bundle's folder, read into a manifest: `tern.toml` and the files beside it.
//!
//! Whatever the folder holds, this either gives a manifest that every reader accepts or says which file or key to mend.
//! It never leaves the folder, never follows a symbolic link, never reads more of a file than its kind may have, writes
//! nothing and signs nothing.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tern_protocol::{
    digest::Digest,
    manifest::{FORMAT, FileRole, MAX_FILES, Manifest, ManifestError, Tolerance},
    reference::{self, ReferenceError},
};

use crate::{disk, profiles};

mod description;
mod files;
mod subject;
mod terms;

use description::Description;
pub use subject::{Subject, subject};

/// The description's name in the folder.
pub const DESCRIPTION: &str = "tern.toml";
/// Fewest golden vectors of a version.
pub const MIN_GOLDEN_SETS: usize = 16;
/// Longest `tern.toml`, in bytes.
pub const MAX_DESCRIPTION_BYTES: u64 = 256 << 10;

/// A version that is ready to be published.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What is to be signed.
    pub manifest: Manifest,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// Where each blob lies; files of equal content share one.
    pub blobs: BTreeMap<Digest, Blob>,
}

impl Bundle {
    /// The digest of the manifest, which stands for the whole bundle.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// A file's place and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its place on this machine.
    pub path: PathBuf,
    /// Its length in bytes when it was hashed.
    pub length: u64,
}

/// Why a folder is no bundle. Every message says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no folder, or no `tern.toml` in it.
    #[error("{} is no bundle: there is no readable {DESCRIPTION} in it", .0.display())]
    NoDescription(PathBuf),
    /// `tern.toml` does not parse, lacks a key or has one too many.
    #[error("{} is not valid:\n{message}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value in `tern.toml` that cannot be used.
    #[error("{DESCRIPTION}: `{key}` {rule}")]
    Value {
        /// The key.
        key: String,
        /// What it must be.
        rule: String,
    },
    /// A format that this program does not know.
    #[error("{DESCRIPTION}: format {0} is not known: write `format = {FORMAT}`, or update tern")]
    UnknownFormat(u64),
    /// A file that `tern.toml` names is not there.
    #[error("{path} is missing: add it, or change `{key}` in {DESCRIPTION}")]
    Missing {
        /// Its path in the bundle.
        path: String,
        /// The key that names it.
        key: String,
    },
    /// A path that leaves the folder or is not plain.
    #[error(
        "`{key}` is {path:?}, which is not a plain path inside the folder: use a relative path of letters, digits, \
         '.', '_', '-' and '/', without '..'"
    )]
    BadPath {
        /// The path as written.
        path: String,
        /// The key that names it.
        key: String,
    },
    /// A symbolic link, which could point anywhere.
    #[error("{0} is a symbolic link: put the file itself there")]
    Symlink(String),
    /// A folder, socket or device where a file is wanted.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// A file of no bytes.
    #[error("{0} is empty")]
    Empty(String),
    /// A file that is larger than its kind may be.
    #[error("{path} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its path in the bundle.
        path: String,
        /// Its size.
        bytes: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A file whose bytes cannot be read.
    #[error("{path} cannot be read: {kind}")]
    Unreadable {
        /// Its path in the bundle.
        path: String,
        /// What the system says.
        kind: ErrorKind,
    },
    /// More files than a manifest may name.
    #[error("the folder holds more than {MAX_FILES} golden files: use fewer sets")]
    TooMany,
    /// The folder's golden vectors are not those that `tern.toml` announces.
    #[error("[golden] announces {declared} sets, the folder holds {found} test_data_set_<n>: make them agree")]
    GoldenCount {
        /// The number in `tern.toml`.
        declared: usize,
        /// The number of folders.
        found: usize,
    },
    /// Too few golden vectors to tell a good model from a bad one.
    #[error("{0} golden vectors are too few: at least {MIN_GOLDEN_SETS} varied test_data_set_<n> are wanted")]
    TooFewGolden(usize),
    /// A reference profile that cannot be used with the contract.
    #[error("{path}: {fault}")]
    Reference {
        /// Its path in the bundle.
        path: String,
        /// What is wrong with it.
        fault: ReferenceError,
    },
    /// A second reference profile.
    #[error("{0}")]
    SecondReference(String),
    /// What a reader of the manifest would refuse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The version in `folder`.
///
/// # Errors
/// The first thing found wrong; each cause has its variant of [`BundleError`].
pub fn read(folder: &Path) -> Result<Bundle, BundleError> {
    let description = description::read(folder)?;
    let mut found = files::Found::default();
    for (key, path, role) in description.files.named() {
        found.add(folder, &key, path, role)?;
    }
    let sets = found.add_golden(folder)?;
    if sets != description.golden.sets {
        return Err(BundleError::GoldenCount { declared: description.golden.sets, found: sets });
    }
    if sets < MIN_GOLDEN_SETS {
        return Err(BundleError::TooFewGolden(sets));
    }
    let manifest = manifest(description, found.files)?;
    let bytes = manifest.to_bytes()?;
    // What is written must be what every device reads back.
    Manifest::from_slice(&bytes)?;
    check_reference(&manifest, &found.blobs)?;
    Ok(Bundle { manifest, bytes, blobs: found.blobs })
}

/// A profile that no device can count by is refused here, before anything is uploaded.
fn check_reference(manifest: &Manifest, blobs: &BTreeMap<Digest, Blob>) -> Result<(), BundleError> {
    let Some(file) = profiles::reference_file(manifest).map_err(BundleError::SecondReference)? else { return Ok(()) };
    let unreadable = |kind| BundleError::Unreadable { path: file.path.clone(), kind };
    let place = &blobs.get(&file.sha256).ok_or_else(|| unreadable(ErrorKind::NotFound))?.path;
    let bytes = disk::read(place, limit(FileRole::Reference)).map_err(|e| unreadable(e.kind()))?;
    let bytes = bytes.ok_or_else(|| unreadable(ErrorKind::NotFound))?;
    let read = reference::read(&bytes, &manifest.contract);
    read.map(drop).map_err(|fault| BundleError::Reference { path: file.path.clone(), fault })
}

fn manifest(description: Description, files: Vec<tern_protocol::manifest::File>) -> Result<Manifest, BundleError> {
    Ok(Manifest {
        format: FORMAT,
        files,
        contract: terms::contract(description.contract)?,
        budgets: terms::budgets(description.budgets)?,
        device_classes: terms::device_classes(description.device_classes)?,
        minimum_agent: description.minimum_agent,
        golden_tolerance: Tolerance {
            absolute: description.golden.absolute_tolerance,
            relative: description.golden.relative_tolerance,
        },
        training: terms::training(description.training)?,
        parent: description.parent,
        model: tern_protocol::ids::ModelVersion { name: description.model, version: description.version },
    })
}

/// Most bytes of a file in this role.
fn limit(role: FileRole) -> u64 {
    match role {
        // What the engine on the device accepts.
        FileRole::Model => 256 << 20,
        FileRole::Reference => reference::MAX_BYTES as u64,
        FileRole::Golden | FileRole::Provenance => 16 << 20,
        FileRole::Card | FileRole::Labels => 1 << 20,
    }
}

#[cfg(test)]
mod tests;
