//! The files of a bundle: found, bounded and hashed one piece at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File as Handle},
    io::Read,
    path::{Path, PathBuf},
};

use tern_protocol::{
    digest::{Digest, Hasher},
    ids::ByteCount,
    manifest::{File, FileRole, MAX_FILES, is_plain_path},
};

use super::{Blob, BundleError, limit};

const GOLDEN_FOLDER: &str = "test_data_set_";

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub files: Vec<File>,
    pub blobs: BTreeMap<Digest, Blob>,
}

impl Found {
    /// Takes in the file at `path`, which `key` names.
    pub(super) fn add(&mut self, folder: &Path, key: &str, path: &str, role: FileRole) -> Result<(), BundleError> {
        if !is_plain_path(path) {
            return Err(BundleError::BadPath { path: path.chars().take(200).collect(), key: key.into() });
        }
        let place = locate(folder, path).map_err(|refusal| {
            refusal.unwrap_or_else(|| BundleError::Missing { path: path.into(), key: key.into() })
        })?;
        let (sha256, length) = digest(&place, path, limit(role))?;
        self.files.push(File { path: path.into(), role, sha256, length: ByteCount(length) });
        self.blobs.insert(sha256, Blob { path: place, length });
        Ok(())
    }

    /// Takes in every tensor under `test_data_set_<n>/`; gives the number of sets.
    pub(super) fn add_golden(&mut self, folder: &Path) -> Result<usize, BundleError> {
        let sets: Vec<String> = names(folder, "")?.into_iter().filter(|name| name.starts_with(GOLDEN_FOLDER)).collect();
        for set in &sets {
            let place = folder.join(set);
            let facts = fs::symlink_metadata(&place).map_err(|e| unreadable(set, &e))?;
            if facts.is_symlink() {
                return Err(BundleError::Symlink(set.clone()));
            }
            if !facts.is_dir() {
                let rule = format!("finds {set}, which is not a folder: golden vectors are folders");
                return Err(BundleError::Value { key: "golden".into(), rule });
            }
            // Whether the names form whole sets is judged with the manifest.
            for tensor in names(&place, set)?.into_iter().filter(|name| !name.starts_with('.')) {
                self.add(folder, "golden", &format!("{set}/{tensor}"), FileRole::Golden)?;
                if self.files.len() > MAX_FILES {
                    return Err(BundleError::TooMany);
                }
            }
        }
        Ok(sets.len())
    }
}

/// Where the file at `path`, which `key` names, lies or will lie.
pub(super) fn place_for(folder: &Path, key: &str, path: &str) -> Result<PathBuf, BundleError> {
    if !is_plain_path(path) {
        return Err(BundleError::BadPath { path: path.chars().take(200).collect(), key: key.into() });
    }
    match locate(folder, path) {
        Ok(place) => Ok(place),
        Err(None) => Ok(folder.join(path)),
        Err(Some(refusal)) => Err(refusal),
    }
}

/// The names in a folder, sorted, so that the manifest does not depend on the file system.
fn names(place: &Path, shown: &str) -> Result<Vec<String>, BundleError> {
    let failed = |e: &std::io::Error| unreadable(if shown.is_empty() { "the folder" } else { shown }, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(place).map_err(|e| failed(&e))? {
        let name = entry.map_err(|e| failed(&e))?.file_name();
        // A name that is not text cannot be in a manifest; it is refused below as not plain.
        names.push(name.to_string_lossy().into_owned());
        if names.len() > 8 * MAX_FILES {
            return Err(BundleError::TooMany);
        }
    }
    names.sort();
    Ok(names)
}

/// Where `path` lies, no part of it being a symbolic link. `Err(None)`: it is not there.
fn locate(folder: &Path, path: &str) -> Result<PathBuf, Option<BundleError>> {
    let mut place = folder.to_owned();
    for part in path.split('/') {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(facts) if facts.is_symlink() => return Err(Some(BundleError::Symlink(path.into()))),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Err(None);
            }
            Err(e) => return Err(Some(unreadable(path, &e))),
        }
    }
    // Asked before opening: opening a pipe would wait for its other end.
    if place.is_file() { Ok(place) } else { Err(Some(BundleError::NotAFile(path.into()))) }
}

fn digest(place: &Path, path: &str, limit: u64) -> Result<(Digest, u64), BundleError> {
    let failed = |e: std::io::Error| unreadable(path, &e);
    let mut file = Handle::open(place).map_err(failed)?;
    let told = file.metadata().map_err(failed)?.len();
    if told > limit {
        return Err(BundleError::TooLarge { path: path.into(), bytes: told, limit });
    }
    let (mut hasher, mut length, mut piece) = (Hasher::default(), 0u64, vec![0; 64 << 10]);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        if length > limit {
            return Err(BundleError::TooLarge { path: path.into(), bytes: length, limit });
        }
        hasher.update(&piece[..count]);
    }
    if length == 0 { Err(BundleError::Empty(path.into())) } else { Ok((hasher.finish(), length)) }
}

fn unreadable(path: &str, error: &std::io::Error) -> BundleError {
    BundleError::Unreadable { path: path.into(), kind: error.kind() }
}
