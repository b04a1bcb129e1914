//! The smallest bias that a profile's own detectors find: measured, by running them over the baseline with biases put in.
//!
//! A formula, `(tau + sqrt(2 ln(A F J) / 10)) sigma / (1 - phi)`, was within a factor of two of the measured one for most
//! features; running the detectors also knows tails, dependence beyond one window, and that a bias in a skewed feature
//! shows in its ranks long before it shows in its mean.

use super::{FeatureProfile, Kind};
use crate::{
    design::Design,
    numeric::{CLIP, Numeric, Ruler},
    scores::Reader,
    window::Sums,
};

/// A bias counts as found if it alarms within so many windows.
const WINDOWS: usize = 10;
/// Onsets that are tried, spread over the baseline, each with both signs: the share found is then known to a tenth.
const ONSETS: usize = 24;
/// Share of onsets that must be found.
const SHARE: f64 = 0.8;
/// Biases that are tried, in standard deviations: from one that nobody would act on, each an eighth above the one before.
const SMALLEST: f64 = 0.05;
const GROWTH: f64 = 1.125;
/// Rungs of that ladder: the last is at 20 standard deviations, beyond the clip.
const RUNGS: i32 = 51;

/// The smallest bias, in reference standard deviations, that alarms within ten windows at four of five onsets; none where
/// no bias does, or for categories.
pub(super) fn smallest_bias(feature: &FeatureProfile, column: &[&Sums], design: &Design, alarm: f64) -> Option<f64> {
    let Kind::Numeric(ruler) = &feature.kind else { return None };
    let trial = Trial { feature, ruler, reader: Reader::new(feature), column, design, alarm };
    let bias = |rung: i32| SMALLEST * GROWTH.powi(rung);
    let (mut missed, mut found) = (-1, RUNGS);
    while found - missed > 1 {
        let middle = (missed + found) / 2;
        *(if trial.finds(bias(middle)) { &mut found } else { &mut missed }) = middle;
    }
    (found < RUNGS).then(|| crate::math::rounded(bias(found), 3))
}

struct Trial<'a> {
    feature: &'a FeatureProfile,
    ruler: &'a Ruler,
    reader: Reader,
    column: &'a [&'a Sums],
    design: &'a Design,
    alarm: f64,
}

impl Trial<'_> {
    fn finds(&self, bias: f64) -> bool {
        let last = self.column.len().saturating_sub(WINDOWS);
        let tries = ONSETS.min(last + 1);
        let onsets = (0..tries).map(|i| i * last / tries.max(1));
        let signs = [bias, -bias].map(|bias| (bias, self.moved(bias)));
        let found = onsets.flat_map(|onset| signs.each_ref().map(|(bias, moved)| self.is_found(onset, *bias, moved)));
        found.filter(|found| *found).count() as f64 >= SHARE * (2 * tries) as f64
    }

    fn is_found(&self, onset: usize, bias: f64, moved: &[usize]) -> bool {
        let mut state = self.feature.detector();
        let mut readings = Vec::new();
        self.column.iter().enumerate().skip(onset).take(WINDOWS).any(|(at, sums)| {
            let Sums::Numeric(sums) = sums else { return false };
            let biased = Sums::Numeric(biased(sums, moved, bias));
            let read = self.reader.read(&biased, &mut readings);
            let outcome =
                read.and_then(|()| state.observe(&self.feature.scores, &readings, self.design.row(at), self.alarm));
            outcome.is_ok_and(|outcome| outcome.alarm.is_some())
        })
    }

    /// Where the middle of each cell goes under a bias.
    fn moved(&self, bias: f64) -> Vec<usize> {
        let edges = self.ruler.edges.as_slice();
        let bound = |at: Option<&f64>, outer: f64| at.copied().unwrap_or(outer);
        let middle = |cell: usize| {
            let low = bound(cell.checked_sub(1).and_then(|i| edges.get(i)), self.ruler.min);
            let high = bound(edges.get(cell), self.ruler.max);
            low / 2.0 + high / 2.0
        };
        (0..self.ruler.edges.cells()).map(|cell| self.ruler.edges.index(middle(cell) + bias * self.ruler.sd)).collect()
    }
}

/// The sums of a window whose values all lie `bias` standard deviations further up.
fn biased(sums: &Numeric, moved: &[usize], bias: f64) -> Numeric {
    let mut cells = vec![0u64; sums.cells.len()];
    for (count, to) in sums.cells.iter().zip(moved) {
        cells[*to] = cells[*to].saturating_add(*count);
    }
    let n = sums.n as f64;
    Numeric { cells, s1: (sums.s1 + bias * n).clamp(-CLIP * n, CLIP * n), ..sums.clone() }
}
