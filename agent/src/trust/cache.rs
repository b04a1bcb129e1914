//! The cache of verified metadata, through the one door to durable writes: the bytes as they came, each role under its
//! name without a version. The chain of roots, which starts from the pinned one again at every start, may lie elsewhere.
//!
//! `sigstore-tuf` only warns when its cache fails; here the first failure is latched, and `trust` refuses on it.

use std::{
    io,
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use sigstore_tuf::{Error, MetadataStore, Result};

use crate::disk;

/// Longest file of the cache: the longest that the client fetches.
const MAX_BYTES: u64 = 8 << 20;
/// Where `sigstore-tuf` puts the chain of roots; no role's name has a slash, since those are encoded.
const CHAIN: &str = "root_history/";

#[derive(Debug)]
pub(super) struct Cache {
    metadata: PathBuf,
    chain: PathBuf,
    fault: Mutex<Option<String>>,
}

impl Cache {
    pub(super) fn new(metadata: &Path, chain: &Path) -> Self {
        Self { metadata: metadata.into(), chain: chain.into(), fault: Mutex::new(None) }
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn forget_fault(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        let folder = if name.starts_with(CHAIN) { &self.chain } else { &self.metadata };
        if relative.components().all(|c| matches!(c, Component::Normal(_))) && !name.is_empty() {
            Ok(folder.join(relative))
        } else {
            Err(Error::Malformed(format!("{name:?} is no name of a metadata file")))
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        let failed = |e: io::Error| Error::io(format!("write {}", path.display()), e);
        if disk::read_bounded(&path, MAX_BYTES).ok().flatten().as_deref() == Some(bytes) {
            return Ok(());
        }
        disk::make_folder(path.parent().unwrap_or(&self.metadata)).map_err(failed)?;
        disk::write_file(&path, bytes, disk::SECRET).map_err(failed)
    }
}

impl MetadataStore for Cache {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        disk::read_bounded(&path, MAX_BYTES).map_err(|e| Error::io(format!("read {}", path.display()), e))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        // Never read again, and one more with every snapshot: it would fill the disk in the end.
        if is_versioned_snapshot(name) {
            return Ok(());
        }
        let written = self.write(name, bytes);
        if let Err(error) = &written {
            let text = crate::http::chain(error);
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
        written
    }
}

fn is_versioned_snapshot(name: &str) -> bool {
    let version = name.strip_suffix(".snapshot.json").unwrap_or_default();
    !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit())
}
