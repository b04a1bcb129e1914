//! Which versions are loaded and which one answers for its model.
//!
//! Readers take an `Arc` of the whole table and never wait for a load; a swap replaces the table. A request holds a permit
//! of its slot from the moment it chose it until its counters are folded, so that a drain knows when it is the last.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use tern_engine::Model;
use tern_protocol::{canonical, digest::Digest, frames, manifest::Manifest, watch::Watch};
use tern_stats::profile::Profile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    counters::Counters, failure::Failure, ids::Ids, ledger::Ledger, predictions::Predictions, rules::Rules,
    uplink::Uplink,
};

/// More than requests can ever be at once.
const PERMITS: u32 = 1 << 20;

/// A loaded version.
pub(super) struct Loaded {
    pub(super) slot: frames::Slot,
    pub(super) manifest: Manifest,
    pub(super) model_name: String,
    pub(super) version: String,
    /// SHA-256 of the contract's canonical JSON, in hex.
    pub(super) contract_digest: String,
    pub(super) model: Model,
    pub(super) inputs: Vec<Rules>,
    pub(super) outputs: Vec<Rules>,
    pub(super) counters: Counters,
    pub(super) ledger: Ledger,
    pub(super) predictions: Predictions,
    pub(super) ids: Ids,
    permits: Arc<Semaphore>,
}

impl Loaded {
    /// A version that passed [`crate::admit::admit`].
    pub(super) fn new(slot: frames::Slot, manifest: Manifest, model: Model, profile: Option<&Profile>) -> Self {
        let canonical = canonical::document(&manifest.contract).unwrap_or_default();
        Self {
            slot,
            model_name: manifest.model.name.model.to_string(),
            version: manifest.model.version.to_string(),
            contract_digest: Digest::of(&canonical).to_string(),
            inputs: manifest.contract.inputs.iter().map(Rules::new).collect(),
            outputs: manifest.contract.outputs.iter().map(Rules::new).collect(),
            ledger: Ledger::new(Watch::new(&manifest.contract), profile),
            predictions: Predictions::default(),
            ids: Ids::new(),
            model,
            manifest,
            counters: Counters::default(),
            permits: Arc::new(Semaphore::new(PERMITS as usize)),
        }
    }

    /// Tells control what happened since the last time; returns whether all of it went.
    pub(super) fn report(&self, uplink: &Uplink) -> bool {
        self.ledger.report(self.slot, &self.counters, &self.predictions, |increment| uplink.offer_increment(increment))
    }

    /// Returns once no request holds this version any more.
    pub(super) async fn idle(&self) {
        // Fails only on a closed semaphore; this one is never closed.
        let _ = self.permits.acquire_many(PERMITS).await;
    }
}

/// A loaded version and the proof that it will not go away.
pub(super) struct Held {
    pub(super) loaded: Arc<Loaded>,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    fn new(loaded: Arc<Loaded>) -> Result<Self, Failure> {
        let permit = Arc::clone(&loaded.permits).try_acquire_owned().map_err(|_| Failure::Overload)?;
        Ok(Self { loaded, _permit: permit })
    }
}

#[derive(Default, Clone)]
struct Table {
    loaded: BTreeMap<frames::Slot, Arc<Loaded>>,
    /// By model name; the last one of each list answers, those before it answered once and are still loaded.
    active: BTreeMap<String, Vec<Arc<Loaded>>>,
    /// Models of which nothing answers, and why, as control says.
    silent: BTreeMap<String, String>,
}

#[derive(Default)]
pub(super) struct Slots(RwLock<Arc<Table>>);

impl Slots {
    fn read(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut table))
    }

    pub(super) fn insert(&self, loaded: Loaded) {
        self.change(|table| table.loaded.insert(loaded.slot, Arc::new(loaded)));
    }

    /// Makes a loaded version the one that answers; false where it is not loaded.
    pub(super) fn activate(&self, slot: frames::Slot) -> bool {
        self.change(|table| {
            let Some(loaded) = table.loaded.get(&slot).cloned() else { return false };
            let line = table.active.entry(loaded.model_name.clone()).or_default();
            line.retain(|other| other.slot != slot);
            line.push(loaded);
            true
        })
    }

    /// Takes over which models answer nothing for now, and why.
    pub(super) fn silence(&self, models: Vec<(String, String)>) {
        self.change(|table| table.silent = models.into_iter().collect());
    }

    /// Takes a version out of the table; requests that hold it go on.
    pub(super) fn retire(&self, slot: frames::Slot) -> Option<Arc<Loaded>> {
        self.change(|table| {
            let loaded = table.loaded.remove(&slot)?;
            if let Some(line) = table.active.get_mut(&loaded.model_name) {
                line.retain(|other| other.slot != slot);
                if line.is_empty() {
                    table.active.remove(&loaded.model_name);
                }
            }
            Some(loaded)
        })
    }

    /// The version that answers for `model`, or `version` of it.
    pub(super) fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Loaded>, Failure> {
        let table = self.read();
        let Some(line) = table.active.get(model) else {
            let is_loaded = || table.loaded.values().any(|loaded| loaded.model_name == model);
            return Err(match table.silent.get(model) {
                Some(why) => Failure::Silent(why.clone()),
                None if is_loaded() => Failure::NotReady(model.to_owned()),
                None => Failure::UnknownModel(model.to_owned()),
            });
        };
        let wanted = line.iter().rev().find(|loaded| version.is_none_or(|version| loaded.version == version));
        wanted.cloned().ok_or_else(|| Failure::UnknownVersion {
            model: model.to_owned(),
            version: version.unwrap_or_default().to_owned(),
            active: line.last().map(|loaded| loaded.version.clone()).unwrap_or_default(),
        })
    }

    /// The same, held for a request.
    pub(super) fn hold(&self, model: &str, version: Option<&str>) -> Result<Held, Failure> {
        Held::new(self.find(model, version)?)
    }

    /// All versions of `model` that answered and are still loaded, or `version` of it; the newest first, each held.
    pub(super) fn hold_all(&self, model: &str, version: Option<&str>) -> Result<Vec<Held>, Failure> {
        self.find(model, version)?;
        let table = self.read();
        let line = table.active.get(model).into_iter().flatten().rev();
        let wanted = line.filter(|loaded| version.is_none_or(|version| loaded.version == version));
        wanted.cloned().map(Held::new).collect()
    }

    /// Versions of `model` that can be asked, the one that answers last.
    pub(super) fn versions(&self, model: &str) -> Vec<String> {
        let table = self.read();
        table.active.get(model).into_iter().flatten().map(|loaded| loaded.version.clone()).collect()
    }

    /// Whether every model that is loaded here has a version that answers.
    pub(super) fn all_ready(&self) -> bool {
        let table = self.read();
        table.loaded.values().all(|loaded| table.active.contains_key(&loaded.model_name))
    }

    pub(super) fn all(&self) -> Vec<Arc<Loaded>> {
        self.read().loaded.values().cloned().collect()
    }
}
