//! Devices held against one another and labels weighed over all of them, round by round, by the server's own [`Watch`].
//!
//! All devices of a stream are one cohort, as whoever asks for it states. A round is a day or week; of windows by rows the
//! stretch of time that one takes, or its number where there are no times: rows do not say in which order a server would have
//! had them. Where each device has a profile of its own, each answers for its own labels, and what all have in common is held to
//! the profile that varied most.
//! Only readings and labels are kept, until the end of the stream: 24 bytes a score. What is held to others is worked out of
//! them round by round.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::ensure;
use tern_protocol::ids::DeviceId;
use tern_stats::{
    calendar::DAY,
    profile::{Profile, Unit},
    scores::Score,
};

use super::{
    replay::{Judged, Listener},
    said::{Alarm, ERRORS, ERRORS_BY_CONFIDENCE, Kind, estimated, score},
};
use crate::{
    decay::{
        device::Seen,
        judge::{Judge, Judges},
        watch::{Heard, Watch},
    },
    forms::incident::{Layer, Severity},
};

/// One device's window in a round.
struct Entry {
    number: u64,
    start: Option<String>,
    seen: Seen,
}

/// What all devices said, window by window.
#[derive(Default)]
pub(super) struct Company {
    judges: BTreeMap<String, Arc<Judge>>,
    rounds: BTreeMap<i64, BTreeMap<String, Vec<Entry>>>,
}

impl Company {
    /// Remembers a window.
    pub(super) fn take(&mut self, judged: &Judged<'_>) {
        let Judged { device, judge, number, closed, readings, start, said } = judged;
        if !self.judges.contains_key(*device) {
            self.judges.insert((*device).to_owned(), Arc::clone(judge));
        }
        let (confidence, labels) = (&closed.window.confidence, &closed.window.labels);
        let seen = Seen {
            middle: closed.middle,
            readings: (*readings).clone(),
            confidence: confidence.clone(),
            labels: if labels.iter().any(|own| own.n > 0) { labels.clone() } else { Vec::new() },
            said: said.to_vec(),
        };
        let round = round(judge.profile(), closed.start, closed.middle, *number);
        let entry = Entry { number: *number, start: start.map(str::to_owned), seen };
        self.rounds.entry(round).or_default().entry((*device).to_owned()).or_default().push(entry);
    }

    /// Compares the devices, round by round.
    pub(super) fn compare(self, to: &mut impl Listener) -> anyhow::Result<()> {
        let Some(first) = self.judges.values().next() else { return Ok(()) };
        for (device, judge) in &self.judges {
            ensure!(
                shape(judge) == shape(first),
                "the profile of device {device:?} follows something else than the others"
            );
        }
        let fleet = Fleet::of(self.judges.keys())?;
        let is_one = self.judges.values().all(|judge| Arc::ptr_eq(judge, first));
        let common = (!is_one).then(|| Judge::shared(first, self.judges.values().map(Arc::as_ref)));
        let judges = match &common {
            None => Judges::one(first),
            Some(common) => {
                let own = fleet.ids.values().cloned().zip(self.judges.values().map(Arc::as_ref));
                Judges::each(common, own.collect())
            }
        };
        let mut watch = Watch::new(judges.common());
        for (number, round) in (0..).zip(self.rounds.into_values()) {
            let mut newest = BTreeMap::new();
            for (device, entries) in round.into_iter().filter_map(|(name, all)| Some((fleet.ids.get(&name)?, all))) {
                for Entry { number, start, mut seen } in entries {
                    if seen.labels.is_empty() {
                        seen.labels = judges.of(device).no_labels();
                    }
                    watch.conclude(judges.of(device), device, seen, 0);
                    newest.insert(device.clone(), (number, start));
                }
            }
            let start = newest.values().next().and_then(|(_, start): &(u64, Option<String>)| start.clone());
            let mut all = Vec::new();
            watch.close(&judges, 0, |heard| {
                let device = if let Heard::Scores(_, device, ..) = &heard { *device } else { None };
                let place = device.and_then(|device| newest.get(device)).cloned();
                let (window, start) = place.unwrap_or_else(|| (number, start.clone()));
                all.extend(alarm(&heard, &judges, device.and_then(|device| fleet.name(device)), window, start));
            });
            all.iter().try_for_each(|alarm| to.alarm(alarm))?;
        }
        Ok(())
    }
}

/// What a profile follows.
fn shape(judge: &Judge) -> Vec<(&str, Vec<Score>)> {
    judge
        .watched()
        .map(|feature| (&feature.name[..], feature.scores.iter().map(|score| score.score).collect()))
        .collect()
}

/// The devices of a stream under ids: their names may be any text.
struct Fleet {
    ids: BTreeMap<String, DeviceId>,
    names: BTreeMap<DeviceId, String>,
}

impl Fleet {
    /// Ids in the order of names.
    fn of<'n>(names: impl Iterator<Item = &'n String>) -> anyhow::Result<Self> {
        let id = |(at, name): (usize, &String)| Ok((name.clone(), format!("{at:09}").parse()?));
        let ids: BTreeMap<String, DeviceId> = names.enumerate().map(id).collect::<anyhow::Result<_>>()?;
        let names = ids.iter().map(|(name, id)| (id.clone(), name.clone())).collect();
        Ok(Self { ids, names })
    }

    fn name(&self, device: &DeviceId) -> Option<&str> {
        self.names.get(device).map(String::as_str)
    }
}

/// What crossed, as a line; none of what only a server hears.
fn alarm<'n>(
    heard: &Heard<'_>,
    judges: &Judges<'_>,
    device: Option<&'n str>,
    window: u64,
    start: Option<String>,
) -> Option<Alarm<'n>> {
    let (kind, feature, score, evidence, severity) = match *heard {
        Heard::Scores(Layer::Estimate, _, _, outcome, crossing) => {
            (Kind::Estimate, None, estimated(&crossing), outcome.evidence, Severity::Notice)
        }
        Heard::Scores(layer, own, index, outcome, crossing) => {
            let judge = own.map_or(judges.common(), |device| judges.of(device));
            let feature = judge.watched().nth(index)?;
            let kind = if layer == Layer::Concurrent { Kind::Concurrent } else { Kind::Pooled };
            (kind, Some(feature.name.clone()), score(feature, &crossing), outcome.evidence, Severity::Alarm)
        }
        Heard::Labels(Layer::Calibration, evidence) => {
            (Kind::Calibration, None, ERRORS_BY_CONFIDENCE.into(), evidence, Severity::Critical)
        }
        Heard::Labels(_, evidence) => (Kind::Slo, None, ERRORS.into(), evidence, Severity::Alarm),
    };
    Some(Alarm { window, start, device, feature, kind, score, evidence, severity })
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
