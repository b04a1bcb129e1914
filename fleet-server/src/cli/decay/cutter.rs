//! Rows become detection windows: by the device's day or week, or by a number of rows.
//!
//! Rows that should be there by the reference's own rate and are not count as missing in the window that lacks them. Before
//! the first row and after the last nothing is missing. Whole days without a row are missing in the day that follows.

use anyhow::{anyhow, bail};
use tern_stats::{
    calendar::Calendar,
    cells::Edges,
    course::{self, Course, STRIDE, Stretch},
    labels::Labels,
    profile::{Kind, Profile, Spec, Unit},
    recorder::{Recorder, Value},
    window::Window,
};

use super::table::{Roles, Table, is_missing};
use crate::cli::{
    args::decay::Span,
    matches::{Matches, are_same},
};

/// Share of a day or week that rows must have been able to come in for it to be a whole one.
const WHOLE: f64 = 0.9;

/// How rows become windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    pub(super) span: Span,
    /// None where rows have no times.
    pub(super) calendar: Option<Calendar>,
}

impl Plan {
    /// The plan that a profile's windows were cut by.
    pub(super) fn of(profile: &Profile) -> Self {
        let span = match profile.unit {
            Unit::Day => Span::Day,
            Unit::Week => Span::Week,
            Unit::Rows => Span::Rows((profile.rows.round() as u64).max(1)),
        };
        Self { span, calendar: profile.calendar }
    }

    /// The unit of a profile's windows.
    pub(super) fn unit(&self) -> Unit {
        match self.span {
            Span::Day => Unit::Day,
            Span::Week => Unit::Week,
            Span::Rows(_) => Unit::Rows,
        }
    }

    /// Start and end of the calendar's window around a time; none where windows go by rows.
    fn bounds(&self, time: f64) -> Option<(f64, f64)> {
        self.calendar?.bounds(self.unit(), time)
    }

    fn step(&self) -> Option<f64> {
        self.calendar?.step
    }
}

/// What is known of a row's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// How sure the model was.
    pub(super) confidence: Option<f64>,
    /// Whether it was wrong; none where no label came.
    pub(super) wrong: Option<bool>,
}

/// The answer of the row that `table` stands at.
pub(super) fn answer(table: &Table, roles: &Roles) -> anyhow::Result<Answer> {
    let cell = |column: Option<usize>| column.map(|at| table.cell(at)).transpose();
    let present = |cell: Option<&str>| cell.is_some_and(|cell| !is_missing(cell));
    let (label, prediction) = (cell(roles.label)?, cell(roles.prediction)?);
    let number = |cell: &str| cell.parse::<f64>().ok().filter(|x| x.is_finite());
    // A model that gives no answer to a question that has one is wrong.
    let answered = label.zip(prediction).filter(|_| present(label));
    let wrong = answered.map(|(label, prediction)| !are_same(label, prediction));
    Ok(Answer { confidence: cell(roles.confidence)?.and_then(number), wrong })
}

/// Counts the labels of that row, and its answer.
pub(super) fn compare(table: &Table, roles: &Roles, answer: &Answer, matches: &mut Matches) -> anyhow::Result<()> {
    let cell = |column: Option<usize>| {
        column.map(|at| table.cell(at)).transpose().map(|cell| cell.filter(|cell| !is_missing(cell)))
    };
    matches.take(cell(roles.label)?, cell(roles.prediction)?, answer.wrong);
    Ok(())
}

/// Checks that a device's rows come in time order.
pub(super) fn order(table: &Table, roles: &Roles, last: Option<f64>, time: f64) -> anyhow::Result<()> {
    if last.is_none_or(|last| last <= time) {
        return Ok(());
    }
    let advice = if roles.device.is_none() { ", or name the column of their devices by --device-column" } else { "" };
    let told = format!("the time is before that of the row above: sort the rows{advice}");
    bail!(table.at(roles.time.unwrap_or(0), &told));
}

/// Most characters of a cell that are shown.
const MAX_SHOWN: usize = 40;

/// Which column of a file each feature is in.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Vec<Source>,
    /// By column the first cell that should have been a number and is none, until somebody takes it.
    pub(super) odd: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Source {
    column: usize,
    is_numeric: bool,
    /// Whether a cell that is no number was told.
    is_odd: bool,
}

impl Layout {
    /// The layout of features by name.
    pub(super) fn of<'a>(table: &Table, specs: impl Iterator<Item = (&'a str, &'a Kind)>) -> anyhow::Result<Self> {
        let column = |(name, kind): (&str, &Kind)| {
            let column =
                table.column(name).map_err(|error| anyhow!("{error}: add it, or leave it out by --ignore {name}"))?;
            Ok(Source { column, is_numeric: matches!(kind, Kind::Numeric(_)), is_odd: false })
        };
        Ok(Self { columns: specs.map(column).collect::<anyhow::Result<_>>()?, odd: Vec::new() })
    }

    /// Folds the row that `table` stands at.
    fn record(&mut self, table: &Table, recorder: &mut Recorder) -> anyhow::Result<()> {
        for (feature, Source { column, is_numeric, is_odd }) in self.columns.iter_mut().enumerate() {
            let cell = Some(table.cell(*column)?).filter(|cell| !is_missing(cell));
            if !*is_numeric {
                recorder.feature(feature, Value::Category(cell));
                continue;
            }
            let number = cell.map(str::parse::<f64>).transpose();
            if number.is_err() && !*is_odd {
                let shown: String = cell.unwrap_or_default().chars().take(MAX_SHOWN).collect();
                let told = format!("{shown:?} is no number; counted as missing, as all of its kind");
                self.odd.push((*column, table.at(*column, &told)));
                *is_odd = true;
            }
            recorder.feature(feature, Value::Number(number.unwrap_or(None)));
        }
        Ok(())
    }
}

/// A closed window.
#[derive(Debug, Clone)]
pub(super) struct Closed {
    pub(super) window: Window,
    /// When it began, in seconds since 1970: the day or week, or its first row.
    pub(super) start: Option<f64>,
    /// Its middle; NaN where nobody knows.
    pub(super) middle: f64,
    /// Whether rows could have come nearly all the time.
    pub(super) is_whole: bool,
    /// Whether at least one window is missing before it.
    pub(super) is_after_gap: bool,
}

/// The open window of one device.
pub(super) struct Cutter {
    plan: Plan,
    recorder: Recorder,
    labels: Vec<Labels>,
    /// Time of the window's first row; the bounds of a calendar window.
    first: Option<f64>,
    bounds: Option<(f64, f64)>,
    last: Option<f64>,
    /// Time of the last row before the window's first.
    since: Option<f64>,
    /// Rows that were skipped before those of the window came, where windows go by rows.
    skipped: u64,
    course: Course,
}

impl Cutter {
    /// Windows of features as `specs` have them, with labels in the bins of the confidences; in one where there are none.
    pub(super) fn new(plan: Plan, specs: &[Spec], edges: Option<&Edges>) -> Self {
        Self::over(plan, Recorder::new(specs, &[], edges), edges.map_or(1, Edges::cells))
    }

    /// Windows as `profile` has them.
    pub(super) fn of(profile: &Profile) -> Self {
        Self::over(Plan::of(profile), Recorder::of(profile), profile.label_bins())
    }

    fn over(plan: Plan, recorder: Recorder, bins: usize) -> Self {
        Self {
            plan,
            recorder,
            labels: vec![Labels::default(); bins],
            first: None,
            bounds: None,
            last: None,
            since: None,
            skipped: 0,
            course: Course::default(),
        }
    }

    /// Takes the row that `table` stands at; returns the window that it closed, by being after it or by filling it.
    pub(super) fn take(&mut self, table: &Table, roles: &Roles, layout: &mut Layout) -> anyhow::Result<Option<Closed>> {
        let time = roles.time.map(|at| table.time(at)).transpose()?;
        let mut closed = None;
        if let Some(time) = time {
            order(table, roles, self.last, time)?;
            if self.bounds.is_some_and(|(_, end)| time >= end) {
                closed = Some(self.close(false));
            }
            self.stride(time);
            self.bounds = self.plan.bounds(time);
            if self.first.is_none() {
                (self.first, self.since) = (Some(time), self.last);
            }
            self.last = Some(time);
        }
        layout.record(table, &mut self.recorder)?;
        let answer = answer(table, roles)?;
        let bin = self.recorder.end_row(answer.confidence);
        if let (Some(labels), Some(wrong)) = (self.labels.get_mut(bin), answer.wrong) {
            *labels = Labels { n: labels.n + 1, errors: labels.errors + u64::from(wrong) };
        }
        if matches!(self.plan.span, Span::Rows(rows) if self.recorder.rows() >= rows) {
            closed = Some(self.close(false));
        }
        Ok(closed)
    }

    /// The window that is open at the end of the file: a day or a week is then final, a part of some rows is dropped.
    pub(super) fn finish(&mut self) -> Option<Closed> {
        (self.recorder.rows() > 0 && self.bounds.is_some()).then(|| self.close(true))
    }

    /// What the step to a row at `time` says: rows that were skipped, and no neighbour across them.
    fn stride(&mut self, time: f64) {
        let (Some(last), Some(step)) = (self.last, self.plan.step()) else { return };
        if time - last <= STRIDE * step {
            return;
        }
        self.recorder.break_sequence();
        // However long the hole, no more than a window's rows: one window says that rows are missing.
        if let Span::Rows(rows) = self.plan.span {
            let skipped = course::skipped(step, time - last, 1, rows);
            self.skipped = self.skipped.saturating_add(skipped).min(rows);
        }
    }

    fn close(&mut self, is_last: bool) -> Closed {
        let mut window = self.recorder.take();
        window.labels = self.labels.iter_mut().map(std::mem::take).collect();
        let seen = self.first.take().zip(self.last);
        let (start, place, is_whole) = match (self.bounds.take(), self.plan.calendar, seen) {
            (Some((start, end)), Some(calendar), Some((first, last))) => {
                // Nothing is known of the time after the last row of all.
                let until = calendar.step.filter(|_| is_last).map_or(end, |step| (last + step).min(end));
                let stretch = Stretch { first, since: self.since, until, rows: window.rows };
                let place = self.course.day(&calendar, (start, end), &stretch);
                (Some(start), place, place.seen >= WHOLE * (end - start))
            }
            _ => {
                let place = self.course.rows(self.plan.calendar.as_ref(), seen, window.rows);
                (seen.map(|(first, _)| first), place, true)
            }
        };
        window.add_missing(place.missing.saturating_add(std::mem::take(&mut self.skipped)));
        Closed { window, start, middle: place.middle, is_whole, is_after_gap: place.is_after_gap }
    }
}
