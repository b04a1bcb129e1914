//! Increments that wait for a slow caller, merged by version: no count is lost and memory does not grow.

use std::collections::{BTreeMap, BTreeSet};

use tern_protocol::{
    frames::{Increment, LateLabels, Slot},
    report::v1::MAX_CELLS,
};
use tern_stats::latency::Latency;

/// Most entries of labels in one merged increment: a caller who was away so long gets them coarser.
const MAX_LABELS: usize = 4096;

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
                let empty = Increment { errors: Vec::new(), labels: Vec::new(), ..increment.clone() };
                let waiting = self.waiting.entry(increment.slot).or_insert(empty);
                add_errors(waiting, &increment);
                add_labels(waiting, &increment);
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
    into.number = into.number.max(more.number);
    into.latency_max_us = into.latency_max_us.max(more.latency_max_us);
    into.latency = latencies(&into.latency, &more.latency);
    if let Err(error) = into.sums.merge(&more.sums) {
        // Of one version all sums have one shape, unless its worker is not what it was.
        tracing::warn!(%error, slot = more.slot.0, "sums of one version differ in shape; the later ones are left out");
        into.sums.rows = into.sums.rows.saturating_add(more.sums.rows);
    }
    add_errors(into, more);
    add_labels(into, more);
}

/// Both sketches in one; bytes that are none add nothing.
fn latencies(ours: &[u8], theirs: &[u8]) -> Vec<u8> {
    let mut all = Latency::from_bytes(ours).unwrap_or_default();
    all.merge(&Latency::from_bytes(theirs).unwrap_or_default());
    all.to_bytes()
}

/// One entry per increment and bin. Past [`MAX_LABELS`] labels are booked on the newest increment that has their bin: where
/// they belong is lost, not that they came.
fn add_labels(into: &mut Increment, more: &Increment) {
    for label in &more.labels {
        let has_bin = |known: &LateLabels| known.bin == label.bin;
        let same = into.labels.iter().position(|known| has_bin(known) && known.increment == label.increment);
        let is_full = into.labels.len() >= MAX_LABELS;
        match same.or_else(|| into.labels.iter().rposition(|known| is_full && has_bin(known))) {
            Some(place) => {
                let known = &mut into.labels[place];
                known.n = known.n.saturating_add(label.n);
                known.errors = known.errors.saturating_add(label.errors);
            }
            None if into.labels.len() < MAX_LABELS + MAX_CELLS => into.labels.push(*label),
            // A bin that no profile can have.
            None => {}
        }
    }
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
    use tern_stats::window::Window;

    #[test]
    fn counts_add_up_and_strangers_stay_out() {
        let errors = vec![ErrorCount { kind: ErrorKind::Engine, count: 2 }; 100];
        let mut latency = Latency::default();
        latency.record(5.0);
        let one = Increment {
            slot: Slot(1),
            inferences: 1,
            rows: 2,
            errors,
            violations: Violations { rejected: 1, clamped: 2, flagged: 3 },
            latency_sum_us: u64::MAX,
            latency_max_us: 5,
            number: 1,
            latency: latency.to_bytes(),
            sums: Window { rows: 2, confidence: vec![2, 0], ..Window::default() },
            labels: vec![LateLabels { increment: 1, bin: 1, n: 2, errors: 1 }],
        };
        let mut backlog = Backlog::default();
        backlog.add(one.clone());
        assert!(backlog.is_empty());
        backlog.expect(Slot(1));
        backlog.add(one.clone());
        let other = LateLabels { increment: 2, bin: 1, n: 1, errors: 0 };
        let labels = vec![one.labels[0], other];
        backlog.add(Increment { latency_max_us: 7, number: 2, labels, ..one });
        let merged = backlog.take().unwrap();
        assert_eq!((merged.inferences, merged.rows, merged.latency_sum_us, merged.latency_max_us), (2, 4, u64::MAX, 7));
        assert_eq!(merged.errors, [ErrorCount { kind: ErrorKind::Engine, count: 400 }]);
        assert_eq!((merged.number, merged.sums.rows, &merged.sums.confidence[..]), (2, 4, &[4, 0][..]));
        assert_eq!(Latency::from_bytes(&merged.latency).unwrap().count(), 2);
        assert_eq!(merged.labels, [LateLabels { increment: 1, bin: 1, n: 4, errors: 2 }, other]);
        assert!(backlog.take().is_none());
    }

    #[test]
    fn what_does_not_belong_together_costs_values_and_no_counts() {
        let mut backlog = Backlog::default();
        backlog.expect(Slot(1));
        let one = Increment {
            slot: Slot(1),
            inferences: 1,
            rows: 2,
            errors: vec![],
            violations: Violations::default(),
            latency_sum_us: 1,
            latency_max_us: 1,
            number: 1,
            latency: vec![9; 40],
            sums: Window { rows: 2, confidence: vec![2], ..Window::default() },
            labels: vec![],
        };
        backlog.add(one.clone());
        let odd = Window { rows: 2, confidence: vec![1, 1], ..Window::default() };
        backlog.add(Increment { sums: odd, number: 2, ..one.clone() });
        let flood: Vec<_> = (0..2 * MAX_LABELS as u64)
            .map(|increment| LateLabels { increment, bin: (increment % 3) as u32, n: 1, errors: 0 })
            .collect();
        backlog.add(Increment { labels: flood, number: 3, ..one });
        let merged = backlog.take().unwrap();
        assert_eq!((merged.rows, merged.sums.rows, &merged.sums.confidence[..]), (6, 6, &[4][..]));
        assert!(merged.latency.is_empty());
        assert_eq!(merged.labels.len(), MAX_LABELS);
        assert_eq!(merged.labels.iter().map(|label| label.n).sum::<u64>(), 2 * MAX_LABELS as u64);
    }
}
