//! STEP: a step-matched Shiryaev-Roberts mixture over a feature's window scores.
//!
//! Each score, less what its profile expects, whitened, in units of the baseline's own window-to-window spread, less a
//! tolerance, clipped, is bet on: five sizes of a step, up and down, that may begin at any window. Alarm where the mean
//! over all bets reaches the threshold; the bets then start again.
//!
//! The claim: if at every window each standardised innovation has, given the past, exponential moments no larger than
//! the profile's (its mean within the tolerance, its tails no heavier than the baseline's), then every bet is at most
//! fair, its M less the number of windows is a supermartingale, and T windows bring at most T / threshold alarms in
//! expectation. Dependence between scores and features is free. The profile's numbers are estimates, so this is a
//! condition, not a certificate.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{
    design, math,
    profile::ScoreProfile,
    scores::{Reading, Score},
    shape::{ShapeMismatch, same},
    whiten::Whitener,
};

/// Sizes of the steps bet on, in innovations' standard deviations; each the double of the one before, so that the best
/// is never far off.
pub const SIZES: [f64; 5] = [0.2, 0.4, 0.8, 1.6, 3.2];
/// The two signs of a step.
const SIGNS: [f64; 2] = [1.0, -1.0];
/// Bets on each score.
pub const BETS: usize = SIZES.len() * SIGNS.len();
/// Excess is clipped here. With 4 no single window of one score reaches the level: confirmation is built in.
pub const EXCESS_CLIP: f64 = 4.0;
/// Residuals are bounded here, in the score's unit: far beyond any real one, and every sum of them stays finite.
const RESIDUAL_BOUND: f64 = 1e9;
/// Format of [`State`] where it is written down.
const FORMAT: u16 = 1;
/// Surcharges of one score's bets: of a start and of what goes on.
pub(crate) const SURCHARGES: usize = 2 * BETS;
/// Steps of a surcharge: 64ths of the normal's cumulant. Of values clipped at 4 with a variance of at most 1 the cumulant
/// is below four times the normal's, which fits a byte.
const SURCHARGE_STEPS: f64 = 64.0;

/// What each bet pays a window for being open, `[size][sign]`: factors `exp(-psi)`, psi the larger of the normal's
/// cumulant and the baseline's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tails {
    /// Of a step that begins at this window: exponent d.
    pub start: [[f64; 2]; SIZES.len()],
    /// Of one that began before: whitening leaves d (1 - phi) of it.
    pub ongoing: [[f64; 2]; SIZES.len()],
}

impl Tails {
    /// Factors of `psi(l) = max(l^2 / 2, ln mean exp(+-l z))` over standardised innovations: the baseline's own tails
    /// pay. Rounded as they are written down, against the bets.
    pub(crate) fn of(standardised: &[f64], phi: f64) -> Self {
        let surcharge = |l: f64, sign: f64| {
            let sum: f64 =
                standardised.iter().map(|z| (l * sign * z.clamp(-EXCESS_CLIP, EXCESS_CLIP)).exp()).sum::<f64>();
            let psi = (sum / standardised.len() as f64).ln();
            let over = (psi / (l * l / 2.0) - 1.0) * SURCHARGE_STEPS;
            over.ceil().clamp(0.0, 255.0) as u8
        };
        let mut steps = [0; SURCHARGES];
        for (step, (l, sign)) in steps.iter_mut().zip(exponents(phi)) {
            *step = surcharge(l, sign);
        }
        Self::of_surcharges(&steps, phi)
    }

    /// The factors of surcharges over the normal's cumulant: those of a start, then those of what goes on, size by size, up
    /// before down.
    pub(crate) fn of_surcharges(steps: &[u8; SURCHARGES], phi: f64) -> Self {
        let mut factors = steps
            .iter()
            .zip(exponents(phi))
            .map(|(step, (l, _))| (-l * l / 2.0 * (1.0 + f64::from(*step) / SURCHARGE_STEPS)).exp());
        let mut table = || SIZES.map(|_| SIGNS.map(|_| factors.next().unwrap_or(0.0)));
        Self { start: table(), ongoing: table() }
    }

    /// The surcharges that make these factors.
    pub(crate) fn surcharges(&self, phi: f64) -> [u8; SURCHARGES] {
        let factors = self.start.as_flattened().iter().chain(self.ongoing.as_flattened());
        let mut steps = [0; SURCHARGES];
        for (step, (factor, (l, _))) in steps.iter_mut().zip(factors.zip(exponents(phi))) {
            let over = (-factor.ln() / (l * l / 2.0) - 1.0) * SURCHARGE_STEPS;
            // A thousandth for rounding: whole numbers of steps stay what they are.
            *step = (over - 1e-3).ceil().clamp(0.0, 255.0) as u8;
        }
        steps
    }

    /// Whether no bet is cheaper than under a normal.
    pub(crate) fn is_sound(&self, phi: f64) -> bool {
        let factors = self.start.as_flattened().iter().chain(self.ongoing.as_flattened());
        // A millionth for numbers that were written down as f32.
        factors.zip(exponents(phi)).all(|(f, (l, _))| *f > 0.0 && *f <= normal_factor(l) * (1.0 + 1e-6))
    }
}

/// The exponent and sign of each factor, in the order of the surcharges.
fn exponents(phi: f64) -> impl Iterator<Item = (f64, f64)> {
    [1.0, 1.0 - phi]
        .into_iter()
        .flat_map(|scale| SIZES.map(|d| SIGNS.map(|sign| (d * scale, sign))).into_iter().flatten())
}

/// `exp(-l^2 / 2)`.
fn normal_factor(l: f64) -> f64 {
    (-l * l / 2.0).exp()
}

/// Which way a score went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Above what was expected.
    Up,
    /// Below it.
    Down,
}

/// What a window did to the detector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// log10 of the detector over its threshold: an alarm is at 0 or above.
    pub evidence: f64,
    /// The crossing, if there was one; the bets have started again then.
    pub alarm: Option<Crossing>,
    /// Whether a score alone was beyond [`EXCESS_CLIP`]: more than one window may say, and less than an alarm.
    pub is_far: bool,
}

/// A crossing of the threshold and what carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// The score whose bets hold most.
    pub score: Score,
    /// Which way it went.
    pub direction: Direction,
    /// For how many windows, this one included, the evidence has risen without a fall.
    pub rising: u32,
}

/// Bets on one score.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Track {
    whitener: Whitener,
    bets: [[f64; 2]; SIZES.len()],
}

impl Track {
    /// Weighs one value of `weight` in (0, 1]; returns whether it is [far out](Outcome::is_far).
    pub(crate) fn observe(&mut self, profile: &ScoreProfile, value: f64, weight: f64, row: &[f64]) -> bool {
        let residual = (value - design::expected(&profile.beta, row)).clamp(-RESIDUAL_BOUND, RESIDUAL_BOUND);
        let z = self.whitener.innovation(profile.phi, residual) / profile.sigma * weight;
        let mut is_far = false;
        for (j, sign) in SIGNS.iter().enumerate() {
            let excess = (sign * z - profile.tau).clamp(-EXCESS_CLIP, EXCESS_CLIP);
            is_far |= excess >= EXCESS_CLIP;
            // Sizes double, so each exponential is the square of the one before: two calls instead of ten.
            let mut start = (SIZES[0] * excess).exp();
            let mut ongoing = (SIZES[0] * (1.0 - profile.phi) * excess).exp();
            let tails = profile.tails.start.iter().zip(&profile.tails.ongoing);
            for (bet, (begin, go_on)) in self.bets.iter_mut().zip(tails) {
                bet[j] = bet[j] * ongoing * go_on[j] + start * begin[j];
                start *= start;
                ongoing *= ongoing;
            }
        }
        is_far
    }

    pub(crate) fn gap(&mut self) {
        self.whitener.gap();
    }

    /// The sum over all bets.
    pub(crate) fn total(&self) -> f64 {
        self.bets.as_flattened().iter().sum()
    }

    fn towards(&self, sign: usize) -> f64 {
        self.bets.iter().map(|pair| pair[sign]).sum()
    }

    fn is_sound(&self) -> bool {
        self.whitener.is_sound() && self.bets.as_flattened().iter().all(|m| m.is_finite() && *m >= 0.0)
    }
}

/// The detector of one feature on one device, cohort or fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u16,
    tracks: Vec<Track>,
    level: f64,
    rising: u32,
}

impl State {
    /// A fresh detector over `scores` scores.
    pub fn new(scores: usize) -> Self {
        Self { format: FORMAT, tracks: vec![Track::default(); scores], level: 0.0, rising: 0 }
    }

    /// Whether a state that was read back is one to go on from with `scores` scores.
    pub fn is_sound(&self, scores: usize) -> bool {
        let fits = self.format == FORMAT && self.tracks.len() == scores;
        fits && self.level.is_finite() && self.tracks.iter().all(Track::is_sound)
    }

    /// Weighs one window. `row` are the window's known columns, [`design::LEVEL`] where there are none; a score without
    /// a reading keeps its bets and loses its predecessor. Allocates nothing.
    ///
    /// # Errors
    /// Where profile, readings, columns and state are not of one shape; nothing is weighed then.
    pub fn observe(
        &mut self,
        scores: &[ScoreProfile],
        readings: &[Option<Reading>],
        row: &[f64],
        threshold: f64,
    ) -> Result<Outcome, ShapeMismatch> {
        same("scores of the state", scores.len(), self.tracks.len())?;
        same("readings", scores.len(), readings.len())?;
        // A score may leave out the last columns, those of the week or all but the level.
        let columns = scores.iter().map(|score| score.beta.len()).max().unwrap_or(0);
        if columns > row.len() {
            return Err(ShapeMismatch { what: "columns of the window", expected: columns, found: row.len() });
        }
        let (is_known, mut is_far) = (row.iter().all(|x| x.is_finite()), false);
        for ((track, profile), reading) in self.tracks.iter_mut().zip(scores).zip(readings) {
            match reading {
                Some(reading) if is_known && reading.value.is_finite() => {
                    is_far |= track.observe(profile, reading.value, reading.weight(profile.rows), row);
                }
                _ => track.gap(),
            }
        }
        Ok(self.judge(scores, threshold, is_far))
    }

    /// At least one window is missing before the next: the next has no predecessor.
    pub fn gap(&mut self) {
        self.tracks.iter_mut().for_each(Track::gap);
    }

    fn judge(&mut self, scores: &[ScoreProfile], threshold: f64, is_far: bool) -> Outcome {
        let bets = (BETS * self.tracks.len().max(1)) as f64;
        let level = self.tracks.iter().map(Track::total).sum::<f64>() / bets;
        match level.total_cmp(&self.level) {
            Ordering::Greater => self.rising = self.rising.saturating_add(1),
            Ordering::Less => self.rising = 0,
            Ordering::Equal => {}
        }
        self.level = level;
        let alarm = if level >= threshold { self.strongest(scores) } else { None };
        if alarm.is_some() {
            self.tracks.iter_mut().for_each(|track| track.bets = Default::default());
            (self.level, self.rising) = (0.0, 0);
        }
        Outcome { evidence: math::evidence(level, threshold), alarm, is_far }
    }

    fn strongest(&self, scores: &[ScoreProfile]) -> Option<Crossing> {
        let each = self.tracks.iter().zip(scores).flat_map(|(track, profile)| {
            [Direction::Up, Direction::Down].map(|way| (track.towards(way as usize), profile.score, way))
        });
        let (_, score, direction) = each.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(Crossing { score, direction, rising: self.rising })
    }
}

/// The level that one detector alarms at: at most one false alarm in `arl` windows per device over its `features`, and
/// at most one in `arl` rounds of the whole fleet over `devices`.
pub fn threshold(arl: f64, features: usize, devices: usize) -> f64 {
    arl * features.max(1) as f64 * devices.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::LEVEL;

    fn profile(phi: f64, tau: f64) -> ScoreProfile {
        // A baseline whose tails are lighter than the normal's: the normal's cumulants hold.
        let tails = Tails::of(&[-1.0, 1.0], phi);
        ScoreProfile { score: Score::Mean, rows: 100.0, beta: vec![0.0], phi, sigma: 1.0, tau, tails }
    }

    fn reading(value: f64) -> Option<Reading> {
        Some(Reading { value, rows: 100.0 })
    }

    #[test]
    fn two_windows_are_needed_however_large_the_step() {
        let profile = [profile(0.0, 0.2)];
        let mut state = State::new(1);
        let mut next = || state.observe(&profile, &[reading(1e300)], &LEVEL, 1000.0).unwrap();
        let first = next();
        assert!(first.alarm.is_none() && first.evidence > -1.0);
        let second = next();
        let crossing = Crossing { score: Score::Mean, direction: Direction::Up, rising: 2 };
        assert_eq!(second.alarm, Some(crossing));
        assert!(second.evidence > 0.0);
        assert!(next().alarm.is_none(), "an alarm starts the bets again");
    }

    #[test]
    fn what_stays_within_the_tolerance_is_never_evidence() {
        let profile = [profile(0.5, 0.3)];
        let mut state = State::new(1);
        // Innovations of a constant 0.6 under phi 0.5 are 0.3.
        for i in 0..10_000 {
            let outcome = state.observe(&profile, &[reading(0.6)], &LEVEL, 1000.0).unwrap();
            assert!(outcome.alarm.is_none() && outcome.evidence < -1.0, "{i}: {}", outcome.evidence);
        }
    }

    #[test]
    fn bets_are_fair_where_the_tails_pay() {
        // The expectation over the baseline itself of one window's factor is at most 1 for every bet.
        let heavy: Vec<f64> = (0..60).map(|i| f64::from(i % 20 - 10) / 4.0 * if i == 7 { 2.0 } else { 1.0 }).collect();
        let tails = Tails::of(&heavy, 0.4);
        for (i, d) in SIZES.iter().enumerate() {
            for (j, sign) in SIGNS.iter().enumerate() {
                for (l, price) in [(*d, tails.start[i][j]), (d * 0.6, tails.ongoing[i][j])] {
                    let factor = |z: &f64| (l * (sign * z).clamp(-EXCESS_CLIP, EXCESS_CLIP)).exp() * price;
                    assert!(heavy.iter().map(factor).sum::<f64>() / 60.0 <= 1.0 + 1e-12);
                }
            }
        }
    }

    #[test]
    fn heavy_tails_cost_what_they_are_worth_and_a_step_of_rounding() {
        // numpy 2: max(l^2 / 2, ln mean exp(+-l z)) of these values, each size up and down.
        let expected = [
            (0.031_320_690, 0.042_452_541),
            (0.107_153_399, 0.191_358_377),
            (0.322_513_077, 0.858_222_648),
            (1.28, 3.024_559_659),
            (5.12, 7.808_297_987),
        ];
        let tails = Tails::of(&[-3.0, 0.5, 0.5, 0.5, 0.5, 1.0], 0.4);
        for ((psi, factors), d) in expected.into_iter().zip(tails.start).zip(SIZES) {
            for (psi, factor) in [(psi.0, factors[0]), (psi.1, factors[1])] {
                let over = -f64::ln(factor) - psi;
                assert!((-1e-8..=d * d / 2.0 / SURCHARGE_STEPS + 1e-8).contains(&over), "{d}: {over}");
            }
        }
        assert!(tails.is_sound(0.4));
        assert_eq!(Tails::of_surcharges(&tails.surcharges(0.4), 0.4), tails);
    }

    #[test]
    fn the_recursion_is_the_one_of_the_formula() {
        let profile = profile(0.3, 0.1);
        let mut track = Track::default();
        let mut bets = [[0.0; 2]; SIZES.len()];
        let mut previous: Option<f64> = None;
        for value in [0.4, 2.5, -1.0, 7.0] {
            track.observe(&profile, value, 1.0, &LEVEL);
            let u = previous.map_or(value * (1.0f64 - 0.09).sqrt(), |last| value - 0.3 * last);
            previous = Some(value);
            for (i, d) in SIZES.iter().enumerate() {
                for (j, sign) in SIGNS.iter().enumerate() {
                    let x = (sign * u - 0.1).clamp(-4.0, 4.0);
                    let psi = |l: f64| l * l / 2.0;
                    let bet: &mut f64 = &mut bets[i][j];
                    *bet = *bet * (d * 0.7 * x - psi(d * 0.7)).exp() + (d * x - psi(*d)).exp();
                    assert!((track.bets[i][j] / *bet - 1.0).abs() < 1e-9, "size {d} sign {sign}");
                }
            }
        }
    }

    #[test]
    fn a_gap_keeps_the_bets_and_forgets_the_predecessor() {
        let profile = [profile(0.5, 0.0)];
        let mut state = State::new(1);
        state.observe(&profile, &[reading(2.0)], &LEVEL, 1e9).unwrap();
        let before = state.tracks[0];
        let nan = Some(Reading { value: f64::NAN, rows: 9.0 });
        for (missing, row) in [(None, 1.0), (nan, 1.0), (reading(2.0), f64::NAN)] {
            state.observe(&profile, &[missing], &[row], 1e9).unwrap();
            assert_eq!(state.tracks[0].bets, before.bets);
            assert_eq!(state.tracks[0].whitener, Whitener::default());
        }
    }

    #[test]
    fn a_window_of_few_rows_weighs_less() {
        let profile = [profile(0.0, 0.0)];
        let level = |rows| {
            let mut state = State::new(1);
            state.observe(&profile, &[Some(Reading { value: 3.0, rows })], &LEVEL, 1e9).unwrap().evidence
        };
        assert!(level(25.0) < level(100.0));
        assert_eq!(level(100.0), level(900.0));
        assert_eq!(level(f64::NAN), level(0.0));
    }

    #[test]
    fn shapes_that_differ_are_refused_and_states_survive_being_written_down() {
        let profile = [profile(0.2, 0.1)];
        let mut state = State::new(1);
        state.observe(&profile, &[reading(1.0)], &LEVEL, 1000.0).unwrap();
        let kept = state.clone();
        assert!(state.observe(&profile, &[], &LEVEL, 1000.0).is_err());
        assert!(state.observe(&profile, &[reading(1.0)], &[], 1000.0).is_err());
        assert_eq!(state, kept);
        let back: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert!(back.is_sound(1) && !back.is_sound(2));
        assert_eq!(back, state);
    }
}
