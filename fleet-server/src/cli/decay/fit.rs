//! `tern decay fit`: a reference profile from recorded rows, written whole or not at all.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use serde::Serialize;
use tern_stats::profile::{Baseline, DEFAULT_ARL, FeatureProfile, Kind, MIN_WINDOWS, Profile, Times, fit};

use super::{
    cutter::{Closed, Cutter, Layout, Plan},
    survey::survey,
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

/// The result for programs.
#[derive(Debug, Serialize)]
struct Fitted {
    file: String,
    bytes: usize,
    windows: u32,
    window_rows: f64,
    arl: f64,
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
    /// Whether the reference spans the calendar year.
    covered: bool,
    missing_rate: f64,
}

pub(super) fn run(order: &Fit, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let (profile, mut warnings, matches) = profile(&order.reference, &order.columns, &order.cut)?;
    let mut bytes = serde_json::to_vec(&profile).context("writing the profile as JSON")?;
    bytes.push(b'\n');
    disk::write(&order.out, &bytes, Access::Public).with_context(|| format!("writing {}", order.out.display()))?;
    warnings.extend(doubts(&profile));
    let basis = if profile.calendar.is_some() { "time-ordered" } else { "iid, stated" };
    let fitted = Fitted {
        file: order.out.display().to_string(),
        bytes: bytes.len(),
        windows: profile.windows,
        window_rows: profile.rows,
        arl: profile.arl,
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

/// The profile of a file, what to know of its rows, and how their answers agree with the labels.
pub(super) fn profile(file: &Path, columns: &Columns, cut: &Cut) -> anyhow::Result<(Profile, Vec<String>, Matches)> {
    let mut table = Table::open(file)?;
    let roles = Roles::of(&table, columns)?;
    ensure!(
        roles.time.is_some() || !matches!(cut.window, Some(Span::Day | Span::Week)),
        "days and weeks are cut by the times of rows: name their column by --time-column, or cut by rows:N"
    );
    ensure!(Table::open(file)?.next()?, "{}: no row follows the header", file.display());
    let known = survey(&mut table, &roles, cut)?;
    let mut table = Table::open(file)?;
    let mut layout = Layout::of(&table, known.specs.iter().map(|spec| (spec.name.as_str(), &spec.kind)))?;
    let edges = known.confidence.as_ref().map(|confidence| &confidence.edges);
    let mut devices: BTreeMap<String, (Cutter, Vec<Closed>)> = BTreeMap::new();
    while table.next()? {
        let device = roles.device.map_or(Ok(""), |at| table.cell(at))?;
        if !devices.contains_key(device) {
            devices.insert(device.to_owned(), (Cutter::new(known.plan, &known.specs, edges), Vec::new()));
        }
        let Some((cutter, closed)) = devices.get_mut(device) else { continue };
        closed.extend(cutter.take(&table, &roles, &mut layout)?);
    }
    let mut windows = Vec::new();
    for (cutter, closed) in devices.values_mut() {
        closed.extend(cutter.finish());
        append(&mut windows, std::mem::take(closed));
    }
    let (middles, windows): (Vec<f64>, Vec<_>) = windows.into_iter().map(|w| (w.middle, w.window)).unzip();
    let Plan { calendar, .. } = known.plan;
    let times = calendar.map(|calendar| Times {
        unit: known.plan.unit(),
        utc_offset: calendar.utc_offset,
        step: calendar.step,
        longest_step: calendar.longest_step,
        middles: &middles,
    });
    let baseline = Baseline {
        features: &known.specs,
        outputs: &[],
        confidence: known.confidence,
        windows: &windows,
        times,
        arl: cut.arl.unwrap_or(DEFAULT_ARL),
    };
    let mut warnings = Vec::new();
    if calendar.is_none() {
        warnings.push("no --time-column: rows are taken to be independent of order and season, as stated".into());
    }
    Ok((fit(&baseline)?, warnings, known.matches))
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
    for feature in &profile.features {
        if profile.calendar.is_some() && !feature.covered.spans_year() {
            doubts.push(format!(
                "{}: the reference does not span a year; outside the days that it saw only missing and flat values are looked \
                 for, and windows nearly all out of range",
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

fn tell(fitted: &Fitted, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mde = |fact: &FeatureFact| fact.mde.map_or("-".into(), |mde| format!("{mde:.2} sd"));
    let covered = |fact: &FeatureFact| if fact.covered { "whole year" } else { "part" };
    let season = |fact: &FeatureFact| if fitted.basis == "iid, stated" { "unknown" } else { covered(fact) };
    let row = |fact: &FeatureFact| {
        vec![
            fact.name.clone(),
            fact.kind.into(),
            mde(fact),
            season(fact).into(),
            format!("{:.1} %", 100.0 * fact.missing_rate),
        ]
    };
    let header = ["FEATURE", "KIND", "SMALLEST BIAS FOUND", "SEASON COVERED", "MISSING"];
    printer.table(&header, fitted.features.iter().map(row).collect(), "nothing")?;
    let windows = count(fitted.windows as usize, "window");
    let of = format!("{windows} of about {} rows, {}", fitted.window_rows, fitted.basis);
    printer.line(&format!("wrote {}, {}, fitted to {of}", fitted.file, size(fitted.bytes as u64)))
}
