//! Devices held against one another, round by round: the concurrent detectors and the pooled ones of a recording.
//!
//! All devices of a stream are one cohort, as whoever asks for it states. A round is a day or week; of windows by rows the
//! stretch of time that one takes, or its number where there are no times. [`Judge::beside`] says what is compared.
//! Only readings are kept, until the end of the stream: 24 bytes a score. What is held to others is worked out of them round by
//! round, as on the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::ensure;
use tern_stats::{
    calendar::DAY,
    design::LEVEL,
    pooled,
    profile::{Profile, ScoreProfile, Unit},
    step::State,
};

use super::{
    replay::{Judged, Listener},
    said::{Alarm, Kind, score},
};
use crate::{
    decay::{
        beside::Beside,
        judge::{Judge, Readings},
        marks::QUIET,
    },
    forms::incident::Severity,
};

/// One device's window in a round.
struct Entry {
    number: u64,
    start: Option<String>,
    middle: f64,
    readings: Readings,
}

/// What all devices said, window by window.
#[derive(Default)]
pub(super) struct Company {
    judges: BTreeMap<String, Arc<Judge>>,
    rounds: BTreeMap<i64, BTreeMap<String, Entry>>,
    /// The windows in which a device alarmed by itself.
    loud: BTreeSet<(String, u64)>,
}

impl Company {
    /// Remembers a window.
    pub(super) fn take(&mut self, judged: &Judged<'_>) {
        let Judged { device, judge, number, closed, readings, start, is_quiet } = judged;
        if !self.judges.contains_key(*device) {
            self.judges.insert((*device).to_owned(), Arc::clone(judge));
        }
        if !is_quiet {
            self.loud.insert(((*device).to_owned(), *number));
        }
        let profile = judge.profile();
        let (start, middle) = (start.map(str::to_owned), closed.middle);
        let entry = Entry { number: *number, start, middle, readings: (*readings).clone() };
        self.rounds
            .entry(round(profile, closed.start, closed.middle, *number))
            .or_default()
            .insert((*device).to_owned(), entry);
    }

    /// Compares the devices, round by round.
    pub(super) fn compare(self, to: &mut impl Listener) -> anyhow::Result<()> {
        let Some(first) = self.judges.values().next().cloned() else { return Ok(()) };
        for (device, judge) in &self.judges {
            let shape = |judge: &Judge| {
                let feature = |f: &tern_stats::profile::FeatureProfile| {
                    (f.name.clone(), f.scores.iter().map(|s| s.score).collect::<Vec<_>>())
                };
                judge.watched().map(feature).collect::<Vec<_>>()
            };
            ensure!(
                shape(judge) == shape(&first),
                "the profile of device {device:?} follows something else than the others"
            );
        }
        let mut fleet = Fleet::new(&first, &self.judges);
        for (number, round) in (0..).zip(self.rounds.values()) {
            fleet.concurrent(round, &self.judges, &self.loud, to)?;
            fleet.pooled(number, round, &self.judges, to)?;
        }
        Ok(())
    }
}

/// Which round a window belongs to.
fn round(profile: &Profile, start: Option<f64>, middle: f64, number: u64) -> i64 {
    let length = match (profile.unit, profile.calendar.and_then(|calendar| calendar.step)) {
        (Unit::Day | Unit::Week, _) => start.map(|start| (start, DAY)),
        (Unit::Rows, Some(step)) => Some((middle, step * profile.rows)),
        (Unit::Rows, None) => None,
    };
    // A number of days or windows since 1970 fits by far.
    length.map_or(number as i64, |(at, length)| (at / length).floor() as i64)
}

/// The detectors over all devices.
struct Fleet {
    devices: usize,
    /// By device, a detector for each feature.
    beside: BTreeMap<String, Vec<Beside>>,
    /// The last windows in which each device was alarmed about.
    last_loud: BTreeMap<String, u64>,
    /// Of each feature, what the mean over the devices is held to, and its detector.
    mean: Vec<(Vec<ScoreProfile>, State)>,
    judge: Arc<Judge>,
}

impl Fleet {
    fn new(first: &Arc<Judge>, judges: &BTreeMap<String, Arc<Judge>>) -> Self {
        let beside = |judge: &Arc<Judge>| judge.watched().map(Beside::new).collect();
        let mean = |at: usize| {
            let each = judges.values().filter_map(|judge| judge.watched().nth(at)).map(|feature| &feature.scores[..]);
            let scores = widest(each.collect());
            let state = State::new(scores.len());
            (scores, state)
        };
        Self {
            devices: judges.len(),
            beside: judges.iter().map(|(device, judge)| (device.clone(), beside(judge))).collect(),
            last_loud: BTreeMap::new(),
            mean: (0..first.features()).map(mean).collect(),
            judge: Arc::clone(first),
        }
    }

    /// Each device against the median of all.
    fn concurrent(
        &mut self,
        round: &BTreeMap<String, Entry>,
        judges: &BTreeMap<String, Arc<Judge>>,
        loud: &BTreeSet<(String, u64)>,
        to: &mut impl Listener,
    ) -> anyhow::Result<()> {
        let held = round.iter().filter_map(|(device, entry)| {
            let own = judges.get(device)?.beside(&entry.readings, entry.middle);
            Some((device, own))
        });
        let held: BTreeMap<_, _> = held.collect();
        let medians = self.judge.medians(held.values());
        let threshold = self.judge.profile().threshold(self.devices);
        let mut left = Vec::new();
        for (device, entry) in round {
            let known = self.beside.get_mut(device).zip(judges.get(device)).zip(held.get(device));
            let Some(((beside, judge), own)) = known else { continue };
            if loud.contains(&(device.clone(), entry.number)) {
                self.last_loud.insert(device.clone(), entry.number);
            }
            let is_quiet = self.last_loud.get(device).is_none_or(|last| entry.number >= last + QUIET);
            let features = judge.watched().zip(judge.compared()).zip(own);
            for ((((feature, scores), own), medians), beside) in features.zip(&medians).zip(beside) {
                let outcome = beside.observe(scores, own, medians, (round.len(), threshold), &mut left);
                if let Some((outcome, crossing)) = outcome.and_then(|o| Some((o, o.alarm?))) {
                    self.last_loud.insert(device.clone(), entry.number);
                    to.alarm(&Alarm {
                        window: entry.number,
                        start: entry.start.clone(),
                        device: Some(device),
                        feature: Some(feature.name.clone()),
                        kind: Kind::Concurrent,
                        score: score(feature, &crossing),
                        evidence: outcome.evidence,
                        severity: Severity::Alarm,
                    })?;
                } else if is_quiet {
                    beside.remember(scores, own, medians, (round.len(), threshold));
                }
            }
        }
        Ok(())
    }

    /// The mean of all devices against what they were like.
    fn pooled(
        &mut self,
        number: u64,
        round: &BTreeMap<String, Entry>,
        judges: &BTreeMap<String, Arc<Judge>>,
        to: &mut impl Listener,
    ) -> anyhow::Result<()> {
        let threshold = self.judge.profile().threshold(1);
        let calendar = self.judge.profile().calendar;
        let Some(entry) = round.values().next() else { return Ok(()) };
        let centred =
            |(device, entry): (&String, &Entry)| Some(judges.get(device)?.centred(&entry.readings, entry.middle));
        let all: Vec<_> = round.iter().filter_map(centred).collect();
        let mut means = Vec::new();
        for (index, (feature, (scores, state))) in self.judge.watched().zip(&mut self.mean).enumerate() {
            let each: Vec<_> = all.iter().map(|readings| &readings[index][..]).collect();
            pooled::means(&each, &mut means)?;
            if !feature.is_in_season(calendar.as_ref(), entry.middle) {
                feature.freeze(&mut means);
            }
            let outcome = state.observe(scores, &means, &LEVEL, threshold)?;
            if let Some(crossing) = outcome.alarm {
                to.alarm(&Alarm {
                    window: number,
                    start: entry.start.clone(),
                    device: None,
                    feature: Some(feature.name.clone()),
                    kind: Kind::Pooled,
                    score: score(feature, &crossing),
                    evidence: outcome.evidence,
                    severity: Severity::Alarm,
                })?;
            }
        }
        Ok(())
    }
}

/// What a mean over devices is held to: of each score the profile of the device that varied most, so that the mean is held
/// to no more than any of them.
fn widest(each: Vec<&[ScoreProfile]>) -> Vec<ScoreProfile> {
    let count = each.first().map_or(0, |scores| scores.len());
    let of = |k: usize| {
        let all = each.iter().filter_map(|scores| scores.get(k));
        all.max_by(|a, b| (a.sigma * (1.0 + a.tau)).total_cmp(&(b.sigma * (1.0 + b.tau)))).map(ScoreProfile::of_centred)
    };
    (0..count).filter_map(of).collect()
}
