//! Request ids for clients that gave none: different from each other, and from those of every other worker's life.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ring::rand::{SecureRandom, SystemRandom};

pub(super) struct Ids {
    /// Feedback for a prediction of an earlier life must find nothing, not another prediction.
    life: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        let mut bytes = [0; 8];
        // Without random numbers ids repeat after a restart: feedback that is late by a life may then hit another row.
        if SystemRandom::new().fill(&mut bytes).is_err() {
            tracing::warn!("the system gives no random numbers; request ids may repeat after a restart");
        }
        Self { life: u64::from_le_bytes(bytes), next: AtomicU64::new(1) }
    }

    pub(super) fn make(&self) -> String {
        format!("{:016x}-{}", self.life, self.next.fetch_add(1, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_alike() {
        let (one, other) = (Ids::new(), Ids::new());
        let all: std::collections::BTreeSet<_> = (0..100).flat_map(|_| [one.make(), other.make()]).collect();
        assert_eq!(all.len(), 200);
    }
}
