//! The way back for a fleet whose counters a thief ran to their end.
//!
//! TUF lets no role go back while the snapshot or timestamp that was trusted last still verifies, which would make a counter
//! at its end final: rotating a team's keys alone would not bring its role back. Here, where a refresh fails on that
//! comparison and on nothing else, it is made once more without what was trusted last. Its outcome counts only where every
//! role that goes back has other keys than before, as root or targets now say, and lies above the floors of those keys.
//! Nothing of it reaches the cache before that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use sigstore_tuf::{Error, Metadata, MetadataStore, Result, Root, Snapshot, Targets, Timestamp, TrustedMetadataSet};
use tern_protocol::{
    digest::Digest,
    tuf::{self, RoleFloor},
};

use super::cache::Cache;

/// Whether a refresh failed only because something goes back that may. `floor` gives the floor of a role under a set of keys.
pub(super) fn is_called_for(outcome: &Result<()>, root: &Root, floor: impl Fn(&str, &Digest) -> u64) -> bool {
    match outcome {
        // Under keys that signed it before it may not, and then nothing further is asked for.
        Err(Error::Rollback { role, .. }) if role.ends_with("(via timestamp)") => {
            tuf::top_key_set(root, "snapshot").is_some_and(|keys| floor("snapshot", &keys) == 0)
        }
        // Which keys a team has stands in targets, which nobody has read yet.
        Err(Error::Rollback { role, .. }) => role.ends_with("(via snapshot)"),
        _ => false,
    }
}

/// What was trusted last, as the cache has it.
pub(super) struct Before {
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
}

impl Before {
    pub(super) fn of(cache: &Cache) -> Self {
        let bytes = |name| cache.load(name).ok().flatten().unwrap_or_default();
        Self {
            timestamp: Metadata::from_slice(&bytes("timestamp.json")).ok().map(Metadata::into_signed),
            snapshot: Metadata::from_slice(&bytes("snapshot.json")).ok().map(Metadata::into_signed),
            targets: Metadata::from_slice(&bytes("targets.json")).ok().map(Metadata::into_signed),
        }
    }

    /// The first role that goes back although its keys are what they were. `floor` gives the recorded floor of a role under
    /// its present keys, 0 where they are new.
    pub(super) fn goes_back(&self, trusted: &TrustedMetadataSet, floor: impl Fn(&RoleFloor) -> u64) -> Option<String> {
        let floors = tuf::role_floors(trusted, &[]);
        let is_known = |role: &str| floors.iter().find(|f| f.role == role).is_some_and(|f| floor(f) > 0);
        let version = |role: &str| floors.iter().find(|f| f.role == role).map_or(0, |f| f.version);
        let timestamp = self.timestamp.as_ref().map_or(0, |t| t.version);
        if version("timestamp") < timestamp && is_known("timestamp") {
            return Some("timestamp".into());
        }
        let pinned = self.timestamp.as_ref().and_then(|t| t.snapshot_meta()).map_or(0, |m| m.version);
        if version("snapshot") < pinned && is_known("snapshot") {
            return Some("snapshot".into());
        }
        let old = self.snapshot.iter().flat_map(|s| &s.meta);
        let new = trusted.snapshot().map(|s| &s.meta);
        let mut lowered = old.filter(|(file, old)| {
            let new = new.and_then(|new| new.get(*file)).map_or(0, |new| new.version);
            new < old.version
        });
        let same = lowered.find(|(file, _)| match file.strip_suffix(".json").unwrap_or(file) {
            "targets" => is_known("targets"),
            role => keys(self.targets.as_ref(), role) == keys(trusted.targets_role("targets"), role),
        });
        same.map(|(file, _)| file.clone())
    }
}

/// What counts for a delegated role; none where nobody delegates it.
fn keys(targets: Option<&Targets>, role: &str) -> Option<Digest> {
    tuf::delegated_key_set(targets?, role)
}

/// The cache without what was trusted last; what is stored waits until it is let through.
pub(super) struct Staged {
    cache: Arc<Cache>,
    /// None once everything goes straight through.
    waiting: Mutex<Option<BTreeMap<String, Vec<u8>>>>,
}

impl Staged {
    pub(super) fn new(cache: Arc<Cache>) -> Arc<Self> {
        Arc::new(Self { cache, waiting: Mutex::new(Some(BTreeMap::new())) })
    }

    /// Lets through what waits, and everything from now on. A failure is latched by the cache.
    pub(super) fn let_through(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (name, bytes) in waiting.into_iter().flatten() {
            let _ = self.cache.store(&name, &bytes);
        }
    }
}

impl MetadataStore for Staged {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match name {
            "timestamp.json" | "snapshot.json" | "targets.json" => Ok(None),
            _ => self.cache.load(name),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        // A newer root counts whatever becomes of the rest.
        let is_root = name == "root.json" || name.starts_with("root_history/");
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) if !is_root => drop(waiting.insert(name.to_owned(), bytes.to_vec())),
            _ => return self.cache.store(name, bytes),
        }
        Ok(())
    }
}
