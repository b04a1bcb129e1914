//! Figures and windows as pages, charts and `tern` want them: sums joined with what the version's profile makes of them.
//!
//! It only reads. The estimate of accuracy is advisory, see [`tern_stats::estimate`]: it cannot see a model that is wrong
//! and sure.

use std::sync::Arc;

use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion},
    report::v1::{Feature, Item, Window},
};
use tern_stats::{
    estimate::expected_error,
    latency::Latency,
    profile::{FeatureProfile, Kind, Profile},
};

use crate::{
    fleet::Fleet,
    forms::{EstimatedAccuracy, FeatureRow, FiguresRow, WindowRow},
    store::{Figures, FiguresQuery, Telemetry},
};

/// Newest windows that latency is told from: 12 hours in steady state.
const NEWEST: usize = 12;

/// A page of figures.
///
/// # Errors
/// Where the store or the disk fails.
pub async fn figures(fleet: &Arc<Fleet>, query: FiguresQuery) -> anyhow::Result<Vec<FiguresRow>> {
    let mut rows = Vec::new();
    for figures in fleet.store.figures(query).await? {
        let (device, name) = (figures.device.clone(), figures.model.name.clone());
        let newest = fleet.store.windows(device, name, None, NEWEST).await?;
        let known = fleet.profiles.of(fleet, &figures.model).await?;
        rows.push(figures_row(figures, &newest, known.as_ref().and_then(|known| known.profile())));
    }
    Ok(rows)
}

/// Windows of a model on a device in the order of their commits, at most `limit`: those after `after`, or the newest.
///
/// # Errors
/// Where the store or the disk fails.
pub async fn windows(
    fleet: &Arc<Fleet>,
    device: DeviceId,
    model: ModelName,
    after: Option<i64>,
    limit: usize,
) -> anyhow::Result<Vec<WindowRow>> {
    let mut rows = Vec::new();
    for Telemetry { id, received, item } in fleet.store.windows(device, model, after, limit).await? {
        let Item::Window(window) = item else { continue };
        let of = ModelVersion { name: window.model.clone(), version: window.version.clone() };
        let known = fleet.profiles.of(fleet, &of).await?;
        let profile = known.as_ref().and_then(|known| known.profile());
        rows.push(window_row(id, instant(received), &window, profile));
    }
    Ok(rows)
}

fn instant(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

fn figures_row(figures: Figures, newest: &[Telemetry], profile: Option<&Profile>) -> FiguresRow {
    let Figures { device, model, tally, updated } = figures;
    let latencies = newest.iter().filter_map(|item| match &item.item {
        Item::Window(window) if window.version == model.version => window.latencies().ok(),
        _ => None,
    });
    let latencies: Vec<Latency> = latencies.collect();
    FiguresRow {
        device,
        model,
        rows: tally.rows,
        inferences: tally.inferences,
        errors: tally.errors,
        violations: tally.violations,
        windows: tally.windows,
        labels: tally.labels,
        label_errors: tally.label_errors,
        accuracy: share(tally.label_errors, tally.labels).map(|errors| 1.0 - errors),
        estimated: estimated(&tally.confidence, profile),
        p50_ms: milliseconds(&latencies, 0.5),
        p95_ms: milliseconds(&latencies, 0.95),
        updated: instant(updated),
    }
}

fn window_row(id: i64, received: Timestamp, window: &Window, profile: Option<&Profile>) -> WindowRow {
    let latency = [window.latencies().unwrap_or_default()];
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let counted = window.features.iter().chain(&window.outputs);
    let features = profile.map(|profile| counted.zip(profile.watched()).map(|(f, p)| feature_row(f, p)).collect());
    WindowRow {
        id,
        version: window.version.clone(),
        start_ms: window.start_ms,
        end_ms: window.end_ms,
        received,
        rows: window.rows,
        errors: sum(&mut window.errors.iter().map(|error| error.count)),
        labels: sum(&mut window.feedback.iter().map(|labels| labels.n)),
        label_errors: sum(&mut window.feedback.iter().map(|labels| labels.errors)),
        confidence: window.confidence.clone(),
        estimated: estimated(&window.confidence, profile),
        p50_ms: milliseconds(&latency, 0.5),
        p95_ms: milliseconds(&latency, 0.95),
        features: features.unwrap_or_default(),
    }
}

fn feature_row(feature: &Feature, profile: &FeatureProfile) -> FeatureRow {
    let name = profile.name.clone();
    match (feature, &profile.kind) {
        (Feature::Numeric(sums), Kind::Numeric(ruler)) => {
            let absent = sums.missing.saturating_add(sums.nan);
            let mean = (sums.n > 0).then(|| ruler.median + ruler.sd * sums.s1 / sums.n as f64);
            let missing = share(absent, sums.n.saturating_add(absent)).unwrap_or(0.0);
            FeatureRow { name, mean, missing, counts: vec![] }
        }
        (Feature::Numeric(_), Kind::Categorical(_)) => FeatureRow { name, mean: None, missing: 0.0, counts: vec![] },
        (Feature::Categorical(sums), _) => {
            let counts: Vec<u64> = sums.counts.iter().copied().chain([sums.other]).collect();
            let all = counts.iter().fold(sums.missing, |sum, count| sum.saturating_add(*count));
            FeatureRow { name, mean: None, missing: share(sums.missing, all).unwrap_or(0.0), counts }
        }
    }
}

fn estimated(rows: &[u64], profile: Option<&Profile>) -> Option<EstimatedAccuracy> {
    let estimate = expected_error(profile?.confidence.as_ref()?, rows).ok()??;
    let rows = rows.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    Some(EstimatedAccuracy { accuracy: 1.0 - estimate.error, sd: estimate.sd, rows })
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn milliseconds(latencies: &[Latency], rank: f64) -> Option<f64> {
    Latency::quantile_over(latencies, rank).map(|microseconds| f64::from(microseconds) / 1000.0)
}
