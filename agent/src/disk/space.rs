//! Free space, and the reserve that keeps records and take-back possible on a full disk.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

/// Size of the reserve: room for several rewrites of both records.
pub const RESERVE_BYTES: u64 = 4 << 20;

/// Bytes that an unprivileged process may still write below `folder`.
///
/// # Errors
/// What the system said.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(folder)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// A preallocated file that is given up when a record does not fit any more.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of this state folder.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("reserve") }
    }

    /// Makes sure that the reserve is there in full; false where the disk has no room for it.
    pub fn refill(&self) -> bool {
        if self.is_full() {
            return true;
        }
        let fill = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            file.sync_all()
        };
        let filled = fill();
        if let Err(error) = &filled {
            tracing::warn!(%error, path = %self.path.display(), "no room for the disk reserve: free some space");
        }
        filled.is_ok()
    }

    /// Whether the reserve is there in full.
    pub fn is_full(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| m.len() >= RESERVE_BYTES)
    }

    /// Gives the room back to the file system.
    pub fn release(&self) {
        if let Err(error) = super::remove_file(&self.path) {
            tracing::warn!(%error, "cannot release the disk reserve");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_takes_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path());
        assert!(!reserve.is_full());
        assert!(reserve.refill() && reserve.is_full());
        reserve.release();
        assert!(!reserve.is_full());
        assert!(free_bytes(folder.path()).unwrap() > 0);
    }
}
