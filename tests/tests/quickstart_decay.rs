//! The quickstart's decay, offline: played digits through the engine into detection windows, and these through the
//! detectors, without a process or a clock. It shows that the profiles suit the streams that the story plays.
//!
//! Eight devices, windows of 200 rows, a fifth of the rows labelled. One seed of 40 clean rounds by default, eight of 150
//! with `TERN_FULL=1`. `-- --nocapture` prints the figures.

#[path = "quickstart_decay/rig.rs"]
mod rig;

use rig::Rig;
use tern_examples::play::script::Script;
use tern_stats::{
    calibration,
    cohort::{self, Control},
    design, estimate, hard,
    labels::{Labels, Mixture},
    pooled,
    profile::Profile,
    scores::{Reader, Reading},
    slo, step,
    window::Window,
};

const DEVICES: usize = 8;
const ROWS: u64 = 200;
const LABELLED_PER_MILLE: u64 = 200;

/// What one round of windows raised.
#[derive(Debug, Default)]
struct Raised {
    hard: Vec<String>,
    own: Vec<(usize, String)>,
    apart: Vec<(usize, String)>,
    pooled: Vec<String>,
    calibration: Vec<usize>,
    calibration_pooled: bool,
    estimate: f64,
    labels: Labels,
}

/// All detectors of one fleet.
struct Detectors<'p> {
    profile: &'p Profile,
    readers: Vec<Reader>,
    controls: Vec<Control>,
    own: Vec<Vec<step::State>>,
    apart: Vec<Vec<step::State>>,
    pooled: Vec<step::State>,
    calibration: Vec<Mixture>,
    calibration_pooled: Mixture,
}

impl<'p> Detectors<'p> {
    fn new(profile: &'p Profile) -> Self {
        let fresh = || -> Vec<_> { profile.watched().map(|feature| feature.detector()).collect() };
        Self {
            profile,
            readers: profile.watched().map(Reader::new).collect(),
            controls: profile.watched().map(|feature| Control::alike(&feature.scores, DEVICES)).collect(),
            own: (0..DEVICES).map(|_| fresh()).collect(),
            apart: (0..DEVICES).map(|_| fresh()).collect(),
            pooled: fresh(),
            calibration: vec![Mixture::default(); DEVICES],
            calibration_pooled: Mixture::default(),
        }
    }

    fn round(&mut self, windows: &[Window]) -> Raised {
        let mut raised = Raised::default();
        let fleet = self.profile.threshold(DEVICES);
        for (at, feature) in self.profile.watched().enumerate() {
            let readings: Vec<Vec<Option<Reading>>> = windows
                .iter()
                .map(|window| {
                    let sums = window.watched().nth(at).expect("a feature");
                    let breaches = hard::check(&feature.limits, feature.rows, sums);
                    raised.hard.extend(breaches.iter().map(|breach| format!("{} {:?}", feature.name, breach.rule)));
                    let mut out = Vec::new();
                    self.readers[at].read(sums, &mut out).expect("sums of the profile");
                    out
                })
                .collect();
            let slices: Vec<_> = readings.iter().map(Vec::as_slice).collect();
            let (mut medians, mut mean, mut residuals) = (Vec::new(), Vec::new(), Vec::new());
            cohort::medians(&slices, &mut medians).expect("one shape");
            pooled::means(&slices, &mut mean).expect("one shape");
            for (device, own) in readings.iter().enumerate() {
                let state = &mut self.own[device][at];
                if state.observe(&feature.scores, own, &design::LEVEL, fleet).expect("one shape").alarm.is_some() {
                    raised.own.push((device, feature.name.clone()));
                }
                self.controls[at].residuals(own, &medians, &mut residuals).expect("one shape");
                let (state, scores) = (&mut self.apart[device][at], self.controls[at].scores());
                if state.observe(scores, &residuals, &design::LEVEL, fleet).expect("one shape").alarm.is_some() {
                    raised.apart.push((device, feature.name.clone()));
                }
            }
            let state = &mut self.pooled[at];
            let outcome = state.observe(&feature.scores, &mean, &design::LEVEL, self.profile.threshold(1));
            if outcome.expect("one shape").alarm.is_some() {
                raised.pooled.push(feature.name.clone());
            }
        }
        self.labels(windows, &mut raised);
        raised
    }

    fn labels(&mut self, windows: &[Window], raised: &mut Raised) {
        let confidence = self.profile.confidence.as_ref().expect("a profile of labelled rows");
        let mut all = vec![Labels::default(); confidence.bins.len()];
        let weigh = |state: &mut Mixture, labels: &[Labels], devices: usize| {
            let level = self.profile.arl * devices as f64;
            calibration::observe(state, confidence, labels, calibration::TOLERANCE, level).expect("one shape").alarm
        };
        for (device, window) in windows.iter().enumerate() {
            for (sum, labels) in all.iter_mut().zip(&window.labels) {
                (sum.n, sum.errors) = (sum.n + labels.n, sum.errors + labels.errors);
            }
            if weigh(&mut self.calibration[device], &window.labels, DEVICES) {
                raised.calibration.push(device);
            }
            let expected = estimate::expected_error(confidence, &window.confidence).expect("one shape");
            raised.estimate += expected.map_or(0.0, |estimate| estimate.error) / DEVICES as f64;
        }
        raised.calibration_pooled = weigh(&mut self.calibration_pooled, &all, 1);
        raised.labels = slo::total(&all);
    }
}

fn play(
    rig: &Rig,
    script: &Script,
    rounds: std::ops::Range<u64>,
    fouled: usize,
    to: &mut Detectors<'_>,
) -> Vec<Raised> {
    rounds
        .map(|round| {
            let windows: Vec<_> = (0..DEVICES)
                .map(|camera| rig.window(script, camera, round * ROWS..(round + 1) * ROWS, camera < fouled))
                .collect();
            to.round(&windows)
        })
        .collect()
}

/// The first round, counted from 1, in which `is` so.
fn first(rounds: &[Raised], is: impl Fn(&Raised) -> bool) -> Option<usize> {
    rounds.iter().position(is).map(|at| at + 1)
}

fn is_quiet(raised: &Raised) -> bool {
    raised.hard.is_empty()
        && raised.own.is_empty()
        && raised.apart.is_empty()
        && raised.pooled.is_empty()
        && raised.calibration.is_empty()
        && !raised.calibration_pooled
}

fn scale() -> (std::ops::Range<u64>, u64) {
    if std::env::var_os("TERN_FULL").is_some() { (1..9, 150) } else { (1..2, 40) }
}

fn figures(what: &str, rounds: &[Raised]) {
    let labels = rounds
        .iter()
        .fold(Labels::default(), |sum, r| Labels { n: sum.n + r.labels.n, errors: sum.errors + r.labels.errors });
    let estimate = rounds.iter().map(|r| r.estimate).sum::<f64>() / rounds.len() as f64;
    eprintln!(
        "{what}: {} windows, accuracy by labels {:.3}, estimated {:.3}; first alarm in round: own {:?}, cohort {:?}, \
         pooled {:?}, calibration of a device {:?}, of the fleet {:?}; rounds with any alarm {}",
        rounds.len() * DEVICES,
        1.0 - labels.errors as f64 / labels.n as f64,
        1.0 - estimate,
        first(rounds, |r| !r.own.is_empty()),
        first(rounds, |r| !r.apart.is_empty()),
        first(rounds, |r| !r.pooled.is_empty()),
        first(rounds, |r| !r.calibration.is_empty()),
        first(rounds, |r| r.calibration_pooled),
        rounds.iter().filter(|r| !is_quiet(r)).count(),
    );
}

#[test]
fn clean_lenses_raise_nothing_and_fouled_ones_are_found() {
    let rig = Rig::new("1.0.0");
    let (seeds, rounds) = scale();
    for seed in seeds {
        let script = Script { seed, labelled_per_mille: LABELLED_PER_MILLE };
        let mut detectors = Detectors::new(&rig.profile);
        let clean = play(&rig, &script, 0..rounds, 0, &mut detectors);
        figures(&format!("seed {seed}, 1.0.0, clean"), &clean);
        for raised in &clean {
            assert!(is_quiet(raised), "seed {seed}: {raised:?}");
        }

        let two = play(&rig, &script, rounds..rounds + 10, 2, &mut detectors);
        figures(&format!("seed {seed}, 1.0.0, two of eight fouled"), &two);
        let found = first(&two, |r| (0..2).all(|device| r.apart.iter().any(|(d, _)| *d == device)));
        assert!(found.is_some_and(|round| round <= 4), "seed {seed}: both fouled lenses by their cohort: {found:?}");
        let named: std::collections::BTreeSet<_> =
            two.iter().flat_map(|r| &r.apart).map(|(d, f)| (*d, &f[..])).collect();
        eprintln!("    the cohort names {named:?}");
        assert!(named.iter().all(|(device, _)| *device < 2), "seed {seed}: clean lenses were accused: {named:?}");

        let all = play(&rig, &script, rounds + 10..rounds + 30, DEVICES, &mut detectors);
        figures(&format!("seed {seed}, 1.0.0, all fouled"), &all);
        assert!(first(&all, |r| !r.pooled.is_empty()).is_some_and(|round| round <= 4), "seed {seed}: population");
        assert!(first(&all, |r| r.calibration_pooled).is_some_and(|round| round <= 10), "seed {seed}: calibration");
    }
}

#[test]
fn the_retrained_version_is_quiet_on_fouled_lenses() {
    let rig = Rig::new("1.1.0");
    let (seeds, rounds) = scale();
    for seed in seeds {
        let script = Script { seed, labelled_per_mille: LABELLED_PER_MILLE };
        let mut detectors = Detectors::new(&rig.profile);
        let fouled = play(&rig, &script, 0..rounds, DEVICES, &mut detectors);
        figures(&format!("seed {seed}, 1.1.0, all fouled"), &fouled);
        for raised in &fouled {
            assert!(is_quiet(raised), "seed {seed}: {raised:?}");
        }
    }
}
