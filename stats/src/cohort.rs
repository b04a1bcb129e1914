//! Concurrent control: a device against the median of its cohort, which carries the same weather.
//!
//! It finds one bad sensor that common weather hides, and leaves alone what happens to all. A cohort is of one model
//! and one kind of place, and of [`MIN_DEVICES`] at least: in a smaller one the faulty device is too much of the median
//! (three airports measured: any site's weather was a third of it).

use serde::{Deserialize, Serialize};

use crate::{
    design::Design,
    math,
    profile::{MIN_WINDOWS, Refusal, ScoreProfile, series},
    scores::Reading,
    shape::{ShapeMismatch, same},
};

/// Fewest devices that control one another.
pub const MIN_DEVICES: usize = 8;
/// Standard deviation of slopes about 1 among devices of one cohort, before anything is learned.
const SLOPE_SD: f64 = 0.15;
/// Format of [`Control`] where it is written down.
const FORMAT: u16 = 1;

/// Writes into `out`, for each score, the median over `devices`; `None` where fewer than [`MIN_DEVICES`] have it.
///
/// # Errors
/// Where the devices do not have the same number of scores.
pub fn medians(devices: &[&[Option<Reading>]], out: &mut Vec<Option<f64>>) -> Result<(), ShapeMismatch> {
    out.clear();
    let scores = devices.first().map_or(0, |device| device.len());
    devices.iter().try_for_each(|device| same("readings", scores, device.len()))?;
    let mut values = Vec::with_capacity(devices.len());
    for score in 0..scores {
        values.clear();
        values.extend(devices.iter().filter_map(|device| device[score]).map(|reading| reading.value));
        out.push(if values.len() >= MIN_DEVICES { math::median(&mut values) } else { None });
    }
    Ok(())
}

/// One feature of one device in one past window: its own readings and the cohort's medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its own readings.
    pub own: Vec<Option<Reading>>,
    /// The medians of the cohort.
    pub medians: Vec<Option<f64>>,
}

/// How one feature of one device goes with its cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    format: u16,
    /// Slope on the median, for each score.
    slopes: Vec<f64>,
    /// What the residuals are compared with.
    scores: Vec<ScoreProfile>,
}

impl Control {
    /// A control before anything is learned: the devices are taken to be alike, each as the profile says.
    ///
    /// The residual `s - median` has mean 0 and at most the variance of the score times `1 + pi / (2 D)`, the second
    /// term that of a median of D. Where places differ in level, it sees the difference: learn then.
    pub fn alike(scores: &[ScoreProfile], devices: usize) -> Self {
        let widening = (1.0 + std::f64::consts::FRAC_PI_2 / devices.max(1) as f64).sqrt();
        let alike = |s: &ScoreProfile| ScoreProfile { beta: vec![0.0], sigma: s.sigma * widening, ..s.clone() };
        Self { format: FORMAT, slopes: vec![1.0; scores.len()], scores: scores.iter().map(alike).collect() }
    }

    /// A control learned from the device's own `history`, in time order, with known columns `design`; `alarm` is the
    /// level that the detector will alarm at.
    ///
    /// The slope is shrunk to 1: `(cov + k) / (var + k)`, `k` the residual variance over 0.15 squared, which is the
    /// posterior mean under a normal prior. Of a score seen too rarely what is learned `before` stays, and without that it goes on
    /// as if the devices were alike.
    ///
    /// # Errors
    /// [`Refusal::Learning`] before 50 windows; [`Refusal::Shape`] where a window is of another shape.
    pub fn learn(
        profile: &[ScoreProfile],
        history: &[Past],
        design: &Design,
        devices: usize,
        alarm: f64,
        before: Option<&Self>,
    ) -> Result<Self, Refusal> {
        if history.len() < MIN_WINDOWS {
            return Err(Refusal::Learning { have: history.len(), need: MIN_WINDOWS });
        }
        same("windows of the design", history.len(), design.windows())?;
        let mut control = Self::alike(profile, devices);
        for past in history {
            same("readings", profile.len(), past.own.len())?;
            same("medians", profile.len(), past.medians.len())?;
        }
        for (k, score) in profile.iter().enumerate() {
            let pairs: Vec<_> = history.iter().map(|past| Some((past.medians[k]?, past.own[k]?.value))).collect();
            let slope = shrunk_slope(&pairs);
            let residuals: Vec<_> = pairs.iter().map(|pair| pair.map(|(median, own)| own - slope * median)).collect();
            let season = design.columns();
            let terms = series::Terms {
                score: score.score,
                rows: score.rows,
                together: profile.len(),
                alarm,
                season,
                held: 0..0,
            };
            let seen = residuals.iter().flatten().count() >= series::MIN_SEEN;
            let fitted = if seen { series::fit(&residuals, design, &terms) } else { None };
            let known = || before.and_then(|before| Some((*before.slopes.get(k)?, before.scores.get(k)?.clone())));
            match fitted.map(|fitted| (slope, fitted)).or_else(known) {
                Some(learned) => (control.slopes[k], control.scores[k]) = learned,
                None => control.scores[k].beta = vec![0.0; design.columns()],
            }
        }
        Ok(control)
    }

    /// What the residuals are compared with, for [`crate::step::State::observe`].
    pub fn scores(&self) -> &[ScoreProfile] {
        &self.scores
    }

    /// Whether a control that was read back is one to go on from with `scores` scores.
    pub fn is_sound(&self, scores: usize) -> bool {
        let fits = self.format == FORMAT && self.slopes.len() == scores && self.scores.len() == scores;
        fits && self.slopes.iter().all(|slope| slope.is_finite()) && self.scores.iter().all(ScoreProfile::is_sound)
    }

    /// Writes into `out` the residuals of a device's readings on the medians; `None` where either is missing.
    ///
    /// # Errors
    /// Where they are not of this control's shape.
    pub fn residuals(
        &self,
        own: &[Option<Reading>],
        medians: &[Option<f64>],
        out: &mut Vec<Option<Reading>>,
    ) -> Result<(), ShapeMismatch> {
        out.clear();
        same("readings", self.slopes.len(), own.len())?;
        same("medians", self.slopes.len(), medians.len())?;
        out.extend(self.slopes.iter().zip(own).zip(medians).map(|((slope, own), median)| {
            let (own, median) = ((*own)?, (*median)?);
            Some(Reading { value: own.value - slope * median, ..own })
        }));
        Ok(())
    }
}

/// The slope of (median, own) pairs, shrunk to 1.
fn shrunk_slope(pairs: &[Option<(f64, f64)>]) -> f64 {
    let seen = || pairs.iter().flatten();
    let count = seen().count() as f64;
    if count < 3.0 {
        return 1.0;
    }
    let (mean_x, mean_y) = seen().fold((0.0, 0.0), |(x, y), pair| (x + pair.0 / count, y + pair.1 / count));
    let moments = seen().map(|(x, y)| (x - mean_x, y - mean_y));
    let (xx, xy, yy) = moments.fold((0.0, 0.0, 0.0), |(a, b, c), (x, y)| (a + x * x, b + x * y, c + y * y));
    let residual = if xx > 0.0 { (yy - xy * xy / xx).max(0.0) } else { yy };
    let k = residual / (count - 2.0) / (SLOPE_SD * SLOPE_SD);
    if xx + k > 0.0 { (xy + k) / (xx + k) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scores::Score,
        step::{State, Tails},
    };

    fn profile() -> ScoreProfile {
        let tails = Tails::of(&[-1.0, 1.0], 0.0);
        ScoreProfile { score: Score::Mean, rows: 10.0, beta: vec![7.0], phi: 0.0, sigma: 1.0, tau: 0.2, tails }
    }

    fn reading(value: f64) -> Option<Reading> {
        Some(Reading { value, rows: 10.0 })
    }

    #[test]
    fn a_cohort_of_seven_has_no_median() {
        let devices: Vec<_> =
            (0..8).map(|i| [reading(f64::from(i)), (i > 0).then_some(reading(1.0)).flatten()]).collect();
        let slices: Vec<_> = devices.iter().map(|d| &d[..]).collect();
        let mut out = Vec::new();
        medians(&slices, &mut out).unwrap();
        assert_eq!(out, [Some(3.5), None]);
        medians(&slices[..7], &mut out).unwrap();
        assert_eq!(out, [None, None]);
        assert!(medians(&[&devices[0], &devices[1][..1]], &mut out).is_err());
    }

    #[test]
    fn slopes_follow_strong_evidence_and_stay_at_one_without() {
        let pairs = |slope: f64, noise: f64| -> Vec<_> {
            let wave = |i: usize, k: usize| ((i * k % 101) as f64 / 50.0) - 1.0;
            (0..100).map(|i| Some((wave(i, 37), slope * wave(i, 37) + noise * wave(i, 53)))).collect()
        };
        assert!((shrunk_slope(&pairs(0.5, 0.01)) - 0.5).abs() < 0.01);
        assert!((shrunk_slope(&pairs(0.5, 20.0)) - 1.0).abs() < 0.1);
        assert_eq!(shrunk_slope(&[Some((1.0, 1.0)); 60]), 1.0);
        assert_eq!(shrunk_slope(&[None]), 1.0);
    }

    #[test]
    fn what_happens_to_all_leaves_no_residual() {
        let control = Control::alike(&[profile()], 8);
        let mut state = State::new(1);
        let mut out = Vec::new();
        for window in 0..50 {
            control.residuals(&[reading(f64::from(window))], &[Some(f64::from(window))], &mut out).unwrap();
            assert!(state.observe(control.scores(), &out, &[1.0], 8e3).unwrap().alarm.is_none());
        }
        control.residuals(&[reading(1.0)], &[None], &mut out).unwrap();
        assert_eq!(out, [None]);
        assert!(control.residuals(&[], &[None], &mut out).is_err());
    }

    #[test]
    fn learning_needs_fifty_windows_and_keeps_a_standing_offset() {
        let wave = |i: usize, k: usize| ((i * k % 101) as f64 / 50.0) - 1.0;
        let past =
            |i| Past { own: vec![reading(wave(i, 37) + 0.1 * wave(i, 53) + 3.0)], medians: vec![Some(wave(i, 37))] };
        let history: Vec<_> = (0..80).map(past).collect();
        let learn = |n: usize| Control::learn(&[profile()], &history[..n], &Design::level(n), 8, 8e3, None);
        assert_eq!(learn(49), Err(Refusal::Learning { have: 49, need: 50 }));
        let control = learn(80).unwrap();
        assert!(control.is_sound(1) && !control.is_sound(2));
        assert!((control.scores[0].beta[0] - 3.0).abs() < 0.1 && control.scores[0].sigma < 0.2);
        let unseen = vec![Past { own: vec![None], medians: vec![Some(1.0)] }; 50];
        let again = |before| Control::learn(&[profile()], &unseen, &Design::level(50), 8, 8e3, before).unwrap();
        assert_eq!(again(Some(&control)), control, "what was learned stays");
        assert_eq!((again(None).slopes[0], again(None).scores[0].beta[0]), (1.0, 0.0), "alike");
        let back: Control = serde_json::from_str(&serde_json::to_string(&control).unwrap()).unwrap();
        assert_eq!(back, control);
    }
}
