//! `tern decay replay`: the server's detectors over recorded rows, in a fresh state, with nothing held back.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use anyhow::ensure;
use tern_stats::profile::{self, FeatureProfile, Profile};

use super::{
    answers::Answers,
    company::Company,
    cutter::{Closed, Cutter, Layout, answer, compare},
    said::{Alarm, Kind, Summary, hard, when},
    standard::Standards,
    table::{Roles, Table},
};
use crate::{
    cli::{
        args::decay::{Against, Columns, Replay},
        matches::Matches,
        output::Printer,
    },
    decay::{
        alone::{Alone, Said},
        judge::{Judge, Readings},
    },
    forms::incident::Severity,
};

/// One device's stream.
struct Stream {
    device: Option<String>,
    judge: Arc<Judge>,
    cutter: Cutter,
    layout: Layout,
    alone: Alone,
    answers: Answers,
    windows: u64,
}

/// A window that was judged, for whoever compares devices.
pub(super) struct Judged<'a> {
    pub(super) device: &'a str,
    pub(super) judge: &'a Arc<Judge>,
    pub(super) number: u64,
    pub(super) closed: &'a Closed,
    pub(super) readings: &'a Readings,
    /// When the window began, for people and programs.
    pub(super) start: Option<&'a str>,
    /// What the device's own detectors said of it.
    pub(super) said: &'a [(usize, Said)],
}

/// Who listens to what a replay says.
pub(super) trait Listener {
    /// A detector crossed its threshold.
    fn alarm(&mut self, alarm: &Alarm<'_>) -> anyhow::Result<()>;
    /// A device's rows begin.
    fn begins(&mut self, _device: &str, _features: &mut dyn Iterator<Item = &FeatureProfile>) {}
    /// A window was judged.
    fn judged(&mut self, judged: &Judged<'_>);
    /// Something to know.
    fn note(&mut self, text: &str) -> anyhow::Result<()>;
}

/// What a replay came to.
pub(super) struct Outcome {
    pub(super) windows: u64,
    pub(super) judges: Vec<Arc<Judge>>,
}

pub(super) fn run(order: &Replay, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut telling = Telling { printer, alarms: 0, company: order.cohort.then(Company::default) };
    let outcome = replay(&order.against, order.cohort, &mut telling)?;
    if let Some(company) = telling.company.take() {
        company.compare(&mut telling)?;
    }
    if outcome.windows == 0 {
        telling.note("the stream has no whole window: nothing was judged")?;
    }
    let summary = Summary::of(outcome.windows, telling.alarms, &outcome.judges);
    if telling.printer.is_json() { telling.printer.raw(&summary.line()?) } else { summary.tell(telling.printer) }
}

/// Prints alarms as they come.
struct Telling<'p, 'w> {
    printer: &'p mut Printer<'w>,
    alarms: u64,
    company: Option<Company>,
}

impl Listener for Telling<'_, '_> {
    fn alarm(&mut self, alarm: &Alarm<'_>) -> anyhow::Result<()> {
        self.alarms += 1;
        if self.printer.is_json() { self.printer.raw(&alarm.line()?) } else { self.printer.line(&alarm.words()) }
    }

    fn judged(&mut self, judged: &Judged<'_>) {
        if let Some(company) = &mut self.company {
            company.take(judged);
        }
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.printer.note(&format!("warning: {text}"))
    }
}

/// Runs the detectors over the rows that `against` names.
pub(super) fn replay(against: &Against, cohort: bool, to: &mut impl Listener) -> anyhow::Result<Outcome> {
    let (mut standards, warnings) = Standards::of(against)?;
    warnings.iter().try_for_each(|warning| to.note(warning))?;
    let names = devices(&against.stream, &against.columns)?;
    let count = names.as_ref().map_or(1, BTreeSet::len);
    let is_cohort = cohort && count >= tern_stats::cohort::MIN_DEVICES;
    if cohort && !is_cohort {
        to.note(&format!("{count} devices are no cohort, which takes {}", tern_stats::cohort::MIN_DEVICES))?;
    }
    let mut table = Table::open(&against.stream)?;
    let roles = Roles::of_stream(&table, &against.columns)?;
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    // One profile for all is one model for all, as a server has it: their labels are weighed together, with the rounds.
    let are_together = cohort && matches!(standards, Standards::One(_));
    let (mut odd, mut matches) = (HashSet::new(), Matches::default());
    let mut run = Run { devices: count.max(1), is_cohort, are_together, windows: 0 };
    while table.next()? {
        let device = roles.device.map_or(Ok(""), |at| table.cell(at))?;
        if !streams.contains_key(device) {
            let judge = standards.judge(device)?;
            if streams.is_empty() {
                unwatched(&table, &roles, judge.profile(), to)?;
            }
            to.begins(device, &mut judge.watched());
            streams.insert(device.to_owned(), Stream::new(&table, &roles, judge, device)?);
        }
        let Some(stream) = streams.get_mut(device) else { continue };
        if roles.label.is_some() {
            compare(&table, &roles, &answer(&table, &roles)?, &mut matches)?;
        }
        if let Some(closed) = stream.cutter.take(&table, &roles, &mut stream.layout)? {
            run.judge(stream, &closed, to)?;
        }
        for (column, told) in std::mem::take(&mut stream.layout.odd) {
            if odd.insert(column) {
                to.note(&told)?;
            }
        }
    }
    for stream in streams.values_mut() {
        if let Some(closed) = stream.cutter.finish() {
            run.judge(stream, &closed, to)?;
        }
    }
    if let Err(error) = matches.check() {
        to.note(&error.to_string())?;
    }
    let mut judges: Vec<_> = streams.into_values().map(|stream| stream.judge).collect();
    if let (Standards::One(judge), true) = (&standards, judges.is_empty()) {
        judges.push(judge.clone());
    }
    judges.dedup_by(|a, b| Arc::ptr_eq(a, b));
    Ok(Outcome { windows: run.windows, judges })
}

/// The devices of a stream; none where no column names them.
fn devices(file: &Path, columns: &Columns) -> anyhow::Result<Option<BTreeSet<String>>> {
    let Some(name) = &columns.device_column else { return Ok(None) };
    let mut table = Table::open(file)?;
    let (column, mut names) = (table.column(name)?, BTreeSet::new());
    while table.next()? {
        let device = table.cell(column)?;
        if !names.contains(device) {
            names.insert(device.to_owned());
        }
    }
    Ok(Some(names))
}

/// Says which columns the profile does not watch, and which options it has no use for.
fn unwatched(table: &Table, roles: &Roles, profile: &Profile, to: &mut impl Listener) -> anyhow::Result<()> {
    let is_watched = |name: &str| profile.features.iter().any(|feature| feature.name == name);
    let more: Vec<_> =
        roles.features(table).into_iter().map(|at| &table.names()[at]).filter(|n| !is_watched(n)).collect();
    if !more.is_empty() {
        to.note(&format!("columns that the profile does not watch: {more:?}"))?;
    }
    for at in &roles.categorical {
        let name = &table.names()[*at];
        let is_number =
            |feature: &FeatureProfile| feature.name == *name && matches!(feature.kind, profile::Kind::Numeric(_));
        if profile.features.iter().any(is_number) {
            to.note(&format!("--categorical {name}: the profile has it as a number, and as that it is judged"))?;
        }
    }
    if roles.label.is_some() && profile.label_bins() == 0 {
        to.note("the profile was fitted without labels: they are not judged")?;
    } else if roles.label.is_some() && profile.confidence.is_none() {
        to.note("without confidences labels are held to the objective alone")?;
    }
    Ok(())
}

impl Stream {
    fn new(table: &Table, roles: &Roles, judge: Arc<Judge>, device: &str) -> anyhow::Result<Self> {
        let profile = judge.profile();
        ensure!(
            profile.calendar.is_none() || roles.time.is_some(),
            "the profile's windows go by the calendar: name the column of times by --time-column"
        );
        Ok(Self {
            device: roles.device.map(|_| device.to_owned()),
            cutter: Cutter::of(profile),
            layout: Layout::of(table, profile.features.iter().map(|feature| (feature.name.as_str(), &feature.kind)))?,
            alone: Alone::new(&judge),
            answers: Answers::new(profile),
            windows: 0,
            judge,
        })
    }
}

/// What all streams of a run share.
struct Run {
    devices: usize,
    is_cohort: bool,
    are_together: bool,
    windows: u64,
}

impl Run {
    fn judge(&mut self, stream: &mut Stream, closed: &Closed, to: &mut impl Listener) -> anyhow::Result<()> {
        let Stream { device, judge, alone, answers, windows, .. } = stream;
        let (number, profile) = (*windows, judge.profile());
        *windows += 1;
        self.windows += 1;
        if closed.is_after_gap {
            alone.gap();
            answers.gap();
        }
        let readings = judge.read(&closed.window);
        let start = closed.start.and_then(|start| when(start, profile.calendar));
        let mut alarms = Vec::new();
        let mut say = |feature: Option<&str>, kind, score, evidence, severity| {
            let (device, start) = (device.as_deref(), start.clone());
            alarms.push(Alarm {
                window: number,
                start,
                device,
                feature: feature.map(str::to_owned),
                kind,
                score,
                evidence,
                severity,
            });
        };
        let threshold = profile.threshold(self.devices);
        let mut said = Vec::new();
        alone.observe(judge, &closed.window, &readings, closed.middle, threshold, |index, of| said.push((index, of)));
        for (index, said) in &said {
            let feature = &profile.features[*index];
            let name = Some(feature.name.as_str());
            match said {
                Said::Hard(breach, _) => {
                    let (score, evidence) = hard(breach);
                    say(name, Kind::Hard, score, evidence, Severity::Alarm);
                }
                Said::Step(outcome, crossing) => {
                    // Where devices are held against one another, one that is off alone is local or seasonal at first.
                    let severity = if self.is_cohort { Severity::Notice } else { Severity::Alarm };
                    say(name, Kind::Step, super::said::score(feature, crossing), outcome.evidence, severity);
                }
                // No alarm: it says whose labels of these days are not weighed with those of others.
                Said::Far => {}
            }
        }
        if !self.are_together {
            answers.observe(judge, closed, self.devices, |kind, score, evidence, severity| {
                say(None, kind, score, evidence, severity);
            });
        }
        alarms.iter().try_for_each(|alarm| to.alarm(alarm))?;
        let (device, start) = (device.as_deref().unwrap_or(""), start.as_deref());
        to.judged(&Judged { device, judge, number, closed, readings: &readings, start, said: &said });
        Ok(())
    }
}
