//! What a version did: counters that the reply path only adds to, without locks.
//!
//! They grow for the life of the slot and are what `/metrics` shows. Control is told by the ledger, which takes from here
//! only what the reply path counts: errors and refusals.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tern_protocol::report::v1::ErrorKind;

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
    pub(super) labels: AtomicU64,
    pub(super) label_errors: AtomicU64,
}

/// What failed so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    /// In the order of [`KINDS`].
    pub(super) errors: [u64; KINDS.len()],
    /// Values in refused requests.
    pub(super) rejected: u64,
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
        let us = micros(latency);
        self.inferences.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.clamped.fetch_add(breaches.clamped, Relaxed);
        self.flagged.fetch_add(breaches.flagged, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
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

    pub(super) fn labelled(&self, is_error: bool) {
        self.labels.fetch_add(1, Relaxed);
        self.label_errors.fetch_add(u64::from(is_error), Relaxed);
    }

    pub(super) fn failures(&self) -> Failed {
        let errors = std::array::from_fn(|cell| self.errors[cell].load(Relaxed));
        Failed { errors, rejected: self.rejected.load(Relaxed) }
    }
}

pub(super) fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}
