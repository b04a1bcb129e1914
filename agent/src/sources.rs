//! Where metadata, manifests and blobs come from: the configured sources and the enrolment's server, in turn.
//!
//! Trust never depends on a source: whatever it serves is held against what was signed. Metadata is asked of the server
//! first, for a source may be behind, and a device wants the newest recall; manifests and blobs, which are named by their
//! digest, of the sources first and of the server last, to spare it. Who fails is passed over for the next, counted, and
//! remembered for a minute, doubled with each failure in a row up to an hour. Until then it is asked after all the others,
//! and never left out: where every source has failed, they are asked as if none had.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Moment,
    http::{HttpError, Remote},
};

/// Most sources beside the server.
pub const MAX_SOURCES: usize = 8;
/// How long the first failure is remembered.
const FIRST: Duration = Duration::from_secs(60);
/// Longest time that a failure is remembered.
const LONGEST: Duration = Duration::from_secs(3600);

/// Places that are asked in turn; at least one.
#[derive(Debug, Clone)]
pub struct Sources<T>(Vec<Source<T>>);

/// One of them; derefs to what is asked.
#[derive(Debug, Clone)]
pub struct Source<T> {
    what: T,
    address: Arc<str>,
    standing: Arc<Mutex<Standing>>,
}

#[derive(Debug, Default)]
struct Standing {
    failures: u64,
    in_a_row: u32,
    until: Option<Moment>,
    last: Option<String>,
}

impl Standing {
    fn is_bad(&self) -> bool {
        self.until.is_some_and(|until| until.remaining() > Duration::ZERO)
    }
}

/// How a source stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePage {
    /// Its address.
    pub address: String,
    /// How often it failed since the start.
    pub failures: u64,
    /// Whether it is asked after the others, because it failed lately.
    pub passed_over: bool,
    /// The newest failure, if it has not worked since.
    pub last_error: Option<String>,
}

impl<T> Sources<T> {
    /// A single place.
    pub fn only(address: &str, what: T) -> Self {
        Self(vec![Source { what, address: address.into(), standing: Arc::default() }])
    }

    /// The first of them.
    pub fn first(&self) -> &T {
        &self.0.first().expect("invariant: there is at least one source").what
    }

    /// Several, in this order.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(all: [(&str, T); N]) -> Self {
        Self(all.into_iter().flat_map(|(address, what)| Self::only(address, what).0).collect())
    }

    /// All of them: those that did not fail lately in their order, then the others in theirs.
    pub fn in_turn(&self) -> Vec<&Source<T>> {
        let (bad, good): (Vec<_>, Vec<_>) = self.0.iter().partition(|source| source.locked().is_bad());
        good.into_iter().chain(bad).collect()
    }

    /// The same places asked in another way. What one remembers, the other knows.
    pub fn map<U>(&self, as_what: impl Fn(&T) -> U) -> Sources<U> {
        let other = |source: &Source<T>| Source {
            what: as_what(&source.what),
            address: source.address.clone(),
            standing: source.standing.clone(),
        };
        Sources(self.0.iter().map(other).collect())
    }

    /// The same places, the last one first.
    #[must_use]
    pub fn last_first(mut self) -> Self {
        self.0.rotate_right(1);
        self
    }

    /// How each stands.
    pub fn pages(&self) -> Vec<SourcePage> {
        self.0.iter().map(Source::page).collect()
    }
}

impl Sources<Remote> {
    /// The sources in their order, and the server last. All are asked with the same certificate and authority.
    ///
    /// # Errors
    /// [`HttpError::BadAddress`].
    pub fn over_tls(sources: &[String], server: &str, tls: &ClientConfig) -> Result<Self, HttpError> {
        let all = sources.iter().map(String::as_str).chain([server]);
        let all = all.map(|address| {
            let what = Remote::new(address, tls)?;
            Ok(Source { what, address: address.into(), standing: Arc::default() })
        });
        all.collect::<Result<_, HttpError>>().map(Self)
    }
}

impl<T> Deref for Source<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

impl<T> Source<T> {
    /// It did what it was asked.
    pub fn worked(&self) {
        let mut standing = self.locked();
        (standing.in_a_row, standing.until, standing.last) = (0, None, None);
    }

    /// It did not: it is passed over for a while.
    pub fn failed(&self, why: &dyn std::fmt::Display) {
        let mut standing = self.locked();
        let pause = FIRST.saturating_mul(1 << standing.in_a_row.min(10)).min(LONGEST);
        standing.failures += 1;
        standing.in_a_row += 1;
        standing.until = Some(Moment::now().after(pause));
        standing.last = Some(why.to_string());
        tracing::warn!(source = %self.address, %why, failures = standing.failures, "a source is passed over");
    }

    fn page(&self) -> SourcePage {
        let standing = self.locked();
        SourcePage {
            address: self.address.to_string(),
            failures: standing.failures,
            passed_over: standing.is_bad(),
            last_error: standing.last.clone(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Sources<&'static str> {
        let one = |name: &'static str| Source { what: name, address: name.into(), standing: Arc::default() };
        Sources(vec![one("a"), one("b"), one("server")])
    }

    fn order(sources: &Sources<&'static str>) -> Vec<&'static str> {
        sources.in_turn().into_iter().map(|s| **s).collect()
    }

    #[test]
    fn who_failed_is_asked_last_and_counted_until_it_worked() {
        let sources = three();
        assert_eq!(order(&sources), ["a", "b", "server"]);
        sources.0[0].failed(&"cut");
        sources.0[0].failed(&"slow");
        assert_eq!(order(&sources), ["b", "server", "a"]);
        let page = &sources.pages()[0];
        assert_eq!((page.failures, page.passed_over, page.last_error.as_deref()), (2, true, Some("slow")));
        sources.0[0].worked();
        assert_eq!(order(&sources), ["a", "b", "server"]);
        let page = &sources.pages()[0];
        assert_eq!((page.failures, page.passed_over, page.last_error.as_deref()), (2, false, None));
    }

    #[test]
    fn nobody_is_left_out_and_every_way_of_asking_knows() {
        let sources = three();
        let metadata = sources.map(|name| *name).last_first();
        assert_eq!(order(&metadata), ["server", "a", "b"]);
        sources.0[2].failed(&"unreachable");
        assert_eq!(order(&metadata), ["a", "b", "server"]);
        sources.0[0].failed(&"404");
        sources.0[1].failed(&"404");
        assert_eq!(order(&metadata), ["server", "a", "b"]);
    }

    #[test]
    fn a_failure_is_remembered_for_a_bounded_while() {
        let sources = three();
        for _ in 0..40 {
            sources.0[0].failed(&"cut");
            let until = sources.0[0].locked().until.unwrap();
            assert!(until.remaining() <= LONGEST);
        }
        sources.0[0].locked().until = Some(Moment::now());
        assert_eq!(order(&sources), ["a", "b", "server"]);
    }
}
