//! Removal of lag-1 dependence from a residual, across gaps.
//!
//! One lag is what the notes' measurements supported: it took season-covered real streams from 5 alarms in 100 windows
//! to 1. Longer memory remains and is paid for by the tolerance.

use serde::{Deserialize, Serialize};

/// Largest coefficient that is used: nearer to 1 every step would be whitened away.
const MAX_PHI: f64 = 0.95;

/// What whitening remembers: the last residual, none after a gap.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Whitener {
    previous: Option<f64>,
}

impl Whitener {
    /// The innovation of `residual` under AR(1) with coefficient `phi`.
    ///
    /// `u = R - phi R'`; the first after a gap is `R sqrt(1 - phi^2)`, which has the same variance if R is stationary.
    pub fn innovation(&mut self, phi: f64, residual: f64) -> f64 {
        match self.previous.replace(residual) {
            Some(previous) => residual - phi * previous,
            None => residual * (1.0 - phi * phi).sqrt(),
        }
    }

    /// A window without a score: the next one has no predecessor.
    pub fn gap(&mut self) {
        self.previous = None;
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.previous.is_none_or(f64::is_finite)
    }
}

/// The AR(1) coefficient of a baseline's residuals: `lag1 + (1 + 3 lag1) / B`, within [0, 0.95].
///
/// The second term undoes the bias of a short series (Kendall 1954; Marriott and Pope 1954). A negative one is taken
/// for 0: it would make steps look larger than they are.
pub(crate) fn coefficient(residuals: &[Option<f64>]) -> f64 {
    let seen = residuals.iter().flatten();
    let count = seen.clone().count() as f64;
    let variance = seen.map(|r| r * r).sum::<f64>() / count;
    let pairs = residuals.windows(2).filter_map(|pair| Some(pair[0]? * pair[1]?));
    let (products, sum) = pairs.fold((0.0, 0.0), |(n, sum), product| (n + 1.0, sum + product));
    if products == 0.0 || variance <= 0.0 || variance.is_nan() {
        return 0.0;
    }
    let lag1 = sum / products / variance;
    (lag1 + (1.0 + 3.0 * lag1) / count).clamp(0.0, MAX_PHI)
}

/// The innovations of a baseline's residuals.
pub(crate) fn innovations(residuals: &[Option<f64>], phi: f64) -> impl Iterator<Item = f64> {
    let mut whitener = Whitener::default();
    residuals.iter().filter_map(move |residual| {
        if residual.is_none() {
            whitener.gap();
        }
        residual.map(|r| whitener.innovation(phi, r))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_forgets_the_predecessor_and_keeps_the_variance() {
        let mut whitener = Whitener::default();
        assert_eq!(whitener.innovation(0.6, 1.0), 0.8);
        assert_eq!(whitener.innovation(0.6, 1.0), 0.4);
        whitener.gap();
        assert_eq!(whitener.innovation(0.6, 1.0), 0.8);
    }

    #[test]
    fn the_coefficient_of_alternating_constant_and_broken_series() {
        let alternating: Vec<_> = (0..50).map(|i| Some(if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        assert_eq!(coefficient(&alternating), 0.0);
        assert_eq!(coefficient(&[Some(2.0); 50]), MAX_PHI);
        assert_eq!(coefficient(&[Some(0.0); 50]), 0.0);
        assert_eq!(coefficient(&[Some(1.0), None, Some(1.0), None]), 0.0, "no neighbours, no dependence");
        assert_eq!(coefficient(&[]), 0.0);
    }

    #[test]
    fn innovations_skip_gaps() {
        let series = [Some(1.0), Some(2.0), None, Some(2.0)];
        assert_eq!(innovations(&series, 0.5).collect::<Vec<_>>()[..2], [0.75f64.sqrt(), 1.5]);
        assert_eq!(innovations(&series, 0.5).count(), 3);
    }
}
