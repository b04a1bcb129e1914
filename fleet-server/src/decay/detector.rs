//! Everything that is under watch, and what a batch of committed rows makes of it. It knows no database and no clock.
//!
//! A version is gone from a device once two windows in a row came from another version of the same model: one alone may
//! be a straggler. On the new version detection starts anew. A version that is gone from every device has its incidents
//! resolved. The state moves only as a whole: what a batch touched is handed out with the new cursor, to be written in one
//! transaction; where that fails, the detector is read back from what is written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion, Version},
    report::v1::{Clock, Correction, ErrorKind, Item, Window},
};
use tern_stats::{labels::Labels, profile::Profile};

use super::{
    calls::Service,
    device::DeviceWatch,
    incidents::{self, Change, Incident, Open},
    judge::Judge,
    verdict::Verdict,
    watch::Watch,
};
use crate::forms::incident::{IncidentKind, WatchFigures};

/// Windows in a row that say which version a device runs.
const SURE: u8 = 2;

/// A committed row of `telemetry`.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its number: the order of commits.
    pub id: i64,
    /// From whom.
    pub device: DeviceId,
    /// Of what.
    pub model: ModelVersion,
    /// When the server received it, in milliseconds since 1970.
    pub received: i64,
    /// What it holds; none where this server cannot read it.
    pub item: Option<Item>,
}

/// What a version is held against.
#[derive(Debug, Clone)]
pub enum Standard {
    /// Its profile.
    Profile(Arc<Profile>),
    /// It has none.
    Absent,
    /// It has one that cannot be used.
    Unusable,
}

/// A version under watch, or why it is not.
#[derive(Debug)]
pub struct Subject {
    /// What stands in the way: `no-profile`, `profile-unusable`; `watching` where nothing does.
    pub status: &'static str,
    /// Its detectors.
    pub watching: Option<(Judge, Watch)>,
    /// Its open incidents.
    pub open: Open,
    /// Devices whose newest windows are of it.
    pub devices: BTreeSet<DeviceId>,
}

impl Subject {
    /// A version of which nothing is known yet.
    pub fn new(standard: Standard) -> Self {
        let (status, judge) = match standard {
            Standard::Profile(profile) => ("watching", Some(Judge::new(profile))),
            Standard::Absent => ("no-profile", None),
            Standard::Unusable => ("profile-unusable", None),
        };
        let watching = judge.map(|judge| {
            let watch = Watch::new(&judge);
            (judge, watch)
        });
        Self { status, watching, open: Open::new(), devices: BTreeSet::new() }
    }

    /// Has its detectors do something that may end rounds `at`, and brings its incidents in line with the verdicts.
    fn turn(
        &mut self,
        model: &ModelVersion,
        at: i64,
        touched: &mut Touched,
        act: impl FnOnce(&Judge, &mut Watch) -> Vec<Vec<Verdict>>,
    ) {
        let Some((judge, watch)) = &mut self.watching else { return };
        let rounds = act(judge, watch);
        if !rounds.is_empty() {
            touched.versions.insert(model.clone());
            // A round touches all that took part.
            touched.devices.extend(watch.devices.keys().map(|device| (model.clone(), device.clone())));
            for device in watch.silent(at) {
                watch.leave(&device);
                self.devices.remove(&device);
            }
        }
        for verdicts in rounds {
            let changes = incidents::reconcile(&mut self.open, verdicts).into_iter();
            touched.changes.extend(changes.map(|(kind, incident, change)| (model.clone(), kind, incident, change, at)));
        }
    }

    /// Counts how the inferences of a row's window ended, and brings the incident of failing ones in line.
    fn serve(&mut self, row: &Committed, class: &str, service: Service, touched: &mut Touched) {
        let Some((judge, watch)) = &mut self.watching else { return };
        let Some(verdict) = watch.serve(judge, (&row.device, class), service, row.received) else { return };
        let change = incidents::settle(&mut self.open, IncidentKind::LatencyOrErrors, verdict);
        touched
            .changes
            .extend(change.map(|(kind, incident, change)| (row.model.clone(), kind, incident, change, row.received)));
    }

    /// Detection windows judged.
    pub fn windows(&self) -> u64 {
        self.watching.as_ref().map_or(0, |(_, watch)| watch.windows)
    }

    /// What is shown of it.
    pub fn figures(&self) -> WatchFigures {
        self.watching.as_ref().map_or_else(WatchFigures::default, |(judge, watch)| watch.figures(judge))
    }
}

/// Which version a device's newest windows are of, and how many in a row, up to [`SURE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The version.
    pub version: Version,
    /// How many in a row.
    pub in_a_row: u8,
}

/// What a batch touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Versions.
    pub versions: BTreeSet<ModelVersion>,
    /// Devices on a version; those that are not there any more have left it.
    pub devices: BTreeSet<(ModelVersion, DeviceId)>,
    /// Runs.
    pub runs: BTreeSet<(DeviceId, ModelName)>,
    /// What happened to incidents, in order, with the time of the row that did it.
    pub changes: Vec<(ModelVersion, IncidentKind, Incident, Change, i64)>,
}

/// Everything under watch.
#[derive(Debug, Default)]
pub struct Detector {
    /// The newest row that was read.
    pub cursor: i64,
    /// By version.
    pub subjects: BTreeMap<ModelVersion, Subject>,
    /// By device and model.
    pub runs: HashMap<(DeviceId, ModelName), Run>,
    /// Classes of devices.
    pub classes: HashMap<DeviceId, String>,
}

impl Detector {
    /// Takes in the next row, in the order of commits. Its version must be a known subject: see [`Detector::knows`].
    pub fn take(&mut self, row: Committed, touched: &mut Touched) {
        self.cursor = self.cursor.max(row.id);
        match &row.item {
            Some(Item::Window(window)) => self.window(&row, window, touched),
            Some(Item::Correction(correction)) => self.correction(&row, correction, touched),
            Some(Item::Event(_)) | None => {}
        }
    }

    /// Whether rows of a version can be taken.
    pub fn knows(&self, model: &ModelVersion) -> bool {
        self.subjects.contains_key(model)
    }

    /// Time has passed, to `at` in milliseconds since 1970, and every row that was committed before is taken in: days and
    /// weeks become final also where no row comes.
    pub fn pass(&mut self, at: i64, touched: &mut Touched) {
        for (model, subject) in &mut self.subjects {
            subject.turn(model, at, touched, |judge, watch| watch.pass(judge, at));
        }
    }

    fn window(&mut self, row: &Committed, window: &Window, touched: &mut Touched) {
        self.run(row, touched);
        let class = self.classes.get(&row.device).map_or("", String::as_str);
        let Some(subject) = self.subjects.get_mut(&row.model) else { return };
        subject.devices.insert(row.device.clone());
        touched.versions.insert(row.model.clone());
        subject.turn(&row.model, row.received, touched, |judge, watch| watch.pass(judge, row.received));
        subject.turn(&row.model, row.received, touched, |judge, watch| {
            // A window whose sketches are damaged is as good as one under another profile: it is counted and left out.
            let Ok(sums) = window.sums() else {
                watch.unfit += 1;
                return Vec::new();
            };
            let (device, counted) = ((&row.device, class), (sums, times(window)));
            watch.take(judge, device, counted, row.received).into_iter().collect()
        });
        subject.serve(row, class, service(window), touched);
        if self.device(&row.model, &row.device).is_some() {
            touched.devices.insert((row.model.clone(), row.device.clone()));
        }
    }

    fn correction(&mut self, row: &Committed, correction: &Correction, touched: &mut Touched) {
        let watching = self.subjects.get_mut(&row.model).and_then(|subject| subject.watching.as_mut());
        let Some((_, watch)) = watching.filter(|(_, watch)| watch.devices.contains_key(&row.device)) else { return };
        let labels = Labels { n: correction.n, errors: correction.errors.min(correction.n) };
        watch.correct(&row.device, correction.bin as usize, labels);
        touched.devices.insert((row.model.clone(), row.device.clone()));
    }

    /// Which version the device runs; it leaves the others once that is sure.
    fn run(&mut self, row: &Committed, touched: &mut Touched) {
        let key = (row.device.clone(), row.model.name.clone());
        let fresh = || Run { version: row.model.version.clone(), in_a_row: 0 };
        let run = self.runs.entry(key.clone()).or_insert_with(fresh);
        if run.version != row.model.version {
            *run = fresh();
        }
        if run.in_a_row == SURE {
            return;
        }
        run.in_a_row += 1;
        touched.runs.insert(key);
        if run.in_a_row == SURE {
            self.leave_others(row, touched);
        }
    }

    fn leave_others(&mut self, row: &Committed, touched: &mut Touched) {
        let others = self.subjects.iter_mut().filter(|(model, _)| model.name == row.model.name && **model != row.model);
        for (model, subject) in others {
            if !subject.devices.remove(&row.device) {
                continue;
            }
            touched.versions.insert(model.clone());
            touched.devices.insert((model.clone(), row.device.clone()));
            if let Some((judge, watch)) = &mut subject.watching {
                watch.leave(&row.device);
                if subject.devices.is_empty() {
                    watch.restart(judge);
                }
            }
            if subject.devices.is_empty() {
                let changes = incidents::version_gone(&mut subject.open).into_iter();
                let of = |(kind, incident, change)| (model.clone(), kind, incident, change, row.received);
                touched.changes.extend(changes.map(of));
            }
        }
    }

    /// The state of a device on a version, where there is one.
    pub fn device(&self, model: &ModelVersion, device: &DeviceId) -> Option<&DeviceWatch> {
        self.subjects.get(model)?.watching.as_ref()?.1.devices.get(device)
    }
}

/// Start and end of a window in seconds since 1970, where its device knew the date.
fn times(window: &Window) -> Option<(f64, f64)> {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    (window.clock == Clock::Trusted).then(|| (seconds(window.start_ms), seconds(window.end_ms)))
}

/// Inferences that failed for no fault of whoever asked.
fn service(window: &Window) -> Service {
    let ours = |kind: &ErrorKind| matches!(kind, ErrorKind::Deadline | ErrorKind::Engine | ErrorKind::NotFinite);
    let failed = window.errors.iter().filter(|error| ours(&error.kind));
    let failed = failed.fold(0u64, |sum, error| sum.saturating_add(error.count));
    Service { answered: window.inferences, failed }
}
