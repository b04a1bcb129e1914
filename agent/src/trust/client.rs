//! The TUF client that the daemon and `tern-tuf-client` share: an updater for each refresh, the cache, and the floors.
//!
//! A refresh walks root chain, timestamp, snapshot, targets (`sigstore-tuf`). Root's floor is raised as soon as a newer root
//! verifies, also where the rest fails: it may be what takes a stolen key out. Everything else counts only after
//! [`Client::hold`]: all of it reached the cache, nothing lies below its floor, and the floors are raised durably. Time is
//! an argument; what Tern adds to TUF's roles is for [`super::Trust`].

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use sigstore_tuf::{Repository, Updater, UpdaterConfig};
use tern_protocol::tuf::{self, RoleFloor};

use super::{
    TrustError,
    cache::Cache,
    heard::Heard,
    recovery::{self, Before, Staged},
    standings::Said,
};
use crate::{state::Voucher, store::Store};

/// A client that trusts one chain of roots, whoever serves it.
pub(crate) struct Client {
    cache: Arc<Cache>,
    root: Vec<u8>,
    store: Store,
    equivocations: AtomicU64,
}

impl Client {
    /// The client that starts from the pinned `root`, with metadata in `metadata` and the chain of roots in `chain`.
    pub(crate) fn new(metadata: &Path, chain: &Path, root: Vec<u8>, store: Store) -> Self {
        Self { cache: Arc::new(Cache::new(metadata, chain)), root, store, equivocations: AtomicU64::new(0) }
    }

    /// How often a timestamp came under the version of another one, since the start.
    pub(crate) fn equivocations(&self) -> u64 {
        self.equivocations.load(Ordering::Relaxed)
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
    pub(crate) fn updater(&self, repository: impl Repository + 'static) -> Result<Updater, TrustError> {
        let updater = Updater::new(repository, &self.root)?;
        Ok(updater.with_config(UpdaterConfig::default()).with_store(self.cache.clone()))
    }

    /// Brings the top-level roles up to date. The updater comes back beside the outcome: root may be newer where the rest
    /// failed. Nothing but root counts before [`Self::hold`].
    ///
    /// # Errors
    /// Where floors or cache cannot be relied on, root goes backwards, or a role counts one key twice.
    pub(crate) async fn refresh(
        &self,
        repository: &Arc<dyn Repository>,
        now: Timestamp,
    ) -> Result<(Updater, Result<(), sigstore_tuf::Error>), TrustError> {
        if let Some(fault) = self.store.fault() {
            return Err(fault.into());
        }
        self.cache.forget_fault();
        // A new updater each time: it would not fetch a delegated role again that it holds already.
        let heard = Heard::new(repository.clone());
        let mut updater = self.updater(heard.clone())?;
        let mut outcome = updater.refresh(now).await;
        let root = updater.trusted().root();
        if self.store.read(|state| recovery::is_called_for(&outcome, root, |role, keys| state.floor(role, keys)))
            && let Some(other) = self.recovered(&heard, now).await?
        {
            (updater, outcome) = (other, Ok(()));
        }
        tuf::check_keys(updater.trusted(), &[])?;
        let floors = tuf::role_floors(updater.trusted(), &[]);
        let root: Vec<RoleFloor> = floors.into_iter().filter(|f| f.role == "root").collect();
        let issued = tuf::issued(&updater.trusted().root().extra).map(|issued| (Voucher::Root, issued));
        self.hold_floors(&root, issued, Vec::new()).await?;
        if outcome.is_ok() && heard.compare(updater.trusted()) {
            self.equivocations.fetch_add(1, Ordering::Relaxed);
        }
        Ok((updater, outcome))
    }

    /// A refresh without what was trusted last, if everything that goes back in it has new keys: see [`recovery`].
    async fn recovered(&self, repository: &Heard, now: Timestamp) -> Result<Option<Updater>, TrustError> {
        let before = Before::of(&self.cache);
        let staged = Staged::new(self.cache.clone());
        let updater = Updater::new(repository.clone(), &self.root)?;
        let mut updater = updater.with_config(UpdaterConfig::default()).with_store(staged.clone());
        if updater.refresh(now).await.is_err() {
            return Ok(None);
        }
        tuf::check_keys(updater.trusted(), &[])?;
        let seen = tuf::role_floors(updater.trusted(), &[]);
        let refused = self.store.read(|state| {
            let same_keys = before.goes_back(updater.trusted(), |f| state.floor(&f.role, &f.key_set));
            same_keys.is_some() || state.below_floor(&seen).is_some()
        });
        if refused {
            return Ok(None);
        }
        tracing::warn!("roles go back under new keys: a counter that was run to its end is taken back");
        staged.let_through();
        Ok(Some(updater))
    }

    /// Checks what was verified against its floors and raises those, and the floor of time that the timestamp's keys vouch
    /// for to `issued`, durably: before anything is acted on. `delegated` are the delegated roles to include, loaded before.
    ///
    /// # Errors
    /// [`TrustError::Cache`], [`TrustError::BelowFloor`], [`TrustError::Floors`].
    pub(crate) async fn hold(
        &self,
        updater: &Updater,
        delegated: &[&str],
        issued: Option<Timestamp>,
    ) -> Result<(), TrustError> {
        let keys = tuf::top_key_set(updater.trusted().root(), "timestamp");
        let issued = keys.map(Voucher::Timestamp).zip(issued);
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
        issued: Option<(Voucher, Timestamp)>,
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
                if let Some((voucher, issued)) = issued {
                    state.raise_time(voucher, issued);
                }
            })
            .await?;
        Ok(())
    }
}
