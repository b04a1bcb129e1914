//! A new root, new targets: taken as a device would take them, and published with freshness signed by the keys that count
//! from then on.
//!
//! Order of writing: targets, snapshot (nobody refers to them yet), root, timestamp. Before root is written a
//! crash changes nothing. Between root and timestamp it leaves a root under which either the old set still verifies, or
//! what was written does, which [`Repository::open`] then publishes. Whoever uploaded it uploads it again: what is in
//! force already is no error.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;
use sigstore_tuf::{Metadata, Root, TrustedMetadataSet};
use tern_protocol::{digest::Digest, keys::SigningKey};

use super::{
    Keyring, Published, Repository, TeamRole, Write, carry_out, chain,
    keyring::KeyMissing,
    load,
    metadata::{Before, online, version_in},
};
use crate::{
    ceremony::signing::{Papers, Sheets, Trouble},
    disk,
};

/// What a ceremony agreed on.
#[derive(Debug, Clone, Default)]
pub struct TrustChange {
    /// The next root's envelope.
    pub root: Option<Vec<u8>>,
    /// The next targets' envelope.
    pub targets: Option<Vec<u8>>,
}

/// Why it is not published.
#[derive(Debug, thiserror::Error)]
pub enum TrustRefusal {
    /// It breaks a rule of ceremonies or of devices.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The server could not sign under it.
    #[error(transparent)]
    KeyMissing(#[from] KeyMissing),
    /// Devices would look for CA certificates that the server does not have.
    #[error(
        "targets names CA certificates that are not here: name bundle.pem of the server's ca/ folder as it is, after \
         `tern-server ca rotate` and a start of the server"
    )]
    BundleMissing,
    /// The server's own disk or keys failed.
    #[error("publish")]
    Failed(#[source] anyhow::Error),
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct TrustInForce {
    /// Every root from the first.
    pub roots: Vec<Vec<u8>>,
    /// Root's version.
    pub root_version: u64,
    /// Targets.
    pub targets: Vec<u8>,
    /// Their version.
    pub targets_version: u64,
    /// Teams whose list does not count until its keys sign it again.
    pub to_sign_again: Vec<TeamRole>,
}

impl Repository {
    /// What is in force now.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn trust(&self) -> anyhow::Result<TrustInForce> {
        let published = self.lock();
        let root_version = published.trusted.root().version;
        let mut roots = Vec::new();
        for version in load::versions_on_disk(&self.folder, "root")? {
            if version <= root_version {
                roots.push(load::file(&self.folder, &format!("{version}.root.json"))?);
            }
        }
        let (targets, targets_version) = (published.targets.clone(), version_in(&published.targets)?);
        Ok(TrustInForce { roots, root_version, targets, targets_version, to_sign_again: published.to_sign_again() })
    }

    /// The root of this digest, in force now or before; none where there never was one.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn root_of(&self, sha256: &Digest) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.trust()?.roots.into_iter().find(|root| Digest::of(root) == *sha256))
    }

    /// Publishes what a ceremony agreed on, and reads the server's keys again. Team lists that the teams' new keys have
    /// not signed stay where they are, counting for nothing until they are signed again.
    ///
    /// # Errors
    /// The first refusal found; then nothing was published.
    pub fn publish_trust(&self, change: &TrustChange, now: Timestamp) -> Result<(), TrustRefusal> {
        let failed = TrustRefusal::Failed;
        let mut published = self.lock_to_write(now).map_err(failed)?;
        let sheets = Sheets {
            root: Some(published.trusted.root_bytes().to_vec()),
            targets: Some(published.targets.clone()),
            next_root: other(change.root.as_ref(), published.trusted.root_bytes()),
            next_targets: other(change.targets.as_ref(), &published.targets),
        };
        let keys = self.keyring().reopened().map_err(failed)?;
        if sheets.next_root.is_none() && sheets.next_targets.is_none() {
            // The answer to the first upload was lost, or a crash cut it: what is there is what was wanted.
            *self.keyring() = keys;
            return Ok(());
        }
        let papers = Papers::read(&sheets)?;
        papers.verify(now)?;
        let mut trusted = published.trusted.clone();
        if let Some(root) = &sheets.next_root {
            trusted.update_root(root).map_err(|e| Trouble::Refused(chain(&e)))?;
        }
        let named = papers.coming_targets().and_then(|targets| targets.content.0.ca_bundle.as_ref());
        if let Some(named) = named {
            let there = self.authorities(&named.sha256).map_err(|e| failed(e.into()))?;
            if there.is_none_or(|bytes| bytes.len() as u64 != named.length) {
                return Err(TrustRefusal::BundleMissing);
            }
        }
        let root = trusted.root().clone();
        let signers = keys.online(&root)?;
        keys.of_role(&root, "director")?;

        let mut writes = Vec::new();
        let targets = sheets.next_targets.as_ref().unwrap_or(&published.targets).clone();
        let before = Before::under(&root, &published.trusted);
        let files =
            online(&before, &signers, &targets, &published.teams, &published.versions(), now).map_err(failed)?;
        let proved = Published::prove(trusted, &files, &targets, &published.teams, None, now);
        let trusted = proved.map_err(|e| Trouble::Refused(chain(&e)))?;
        if sheets.next_targets.is_some() {
            let version = version_in(&targets).map_err(failed)?;
            writes.push(self.metadata_write(&format!("{version}.targets.json"), targets.clone()));
        }
        let [snapshot, timestamp] = files.writes(&self.folder);
        writes.push(snapshot);
        if let Some(bytes) = sheets.next_root {
            writes.push(self.metadata_write(&format!("{}.root.json", root.version), bytes));
        }
        writes.push(timestamp);
        *self.keyring() = keys;
        self.carry_out(&mut published, &writes, now).map_err(|e| failed(e.into()))?;
        *published = Published { trusted, targets, teams: published.teams.clone() };
        Ok(())
    }

    /// The keys here that sign desired states under the root in force.
    ///
    /// # Errors
    /// [`KeyMissing`].
    pub fn director(&self) -> Result<Vec<Arc<SigningKey>>, KeyMissing> {
        let published = self.lock();
        let keys = self.keyring().clone();
        keys.of_role(published.trusted.root(), "director")
    }

    /// Whether the keys of this machine suffice for root or for targets.
    pub fn is_solo(&self) -> bool {
        let published = self.lock();
        self.keyring().is_solo(published.trusted.root())
    }

    /// The key files of the data folder that count for nothing any more.
    ///
    /// # Errors
    /// Where the roots before this one cannot be read.
    pub fn useless_keys(&self) -> anyhow::Result<Vec<String>> {
        let read = |bytes: &Vec<u8>| Ok(Metadata::<Root>::from_slice(bytes)?.into_signed());
        let before = self.trust()?.roots.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let published = self.lock();
        let delegations = published.trusted.targets_role("targets").and_then(|targets| targets.delegations.as_ref());
        let teams: Vec<_> = delegations.into_iter().flat_map(|d| d.keys.keys().cloned()).collect();
        Ok(self.keyring().useless(&before, published.trusted.root(), &teams))
    }

    /// When each role that people sign expires: root, targets, and the teams' lists.
    pub fn signed_by_people(&self) -> Vec<(String, Timestamp)> {
        let published = self.lock();
        let mut roles = vec![
            ("root".to_owned(), published.trusted.root().expires),
            ("targets".to_owned(), published.targets_expire()),
        ];
        let teams = published.delegated().into_iter().map(|team| team.to_string());
        roles.extend(teams.filter_map(|team| Some((team.clone(), published.trusted.targets_role(&team)?.expires))));
        roles
    }

    fn metadata_write(&self, name: &str, bytes: Vec<u8>) -> Write {
        Write { path: self.folder.join("metadata").join(name), bytes }
    }
}

/// Makes the repository of a new fleet in `folder` from what its first ceremony agreed on.
///
/// # Errors
/// The first refusal found; then nothing was made.
pub fn adopt(folder: &Path, keys: &Keyring, change: &TrustChange, now: Timestamp) -> Result<(), TrustRefusal> {
    let failed = TrustRefusal::Failed;
    let TrustChange { root, targets } = change.clone();
    let papers = Papers::read(&Sheets { next_root: root.clone(), next_targets: targets.clone(), ..Sheets::default() })?;
    papers.verify(now)?;
    let missing = || Trouble::Missing("next/", "a first ceremony makes both root and targets: prepare it anew");
    let (root, targets) = root.zip(targets).ok_or_else(missing)?;
    if papers.coming_targets().is_some_and(|targets| targets.content.0.ca_bundle.is_some()) {
        return Err(TrustRefusal::BundleMissing);
    }
    let trusted = TrustedMetadataSet::from_root(&root).map_err(|e| Trouble::Refused(chain(&e)))?;
    let signers = keys.online(trusted.root())?;
    keys.of_role(trusted.root(), "director")?;
    let (teams, versions) = (Default::default(), Default::default());
    let files = online(&Before::default(), &signers, &targets, &teams, &versions, now).map_err(failed)?;
    Published::prove(trusted, &files, &targets, &teams, None, now).map_err(|e| Trouble::Refused(chain(&e)))?;
    let metadata = folder.join("metadata");
    disk::create_folder(&folder.join("targets")).map_err(|e| failed(e.into()))?;
    let [snapshot, timestamp] = files.writes(folder);
    let root = Write { path: metadata.join("1.root.json"), bytes: root };
    let targets = Write { path: metadata.join("1.targets.json"), bytes: targets };
    carry_out(&[targets, snapshot, root, timestamp]).map_err(|e| failed(e.into()))
}

impl Published {
    /// Teams whose list does not count until its keys sign it again.
    fn to_sign_again(&self) -> Vec<TeamRole> {
        self.delegated().into_iter().filter(|role| self.teams.contains_key(role) && !self.counts(role)).collect()
    }
}

/// `wanted` unless it says what `present` says.
fn other(wanted: Option<&Vec<u8>>, present: &[u8]) -> Option<Vec<u8>> {
    let signed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok()?.get("signed").cloned();
    wanted.filter(|wanted| signed(wanted).is_none_or(|signed_| Some(signed_) != signed(present))).cloned()
}
