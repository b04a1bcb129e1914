//! Which labels of a round count: no device alone may say that the model is broken or below its promise, or that it is not.
//!
//! A device counts for no more labels than twice the lower median of all that returned some; that rests on how many there
//! are, never on what they say, so the bets stay fair. And of three devices or more, the evidence is the lesser of that of
//! all and that of all but the one that speaks most against the model. The lesser of two fair detectors, window by window,
//! is at most fair. The price is that device's share of the evidence. Where one or two devices return labels they are
//! believed: there is nobody else to ask.

use tern_protocol::ids::DeviceId;
use tern_stats::{
    ShapeMismatch,
    calibration::{self, TOLERANCE},
    labels::{Labels, Mixture, Verdict, merge_labels},
    profile::Confidence,
    slo,
};

/// Fewest devices of which one may be left out.
const FEWEST: usize = 3;
/// How many times the lower median a device may count for.
const MOST_TIMES: u64 = 2;

/// What labels are held to.
#[derive(Debug, Clone, Copy)]
pub enum Promise<'a> {
    /// In each bin of confidence, the errors that were seen there when the model was good.
    Confidence(&'a Confidence),
    /// One error rate for all labels, whatever the model said of itself.
    Objective(f64),
}

impl Promise<'_> {
    /// Errors that it allows for.
    pub fn allowed(&self, labels: &[Labels]) -> f64 {
        match self {
            Self::Confidence(confidence) => {
                let bins = confidence.bins.iter().zip(labels);
                bins.map(|(bin, own)| (bin.error_rate() + TOLERANCE) * own.n as f64).sum()
            }
            Self::Objective(rate) => rate * slo::total(labels).n as f64,
        }
    }

    fn observe(&self, state: &mut Mixture, labels: &[Labels], arl: f64) -> Result<Verdict, ShapeMismatch> {
        match self {
            Self::Confidence(confidence) => calibration::observe(state, confidence, labels, TOLERANCE, arl),
            Self::Objective(rate) => Ok(slo::observe(state, *rate, slo::total(labels), arl)),
        }
    }

    fn excess(&self, juror: &Juror) -> f64 {
        slo::total(&juror.labels).errors as f64 - self.allowed(&juror.labels)
    }
}

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
pub fn weigh(state: &mut Mixture, promise: Promise<'_>, mut jury: Vec<Juror>, arl: f64) -> Option<Said> {
    jury.retain(|juror| slo::total(&juror.labels).n > 0);
    level(&mut jury);
    let all = sum(jury.iter())?;
    let mut doubting = state.clone();
    let said = promise.observe(state, &all, arl).ok()?;
    let said = Said { verdict: said, labels: all };
    if jury.len() < FEWEST {
        return Some(said);
    }
    let worst = jury.iter().enumerate().max_by(|a, b| promise.excess(a.1).total_cmp(&promise.excess(b.1)));
    let worst = worst.map(|(index, _)| index)?;
    let others = jury.iter().enumerate().filter(|(index, _)| *index != worst).map(|(_, juror)| juror);
    let others = sum(others)?;
    let doubted = promise.observe(&mut doubting, &others, arl).ok()?;
    if doubted.evidence >= said.verdict.evidence {
        return Some(said);
    }
    *state = doubting;
    Some(Said { verdict: doubted, labels: others })
}

fn sum<'a>(mut jury: impl Iterator<Item = &'a Juror>) -> Option<Vec<Labels>> {
    let mut sum = jury.next()?.labels.clone();
    for juror in jury {
        merge_labels(&mut sum, &juror.labels).ok()?;
    }
    Some(sum)
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

    /// The round of the first alarm, in 60 rounds of `jury`, by confidence and by an objective of as much.
    fn alarm(jury: impl Fn(u64) -> Vec<Juror>) -> Option<u64> {
        let (known, mut states) = (confidence(), [Mixture::default(), Mixture::default()]);
        let [first, second] = [Promise::Confidence(&known), Promise::Objective(0.06)].map(|promise| {
            let state = &mut states[usize::from(matches!(promise, Promise::Objective(_)))];
            (0..60).find(|round| weigh(state, promise, jury(*round), ARL).unwrap().verdict.alarm)
        });
        assert_eq!(first.is_some(), second.is_some(), "{first:?} {second:?}");
        first.max(second)
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
        for promise in [Promise::Confidence(&confidence()), Promise::Objective(0.06)] {
            assert!(weigh(&mut Mixture::default(), promise, vec![juror(0, 0, 0)], ARL).is_none());
        }
    }
}
