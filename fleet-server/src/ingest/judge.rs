//! Whether a row can be true: held against its version and against time. Pure.
//!
//! Only what no working device can say is refused: a clock that stands at its floor says strange dates, and a worker that
//! could not read its profile watches nothing; both count. A refused row is committed as far as the watermark goes, or it
//! would hold back every row behind it, and is kept in quarantine in place of the figures.

use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    digest::Digest,
    ids::ModelVersion,
    report::v1::{Correction, Feature, Item, MAX_CELLS, Window},
};
use tern_stats::{
    numeric::{CLIP, DIFFERENCE_CLIP},
    profile::{FeatureProfile, Kind, Profile},
    window::Sums,
};

use super::Poison;
use crate::profiles::{Known, Reference};

/// Dates that a device may have: its clock counts as far ahead of the last signed time (DESIGN 3).
const MOST_AHEAD: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Longest window: merged windows are of days, never of years.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);
/// The contract of a device that could not read its manifest when it counted: its shape still tells.
const UNNAMED: [u8; 32] = [0; 32];
/// A count at or above this is no count: a thousand inferences a second for nine thousand years.
const ABSURD: u64 = 1 << 48;

/// Kinds of errors in a window: more than there will be of format 1, each may come twice where windows were merged.
const MOST_ERRORS: usize = 16;
/// What rounding may add to a sum, as a share of its bound.
const ROUNDING: f64 = 1e-6;

/// Why a row goes into quarantine.
pub(super) type Fault = (Poison, String);

/// The version that a row is about; events are about none.
pub(super) fn version(item: &Item) -> Option<ModelVersion> {
    let (name, version) = match item {
        Item::Window(window) => (&window.model, &window.version),
        Item::Correction(correction) => (&correction.model, &correction.version),
        Item::Event(_) => return None,
    };
    Some(ModelVersion { name: name.clone(), version: version.clone() })
}

/// Judges a row; `known` is what is known of its version.
///
/// # Errors
/// The first thing that cannot be.
pub(super) fn judge(item: &Item, known: Option<&Known>, now: Timestamp) -> Result<(), Fault> {
    match (item, known) {
        (Item::Event(_), _) => Ok(()),
        (_, None) => Err((Poison::RowVersion, "no such version was published here".into())),
        (Item::Window(window), Some(known)) => judge_window(window, known, now),
        (Item::Correction(correction), Some(known)) => judge_correction(correction, known),
    }
}

fn judge_window(window: &Window, known: &Known, now: Timestamp) -> Result<(), Fault> {
    judge_times(window, now)?;
    judge_counts(window)?;
    if !window.features.iter().chain(&window.outputs).all(can_be_sums) {
        return Err((Poison::RowCount, "a sum that its counts cannot have".into()));
    }
    let is_named = window.contract != Digest::from_bytes(UNNAMED) && !is_blind(window);
    if is_named && window.contract != known.contract_digest {
        return Err((Poison::RowShape, format!("counted under contract {}", window.contract)));
    }
    match &known.reference {
        Reference::Fits(profile) => judge_shape(window, profile)?,
        Reference::Absent if !is_blind(window) => {
            return Err((Poison::RowShape, "it watches features, its version has no profile".into()));
        }
        // Bins that no profile names are still no more than a profile may have.
        Reference::Absent | Reference::Unfit(_) if window.confidence.len().max(window.feedback.len()) > MAX_CELLS => {
            return Err((Poison::RowShape, format!("more than {MAX_CELLS} bins of confidence")));
        }
        Reference::Absent | Reference::Unfit(_) => {}
    }
    window.latencies().map_err(|_| (Poison::RowSketch, "its latency is no sketch".to_owned()))?;
    let mut features = window.features.iter().chain(&window.outputs);
    // One by one: a sketch of a few bytes unfolds to kilobytes.
    let sketches = features.try_for_each(|feature| Sums::try_from(feature).map(drop));
    sketches.map_err(|_| (Poison::RowSketch, "its unseen categories are no sketch".to_owned()))
}

fn judge_times(window: &Window, now: Timestamp) -> Result<(), Fault> {
    let latest = now.saturating_add(MOST_AHEAD).unwrap_or(Timestamp::MAX).as_millisecond();
    let lasts = i128::from(window.end_ms) - i128::from(window.start_ms);
    if window.start_ms < 0 || window.end_ms > latest || lasts > LONGEST.as_millis() {
        return Err((Poison::RowTime, format!("it is said to last from {} to {} ms", window.start_ms, window.end_ms)));
    }
    Ok(())
}

fn judge_counts(window: &Window) -> Result<(), Fault> {
    let errors = window.errors.iter().map(|error| error.count);
    let labels = window.feedback.iter().map(|labels| labels.n);
    let values = window.features.iter().chain(&window.outputs).flat_map(|feature| match feature {
        Feature::Numeric(f) => vec![f.n, f.missing, f.nan, f.nd],
        // An entry's own bound keeps the sum of 1,024 of them far from overflow.
        Feature::Categorical(f) => {
            vec![f.counts.iter().copied().max().unwrap_or(0), f.other, f.missing]
        }
    });
    if window.errors.len() > MOST_ERRORS {
        return Err((Poison::RowCount, format!("{} kinds of errors", window.errors.len())));
    }
    let own = [window.inferences, window.rows, window.number];
    let v = window.violations;
    let bad = own.into_iter().chain([v.rejected, v.clamped, v.flagged]).chain(errors).chain(labels).chain(values);
    let confidence = window.confidence.iter().copied();
    match bad.chain(confidence).find(|count| *count >= ABSURD) {
        Some(count) => Err((Poison::RowCount, format!("a count of {count}"))),
        None => Ok(()),
    }
}

/// Values are clipped before they are summed. One device's sum of 1e308 would be the mean of its fleet.
fn can_be_sums(feature: &Feature) -> bool {
    let Feature::Numeric(f) = feature else { return true };
    let within = |sum: f64, least: f64, most: f64| {
        let room = ROUNDING * (1.0 + most);
        (least - room..=most + room).contains(&sum)
    };
    let (n, nd) = (f.n as f64, f.nd as f64);
    within(f.s1, -CLIP * n, CLIP * n)
        && within(f.s2, 0.0, CLIP * CLIP * n)
        && within(f.sd_sum, 0.0, DIFFERENCE_CLIP * nd)
}

/// Whether it watches no feature: only requests failed, or the worker could not read contract or profile.
fn is_blind(window: &Window) -> bool {
    window.features.is_empty() && window.outputs.is_empty()
}

fn judge_shape(window: &Window, profile: &Profile) -> Result<(), Fault> {
    let shape = |what: String| Err((Poison::RowShape, what));
    let sides = [("input", &window.features, &profile.features), ("output", &window.outputs, &profile.outputs)];
    for (side, counted, profiled) in sides {
        if counted.len() != profiled.len() && !is_blind(window) {
            return shape(format!("{} {side} features, its profile has {}", counted.len(), profiled.len()));
        }
        if let Some((_, odd)) = counted.iter().zip(profiled).find(|(feature, profile)| !fits(feature, profile)) {
            return shape(format!("{side} {:?} is counted in another way than its profile's", odd.name));
        }
    }
    let bins = profile.confidence.as_ref().map_or(0, |confidence| confidence.bins.len());
    if !window.confidence.is_empty() && window.confidence.len() != bins {
        return shape(format!("{} bins of confidence, its profile has {bins}", window.confidence.len()));
    }
    // Without confidence all labels are of one bin; bins at the end may be left out, as where only requests failed.
    if window.feedback.len() > bins.max(1) {
        return shape(format!("labels of {} bins, its profile has {bins}", window.feedback.len()));
    }
    Ok(())
}

fn fits(feature: &Feature, profile: &FeatureProfile) -> bool {
    match (feature, &profile.kind) {
        (Feature::Numeric(f), Kind::Numeric(_)) => f.cells.len() == profile.kind.cells(),
        (Feature::Categorical(f), Kind::Categorical(_)) => f.counts.len() == profile.kind.cells(),
        _ => false,
    }
}

fn judge_correction(correction: &Correction, known: &Known) -> Result<(), Fault> {
    if correction.n >= ABSURD || correction.window >= ABSURD {
        return Err((Poison::RowCount, format!("{} labels", correction.n)));
    }
    let bins = known.profile().map(|profile| profile.confidence.as_ref().map_or(1, |c| c.bins.len()));
    match bins {
        Some(bins) if correction.bin as usize >= bins => {
            Err((Poison::RowShape, format!("labels of bin {}, its profile has {bins}", correction.bin)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
