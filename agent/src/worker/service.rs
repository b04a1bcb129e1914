//! What every connection and every frame from control works on.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tern_protocol::frames::Limits;
use tokio::sync::{Semaphore, watch};

use super::{failure::Failure, feedback::Fate, queue::Queue, slots::Slots, uplink::Uplink};

pub(super) struct Service {
    pub(super) limits: Limits,
    pub(super) slots: Slots,
    pub(super) queue: Queue,
    pub(super) uplink: Uplink,
    /// One permit per connection.
    pub(super) connections: Arc<Semaphore>,
    pub(super) stopping: watch::Sender<bool>,
    /// Refused requests, in the order of [`Failure::LABELS`].
    pub(super) refused: [AtomicU64; Failure::LABELS.len()],
    /// Labels, in the order of [`Fate::ALL`].
    pub(super) fates: [AtomicU64; Fate::ALL.len()],
    /// Bytes of all bodies in memory.
    bodies: AtomicU64,
}

impl Service {
    pub(super) fn new(limits: Limits, uplink: Uplink) -> Self {
        let threads = limits.threads.clamp(1, 256) as usize;
        Self {
            slots: Slots::default(),
            queue: Queue::new(threads, limits.queue.min(65_536) as usize),
            uplink,
            connections: Arc::new(Semaphore::new(limits.connections.clamp(1, 65_536) as usize)),
            stopping: watch::channel(false).0,
            refused: Default::default(),
            fates: Default::default(),
            bodies: AtomicU64::new(0),
            limits,
        }
    }

    /// Takes room for a part of a body. All bodies together hold at most four of the largest.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Failure> {
        let most = self.limits.request_bytes.saturating_mul(4);
        let before = self.bodies.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > most {
            self.bodies.fetch_sub(bytes, Relaxed);
            return Err(Failure::Overload);
        }
        Ok(())
    }

    pub(super) fn release(&self, bytes: u64) {
        self.bodies.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn refuse(&self, failure: &Failure) {
        let cell = Failure::LABELS.iter().position(|label| *label == failure.label()).unwrap_or_default();
        self.refused[cell].fetch_add(1, Relaxed);
    }

    /// Whether models are asked to answer: not stopping, and each of them has a version that does.
    pub(super) fn is_ready(&self) -> bool {
        !*self.stopping.borrow() && self.slots.all_ready()
    }

    pub(super) fn count_label(&self, fate: Fate) {
        let cell = Fate::ALL.iter().position(|known| *known == fate).unwrap_or_default();
        self.fates[cell].fetch_add(1, Relaxed);
    }

    /// Tells control what each version did since the last time; returns whether all of it went. What cannot go now goes
    /// next time.
    pub(super) fn report(&self) -> bool {
        // Each one is asked, also after one that could not tell all.
        self.slots.all().iter().filter(|loaded| !loaded.report(&self.uplink)).count() == 0
    }
}
