//! Which labels of a round count: no device alone may say that the model is broken, or that it is not.
//!
//! A device counts for no more labels than twice the lower median of all that returned some; that rests on how many there
//! are, never on what they say, so the bets stay fair. And of three devices or more, the evidence is the lesser of that of
//! all and that of all but the one that speaks most against the model. The lesser of two fair detectors, window by window,
//! is at most fair. The price is that device's share of the evidence. Where one or two devices return labels they are
//! believed: there is nobody else to ask.

use tern_protocol::ids::DeviceId;
use tern_stats::{
    calibration::{self, TOLERANCE},
    labels::{Labels, Mixture, Verdict, merge_labels},
    profile::Confidence,
    slo,
};

/// Fewest devices of which one may be left out.
const FEWEST: usize = 3;
/// How many times the lower median a device may count for.
const MOST_TIMES: u64 = 2;

/// The labels of one device in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Juror {
    /// Which device.
    pub device: DeviceId,
    /// Its labels by confidence bin.
    pub labels: Vec<Labels>,
}

/// What a round's labels said.
#[derive(Debug, PartialEq)]
pub struct Said {
    /// The detector's verdict.
    pub verdict: Verdict,
    /// The labels that it stands on.
    pub labels: Vec<Labels>,
}

/// Weighs the labels of a round; none where there are none.
pub fn weigh(state: &mut Mixture, confidence: &Confidence, mut jury: Vec<Juror>, arl: f64) -> Option<Said> {
    jury.retain(|juror| slo::total(&juror.labels).n > 0);
    level(&mut jury);
    let all = sum(confidence, jury.iter())?;
    let mut doubting = state.clone();
    let said = calibration::observe(state, confidence, &all, TOLERANCE, arl).ok()?;
    let said = Said { verdict: said, labels: all };
    if jury.len() < FEWEST {
        return Some(said);
    }
    let worst = jury.iter().enumerate().max_by(|a, b| excess(confidence, a.1).total_cmp(&excess(confidence, b.1)));
    let worst = worst.map(|(index, _)| index)?;
    let others = jury.iter().enumerate().filter(|(index, _)| *index != worst).map(|(_, juror)| juror);
    let others = sum(confidence, others)?;
    let doubted = calibration::observe(&mut doubting, confidence, &others, TOLERANCE, arl).ok()?;
    if doubted.evidence >= said.verdict.evidence {
        return Some(said);
    }
    *state = doubting;
    Some(Said { verdict: doubted, labels: others })
}

/// Errors that the confidence allows for.
pub fn allowed(confidence: &Confidence, labels: &[Labels]) -> f64 {
    confidence.bins.iter().zip(labels).map(|(bin, own)| (bin.error_rate() + TOLERANCE) * own.n as f64).sum()
}

fn excess(confidence: &Confidence, juror: &Juror) -> f64 {
    slo::total(&juror.labels).errors as f64 - allowed(confidence, &juror.labels)
}

fn sum<'a>(confidence: &Confidence, jury: impl Iterator<Item = &'a Juror>) -> Option<Vec<Labels>> {
    let mut sum = vec![Labels::default(); confidence.bins.len()];
    let mut is_empty = true;
    for juror in jury {
        merge_labels(&mut sum, &juror.labels).ok()?;
        is_empty = false;
    }
    (!is_empty).then_some(sum)
}

/// Brings those that returned far more labels than others down to what one device may count for.
fn level(jury: &mut [Juror]) {
    let mut counts: Vec<u64> = jury.iter().map(|juror| slo::total(&juror.labels).n).collect();
    counts.sort_unstable();
    let Some(median) = counts.get(counts.len().saturating_sub(1) / 2) else { return };
    if jury.len() < 2 {
        return;
    }
    let most = median.saturating_mul(MOST_TIMES);
    for juror in jury {
        let n = slo::total(&juror.labels).n;
        if n > most {
            // Bins and errors keep their shares; what is lost by rounding counts for the model and against it alike.
            let scaled = |count: u64| (u128::from(count) * u128::from(most) / u128::from(n)) as u64;
            juror.labels.iter_mut().for_each(|own| *own = Labels { n: scaled(own.n), errors: scaled(own.errors) });
        }
    }
}

#[cfg(test)]
mod tests {
    use tern_stats::{cells::Edges, profile::Bin};

    use super::*;

    const ARL: f64 = 1000.0;

    fn confidence() -> Confidence {
        Confidence { edges: Edges::new(vec![]).unwrap(), bins: vec![Bin { n: 10_000, errors: 500 }] }
    }

    fn juror(index: usize, n: u64, errors: u64) -> Juror {
        Juror { device: format!("cam-{index}").parse().unwrap(), labels: vec![Labels { n, errors }] }
    }

    /// The round of the first alarm, in 60 rounds of `jury`.
    fn alarm(jury: impl Fn(u64) -> Vec<Juror>) -> Option<u64> {
        let mut state = Mixture::default();
        (0..60).find(|round| weigh(&mut state, &confidence(), jury(*round), ARL).unwrap().verdict.alarm)
    }

    fn with(one: Juror, errors: u64) -> Vec<Juror> {
        (1..8).map(|index| juror(index, 40, errors)).chain([one]).collect()
    }

    #[test]
    fn one_device_alone_breaks_no_model() {
        assert_eq!(alarm(|_| with(juror(0, 40, 40), 2)), None);
        for flood in [4000, 1 << 47, u64::MAX] {
            assert_eq!(alarm(|_| with(juror(0, flood, flood), 2)), None, "{flood}");
        }
        // Neither does one at a time.
        let turns = |round: u64| (0..8).map(|i| juror(i, 40, if i as u64 == round % 8 { 12 } else { 2 })).collect();
        assert_eq!(alarm(turns), None);
    }

    #[test]
    fn one_device_alone_mends_no_model() {
        let honest = alarm(|_| with(juror(0, 40, 8), 8)).unwrap();
        for flood in [4000, 1 << 47, u64::MAX] {
            let silenced = alarm(|_| with(juror(0, flood, 0), 8)).unwrap();
            assert!(silenced <= honest + 6, "{silenced} rounds, {honest} without the flood");
        }
    }

    #[test]
    fn one_or_two_are_believed() {
        assert!(alarm(|_| vec![juror(0, 40, 20)]).is_some());
        assert!(alarm(|_| vec![juror(0, 40, 20), juror(1, 40, 20)]).is_some());
        assert!(weigh(&mut Mixture::default(), &confidence(), vec![juror(0, 0, 0)], ARL).is_none());
    }
}
