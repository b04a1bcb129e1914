//! One authority after another, with an overlap in which both count.
//!
//! `rotate` lays `next.pem` and `next.key` beside the authority, and `bundle.pem`, which holds both certificates, the newest
//! last. From then on the server trusts clients of both, shows its own certificate by the old one, and certifies by the new
//! one whoever says that it trusts that. `retire` puts the new one in the old one's place; what a crash leaves in between is
//! read as done. Never: the decision who may be left behind.

use std::path::Path;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use tern_protocol::digest::Digest;

use super::{Authority, Holder};
use crate::disk::{self, Access};

/// The certificates that devices are to trust, by the folder of the authority.
pub const BUNDLE: &str = "bundle.pem";

impl Authority {
    /// Makes the next authority of this name in `folder`; a rotation that is under way stays as it is.
    ///
    /// # Errors
    /// Where the disk refuses, or there is no authority.
    pub fn rotate(folder: &Path, name: &str, now: Timestamp) -> anyhow::Result<Self> {
        let before = Self::open(folder)?;
        if before.next.is_none() {
            Self::create_as(folder, "next", name, now)?;
        }
        let both = Self::open(folder)?;
        disk::write(&folder.join(BUNDLE), both.bundle_pem().as_bytes(), Access::Public).context("write bundle.pem")?;
        Ok(both)
    }

    /// Puts the next authority in the place of the one in `folder`, which counts no more.
    ///
    /// # Errors
    /// Where there is no next one, or the disk refuses.
    pub fn retire(folder: &Path) -> anyhow::Result<Self> {
        let before = Self::open(folder)?;
        let next =
            Self::open_as(folder, "next").context("no rotation is under way: begin with `tern-server ca rotate`")?;
        ensure!(
            before.next.is_some() || before.sha256() == next.sha256(),
            "ca.pem and next.pem do not belong together: restore both from one backup"
        );
        let key = disk::read(&folder.join("next.key"), super::MAX_FILE)?.context("next.key went away")?;
        disk::write(&folder.join("ca.key"), &key, Access::Private)?;
        disk::write(&folder.join("ca.pem"), next.pem().as_bytes(), Access::Public)?;
        disk::write(&folder.join(BUNDLE), next.pem().as_bytes(), Access::Public)?;
        disk::remove(&folder.join("next.key"))?;
        disk::remove(&folder.join("next.pem"))?;
        Self::open(folder)
    }

    /// The authority that comes after this one, where a rotation is under way, or this one.
    #[must_use]
    pub fn newest(&self) -> &Self {
        self.next.as_deref().unwrap_or(self)
    }

    /// The newest authority that is among `trusted`, or this one.
    #[must_use]
    pub fn newest_of(&self, trusted: &[Digest]) -> &Self {
        self.next.as_deref().filter(|next| trusted.contains(&next.sha256())).unwrap_or(self)
    }

    /// SHA-256 of the authority that made the certificate of `holder`, which TLS has verified; none where that is not told.
    #[must_use]
    pub fn maker_of(&self, holder: &Holder) -> Option<Digest> {
        let mut both = std::iter::once(self).chain(self.next.as_deref());
        let maker = both.find(|one| holder.issuer_key.is_some() && one.key_identifier == holder.issuer_key);
        maker.map(Self::sha256)
    }

    /// Every certificate that counts, the newest last.
    pub fn bundle_pem(&self) -> String {
        let next = self.next.as_ref().map(|next| next.pem.as_str()).unwrap_or_default();
        format!("{}{next}", self.pem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn an_authority_gives_way_to_the_next_with_both_in_between() {
        let (scratch, now) = (tempfile::tempdir().unwrap(), NOW.parse().unwrap());
        let folder = scratch.path();
        let first = Authority::create(folder, "tern f", now).unwrap();
        assert!(Authority::retire(folder).is_err(), "nothing to retire to");
        let both = Authority::rotate(folder, "tern f 2", now).unwrap();
        assert_eq!(both.sha256(), first.sha256());
        let second = both.newest().sha256();
        assert_ne!(second, first.sha256());
        assert_eq!(both.newest_of(&[]).sha256(), first.sha256());
        assert_eq!(both.newest_of(&[first.sha256(), second]).sha256(), second);
        assert_eq!(std::fs::read_to_string(folder.join(BUNDLE)).unwrap(), both.bundle_pem());
        assert_eq!(both.bundle_pem().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(both.bundle_pem().starts_with(first.pem()), "the newest stands last");
        // Once more changes nothing.
        assert_eq!(Authority::rotate(folder, "tern f 3", now).unwrap().newest().sha256(), second);
        let after = Authority::retire(folder).unwrap();
        assert_eq!((after.sha256(), after.newest().sha256()), (second, second));
        assert_eq!(std::fs::read_to_string(folder.join(BUNDLE)).unwrap(), after.pem());
        assert!(Authority::retire(folder).is_err(), "it was retired");
    }

    #[test]
    fn a_crash_in_the_middle_of_retiring_is_read_as_done_and_ends_at_the_next_try() {
        let (scratch, now) = (tempfile::tempdir().unwrap(), NOW.parse().unwrap());
        let folder = scratch.path();
        Authority::create(folder, "tern f", now).unwrap();
        let second = Authority::rotate(folder, "tern f 2", now).unwrap().newest().sha256();
        for step in ["ca.key", "ca.pem"] {
            std::fs::copy(folder.join(step.replace("ca", "next")), folder.join(step)).unwrap();
            let opened = Authority::open(folder).unwrap();
            assert_eq!((opened.sha256(), opened.newest().sha256()), (second, second), "{step}");
        }
        assert_eq!(Authority::retire(folder).unwrap().sha256(), second);
        assert!(!folder.join("next.key").exists());
    }
}
