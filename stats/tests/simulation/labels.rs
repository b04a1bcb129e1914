//! Labels: broken confidence is found, harder inputs are not taken for it.

use tern_stats::{
    calibration,
    design::LEVEL,
    estimate,
    labels::{Labels, Mixture},
    profile::{Baseline, Confidence, fit},
    slo,
    step::{Direction, State},
    window::Window,
};

use crate::rng::Rng;

const ROWS: usize = 200;

/// Predictions of a model that knows how likely it is to be wrong; `hard` shifts how hard the inputs are.
fn predictions(rng: &mut Rng, rows: usize, hard: f64, broken: f64) -> Vec<(f64, bool)> {
    (0..rows)
        .map(|_| {
            let logit = -2.75 + 1.2 * rng.normal() + hard;
            let error = 1.0 / (1.0 + (-logit).exp());
            (1.0 - error, rng.uniform() < (error + broken).min(1.0))
        })
        .collect()
}

struct Watch {
    confidence: Confidence,
    calibration: Mixture,
    objective: Mixture,
    rng: Rng,
    weather: f64,
}

impl Watch {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let confidence = Confidence::of_sample(&predictions(&mut rng, 10_000, 0.0, 0.0)).unwrap();
        Self { confidence, calibration: Mixture::default(), objective: Mixture::default(), rng, weather: 0.0 }
    }

    /// Alarms of calibration and of the objective (12 % errors) on one window, and the estimated error rate.
    fn window(&mut self, hard: f64, broken: f64) -> (bool, bool, f64) {
        let mut labels = vec![Labels::default(); self.confidence.bins.len()];
        let mut rows = vec![0; self.confidence.bins.len()];
        for (confidence, wrong) in predictions(&mut self.rng, ROWS, hard, broken) {
            let bin = self.confidence.edges.index(confidence);
            labels[bin].n += 1;
            labels[bin].errors += u64::from(wrong);
            rows[bin] += 1;
        }
        let a = calibration::observe(&mut self.calibration, &self.confidence, &labels, calibration::TOLERANCE, 1000.0);
        let b = slo::observe(&mut self.objective, 0.12, slo::total(&labels), 1000.0);
        let expected = estimate::expected_error(&self.confidence, &rows).unwrap().unwrap();
        (a.unwrap().alarm, b.alarm, expected.error)
    }
}

fn overall(seed: u64) -> f64 {
    let sample = predictions(&mut Rng::new(seed), 20_000, 0.0, 0.0);
    sample.iter().filter(|(_, wrong)| *wrong).count() as f64 / 20_000.0
}

#[test]
fn steady_drifting_and_seasonal_difficulty_raise_no_alarm_of_calibration() {
    println!("base error {:.3}", overall(3));
    for (name, kind) in [("steady", 0), ("AR .7", 1), ("seasonal", 2)] {
        let mut alarms = 0;
        for seed in 0..16 {
            let mut watch = Watch::new(seed);
            for t in 0..200 {
                watch.weather = 0.7 * watch.weather + 0.5 * watch.rng.normal();
                let season = (f64::from(t) * std::f64::consts::TAU / 50.0).sin();
                let hard = [0.0, watch.weather, season][kind];
                alarms += usize::from(watch.window(hard, 0.0).0);
            }
        }
        println!("{name}: {alarms} alarms in 3200 windows");
        assert!(alarms <= 3);
    }
}

#[test]
fn broken_confidence_is_found_quickly() {
    for (points, within, share) in [(0.10, 3, 1.0), (0.05, 6, 0.9)] {
        let mut delays: Vec<usize> = (100..120)
            .filter_map(|seed| {
                let mut watch = Watch::new(seed);
                for _ in 0..10 {
                    watch.window(0.0, 0.0);
                }
                (1..=30).find(|_| watch.window(0.0, points).0)
            })
            .collect();
        delays.sort_unstable();
        println!("+{points}: found {} of 20, median {:?}, worst {:?}", delays.len(), delays.get(10), delays.last());
        assert!(delays.len() as f64 >= share * 20.0 && delays[delays.len() / 2] <= within);
    }
}

#[test]
fn harder_inputs_breach_the_objective_and_raise_the_estimate_without_breaking_calibration() {
    for seed in 200..210 {
        let mut watch = Watch::new(seed);
        let calm = watch.window(0.0, 0.0).2;
        let said: Vec<_> = (0..10).map(|_| watch.window(1.2, 0.0)).collect();
        assert!(said.iter().all(|(calibration, _, _)| !calibration));
        assert!(said.iter().any(|(_, objective, _)| *objective));
        assert!(said.iter().all(|(_, _, estimate)| *estimate > calm + 0.05));
    }
}

#[test]
fn the_estimate_alone_finds_harder_inputs_and_is_quiet_before() {
    let (mut false_alarms, mut delays) = (0, Vec::new());
    for seed in 300..320 {
        let mut rng = Rng::new(seed);
        let confidence = Confidence::of_sample(&predictions(&mut rng, 10_000, 0.0, 0.0)).unwrap();
        let mut window = |hard: f64| {
            let mut rows = vec![0; confidence.bins.len()];
            let seen = predictions(&mut rng, ROWS, hard, 0.0);
            seen.iter().for_each(|(c, _)| rows[confidence.edges.index(*c)] += 1);
            Window { rows: ROWS as u64, confidence: rows, ..Window::default() }
        };
        let windows: Vec<Window> = (0..60).map(|_| window(0.0)).collect();
        let baseline = Baseline { confidence: Some(confidence.clone()), ..Baseline::new(&[], &windows) };
        let profile = fit(&baseline).unwrap();
        profile.check().unwrap();
        let scores = [profile.estimate.unwrap()];
        let mut state = State::new(1);
        let mut alarm = |window: &Window| {
            let reading = estimate::expected_error(&confidence, &window.confidence).unwrap().map(|e| e.reading());
            state.observe(&scores, &[reading], &LEVEL, profile.arl).unwrap().alarm
        };
        false_alarms += (0..100).filter(|_| alarm(&window(0.0)).is_some()).count();
        let found = (1..=10).find_map(|delay| Some((delay, alarm(&window(0.8))?)));
        let (delay, crossing) = found.unwrap();
        assert_eq!(crossing.direction, Direction::Up);
        delays.push(delay);
    }
    println!("estimate: {false_alarms} false alarms in 2,000 windows, harder inputs found after {delays:?}");
    assert!(false_alarms <= 6 && delays.iter().all(|delay| *delay <= 5));
}
