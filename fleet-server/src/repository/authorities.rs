//! The CA bundle: the certificates that devices are to trust for the server, as a target of the top-level targets role.
//!
//! Where the key of targets lies here (`--solo`) the bundle is listed here; elsewhere a ceremony lists it, and until then it
//! only waits under its digest. No device trusts it before.

use std::io;

use anyhow::Context;
use jiff::Timestamp;
use tern_protocol::{digest::Digest, tuf};

use super::{Repository, Write, carry_out};
use crate::disk;

impl Repository {
    /// Lays the bundle where devices fetch it, and lists it where that can be done here; says whether targets list it.
    ///
    /// # Errors
    /// Where the disk refuses or the result would not verify.
    pub fn put_authorities(&self, pem: &[u8], now: Timestamp) -> anyhow::Result<bool> {
        let digest = Digest::of(pem);
        let mut published = self.lock_to_write(now)?;
        let file = Write { path: self.authorities_path(&digest), bytes: pem.to_owned() };
        carry_out(&[file]).context("write the CA bundle")?;
        let listed = |published: &super::Published| {
            let target = published.trusted.targets_role("targets").and_then(|role| role.targets.get(tuf::CA_BUNDLE));
            target.and_then(|target| target.hashes.get("sha256")).is_some_and(|hash| *hash == digest.to_string())
        };
        let own = self.keyring().of_role(published.trusted.root(), "targets").ok().filter(|_| !listed(&published));
        if let Some(own) = own {
            let (keys, bundle) = (self.online(&published)?, Some((digest, pem.len())));
            self.put(&mut published, now, |p| p.with_new_targets(&self.folder, &keys, &own, bundle, now))
                .context("list the CA bundle")?;
        }
        Ok(listed(&published))
    }

    /// The bundle of this digest; none where it was never laid here.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn authorities(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        disk::read(&self.authorities_path(digest), tuf::MAX_CA_BUNDLE_BYTES)
    }

    fn authorities_path(&self, digest: &Digest) -> std::path::PathBuf {
        self.folder.join(format!("targets/ca/{digest}.bundle.pem"))
    }
}
