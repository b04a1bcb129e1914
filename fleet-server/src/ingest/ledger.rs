//! What is committed of one stream: a contiguous watermark, and ranges of what came out of order above it.
//!
//! Pure. It decides alone whether a row is new; stored rows are never looked at, so they may be deleted at any time.
//! Bounded by [`MAX_RANGES`] and [`MAX_AHEAD`]; beyond, the batch is refused whole and nothing changes.

use serde::{Deserialize, Serialize};

/// Ranges above the watermark. A device sends in order, so each is a report that overtook another or came again.
pub const MAX_RANGES: usize = 256;
/// Highest number of a row: what SQLite keeps.
const MAX_SEQUENCE: u64 = i64::MAX as u64;
/// How far a row may lie above the watermark: more than a device can hold back, 12 days at a row a second.
pub const MAX_AHEAD: u64 = 1 << 20;

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerRefusal {
    /// A row lies too far above the watermark.
    #[error("row {sequence} is more than {MAX_AHEAD} above the watermark {watermark}")]
    TooFar {
        /// The row.
        sequence: u64,
        /// The watermark.
        watermark: u64,
    },
    /// There would be too many ranges.
    #[error("more than {MAX_RANGES} holes above the watermark {0}: send the oldest rows first")]
    TooManyHoles(u64),
}

/// What is committed of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Every row up to this one is committed; 0 for none.
    watermark: u64,
    /// First and last of ranges that are committed too: growing, apart from each other and from the watermark.
    ahead: Vec<(u64, u64)>,
}

impl Ledger {
    /// What was kept of a stream; `None` where it is not a state that [`Ledger::take`] leaves behind.
    pub fn restore(watermark: u64, ahead: Vec<(u64, u64)>) -> Option<Self> {
        let mut end = watermark;
        let is_sound = ahead.len() <= MAX_RANGES
            && ahead.iter().all(|(first, last)| {
                let is_apart = first.checked_sub(end).is_some_and(|gap| gap > 1) && first <= last;
                end = *last;
                is_apart
            });
        is_sound.then_some(Self { watermark, ahead })
    }

    /// Every row up to this one is committed.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// What is committed above it.
    pub fn ahead(&self) -> &[(u64, u64)] {
        &self.ahead
    }

    /// Takes in rows by their numbers, from 1 and growing; says for each whether it is new.
    ///
    /// # Errors
    /// [`LedgerRefusal`]; nothing is taken in then.
    pub fn take(&mut self, sequences: &[u64]) -> Result<Vec<bool>, LedgerRefusal> {
        let watermark = self.watermark;
        // Numbers grow, so the last one lies farthest.
        let is_far = |last: &&u64| **last >= MAX_SEQUENCE || last.saturating_sub(watermark) > MAX_AHEAD;
        if let Some(&sequence) = sequences.last().filter(is_far) {
            return Err(LedgerRefusal::TooFar { sequence, watermark });
        }
        let mut next = self.clone();
        let new = sequences.iter().map(|sequence| next.add(*sequence)).collect();
        if next.ahead.len() > MAX_RANGES {
            return Err(LedgerRefusal::TooManyHoles(next.watermark));
        }
        *self = next;
        Ok(new)
    }

    fn add(&mut self, sequence: u64) -> bool {
        if sequence <= self.watermark {
            return false;
        }
        if sequence == self.watermark + 1 {
            self.watermark = sequence;
            if self.ahead.first().is_some_and(|(first, _)| *first == sequence + 1) {
                self.watermark = self.ahead.remove(0).1;
            }
            return true;
        }
        // The first range that ends at the row's neighbour below or later.
        let at = self.ahead.partition_point(|(_, last)| last + 1 < sequence);
        match self.ahead.get(at).copied() {
            Some((first, last)) if (first..=last).contains(&sequence) => return false,
            Some((first, last)) if last + 1 == sequence => {
                let joined = self.ahead.get(at + 1).copied().filter(|(next, _)| *next == sequence + 1);
                self.ahead[at] = (first, joined.map_or(sequence, |(_, end)| end));
                if joined.is_some() {
                    self.ahead.remove(at + 1);
                }
            }
            Some((first, last)) if first == sequence + 1 => self.ahead[at] = (sequence, last),
            _ => self.ahead.insert(at, (sequence, sequence)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_moves_when_the_hole_closes() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.take(&[2, 3, 5]), Ok(vec![true; 3]));
        assert_eq!((ledger.watermark(), ledger.ahead()), (0, &[(2, 3), (5, 5)][..]));
        assert_eq!(ledger.take(&[1, 2]), Ok(vec![true, false]));
        assert_eq!((ledger.watermark(), ledger.ahead()), (3, &[(5, 5)][..]));
        assert_eq!(ledger.take(&[4]), Ok(vec![true]));
        assert_eq!((ledger.watermark(), ledger.ahead()), (5, &[][..]));
    }

    #[test]
    fn what_is_beyond_the_bounds_is_refused_whole() {
        let mut ledger = Ledger::default();
        ledger.take(&[1]).unwrap();
        let far = 2 + MAX_AHEAD;
        assert_eq!(ledger.take(&[2, far]), Err(LedgerRefusal::TooFar { sequence: far, watermark: 1 }));
        assert!(ledger.take(&[u64::MAX]).is_err());
        assert_eq!(ledger.watermark(), 1);
        let holes: Vec<u64> = (1..=MAX_RANGES as u64).map(|n| 1 + 2 * n).collect();
        ledger.take(&holes).unwrap();
        let before = ledger.clone();
        assert_eq!(ledger.take(&[2 * MAX_RANGES as u64 + 3]), Err(LedgerRefusal::TooManyHoles(1)));
        assert_eq!(ledger, before);
        assert_eq!(ledger.take(&[2]), Ok(vec![true]), "the oldest row is always taken");
    }

    #[test]
    fn what_was_kept_is_checked() {
        assert!(Ledger::restore(3, vec![(5, 6), (8, 8)]).is_some());
        for ahead in [vec![(4, 5)], vec![(2, 2)], vec![(6, 5)], vec![(5, 6), (7, 7)], vec![(8, 9), (5, 6)]] {
            assert_eq!(Ledger::restore(3, ahead.clone()), None, "{ahead:?}");
        }
        assert_eq!(Ledger::restore(0, (1..=MAX_RANGES as u64 + 1).map(|n| (2 * n, 2 * n)).collect()), None);
    }

    proptest! {
        #[test]
        fn a_ledger_is_a_set(batches in prop::collection::vec(prop::collection::btree_set(1u64..120, 0..20), 0..30)) {
            let (mut ledger, mut set) = (Ledger::default(), BTreeSet::new());
            for batch in batches {
                let batch: Vec<u64> = batch.into_iter().collect();
                let expected: Vec<bool> = batch.iter().map(|sequence| set.insert(*sequence)).collect();
                prop_assert_eq!(ledger.take(&batch), Ok(expected));
                let contiguous = (1..).take_while(|sequence| set.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(ledger.watermark(), contiguous);
                let above: BTreeSet<u64> = ledger.ahead().iter().flat_map(|(first, last)| *first..=*last).collect();
                prop_assert_eq!(above, set.range(contiguous + 1..).copied().collect::<BTreeSet<_>>());
                let restored = Ledger::restore(ledger.watermark(), ledger.ahead().to_vec());
                prop_assert_eq!(restored.as_ref(), Some(&ledger));
            }
        }

        #[test]
        fn far_numbers_never_panic(mut numbers in prop::collection::vec(any::<u64>(), 0..9), start in any::<u64>()) {
            numbers.retain(|n| *n > 0);
            numbers.sort_unstable();
            numbers.dedup();
            let mut ledger = Ledger::restore(start, vec![]).unwrap();
            let _ = ledger.take(&numbers);
            prop_assert!(ledger.watermark() >= start);
        }
    }
}
