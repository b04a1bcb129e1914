//! The first look at a reference: which columns are numbers, their scale, their categories, and how fast rows come.
//!
//! It keeps samples of a bounded size, so a large reference does not fill memory. What is sampled depends on the rows alone:
//! the same file gives the same profile.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};
use tern_stats::{
    calendar::{Calendar, DAY},
    categorical::Dictionary,
    course::STRIDE,
    profile::{Confidence, Spec},
};

use super::{
    cutter::{Answer, Plan, answer, compare, order},
    table::{Roles, Table, is_missing, seconds},
};
use crate::cli::{
    args::decay::{Cut, Span},
    matches::Matches,
};

/// Most values of a column that its scale is taken from: edges of 32 cells are then known to a thousandth in rank.
const SAMPLE: usize = 100_000;
/// Most predictions that errors by confidence are taken from.
const PREDICTIONS: usize = 1_000_000;
/// Most different texts of a column that are told apart.
const TEXTS: usize = 4_096;
/// Categories of a dictionary; the rest are "other".
const CATEGORIES: usize = 64;
/// Fewest rows of a day that make days the usual windows.
const ROWS_A_DAY: f64 = 12.0;
/// Windows that rows are cut into where nothing says how, and how few or many rows one may have.
const WINDOWS: u64 = 200;
const ROWS: (u64, u64) = (20, 1_000);
/// Rows come at a steady rate where so many of the steps between them are at most [`STRIDE`] times the median.
const STEADY: f64 = 0.9;

/// A sample of a stream: each value is as likely to be in it as any other (Vitter 1985, algorithm R), drawn by a fixed seed.
#[derive(Debug)]
struct Sample<T> {
    kept: Vec<T>,
    most: usize,
    seen: u64,
    state: u64,
}

impl<T> Sample<T> {
    fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, seen: 0, state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn add(&mut self, value: T) {
        self.seen += 1;
        if self.kept.len() < self.most {
            return self.kept.push(value);
        }
        // xorshift64 (Marsaglia 2003): which values are left out decides nothing that anyone could bet on.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        if let Some(place) = usize::try_from(self.state % self.seen).ok().and_then(|at| self.kept.get_mut(at)) {
            *place = value;
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// What was seen of a column.
#[derive(Debug)]
struct Column {
    name: String,
    is_numeric: bool,
    /// Whether no option calls it a category, so that its cells alone decide.
    is_free: bool,
    numbers: Sample<f64>,
    range: (f64, f64),
    texts: BTreeMap<String, u64>,
    /// Cells that are not missing, and those of them that are numbers and times.
    cells: u64,
    parsed: u64,
    times: u64,
    /// The first cell that is no number, and its line.
    odd: Option<(String, u64)>,
}

impl Column {
    fn new(name: &str, is_numeric: bool) -> Self {
        let range = (f64::INFINITY, f64::NEG_INFINITY);
        Self {
            name: name.into(),
            is_numeric,
            is_free: is_numeric,
            numbers: Sample::new(SAMPLE),
            range,
            texts: BTreeMap::new(),
            cells: 0,
            parsed: 0,
            times: 0,
            odd: None,
        }
    }

    fn take(&mut self, cell: &str, line: u64) {
        if is_missing(cell) {
            return;
        }
        self.cells += 1;
        // A column turns out to be no number at any row, so texts are counted from the first.
        if let Some(count) = self.texts.get_mut(cell) {
            *count += 1;
        } else if self.texts.len() < TEXTS {
            self.texts.insert(cell.to_owned(), 1);
        }
        match cell.parse::<f64>() {
            Ok(x) => {
                self.parsed += 1;
                if self.is_numeric && x.is_finite() {
                    self.range = (self.range.0.min(x), self.range.1.max(x));
                    self.numbers.add(x);
                }
            }
            Err(_) => {
                self.is_numeric = false;
                if self.is_free {
                    self.times += u64::from(seconds(cell).is_some());
                    self.odd.get_or_insert_with(|| (cell.to_owned(), line));
                }
            }
        }
    }

    /// Refuses what would become a category by mistake: times, and numbers among which some cells are none.
    fn doubt(&self, is_timed: bool) -> anyhow::Result<()> {
        let Some((cell, line)) = &self.odd else { return Ok(()) };
        let name = &self.name;
        if 2 * self.times > self.cells {
            let role = if is_timed { String::new() } else { format!("name it by --time-column {name}, or ") };
            bail!("column {name:?} looks like times: {role}leave it out by --ignore {name}");
        }
        if 2 * self.parsed > self.cells && self.texts.len() > CATEGORIES {
            bail!(
                "line {line}: {name}: {cell:?} is no number, as {} of the column's {} cells are: mend it or leave it empty, \
                 or name the column by --categorical {name}",
                self.parsed,
                self.cells
            );
        }
        Ok(())
    }

    fn spec(mut self) -> anyhow::Result<Spec> {
        if !self.is_numeric {
            let mut ranked: Vec<_> = self.texts.into_iter().collect();
            ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let mut names: Vec<String> = ranked.into_iter().take(CATEGORIES).map(|(name, _)| name).collect();
            names.sort_unstable();
            let dictionary = Dictionary::new(names).context("categories of a column")?;
            return Ok(Spec::with_dictionary(&self.name, dictionary));
        }
        if self.numbers.seen > SAMPLE as u64 {
            self.numbers.kept.extend([self.range.0, self.range.1]);
        }
        Ok(Spec::numeric(&self.name, &self.numbers.kept)?)
    }
}

/// When rows of one device came.
#[derive(Debug, Default)]
struct Pace {
    last: Option<f64>,
    start: f64,
    count: u64,
}

/// A surveyed reference.
pub(super) struct Survey {
    /// The features, in the file's order.
    pub(super) specs: Vec<Spec>,
    /// Errors by confidence, where there are confidences.
    pub(super) confidence: Option<Confidence>,
    /// How its rows become windows.
    pub(super) plan: Plan,
    /// How answers agree with labels.
    pub(super) matches: Matches,
}

/// Reads the whole of `table`.
pub(super) fn survey(table: &mut Table, roles: &Roles, cut: &Cut) -> anyhow::Result<Survey> {
    let features = roles.features(table);
    ensure!(!features.is_empty(), "every column is named by an option: nothing is left to watch");
    let column = |at: &usize| Column::new(&table.names()[*at], !roles.categorical.contains(at));
    let mut columns: Vec<Column> = features.iter().map(column).collect();
    let mut predictions = Sample::new(PREDICTIONS);
    let mut matches = Matches::default();
    let (mut steps, mut counts) = (Sample::new(SAMPLE), Sample::new(SAMPLE));
    let mut longest = 0.0f64;
    let mut paces: HashMap<String, Pace> = HashMap::new();
    let plain = Calendar::plain(cut.utc_offset.unwrap_or(0));
    let start = |time| if cut.window == Some(Span::Week) { plain.week_start(time) } else { plain.day_start(time) };
    let mut rows = 0;
    while table.next()? {
        rows += 1;
        for (column, at) in columns.iter_mut().zip(&features) {
            column.take(table.cell(*at)?, table.line());
        }
        let answer = answer(table, roles)?;
        compare(table, roles, &answer, &mut matches)?;
        if let Answer { confidence: Some(confidence), wrong: Some(wrong) } = answer {
            predictions.add((confidence, wrong));
        }
        let Some(time) = roles.time.map(|at| table.time(at)).transpose()? else { continue };
        let device = roles.device.map_or(Ok(""), |at| table.cell(at))?;
        let pace = paces.entry(device.to_owned()).or_default();
        order(table, roles, pace.last, time)?;
        if let Some(last) = pace.last.replace(time) {
            steps.add(time - last);
            longest = longest.max(time - last);
        }
        if start(time) != pace.start {
            if pace.count > 0 {
                counts.add(pace.count as f64);
            }
            (pace.start, pace.count) = (start(time), 0);
        }
        pace.count += 1;
    }
    columns.iter().try_for_each(|column| column.doubt(roles.time.is_some())).with_context(|| table.place())?;
    matches.check().with_context(|| table.place())?;
    paces.values().filter(|pace| pace.count > 0).for_each(|pace| counts.add(pace.count as f64));
    let rows_each = rows / paces.len().max(1) as u64;
    let mut plan = plan(cut, roles.time.map(|_| (&steps.kept[..], &counts.kept[..])), rows_each);
    if let Some(calendar) = &mut plan.calendar {
        calendar.longest_step = Some(longest).filter(|step| *step > 0.0);
    }
    Ok(Survey {
        specs: columns.into_iter().map(Column::spec).collect::<anyhow::Result<_>>()?,
        confidence: Confidence::of_sample(&predictions.kept),
        plan,
        matches,
    })
}

/// How `rows` rows become windows, from what was asked for, the steps between them and how many come in a day or week.
fn plan(cut: &Cut, times: Option<(&[f64], &[f64])>, rows: u64) -> Plan {
    let by_rows = || Span::Rows((rows / WINDOWS).clamp(ROWS.0, ROWS.1));
    let Some((steps, counts)) = times else {
        return Plan { span: cut.window.unwrap_or_else(by_rows), calendar: None };
    };
    let usual = median(counts).unwrap_or(0.0);
    let span = cut.window.unwrap_or_else(|| if usual >= ROWS_A_DAY { Span::Day } else { by_rows() });
    let step = match span {
        Span::Day => Some(DAY / usual),
        Span::Week => Some(7.0 * DAY / usual),
        Span::Rows(_) => steady(steps),
    };
    let step = step.filter(|step| step.is_finite() && *step > 0.0);
    Plan { span, calendar: Some(Calendar { step, ..Calendar::plain(cut.utc_offset.unwrap_or(0)) }) }
}

/// The usual step between rows, where most steps are about that long.
fn steady(steps: &[f64]) -> Option<f64> {
    let usual = median(steps).filter(|step| *step > 0.0)?;
    let near = steps.iter().filter(|step| **step <= STRIDE * usual).count();
    (near as f64 >= STEADY * steps.len() as f64).then_some(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_days_where_a_day_has_rows_enough() {
        let with = |window, steps: &[f64], counts: &[f64], rows| {
            plan(&Cut { window, ..Cut::default() }, Some((steps, counts)), rows)
        };
        let hourly = with(None, &[3600.0; 9], &[24.0, 24.0, 3.0], 9000);
        assert_eq!((hourly.span, hourly.calendar.unwrap().step), (Span::Day, Some(3600.0)));
        let daily = with(None, &[DAY; 9], &[1.0; 9], 6000);
        assert_eq!((daily.span, daily.calendar.unwrap().step), (Span::Rows(30), Some(DAY)));
        let random = with(Some(Span::Rows(50)), &[1.0, 1.0, 9.0, 1.0, 7.0], &[24.0], 9000);
        assert_eq!(random.calendar.unwrap().step, None, "no rate, no row that should be there");
        let untimed = |rows| plan(&Cut::default(), None, rows).span;
        assert_eq!([300, 40_000, 9_000_000].map(untimed), [20, 200, 1_000].map(Span::Rows));
    }

    #[test]
    fn a_sample_is_bounded_fair_and_always_the_same() {
        let draw = || {
            let mut sample = Sample::new(1000);
            (0..100_000).for_each(|i| sample.add(f64::from(i)));
            sample.kept
        };
        let kept = draw();
        assert_eq!((kept.len(), &kept), (1000, &draw()));
        let mean = kept.iter().sum::<f64>() / 1000.0;
        assert!((mean - 50_000.0).abs() < 4_000.0, "{mean}");
    }
}
