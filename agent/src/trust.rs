//! What the device believes: TUF metadata, its floors, manifests.
//!
//! Order of every refresh: root chain, timestamp, snapshot, targets (all by `sigstore-tuf`); then our own: the signed time
//! must be plausible; nothing may have failed to reach the cache; no role may lie below its recorded floor; floors and time
//! are raised durably; only then is anything acted on. A wiped or unreadable cache therefore costs a download and never a
//! floor. The online keys follow root as soon as a newer root verifies, and with them the time: what a key vouched for that
//! root names no more counts no more. Sources are asked in turn, see `asking`.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use sigstore_tuf::{Repository, TargetFile, Updater};
use tern_protocol::{
    desired::{self, DesiredModel},
    digest::Digest,
    keys::KeySet,
    manifest::{self, Manifest, ManifestError},
    refusal::RefusalCode,
    standing::{Disallowed, InvalidStanding},
    tuf::{self, OnlineKeys, TufError},
};

use crate::{
    clock::DeviceClock,
    http,
    install::Refusal,
    sources::{SourcePage, Sources},
    store::{Store, StoreError},
};

mod asking;
mod authorities;
mod cache;
pub(crate) mod client;
mod heard;
mod known;
mod recovery;
mod repository;
mod standings;
pub(crate) mod target;
use asking::Question;
use client::Client;
use heard::Heard;
pub(crate) use known::known_root;
pub use repository::HttpRepository;

/// Why metadata or a manifest is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// TUF refuses it.
    #[error("{}", http::chain(.0))]
    Tuf(#[from] sigstore_tuf::Error),
    /// It verifies, but is older than what was verified before.
    #[error("{role} has version {found}, {floor} was verified before")]
    BelowFloor {
        /// The role.
        role: String,
        /// Its version.
        found: u64,
        /// The floor.
        floor: u64,
    },
    /// Verified metadata did not reach the disk.
    #[error("verified metadata cannot be kept: {0}")]
    Cache(String),
    /// Floors cannot be read or written.
    #[error(transparent)]
    Floors(#[from] StoreError),
    /// Its signed time cannot be true.
    #[error(
        "timestamp is issued at {issued}, the newest time known here is {floor}: correct the server's clock, or enrol a \
         device again that was away for more than 400 days"
    )]
    ImplausibleTime {
        /// When it says that it was signed.
        issued: Timestamp,
        /// The floor of time.
        floor: Timestamp,
    },
    /// The CA bundle is not what targets list.
    #[error("the CA bundle is not to be used: {0}")]
    Authorities(String),
    /// Something that Tern needs is not in the metadata.
    #[error(transparent)]
    Lacking(#[from] TufError),
    /// The version is not among the signed targets.
    #[error("{0} is not among its team's signed targets")]
    UnknownTarget(String),
    /// Director and publishers name different manifests.
    #[error("the demanded manifest {demanded} is not the signed one, {signed}")]
    OtherManifest {
        /// What the desired state names.
        demanded: Digest,
        /// What the targets role names.
        signed: String,
    },
    /// What the team says of its versions is not of its form.
    #[error(transparent)]
    Standing(#[from] InvalidStanding),
    /// The team says that the version may not run.
    #[error(transparent)]
    Disallowed(#[from] Disallowed),
    /// The manifest cannot be had, or is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl TrustError {
    /// The code of a refusal for this.
    pub fn code(&self) -> RefusalCode {
        use sigstore_tuf::Error as Tuf;
        match self {
            Self::Tuf(Tuf::Expired { .. }) => RefusalCode::Expired,
            Self::Tuf(Tuf::Rollback { .. }) | Self::BelowFloor { .. } => RefusalCode::Rollback,
            Self::Tuf(Tuf::Transport { .. }) => RefusalCode::Fetch,
            Self::Cache(_) | Self::Floors(_) | Self::Tuf(Tuf::Io { .. }) => RefusalCode::FloorUnreadable,
            Self::Tuf(_)
            | Self::Lacking(_)
            | Self::Standing(_)
            | Self::ImplausibleTime { .. }
            | Self::Authorities(_) => RefusalCode::Metadata,
            Self::Disallowed(Disallowed::Recalled { .. }) => RefusalCode::Recalled,
            Self::Disallowed(Disallowed::BelowFloor { .. }) => RefusalCode::BelowFloor,
            Self::UnknownTarget(_) => RefusalCode::UnknownTarget,
            Self::OtherManifest { .. } | Self::Manifest(ManifestError::DigestMismatch) => RefusalCode::ManifestDigest,
            Self::Manifest(_) => RefusalCode::Manifest,
        }
    }
}

impl From<TrustError> for Refusal {
    fn from(error: TrustError) -> Self {
        Self::new(error.code(), &error)
    }
}

/// The device's view of the repository.
pub struct Trust {
    client: Client,
    /// Who is asked for metadata.
    metadata: Sources<Arc<dyn Repository>>,
    /// Who is asked for manifests.
    targets: Sources<Arc<dyn Repository>>,
    clock: DeviceClock,
    online: Mutex<OnlineKeys>,
    /// One refresh at a time: each compares with the floors that the one before raised.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// The view that starts from the pinned root and what the cache in `state_dir/tuf` adds to it. No network. `sources` are
    /// in the order for manifests: the server, which is asked first for metadata, comes last.
    ///
    /// # Errors
    /// Where the root does not verify or names no director.
    pub fn open(
        sources: Sources<Arc<dyn Repository>>,
        state_dir: &Path,
        root: Vec<u8>,
        store: Store,
        clock: DeviceClock,
    ) -> Result<Self, TrustError> {
        let folder = state_dir.join("tuf");
        let client = Client::new(&folder, &folder, root, store);
        let first = client.updater(Heard::new(Arc::clone(sources.first())))?;
        let online = Mutex::new(OnlineKeys::of(first.trusted().root())?);
        let metadata = sources.clone().last_first();
        let trust = Self { client, metadata, targets: sources, clock, online, turn: tokio::sync::Mutex::new(()) };
        trust.tell_time();
        Ok(trust)
    }

    /// The root that enrolment pinned.
    pub fn pinned_root(&self) -> &[u8] {
        self.client.root()
    }

    /// The keys that sign desired states.
    pub fn director(&self) -> KeySet {
        self.online().director.clone()
    }

    fn online(&self) -> MutexGuard<'_, OnlineKeys> {
        self.online.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the clock's floor to what is durable now.
    pub fn tell_time(&self) {
        // Under the lock: whoever comes last has seen everything.
        let online = self.online();
        self.clock.set(self.client.store().read(|s| s.time(&online)));
    }

    /// How often a timestamp came under the version of another one, since the start.
    pub fn equivocations(&self) -> u64 {
        self.client.equivocations()
    }

    /// How each source stands.
    pub fn sources(&self) -> Vec<SourcePage> {
        self.targets.pages()
    }

    /// Brings every top-level role up to date.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn refresh(&self) -> Result<(), TrustError> {
        let _turn = self.turn.lock().await;
        self.ask(Question::Newest).await.map(drop)
    }

    /// The manifest of a demanded version and its bytes, after everything about it was verified.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn manifest(&self, wanted: &DesiredModel) -> Result<(Manifest, Vec<u8>), TrustError> {
        let _turn = self.turn.lock().await;
        let version = wanted.model_version();
        let listed = self.ask(Question::Version(wanted)).await?;
        let target = listed.ok_or_else(|| TrustError::UnknownTarget(version.to_string()))?;
        if target.length > manifest::MAX_BYTES as u64 {
            let length = usize::try_from(target.length).unwrap_or(usize::MAX);
            return Err(ManifestError::TooLarge(length).into());
        }
        let bytes = self.fetched(&wanted.target_path(), &wanted.manifest, target.length).await?;
        let manifest = Manifest::from_target(&bytes, &version, &wanted.manifest)?;
        Ok((manifest, bytes))
    }

    /// What the verified role of its team says of a demanded version.
    async fn listed(&self, repository: &Arc<dyn Repository>, wanted: &DesiredModel) -> Result<TargetFile, TrustError> {
        let mut updater = self.refreshed(repository).await?;
        let version = wanted.model_version();
        let target = updater.get_target_info(&wanted.target_path(), self.clock.now()).await?;
        self.hold_team(&mut updater, &version.name.team, wanted.candidate, std::slice::from_ref(&wanted.model)).await?;
        self.client.store().read(|s| s.standing(&wanted.model)).allows(&wanted.version)?;
        let target = target.ok_or_else(|| TrustError::UnknownTarget(version.to_string()))?;
        let signed = target.hashes.get("sha256").cloned().unwrap_or_default();
        if signed != wanted.manifest.to_string() {
            return Err(TrustError::OtherManifest { demanded: wanted.manifest, signed });
        }
        Ok(target)
    }

    async fn refreshed(&self, repository: &Arc<dyn Repository>) -> Result<Updater, TrustError> {
        let before = self.clock.floor();
        let (mut updater, mut outcome) = self.updated(repository).await?;
        if outcome.is_err() && self.clock.floor() < before {
            // By the time that a key vouched for which is out now, everything else may have expired.
            (updater, outcome) = self.updated(repository).await?;
        }
        outcome?;
        let timestamp = updater.trusted().timestamp().ok_or(TufError::Missing("timestamp"))?;
        let issued = tuf::issued(&timestamp.extra).ok_or(TufError::Missing(tuf::ISSUED))?;
        let floor = self.clock.floor();
        // Refused and not clamped: a clamped one would raise the floor once more at every refresh, to any time in the end.
        if issued > desired::latest_believed(floor) {
            return Err(TrustError::ImplausibleTime { issued, floor });
        }
        self.client.hold(&updater, &[], Some(issued)).await?;
        self.tell_time();
        Ok(updater)
    }

    /// A refresh, after which the online keys and the time follow root, also where all the rest of it failed.
    async fn updated(
        &self,
        repository: &Arc<dyn Repository>,
    ) -> Result<(Updater, Result<(), sigstore_tuf::Error>), TrustError> {
        let (updater, outcome) = self.client.refresh(repository, self.clock.now()).await?;
        *self.online() = OnlineKeys::of(updater.trusted().root())?;
        self.tell_time();
        Ok((updater, outcome))
    }
}

/// The consistent-snapshot path below the targets' address.
fn path_of(path: &str, digest: &Digest) -> String {
    let whole = tern_protocol::api::target_path(path, digest);
    whole.trim_start_matches(tern_protocol::api::TUF_TARGETS).to_owned()
}

#[cfg(test)]
mod standings_tests;
#[cfg(test)]
mod tests;
