//! A device that sees four features, its windows, and the detectors that watch them.

use tern_stats::{
    categorical,
    design::LEVEL,
    hard::{self, Breach},
    numeric,
    profile::{Baseline, Kind, Profile, Spec, fit},
    scores::{Reader, Reading},
    step::{Outcome, State},
    window::{Sums, Window},
};

use crate::rng::Rng;

pub(crate) const CATEGORIES: [(&str, f64); 5] = [("a", 0.4), ("b", 0.25), ("c", 0.2), ("d", 0.1), ("e", 0.05)];
/// Index of the categorical feature.
pub(crate) const CATEGORY: usize = 3;

/// One row: normal, lognormal, Student t3, category.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) numbers: [Option<f64>; 3],
    pub(crate) category: Option<&'static str>,
}

/// Rows whose underlying normals are AR(1) with coefficient `phi`, plus `common` from outside.
pub(crate) struct Source {
    pub(crate) rng: Rng,
    phi: f64,
    state: [f64; 3],
    pub(crate) common: f64,
}

impl Source {
    pub(crate) fn new(seed: u64, phi: f64) -> Self {
        Self { rng: Rng::new(seed), phi, state: [0.0; 3], common: 0.0 }
    }

    pub(crate) fn row(&mut self) -> Row {
        let fresh = (1.0 - self.phi * self.phi).sqrt();
        for state in &mut self.state {
            *state = self.phi * *state + fresh * self.rng.normal();
        }
        let [a, b, c] = self.state.map(|x| x + self.common);
        let chi = (0..3).map(|_| self.rng.normal().powi(2)).sum::<f64>() / 3.0;
        let mut u = self.rng.uniform();
        let category = CATEGORIES.into_iter().find(|(_, share)| {
            u -= share;
            u < 0.0
        });
        let lognormal = (0.5 * b).exp();
        Row { numbers: [Some(a), Some(lognormal), Some(c / chi.sqrt())], category: Some(category.map_or("e", |c| c.0)) }
    }
}

/// A device's accumulators.
pub(crate) struct Device {
    numbers: Vec<numeric::Accumulator>,
    category: categorical::Accumulator,
}

impl Device {
    pub(crate) fn new(specs: &[Spec]) -> Self {
        let mut numbers = Vec::new();
        let mut category = None;
        for spec in specs {
            match &spec.kind {
                Kind::Numeric(ruler) => numbers.push(numeric::Accumulator::new(ruler.clone())),
                Kind::Categorical(names) => category = Some(categorical::Accumulator::new(names.clone())),
            }
        }
        Self { numbers, category: category.unwrap() }
    }

    pub(crate) fn window(&mut self, rows: impl Iterator<Item = Row>) -> Window {
        let mut count = 0;
        for row in rows {
            count += 1;
            self.numbers.iter_mut().zip(row.numbers).for_each(|(sums, x)| sums.update(x));
            self.category.update(row.category);
        }
        let mut features: Vec<_> = self.numbers.iter_mut().map(|sums| Sums::Numeric(sums.take())).collect();
        features.push(Sums::Categorical(self.category.take()));
        Window { rows: count, features, ..Window::default() }
    }
}

/// A profile fitted to `windows` windows of `rows` rows from `source`, which goes on from there.
pub(crate) fn profile(source: &mut Source, windows: usize, rows: usize) -> (Profile, Vec<Spec>) {
    let sample: Vec<Row> = (0..windows * rows).map(|_| source.row()).collect();
    let column = |i: usize| sample.iter().filter_map(|row| row.numbers[i]).collect::<Vec<f64>>();
    let mut specs: Vec<Spec> =
        ["normal", "lognormal", "t3"].iter().enumerate().map(|(i, n)| Spec::numeric(n, &column(i)).unwrap()).collect();
    specs.push(Spec::categorical("category", sample.iter().filter_map(|row| row.category)));
    let mut device = Device::new(&specs);
    let windows: Vec<Window> = sample.chunks(rows).map(|chunk| device.window(chunk.iter().cloned())).collect();
    let profile = fit(&Baseline::new(&specs, &windows)).unwrap();
    profile.check().unwrap();
    (profile, specs)
}

/// The solo detectors of one device.
pub(crate) struct Watch<'a> {
    profile: &'a Profile,
    readers: Vec<Reader>,
    states: Vec<State>,
    devices: usize,
}

/// What one feature's detectors said of a window.
pub(crate) struct Said {
    pub(crate) step: Outcome,
    pub(crate) hard: Vec<Breach>,
    pub(crate) readings: Vec<Option<Reading>>,
}

impl Said {
    pub(crate) fn is_alarm(&self) -> bool {
        self.step.alarm.is_some() || !self.hard.is_empty()
    }
}

impl<'a> Watch<'a> {
    pub(crate) fn new(profile: &'a Profile, devices: usize) -> Self {
        let readers = profile.features.iter().map(Reader::new).collect();
        let states = profile.features.iter().map(|feature| feature.detector()).collect();
        Self { profile, readers, states, devices }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.profile.features.iter().zip(&self.states).all(|(feature, state)| state.is_sound(feature.scores.len()))
    }

    pub(crate) fn observe(&mut self, window: &Window) -> Vec<Said> {
        let threshold = self.profile.threshold(self.devices);
        let features = self.profile.features.iter().zip(&window.features);
        let detectors = self.readers.iter().zip(&mut self.states);
        features
            .zip(detectors)
            .map(|((feature, sums), (reader, state))| {
                let mut readings = Vec::new();
                reader.read(sums, &mut readings).unwrap();
                let step = state.observe(&feature.scores, &readings, &LEVEL, threshold).unwrap();
                Said { step, hard: hard::check(&feature.limits, feature.rows, sums), readings }
            })
            .collect()
    }
}
