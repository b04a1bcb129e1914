//! What a version did: counters that the reply path only adds to, without locks.
//!
//! They grow for the life of the slot. `/metrics` shows them as they are; control gets the differences.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tern_protocol::{
    frames::{Increment, Slot},
    report::v1::{ErrorCount, ErrorKind, Violations},
};

pub(super) const KINDS: [(ErrorKind, &str); 6] = [
    (ErrorKind::BadRequest, "bad-request"),
    (ErrorKind::Contract, "contract"),
    (ErrorKind::Overload, "overload"),
    (ErrorKind::Deadline, "deadline"),
    (ErrorKind::Engine, "engine"),
    (ErrorKind::NotFinite, "not-finite"),
];

/// Upper bounds of the latency histogram, in microseconds.
pub(super) const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) inferences: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) errors: [AtomicU64; KINDS.len()],
    pub(super) rejected: AtomicU64,
    pub(super) clamped: AtomicU64,
    pub(super) flagged: AtomicU64,
    pub(super) latency_sum_us: AtomicU64,
    pub(super) latency_cells: [AtomicU64; BOUNDS_US.len() + 1],
    /// Since the last increment only.
    latency_max_us: AtomicU64,
    sent: Mutex<Sums>,
}

/// The part of the counters that control has been told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    inferences: u64,
    rows: u64,
    errors: [u64; KINDS.len()],
    violations: Violations,
    latency_sum_us: u64,
}

/// Values that broke the contract in one request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaches {
    pub(super) clamped: u64,
    pub(super) flagged: u64,
}

impl Breaches {
    pub(super) fn add(&mut self, other: Self) {
        self.clamped += other.clamped;
        self.flagged += other.flagged;
    }
}

impl Counters {
    pub(super) fn answered(&self, rows: u64, breaches: Breaches, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.inferences.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.clamped.fetch_add(breaches.clamped, Relaxed);
        self.flagged.fetch_add(breaches.flagged, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
        self.latency_max_us.fetch_max(us, Relaxed);
        let cell = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.latency_cells[cell].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, kind: ErrorKind) {
        if let Some(cell) = KINDS.iter().position(|(k, _)| *k == kind) {
            self.errors[cell].fetch_add(1, Relaxed);
        }
        if kind == ErrorKind::Contract {
            self.rejected.fetch_add(1, Relaxed);
        }
    }

    /// Hands what happened since the last time to `send`; where that says no, it stays due.
    pub(super) fn report(&self, slot: Slot, send: impl FnOnce(Increment) -> bool) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.sums();
        if now == *sent {
            return;
        }
        let latency_max_us = self.latency_max_us.swap(0, Relaxed);
        if send(now.since(&sent, slot, latency_max_us)) {
            *sent = now;
        } else {
            self.latency_max_us.fetch_max(latency_max_us, Relaxed);
        }
    }

    fn sums(&self) -> Sums {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Sums {
            inferences: read(&self.inferences),
            rows: read(&self.rows),
            errors: std::array::from_fn(|cell| read(&self.errors[cell])),
            violations: Violations {
                rejected: read(&self.rejected),
                clamped: read(&self.clamped),
                flagged: read(&self.flagged),
            },
            latency_sum_us: read(&self.latency_sum_us),
        }
    }
}

impl Sums {
    fn since(&self, before: &Self, slot: Slot, latency_max_us: u64) -> Increment {
        let errors = KINDS
            .iter()
            .enumerate()
            .map(|(cell, (kind, _))| ErrorCount { kind: *kind, count: self.errors[cell] - before.errors[cell] });
        Increment {
            slot,
            inferences: self.inferences - before.inferences,
            rows: self.rows - before.rows,
            errors: errors.filter(|error| error.count > 0).collect(),
            violations: Violations {
                rejected: self.violations.rejected - before.violations.rejected,
                clamped: self.violations.clamped - before.violations.clamped,
                flagged: self.violations.flagged - before.violations.flagged,
            },
            latency_sum_us: self.latency_sum_us - before.latency_sum_us,
            latency_max_us,
            number: 0,
            latency: Vec::new(),
            sums: Default::default(),
            labels: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_holds_only_what_is_new_and_waits_while_it_cannot_go() {
        let counters = Counters::default();
        counters.report(Slot(1), |_| panic!("nothing happened"));
        counters.answered(3, Breaches { clamped: 1, flagged: 2 }, Duration::from_micros(700));
        counters.failed(ErrorKind::Contract);
        counters.report(Slot(1), |_| false);
        counters.answered(1, Breaches::default(), Duration::from_micros(100));
        let mut seen = None;
        counters.report(Slot(1), |increment| {
            seen = Some(increment);
            true
        });
        let seen = seen.unwrap();
        assert_eq!((seen.inferences, seen.rows, seen.latency_sum_us, seen.latency_max_us), (2, 4, 800, 700));
        assert_eq!(seen.errors, [ErrorCount { kind: ErrorKind::Contract, count: 1 }]);
        assert_eq!(seen.violations, Violations { rejected: 1, clamped: 1, flagged: 2 });
        counters.report(Slot(1), |_| panic!("all of it was told"));
    }
}
