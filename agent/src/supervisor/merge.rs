//! Increments that wait for a slow caller, merged by version: no count is lost and memory does not grow.

use std::collections::{BTreeMap, BTreeSet};

use tern_protocol::frames::{Increment, Slot};

/// Increments of versions that the worker was given.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    known: BTreeSet<Slot>,
    waiting: BTreeMap<Slot, Increment>,
}

impl Backlog {
    /// Lets increments of this version in.
    pub(super) fn expect(&mut self, slot: Slot) {
        self.known.insert(slot);
    }

    /// Lets none in any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.known.remove(&slot);
    }

    pub(super) fn add(&mut self, increment: Increment) {
        if !self.known.contains(&increment.slot) {
            return;
        }
        match self.waiting.get_mut(&increment.slot) {
            Some(waiting) => merge(waiting, &increment),
            None => {
                let empty = Increment { errors: Vec::new(), ..increment.clone() };
                let waiting = self.waiting.entry(increment.slot).or_insert(empty);
                add_errors(waiting, &increment);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<Increment> {
        self.waiting.pop_first().map(|(_, increment)| increment)
    }
}

fn merge(into: &mut Increment, more: &Increment) {
    let sums = [
        (&mut into.inferences, more.inferences),
        (&mut into.rows, more.rows),
        (&mut into.violations.rejected, more.violations.rejected),
        (&mut into.violations.clamped, more.violations.clamped),
        (&mut into.violations.flagged, more.violations.flagged),
        (&mut into.latency_sum_us, more.latency_sum_us),
    ];
    for (sum, more) in sums {
        *sum = sum.saturating_add(more);
    }
    into.latency_max_us = into.latency_max_us.max(more.latency_max_us);
    add_errors(into, more);
}

/// One entry per kind, however often the frame repeats it.
fn add_errors(into: &mut Increment, more: &Increment) {
    for error in &more.errors {
        match into.errors.iter_mut().find(|known| known.kind == error.kind) {
            Some(known) => known.count = known.count.saturating_add(error.count),
            None => into.errors.push(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tern_protocol::report::v1::{ErrorCount, ErrorKind, Violations};

    #[test]
    fn counts_add_up_and_strangers_stay_out() {
        let errors = vec![ErrorCount { kind: ErrorKind::Engine, count: 2 }; 100];
        let one = Increment {
            slot: Slot(1),
            inferences: 1,
            rows: 2,
            errors,
            violations: Violations { rejected: 1, clamped: 2, flagged: 3 },
            latency_sum_us: u64::MAX,
            latency_max_us: 5,
            number: 1,
            latency: vec![],
            sums: Default::default(),
            labels: vec![],
        };
        let mut backlog = Backlog::default();
        backlog.add(one.clone());
        assert!(backlog.is_empty());
        backlog.expect(Slot(1));
        backlog.add(one.clone());
        backlog.add(Increment { latency_max_us: 7, ..one });
        let merged = backlog.take().unwrap();
        assert_eq!((merged.inferences, merged.rows, merged.latency_sum_us, merged.latency_max_us), (2, 4, u64::MAX, 7));
        assert_eq!(merged.errors, [ErrorCount { kind: ErrorKind::Engine, count: 400 }]);
        assert!(backlog.take().is_none());
    }
}
