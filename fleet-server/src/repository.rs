//! The TUF repository: what devices verify before they install anything.
//!
//! Layout: consistent snapshots in `metadata/`, manifests in `targets/`. A publication writes files that nobody refers
//! to yet (manifests, `n.<team>.json`, `n.snapshot.json`), then replaces `timestamp.json`: that one rename publishes all.
//! A crash before it changes nothing; at the next start [`Repository::open`] removes what it left.
//! Whatever is about to be published first passes the client's own rules (`sigstore_tuf::TrustedMetadataSet`), so the
//! server never serves a set that a device would refuse.
//!
//! Versions of snapshot and timestamp are max(last + 1, unix seconds): a server restored from a backup is never behind
//! its devices. Of a fleet made with `--solo` it holds the targets key too, and signs targets anew at half their life;
//! otherwise that is the operators' part. Never: root or release keys; SQL; the network. All methods block.

mod load;
mod metadata;
pub mod solo;
mod versions;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sigstore_tuf::{Metadata, Targets, TrustedMetadataSet};
use tern_protocol::{
    digest::Digest,
    ids::{ModelVersion, TeamId},
    keys::{KeySet, SigningKey},
    tuf,
};

use crate::{
    director::whole_seconds,
    disk::{self, Access},
    forms::TeamMetadata,
    store::SignedVersion,
};

/// Longest team metadata, in bytes: what the client reads of one role.
pub const MAX_TEAM_BYTES: usize = 5_000_000;
/// Life of snapshot and timestamp.
pub const ONLINE_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Life that a team's metadata should have.
pub const TEAM_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Life of targets that this server signs.
pub const TARGETS_LIFE: SignedDuration = TEAM_LIFE;
/// Snapshots and team versions that stay for clients which began with an older timestamp.
const KEPT: usize = 8;

/// Why a team's metadata is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishRefusal {
    /// Root's targets delegate nothing to such a team.
    #[error("no team is called {0}: teams are named when the server is made")]
    UnknownTeam(TeamId),
    /// It is no TUF targets role.
    #[error("team metadata is malformed: {0}")]
    Malformed(String),
    /// Somebody published in between.
    #[error("team metadata has version {found}, the next one is {next}: fetch it again, sign again")]
    Moved {
        /// Its version.
        found: u64,
        /// The version it must have.
        next: u64,
    },
    /// A target is not a manifest of this team's models.
    #[error("target {0:?} is not of the form models/TEAM/MODEL/VERSION/manifest.json of this team")]
    ForeignTarget(String),
    /// The team hands its powers on.
    #[error("team metadata must not delegate")]
    Delegates,
    /// Too few of the team's keys signed.
    #[error("{found} of {threshold} needed signatures are valid: sign with the team's release keys")]
    UnderThreshold {
        /// Valid signatures.
        found: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// It is already expired.
    #[error("team metadata expires at {0}, which is past: sign it with a later date")]
    Expired(Timestamp),
    /// A client would refuse it for another reason.
    #[error("team metadata would be refused by devices: {0}")]
    Unacceptable(String),
    /// The server's own disk or keys failed.
    #[error("publish")]
    Failed(#[source] anyhow::Error),
}

/// A file that a publication writes; in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The keys that sign freshness.
#[derive(Debug)]
pub struct OnlineKeys {
    /// The snapshot role's.
    pub snapshot: SigningKey,
    /// The timestamp role's.
    pub timestamp: SigningKey,
}

/// What is published now, verified.
#[derive(Debug, Clone)]
struct Published {
    trusted: TrustedMetadataSet,
    targets: Vec<u8>,
    teams: BTreeMap<TeamId, Vec<u8>>,
}

/// The repository. It is held by one process: see the data folder's lock.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    keys: OnlineKeys,
    targets_key: Option<SigningKey>,
    published: Mutex<Published>,
}

impl Repository {
    /// Opens the repository in `folder`, verifying everything that is published and removing what a crash left.
    ///
    /// # Errors
    /// Where what is published does not verify, or the disk refuses.
    pub fn open(folder: &Path, keys: OnlineKeys, now: Timestamp) -> anyhow::Result<Self> {
        let published = load::load(folder, &keys, now)?;
        Ok(Self { folder: folder.to_owned(), keys, targets_key: None, published: Mutex::new(published) })
    }

    /// This repository, which from now on signs targets anew itself: only of a fleet whose every key lies here.
    #[must_use]
    pub fn with_targets_key(self, key: SigningKey) -> Self {
        Self { targets_key: Some(key), ..self }
    }

    /// The newest root: its bytes.
    pub fn root(&self) -> Vec<u8> {
        self.lock().trusted.root_bytes().to_vec()
    }

    /// The director's keys that root names.
    ///
    /// # Errors
    /// Where it names none.
    pub fn director_keys(&self) -> Result<KeySet, tuf::TufError> {
        tuf::director_keys(self.lock().trusted.root())
    }

    /// The bytes of a metadata file by its name in the address; none where there is no such file.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn metadata(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if !is_metadata_name(name) {
            return Ok(None);
        }
        disk::read(&self.folder.join("metadata").join(name), MAX_TEAM_BYTES as u64)
    }

    /// The manifest of a version under its digest; none where it was never published.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn manifest(&self, model: &ModelVersion, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        disk::read(&self.manifest_path(model, digest), tern_protocol::manifest::MAX_BYTES as u64)
    }

    /// The team's metadata as it stands, and what the next must be.
    ///
    /// # Errors
    /// [`PublishRefusal::UnknownTeam`].
    pub fn team(&self, team: &TeamId, now: Timestamp) -> Result<TeamMetadata, PublishRefusal> {
        let published = self.lock();
        published.require(team)?;
        let envelope = published.teams.get(team).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let expires = whole_seconds(now.saturating_add(TEAM_LIFE).unwrap_or(Timestamp::MAX));
        let (signed, signatures) = match envelope {
            Some(mut envelope) => (
                Some(envelope["signed"].take()),
                serde_json::from_value(envelope["signatures"].take()).unwrap_or_default(),
            ),
            None => (None, Vec::new()),
        };
        Ok(TeamMetadata { next_version: published.team_version(team) + 1, signed, signatures, expires })
    }

    /// What the published metadata of a team lists.
    pub fn listed(&self, team: &TeamId) -> Vec<SignedVersion> {
        let published = self.lock();
        let role = published.trusted.targets_role(team.as_str());
        role.and_then(|role| versions(team, role).ok()).unwrap_or_default()
    }

    /// The teams that root's targets delegate to.
    pub fn teams(&self) -> Vec<TeamId> {
        self.lock().delegated()
    }

    /// What offered team metadata would list, checked in form, number and names but not yet in signatures.
    ///
    /// # Errors
    /// The first refusal found.
    pub fn inspect(&self, team: &TeamId, bytes: &[u8]) -> Result<Vec<SignedVersion>, PublishRefusal> {
        self.lock().inspect(team, bytes)
    }

    /// Publishes a team's metadata together with the manifests that it lists (those already there are left).
    ///
    /// # Errors
    /// The first refusal found; then nothing was published.
    pub fn publish(
        &self,
        team: &TeamId,
        bytes: &[u8],
        manifests: &[(SignedVersion, Vec<u8>)],
        now: Timestamp,
    ) -> Result<Vec<SignedVersion>, PublishRefusal> {
        let mut published = self.lock();
        let listed = published.inspect(team, bytes)?;
        let (next, mut writes) = published.with_team(&self.folder, &self.keys, team, bytes, now)?;
        let manifests = manifests.iter().map(|(version, bytes)| Write {
            path: self.manifest_path(&version.model, &version.manifest),
            bytes: bytes.clone(),
        });
        writes.splice(0..0, manifests.filter(|write| !write.path.exists()));
        carry_out(&writes).map_err(|e| PublishRefusal::Failed(e.into()))?;
        *published = next;
        Ok(listed)
    }

    /// Signs snapshot and timestamp anew where less than half of a life is left, and targets where their key is here;
    /// says whether it did.
    ///
    /// # Errors
    /// Where the disk refuses or the result would not verify, as when root or foreign targets have expired. What was
    /// published before stays, and can be served.
    pub fn freshen(&self, now: Timestamp) -> anyhow::Result<bool> {
        let mut published = self.lock();
        let within = |life: SignedDuration| now.saturating_add(life / 2).unwrap_or(Timestamp::MAX);
        let key = self.targets_key.as_ref().filter(|_| published.targets_expire() <= within(TARGETS_LIFE));
        let renewed =
            key.map(|key| Self::put(&mut published, |p| p.with_new_targets(&self.folder, &self.keys, key, now)));
        let anew = match &renewed {
            Some(Ok(())) => true,
            // Freshness must not wait for targets that still count.
            _ if published.expires() <= within(ONLINE_LIFE) => {
                Self::put(&mut published, |p| p.signed_anew(&self.folder, &self.keys, now))?;
                true
            }
            _ => false,
        };
        drop(published);
        if anew {
            self.tidy()?;
        }
        renewed.transpose().context("sign targets anew")?;
        Ok(anew)
    }

    fn put(
        published: &mut Published,
        make: impl FnOnce(&Published) -> anyhow::Result<(Published, Vec<Write>)>,
    ) -> anyhow::Result<()> {
        let (next, writes) = make(published)?;
        carry_out(&writes)?;
        *published = next;
        Ok(())
    }

    /// When the first of snapshot and timestamp expires.
    pub fn expires(&self) -> Timestamp {
        self.lock().expires()
    }

    fn tidy(&self) -> io::Result<()> {
        let published = self.lock();
        let roles = std::iter::once("snapshot".to_owned()).chain(published.teams.keys().map(ToString::to_string));
        for role in roles {
            let versions = load::versions_on_disk(&self.folder, &role)?;
            for version in versions.iter().rev().skip(KEPT) {
                disk::remove(&self.folder.join(format!("metadata/{version}.{role}.json")))?;
            }
        }
        Ok(())
    }

    fn manifest_path(&self, model: &ModelVersion, digest: &Digest) -> PathBuf {
        let (name, version) = (&model.name, &model.version);
        self.folder.join(format!("targets/models/{}/{}/{version}/{digest}.manifest.json", name.team, name.model))
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    fn delegated(&self) -> Vec<TeamId> {
        let delegations = self.trusted.targets_role("targets").and_then(|targets| targets.delegations.as_ref());
        delegations.into_iter().flat_map(|d| &d.roles).filter_map(|role| role.name.parse().ok()).collect()
    }

    fn require(&self, team: &TeamId) -> Result<(), PublishRefusal> {
        let known = self.delegated().contains(team);
        known.then_some(()).ok_or_else(|| PublishRefusal::UnknownTeam(team.clone()))
    }

    fn team_version(&self, team: &TeamId) -> u64 {
        let snapshot = self.trusted.snapshot();
        snapshot.and_then(|s| s.meta.get(&format!("{team}.json"))).map_or(0, |meta| meta.version)
    }

    fn expires(&self) -> Timestamp {
        let timestamp = self.trusted.timestamp().map(|t| t.expires);
        let snapshot = self.trusted.snapshot().map(|s| s.expires);
        timestamp.into_iter().chain(snapshot).min().unwrap_or(Timestamp::MIN)
    }

    fn targets_expire(&self) -> Timestamp {
        self.trusted.targets_role("targets").map_or(Timestamp::MIN, |targets| targets.expires)
    }

    fn inspect(&self, team: &TeamId, bytes: &[u8]) -> Result<Vec<SignedVersion>, PublishRefusal> {
        self.require(team)?;
        if bytes.len() > MAX_TEAM_BYTES {
            return Err(PublishRefusal::Malformed(format!("{} bytes are more than devices read", bytes.len())));
        }
        let role = Metadata::<Targets>::from_slice(bytes).map_err(|e| PublishRefusal::Malformed(chain(&e)))?;
        let next = self.team_version(team) + 1;
        if role.signed().version != next {
            return Err(PublishRefusal::Moved { found: role.signed().version, next });
        }
        if role.signed().delegations.is_some() {
            return Err(PublishRefusal::Delegates);
        }
        versions(team, role.signed())
    }
}

/// The versions that a team's role lists.
fn versions(team: &TeamId, role: &Targets) -> Result<Vec<SignedVersion>, PublishRefusal> {
    let version = |(path, file): (&String, &sigstore_tuf::TargetFile)| {
        let model = ModelVersion::from_target_path(path).filter(|model| model.name.team == *team);
        let model = model.ok_or_else(|| PublishRefusal::ForeignTarget(path.chars().take(200).collect()))?;
        let digest = file.hashes.get("sha256").and_then(|text| text.parse().ok());
        let manifest = digest.ok_or_else(|| PublishRefusal::Malformed(format!("{path} has no SHA-256")))?;
        Ok(SignedVersion { model, manifest })
    };
    role.targets.iter().map(version).collect()
}

/// Whether `name` is one that the repository may hold, so that no other file can be asked for.
fn is_metadata_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".json") else { return false };
    match stem.split_once('.') {
        None => stem == "timestamp",
        Some((version, role)) => {
            let canonical = version.parse::<u64>().is_ok_and(|v| v > 0 && v.to_string() == version);
            canonical && role.parse::<TeamId>().is_ok()
        }
    }
}

fn carry_out(writes: &[Write]) -> io::Result<()> {
    for write in writes {
        if let Some(folder) = write.path.parent() {
            disk::create_folder(folder)?;
        }
        disk::write(&write.path, &write.bytes, Access::Public)?;
    }
    Ok(())
}

/// An error with all its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
