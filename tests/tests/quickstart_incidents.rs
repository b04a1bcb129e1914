//! The quickstart's incidents, offline: played digits through the engine into reports as eight devices send them, and
//! these through the server's whole detector. Reports come in changing order and hold changing numbers of rows, as they do
//! from processes that share two cores; so devices close their detection windows one after the other.
//!
//! Thirty seeds by default (the 27th once blamed the fleet for two lenses), two hundred with `TERN_FULL=1`. `-- --nocapture` prints what each seed opened.

#[path = "quickstart_decay/rig.rs"]
mod rig;

use std::{collections::BTreeMap, sync::Arc};

use rig::Rig;
use tern_examples::{draws, play::script::Script};
use tern_fleet_server::{
    decay::{
        detector::{Committed, Detector, Standard, Subject, Touched},
        incidents::{Change, Incident},
    },
    forms::incident::IncidentKind,
};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, ModelVersion},
    report::v1::{self, Clock, Item, System, Violations},
};
use tern_stats::window::Window;

const DEVICES: usize = 8;
/// The lenses that foul first.
const TWO: [usize; 2] = [2, 5];
/// Reports of each device in a scene: about ten detection windows, then six, then six.
const CLEAN: u64 = 34;
const FOULED: u64 = 24;

struct Fleet<'r> {
    rig: &'r Rig,
    script: Script,
    model: ModelVersion,
    detector: Detector,
    shown: [u64; DEVICES],
    reports: u64,
    rows: i64,
    opened: Vec<(IncidentKind, Incident)>,
}

fn device(camera: usize) -> DeviceId {
    format!("cam-{}", camera + 1).parse().expect("a name")
}

impl<'r> Fleet<'r> {
    fn new(rig: &'r Rig, seed: u64) -> Self {
        let model: ModelVersion = "demo/meter-digits@1.0.0".parse().expect("a version");
        let mut detector = Detector::default();
        let subject = Subject::new(Standard::Profile(Arc::new(rig.profile.clone())));
        detector.subjects.insert(model.clone(), subject);
        let script = Script { seed, labelled_per_mille: 300 };
        Self { rig, script, model, detector, shown: [0; DEVICES], reports: 0, rows: 0, opened: Vec::new() }
    }

    /// Each device sends about so many `reports`, of 20 to 110 images each; one in eight comes together with the next.
    fn play(&mut self, reports: u64, is_fouled: impl Fn(usize) -> bool) {
        for _ in 0..reports {
            self.reports += 1;
            let mut cameras: Vec<usize> = (0..DEVICES).collect();
            cameras.sort_by_key(|camera| draws::draw(self.script.seed ^ 0xD15C, self.reports * 8 + *camera as u64));
            for camera in cameras {
                let drawn = draws::draw(self.script.seed ^ 0xF00D, self.reports * 8 + camera as u64);
                if drawn.is_multiple_of(8) {
                    continue;
                }
                let more = 20 + drawn / 8 % 91;
                let numbers = self.shown[camera]..self.shown[camera] + more;
                self.shown[camera] = numbers.end;
                let window = self.rig.window(&self.script, camera, numbers, is_fouled(camera));
                self.commit(camera, window);
            }
        }
    }

    fn commit(&mut self, camera: usize, window: Window) {
        self.rows += 1;
        let row = Committed {
            id: self.rows,
            device: device(camera),
            model: self.model.clone(),
            received: 1_700_000_000_000 + self.rows * 125,
            item: Some(wire(&self.model, self.reports, window)),
        };
        let mut touched = Touched::default();
        self.detector.take(row, &mut touched);
        let opened = touched.changes.into_iter().filter(|(_, _, _, change, _)| *change == Change::Opened);
        self.opened.extend(opened.map(|(_, kind, incident, _, _)| (kind, incident)));
    }

    fn open(&self) -> BTreeMap<IncidentKind, &Incident> {
        self.detector.subjects[&self.model].open.iter().map(|(kind, incident)| (*kind, incident)).collect()
    }

    fn kinds(&self) -> Vec<IncidentKind> {
        self.opened.iter().map(|(kind, _)| *kind).collect()
    }
}

fn wire(model: &ModelVersion, number: u64, window: Window) -> Item {
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
        errors: Vec::new(),
        violations: Violations::default(),
        latency: Vec::new(),
        features: window.features.into_iter().map(v1::Feature::from).collect(),
        outputs: window.outputs.into_iter().map(v1::Feature::from).collect(),
        confidence: window.confidence,
        feedback: window.labels.into_iter().map(v1::Feedback::from).collect(),
        system: System::default(),
    }))
}

#[test]
fn two_fouled_lenses_are_named_and_all_of_them_are_a_population_change() {
    let rig = Rig::new("1.0.0");
    let seeds = if std::env::var_os("TERN_FULL").is_some() { 200 } else { 30 };
    for seed in 0..seeds {
        let mut fleet = Fleet::new(&rig, seed);
        fleet.play(CLEAN, |_| false);
        assert_eq!(fleet.kinds(), [], "seed {seed}, nothing is wrong");
        fleet.play(FOULED, |camera| TWO.contains(&camera));
        let open = fleet.open();
        let fault = open.get(&IncidentKind::DeviceFault);
        let named = fault.map(|fault| fault.devices.clone());
        assert_eq!(named, Some(TWO.map(device).to_vec()), "seed {seed}, two lenses: {:?}", fleet.kinds());
        assert!(!open.contains_key(&IncidentKind::PopulationChange), "seed {seed}: {:?}", fleet.kinds());
        let before = fleet.opened.len();
        fleet.play(FOULED, |_| true);
        let kinds = fleet.kinds();
        println!("seed {seed}: {kinds:?}");
        assert!(kinds[before..].contains(&IncidentKind::PopulationChange), "seed {seed}, all lenses: {kinds:?}");
        assert!(kinds.contains(&IncidentKind::ModelBroken), "seed {seed}, all lenses: {kinds:?}");
        assert!(!fleet.open().contains_key(&IncidentKind::DeviceFault), "seed {seed}: nobody is apart any more");
    }
}
