//! Calibration: whether the model is wrong more often than its own confidence allows for.
//!
//! The claim survives any drift, season and dependence of the inputs: T windows bring at most T / threshold alarms in
//! expectation whenever every label, given all before it and its confidence bin, is an error with a chance of at most
//! the bin's held-out rate plus the tolerance. It needs labels that are not chosen by their outcome. Harder inputs that
//! the confidence accounts for are not its business: see [`crate::slo`] and [`crate::estimate`].

use crate::{
    labels::{Labels, Mixture, Verdict},
    profile::Confidence,
    shape::{ShapeMismatch, same},
};

/// Errors beyond the held-out rate that nobody acts on: one in a hundred (the notes' choice; with it, real and
/// synthetic harder inputs brought no false alarm in 3,200 windows).
pub const TOLERANCE: f64 = 0.01;

/// Weighs the labels of one window, bin by bin.
///
/// # Errors
/// Where the bins are not those of `confidence`; nothing is weighed then.
pub fn observe(
    state: &mut Mixture,
    confidence: &Confidence,
    labels: &[Labels],
    tolerance: f64,
    threshold: f64,
) -> Result<Verdict, ShapeMismatch> {
    same("labelled bins", confidence.bins.len(), labels.len())?;
    let count = labels.iter().map(|l| l.n as f64).sum::<f64>();
    // The held-out rates are estimates: the fewer held-out labels, the less a window may claim. A heuristic; any weight
    // in (0, 1] keeps the bets fair, since a power below 1 of a fair bet is at most fair.
    let weight = 1.0 / (1.0 + count / (confidence.n() as f64).max(1.0));
    let bins = confidence.bins.iter().zip(labels).map(|(bin, labels)| (bin.error_rate() + tolerance, *labels));
    Ok(state.observe(bins, weight, threshold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cells::Edges, profile::Bin};

    fn confidence() -> Confidence {
        let bins = vec![Bin { n: 1000, errors: 400 }, Bin { n: 9000, errors: 90 }];
        Confidence { edges: Edges::new(vec![0.8]).unwrap(), bins }
    }

    #[test]
    fn harder_inputs_are_no_alarm_and_broken_confidence_is() {
        let (mut harder, mut broken) = (Mixture::default(), Mixture::default());
        let mut alarms = 0;
        for _ in 0..50 {
            // Ten times as many unsure predictions, as often wrong as the bin says.
            let labels = [Labels { n: 180, errors: 72 }, Labels { n: 20, errors: 0 }];
            assert!(!observe(&mut harder, &confidence(), &labels, TOLERANCE, 1000.0).unwrap().alarm);
            // Sure ones wrong in one of ten.
            let labels = [Labels { n: 20, errors: 8 }, Labels { n: 180, errors: 18 }];
            alarms += u32::from(observe(&mut broken, &confidence(), &labels, TOLERANCE, 1000.0).unwrap().alarm);
        }
        assert!(alarms >= 20, "{alarms}");
        assert!(observe(&mut harder, &confidence(), &[], TOLERANCE, 1000.0).is_err());
    }
}
