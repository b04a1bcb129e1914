//! The TUF repository: what devices verify before they install anything.
//!
//! Layout: consistent snapshots in `metadata/`, manifests in `targets/`. A publication writes files that nobody refers
//! to yet (manifests, `n.<team>.json`, `n.snapshot.json`), then replaces `timestamp.json`: that one rename publishes all.
//! A crash before it changes nothing; at the next start [`Repository::open`] removes what it left.
//! Whatever is about to be published first passes the client's own rules (`sigstore_tuf::TrustedMetadataSet`), so the
//! server never serves a set that a device would refuse.
//!
//! Snapshot and timestamp have one version, max(last + 1, unix seconds): a server restored from a backup is never behind
//! its devices. Of a fleet made with `--solo` it holds the targets key too, and signs targets anew at half their life;
//! otherwise targets and root come from ceremonies, see [`trust`]. Never: release keys; SQL; the network. All methods block.

mod authorities;
mod keyring;
mod listing;
mod load;
mod metadata;
mod refusal;
mod role;
mod role_keys;
pub mod solo;
pub(crate) mod standing;
mod trust;
mod versions;
mod writing;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sigstore_tuf::{Metadata, Targets, TrustedMetadataSet};
use tern_protocol::{
    digest::Digest,
    ids::{ModelVersion, TeamId},
    keys::KeySet,
    tuf,
};

use crate::{ceremony::trust::TARGETS_LIFE, director::whole_seconds, disk, forms::TeamMetadata, store::SignedVersion};

pub use keyring::{KeyMissing, Keyring, OnlineKeys};
pub use listing::Listing;
pub use refusal::PublishRefusal;
pub use role::{RoleKind, TeamRole};
pub use trust::{TrustChange, TrustInForce, TrustRefusal, adopt};

use listing::listing;
use writing::{Write, carry_out};

/// Longest team metadata, in bytes: what the client reads of one role.
pub const MAX_TEAM_BYTES: usize = 5_000_000;
/// Life of snapshot and timestamp.
pub const ONLINE_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Life that a team's metadata should have.
pub const TEAM_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// What is published now, verified.
#[derive(Debug, Clone)]
struct Published {
    trusted: TrustedMetadataSet,
    targets: Vec<u8>,
    teams: BTreeMap<TeamRole, Vec<u8>>,
}

/// The repository. It is held by one process: see the data folder's lock.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    keys: Mutex<Keyring>,
    published: Mutex<Published>,
    /// Whether a write was cut in the middle, so that the disk, which devices see, may say more than `published`.
    behind: AtomicBool,
}

impl Repository {
    /// Opens the repository in `folder`, verifying everything that is published and removing what a crash left.
    ///
    /// # Errors
    /// Where what is published does not verify, or the disk refuses.
    pub fn open(folder: &Path, keys: Keyring, now: Timestamp) -> anyhow::Result<Self> {
        let published = load::load(folder, &keys, now)?;
        let (keys, published, behind) = (Mutex::new(keys), Mutex::new(published), AtomicBool::new(false));
        Ok(Self { folder: folder.to_owned(), keys, published, behind })
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

    /// The manifest of a version under its digest; none where it was never published in a list of this kind.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn manifest(&self, model: &ModelVersion, digest: &Digest, kind: RoleKind) -> io::Result<Option<Vec<u8>>> {
        disk::read(&self.manifest_path(model, digest, kind), tern_protocol::manifest::MAX_BYTES as u64)
    }

    /// The role's metadata as it stands, and what the next must be.
    ///
    /// # Errors
    /// [`PublishRefusal::UnknownTeam`], and [`PublishRefusal::Unacceptable`] where its counter is at its end.
    pub fn team(&self, role: &TeamRole, now: Timestamp) -> Result<TeamMetadata, PublishRefusal> {
        let published = self.lock();
        published.require(role)?;
        let envelope = published.teams.get(role).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let expires = whole_seconds(now.saturating_add(TEAM_LIFE).unwrap_or(Timestamp::MAX));
        let (signed, signatures) = match envelope {
            Some(mut envelope) => (
                Some(envelope["signed"].take()),
                serde_json::from_value(envelope["signatures"].take()).unwrap_or_default(),
            ),
            None => (None, Vec::new()),
        };
        let keys = published.role_keys(role)?.ids().cloned().collect();
        Ok(TeamMetadata { next_version: published.next_of(role)?, signed, signatures, keys, expires })
    }

    /// The signed part of a role's published metadata, and its version; nothing and 0 where it has signed nothing.
    pub fn signed_part(&self, role: &TeamRole) -> (Option<Value>, u64) {
        let published = self.lock();
        let envelope = published.teams.get(role).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        (envelope.map(|mut envelope| envelope["signed"].take()), published.version_of(role))
    }

    /// The teams that root's targets delegate to.
    pub fn teams(&self) -> Vec<TeamId> {
        let releases = self.lock().delegated().into_iter().filter(|role| role.kind == RoleKind::Release);
        releases.map(|role| role.team).collect()
    }

    /// The roles of teams that root's targets delegate to.
    pub fn roles(&self) -> Vec<TeamRole> {
        self.lock().delegated()
    }

    /// The keys that count for a role.
    ///
    /// # Errors
    /// [`PublishRefusal::UnknownTeam`], also where a key is not one that can be used here.
    pub fn role_keys(&self, role: &TeamRole) -> Result<KeySet, PublishRefusal> {
        self.lock().role_keys(role)
    }

    /// What offered team metadata would say, checked in form, number, names and standing but not yet in signatures.
    ///
    /// # Errors
    /// The first refusal found.
    pub fn inspect(&self, role: &TeamRole, bytes: &[u8]) -> Result<Listing, PublishRefusal> {
        self.lock().inspect(role, bytes)
    }

    /// Publishes a role's metadata together with the manifests that it lists (those already there are left).
    ///
    /// # Errors
    /// The first refusal found; then nothing was published.
    pub fn publish(
        &self,
        role: &TeamRole,
        bytes: &[u8],
        manifests: &[(SignedVersion, Vec<u8>)],
        now: Timestamp,
    ) -> Result<Listing, PublishRefusal> {
        let mut published = self.lock_to_write(now).map_err(PublishRefusal::Failed)?;
        let listed = published.inspect(role, bytes)?;
        let keys = self.online(&published).map_err(PublishRefusal::Failed)?;
        let (next, mut writes) = published.with_team(&self.folder, &keys, role, bytes, now)?;
        let manifests = manifests.iter().map(|(version, bytes)| Write {
            path: self.manifest_path(&version.model, &version.manifest, role.kind),
            bytes: bytes.clone(),
        });
        writes.splice(0..0, manifests.filter(|write| !write.path.exists()));
        self.carry_out(&mut published, &writes, now).map_err(|e| PublishRefusal::Failed(e.into()))?;
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
        let mut published = self.lock_to_write(now)?;
        let within = |life: SignedDuration| now.saturating_add(life / 2).unwrap_or(Timestamp::MAX);
        let keys = self.online(&published)?;
        let solo = published.targets_expire() <= within(TARGETS_LIFE);
        let solo = if solo { self.keyring().of_role(published.trusted.root(), "targets").ok() } else { None };
        let renewed =
            solo.map(|own| self.put(&mut published, now, |p| p.with_new_targets(&self.folder, &keys, &own, None, now)));
        let anew = match &renewed {
            Some(Ok(())) => true,
            // Freshness must not wait for targets that still count.
            _ if published.expires() <= within(ONLINE_LIFE) => {
                self.put(&mut published, now, |p| p.signed_anew(&self.folder, &keys, now))?;
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

    /// When the first of snapshot and timestamp expires.
    pub fn expires(&self) -> Timestamp {
        self.lock().expires()
    }

    fn manifest_path(&self, model: &ModelVersion, digest: &Digest, kind: RoleKind) -> PathBuf {
        let (name, version) = (&model.name, &model.version);
        let folder = match kind {
            RoleKind::Release => "models",
            RoleKind::Candidate => "candidates",
        };
        self.folder.join(format!("targets/{folder}/{}/{}/{version}/{digest}.manifest.json", name.team, name.model))
    }

    /// The keys that sign freshness under the root that is published.
    fn online(&self, published: &Published) -> anyhow::Result<OnlineKeys> {
        Ok(self.keyring().online(published.trusted.root())?)
    }

    fn keyring(&self) -> MutexGuard<'_, Keyring> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    fn delegated(&self) -> Vec<TeamRole> {
        let delegations = self.trusted.targets_role("targets").and_then(|targets| targets.delegations.as_ref());
        delegations.into_iter().flat_map(|d| &d.roles).filter_map(|role| role.name.parse().ok()).collect()
    }

    fn require(&self, role: &TeamRole) -> Result<(), PublishRefusal> {
        let known = self.delegated().contains(role);
        known.then_some(()).ok_or_else(|| PublishRefusal::UnknownTeam(role.clone()))
    }

    fn version_of(&self, role: &TeamRole) -> u64 {
        let snapshot = self.trusted.snapshot();
        snapshot.and_then(|s| s.meta.get(&format!("{role}.json"))).map_or(0, |meta| meta.version)
    }

    fn next_of(&self, role: &TeamRole) -> Result<u64, PublishRefusal> {
        let last = self.version_of(role);
        let next = last.checked_add(1).filter(|next| *next <= metadata::END);
        next.ok_or_else(|| {
            let words =
                format!("the list of {role} has version {last}, and there is none after: release in a new team");
            PublishRefusal::Unacceptable(words)
        })
    }

    fn listing(&self, role: &TeamRole) -> Listing {
        let trusted = self.trusted.targets_role(&role.to_string());
        trusted.and_then(|trusted| listing(role, trusted).ok()).unwrap_or_default()
    }

    fn expires(&self) -> Timestamp {
        let timestamp = self.trusted.timestamp().map(|t| t.expires);
        let snapshot = self.trusted.snapshot().map(|s| s.expires);
        timestamp.into_iter().chain(snapshot).min().unwrap_or(Timestamp::MIN)
    }

    fn targets_expire(&self) -> Timestamp {
        self.trusted.targets_role("targets").map_or(Timestamp::MIN, |targets| targets.expires)
    }

    fn inspect(&self, role: &TeamRole, bytes: &[u8]) -> Result<Listing, PublishRefusal> {
        self.require(role)?;
        if bytes.len() > MAX_TEAM_BYTES {
            return Err(PublishRefusal::Malformed(format!("{} bytes are more than devices read", bytes.len())));
        }
        let offered = Metadata::<Targets>::from_slice(bytes).map_err(|e| PublishRefusal::Malformed(chain(&e)))?;
        let next = self.next_of(role)?;
        if offered.signed().version != next {
            return Err(PublishRefusal::Moved { found: offered.signed().version, next });
        }
        if offered.signed().delegations.is_some() {
            return Err(PublishRefusal::Delegates);
        }
        let offered = listing(role, offered.signed())?;
        if self.counts(role) {
            standing::not_lowered(&self.listing(role).standings, &offered.standings)?;
        }
        Ok(offered)
    }
}

/// Whether `name` is one that the repository may hold, so that no other file can be asked for.
fn is_metadata_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".json") else { return false };
    match stem.split_once('.') {
        None => stem == "timestamp",
        Some((version, role)) => {
            let canonical = version.parse::<u64>().is_ok_and(|v| v > 0 && v.to_string() == version);
            canonical && role.parse::<TeamRole>().is_ok()
        }
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
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
