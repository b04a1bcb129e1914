//! From reports over real MQTT to an incident that a person and the hooks hear of, over restarts.

use std::path::Path;

use serde_json::json;
use tern_fleet_server::{
    config::Config,
    disk,
    forms::{
        Assigned, Page,
        incident::{IncidentKind, IncidentRow, Layer, Severity},
    },
    hooks,
};
use tern_protocol::{
    digest::Digest,
    report::v1::{ErrorCount, ErrorKind, Feature, Feedback, Item, Window},
};
use tern_stats::{
    categorical, numeric,
    profile::{Kind, Profile},
    window::Sums,
};

use super::{
    MODEL, assign,
    ingest::{contract, profile, report, reporter, told, watching, window},
    rig::{Mqtt, Rig, eventually},
};

/// Reports of ten rows of one device whose sensor may stand still.
pub(super) struct Camera {
    numbers: numeric::Accumulator,
    labels: categorical::Accumulator,
    contract: Digest,
    /// Rows per confidence bin, and labels that come back.
    pub(super) answers: (Vec<u64>, Vec<Feedback>),
    row: u32,
    pub(super) number: u64,
}

impl Camera {
    pub(super) fn new(contract: Digest) -> Self {
        let profile = profile();
        let (Kind::Numeric(ruler), Kind::Categorical(names)) = (&profile.features[0].kind, &profile.outputs[0].kind)
        else {
            panic!("kinds")
        };
        let (numbers, labels) =
            (numeric::Accumulator::new(ruler.clone()), categorical::Accumulator::new(names.clone()));
        let answers = (vec![5, 5], vec![Feedback::default(); 2]);
        Self { numbers, labels, contract, answers, row: 0, number: 0 }
    }

    pub(super) fn window(&mut self, stuck: bool) -> Item {
        for _ in 0..10 {
            self.row += 1;
            let value = f64::from(self.row * 37 % 101);
            self.numbers.update(Some(if stuck { 42.0 } else { value }));
            self.labels.update(Some(if value > 50.0 { "1" } else { "0" }));
        }
        self.number += 1;
        Item::Window(Box::new(Window {
            contract: self.contract,
            features: vec![Feature::from(Sums::Numeric(self.numbers.take()))],
            outputs: vec![Feature::from(Sums::Categorical(self.labels.take()))],
            confidence: self.answers.0.clone(),
            feedback: self.answers.1.clone(),
            ..window(self.number)
        }))
    }

    /// A window of ten requests that the engine failed: its worker counts in the places of the profile, and no value.
    pub(super) fn failed(&mut self) -> Item {
        self.number += 1;
        Item::Window(Box::new(Window {
            contract: self.contract,
            inferences: 0,
            rows: 0,
            errors: vec![ErrorCount { kind: ErrorKind::Engine, count: 10 }],
            features: vec![Feature::from(Sums::Numeric(self.numbers.take()))],
            outputs: vec![Feature::from(Sums::Categorical(self.labels.take()))],
            confidence: vec![0, 0],
            feedback: vec![Feedback::default(); 2],
            ..window(self.number)
        }))
    }

    async fn sends(&mut self, mqtt: &mut Mqtt, device: &super::rig::Enrolled, count: u64, stuck: bool) {
        for _ in 0..count {
            let item = self.window(stuck);
            assert_eq!(told(mqtt, device, report([(self.number, item)])).await, self.number);
        }
    }
}

fn notifying(rig: &Rig, told: &Path) -> Config {
    let script = rig.folder.path().join("notify.sh");
    disk::write(&script, format!("cat > {}\n", told.display()).as_bytes(), disk::Access::Private).unwrap();
    let notify_command = vec!["/bin/sh".into(), script.display().to_string()];
    Config { hooks: hooks::config::Config { notify_command, ..Default::default() }, ..rig.config() }
}

async fn incidents(rig: &Rig, query: &str) -> Vec<IncidentRow> {
    rig.admin().get(&format!("/api/v1/incidents{query}")).await.ok::<Page<IncidentRow>>().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_sensor_becomes_one_incident_that_is_told_seen_and_resolved() {
    let mut rig = Rig::start().await;
    let heard = rig.folder.path().join("heard.json");
    let config = notifying(&rig, &heard);
    rig.stop().await;
    rig.start_again(config).await;
    let uploads = watching(&serde_json::to_vec(&profile()).unwrap());
    let mut camera = Camera::new(contract(&uploads));
    rig.publish_bundle(MODEL, uploads).await.reply.empty();
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;

    camera.sends(&mut mqtt, &device, 12, false).await;
    eventually(async || (rig.metric("tern_detection_windows_total").await == 12).then_some(())).await;
    assert_eq!(incidents(&rig, "").await, []);
    camera.sends(&mut mqtt, &device, 1, true).await;
    let open = eventually(async || incidents(&rig, "?state=open").await.pop()).await;
    assert_eq!((open.kind, open.severity), (IncidentKind::DataQuality, Severity::Alarm));
    assert_eq!((open.devices[0].as_str(), open.features[0].as_str()), ("cam-1", "mean(x)"));
    assert!(open.evidence.iter().any(|piece| piece.measure == "flat" && piece.share > piece.limit));

    // The notify hook heard of it, once.
    let told: IncidentRow = eventually(async || serde_json::from_slice(&std::fs::read(&heard).ok()?).ok()).await;
    assert_eq!((told.number, told.summary), (open.number, open.summary.clone()));
    eventually(async || {
        let row: IncidentRow = rig.admin().get(&format!("/api/v1/incidents/{}", open.number)).await.ok();
        (row.actions[0].state == "done" && row.actions.len() == 1).then_some(())
    })
    .await;

    // A restart in between changes nothing, and the topic is kept.
    drop(mqtt);
    rig.restart().await;
    let retained = rig.server().fleet().store.retained().await.unwrap();
    let topic = format!("tern/v1/f/_fleet/incident/{}", open.number);
    assert!(retained.iter().any(|(name, payload)| *name == topic && !payload.is_empty()));
    let mut mqtt = reporter(&rig, &device).await;
    camera.sends(&mut mqtt, &device, 2, true).await;
    eventually(async || (rig.metric("tern_detection_windows_total").await == 15).then_some(())).await;
    assert_eq!(incidents(&rig, "").await.len(), 1);
    assert_eq!(rig.metric("tern_incidents_open{kind=\"data-quality\"}").await, 1);

    let path = format!("/api/v1/incidents/{}", open.number);
    let seen: IncidentRow =
        rig.admin().post(&format!("{path}/acknowledge"), &json!({"reason": "on my way"})).await.ok();
    assert_eq!(seen.acknowledged_by.as_deref(), Some("admin"));
    let muted: IncidentRow =
        rig.admin().post(&format!("{path}/mute"), &json!({"reason": "known", "hours": 2})).await.ok();
    assert!(muted.muted_until.is_some() && muted.mute_reason.as_deref() == Some("known"));
    for (form, code) in [
        (json!({"reason": " "}), "bad-order"),
        (json!({"reason": "x", "hours": 0}), "bad-order"),
        (json!({"hours": 1}), "malformed-json"),
    ] {
        let action = if form.get("hours").is_some() { "mute" } else { "acknowledge" };
        assert_eq!(rig.admin().post(&format!("{path}/{action}"), &form).await.problem().1, code);
    }
    assert_eq!(rig.admin().get("/api/v1/incidents/99").await.problem(), (404, "not-found".into()));
    assert_eq!(rig.admin().get("/api/v1/incidents?state=odd").await.problem(), (400, "bad-query".into()));
    assert_eq!(rig.stranger().get("/api/v1/incidents").await.problem(), (401, "missing-token".into()));

    camera.sends(&mut mqtt, &device, 11, false).await;
    let ended = eventually(async || incidents(&rig, "?state=resolved").await.pop()).await;
    assert_eq!((ended.number, ended.resolved.is_some()), (open.number, true));
    assert!(incidents(&rig, "?state=open").await.is_empty());
    for kind in ["incident-opened", "incident-acknowledged", "incident-muted", "incident-resolved", "hook-ran"] {
        rig.event(kind, "").await;
    }
    let figures = eventually(async || {
        let retained = rig.server().fleet().store.retained().await.unwrap();
        let found = retained.into_iter().find(|(name, _)| name == "tern/v1/f/_fleet/model/demo/m")?;
        let figures: serde_json::Value = serde_json::from_slice(&found.1).unwrap();
        (figures["versions"][0]["windows"] == 26).then_some(figures)
    })
    .await;
    assert_eq!(figures["versions"][0]["status"], "watching");
    assert!(figures["versions"][0]["figures"]["mde"][0][1].is_number());
    assert_eq!(figures["versions"][0]["figures"]["covered"][0], json!(["mean(x)", null]), "its rows had no times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_the_confidence_knows_of_breach_the_objective_alone() {
    let rig = Rig::start().await;
    let promised = Profile { objective: Some(0.2), ..profile() };
    let uploads = watching(&serde_json::to_vec(&promised).unwrap());
    let mut camera = Camera::new(contract(&uploads));
    rig.publish_bundle(MODEL, uploads).await.reply.empty();
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;

    // All is sure, and one in a hundred is wrong.
    camera.answers = (vec![0, 10], vec![Feedback::default(), Feedback { n: 10, errors: 0 }]);
    camera.sends(&mut mqtt, &device, 6, false).await;
    eventually(async || (rig.metric("tern_detection_windows_total").await == 6).then_some(())).await;
    assert_eq!(incidents(&rig, "").await, []);
    // Nothing is sure any more, and half of it is wrong, as it always was where nothing is sure.
    camera.answers = (vec![10, 0], vec![Feedback { n: 10, errors: 5 }, Feedback::default()]);
    camera.sends(&mut mqtt, &device, 8, false).await;
    let open = eventually(async || incidents(&rig, "?state=open").await.pop()).await;
    assert_eq!((open.kind, open.severity), (IncidentKind::ObjectiveBreached, Severity::Alarm));
    let first = &open.evidence[0];
    assert_eq!((first.layer, first.share, first.limit), (Layer::Slo, Some(0.5), Some(0.2)));
    assert_eq!(open.summary, "50.0 % of labels were errors where the objective allows for 20.0 %");
    eventually(async || (rig.metric("tern_detection_windows_total").await == 14).then_some(())).await;
    assert_eq!(incidents(&rig, "").await.len(), 1, "the confidence knows how often it errs");
    assert_eq!(rig.metric("tern_incidents_open{kind=\"objective-breached\"}").await, 1);
    let watch = rig.server().fleet().store.watches(None).await.unwrap().remove(0);
    assert_eq!((watch.figures.objective, watch.figures.labels, watch.figures.label_errors), (Some(0.2), 140, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_every_inference_fails_is_an_incident_from_its_first_report_on() {
    let rig = Rig::start().await;
    let uploads = watching(&serde_json::to_vec(&profile()).unwrap());
    let mut camera = Camera::new(contract(&uploads));
    rig.publish_bundle(MODEL, uploads).await.reply.empty();
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;
    let item = camera.failed();
    assert_eq!(told(&mut mqtt, &device, report([(1, item)])).await, 1);
    let open = eventually(async || incidents(&rig, "?state=open").await.pop()).await;
    assert_eq!((open.kind, open.severity), (IncidentKind::LatencyOrErrors, Severity::Alarm));
    assert_eq!(open.summary, "inferences fail on 1 of 1 device (cam-1)");
    assert_eq!((open.evidence[0].share, open.evidence[0].of), (Some(1.0), Some(10)));
    camera.sends(&mut mqtt, &device, 10, false).await;
    let ended = eventually(async || incidents(&rig, "?state=resolved").await.pop()).await;
    assert_eq!(ended.number, open.number);
    assert_eq!(incidents(&rig, "").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_a_version_without_a_profile_are_counted_and_said_to_be_unwatched() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, report([(1, Item::Window(Box::new(window(1))))])).await, 1);
    let watch = eventually(async || rig.server().fleet().store.watches(None).await.unwrap().pop()).await;
    assert_eq!((watch.status.as_str(), watch.devices, watch.windows), ("no-profile", 1, 0));
    eventually(async || (rig.metric("tern_detector_rows_behind").await == 0).then_some(())).await;
}
