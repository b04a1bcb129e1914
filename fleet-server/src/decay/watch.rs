//! One model version under watch: its devices' windows in the order of their commits, in rounds; what follows from them.
//!
//! Windows by rows close at different times on different devices, so devices are held against one another by **rounds**.
//! A device is *active* where its newest detection window closed in the open round or in one of the [`ACTIVE_ROUNDS`]
//! before. The open round closes with the window that makes one of these true:
//! - every active device has closed a window in it: the usual case;
//! - some device has closed its second one in it, and half of the active devices one: nobody waits for the slow;
//! - some device has closed its fourth, and two usual rounds have passed: nobody waits for the lost ([`super::pace`]).
//!
//! Where the profile's windows are days or weeks, each of them is a round, and closes when it is final ([`super::windows`]).
//! Windows of devices that do not know the date make rounds only while no device has a day open.
//!
//! At its close each device that took part is held, by its newest window, against the median over the newest windows of
//! all active devices of its class; the mean of those that took part goes to the pooled detectors. Windows between a
//! device's first and last of a round are judged alone only; their labels all count. All of this follows from the order of
//! commits: who reads the same rows again comes to the same end.
//!
//! Labels are weighed over the fleet, by round, and not by device: a device returns few, the question is about the model
//! that all of them share, and one bet on all is found earlier than many on each. They are held to the confidences, which says
//! whether the model is broken, and to the objective, which says whether it errs more than was promised, for whatever reason in
//! the world or in the model; neither waits for the other. A device that is at fault is left out of both,
//! since wrong answers to a broken lens say nothing about the model; so is one that has just begun to be off, for as long as
//! concurrent control may yet set it apart. That choice rests on inputs, never on whether a label was an error, so the bets stay
//! fair. Nor does one device decide alone: see [`super::jury`]. Figures by device are evidence
//! for people only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tern_protocol::ids::DeviceId;
use tern_stats::{
    cohort,
    design::LEVEL,
    labels::{Labels, Mixture},
    pooled,
    profile::FeatureProfile,
    step::{self, Crossing, State},
    window::Window,
};

use super::{
    device::{DeviceWatch, Outcome, Report, Seen},
    judge::{Judge, Judges, Readings},
    marks::{Ground, Marks, When},
    pace::Pace,
    verdict::{self, Verdict},
    windows::LATE,
};
use crate::forms::incident::{Cause, IncidentKind, Layer, WatchFigures};

mod answers;

/// Rounds that a device's newest window stays in the cohort's medians: devices up to four times as slow as half of the
/// others still count.
pub const ACTIVE_ROUNDS: u64 = 4;
/// Devices that were silent for this long are forgotten: 30 days, in milliseconds.
const FORGOTTEN_MS: i64 = 30 * 86_400_000;
/// Format of [`Watch`] and [`DeviceWatch`] where they are written down.
pub const FORMAT: u16 = 8;

/// More errors than allowed, as labels said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// When it was first said.
    pub since: i64,
    /// When it was last said.
    pub at: i64,
    /// The count of rounds with labels then.
    last: u64,
    /// On what it stands.
    pub ground: Ground,
    /// Labels and errors by device in that round, most errors first; evidence for people.
    pub devices: Vec<(DeviceId, Labels)>,
}

/// What crossed its threshold in a round, for whoever listens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Heard<'a> {
    /// Scores of a feature, of a device or of the mean of all; of the estimated error the number of the feature says nothing.
    Scores(Layer, Option<&'a DeviceId>, usize, step::Outcome, Crossing),
    /// Labels; log10 of the detector over its threshold.
    Labels(Layer, f64),
}

/// A version under watch. Its devices are written down one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The open round.
    pub round: u64,
    /// Detection windows judged.
    pub windows: u64,
    /// Report windows left out because they were counted under another profile.
    pub unfit: u64,
    /// Report windows that came after their day or week was final.
    pub late: u64,
    /// What the fleet's mean says, by feature.
    pub marks: Marks,
    /// What the labels say of the confidences.
    pub broken: Option<Errors>,
    /// What they say of the objective.
    pub breached: Option<Errors>,
    /// Features of the population change that is on.
    pub changed: Vec<usize>,
    /// Features that most devices lack values of.
    pub short: Vec<usize>,
    /// Devices at fault, whose labels do not count.
    pub faulty: Vec<DeviceId>,
    pace: Pace,
    pooled: Vec<State>,
    calibration: Mixture,
    objective: Mixture,
    label_rounds: u64,
    labels: Labels,
    estimate: Option<State>,
    estimated: Option<f64>,
    /// By name.
    #[serde(skip)]
    pub devices: BTreeMap<DeviceId, DeviceWatch>,
}

impl Watch {
    /// A version of which nothing is known.
    pub fn new(judge: &Judge) -> Self {
        Self {
            round: 0,
            windows: 0,
            unfit: 0,
            late: 0,
            marks: Marks::default(),
            broken: None,
            breached: None,
            changed: Vec::new(),
            short: Vec::new(),
            faulty: Vec::new(),
            pace: Pace::default(),
            pooled: judge.watched().map(|feature| feature.detector()).collect(),
            calibration: Mixture::default(),
            objective: Mixture::default(),
            label_rounds: 0,
            labels: Labels::default(),
            estimate: judge.profile().estimate.as_ref().map(|_| State::new(1)),
            estimated: None,
            devices: BTreeMap::new(),
        }
    }

    /// Forgets what the detectors saw: who comes back begins anew. What was counted stays.
    pub fn restart(&mut self, judge: &Judge) {
        let Self { windows, unfit, late, labels, .. } = *self;
        *self = Self { windows, unfit, late, labels, ..Self::new(judge) };
    }

    /// Whether one that was read back is one to go on from.
    pub fn is_sound(&self, judge: &Judge) -> bool {
        let mut pooled = self.pooled.iter().zip(judge.watched());
        self.pooled.len() == judge.features()
            && pooled.all(|(state, feature)| state.is_sound(feature.scores.len()))
            && self.calibration.is_sound()
            && self.objective.is_sound()
            && self.marks.is_sound(judge.features())
            && self.changed.iter().chain(&self.short).all(|feature| *feature < judge.features())
            && self.estimate.is_some() == judge.profile().estimate.is_some()
            && self.estimate.as_ref().is_none_or(|state| state.is_sound(1))
    }

    /// Takes in a report window of a device with its times where they can be believed, as it was committed `at`. Returns the
    /// verdicts, where it closed a round. Days and weeks that are over by then have [passed](Self::pass) before.
    pub fn take(
        &mut self,
        judge: &Judge,
        (device, class): (&DeviceId, &str),
        (window, times): (Window, Option<(f64, f64)>),
        at: i64,
    ) -> Option<Vec<Verdict>> {
        if window.is_blank() {
            return None;
        }
        let Some(window) = judge.fit(window) else {
            self.unfit += 1;
            return None;
        };
        let devices = self.active().count().max(1);
        let when = When { round: self.round, window: 0, at };
        let watch = self.devices.entry(device.clone()).or_insert_with(|| DeviceWatch::new(judge, class.to_owned()));
        let outcome = watch.take(judge, &Report { window: &window, times }, devices, when);
        let (in_round, round) = (watch.in_round, self.round);
        self.late += u64::from(outcome == Outcome::Late);
        if outcome != Outcome::Judged {
            return None;
        }
        self.windows += 1;
        // Where some devices have a calendar, it makes the rounds.
        if self.devices.values().any(|watch| watch.due().is_some()) {
            return None;
        }
        let active = self.active().count();
        let here = self.active().filter(|(_, watch)| took_part(watch, round)).count();
        if !self.pace.ends(at, in_round, here, active) {
            return None;
        }
        self.pace.end(at, here, active);
        Some(self.close(&Judges::one(judge), at, |_| {}))
    }

    /// Takes in a detection window of the open round that its device's own detectors have judged, as recordings hold them.
    pub fn conclude(&mut self, judge: &Judge, device: &DeviceId, seen: Seen, at: i64) {
        let when = When { round: self.round, window: 0, at };
        let fresh = || DeviceWatch::new(judge, String::new());
        self.devices.entry(device.clone()).or_insert_with(fresh).conclude(judge, seen, when);
        self.windows += 1;
    }

    /// Closes the days and weeks that are final `at`, the oldest first; each is a round. Returns the verdicts of each.
    pub fn pass(&mut self, judge: &Judge, at: i64) -> Vec<Vec<Verdict>> {
        let final_by = at as f64 / 1000.0 - LATE;
        let mut rounds = Vec::new();
        while let Some(end) = self.due().filter(|end| *end <= final_by) {
            let round = self.round;
            let counts = |watch: &DeviceWatch| is_active(watch, round) || watch.due() == Some(end);
            let devices = self.devices.values().filter(|watch| counts(watch)).count();
            for watch in self.devices.values_mut().filter(|watch| watch.due() == Some(end)) {
                watch.close(judge, end, devices, When { round, window: 0, at });
                self.windows += 1;
            }
            rounds.push(self.close(&Judges::one(judge), at, |_| {}));
        }
        rounds
    }

    /// When the oldest open day or week ends, in seconds since 1970.
    fn due(&self) -> Option<f64> {
        self.devices.values().filter_map(DeviceWatch::due).min_by(f64::total_cmp)
    }

    /// The middle of the open round's windows, in seconds since 1970; NaN where nobody knows.
    fn middle(&self) -> f64 {
        let newest = self.devices.values().filter_map(|watch| watch.newest.as_ref());
        let (sum, count) = newest
            .filter(|newest| newest.round == self.round)
            .filter_map(|newest| newest.middle)
            .fold((0.0, 0u32), |(sum, count), middle| (sum + middle, count + 1));
        sum / f64::from(count)
    }

    /// Adds labels that came late; of a device that is not under watch they are of no use any more.
    pub fn correct(&mut self, device: &DeviceId, bin: usize, labels: Labels) {
        if let Some(watch) = self.devices.get_mut(device) {
            watch.correct(bin, labels);
        }
    }

    /// Forgets a device: it runs another version now.
    pub fn leave(&mut self, device: &DeviceId) {
        self.devices.remove(device);
        self.faulty.retain(|faulty| faulty != device);
    }

    /// Devices whose newest window counts.
    pub fn active(&self) -> impl Iterator<Item = (&DeviceId, &DeviceWatch)> {
        let round = self.round;
        self.devices.iter().filter(move |(_, watch)| is_active(watch, round))
    }

    /// What is shown of it.
    pub fn figures(&self, judge: &Judge) -> WatchFigures {
        let has_times = judge.profile().calendar.is_some();
        let covered = |feature: &FeatureProfile| has_times.then(|| feature.covered.spans_year());
        WatchFigures {
            rounds: self.round,
            window_rows: judge.window_rows(),
            estimated_error: self.estimated,
            labels: self.labels.n,
            label_errors: self.labels.errors,
            objective: judge.profile().objective,
            unfit: self.unfit,
            late: self.late,
            mde: judge.watched().map(|feature| (feature.name.clone(), feature.mde)).collect(),
            covered: judge.watched().map(|feature| (feature.name.clone(), covered(feature))).collect(),
        }
    }

    /// Ends the round: holds devices against one another, and all against the reference, and says what crossed.
    pub fn close(&mut self, judges: &Judges<'_>, at: i64, mut say: impl FnMut(Heard<'_>)) -> Vec<Verdict> {
        let (when, judge) = (When { round: self.round, window: self.round, at }, judges.common());
        self.beside(judges, when, &mut say);
        self.together(judges, when, &mut say);
        // After all that may say them again, or what lasts is nobody's for a round.
        self.marks.age(self.round);
        self.devices.values_mut().for_each(|watch| watch.marks.age(watch.windows));
        let mut verdicts = verdict::on_inputs(self, judge);
        self.settle(&verdicts, judge);
        self.weigh_labels(judge, when, &mut say);
        self.estimate(judge, when, &mut say);
        verdicts.extend(verdict::on_answers(self, judge));
        self.round += 1;
        self.devices.iter_mut().for_each(|(device, watch)| watch.close_round(judges.of(device)));
        verdicts
    }

    /// Devices that were silent for so long at the end of a round `at` that they are forgotten.
    pub fn silent(&self, at: i64) -> Vec<DeviceId> {
        let silent = self.devices.iter().filter(|(_, watch)| watch.seen.saturating_add(FORGOTTEN_MS) <= at);
        silent.map(|(device, _)| device.clone()).collect()
    }

    /// Each device against its cohort.
    fn beside(&mut self, judges: &Judges<'_>, when: When, say: &mut impl FnMut(Heard<'_>)) {
        let (round, devices) = (self.round, self.active().count());
        let mut cohorts: BTreeMap<String, BTreeMap<DeviceId, Readings>> = BTreeMap::new();
        for (device, watch) in self.active() {
            if let Some(newest) = &watch.newest {
                cohorts
                    .entry(watch.class.clone())
                    .or_default()
                    .insert(device.clone(), newest.beside(judges.of(device)));
            }
        }
        for (class, cohort) in cohorts.iter().filter(|(_, cohort)| cohort.len() >= cohort::MIN_DEVICES) {
            let medians = judges.common().medians(cohort.values());
            let theirs = self.devices.iter_mut().filter(|(_, watch)| watch.class == *class && took_part(watch, round));
            for (device, watch) in theirs {
                if let Some(own) = cohort.get(device) {
                    let mut heard = |index, outcome, crossing| {
                        say(Heard::Scores(Layer::Concurrent, Some(device), index, outcome, crossing))
                    };
                    watch.beside(judges.of(device), own, &medians, (cohort.len(), devices), when, &mut heard);
                }
            }
        }
    }

    /// The mean of all that took part.
    fn together(&mut self, judges: &Judges<'_>, when: When, say: &mut impl FnMut(Heard<'_>)) {
        let judge = judges.common();
        let (round, middle, calendar) = (self.round, self.middle(), judge.profile().calendar);
        let here = self.devices.iter().filter(|(_, watch)| took_part(watch, round));
        let newest = here.filter_map(|(device, watch)| Some((device, watch.newest.as_ref()?)));
        let all: Vec<Readings> = newest.map(|(device, newest)| newest.centred(judges.of(device))).collect();
        if all.len() < pooled::MIN_DEVICES {
            return;
        }
        let (threshold, mut means) = (judge.profile().threshold(1), Vec::new());
        let features = judge.watched().zip(judge.compared()).zip(&mut self.pooled);
        for (index, ((feature, scores), state)) in features.enumerate() {
            let column: Vec<_> = all.iter().map(|readings| &readings[index][..]).collect();
            let outcome = pooled::means(&column, &mut means).and_then(|()| {
                if !feature.is_in_season(calendar.as_ref(), middle) {
                    feature.freeze(&mut means);
                }
                state.observe(scores, &means, &LEVEL, threshold)
            });
            if let Some((outcome, crossing)) = outcome.ok().and_then(|o| Some((o, o.alarm?))) {
                self.marks.set(index, Layer::Pooled, Ground::of_crossing(&outcome, &crossing), when);
                say(Heard::Scores(Layer::Pooled, None, index, outcome, crossing));
            }
        }
    }

    /// Remembers what the verdicts mean for the rounds to come.
    fn settle(&mut self, verdicts: &[Verdict], judge: &Judge) {
        let of = |kind, cause| verdicts.iter().find(move |verdict| verdict.kind == kind && verdict.cause == cause);
        let features = |found: Option<&Verdict>| -> Vec<usize> {
            found.map_or_else(Vec::new, |verdict| verdict::indices(judge, &verdict.features).collect())
        };
        let mut changed = features(of(IncidentKind::PopulationChange, Cause::Population));
        let short = features(of(IncidentKind::DataQuality, Cause::Pipeline));
        if self.changed.is_empty() && !changed.is_empty() {
            // What set devices apart before everything changed says nothing about what comes after it.
            self.devices.values_mut().for_each(|watch| watch.marks.forget(Layer::Concurrent));
        }
        if !changed.is_empty() {
            changed.extend(self.changed.iter().filter(|feature| !short.contains(feature)));
            changed.sort_unstable();
            changed.dedup();
        }
        // What was most devices' must not become the fault of those whose marks fade last.
        let over = self.changed.iter().chain(&self.short).filter(|f| !changed.contains(f) && !short.contains(f));
        for feature in over {
            self.devices.values_mut().for_each(|watch| watch.marks.forget_feature(*feature));
        }
        (self.changed, self.short) = (changed, short);
        let faulty = of(IncidentKind::DeviceFault, Cause::Device);
        self.faulty = faulty.map_or_else(Vec::new, |verdict| verdict.devices.clone());
    }
}

fn is_active(watch: &DeviceWatch, round: u64) -> bool {
    watch.newest.as_ref().is_some_and(|newest| newest.round + ACTIVE_ROUNDS >= round)
}

fn took_part(watch: &DeviceWatch, round: u64) -> bool {
    watch.newest.as_ref().is_some_and(|newest| newest.round == round)
}
