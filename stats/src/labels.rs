//! Labels that came for predictions, and the bets against an error rate that several detectors place on them.

use serde::{Deserialize, Serialize};

use crate::{
    math,
    shape::{ShapeMismatch, same},
};

/// Labels of one confidence bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Labels {
    /// Labels that came.
    pub n: u64,
    /// Predictions that they contradict.
    pub errors: u64,
}

/// Adds labels bin by bin.
///
/// # Errors
/// Where the bins are not as many; nothing is added then.
pub fn merge_labels(ours: &mut [Labels], theirs: &[Labels]) -> Result<(), ShapeMismatch> {
    same("labelled bins", ours.len(), theirs.len())?;
    for (sum, more) in ours.iter_mut().zip(theirs) {
        sum.n = sum.n.saturating_add(more.n);
        sum.errors = sum.errors.saturating_add(more.errors);
    }
    Ok(())
}

/// Logit shifts that are bet on: from a tenth more errors to about three times as many where errors are rare; doubling,
/// so that the best of them is never far off.
const SHIFTS: [f64; 4] = [0.15, 0.3, 0.6, 1.2];
/// Format of [`Mixture`] where it is written down.
const FORMAT: u16 = 1;
/// Bound of one window's log likelihood ratio: keeps every number finite, and is far beyond any threshold.
const LOG_BOUND: f64 = 600.0;

/// What a window did to a test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// log10 of the detector over its threshold: an alarm is at 0 or above.
    pub evidence: f64,
    /// Whether the threshold was crossed; the test has started again then.
    pub alarm: bool,
}

/// A Shiryaev-Roberts mixture over [`SHIFTS`]: `M <- (M + 1) e` for each bet, alarm at a mean of the threshold.
///
/// If every error has a conditional chance of at most the rate bet against, given all that came before, then each `e`
/// has a conditional mean of at most 1, M less the number of windows is a supermartingale (Pollak 1987 for the form),
/// and the expected number of alarms in T windows is at most T / threshold. No independence is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    format: u16,
    bets: [f64; SHIFTS.len()],
}

impl Default for Mixture {
    fn default() -> Self {
        Self { format: FORMAT, bets: [0.0; SHIFTS.len()] }
    }
}

impl Mixture {
    /// Whether the state is of a format and of numbers that this code goes on from.
    pub fn is_sound(&self) -> bool {
        self.format == FORMAT && self.bets.iter().all(|m| m.is_finite() && *m >= 0.0)
    }

    /// Weighs one window: `bins` of (largest error rate of the null, labels), log ratios times `weight` in (0, 1].
    pub(crate) fn observe<I>(&mut self, bins: I, weight: f64, threshold: f64) -> Verdict
    where
        I: Iterator<Item = (f64, Labels)> + Clone,
    {
        if bins.clone().all(|(_, labels)| labels.n == 0) {
            // A window without labels is no chance to start an alarm in: the bound counts windows with labels.
            return Verdict { evidence: math::evidence(self.level(), threshold), alarm: false };
        }
        for (bet, shift) in self.bets.iter_mut().zip(SHIFTS) {
            let log: f64 = bins.clone().map(|(rate, labels)| log_ratio(rate, shift, labels)).sum();
            *bet = (*bet + 1.0) * (weight * log).clamp(-LOG_BOUND, LOG_BOUND).exp();
        }
        let level = self.level();
        let alarm = level >= threshold;
        if alarm {
            self.bets = Default::default();
        }
        Verdict { evidence: math::evidence(level, threshold), alarm }
    }

    fn level(&self) -> f64 {
        self.bets.iter().sum::<f64>() / self.bets.len() as f64
    }
}

/// ln of the likelihood of `labels` under a rate shifted by `shift` in logits, over that under `rate`.
fn log_ratio(rate: f64, shift: f64, labels: Labels) -> f64 {
    // A rate of exactly 0 or 1 would make one label decide for ever.
    let p = rate.clamp(1e-4, 1.0 - 1e-4);
    let q = math::sigmoid(math::logit(p) + shift);
    let errors = labels.errors.min(labels.n);
    errors as f64 * (q / p).ln() + (labels.n - errors) as f64 * ((1.0 - q) / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bet_is_fair_at_the_null() {
        for rate in [0.001, 0.1, 0.5, 0.9] {
            for shift in SHIFTS {
                let right = log_ratio(rate, shift, Labels { n: 1, errors: 0 }).exp();
                let wrong = log_ratio(rate, shift, Labels { n: 1, errors: 1 }).exp();
                assert!(((1.0 - rate) * right + rate * wrong - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn floods_and_nonsense_leave_the_state_finite() {
        let mut mixture = Mixture::default();
        let flood = [(0.1, Labels { n: u64::MAX, errors: u64::MAX }), (0.0, Labels { n: 3, errors: 9 })];
        assert!(mixture.observe(flood.into_iter(), 1.0, 1e3).alarm);
        let verdict = mixture.observe([(1.0, Labels { n: u64::MAX, errors: 0 })].into_iter(), 1.0, 1e3);
        assert!(mixture.is_sound() && verdict.evidence.is_finite() && !verdict.alarm);
    }

    #[test]
    fn a_window_without_labels_changes_nothing() {
        let mut mixture = Mixture::default();
        mixture.observe([(0.1, Labels { n: 50, errors: 9 })].into_iter(), 1.0, 1e3);
        let before = mixture.clone();
        mixture.observe([(0.1, Labels::default())].into_iter(), 1.0, 1e3);
        assert_eq!(mixture, before);
        let text = serde_json::to_string(&mixture).unwrap();
        assert_eq!(serde_json::from_str::<Mixture>(&text).unwrap(), mixture);
    }
}
