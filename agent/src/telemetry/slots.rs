//! Which window took which increment of a slot: labels that come late name the increment.

use std::collections::{BTreeMap, VecDeque};

use tern_protocol::frames::Slot;

/// Windows that a slot's increments are remembered for: a day of windows of a minute, and predictions are remembered for a
/// day.
const MOST_WINDOWS: usize = 1500;
/// Slots that are remembered; the oldest give way.
const MOST_SLOTS: usize = 256;

/// The increments of each slot.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<Slot, VecDeque<Span>>);

/// Increments up to this one, and past the span before, went into this window.
#[derive(Debug, Clone, Copy)]
struct Span {
    last: u64,
    window: u64,
}

impl Slots {
    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    /// This window took an increment, and all before it that were merged into it.
    pub(super) fn took(&mut self, slot: Slot, increment: u64, window: u64) {
        let spans = self.0.entry(slot).or_default();
        match spans.back_mut().filter(|span| span.window == window) {
            Some(span) => span.last = span.last.max(increment),
            None => {
                // Numbers that do not grow come from a worker that lies; the spans stay in order.
                let last = spans.back().map_or(increment, |before| increment.max(before.last));
                spans.push_back(Span { last, window });
            }
        }
        if spans.len() > MOST_WINDOWS {
            spans.pop_front();
        }
        if self.0.len() > MOST_SLOTS {
            self.0.pop_first();
        }
    }

    /// The window that took the increment; that which is nearest where nobody remembers; none of a slot that never had one.
    pub(super) fn window(&self, slot: Slot, increment: u64) -> Option<u64> {
        let spans = self.0.get(&slot)?;
        let at = spans.partition_point(|span| span.last < increment);
        spans.get(at).or(spans.back()).map(|span| span.window)
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_is_found_in_the_window_that_took_it() {
        let (mut slots, slot) = (Slots::default(), Slot(1));
        assert_eq!(slots.window(slot, 1), None);
        slots.took(slot, 3, 10);
        // Increments 4 to 7 were merged on their way.
        slots.took(slot, 7, 10);
        slots.took(slot, 8, 11);
        for (increment, window) in [(0, 10), (1, 10), (7, 10), (8, 11), (99, 11)] {
            assert_eq!(slots.window(slot, increment), Some(window), "{increment}");
        }
        slots.took(slot, 2, 12);
        assert_eq!(slots.window(slot, 8), Some(11), "a number that does not grow moves no other");
        slots.forget(slot);
        assert!(!slots.knows(slot));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_window_takes_the_rest() {
        let (mut slots, slot) = (Slots::default(), Slot(1));
        for n in 1..=MOST_WINDOWS as u64 + 5 {
            slots.took(slot, n, n);
        }
        assert_eq!(slots.window(slot, 1), Some(6));
        for n in 2..2 + MOST_SLOTS as u64 {
            slots.took(Slot(n), 1, 1);
        }
        assert!(!slots.knows(slot) && slots.0.len() == MOST_SLOTS);
    }
}
