//! What is to be published, onto the disk: in order, and read again where the disk refused in the middle of it.

use std::{
    io,
    path::PathBuf,
    sync::{MutexGuard, atomic::Ordering},
};

use anyhow::Context;
use jiff::Timestamp;

use super::{Published, Repository, load};
use crate::disk::{self, Access};

/// Snapshots and team versions that stay for clients which began with an older timestamp.
pub(super) const KEPT: usize = 8;

/// A file that a publication writes; in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Repository {
    pub(super) fn put(
        &self,
        published: &mut Published,
        now: Timestamp,
        make: impl FnOnce(&Published) -> anyhow::Result<(Published, Vec<Write>)>,
    ) -> anyhow::Result<()> {
        let (next, writes) = make(published)?;
        self.carry_out(published, &writes, now)?;
        *published = next;
        Ok(())
    }

    /// Writes these files. Where the disk refuses some of it may be out already, and devices see the disk: so does this
    /// process from now on, or before it writes again.
    pub(super) fn carry_out(&self, published: &mut Published, writes: &[Write], now: Timestamp) -> io::Result<()> {
        let done = carry_out(writes);
        if done.is_err() {
            self.behind.store(true, Ordering::Relaxed);
            let _ = self.catch_up(published, now);
        }
        done
    }

    /// What is published now, read again first where the last write was cut.
    pub(super) fn lock_to_write(&self, now: Timestamp) -> anyhow::Result<MutexGuard<'_, Published>> {
        let mut published = self.lock();
        if self.behind.load(Ordering::Relaxed) {
            self.catch_up(&mut published, now).context("read again what an interrupted publication left")?;
        }
        Ok(published)
    }

    /// Takes what the disk says for what is published, and mends it where it must.
    fn catch_up(&self, published: &mut Published, now: Timestamp) -> anyhow::Result<()> {
        *published = load::load(&self.folder, &self.keyring(), now)?;
        self.behind.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is too old for any client.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let published = self.lock();
        let snapshot = published.trusted.snapshot().map_or(0, |s| s.version);
        let teams = published.teams.keys().map(|role| (role.to_string(), published.version_of(role)));
        for (role, current) in std::iter::once(("snapshot".to_owned(), snapshot)).chain(teams) {
            let versions = load::versions_on_disk(&self.folder, &role)?;
            // What is above the current one was under keys that count no more; it must not push that one out.
            for version in versions.iter().rev().filter(|version| **version <= current).skip(KEPT) {
                disk::remove(&self.folder.join(format!("metadata/{version}.{role}.json")))?;
            }
        }
        Ok(())
    }
}

pub(super) fn carry_out(writes: &[Write]) -> io::Result<()> {
    for write in writes {
        if let Some(folder) = write.path.parent() {
            disk::create_folder(folder)?;
        }
        disk::write(&write.path, &write.bytes, Access::Public)?;
    }
    Ok(())
}
