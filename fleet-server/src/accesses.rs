//! The access log: who read models, and which requests were refused; appended to, never changed.
//!
//! A granted read is durable before its first byte leaves: where it cannot be recorded, the read is refused. What a device
//! fetches for one reason (the generation that demands it) is one row, however many parts it comes in. The same thing of the
//! same caller within a minute is one row and then one more with the count ([`merge`]), so that a flood fills no disk;
//! a kill loses at most such a count, never the first of a kind. When the store is slow, whoever notes waits.
//!
//! Later: retention. Nothing is deleted yet.

mod merge;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tern_protocol::ids::{DeviceId, ModelName, ModelVersion, Version};

use crate::{
    clock,
    store::{Store, StoreError},
};
use merge::Merger;

/// Longest text that a caller chose, in characters; the rest is cut.
const MAX_TEXT: usize = 200;
/// Fetches of devices that are remembered as recorded; beyond, all are forgotten, which costs a write and no second row.
const KNOWN: usize = 65_536;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// The holder of the token of this name.
    Operator(String),
    /// A device, by its certificate.
    Device(DeviceId),
    /// Somebody without a name, from this address; of IPv6 the network's 64 bits, for one host has all addresses in it.
    Stranger(IpAddr),
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A blob of a bundle.
    ReadBlob,
    /// A version's manifest.
    ReadManifest,
    /// Any other request; its route is the reason.
    Request,
}

impl Action {
    /// The action as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadBlob => "read-blob",
            Self::ReadManifest => "read-manifest",
            Self::Request => "request",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was given.
    Granted,
    /// It was refused, with this code.
    Refused(&'static str),
}

/// One access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// Who asked.
    pub who: Who,
    /// For what.
    pub action: Action,
    /// Of what: `vision/digits@1.2.0`, a blob's digest, an address of the interface.
    pub resource: String,
    /// The model it concerns, where that is known.
    pub model: Option<ModelName>,
    /// The version it concerns, where that is known.
    pub version: Option<Version>,
    /// Why: the demand's generation, a proposal, the operator's own words, or the route.
    pub reason: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Access {
    /// A granted read of something.
    pub fn granted(who: Who, action: Action, resource: impl ToString, reason: impl Into<String>) -> Self {
        let (resource, reason) = (resource.to_string(), reason.into());
        Self { who, action, resource, model: None, version: None, reason, outcome: Outcome::Granted }
    }

    /// A refused request.
    pub fn refused(
        who: Who,
        action: Action,
        resource: impl ToString,
        reason: impl Into<String>,
        code: &'static str,
    ) -> Self {
        Self { outcome: Outcome::Refused(code), ..Self::granted(who, action, resource, reason) }
    }

    /// Of a version.
    #[must_use]
    pub fn of(self, version: &ModelVersion) -> Self {
        Self { model: Some(version.name.clone()), version: Some(version.version.clone()), ..self }
    }

    /// What callers choose is cut before it is held, or compared with what else there is.
    fn bounded(self) -> Self {
        let who = match self.who {
            Who::Stranger(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Who::Stranger(Ipv6Addr::from_bits(network).into())
            }
            who => who,
        };
        Self { who, resource: cut(&self.resource), reason: cut(&self.reason), ..self }
    }

    fn is_fetch(&self) -> bool {
        matches!((&self.who, self.outcome), (Who::Device(_), Outcome::Granted))
    }
}

/// Where accesses are noted.
#[derive(Debug)]
pub struct Accesses {
    store: Arc<Store>,
    merger: Mutex<Merger>,
    known: Mutex<HashSet<Access>>,
}

impl Accesses {
    /// The log in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, merger: Mutex::default(), known: Mutex::default() }
    }

    /// Notes an access; returns once it is durable, or counted beside its like.
    ///
    /// # Errors
    /// [`StoreError`]: it is not recorded. A granted read must then be refused.
    pub async fn note(&self, access: Access) -> Result<(), StoreError> {
        let access = access.bounded();
        if access.is_fetch() {
            return self.note_fetch(access).await;
        }
        let rows = lock(&self.merger).note(access, clock::now());
        let Some((newest, _)) = rows.last().cloned() else { return Ok(()) };
        let recorded = self.store.record_accesses(rows, clock::now()).await;
        let mut merger = lock(&self.merger);
        match recorded {
            Ok(()) => merger.recorded(&newest),
            Err(_) => merger.forget(&newest),
        }
        recorded
    }

    async fn note_fetch(&self, access: Access) -> Result<(), StoreError> {
        if lock(&self.known).contains(&access) {
            return Ok(());
        }
        self.store.record_accesses(vec![(access.clone(), 1)], clock::now()).await?;
        let mut known = lock(&self.known);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(access);
        Ok(())
    }

    /// Records the counts whose minute is over; `all` where the server stops.
    ///
    /// # Errors
    /// [`StoreError`]: the counts are lost, which the caller logs.
    pub async fn settle(&self, all: bool) -> Result<(), StoreError> {
        let due = lock(&self.merger).due(clock::now(), all);
        if due.is_empty() { Ok(()) } else { self.store.record_accesses(due, clock::now()).await }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AccessQuery;

    fn scratch() -> (tempfile::TempDir, Arc<Store>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("server.db")).unwrap());
        (folder, store)
    }

    fn fetch(generation: u64) -> Access {
        let device = Who::Device("cam-1".parse().unwrap());
        let access = Access::granted(device, Action::ReadBlob, "d", format!("generation {generation}"));
        access.of(&"demo/m@1.0.0".parse().unwrap())
    }

    fn read() -> Access {
        Access::granted(Who::Operator("ann".into()), Action::ReadBlob, "d", "r")
    }

    async fn rows(store: &Store) -> Vec<(String, u64)> {
        let query = AccessQuery { limit: 100, ..AccessQuery::default() };
        store.accesses(query).await.unwrap().into_iter().map(|row| (row.reason, row.times)).collect()
    }

    #[tokio::test]
    async fn a_fetch_is_one_row_for_its_reason_also_after_a_restart() {
        let (_folder, store) = scratch();
        for _ in 0..2 {
            // A new log knows nothing of the one before.
            let accesses = Accesses::new(store.clone());
            for generation in [7, 7, 8, 7] {
                accesses.note(fetch(generation)).await.unwrap();
            }
        }
        assert_eq!(rows(&store).await, [("generation 7".into(), 1), ("generation 8".into(), 1)]);
    }

    #[tokio::test]
    async fn repeats_are_counted_and_written_in_the_end() {
        let (_folder, store) = scratch();
        let accesses = Accesses::new(store.clone());
        for _ in 0..5 {
            accesses.note(read()).await.unwrap();
        }
        assert_eq!(rows(&store).await, [("r".into(), 1)]);
        accesses.settle(true).await.unwrap();
        accesses.settle(true).await.unwrap();
        assert_eq!(rows(&store).await, [("r".into(), 1), ("r".into(), 4)]);
    }

    #[tokio::test]
    async fn what_is_not_recorded_says_so_every_time() {
        let (_folder, store) = scratch();
        store.close().await;
        let accesses = Accesses::new(store);
        for _ in 0..2 {
            assert!(matches!(accesses.note(fetch(7)).await, Err(StoreError::Stopped)));
            assert!(matches!(accesses.note(read()).await, Err(StoreError::Stopped)));
        }
    }

    #[tokio::test]
    async fn what_callers_choose_is_cut() {
        let (_folder, store) = scratch();
        let accesses = Accesses::new(store.clone());
        let long = "ä".repeat(5000);
        let who = Who::Stranger(std::net::Ipv4Addr::LOCALHOST.into());
        accesses.note(Access::refused(who, Action::Request, &long, &long, "bad-token")).await.unwrap();
        let row = store.accesses(AccessQuery { limit: 1, ..AccessQuery::default() }).await.unwrap().remove(0);
        assert_eq!((row.resource.chars().count(), row.reason.chars().count()), (200, 200));
        assert_eq!((row.actor.as_str(), row.address.as_str(), row.code.as_str()), ("-", "127.0.0.1", "bad-token"));
    }

    #[tokio::test]
    async fn one_host_of_ipv6_is_one_stranger() {
        let (_folder, store) = scratch();
        let accesses = Accesses::new(store.clone());
        for host in ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "::ffff:10.0.0.1"] {
            let who = Who::Stranger(host.parse().unwrap());
            accesses.note(Access::refused(who, Action::Request, "/a", "r", "bad-token")).await.unwrap();
        }
        let query = AccessQuery { limit: 100, ..AccessQuery::default() };
        let addresses: Vec<_> = store.accesses(query).await.unwrap().into_iter().map(|row| row.address).collect();
        assert_eq!(addresses, ["2001:db8::", "2001:db8:0:1::", "::ffff:10.0.0.1"]);
    }
}
