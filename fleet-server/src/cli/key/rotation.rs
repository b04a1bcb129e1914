//! `tern key rotate` as steps on the disk, each of which may be the last before a power cut: run again, it ends well.
//!
//! First the successor is made as `NAME.next`, whole, and the old key signs who follows it; then the old pair moves to
//! `NAME.retired-N` and the new one into its place, of each pair the private half last. So the place of `NAME.key` tells how
//! far it came, and at every instant both private halves are there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use tern_protocol::{keys::SigningKey, signed::Document};

use crate::{
    cli::record::Record,
    disk::{self, Access},
    keyfile::{self, KeyRotation, Passphrase},
};

/// The rotation of one key of the store.
pub(super) struct Rotation<'a> {
    pub(super) store: &'a Path,
    pub(super) name: &'a str,
}

impl Rotation<'_> {
    /// `NAMEsuffix.ending`.
    pub(super) fn file(&self, suffix: &str, ending: &str) -> PathBuf {
        self.store.join(format!("{}{suffix}.{ending}", self.name))
    }

    /// Whether a successor lies there that is whole and named by the old key, so that only the moves are left.
    pub(super) fn is_prepared(&self) -> bool {
        if !self.file(".next", "key").exists() {
            return false;
        }
        // Only a prepared rotation takes the old key away.
        if !self.file("", "key").exists() {
            return true;
        }
        let statement = disk::read(&self.file("", "rotation.json"), KeyRotation::MAX_BYTES as u64).ok().flatten();
        let statement = statement.and_then(|bytes| KeyRotation::verify(&bytes).ok());
        let next = keyfile::read_public(&self.file(".next", "pub")).ok();
        statement.zip(next).is_some_and(|(statement, next)| statement.new == next)
    }

    /// Makes the successor, and has `old` sign that it follows.
    pub(super) fn prepare(
        &self,
        old: &SigningKey,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        // What an interrupted attempt left must not be taken for this one's.
        disk::remove(&self.file(".next", "pub")).context("remove what an interrupted rotation left")?;
        let new = keyfile::create(&self.file(".next", "key"), passphrase)?;
        keyfile::write_public(&self.file(".next", "pub"), &new.public())?;
        // A successor that remembered nothing would sign whatever list the server shows it.
        let home = self.store.parent().context("invariant: the store lies beside the configuration")?;
        Record::hand_over(home, &old.public().id(), &new.public().id())?;
        let statement = KeyRotation::sign(self.name, old, &new.public(), now)?;
        disk::write(&self.file("", "rotation.json"), &statement, Access::Public).context("write the rotation")
    }

    /// Moves both keys to where they belong; says what the old one is called now.
    pub(super) fn carry_out(&self) -> anyhow::Result<String> {
        let is_free = |n: &usize| !self.file(&format!(".retired-{n}"), "key").exists();
        let free = (1..).find(is_free).context("invariant: numbers do not end")?;
        let number = if self.file("", "key").exists() {
            self.shift("", &format!(".retired-{free}"))?;
            free
        } else {
            free - 1
        };
        self.shift(".next", "")?;
        Ok(format!("{}.retired-{number}", self.name))
    }

    /// Moves what is there of a pair, the private half last.
    fn shift(&self, from: &str, to: &str) -> anyhow::Result<()> {
        for ending in ["pub", "key"] {
            let (from, to) = (self.file(from, ending), self.file(to, ending));
            if from.exists() {
                disk::rename(&from, &to).with_context(|| format!("move key {}", from.display()))?;
            }
        }
        Ok(())
    }
}
