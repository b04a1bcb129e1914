//! The TUF client that the daemon and `tern-tuf-client` share: an updater for each refresh, the cache, and the floors.
//!
//! A refresh walks root chain, timestamp, snapshot, targets (`sigstore-tuf`). Root's floor is raised as soon as a newer root
//! verifies, also where the rest fails: it may be what takes a stolen key out. Everything else counts only after
//! [`Client::hold`]: all of it reached the cache, nothing lies below its floor, and the floors are raised durably. Time is
//! an argument; what Tern adds to TUF's roles is for [`super::Trust`].

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use sigstore_tuf::{Repository, Updater, UpdaterConfig};
use tern_protocol::tuf::{self, RoleFloor};

use super::{TrustError, cache::Cache, repository::Shared, standings::Said};
use crate::store::Store;

/// A client of one repository.
pub(crate) struct Client {
    repository: Arc<dyn Repository>,
    cache: Arc<Cache>,
    root: Vec<u8>,
    store: Store,
}

impl Client {
    /// The client that starts from the pinned `root`, with metadata in `metadata` and the chain of roots in `chain`.
    pub(crate) fn new(
        repository: Arc<dyn Repository>,
        metadata: &Path,
        chain: &Path,
        root: Vec<u8>,
        store: Store,
    ) -> Self {
        Self { repository, cache: Arc::new(Cache::new(metadata, chain)), root, store }
    }

    /// Where metadata and targets come from.
    pub(crate) fn repository(&self) -> &dyn Repository {
        &*self.repository
    }

    /// The record that holds the floors.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The pinned root.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root
    }

    /// An updater that knows the pinned root and what the cache adds to it. No network.
    ///
    /// # Errors
    /// Where the pinned root does not verify.
    pub(crate) fn updater(&self) -> Result<Updater, TrustError> {
        let updater = Updater::new(Shared(self.repository.clone()), &self.root)?;
        Ok(updater.with_config(UpdaterConfig::default()).with_store(self.cache.clone()))
    }

    /// Brings the top-level roles up to date. The updater comes back beside the outcome: root may be newer where the rest
    /// failed. Nothing but root counts before [`Self::hold`].
    ///
    /// # Errors
    /// Where floors or cache cannot be relied on, or root goes backwards.
    pub(crate) async fn refresh(
        &self,
        now: Timestamp,
    ) -> Result<(Updater, Result<(), sigstore_tuf::Error>), TrustError> {
        if let Some(fault) = self.store.fault() {
            return Err(fault.into());
        }
        self.cache.forget_fault();
        // A new updater each time: it would not fetch a delegated role again that it holds already.
        let mut updater = self.updater()?;
        let outcome = updater.refresh(now).await;
        let floors = tuf::role_floors(updater.trusted(), &[]);
        let root: Vec<RoleFloor> = floors.into_iter().filter(|f| f.role == "root").collect();
        self.hold_floors(&root, None, Vec::new()).await?;
        Ok((updater, outcome))
    }

    /// Checks what was verified against its floors and raises those, and the floor of time to `issued`, durably: before
    /// anything is acted on. `delegated` are the delegated roles to include, loaded before.
    ///
    /// # Errors
    /// [`TrustError::Cache`], [`TrustError::BelowFloor`], [`TrustError::Floors`].
    pub(crate) async fn hold(
        &self,
        updater: &Updater,
        delegated: &[&str],
        issued: Option<Timestamp>,
    ) -> Result<(), TrustError> {
        self.hold_floors(&tuf::role_floors(updater.trusted(), delegated), issued, Vec::new()).await
    }

    /// The same for delegated roles, together with what one of them says of its models.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn hold_with(
        &self,
        updater: &Updater,
        delegated: &[&str],
        said: Vec<Said>,
    ) -> Result<(), TrustError> {
        self.hold_floors(&tuf::role_floors(updater.trusted(), delegated), None, said).await
    }

    async fn hold_floors(
        &self,
        seen: &[RoleFloor],
        issued: Option<Timestamp>,
        said: Vec<Said>,
    ) -> Result<(), TrustError> {
        if let Some(fault) = self.cache.fault() {
            return Err(TrustError::Cache(fault));
        }
        if let Some((role, floor)) = self.store.read(|s| s.below_floor(seen).map(|(f, floor)| (f.clone(), floor))) {
            return Err(TrustError::BelowFloor { role: role.role, found: role.version, floor });
        }
        let seen = seen.to_vec();
        self.store
            .update(move |state| {
                state.raise_floors(&seen);
                for Said { model, key_set, standing } in &said {
                    state.take_standing(model, *key_set, standing);
                }
                if let Some(issued) = issued {
                    state.raise_time(issued);
                }
            })
            .await?;
        Ok(())
    }
}
