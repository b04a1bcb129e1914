//! An open window: sums that grow until it closes.

use std::time::Duration;

use jiff::Timestamp;
use tern_protocol::{
    digest::Digest,
    frames::Increment,
    report::v1::{Clock, ErrorCount, Feedback, Violations, Window},
};
use tern_stats::{latency::Latency, window};

use super::{Now, Reading, Subject, merging::add_errors, sound};

/// An open window.
#[derive(Debug)]
pub(super) struct Open {
    subject: Subject,
    boot: u64,
    number: u64,
    began: Duration,
    start: Timestamp,
    trusted: bool,
    reading: Reading,
    inferences: u64,
    errors: Vec<ErrorCount>,
    violations: Violations,
    rows: u64,
    sums: Option<window::Window>,
    latency: Latency,
    feedback: Vec<Feedback>,
    dirty: bool,
}

impl Open {
    pub(super) fn new(subject: &Subject, boot: u64, number: u64, now: &Now) -> Self {
        Self {
            subject: subject.clone(),
            boot,
            number,
            began: now.uptime,
            start: now.time,
            trusted: now.trusted,
            reading: now.reading,
            inferences: 0,
            errors: Vec::new(),
            violations: Violations::default(),
            rows: 0,
            sums: None,
            latency: Latency::default(),
            feedback: Vec::new(),
            dirty: true,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn contract(&self) -> Digest {
        self.subject.contract
    }

    pub(super) fn age(&self, now: &Now) -> Duration {
        now.uptime.saturating_sub(self.began)
    }

    /// Whether it holds what the last snapshot did not.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) fn clean(&mut self) {
        self.dirty = false;
    }

    pub(super) fn latency(&self, rank: f64) -> Option<f32> {
        self.latency.quantile(rank)
    }

    /// Adds an increment whose counts are sound; returns how many of its other parts were not, and are left out.
    pub(super) fn add(&mut self, increment: &Increment, now: &Now) -> u64 {
        self.dirty = true;
        self.trusted &= now.trusted;
        self.inferences = self.inferences.saturating_add(increment.inferences);
        self.rows = self.rows.saturating_add(increment.rows);
        add_errors(&mut self.errors, &increment.errors);
        let (ours, theirs) = (&mut self.violations, &increment.violations);
        ours.rejected = ours.rejected.saturating_add(theirs.rejected);
        ours.clamped = ours.clamped.saturating_add(theirs.clamped);
        ours.flagged = ours.flagged.saturating_add(theirs.flagged);
        let sums = self.add_sums(&increment.sums);
        let latency = Latency::from_bytes(&increment.latency).map(|latency| self.latency.merge(&latency)).is_ok();
        u64::from(!sums) + u64::from(!latency)
    }

    fn add_sums(&mut self, more: &window::Window) -> bool {
        if !sound::has_shape(more) {
            // An increment of failures only, or of a version without a reference.
            return true;
        }
        if !sound::are_sound_sums(more) {
            return false;
        }
        match &mut self.sums {
            Some(sums) => sums.merge(more).is_ok(),
            empty => {
                *empty = Some(window::Window { labels: Vec::new(), ..more.clone() });
                true
            }
        }
    }

    pub(super) fn label(&mut self, bin: u32, n: u64, errors: u64) {
        // A bin that the profile does not have would give the window a shape of its own.
        let bins = self.sums.as_ref().map_or(0, |sums| sums.confidence.len());
        let bin = if bins > 0 { (bin as usize).min(bins - 1) } else { bin as usize };
        if self.feedback.len() <= bin {
            self.feedback.resize(bin + 1, Feedback::default());
        }
        let known = &mut self.feedback[bin];
        (known.n, known.errors) = (known.n.saturating_add(n), known.errors.saturating_add(errors));
        self.dirty = true;
    }

    /// The window as it stands.
    pub(super) fn snapshot(&self, now: &Now) -> Window {
        let sums = self.sums.clone().unwrap_or_default();
        let mut feedback = self.feedback.clone();
        // Windows of one profile have one shape, labels or none; without confidence bins there is one bin.
        feedback.resize(feedback.len().max(sums.confidence.len()).max(1), Feedback::default());
        let trusted = self.trusted && now.trusted;
        Window {
            number: self.number,
            model: self.subject.version.name.clone(),
            version: self.subject.version.version.clone(),
            contract: self.subject.contract,
            boot: self.boot,
            start_ms: self.start.as_millisecond(),
            // Clocks are set back at times; windows never end before they start.
            end_ms: now.time.max(self.start).as_millisecond(),
            clock: if trusted { Clock::Trusted } else { Clock::Floored },
            inferences: self.inferences,
            rows: self.rows,
            errors: self.errors.clone(),
            violations: self.violations,
            latency: self.latency.to_bytes(),
            features: sums.features.into_iter().map(Into::into).collect(),
            outputs: sums.outputs.into_iter().map(Into::into).collect(),
            confidence: sums.confidence,
            feedback,
            system: self.reading.until(&now.reading),
        }
    }
}
