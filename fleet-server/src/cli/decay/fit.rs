//! `tern decay fit`: a reference profile from recorded rows, written whole or not at all.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use serde::Serialize;
use tern_protocol::reference;
use tern_stats::profile::{Baseline, DEFAULT_ARL, FeatureProfile, Kind, MAX_ARL, MIN_WINDOWS, Profile, Times, fit};

use super::{
    check_place,
    cutter::{Closed, Cutter, Layout, Plan},
    said::season,
    survey::{Survey, survey},
    table::{Roles, Table},
};
use crate::{
    cli::{
        args::decay::{Columns, Cut, Fit, Span},
        matches::Matches,
        output::Printer,
    },
    disk::{self, Access},
    wording::{count, size},
};

/// Fewer windows than this leave the spread uncertain by more than a tenth; they are used, with a word.
const AMPLE_WINDOWS: u32 = 2 * MIN_WINDOWS as u32;
/// Smallest bias, in standard deviations, from which quiet says little.
const COARSE_MDE: f64 = 2.0;
/// Fewest windows between false alarms, times features, from which on more of them cost power. Below, fewer cost it too: what
/// the held-out parts of a reference may reach falls with the level, and the tolerance that keeps them below it grows faster.
const LEAST_LEVEL: f64 = 200.0;
/// Share of values of no category of its own from which a column of texts is hardly watched.
const MOSTLY_OTHER: f64 = 0.5;
/// Error rate from which label and answer are hardly of one kind.
const MOSTLY_WRONG: f64 = 0.5;
/// Most sums of a window and a feature that are kept at once: of some 400 bytes, 4 GB.
const MOST_SUMS: usize = 10_000_000;

/// The result for programs.
#[derive(Debug, Serialize)]
struct Fitted {
    file: String,
    bytes: usize,
    windows: u32,
    window_rows: f64,
    arl: f64,
    /// How many devices it is one profile for; none without a column of devices.
    devices: Option<usize>,
    /// `time-ordered`, or `iid, stated`: without times nobody can test whether order and season matter.
    basis: &'static str,
    /// Of the labelled rows; none without labels.
    error_rate: Option<f64>,
    features: Vec<FeatureFact>,
    warnings: Vec<String>,
}

/// What was found of one feature.
#[derive(Debug, Serialize)]
struct FeatureFact {
    name: String,
    kind: &'static str,
    /// Smallest constant bias found in about ten windows, in standard deviations.
    mde: Option<f64>,
    /// Whether the reference spans the calendar year, with no hole over 30 days.
    covered: bool,
    missing_rate: f64,
}

/// A profile that was made of recorded rows.
pub(super) struct Made {
    pub(super) profile: Profile,
    /// What to know of the rows.
    pub(super) warnings: Vec<String>,
    /// How their answers agree with the labels.
    matches: Matches,
    devices: Option<usize>,
}

pub(super) fn run(order: &Fit, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    check_place(&order.out, &[&order.reference])?;
    let Made { profile, mut warnings, matches, devices } = profile(&order.reference, &order.columns, &order.cut)?;
    let mut bytes = serde_json::to_vec(&profile).context("writing the profile as JSON")?;
    bytes.push(b'\n');
    ensure!(
        bytes.len() <= reference::MAX_BYTES,
        "the profile takes {} and may take {}: leave out columns, or texts as long as a page, by --ignore",
        size(bytes.len() as u64),
        size(reference::MAX_BYTES as u64)
    );
    disk::write(&order.out, &bytes, Access::Public).with_context(|| format!("writing {}", order.out.display()))?;
    warnings.extend(doubts(&profile));
    if order.columns.label_column.is_some() {
        warnings.extend(doubts_of_labels(&profile, &matches));
    }
    let basis = if profile.calendar.is_some() { "time-ordered" } else { "iid, stated" };
    let fitted = Fitted {
        file: order.out.display().to_string(),
        bytes: bytes.len(),
        windows: profile.windows,
        window_rows: profile.rows,
        arl: profile.arl,
        devices,
        basis,
        error_rate: matches.error_rate(),
        features: profile.features.iter().map(fact).collect(),
        warnings,
    };
    fitted.warnings.iter().try_for_each(|warning| printer.note(&format!("warning: {warning}")))?;
    printer.result(&fitted, |p| {
        tell(&fitted, p)?;
        matches.words().map_or(Ok(()), |words| p.line(&words))
    })
}

/// The profile of the rows in a file.
pub(super) fn profile(file: &Path, columns: &Columns, cut: &Cut) -> anyhow::Result<Made> {
    let arl = cut.arl.unwrap_or(DEFAULT_ARL);
    ensure!(
        (1.0..=MAX_ARL).contains(&arl),
        "--arl {arl}: windows between false alarms are at least 1, at most {MAX_ARL}"
    );
    let mut table = Table::open(file)?;
    let roles = Roles::of(&table, columns)?;
    ensure!(
        roles.time.is_some() || !matches!(cut.window, Some(Span::Day | Span::Week)),
        "days and weeks are cut by the times of rows: name their column by --time-column, or cut by rows:N"
    );
    ensure!(Table::open(file)?.next()?, "{}: no row follows the header", file.display());
    let known = survey(&mut table, &roles, cut)?;
    let (devices, windows) = windows(file, &roles, &known)?;
    let (middles, windows): (Vec<f64>, Vec<_>) = windows.into_iter().map(|w| (w.middle, w.window)).unzip();
    let Plan { calendar, .. } = known.plan;
    let times = calendar.map(|calendar| Times {
        unit: known.plan.unit(),
        utc_offset: calendar.utc_offset,
        step: calendar.step,
        longest_step: calendar.longest_step,
        middles: &middles,
    });
    let baseline =
        Baseline { features: &known.specs, outputs: &[], confidence: known.confidence, windows: &windows, times, arl };
    let mut warnings = Vec::new();
    if calendar.is_none() {
        warnings.push("no --time-column: rows are taken to be independent of order and season, as stated".into());
        if cut.utc_offset.is_some_and(|offset| offset != 0) {
            warnings.push("--utc-offset cuts days, and without --time-column there are none".into());
        }
    }
    Ok(Made { profile: fit(&baseline)?, warnings, matches: known.matches, devices: roles.device.map(|_| devices) })
}

/// How many devices there are, and the windows of all of them, one after the other.
fn windows(file: &Path, roles: &Roles, known: &Survey) -> anyhow::Result<(usize, Vec<Closed>)> {
    let mut table = Table::open(file)?;
    let mut layout = Layout::of(&table, known.specs.iter().map(|spec| (spec.name.as_str(), &spec.kind)))?;
    let edges = known.confidence.as_ref().map(|confidence| &confidence.edges);
    let mut devices: BTreeMap<String, (Cutter, Vec<Closed>)> = BTreeMap::new();
    let mut kept = 0;
    while table.next()? {
        let device = roles.device.map_or(Ok(""), |at| table.cell(at))?;
        if !devices.contains_key(device) {
            devices.insert(device.to_owned(), (Cutter::new(known.plan, &known.specs, edges), Vec::new()));
        }
        let Some((cutter, closed)) = devices.get_mut(device) else { continue };
        if let Some(window) = cutter.take(&table, roles, &mut layout)? {
            closed.push(window);
            kept += 1;
            check_room(kept, known.specs.len())?;
        }
    }
    let count = devices.len();
    let mut windows = Vec::new();
    for (mut cutter, mut closed) in devices.into_values() {
        closed.extend(cutter.finish());
        append(&mut windows, closed);
    }
    Ok((count, windows))
}

/// Whether so many windows are kept in memory: a system that has none left ends the program without a word.
fn check_room(windows: usize, features: usize) -> anyhow::Result<()> {
    ensure!(
        windows.saturating_mul(features) <= MOST_SUMS,
        "over {} windows of {features} columns do not fit into memory: choose longer ones by --window, or fewer rows",
        windows - 1
    );
    Ok(())
}

/// Adds the windows of a device: those that rows could have filled, each gap marked by a window without rows.
fn append(all: &mut Vec<Closed>, mut closed: Vec<Closed>) {
    // A recording begins and ends within a day or week, and its part is no usual one.
    if closed.last().is_some_and(|window| !window.is_whole) {
        closed.pop();
    }
    if closed.first().is_some_and(|window| !window.is_whole) {
        closed.remove(0);
    }
    for (at, window) in closed.into_iter().enumerate() {
        if window.is_after_gap || (at == 0 && !all.is_empty()) {
            let mut empty = window.clone();
            empty.window.clear();
            all.push(empty);
        }
        all.push(window);
    }
}

fn fact(feature: &FeatureProfile) -> FeatureFact {
    FeatureFact {
        name: feature.name.clone(),
        kind: if matches!(feature.kind, Kind::Numeric(_)) { "numeric" } else { "categorical" },
        mde: feature.mde,
        covered: feature.covered.spans_year(),
        missing_rate: feature.missing_rate(),
    }
}

/// What to know before trusting the profile.
fn doubts(profile: &Profile) -> Vec<String> {
    let mut doubts = Vec::new();
    if profile.windows < AMPLE_WINDOWS {
        doubts.push(format!("{} windows are enough, {AMPLE_WINDOWS} would be better", profile.windows));
    }
    let (arl, watched) = (profile.arl, profile.features.len() as f64);
    if arl * watched < LEAST_LEVEL {
        doubts.push(format!(
            "--arl {arl} often finds less than a larger one, as the tolerance grows: take at least {}",
            (LEAST_LEVEL / watched).ceil()
        ));
    }
    for feature in &profile.features {
        let share = other_share(feature);
        if share > MOSTLY_OTHER {
            doubts.push(format!(
                "{}: {:.0} % of its values are none of its {} most frequent texts, and are not told apart: write numbers like \
                 1.5, and leave names and ids out by --ignore {}",
                feature.name,
                100.0 * share,
                feature.counts.len(),
                feature.name
            ));
        }
        if profile.calendar.is_some() && !feature.covered.spans_year() {
            doubts.push(format!(
                "{}: the reference does not span the calendar year without a hole of over 30 days; outside the days that it saw \
                 only missing and flat values are looked for, and windows nearly all out of range",
                feature.name
            ));
        }
        if matches!(&feature.kind, Kind::Numeric(ruler) if ruler.min == ruler.max) {
            doubts.push(format!(
                "{}: one value all over the reference; every other counts as out of range",
                feature.name
            ));
        }
        match feature.mde {
            None if matches!(feature.kind, Kind::Numeric(_)) => {
                doubts.push(format!("{}: no constant bias would be found in ten windows", feature.name));
            }
            Some(mde) if mde >= COARSE_MDE => {
                doubts.push(format!("{}: only a bias of {mde:.1} standard deviations would be found", feature.name));
            }
            Some(_) | None => {}
        }
    }
    doubts
}

/// Share of the values of no category of its own.
fn other_share(feature: &FeatureProfile) -> f64 {
    let known = feature.counts.iter().fold(0.0, |sum, count| sum + *count as f64);
    feature.other as f64 / (known + feature.other as f64).max(1.0)
}

/// What to know before trusting the profile with labels.
fn doubts_of_labels(profile: &Profile, matches: &Matches) -> Vec<String> {
    let Some(rate) = matches.error_rate() else { return vec!["no row has a label: labels are not judged".into()] };
    let mut doubts = Vec::new();
    if rate > MOSTLY_WRONG {
        doubts.push(format!(
            "{:.0} % of the labelled rows are answered otherwise: write labels as the model's classes are; of answers that are \
             no classes none is right",
            100.0 * rate
        ));
    }
    if profile.confidence.is_none() {
        doubts.push("without confidences labels are held to the objective alone".into());
    }
    doubts
}

fn tell(fitted: &Fitted, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mde = |fact: &FeatureFact| fact.mde.map_or("-".into(), |mde| format!("{mde:.2} sd"));
    let is_timed = fitted.basis != "iid, stated";
    let row = |fact: &FeatureFact| {
        vec![
            fact.name.clone(),
            fact.kind.into(),
            mde(fact),
            season(fact.covered, is_timed).into(),
            format!("{:.1} %", 100.0 * fact.missing_rate),
        ]
    };
    let header = ["FEATURE", "KIND", "SMALLEST BIAS FOUND", "SEASON COVERED", "MISSING"];
    printer.table(&header, fitted.features.iter().map(row).collect(), "nothing")?;
    let windows = count(fitted.windows as usize, "window");
    let of = format!("{windows} of about {} rows, {}", fitted.window_rows, fitted.basis);
    let whose =
        fitted.devices.map(|devices| format!("one profile for {}, ", count(devices, "device"))).unwrap_or_default();
    printer.line(&format!("wrote {}, {}, {whose}fitted to {of}", fitted.file, size(fitted.bytes as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_windows_than_memory_holds_are_refused() {
        assert!(check_room(1_000_000, 10).is_ok());
        let told = check_room(1_000_001, 10).unwrap_err().to_string();
        assert!(told.contains("over 1000000 windows of 10 columns do not fit") && told.contains("--window"), "{told}");
        assert!(check_room(usize::MAX, 2).is_err());
    }
}
