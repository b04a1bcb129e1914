//! Made-up contents for every page, ordinary and hostile.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use jiff::Timestamp;
use tern_protocol::{
    digest::Digest,
    ids::{ByteCount, Generation},
    refusal::RefusalCode,
    twin::{LastError, ModelState, ModelTwin},
};
use tokio::sync::watch;

use super::super::{
    chart::{Chart, Series},
    place::Place,
    view::*,
};
use crate::{
    forms::{DeviceRow, EventRow, VersionRow},
    store::Counts,
};

pub(super) const HOSTILE: &str = "<script>alert(1)</script>\" onload=x '&amp; \u{202e}\u{1b}[2J";

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn refusal() -> LastError {
    LastError {
        code: RefusalCode::GoldenMismatch,
        message: HOSTILE.into(),
        version: Some("1.0.2".parse().unwrap()),
        generation: Generation(7),
        at: at(-30),
        count: 1,
    }
}

pub(super) fn device(number: usize) -> DeviceRow {
    let model = ModelTwin {
        model: "demo/meter-digits".parse().unwrap(),
        version: Some("1.0.0".parse().unwrap()),
        digest: None,
        state: ModelState::Rejected,
        desired: Some("1.0.2".parse().unwrap()),
        generation: Generation(7),
        since: at(-60),
        last_error: Some(refusal()),
    };
    DeviceRow {
        device: format!("cam-{number:03}").parse().unwrap(),
        online: number.is_multiple_of(2),
        last_seen: Some(at(-5)),
        device_class: "rpi4".parse().unwrap(),
        labels: Default::default(),
        agent_version: HOSTILE.into(),
        desired_generation: Generation(8),
        desired: vec!["demo/meter-digits@1.0.2".parse().unwrap()],
        generation: Generation(7),
        models: vec![model],
        last_error: Some(refusal()),
        certificate_expires: at(1_000_000),
        revoked: None,
        cloned: None,
    }
}

fn version() -> VersionRow {
    VersionRow {
        model: "demo/meter-digits@1.0.0".parse().unwrap(),
        manifest: Digest::of(b"m"),
        bytes: ByteCount(24_449),
        published: at(-3_600),
        published_by: HOSTILE.into(),
        signed: true,
        devices: 3,
        candidate: false,
        recalled: None,
        floor: None,
    }
}

pub(super) fn event(id: i64) -> EventRow {
    EventRow {
        id,
        at: at(-10),
        kind: HOSTILE.into(),
        actor: HOSTILE.into(),
        device: Some("cam-001".parse().unwrap()),
        model: Some("demo/meter-digits".parse().unwrap()),
        version: Some("1.0.0".parse().unwrap()),
        code: HOSTILE.into(),
        message: HOSTILE.into(),
    }
}

fn chart(id: &str) -> Chart {
    let line = |name: &str, scale: f64| Series {
        name: name.into(),
        points: (0..40).map(|n| (at(n - 40), scale * (10.0 + f64::from(n as i32 % 7)))).collect(),
    };
    let series = vec![line("p50", 1.0), line(HOSTILE, 2.0)];
    Chart {
        id: id.into(),
        title: "Latency".into(),
        unit: "ms",
        series,
        limit: Some((28.0, "alarm")),
        moments: vec![(at(-20), HOSTILE.into())],
    }
}

fn incident(number: u64) -> IncidentLine {
    IncidentLine {
        number,
        kind: HOSTILE.into(),
        severity: Severity::Critical,
        is_open: number.is_multiple_of(2),
        version: "demo/meter-digits@1.0.0".parse().unwrap(),
        devices: (0..20).map(|n| format!("cam-{n:03}").parse().unwrap()).collect(),
        features: vec![HOSTILE.into(), "contrast(image)".into()],
        opened: at(-600),
        updated: at(-60),
        resolved: None,
    }
}

fn rollout() -> RolloutLine {
    RolloutLine {
        id: "meter-digits-1".into(),
        target: "demo/meter-digits@1.1.0".parse().unwrap(),
        phase: "running".into(),
        stage: 1,
        stages: 2,
        tally: vec![("survived".into(), 1), ("failed".into(), 0), (HOSTILE.into(), 2)],
        created_by: HOSTILE.into(),
        created: at(-900),
    }
}

fn figures() -> Figures {
    let version = "demo/meter-digits@1.0.0".parse().unwrap();
    Figures { version, inferences: 5, rows: 5, errors: 1, windows: 2, labels: 4, label_errors: 1 }
}

fn list<T>(rows: Vec<T>) -> Listed<T> {
    Listed { rows, more: true }
}

fn fleet_view() -> FleetView {
    FleetView {
        counts: Counts { devices: 3, online: 2, behind: 3, refusing: 3, versions: 1 },
        devices: list((0..3).map(device).collect()),
        in_service: list(vec![version()]),
        incidents: list(vec![incident(2)]),
        rollouts: list(vec![rollout()]),
        events: list(vec![event(1)]),
    }
}

fn rollout_view() -> RolloutView {
    let stage = |number, state| StageLine { number, share: "50 %".into(), terms: HOSTILE.into(), state };
    let device = RolloutDevice {
        device: "cam-001".parse().unwrap(),
        stage: Some(1),
        outcome: "survived".into(),
        code: HOSTILE.into(),
        since: Some(at(-50)),
    };
    let verdict = VerdictLine {
        number: 3,
        at: at(-20),
        what: "promote".into(),
        by: HOSTILE.into(),
        why: HOSTILE.into(),
        evidence: vec![("survived".into(), HOSTILE.into())],
    };
    RolloutView {
        line: rollout(),
        selector: HOSTILE.into(),
        reason: HOSTILE.into(),
        cause: Some(HOSTILE.into()),
        stages: vec![stage(1, "done"), stage(2, "current")],
        devices: list(vec![device]),
        verdicts: list(vec![verdict]),
    }
}

fn incident_view() -> IncidentView {
    let evidence = EvidenceLine { detector: "step".into(), subject: HOSTILE.into(), found: HOSTILE.into(), at: at(-5) };
    IncidentView {
        line: incident(2),
        since: Some(at(-700)),
        summary: HOSTILE.into(),
        cause: HOSTILE.into(),
        evidence: list(vec![evidence]),
        actions: list(vec![(Some(at(-590)), HOSTILE.into())]),
        acknowledged_by: Some(HOSTILE.into()),
        muted_until: Some(at(600)),
        mute_reason: Some(HOSTILE.into()),
        charts: vec![chart("score")],
    }
}

fn model_view() -> ModelView {
    let sight = |name: &str, smallest: Option<f64>, season| Sight {
        name: name.into(),
        is_category: smallest.is_none(),
        smallest,
        season,
    };
    ModelView {
        model: "demo/meter-digits".parse().unwrap(),
        versions: list(vec![version()]),
        figures: list(vec![figures()]),
        running: list(vec![Running { version: "1.0.0".parse().unwrap(), device: "cam-001".parse().unwrap() }]),
        blind_spots: Some(BlindSpots {
            version: "1.0.0".parse().unwrap(),
            devices: 3,
            sees: Some(Sees {
                windows: 60,
                window_rows: 200.0,
                false_alarm_every: 1000.0,
                features: list(vec![
                    sight("mean(image)", Some(0.62), Season::Whole),
                    sight("contrast(image)", Some(0.7), Season::Part("5 Mar to 30 Aug".into())),
                    sight(HOSTILE, None, Season::Timeless),
                ]),
            }),
        }),
        charts: vec![chart("error")],
        incidents: list(vec![incident(3)]),
        rollouts: list(vec![rollout()]),
    }
}

/// Something for every kind of page.
pub(super) fn view(place: &Place) -> View {
    match place {
        Place::Fleet { .. } => View::Fleet(Box::new(fleet_view())),
        Place::Device(_) => View::Device(Box::new(DeviceView {
            row: device(1),
            figures: list(vec![figures()]),
            charts: vec![chart("latency"), chart("accuracy")],
            incidents: list(vec![incident(2)]),
            events: list(vec![event(9)]),
        })),
        Place::Models => View::Models(list(vec![version()])),
        Place::Model(_) => View::Model(Box::new(model_view())),
        Place::Rollouts => View::Rollouts(list(vec![rollout()])),
        Place::Rollout(_) => View::Rollout(Box::new(rollout_view())),
        Place::Incidents => View::Incidents(list(vec![incident(2), incident(1)])),
        Place::Incident(_) => View::Incident(Box::new(incident_view())),
        Place::Events { .. } => View::Events(list(vec![event(2), event(1)])),
    }
}

pub(super) fn shown(view: View) -> Shown {
    Shown { fleet: "demo".parse().unwrap(), solo: true, open_incidents: 1, view }
}

/// A fleet of nothing.
pub(super) fn empty(place: &Place) -> View {
    match place {
        Place::Models => View::Models(Listed::none()),
        Place::Rollouts => View::Rollouts(Listed::none()),
        Place::Incidents => View::Incidents(Listed::none()),
        Place::Events { .. } => View::Events(Listed::none()),
        _ => View::Fleet(Box::new(FleetView {
            counts: Counts::default(),
            devices: Listed::none(),
            in_service: Listed::none(),
            incidents: Listed::none(),
            rollouts: Listed::none(),
            events: Listed::none(),
        })),
    }
}

/// A source that shows made-up contents, or fails.
pub(super) struct Fixed {
    works: bool,
    changes: watch::Receiver<u64>,
    looks: AtomicUsize,
}

impl Fixed {
    pub(super) fn new(works: bool, changes: watch::Receiver<u64>) -> Self {
        Self { works, changes, looks: AtomicUsize::new(0) }
    }

    /// How often it was looked at.
    pub(super) fn looks(&self) -> usize {
        self.looks.load(Relaxed)
    }
}

impl ConsoleSource for Fixed {
    fn show<'a>(&'a self, place: &'a Place) -> Showing<'a> {
        Box::pin(async move {
            self.looks.fetch_add(1, Relaxed);
            anyhow::ensure!(self.works, "secret path /var/lib/x");
            let is_gone = matches!(place, Place::Incident(404));
            let mut view = view(place);
            if let View::Fleet(fleet) = &mut view {
                fleet.counts.online = *self.changes.borrow() / 10;
            }
            Ok((!is_gone).then(|| shown(view)))
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
