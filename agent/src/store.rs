//! The durable record: `state.db` and its checksummed second copy `state.copy`.
//!
//! Every change is one SQLite transaction (WAL, `synchronous=FULL`) and then one rewrite of the copy; both carry a seal over
//! the whole state. At start the newer of those whose seal holds counts, and the other is made from it: a database that lost
//! the end of its journal is whole, sealed and old. Where neither holds the floors are unreadable: what `serving.json` names
//! goes on serving, and nothing is installed until the device is rescued or enrolled again. A write that fails is latched the
//! same way, for a floor that may not have become durable is no floor. SQL is in [`database`] only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;
use tern_protocol::{ids::ModelName, twin::ModelState};

use crate::{
    disk::Reserve,
    state::{ModelRecord, State},
};

mod copy;
mod database;
mod serving;

/// Why the record cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Neither the database nor its copy can be read.
    #[error(
        "neither state.db nor state.copy can be read ({0}): what serves goes on, nothing is installed; run \
         `tern-agent rescue` and have the ticket signed that it asks for, or enrol the device again"
    )]
    Unreadable(String),
    /// A change could not be made durable.
    #[error("state.db cannot be written ({0}); free some disk space or replace the disk, then restart the agent")]
    Unwritable(String),
}

/// Where the state came from at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The database.
    Database,
    /// The copy, because the database could not be read or lacked changes that the copy holds.
    Copy,
    /// Nowhere: floors are unreadable.
    Nowhere,
}

/// The one writer of the durable record. Cloning gives another handle to it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    origin: Origin,
}

#[derive(Debug)]
struct Inner {
    database: Option<database::Database>,
    state: State,
    /// What `serving.json` says; none where that is not known.
    serving: Option<serving::Serving>,
    fault: Option<StoreError>,
    folder: PathBuf,
    reserve: Reserve,
}

impl Store {
    /// Makes the record of a newly enrolled device, in place of any that is there and can be read: its sequence must be
    /// higher than theirs, or a power cut in between brings them back.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`].
    pub fn create(state_dir: &Path, state: &State) -> Result<(), StoreError> {
        let unwritable = |e: anyhow::Error| StoreError::Unwritable(format!("{e:#}"));
        database::set_aside(state_dir).map_err(unwritable)?;
        let mut database = database::Database::open(state_dir).map_err(unwritable)?;
        // Before the floors, which put an end to what is served without them.
        serving::save(state_dir, &serving::of(state)).map_err(|e| unwritable(e.into()))?;
        database.save(state).map_err(unwritable)?;
        copy::save(state_dir, state).map_err(|e| unwritable(e.into()))
    }

    /// Opens the record. It always opens: [`Store::fault`] says whether it can be relied on.
    pub fn open(state_dir: &Path) -> Self {
        let database = database::Database::open_existing(state_dir).and_then(|mut d| d.load().map(|s| (d, s)));
        let reserve = Reserve::new(state_dir);
        let (inner, origin) = match (database, copy::load(state_dir)) {
            (Ok((database, state)), Ok(copy)) if copy.sequence > state.sequence => {
                let (lost, kept) = (state.sequence, copy.sequence);
                tracing::error!(
                    "state.db ends at change {lost}, state.copy holds {kept}: state.db is restored from it"
                );
                // Closed before its files are moved, so that its journal does not land in the next one.
                drop(database);
                (Self::restored(state_dir, reserve, copy), Origin::Copy)
            }
            (Ok((database, state)), _) => (Inner::sound(Some(database), state, state_dir, reserve), Origin::Database),
            (Err(error), Ok(copy)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "state.db cannot be read: it is restored from state.copy"
                );
                (Self::restored(state_dir, reserve, copy), Origin::Copy)
            }
            (Err(error), Err(second)) => {
                let fault = StoreError::Unreadable(format!("{error:#}; {second:#}"));
                tracing::error!(error = %fault, "floors are unreadable: serving goes on, installs are refused");
                let state = State::new(None, Timestamp::UNIX_EPOCH);
                let inner = Inner::sound(None, state, state_dir, reserve);
                (Inner { fault: Some(fault), ..inner }, Origin::Nowhere)
            }
        };
        let store = Self { inner: Arc::new(Mutex::new(inner)), origin };
        if origin != Origin::Nowhere {
            // They may differ by the change that a power cut fell into.
            let mut inner = store.locked();
            if let Err(error) = copy::save(state_dir, &inner.state) {
                tracing::warn!(%error, "cannot refresh state.copy");
            }
            inner.serving = serving::load(state_dir).ok();
            inner.keep_serving();
        }
        store
    }

    /// A new database with the state of the copy.
    fn restored(state_dir: &Path, reserve: Reserve, state: State) -> Inner {
        let rebuilt = database::set_aside(state_dir).and_then(|()| {
            let mut database = database::Database::open(state_dir)?;
            database.save(&state)?;
            Ok(database)
        });
        let mut inner = Inner::sound(None, state, state_dir, reserve);
        match rebuilt {
            Ok(database) => inner.database = Some(database),
            Err(e) => inner.fault = Some(StoreError::Unwritable(format!("{e:#}"))),
        }
        inner
    }

    /// A look at the state, without becoming its writer; none where it cannot be read.
    pub fn peek(state_dir: &Path) -> Option<State> {
        let database = database::Database::open_existing(state_dir).and_then(|mut d| d.load());
        match (database, copy::load(state_dir)) {
            (Ok(database), Ok(copy)) if copy.sequence > database.sequence => Some(copy),
            (Ok(database), _) => Some(database),
            (Err(_), copy) => copy.ok(),
        }
    }

    /// What goes on serving though the floors cannot be read: active and proven, and nothing demanded.
    ///
    /// # Errors
    /// Where that cannot be read either: then nothing may serve.
    pub fn last_served(state_dir: &Path, now: Timestamp) -> anyhow::Result<BTreeMap<ModelName, ModelRecord>> {
        let record = |active| ModelRecord {
            active: Some(active),
            proven: true,
            state: ModelState::Committed,
            ..ModelRecord::new(now)
        };
        Ok(serving::load(state_dir)?.into_iter().map(|(name, active)| (name, record(active))).collect())
    }

    /// Where the state came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Makes a new record in place of one that cannot be read. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`]; the record is as unreadable as before then.
    ///
    /// # Panics
    /// Where the record can be read.
    pub fn renew(&self, state: State) -> Result<(), StoreError> {
        let mut inner = self.locked();
        assert!(matches!(inner.fault, Some(StoreError::Unreadable(_))), "invariant: only a lost record is renewed");
        inner.reserve.release();
        Self::create(&inner.folder, &state)?;
        let opened = database::Database::open_existing(&inner.folder);
        inner.database = Some(opened.map_err(|e| StoreError::Unwritable(format!("{e:#}")))?);
        (inner.serving, inner.state, inner.fault) = (Some(serving::of(&state)), state, None);
        Ok(())
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.locked().state.clone()
    }

    /// What is asked of the present state, without a copy of it.
    pub fn read<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        ask(&self.locked().state)
    }

    /// Why nothing may be installed, if so.
    pub fn fault(&self) -> Option<StoreError> {
        self.locked().fault.clone()
    }

    /// Changes the state. When this returns well, the change is on the disk.
    ///
    /// # Errors
    /// The fault; from the first one on, nothing changes any more until a restart.
    pub async fn update<F>(&self, change: F) -> Result<(), StoreError>
    where
        F: FnOnce(&mut State) + Send + 'static,
    {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || store.update_blocking(change)).await;
        done.unwrap_or_else(|_| Err(StoreError::Unwritable("the writer panicked".into())))
    }

    /// [`Store::update`] for callers that may block.
    ///
    /// # Errors
    /// As there.
    pub fn update_blocking(&self, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let mut inner = self.locked();
        if let Some(fault) = &inner.fault {
            return Err(fault.clone());
        }
        let mut next = inner.state.clone();
        change(&mut next);
        if next == inner.state {
            return Ok(());
        }
        next.sequence += 1;
        inner.write(next)
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn sound(database: Option<database::Database>, state: State, folder: &Path, reserve: Reserve) -> Self {
        Self { database, state, serving: None, fault: None, folder: folder.into(), reserve }
    }

    /// Rewrites `serving.json` where it says something else than the state.
    fn keep_serving(&mut self) {
        let serving = serving::of(&self.state);
        if self.serving.as_ref() == Some(&serving) {
            return;
        }
        match serving::save(&self.folder, &serving) {
            Ok(()) => self.serving = Some(serving),
            Err(error) => tracing::warn!(%error, "cannot rewrite serving.json"),
        }
    }

    fn write(&mut self, next: State) -> Result<(), StoreError> {
        let database = self.database.as_mut().expect("invariant: without a fault there is a database");
        let mut saved = database.save(&next);
        if saved.is_err() {
            // The reserve exists for this moment.
            self.reserve.release();
            saved = database.save(&next);
        }
        if let Err(error) = saved {
            let fault = StoreError::Unwritable(format!("{error:#}"));
            tracing::error!(error = %fault, "a change could not be made durable: installs are refused");
            self.fault = Some(fault.clone());
            return Err(fault);
        }
        self.state = next;
        if let Err(error) = copy::save(&self.folder, &self.state) {
            // The database holds the change; the copy is older, never wrong, and `doctor` says so.
            tracing::warn!(%error, "cannot rewrite state.copy");
        }
        self.keep_serving();
        Ok(())
    }
}

/// What `doctor` says of `serving.json`: how many models it names.
///
/// # Errors
/// Why it cannot be read.
pub fn examine_serving(state_dir: &Path) -> Result<usize, String> {
    serving::load(state_dir).map(|models| models.len()).map_err(|e| format!("{e:#}"))
}

/// What `doctor` says of the two records, without opening them for writing: whether each can be read, and its sequence.
pub fn examine(state_dir: &Path) -> (Result<u64, String>, Result<u64, String>) {
    let database = database::Database::open_existing(state_dir).and_then(|mut d| d.load());
    let copy = copy::load(state_dir);
    (database.map(|s| s.sequence).map_err(|e| format!("{e:#}")), copy.map(|s| s.sequence).map_err(|e| format!("{e:#}")))
}

#[cfg(test)]
mod tests;
