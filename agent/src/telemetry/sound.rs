//! What of an increment is believed: the worker parses foreign models, and one impossible sum would poison a whole report.
//!
//! Counts beyond [`MOST`] are a lie, and so is the increment. Sums that contradict themselves, or that no values can add up
//! to, are left out, and the rows stay counted. Sums of sound sums are sound, for every bound is a sum over rows.

use tern_protocol::{
    frames::{Increment, LateLabels},
    report::v1::{MAX_CELLS, MAX_FEATURES},
};
use tern_stats::{
    numeric::{CLIP, DIFFERENCE_CLIP, Numeric},
    window::{Sums, Window},
};

/// Far beyond what a device answers in its life, and so small that 16 million of it still add up.
const MOST: u64 = 1 << 40;
/// For the rounding of sums, of each value.
const SLACK: f64 = 1.0 + 1e-6;

pub(super) fn has_sound_counts(increment: &Increment) -> bool {
    let v = &increment.violations;
    let counts = [increment.inferences, increment.rows, v.rejected, v.clamped, v.flagged];
    counts.iter().all(|n| *n <= MOST)
        && increment.errors.len() <= 64
        && increment.errors.iter().all(|e| e.count <= MOST)
}

/// Whether a window opens for it.
pub(super) fn counts_something(increment: &Increment) -> bool {
    let v = &increment.violations;
    let errors = increment.errors.iter().any(|e| e.count > 0);
    errors || [increment.inferences, increment.rows, v.rejected, v.clamped, v.flagged].iter().any(|n| *n > 0)
}

pub(super) fn are_sound_labels(labels: &LateLabels) -> bool {
    labels.errors <= labels.n && labels.n <= MOST && (labels.bin as usize) < MAX_CELLS
}

/// Whether anything is watched.
pub(super) fn has_shape(sums: &Window) -> bool {
    !sums.features.is_empty() || !sums.outputs.is_empty() || !sums.confidence.is_empty()
}

pub(super) fn are_sound_sums(sums: &Window) -> bool {
    let sizes = [sums.features.len(), sums.outputs.len()];
    sizes.iter().all(|n| *n <= MAX_FEATURES)
        && sums.confidence.len() <= MAX_CELLS
        && sums.confidence.iter().all(|n| *n <= MOST)
        && sums.labels.is_empty()
        && sums.watched().all(is_sound)
}

fn is_sound(sums: &Sums) -> bool {
    match sums {
        Sums::Numeric(sums) => is_sound_numeric(sums),
        Sums::Categorical(sums) => {
            let counts = sums.counts.iter().chain([&sums.other, &sums.missing]);
            sums.counts.len() <= MAX_CELLS && counts.into_iter().all(|n| *n <= MOST)
        }
    }
}

fn is_sound_numeric(sums: &Numeric) -> bool {
    let counts = [sums.n, sums.missing, sums.nan, sums.out, sums.nd, sums.flat];
    let fits = |sum: f64, n: u64, each: f64| sum.is_finite() && sum <= n as f64 * each * SLACK;
    sums.cells.len() <= MAX_CELLS
        && counts.iter().chain(&sums.cells).all(|n| *n <= MOST)
        && sums.cells.iter().sum::<u64>() == sums.n
        && sums.out <= sums.n
        && sums.flat <= sums.nd
        && fits(sums.s1.abs(), sums.n, CLIP)
        && fits(sums.s2, sums.n, CLIP * CLIP)
        && sums.s2 >= 0.0
        && fits(sums.sd_sum, sums.nd, DIFFERENCE_CLIP)
        && sums.sd_sum >= 0.0
}
