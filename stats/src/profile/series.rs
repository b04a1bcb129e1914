//! The fit of one score's baseline: level and season, dependence, spread, tails, tolerance.

use std::ops::Range;

use super::ScoreProfile;
use crate::{
    design::{Design, expected},
    math,
    scores::Score,
    step::{BETS, Tails, Track},
    whiten::{coefficient, innovations},
};

/// Windows in which a score must have been seen. Below, the sampling error of its spread alone is over an eighth.
pub(crate) const MIN_SEEN: usize = 30;
/// Multiple of a level's standard error that the tolerance allows for (the notes' measured choice; a heuristic).
const ESTIMATION: f64 = 1.5;
/// Tolerances that the backtest tries, in innovations' standard deviations.
const LADDER: [f64; 10] = [0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0];
/// Share of the alarm level that unseen baseline windows may reach.
const BACKTEST_SHARE: f64 = 0.01;
/// Share of the baseline that a half of the backtest fits on; the rest is run.
pub(crate) const BACKTEST_FIT: f64 = 0.6;
/// Standard deviation over median absolute deviation of a normal.
const MAD_SCALE: f64 = 1.4826;
/// Spread below which a score that is no share counts as constant: rounding of sums, not change.
const CONSTANT: f64 = 1e-3;

/// What the days of the week must explain, as an F ratio, to be told apart: six coefficients that explain nothing cost a
/// sixth of the power of two years of days. With 2.5 about one score in fifty keeps a week that is none.
const WORTH: f64 = 2.5;

/// What is known of a score before its baseline is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) score: Score,
    /// Median rows behind a reading.
    pub(crate) rows: f64,
    /// Scores that share the detector.
    pub(crate) together: usize,
    /// The detector's alarm level.
    pub(crate) alarm: f64,
    /// How many columns there are without the days of the week: a seasonal score takes them all, another where it shows a
    /// season.
    pub(crate) season: usize,
    /// Columns whose coefficients the backtest takes from the whole: of the year, where its halves do not span one.
    pub(crate) held: Range<usize>,
}

impl Terms {
    /// Smallest spread to believe. The arcsine root of a share has a sampling error of `1 / (2 sqrt(n))` even where the
    /// baseline never saw one; other scores get a bare minimum, since their own tolerance governs.
    fn floor(&self) -> f64 {
        if self.score.is_share() { 0.5 / self.rows.max(1.0).sqrt() } else { CONSTANT }
    }
}

/// The profile of a score whose baseline is `values`, in time order, `None` for a window without it.
///
/// `None` where it was seen in too few windows.
pub(crate) fn fit(values: &[Option<f64>], design: &Design, terms: &Terms) -> Option<ScoreProfile> {
    let columns = worthy(values, design, terms);
    let mut profile = over(values, design, 0..values.len(), columns, terms)?;
    let seen = values.iter().flatten().count() as f64;
    // The level is known to sigma sqrt((P + 1) / B) only.
    let estimation = ESTIMATION * (columns as f64 / seen).sqrt();
    let least = estimation.max(terms.score.tolerance() * (1.0 - profile.phi) / profile.sigma);
    profile.tau = narrow(backtest(values, design, &profile, terms, least));
    Some(profile)
}

/// How many columns the score takes: those of the season where it goes with one or shows one, those of the week where
/// they are worth it.
fn worthy(values: &[Option<f64>], design: &Design, terms: &Terms) -> usize {
    let mut columns = if terms.score.is_seasonal() { terms.season } else { 1 };
    for more in [terms.season, design.columns()] {
        if more > columns && is_worth(values, design, columns, more, terms) {
            columns = more;
        }
    }
    columns
}

/// Whether the columns up to `more` explain enough of what those up to `few` leave: the F ratio of the innovations, both
/// whitened alike, so that dependence does not pass for season.
fn is_worth(values: &[Option<f64>], design: &Design, few: usize, more: usize, terms: &Terms) -> bool {
    let all = 0..values.len();
    let residuals = |columns| residuals(values, design, all.clone(), columns, &(0..0)).1;
    let (few_left, more_left) = (residuals(few), residuals(more));
    if !varies(&few_left, terms.floor()) {
        return false;
    }
    let phi = coefficient(&more_left);
    let square = |left: &[Option<f64>]| innovations(left, phi).map(|u| u * u).sum::<f64>();
    let (before, after) = (square(&few_left), square(&more_left));
    let freedom = values.iter().flatten().count() as f64 - more as f64;
    freedom > 0.0 && (before - after) / (more - few) as f64 > WORTH * after / freedom
}

/// Coefficients over the windows in `range`, and what they leave.
fn residuals(
    values: &[Option<f64>],
    design: &Design,
    range: Range<usize>,
    columns: usize,
    held: &Range<usize>,
) -> (Vec<f64>, Vec<Option<f64>>) {
    let mut beta = design.fit(values, range.clone(), columns, held);
    beta.iter_mut().for_each(|b| *b = narrow(*b));
    let left = range.map(|i| values[i].map(|value| value - expected(&beta, design.row(i)))).collect();
    (beta, left)
}

/// The fit over the windows in `range`, without a tolerance.
fn over(
    values: &[Option<f64>],
    design: &Design,
    range: Range<usize>,
    columns: usize,
    terms: &Terms,
) -> Option<ScoreProfile> {
    let is_part = range.len() < values.len();
    let held = if is_part { terms.held.clone() } else { 0..0 };
    let (beta, residuals) = residuals(values, design, range, columns, &held);
    let phi = narrow(if varies(&residuals, terms.floor()) { coefficient(&residuals) } else { 0.0 });
    let mut innovations: Vec<f64> = innovations(&residuals, phi).collect();
    let (seen, fitted) = (innovations.len(), columns);
    // Half of a shortest baseline's backtest is the least that is ever fitted on.
    if seen < (MIN_SEEN as f64 * BACKTEST_FIT) as usize || seen <= fitted + 1 {
        return None;
    }
    let sigma = narrow(spread(&innovations, fitted).max(terms.floor()));
    innovations.iter_mut().for_each(|u| *u /= sigma);
    let tails = Tails::of(&innovations, phi);
    Some(ScoreProfile { score: terms.score, rows: narrow(terms.rows), beta, phi, sigma, tau: 0.0, tails })
}

/// As precise as it is written down.
fn narrow(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Whether residuals vary by more than sampling alone explains: rounding of a constant is perfectly dependent, and
/// whitening by it would hide every later step.
fn varies(residuals: &[Option<f64>], floor: f64) -> bool {
    let (count, sum) = residuals.iter().flatten().fold((0.0, 0.0), |(count, sum), r| (count + 1.0, sum + r * r));
    sum > count * floor * floor
}

/// The larger of the root mean square with the degrees of freedom that the fit used, and the scaled median absolute
/// deviation.
fn spread(innovations: &[f64], fitted: usize) -> f64 {
    let freedom = (innovations.len() - fitted) as f64;
    let square = innovations.iter().map(|u| u * u).sum::<f64>() / freedom;
    let mut sizes: Vec<f64> = innovations.iter().map(|u| u.abs()).collect();
    square.sqrt().max(MAD_SCALE * math::median(&mut sizes).unwrap_or(0.0))
}

/// The smallest tolerance, `least` at least, that keeps the detector low on windows that the fit has not seen: fit on
/// the first 60 % and run the rest, then the other way about.
///
/// A half that does not span the year knows nothing of the other half's season: then the year's coefficients are those
/// of the whole, and the halves judge the rest. What one year differs from the next is not seen in one year.
fn backtest(values: &[Option<f64>], design: &Design, whole: &ScoreProfile, terms: &Terms, least: f64) -> f64 {
    let (windows, columns) = (values.len(), whole.beta.len());
    let year = terms.held.start.min(columns)..terms.held.end.min(columns);
    let known = |i: usize| expected(&whole.beta[year.clone()], &design.row(i)[year.clone()]);
    let values: Vec<_> = values.iter().enumerate().map(|(i, value)| value.map(|value| value - known(i))).collect();
    let part = (windows as f64 * BACKTEST_FIT) as usize;
    let halves = [(0..part, part..windows), (windows - part..windows, 0..windows - part)];
    let fits: Vec<_> = halves
        .into_iter()
        .filter_map(|(seen, unseen)| Some((over(&values, design, seen, columns, terms)?, unseen)))
        .collect();
    let allowed = BACKTEST_SHARE * terms.alarm;
    let quiet = |tau: f64| {
        fits.iter().all(|(fit, unseen)| {
            let trial = ScoreProfile { tau, ..fit.clone() };
            highest(&trial, &values, design, unseen.clone()) / (BETS * terms.together) as f64 <= allowed
        })
    };
    let largest = LADDER[LADDER.len() - 1].max(least);
    LADDER.into_iter().map(|rung| rung.max(least)).find(|tau| quiet(*tau)).unwrap_or(largest)
}

/// The largest sum of bets while running over `range`.
fn highest(profile: &ScoreProfile, values: &[Option<f64>], design: &Design, range: Range<usize>) -> f64 {
    let mut track = Track::default();
    range.fold(0.0, |highest: f64, i| {
        match values[i] {
            Some(value) => _ = track.observe(profile, value, 1.0, design.row(i)),
            None => track.gap(),
        }
        highest.max(track.total())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(score: Score) -> Terms {
        Terms { score, rows: 100.0, together: 6, alarm: 1000.0, season: 1, held: 0..0 }
    }

    /// A fixed sequence of mean 0 that repeats only after 101 values.
    fn noise(i: usize) -> f64 {
        ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0
    }

    #[test]
    fn a_quiet_baseline_gets_the_least_tolerance() {
        let values: Vec<_> = (0..100).map(|i| Some(5.0 + noise(i))).collect();
        let profile = fit(&values, &Design::level(100), &terms(Score::Mean)).unwrap();
        assert!((profile.beta[0] - 5.0).abs() < 0.05 && profile.phi < 0.2, "{profile:?}");
        assert!((profile.sigma - 0.58).abs() < 0.2 && (profile.tau - 0.15).abs() < 0.1, "{profile:?}");
        assert!(profile.is_sound());
    }

    #[test]
    fn a_baseline_that_breaks_in_the_middle_pays_with_tolerance() {
        let broken: Vec<_> = (0..100).map(|i| Some(noise(i) + if i < 50 { 0.0 } else { 1.5 })).collect();
        let whole: Vec<_> = (0..100).map(|i| Some(noise(i))).collect();
        let design = Design::level(100);
        let tau = |values: &[_]| fit(values, &design, &terms(Score::Mean)).unwrap().tau;
        assert!(tau(&broken) > tau(&whole));
    }

    #[test]
    fn constants_shares_and_short_series() {
        let design = Design::level(60);
        let constant = fit(&[Some(2.0); 60], &design, &terms(Score::Spread)).unwrap();
        assert_eq!(constant.sigma, narrow(CONSTANT));
        let share = fit(&[Some(0.05); 60], &design, &terms(Score::Missing)).unwrap();
        assert_eq!((share.sigma, share.phi, constant.phi), (narrow(0.05), 0.0, 0.0));
        assert!(constant.is_sound() && share.is_sound());
        let mut rare = vec![None; 60];
        rare[..10].fill(Some(1.0));
        assert_eq!(fit(&rare, &design, &terms(Score::Mean)), None);
    }
}
