//! A seeded fleet, what is wrong with its devices, and the detector that it reports into.

use std::sync::Arc;

use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, Generation, ModelVersion},
    report::v1::{self, Clock, ErrorCount, ErrorKind, Item, System, Violations},
};
use tern_stats::{
    cells::Edges,
    labels::Labels,
    numeric::Accumulator,
    profile::{Baseline, Confidence, Kind, Profile, Spec, fit},
    window::{Sums, Window},
};

use super::super::{
    detector::{Committed, Detector, Standard, Subject, Touched},
    incidents::{Change, Incident},
    keeping::{self, Policy},
};
use crate::{
    forms::incident::{IncidentKind, Resolution, Severity},
    store::{DetectorState, OpenIncident},
};

/// Rows of a detection window; a report has a quarter of them.
pub(crate) const ROWS: usize = 200;

pub(crate) const REPORT: usize = 50;

/// Inputs are normal, with standard deviation 1.
pub(crate) const FEATURES: [&str; 3] = ["mean", "contrast", "sharpness"];

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA076_1D64_78BD_642F)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Harm {
    /// Added to `contrast` and, halved, to `sharpness`.
    pub(crate) shift: f64,
    /// Whether `mean` stands still.
    pub(crate) stuck: bool,
    /// Share of values of `mean` that are missing.
    pub(crate) missing: f64,
    /// Chance of an error beside what the confidence allows for.
    pub(crate) broken: f64,
    /// How much harder the inputs are, in logits of the error: the confidence knows it.
    pub(crate) harder: f64,
    /// Share of inferences that fail.
    pub(crate) failing: f64,
}

pub(crate) struct Predicted {
    pub(crate) confidence: f64,
    pub(crate) wrong: bool,
}

pub(crate) fn predict(rng: &mut Rng, harm: Harm) -> Predicted {
    let error = 1.0 / (1.0 + (2.75 - harm.harder - 1.2 * rng.normal()).exp());
    Predicted { confidence: 1.0 - error, wrong: rng.uniform() < error.max(harm.broken) }
}

pub(crate) struct Source {
    pub(crate) rng: Rng,
    pub(crate) sums: Vec<Accumulator>,
    pub(crate) number: u64,
}

impl Source {
    pub(crate) fn new(seed: u64, profile: &Profile) -> Self {
        let rulers = profile.features.iter().filter_map(|feature| match &feature.kind {
            Kind::Numeric(ruler) => Some(Accumulator::new(ruler.clone())),
            Kind::Categorical(_) => None,
        });
        Self { rng: Rng::new(seed), sums: rulers.collect(), number: 0 }
    }

    /// A report window of `rows` rows, of which a third come back with labels at once.
    pub(crate) fn window(&mut self, profile: &Profile, rows: usize, harm: Harm) -> Window {
        let edges = profile.confidence.as_ref().map(|confidence| &confidence.edges);
        let mut window = Window {
            rows: rows as u64,
            confidence: vec![0; edges.map_or(0, Edges::cells)],
            labels: vec![Labels::default(); edges.map_or(1, Edges::cells)],
            ..Window::default()
        };
        for row in 0..rows {
            let values = [0, 1, 2].map(|_| self.rng.normal());
            let mean = if harm.stuck { 0.3 } else { values[0] };
            let mean = (self.rng.uniform() >= harm.missing).then_some(mean);
            let all = [mean, Some(values[1] + harm.shift), Some(values[2] + harm.shift / 2.0)];
            self.sums.iter_mut().zip(all).for_each(|(sums, value)| sums.update(value));
            let predicted = predict(&mut self.rng, harm);
            let bin = edges.map_or(0, |edges| edges.index(predicted.confidence));
            window.confidence.iter_mut().skip(bin).take(1).for_each(|rows| *rows += 1);
            if row % 3 == 0 {
                window.labels[bin].n += 1;
                window.labels[bin].errors += u64::from(predicted.wrong);
            }
        }
        window.features = self.sums.iter_mut().map(|sums| Sums::Numeric(sums.take())).collect();
        window
    }
}

pub(crate) fn profile(seed: u64) -> Arc<Profile> {
    let mut rng = Rng::new(seed);
    let sample: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
    let specs: Vec<Spec> = FEATURES.iter().map(|name| Spec::numeric(name, &sample).unwrap()).collect();
    let held_out: Vec<(f64, bool)> = (0..20_000)
        .map(|_| {
            let predicted = predict(&mut rng, Harm::default());
            (predicted.confidence, predicted.wrong)
        })
        .collect();
    let confidence = Confidence::of_sample(&held_out).unwrap();
    // A first profile gives the windows of the baseline their rulers.
    let rulers: Vec<_> = specs.iter().map(|spec| spec.kind.clone()).collect();
    let mut source = Source { rng: Rng::new(seed + 1), sums: Vec::new(), number: 0 };
    source.sums = rulers
        .into_iter()
        .filter_map(|kind| if let Kind::Numeric(ruler) = kind { Some(Accumulator::new(ruler)) } else { None })
        .collect();
    let bare = Profile {
        format: tern_stats::profile::FORMAT,
        windows: 0,
        rows: ROWS as f64,
        arl: 1000.0,
        unit: tern_stats::profile::Unit::Rows,
        calendar: None,
        features: Vec::new(),
        outputs: Vec::new(),
        confidence: Some(confidence.clone()),
        objective: None,
        estimate: None,
    };
    let windows: Vec<Window> = (0..60).map(|_| source.window(&bare, ROWS, Harm::default())).collect();
    let baseline = Baseline { confidence: Some(confidence), ..Baseline::new(&specs, &windows) };
    let profile = fit(&baseline).unwrap();
    profile.check().unwrap();
    Arc::new(profile)
}

/// A fleet that reports into a detector.
pub(crate) struct Fleet {
    pub(crate) profile: Arc<Profile>,
    pub(crate) detector: Detector,
    pub(crate) sources: Vec<Source>,
    pub(crate) model: ModelVersion,
    pub(crate) log: Vec<(usize, IncidentKind, Incident, Change)>,
    pub(crate) rounds: usize,
    pub(crate) id: i64,
    pub(crate) order: Rng,
}

pub(crate) fn version(text: &str) -> ModelVersion {
    text.parse().unwrap()
}

pub(crate) fn name(index: usize) -> DeviceId {
    format!("cam-{index}").parse().unwrap()
}

pub(crate) fn names(indices: &[usize]) -> Vec<DeviceId> {
    indices.iter().map(|index| name(*index)).collect()
}

impl Fleet {
    pub(crate) fn new(seed: u64, devices: usize) -> Self {
        let profile = profile(seed);
        let mut fleet = Self {
            detector: Detector::default(),
            sources: (0..devices as u64).map(|i| Source::new(seed * 1000 + i, &profile)).collect(),
            profile,
            model: version("vision/digits@1.0.0"),
            log: Vec::new(),
            rounds: 0,
            id: 0,
            order: Rng::new(seed + 77),
        };
        fleet.watch();
        fleet
    }

    pub(crate) fn watch(&mut self) {
        let subject = Subject::new(Standard::Profile(self.profile.clone()));
        self.detector.subjects.insert(self.model.clone(), subject);
    }

    pub(crate) fn commit(&mut self, device: usize, item: Item) -> Committed {
        self.id += 1;
        Committed {
            id: self.id,
            device: name(device),
            model: self.model.clone(),
            received: 1_700_000_000_000 + self.id * 250,
            item: Some(item),
        }
    }

    pub(crate) fn take(&mut self, row: Committed) {
        let mut touched = Touched::default();
        self.detector.take(row, &mut touched);
        let round = self.rounds;
        self.log
            .extend(touched.changes.into_iter().map(|(_, kind, incident, change, _)| (round, kind, incident, change)));
    }

    pub(crate) fn report(&mut self, device: usize, harm: Harm) -> Committed {
        let profile = self.profile.clone();
        let window = self.sources[device].window(&profile, REPORT, harm);
        self.sources[device].number += 1;
        let failed = (REPORT as f64 * harm.failing).round() as u64;
        let item = wire(window, self.sources[device].number, &self.model, failed);
        self.commit(device, item)
    }

    /// What a worker counts where nothing was answered: sums of no values, or none at all where it could not read its profile.
    pub(crate) fn failed(&mut self, device: usize, calls: u64, is_blind: bool) -> Committed {
        let (profile, source) = (self.profile.clone(), &mut self.sources[device]);
        let window = if is_blind {
            Window { labels: vec![Labels::default()], ..Window::default() }
        } else {
            source.window(&profile, 0, Harm::default())
        };
        source.number += 1;
        let item = wire(window, source.number, &self.model, calls);
        self.commit(device, item)
    }

    /// Four reports of each device, in an order that changes: about one detection window each.
    pub(crate) fn round(&mut self, harm: impl Fn(usize) -> Harm) {
        for _ in 0..ROWS / REPORT {
            let mut devices: Vec<usize> = (0..self.sources.len()).collect();
            for i in (1..devices.len()).rev() {
                devices.swap(i, (self.order.uniform() * (i + 1) as f64) as usize);
            }
            for device in devices {
                let row = self.report(device, harm(device));
                self.take(row);
            }
        }
        self.rounds += 1;
    }

    pub(crate) fn rounds(&mut self, count: usize, harm: impl Fn(usize) -> Harm) {
        (0..count).for_each(|_| self.round(&harm));
    }

    pub(crate) fn open(&self) -> Vec<(IncidentKind, &Incident)> {
        self.detector.subjects.values().flat_map(|s| s.open.iter().map(|(kind, incident)| (*kind, incident))).collect()
    }

    pub(crate) fn opened(&self) -> Vec<(usize, IncidentKind, Severity)> {
        let opened = self.log.iter().filter(|(_, _, _, change)| *change == Change::Opened);
        opened.map(|(round, kind, incident, _)| (*round, *kind, incident.severity)).collect()
    }

    pub(crate) fn ended(&self, kind: IncidentKind) -> Vec<Resolution> {
        let of = self.log.iter().filter(|(_, of, _, _)| *of == kind);
        of.filter_map(|(_, _, _, change)| if let Change::Resolved(why) = change { Some(*why) } else { None }).collect()
    }
}

pub(crate) fn wire(window: Window, number: u64, model: &ModelVersion, failed: u64) -> Item {
    Item::Window(Box::new(v1::Window {
        number,
        model: model.name.clone(),
        version: model.version.clone(),
        contract: Digest::of(b"contract"),
        boot: 1,
        start_ms: 0,
        end_ms: 1,
        clock: Clock::Trusted,
        inferences: window.rows,
        rows: window.rows,
        errors: vec![ErrorCount { kind: ErrorKind::Engine, count: failed }],
        violations: Violations::default(),
        latency: Vec::new(),
        features: window.features.into_iter().map(v1::Feature::from).collect(),
        outputs: Vec::new(),
        confidence: window.confidence,
        feedback: window.labels.into_iter().map(v1::Feedback::from).collect(),
        system: System::default(),
    }))
}

pub(crate) fn event() -> v1::Event {
    v1::Event { at_ms: 1, generation: Generation(1), kind: v1::EventKind::WorkerRestarted { cause: String::new() } }
}

pub(crate) fn shifted(devices: &'static [usize], shift: f64) -> impl Fn(usize) -> Harm {
    move |device| if devices.contains(&device) { Harm { shift, ..Harm::default() } } else { Harm::default() }
}

pub(crate) fn clean(_: usize) -> Harm {
    Harm::default()
}

/// The detector as it is after a kill: written down, read back.
pub(crate) fn restarted(fleet: &Fleet, policy: &Policy) -> Detector {
    let mut all = Touched::default();
    for (model, subject) in &fleet.detector.subjects {
        all.versions.insert(model.clone());
        if let Some((_, watch)) = &subject.watching {
            all.devices.extend(watch.devices.keys().map(|device| (model.clone(), device.clone())));
        }
    }
    all.runs.extend(fleet.detector.runs.keys().cloned());
    let step = keeping::advance(&fleet.detector, 0, all, policy);
    let open = fleet.detector.subjects.iter().flat_map(|(model, subject)| {
        subject.open.iter().map(|(kind, incident)| {
            // As it goes through the database.
            let json = serde_json::to_string(incident).unwrap();
            OpenIncident { model: model.clone(), kind: *kind, incident: serde_json::from_str(&json).unwrap() }
        })
    });
    let state = DetectorState {
        cursor: step.cursor,
        versions: step.versions,
        devices: step.devices,
        runs: step.runs,
        open: open.collect(),
    };
    let profile = fleet.profile.clone();
    keeping::restore(state, move |_| Standard::Profile(profile.clone()))
}
