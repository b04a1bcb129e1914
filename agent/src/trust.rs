//! What the device believes: TUF metadata, its floors, manifests.
//!
//! Order of every refresh: root chain, timestamp, snapshot, targets (all by `sigstore-tuf`); then our own: the signed time
//! must be plausible; nothing may have failed to reach the cache; no role may lie below its recorded floor; floors and time are raised durably; only then is
//! anything acted on. A wiped or unreadable cache therefore costs a download and never a floor. The director's keys follow
//! root as soon as a newer root verifies.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use sigstore_tuf::{Repository, Updater};
use tern_protocol::{
    desired::{self, DesiredModel},
    digest::Digest,
    keys::KeySet,
    manifest::{self, Manifest, ManifestError},
    refusal::RefusalCode,
    standing::{Disallowed, InvalidStanding},
    tuf::{self, TufError},
};

use crate::{
    clock::DeviceClock,
    http,
    install::Refusal,
    store::{Store, StoreError},
};

mod cache;
pub(crate) mod client;
mod known;
mod repository;
mod standings;
use client::Client;
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

impl From<TrustError> for Refusal {
    fn from(error: TrustError) -> Self {
        use sigstore_tuf::Error as Tuf;
        let code = match &error {
            TrustError::Tuf(Tuf::Expired { .. }) => RefusalCode::Expired,
            TrustError::Tuf(Tuf::Rollback { .. }) | TrustError::BelowFloor { .. } => RefusalCode::Rollback,
            TrustError::Tuf(Tuf::Transport { .. }) => RefusalCode::Fetch,
            TrustError::Cache(_) | TrustError::Floors(_) | TrustError::Tuf(Tuf::Io { .. }) => {
                RefusalCode::FloorUnreadable
            }
            TrustError::Tuf(_)
            | TrustError::Lacking(_)
            | TrustError::Standing(_)
            | TrustError::ImplausibleTime { .. } => RefusalCode::Metadata,
            TrustError::Disallowed(Disallowed::Recalled { .. }) => RefusalCode::Recalled,
            TrustError::Disallowed(Disallowed::BelowFloor { .. }) => RefusalCode::BelowFloor,
            TrustError::UnknownTarget(_) => RefusalCode::UnknownTarget,
            TrustError::OtherManifest { .. } | TrustError::Manifest(ManifestError::DigestMismatch) => {
                RefusalCode::ManifestDigest
            }
            TrustError::Manifest(_) => RefusalCode::Manifest,
        };
        Self::new(code, &error)
    }
}

/// The device's view of the repository.
pub struct Trust {
    client: Client,
    clock: DeviceClock,
    director: Mutex<KeySet>,
    /// One refresh at a time: each compares with the floors that the one before raised.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// The view that starts from the pinned root and what the cache in `state_dir/tuf` adds to it. No network.
    ///
    /// # Errors
    /// Where the root does not verify or names no director.
    pub fn open(
        repository: Arc<dyn Repository>,
        state_dir: &Path,
        root: Vec<u8>,
        store: Store,
        clock: DeviceClock,
    ) -> Result<Self, TrustError> {
        let folder = state_dir.join("tuf");
        let client = Client::new(repository, &folder, &folder, root, store);
        let director = Mutex::new(tuf::director_keys(client.updater()?.trusted().root())?);
        Ok(Self { client, clock, director, turn: tokio::sync::Mutex::new(()) })
    }

    /// The root that enrolment pinned.
    pub fn pinned_root(&self) -> &[u8] {
        self.client.root()
    }

    /// The keys that sign desired states.
    pub fn director(&self) -> KeySet {
        self.director.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings every top-level role up to date.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn refresh(&self) -> Result<(), TrustError> {
        let _turn = self.turn.lock().await;
        self.refreshed().await.map(drop)
    }

    /// The manifest of a demanded version and its bytes, after everything about it was verified.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn manifest(&self, wanted: &DesiredModel) -> Result<(Manifest, Vec<u8>), TrustError> {
        let _turn = self.turn.lock().await;
        let mut updater = self.refreshed().await?;
        let version = wanted.model_version();
        let path = wanted.target_path();
        let target = updater.get_target_info(&path, self.clock.now()).await?;
        self.hold_team(&mut updater, &version.name.team, wanted.candidate, std::slice::from_ref(&wanted.model)).await?;
        self.client.store().read(|s| s.standing(&wanted.model)).allows(&wanted.version)?;
        let target = target.ok_or_else(|| TrustError::UnknownTarget(version.to_string()))?;
        let signed = target.hashes.get("sha256").cloned().unwrap_or_default();
        if signed != wanted.manifest.to_string() {
            return Err(TrustError::OtherManifest { demanded: wanted.manifest, signed });
        }
        if target.length > manifest::MAX_BYTES as u64 {
            let length = usize::try_from(target.length).unwrap_or(usize::MAX);
            return Err(ManifestError::TooLarge(length).into());
        }
        let repository = self.client.repository();
        let found = repository.fetch_target(&path_of(&path, &wanted.manifest), target.length).await?;
        let bytes = found.ok_or_else(|| sigstore_tuf::Error::transport(format!("{path} is not on the server")))?;
        let manifest = Manifest::from_target(&bytes, &version, &wanted.manifest)?;
        Ok((manifest, bytes))
    }

    async fn refreshed(&self) -> Result<Updater, TrustError> {
        let (updater, outcome) = self.client.refresh(self.clock.now()).await?;
        tuf::check_keys(updater.trusted(), &[])?;
        // The director follows a newer root even where the rest of the refresh fails.
        let keys = tuf::director_keys(updater.trusted().root())?;
        *self.director.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        outcome?;
        let timestamp = updater.trusted().timestamp().ok_or(TufError::Missing("timestamp"))?;
        let issued = timestamp.extra.get(tuf::ISSUED).and_then(|v| v.as_str()).and_then(|text| text.parse().ok());
        let issued: Timestamp = issued.ok_or(TufError::Missing(tuf::ISSUED))?;
        let floor = self.clock.floor();
        // Refused and not clamped: a clamped one would raise the floor once more at every refresh, to any time in the end.
        if issued > desired::latest_believed(floor) {
            return Err(TrustError::ImplausibleTime { issued, floor });
        }
        self.client.hold(&updater, &[], Some(issued)).await?;
        self.clock.raise(issued);
        Ok(updater)
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
