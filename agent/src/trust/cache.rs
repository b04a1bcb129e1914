//! The cache of verified metadata, `tuf/`, through the one door to durable writes.
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

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    fault: Mutex<Option<String>>,
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), fault: Mutex::new(None) }
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn forget_fault(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        if relative.components().all(|c| matches!(c, Component::Normal(_))) && !name.is_empty() {
            Ok(self.folder.join(relative))
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
        disk::make_folder(path.parent().unwrap_or(&self.folder)).map_err(failed)?;
        disk::write_file(&path, bytes, disk::SECRET).map_err(failed)
    }
}

impl MetadataStore for Cache {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        disk::read_bounded(&path, MAX_BYTES).map_err(|e| Error::io(format!("read {}", path.display()), e))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = self.write(name, bytes);
        if let Err(error) = &written {
            let text = crate::http::chain(error);
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
        written
    }
}
