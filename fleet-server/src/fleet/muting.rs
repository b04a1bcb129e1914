//! What was noted of late, so that its like is not noted again for a while.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Moment;

/// Keys that are remembered; beyond, all are forgotten, which notes too much rather than too little.
const KEYS: usize = 10_000;

/// Notes of one kind, each key's once in a period.
#[derive(Debug)]
pub(super) struct Muting<K> {
    period: Duration,
    noted: Mutex<HashMap<K, Moment>>,
}

impl<K: Eq + Hash> Muting<K> {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, noted: Mutex::default() }
    }

    /// Whether this key is to be noted now; if so, it is not again before the period is over.
    pub(super) fn is_due(&self, key: K) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(&key).is_some_and(|last| last.elapsed() < self.period) {
            return false;
        }
        if noted.len() >= KEYS {
            noted.clear();
        }
        noted.insert(key, Moment::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_noted_once_in_a_period_and_few_are_remembered() {
        let muting = Muting::new(Duration::from_secs(3600));
        assert_eq!(["a", "a", "b", "a"].map(|key| muting.is_due(key.to_owned())), [true, false, true, false]);
        assert!((2..KEYS).all(|n| muting.is_due(n.to_string())));
        assert!(!muting.is_due("a".to_owned()));
        assert!(muting.is_due("one too many".to_owned()) && muting.is_due("a".to_owned()));
        let over = Muting::new(Duration::ZERO);
        assert!(over.is_due(1) && over.is_due(1));
    }
}
