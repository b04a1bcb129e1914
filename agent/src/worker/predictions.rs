//! Predictions that wait for their labels, by request id, and the labels that came since control was last told.
//!
//! What is remembered is bounded three ways: requests, age and bytes; the oldest goes first. An id that is used again stands
//! for its newest request. A restart or a drain forgets everything: labels that come after it find nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tern_protocol::frames::LateLabels;
use tern_stats::labels::Labels;

use crate::clock::Moment;

/// Most requests that are remembered (DESIGN 12).
const MAX_REQUESTS: usize = 10_000;
/// The longest that one is.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Most bytes that all of one version take: 10,000 requests of one row with ids of our own take about 2 MB, so this binds
/// large batches and long ids only.
const MAX_BYTES: usize = 4 << 20;
/// What a remembered request takes beside its id and rows, about: two table entries and an allocation.
const REQUEST_BYTES: usize = 128;

/// What was predicted of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Predicted {
    label: Box<str>,
    bin: u32,
    is_labelled: bool,
}

impl Predicted {
    pub(super) fn new(label: &str, bin: usize) -> Self {
        Self { label: label.into(), bin: u32::try_from(bin).unwrap_or(u32::MAX), is_labelled: false }
    }

    fn bytes(&self) -> usize {
        // The text is an allocation of its own, rounded up.
        size_of::<Self>() + self.label.len().next_multiple_of(16)
    }
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labelled {
    /// It counts; whether it contradicts the prediction.
    Accepted { is_error: bool },
    /// There was one before, and that one counts.
    Already,
    /// It is none that the model could have predicted; the row still waits for one.
    Bad,
    /// The request has no such row.
    NoRow,
    /// No such request is remembered.
    Unknown,
}

#[derive(Default)]
pub(super) struct Predictions(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    requests: HashMap<Arc<str>, Request>,
    /// Oldest first; an entry whose number is not that of its request has been replaced.
    order: VecDeque<(Arc<str>, u64, Moment)>,
    next: u64,
    bytes: usize,
    late: BTreeMap<(u64, u32), Labels>,
}

struct Request {
    number: u64,
    increment: u64,
    bytes: usize,
    rows: Box<[Predicted]>,
}

impl Predictions {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a request got, and in which increment it was counted. Without rows there is nothing to remember.
    pub(super) fn remember(&self, id: &str, increment: u64, rows: Box<[Predicted]>, now: Moment) {
        let bytes = rows.iter().fold(REQUEST_BYTES + id.len(), |sum, row| sum.saturating_add(row.bytes()));
        if rows.is_empty() || bytes > MAX_BYTES {
            return;
        }
        let mut memory = self.lock();
        let number = memory.next;
        memory.next += 1;
        // One that is used again is there already: as many copies as requests would be beyond what is bounded.
        let known = memory.requests.get_key_value(id).map(|(known, _)| known.clone());
        let id = known.unwrap_or_else(|| id.into());
        if let Some(before) = memory.requests.insert(id.clone(), Request { number, increment, bytes, rows }) {
            memory.bytes -= before.bytes;
        }
        memory.bytes += bytes;
        memory.order.push_back((id, number, now));
        memory.forget(now);
    }

    /// Takes a label for a row of a request, none where it is of a wrong kind; the first good one counts.
    pub(super) fn label(&self, id: &str, row: usize, label: Option<&str>, now: Moment) -> Labelled {
        let mut memory = self.lock();
        memory.forget(now);
        let Some(request) = memory.requests.get_mut(id) else { return Labelled::Unknown };
        let Some(predicted) = request.rows.get_mut(row) else { return Labelled::NoRow };
        if predicted.is_labelled {
            return Labelled::Already;
        }
        let Some(label) = label else { return Labelled::Bad };
        predicted.is_labelled = true;
        let is_error = *predicted.label != *label;
        let place = (request.increment, predicted.bin);
        let labels = memory.late.entry(place).or_default();
        labels.n += 1;
        labels.errors += u64::from(is_error);
        Labelled::Accepted { is_error }
    }

    /// The labels that came since the last time.
    pub(super) fn take_labels(&self) -> Vec<LateLabels> {
        let late = std::mem::take(&mut self.lock().late);
        let one = |((increment, bin), Labels { n, errors })| LateLabels { increment, bin, n, errors };
        late.into_iter().map(one).collect()
    }
}

impl Memory {
    fn forget(&mut self, now: Moment) {
        while let Some((_, _, since)) = self.order.front() {
            let is_old = since.after(MAX_AGE) <= now;
            if !is_old && self.order.len() <= MAX_REQUESTS && self.bytes <= MAX_BYTES {
                return;
            }
            let Some((id, number, _)) = self.order.pop_front() else { return };
            if self.requests.get(&id).is_some_and(|request| request.number == number)
                && let Some(request) = self.requests.remove(&id)
            {
                self.bytes -= request.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Predictions {
        /// Requests, and entries of the order that they go in.
        fn held(&self) -> (usize, usize) {
            let memory = self.lock();
            (memory.requests.len(), memory.order.len())
        }
    }

    fn rows(labels: &[&str]) -> Box<[Predicted]> {
        labels.iter().enumerate().map(|(bin, label)| Predicted::new(label, bin)).collect()
    }

    #[test]
    fn the_first_good_label_of_a_row_counts() {
        let (all, now) = (Predictions::default(), Moment::now());
        all.remember("a", 7, rows(&["3", "4"]), now);
        assert_eq!(all.label("a", 0, None, now), Labelled::Bad, "and the row waits for a good one");
        assert_eq!(all.label("a", 0, Some("3"), now), Labelled::Accepted { is_error: false });
        assert_eq!(all.label("a", 0, None, now), Labelled::Already);
        assert_eq!(all.label("a", 1, Some("3"), now), Labelled::Accepted { is_error: true });
        assert_eq!(all.label("a", 1, Some("4"), now), Labelled::Already);
        assert_eq!(
            (all.label("a", 2, Some("3"), now), all.label("b", 0, Some("3"), now)),
            (Labelled::NoRow, Labelled::Unknown)
        );
        let late = [
            LateLabels { increment: 7, bin: 0, n: 1, errors: 0 },
            LateLabels { increment: 7, bin: 1, n: 1, errors: 1 },
        ];
        assert_eq!((all.take_labels(), all.take_labels()), (late.to_vec(), vec![]));
    }

    #[test]
    fn an_id_that_is_used_again_stands_for_its_newest_request() {
        let (all, now) = (Predictions::default(), Moment::now());
        all.remember("a", 1, rows(&["3"]), now);
        all.label("a", 0, Some("3"), now);
        all.remember("a", 2, rows(&["9"]), now);
        assert_eq!(all.label("a", 0, Some("9"), now), Labelled::Accepted { is_error: false });
        assert_eq!(all.take_labels().iter().map(|late| late.increment).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_oldest_are_forgotten_by_number_by_age_and_by_bytes() {
        let (all, now) = (Predictions::default(), Moment::now());
        for i in 0..3 * MAX_REQUESTS {
            all.remember(&i.to_string(), 1, rows(&["3"]), now);
        }
        assert_eq!(all.lock().requests.len(), MAX_REQUESTS);
        assert_eq!(all.label(&(2 * MAX_REQUESTS - 1).to_string(), 0, Some("3"), now), Labelled::Unknown);
        assert!(matches!(all.label(&(2 * MAX_REQUESTS).to_string(), 0, Some("3"), now), Labelled::Accepted { .. }));

        let late = now.after(MAX_AGE);
        all.remember("young", 1, rows(&["3"]), late);
        assert_eq!(all.held(), (1, 1));

        let wide = rows(&["3"; 4096]);
        for i in 0..200 {
            all.remember(&i.to_string(), 1, wide.clone(), late);
            assert!(all.lock().bytes <= MAX_BYTES);
        }
        let kept = all.lock().requests.len();
        assert!((10..100).contains(&kept), "{kept}");
        // One id, over and over, is one request.
        (0..2 * MAX_REQUESTS).for_each(|_| all.remember("same", 1, rows(&["3"]), late));
        assert_eq!(all.held(), (1, MAX_REQUESTS));
        let memory = all.lock();
        assert!(memory.order.iter().all(|(id, ..)| Arc::ptr_eq(id, &memory.order[0].0)), "and one copy of its id");
        drop(memory);
        let huge = "x".repeat(MAX_BYTES);
        all.remember("huge", 1, rows(&[&huge]), late);
        assert_eq!(all.label("huge", 0, Some("3"), late), Labelled::Unknown);
    }
}
