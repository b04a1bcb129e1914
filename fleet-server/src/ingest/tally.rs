//! What rows add to the figures of their version on their device: exact sums, for ever. Pure.

use tern_protocol::report::v1::{Correction, Window};

/// A sum stays at this, the largest whole number that JSON's readers keep exactly.
pub const MOST: u64 = (1 << 53) - 1;

/// Sums over rows of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rows served.
    pub rows: u64,
    /// Inferences answered.
    pub inferences: u64,
    /// Inferences that failed, of every kind.
    pub errors: u64,
    /// Values that broke the contract, whatever was done.
    pub violations: u64,
    /// Windows.
    pub windows: u64,
    /// Labels that came, in windows and in corrections.
    pub labels: u64,
    /// Predictions that they contradict.
    pub label_errors: u64,
    /// Rows per confidence bin.
    pub confidence: Vec<u64>,
    /// End of the newest window, in milliseconds since 1970 by the device's time.
    pub newest_end: i64,
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more).min(MOST);
}

impl Tally {
    /// Adds a window.
    pub fn window(&mut self, window: &Window) {
        let v = &window.violations;
        add(&mut self.windows, 1);
        add(&mut self.rows, window.rows);
        add(&mut self.inferences, window.inferences);
        window.errors.iter().for_each(|error| add(&mut self.errors, error.count));
        [v.rejected, v.clamped, v.flagged].into_iter().for_each(|count| add(&mut self.violations, count));
        window.feedback.iter().for_each(|labels| self.labels(labels.n, labels.errors));
        self.confidences(&window.confidence);
        self.newest_end = self.newest_end.max(window.end_ms);
    }

    /// Adds labels that came after their window.
    pub fn correction(&mut self, correction: &Correction) {
        self.labels(correction.n, correction.errors);
    }

    /// Adds what was added up before.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.windows, other.windows);
        add(&mut self.rows, other.rows);
        add(&mut self.inferences, other.inferences);
        add(&mut self.errors, other.errors);
        add(&mut self.violations, other.violations);
        self.labels(other.labels, other.label_errors);
        self.confidences(&other.confidence);
        self.newest_end = self.newest_end.max(other.newest_end);
    }

    fn labels(&mut self, n: u64, errors: u64) {
        add(&mut self.labels, n);
        add(&mut self.label_errors, errors);
    }

    /// Bins of a version never change in number; what has none adds none.
    fn confidences(&mut self, bins: &[u64]) {
        if self.confidence.is_empty() {
            self.confidence = bins.to_vec();
        } else if self.confidence.len() == bins.len() {
            self.confidence.iter_mut().zip(bins).for_each(|(sum, more)| add(sum, *more));
        }
    }
}

#[cfg(test)]
mod tests {
    use tern_protocol::report::v1::{ErrorCount, ErrorKind, Feedback};

    use super::*;
    use crate::ingest::samples::window;

    #[test]
    fn windows_and_late_labels_add_up() {
        let mut first = window(1, 10);
        first.errors = vec![
            ErrorCount { kind: ErrorKind::Deadline, count: 2 },
            ErrorCount { kind: ErrorKind::NotFinite, count: 3 },
        ];
        first.confidence = vec![4, 6];
        first.feedback = vec![Feedback { n: 3, errors: 1 }, Feedback { n: 1, errors: 0 }];
        let mut tally = Tally::default();
        tally.window(&first);
        tally.window(&window(2, 5));
        tally.correction(&Correction {
            model: first.model.clone(),
            version: first.version.clone(),
            window: 1,
            bin: 0,
            n: 2,
            errors: 2,
        });
        let expected = Tally {
            rows: 15,
            inferences: 15,
            errors: 5,
            violations: 0,
            windows: 2,
            labels: 6,
            label_errors: 3,
            confidence: vec![4, 6],
            newest_end: window(2, 5).end_ms,
        };
        assert_eq!(tally, expected);
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!((twice.rows, twice.labels, twice.confidence), (30, 12, vec![8, 12]));
    }

    #[test]
    fn sums_stay_where_json_keeps_them_exact() {
        let mut tally = Tally { rows: MOST - 1, ..Tally::default() };
        tally.window(&window(1, u64::MAX));
        assert_eq!(tally.rows, MOST);
    }
}
