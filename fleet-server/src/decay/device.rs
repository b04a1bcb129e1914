//! One device under watch: its open detection windows, its detectors, what they said.
//!
//! Pure; [`super::watch`] decides when a round of devices is held against one another.

use serde::{Deserialize, Serialize};
use tern_stats::{
    labels::{Labels, merge_labels},
    step::{self, Crossing},
    window::Window,
};

use super::{
    alone::{Alone, Said},
    beside::Beside,
    calls::Calls,
    judge::{Judge, Readings},
    marks::{Ground, Marks, QUIET, When},
    windows::{Full, Taken, Windows},
};
use crate::forms::incident::Layer;

/// The newest detection window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    /// The round in which it closed.
    pub round: u64,
    /// Its middle, in seconds since 1970; none where nobody knows.
    pub middle: Option<f64>,
    /// What it says.
    pub readings: Readings,
    /// Rows per confidence bin.
    pub confidence: Vec<u64>,
}

impl Newest {
    /// What it is held to other devices by.
    pub fn beside(&self, judge: &Judge) -> Readings {
        judge.beside(&self.readings, self.middle.unwrap_or(f64::NAN))
    }

    /// What it says, less what its time leads to expect.
    pub fn centred(&self, judge: &Judge) -> Readings {
        judge.centred(&self.readings, self.middle.unwrap_or(f64::NAN))
    }
}

/// A stretch of windows in which scores were far out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Far {
    /// The round in which it began.
    first_round: u64,
    /// The count of windows at the newest.
    last: u64,
}

/// A report window and its times.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What it holds.
    pub window: &'a Window,
    /// Start and end, in seconds since 1970 by the device's time; none where the device did not know the date.
    pub times: Option<(f64, f64)>,
}

/// What became of a report window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It joined an open detection window.
    Open,
    /// It filled one, which was judged.
    Judged,
    /// It came after its day or week was final: it is none of the evidence.
    Late,
}

/// A detection window that its device's own detectors have judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its middle, in seconds since 1970; NaN where nobody knows.
    pub middle: f64,
    /// What it says.
    pub readings: Readings,
    /// Rows per confidence bin.
    pub confidence: Vec<u64>,
    /// Labels, in as many bins as the profile counts them in.
    pub labels: Vec<Labels>,
    /// What the device's own detectors said of its features.
    pub said: Vec<(usize, Said)>,
}

/// A device under watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceWatch {
    /// Its class: cohorts are of one.
    pub class: String,
    /// Detection windows closed.
    pub windows: u64,
    /// Those of them in the open round.
    pub in_round: u32,
    /// When its newest row came, in milliseconds since 1970.
    pub seen: i64,
    /// The newest detection window.
    pub newest: Option<Newest>,
    /// Labels of detection windows closed in the open round.
    pub judged: Vec<Labels>,
    /// What its detectors said lately.
    pub marks: Marks,
    /// How its inferences ended.
    pub calls: Calls,
    far: Option<Far>,
    open: Windows,
    /// Labels that came late, for the open detection window.
    late: Vec<Labels>,
    #[serde(rename = "steps")]
    alone: Alone,
    company: Vec<Beside>,
}

impl DeviceWatch {
    /// A device of which nothing is known.
    pub fn new(judge: &Judge, class: String) -> Self {
        Self {
            class,
            windows: 0,
            in_round: 0,
            seen: 0,
            newest: None,
            judged: judge.no_labels(),
            marks: Marks::default(),
            calls: Calls::default(),
            far: None,
            open: Windows::new(judge.window_rows()),
            late: judge.no_labels(),
            alone: Alone::new(judge),
            company: judge.watched().map(Beside::new).collect(),
        }
    }

    /// Whether one that was read back is one to go on from.
    pub fn is_sound(&self, judge: &Judge) -> bool {
        let scores = || judge.watched().map(|feature| feature.scores.len());
        self.open.is_sound(judge.window_rows())
            && self.company.len() == judge.features()
            && self.judged.len() == judge.profile().label_bins()
            && self.late.len() == judge.profile().label_bins()
            && self.marks.is_sound(judge.features())
            && self.newest.as_ref().is_none_or(|newest| newest.readings.len() == judge.features())
            && self.alone.is_sound(judge)
            && self.company.iter().zip(scores()).all(|(company, scores)| company.is_sound(scores))
    }

    /// Adds late labels to the open detection window; a bin that the profile does not have is left out.
    pub fn correct(&mut self, bin: usize, labels: Labels) {
        if let Some(sum) = self.late.get_mut(bin) {
            sum.n = sum.n.saturating_add(labels.n);
            sum.errors = sum.errors.saturating_add(labels.errors);
        }
    }

    /// Takes in a report window that [fits](Judge::fit), with its times where they can be believed. Where it fills a
    /// detection window, that is judged.
    pub fn take(&mut self, judge: &Judge, report: &Report<'_>, devices: usize, when: When) -> Outcome {
        self.seen = when.at;
        match self.open.take(judge.profile(), report.window, report.times, when.at as f64 / 1000.0) {
            Taken::Open => Outcome::Open,
            Taken::Late => Outcome::Late,
            Taken::Full(full) => {
                self.judge(judge, *full, devices, when);
                Outcome::Judged
            }
        }
    }

    /// When its oldest open day or week ends, in seconds since 1970.
    pub fn due(&self) -> Option<f64> {
        self.open.due()
    }

    /// Closes the day or week that ends at `end` and judges it.
    pub fn close(&mut self, judge: &Judge, end: f64, devices: usize, when: When) {
        let calendar = judge.profile().calendar;
        if let Some(full) = calendar.and_then(|calendar| self.open.close(&calendar, end)) {
            self.judge(judge, full, devices, when);
        }
    }

    fn judge(&mut self, judge: &Judge, full: Full, devices: usize, when: When) {
        let (readings, threshold) = (judge.read(&full.window), judge.profile().threshold(devices));
        if full.is_after_gap {
            self.alone.gap();
        }
        let mut said = Vec::new();
        self.alone.observe(judge, &full.window, &readings, full.middle, threshold, |index, of| said.push((index, of)));
        let Window { confidence, labels, .. } = full.window;
        self.conclude(judge, Seen { middle: full.middle, readings, confidence, labels, said }, when);
    }

    /// Takes in the next window, which the device's own detectors have judged.
    pub fn conclude(&mut self, judge: &Judge, seen: Seen, when: When) {
        let Seen { middle, readings, confidence, mut labels, said } = seen;
        let late = std::mem::replace(&mut self.late, judge.no_labels());
        // Bins of one judge are as many, so the error has no cause left.
        let _ = merge_labels(&mut labels, &late).and_then(|()| merge_labels(&mut self.judged, &labels));
        self.windows += 1;
        self.in_round = self.in_round.saturating_add(1);
        self.mark(&said, When { window: self.windows, ..when });
        let middle = Some(middle).filter(|middle| middle.is_finite());
        self.newest = Some(Newest { round: when.round, middle, readings, confidence });
    }

    /// The round in which its scores began to be far out, if they were lately.
    pub fn far(&self) -> Option<u64> {
        self.far.filter(|far| far.last + QUIET > self.windows).map(|far| far.first_round)
    }

    /// Marks what its features showed against the reference.
    fn mark(&mut self, said: &[(usize, Said)], when: When) {
        let mut broken = None;
        for (index, said) in said {
            match said {
                // The first rule that a feature breaks stands for all: without values the others mean little.
                Said::Hard(..) if broken == Some(index) => {}
                Said::Hard(breach, values) => {
                    broken = Some(index);
                    self.marks.set(*index, Layer::Hard, Ground::of_breach(breach, *values), when);
                }
                Said::Step(outcome, crossing) => {
                    self.marks.set(*index, Layer::Step, Ground::of_crossing(outcome, crossing), when);
                }
                Said::Far => {
                    let first_round = self.far().unwrap_or(when.round);
                    self.far = Some(Far { first_round, last: when.window });
                }
            }
        }
    }

    /// Holds the newest window, [`Newest::beside`] of which is `own`, against the medians of its cohort of `cohort` devices, in
    /// a fleet of `devices`; says which features crossed.
    pub fn beside(
        &mut self,
        judge: &Judge,
        own: &Readings,
        medians: &[Vec<Option<f64>>],
        (cohort, devices): (usize, usize),
        when: When,
        mut say: impl FnMut(usize, step::Outcome, Crossing),
    ) {
        let threshold = judge.profile().threshold(devices);
        let is_quiet = self.marks.is_empty() && self.calls.marks.is_empty();
        let when = When { window: self.windows, ..when };
        let features = judge.compared().zip(own).zip(medians).zip(&mut self.company);
        let mut left = Vec::new();
        for (index, (((scores, own), medians), company)) in features.enumerate() {
            let outcome = company.observe(scores, own, medians, (cohort, threshold), &mut left);
            if let Some((outcome, crossing)) = outcome.and_then(|o| Some((o, o.alarm?))) {
                self.marks.set(index, Layer::Concurrent, Ground::of_crossing(&outcome, &crossing), when);
                say(index, outcome, crossing);
            } else if is_quiet {
                company.remember(scores, own, medians, (cohort, threshold));
            }
        }
    }

    /// The newest window was counted in its round; a new one begins.
    pub fn close_round(&mut self, judge: &Judge) {
        self.in_round = 0;
        self.judged = judge.no_labels();
    }
}
