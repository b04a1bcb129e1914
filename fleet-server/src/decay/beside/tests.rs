//! What devices are held to one another by, and what is learned of it.

use std::sync::Arc;

use tern_stats::{
    calendar::{Calendar, DAY},
    cohort::MIN_DEVICES,
    profile::{Baseline, Profile, Spec, Unit, fit},
    scores::Score,
    window::{Sums, Window},
};

use super::*;
use crate::decay::{
    judge::{Judge, Readings},
    simulation::fleet::Rng,
};

/// Noon of a day of July.
const NOON: f64 = (365.0 * 30.0 + 190.5) * DAY;
const THRESHOLD: f64 = 8e3;

/// The profile of one feature whose scores have a level, and a season if asked for.
fn profile(unit: Unit, level: f64, annual: bool) -> Arc<Profile> {
    let mut rng = Rng::new(1);
    let sample: Vec<f64> = (0..6000).map(|_| rng.normal()).collect();
    let specs = [Spec::numeric("x", &sample).unwrap()];
    let tern_stats::profile::Kind::Numeric(ruler) = &specs[0].kind else { panic!("a number") };
    let mut sums = tern_stats::numeric::Accumulator::new(ruler.clone());
    let windows = sample.chunks(100).map(|rows| {
        rows.iter().for_each(|value| sums.update(Some(*value)));
        Window { rows: 100, features: vec![Sums::Numeric(sums.take())], ..Window::default() }
    });
    let mut profile = fit(&Baseline::new(&specs, &windows.collect::<Vec<_>>())).unwrap();
    let beta = if annual { vec![level, 3.0, 2.0, 0.0, 0.0] } else { vec![level] };
    profile.features[0].scores.iter_mut().for_each(|score| (score.beta, score.sigma) = (beta.clone(), 1.0));
    (profile.unit, profile.calendar) = (unit, Some(Calendar { annual, ..Calendar::plain(0) }));
    profile.check().unwrap();
    Arc::new(profile)
}

fn readings(value: f64) -> Readings {
    vec![vec![Some(Reading { value, rows: 100.0 }); Score::NUMERIC.len()]]
}

/// What is left of a reading of `value` by each score.
fn left(judge: &Judge, value: f64, middle: f64) -> Vec<Option<f64>> {
    judge.beside(&readings(value), middle)[0].iter().map(|reading| reading.map(|reading| reading.value)).collect()
}

/// `value` by the scores that are compared.
fn compared(value: f64) -> Vec<Option<f64>> {
    let by_cells = |score: &Score| matches!(score, Score::Location | Score::Spread);
    Score::NUMERIC.iter().map(|score| (!by_cells(score)).then_some(value)).collect()
}

#[test]
fn days_and_weeks_are_compared_with_their_season_and_rows_without() {
    for unit in [Unit::Day, Unit::Week] {
        let judge = Judge::new(profile(unit, 5.0, true));
        assert_eq!(left(&judge, 12.5, NOON), compared(7.5), "less the level alone");
        assert_eq!(left(&judge, 12.5, NOON + 90.0 * DAY), compared(7.5));
    }
    let judge = Judge::new(profile(Unit::Rows, 5.0, true));
    for middle in [NOON, NOON + 90.0 * DAY] {
        let row = judge.profile().row(middle);
        let season = 5.0 + 3.0 * row.as_slice()[1] + 2.0 * row.as_slice()[2];
        assert!((season - 5.0).abs() > 1.0, "there is a season to take out");
        for (left, expected) in left(&judge, 12.5, middle).into_iter().zip(compared(12.5 - season)) {
            assert!(left.zip(expected).map_or(left == expected, |(a, b)| (a - b).abs() < 1e-12), "{left:?}");
        }
    }
    let plain = Judge::new(profile(Unit::Rows, 5.0, false));
    assert_eq!(left(&plain, 12.5, f64::NAN), compared(7.5), "without a season no time is needed");
}

#[test]
fn a_window_of_no_known_time_joins_no_comparison_by_time() {
    let nothing = vec![None; Score::NUMERIC.len()];
    for (unit, annual) in [(Unit::Day, true), (Unit::Day, false), (Unit::Week, false), (Unit::Rows, true)] {
        let judge = Judge::new(profile(unit, 5.0, annual));
        assert_eq!(left(&judge, 12.5, f64::NAN), nothing, "{unit:?}, {annual}");
    }
}

/// A cohort of eight whose weather and noise are the same at every level; the first device is another by three.
struct Cohort {
    judge: Judge,
    beside: Beside,
    level: f64,
    rng: Rng,
}

impl Cohort {
    fn new(level: f64) -> Self {
        let judge = Judge::new(profile(Unit::Day, level, false));
        let beside = Beside::new(judge.watched().next().unwrap());
        Self { judge, beside, level, rng: Rng::new(2) }
    }

    /// A window of each device; returns whether the first was found to differ.
    fn round(&mut self, shift: f64, missing: &[Score]) -> bool {
        let weather = self.rng.normal();
        let mut all: Vec<Readings> = (0..MIN_DEVICES)
            .map(|device| {
                let own = if device == 0 { 3.0 + shift } else { 0.0 };
                readings(self.level + weather + own + 0.3 * self.rng.normal())
            })
            .collect();
        for (reading, score) in all[0][0].iter_mut().zip(Score::NUMERIC) {
            reading.take_if(|_| missing.contains(&score));
        }
        let held: Vec<_> = all.iter().map(|readings| self.judge.beside(readings, NOON)).collect();
        let medians = self.judge.medians(held.iter());
        let (scores, size) = (self.judge.compared().next().unwrap(), (MIN_DEVICES, THRESHOLD));
        let outcome = self.beside.observe(scores, &held[0][0], &medians[0], size, &mut Vec::new()).unwrap();
        self.beside.remember(scores, &held[0][0], &medians[0], size);
        outcome.alarm.is_some()
    }

    fn rounds(&mut self, count: usize, missing: &[Score]) {
        for _ in 0..count {
            self.round(0.0, missing);
        }
    }

    /// Level and spread that were learned of a score.
    fn learned(&self, score: Score) -> (f64, f64) {
        let learned = self.beside.learned.as_ref().unwrap();
        let of = learned.scores().iter().find(|known| known.score == score).unwrap();
        (of.beta[0], of.sigma)
    }
}

#[test]
fn what_is_learned_does_not_depend_on_the_level() {
    let [low, high] = [0.0, 1e7].map(|level| {
        let mut cohort = Cohort::new(level);
        cohort.rounds(MIN_WINDOWS, &[]);
        assert!(cohort.beside.history.is_empty() && cohort.beside.is_sound(Score::NUMERIC.len()));
        let learned = cohort.learned(Score::Mean);
        let quiet: usize = (0..40).filter(|_| cohort.round(0.0, &[])).count();
        let found = (1..=20).find(|_| cohort.round(1.0, &[]));
        (learned, quiet, found)
    });
    assert!((low.0.0 - 3.0).abs() < 0.15 && low.0.1 < 0.45, "{low:?}");
    assert!((low.0.0 - high.0.0).abs() < 1e-3 && (low.0.1 - high.0.1).abs() < 1e-3, "{low:?} {high:?}");
    assert_eq!((low.1, low.2.is_some()), (0, true), "{low:?}");
    assert_eq!((low.1, low.2), (high.1, high.2));
}

#[test]
fn what_cannot_be_learned_again_stays_as_it_was_learned() {
    let mut cohort = Cohort::new(0.0);
    cohort.rounds(MIN_WINDOWS, &[]);
    let (mean, roughness) = (cohort.learned(Score::Mean), cohort.learned(Score::Roughness));
    // The second time one score is seen too rarely to learn anything of it.
    cohort.rounds(25, &[]);
    cohort.rounds(25, &[Score::Mean]);
    assert!(cohort.beside.history.is_empty(), "it was tried, and what it stood on is gone");
    assert_eq!(cohort.learned(Score::Mean), mean, "three apart, as before");
    assert_ne!(cohort.learned(Score::Roughness), roughness, "the others are learned again");
    assert_eq!((0..40).filter(|_| cohort.round(0.0, &[])).count(), 0, "so what sets it apart is not said");
    assert!((0..20).any(|_| cohort.round(1.0, &[])));
}
