//! The objective: whether the error rate is above what the publisher promised, for whatever reason.
//!
//! The same bets as calibration's, against one rate for all labels. The claim is of the same kind: at most T / threshold
//! alarms in T windows if every label, given all before it, is an error with a chance of at most the promised rate.

use crate::labels::{Labels, Mixture, Verdict};

/// Weighs the labels of one window against `max_error_rate`.
pub fn observe(state: &mut Mixture, max_error_rate: f64, labels: Labels, threshold: f64) -> Verdict {
    // The rate is a promise, not an estimate: full weight.
    state.observe(std::iter::once((max_error_rate, labels)), 1.0, threshold)
}

/// The labels of all bins together.
pub fn total(labels: &[Labels]) -> Labels {
    labels.iter().fold(Labels::default(), |sum, l| Labels {
        n: sum.n.saturating_add(l.n),
        errors: sum.errors.saturating_add(l.errors),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_is_found_and_the_promise_itself_is_not_one() {
        let (mut kept, mut breached) = (Mixture::default(), Mixture::default());
        let mut first = None;
        for window in 1..=200 {
            assert!(!observe(&mut kept, 0.1, Labels { n: 200, errors: 20 }, 1000.0).alarm);
            if observe(&mut breached, 0.1, Labels { n: 200, errors: 30 }, 1000.0).alarm {
                first = first.or(Some(window));
            }
        }
        assert!(first.is_some_and(|window| window <= 6), "{first:?}");
        assert_eq!(total(&[Labels { n: 2, errors: 1 }, Labels { n: 3, errors: 2 }]), Labels { n: 5, errors: 3 });
    }
}
