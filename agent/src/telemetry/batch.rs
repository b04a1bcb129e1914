//! What is to be recorded in one transaction, and how what could not be recorded waits: bounded, and without losing counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tern_protocol::{
    frames::LateLabels,
    ids::{Generation, ModelVersion},
    report::v1::{Correction, Event, Feedback, Window},
};

use super::merging::merge;

/// Closed windows that wait; more are merged, version by version.
const MOST_CLOSED: usize = 256;
/// Events that wait; more are counted as lost.
const MOST_EVENTS: usize = 512;
/// Windows and bins that labels wait for; labels of more are counted as lost.
const MOST_CORRECTIONS: usize = 16_384;

/// What a version did, in all or since it was recorded last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Rows answered.
    pub rows: u64,
    /// Inferences answered.
    pub inferences: u64,
    /// Requests that failed, for any reason.
    pub errors: u64,
    /// Labels that came.
    pub labels: u64,
    /// Predictions that they contradict.
    pub label_errors: u64,
    /// The number of the newest window; 0 before the first.
    pub newest_window: u64,
}

impl Counts {
    /// Adds what came after.
    pub fn add(&mut self, more: &Self) {
        self.rows = self.rows.saturating_add(more.rows);
        self.inferences = self.inferences.saturating_add(more.inferences);
        self.errors = self.errors.saturating_add(more.errors);
        self.labels = self.labels.saturating_add(more.labels);
        self.label_errors = self.label_errors.saturating_add(more.label_errors);
        self.newest_window = self.newest_window.max(more.newest_window);
    }
}

/// What is to be recorded in one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// What came since the batch before.
    pub counts: BTreeMap<ModelVersion, Counts>,
    /// Open windows as they stand; none where the window has closed.
    pub open: BTreeMap<ModelVersion, Option<Window>>,
    /// Windows that have closed.
    pub closed: Vec<Window>,
    /// Labels for windows that closed before, by window and confidence bin.
    pub corrections: BTreeMap<(ModelVersion, u64, u32), Feedback>,
    /// What happened.
    pub events: Vec<Event>,
    /// Events that found no room here.
    pub lost_events: u64,
    /// Labels that found no room here.
    pub lost_labels: u64,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What may not be recorded where only events fill the outbox: those are never merged, and must not keep out counts,
    /// which are.
    pub fn hold_back_events(&mut self) -> Self {
        Self {
            events: std::mem::take(&mut self.events),
            lost_events: std::mem::take(&mut self.lost_events),
            lost_labels: std::mem::take(&mut self.lost_labels),
            ..Self::default()
        }
    }

    /// Adds an event, if there is room.
    pub fn event(&mut self, event: Event) {
        if self.events.len() < MOST_EVENTS {
            self.events.push(event);
        } else {
            self.lost_events = self.lost_events.saturating_add(1);
        }
    }

    /// Adds labels for a closed window, if there is room.
    pub(super) fn correct(&mut self, version: &ModelVersion, window: u64, labels: LateLabels) {
        self.add_labels((version.clone(), window, labels.bin), Feedback { n: labels.n, errors: labels.errors });
    }

    /// The corrections as rows.
    pub fn corrections(&self) -> impl Iterator<Item = Correction> {
        self.corrections.iter().map(|((version, window, bin), labels)| Correction {
            model: version.name.clone(),
            version: version.version.clone(),
            window: *window,
            bin: *bin,
            n: labels.n,
            errors: labels.errors,
        })
    }

    /// Takes in what came after.
    pub fn absorb(&mut self, newer: Self) {
        for (version, counts) in newer.counts {
            self.counts.entry(version).or_default().add(&counts);
        }
        self.open.extend(newer.open);
        self.closed.extend(newer.closed);
        while self.closed.len() > MOST_CLOSED && merge_a_pair(&mut self.closed) {}
        for (key, labels) in newer.corrections {
            self.add_labels(key, labels);
        }
        for event in newer.events {
            self.event(event);
        }
        self.lost_events = self.lost_events.saturating_add(newer.lost_events);
        self.lost_labels = self.lost_labels.saturating_add(newer.lost_labels);
    }

    /// The event that says what was lost, if anything was.
    pub fn confess(&self, at_ms: i64, generation: Generation) -> Option<Event> {
        let (events, labels) = (self.lost_events, self.lost_labels);
        let message = format!("the outbox could not be written for long: {events} events and {labels} labels are lost");
        (events > 0 || labels > 0).then(|| super::change::loss(message, at_ms, generation))
    }

    fn add_labels(&mut self, key: (ModelVersion, u64, u32), labels: Feedback) {
        if self.corrections.len() >= MOST_CORRECTIONS && !self.corrections.contains_key(&key) {
            self.lost_labels = self.lost_labels.saturating_add(labels.n);
            return;
        }
        let known = self.corrections.entry(key).or_default();
        known.n = known.n.saturating_add(labels.n);
        known.errors = known.errors.saturating_add(labels.errors);
    }
}

/// Merges the oldest window that has a later one like it; false where all are of different kinds.
fn merge_a_pair(windows: &mut Vec<Window>) -> bool {
    let like = |a: &Window, b: &Window| {
        (&a.model, &a.version, a.contract, a.boot) == (&b.model, &b.version, b.contract, b.boot)
    };
    let pair = (0..windows.len()).find_map(|i| {
        let j = (i + 1..windows.len()).find(|j| like(&windows[i], &windows[*j]))?;
        Some((i, j))
    });
    let Some((i, j)) = pair else { return false };
    let later = windows.remove(j);
    merge(&mut windows[i], &later);
    true
}
