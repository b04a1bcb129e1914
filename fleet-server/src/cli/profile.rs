//! `tern model profile`: fits a bundle's reference profile to rows that the publisher recorded while all was well.
//!
//! It runs the bundle's own model on this machine, so the process parses ONNX: it loads no key and asks no server. The same
//! rows give the same bytes. The profile is written whole or not at all, and only if every reader would accept it.

mod rows;
mod seen;

use anyhow::{Context, ensure};
use serde::Serialize;
use tern_engine::{Limits, Model};
use tern_protocol::reference;
use tern_stats::profile::{Baseline, Confidence, FeatureProfile, MIN_WINDOWS, Profile, fit};

use super::{args, output::Printer};
use crate::{
    bundle::{self, Subject},
    disk::{self, Access},
    wording::{count, size},
};
use rows::{MAX_ROWS, Recorded};
use seen::Sight;

/// Fewer windows than this leave the spread uncertain by more than a tenth; they are used, with a word.
const AMPLE_WINDOWS: usize = 2 * MIN_WINDOWS;
/// Smallest detectable bias, in standard deviations, from which quiet says little.
const COARSE_MDE: f64 = 1.0;
/// Fewest different rows behind a confidence bin, on average, that its error rate means something.
const ROWS_A_BIN: u64 = 10;

/// The result for programs.
#[derive(Debug, Serialize)]
struct Fitted {
    file: String,
    bytes: usize,
    rows: usize,
    different_rows: usize,
    windows: u32,
    window_rows: f64,
    arl: f64,
    watched: Vec<WatchedFact>,
    labelled_rows: u64,
    /// Of the labelled rows; none without labels.
    error_rate: Option<f64>,
    warnings: Vec<String>,
}

/// What was found of one watched input or output.
#[derive(Debug, Serialize)]
struct WatchedFact {
    name: String,
    /// Smallest constant bias found in about ten windows, in standard deviations; none of categories.
    mde: Option<f64>,
    missing_rate: f64,
}

pub(super) fn run(order: &args::Profile, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let subject = bundle::subject(&order.folder)?;
    let model = load(&subject)?;
    let sight = look(order, &subject, &model, printer)?;
    sight.matches().check().with_context(|| order.data.display().to_string())?;
    let profile = profile(order, &sight)?;
    let mut bytes = serde_json::to_vec(&profile).context("writing the profile as JSON")?;
    bytes.push(b'\n');
    // What is written must be what every device reads back.
    reference::read(&bytes, &subject.contract)?;
    disk::write(&subject.reference, &bytes, Access::Public)
        .with_context(|| format!("writing {}", subject.reference.display()))?;
    let fitted = Fitted {
        file: subject.reference.display().to_string(),
        bytes: bytes.len(),
        rows: sight.count(),
        different_rows: sight.different(),
        windows: profile.windows,
        window_rows: profile.rows,
        arl: profile.arl,
        watched: profile.watched().map(fact).collect(),
        labelled_rows: sight.labelled(),
        error_rate: sight.matches().error_rate(),
        warnings: warnings(order, &sight, &profile),
    };
    printer.result(&fitted, |p| {
        tell(&fitted, p)?;
        sight.matches().words().map_or(Ok(()), |words| p.line(&words))
    })
}

fn load(subject: &Subject) -> anyhow::Result<Model> {
    let limits = Limits::default();
    let bytes = disk::read(&subject.model, limits.file_bytes)?.context("the model is gone")?;
    Model::load(&bytes, &limits).context("loading the model")
}

fn look<'m>(
    order: &args::Profile,
    subject: &Subject,
    model: &'m Model,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Sight<'m>> {
    let mut sight = Sight::new(model, &subject.contract)?;
    let mut recorded = Recorded::open(&order.data, &subject.contract, order.label.as_deref())?;
    while let Some(row) = recorded.next()? {
        ensure!(sight.count() < MAX_ROWS, "there are more than {MAX_ROWS} rows: fit to fewer, or to larger windows");
        sight.take(&row).with_context(|| format!("row {}", sight.count() + 1))?;
        if sight.count() % 1_000 == 0 {
            printer.progress(&format!("{} rows", sight.count()));
        }
    }
    printer.progress("");
    Ok(sight)
}

fn profile(order: &args::Profile, sight: &Sight<'_>) -> anyhow::Result<Profile> {
    let rows = order.rows as usize;
    let have = sight.count() / rows;
    ensure!(
        have >= MIN_WINDOWS,
        "{} make {have} of the {MIN_WINDOWS} windows of {rows} that a profile needs: the spread of fewer is a guess. \
         Record at least {} rows, or use smaller windows (--rows)",
        count(sight.count(), "row"),
        MIN_WINDOWS * rows
    );
    let specs = sight.specs()?;
    let confidence = Confidence::of_sample(sight.predictions());
    let windows = sight.windows(rows, &specs, confidence.as_ref().map(|confidence| &confidence.edges));
    let (features, outputs) = (&specs.0[..], &specs.1[..]);
    let baseline = Baseline { features, outputs, confidence, windows: &windows, times: None, arl: order.arl };
    Ok(fit(&baseline)?)
}

fn fact(feature: &FeatureProfile) -> WatchedFact {
    WatchedFact { name: feature.name.clone(), mde: feature.mde, missing_rate: feature.missing_rate() }
}

/// What a publisher should know before trusting the profile.
fn warnings(order: &args::Profile, sight: &Sight<'_>, profile: &Profile) -> Vec<String> {
    let mut warnings = Vec::new();
    let (rows, different) = (sight.count(), sight.different());
    if different < rows {
        warnings.push(format!(
            "{rows} rows hold {different} different ones: drawn again and again they vary less than the world does; each \
             counts once for confidence"
        ));
    }
    if (profile.windows as usize) < AMPLE_WINDOWS {
        warnings.push(format!("{} windows are enough, {AMPLE_WINDOWS} would be better", profile.windows));
    }
    let left = rows % order.rows as usize;
    if left > 0 {
        warnings.push(format!("the last {} fill no window and are left out of it", count(left, "row")));
    }
    for feature in profile.watched() {
        if let Some(mde) = feature.mde.filter(|mde| *mde >= COARSE_MDE) {
            warnings.push(format!("{}: only a change of {mde:.1} standard deviations would be found", feature.name));
        }
    }
    match &profile.confidence {
        None if order.label.is_some() && sight.labelled() == 0 => warnings.push(format!(
            "the column of --label is left out: {} has no [contract.prediction] to hold it against",
            bundle::DESCRIPTION
        )),
        None if order.label.is_some() => {
            warnings
                .push("no confidence is a number, or the contract names none: labels tell errors and no more".into());
        }
        None => warnings.push("no labels: a broken model will not be told from harder inputs".into()),
        Some(confidence) if confidence.n() < ROWS_A_BIN * confidence.bins.len() as u64 => {
            warnings.push(format!("{} labelled rows are few for {} bins", confidence.n(), confidence.bins.len()));
        }
        Some(_) => {}
    }
    warnings
}

fn tell(fitted: &Fitted, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mde = |mde: Option<f64>| mde.map_or("-".into(), |mde| format!("{mde:.2} sd"));
    let row = |w: &WatchedFact| vec![w.name.clone(), mde(w.mde), format!("{:.1} %", 100.0 * w.missing_rate)];
    printer.table(
        &["WATCHED", "SMALLEST BIAS FOUND", "MISSING"],
        fitted.watched.iter().map(row).collect(),
        "nothing",
    )?;
    fitted.warnings.iter().try_for_each(|warning| printer.note(&format!("note: {warning}")))?;
    let windows = format!("{} windows of {} rows", fitted.windows, fitted.window_rows);
    printer.line(&format!("wrote {}, {}, fitted to {windows}", fitted.file, size(fitted.bytes as u64)))
}
