//! Rollouts over real TLS: what operators do with them, what devices notice, and what is refused as what.

use tern_fleet_server::forms::rollouts::{RolloutDetail, RolloutHistory, RolloutPlan, RolloutRow};
use tern_protocol::{
    ids::Version,
    twin::{ModelState, ModelTwin},
};

use super::*;

const NEW: &str = "demo/m@1.1.0";

fn order(stages: &str, start: bool) -> Value {
    let mut policy: Value = serde_json::from_str(&format!("{{\"stages\": {stages}}}")).unwrap();
    policy["max_unavailable"] = json!("100%");
    json!({"model": NEW, "selector": "*", "policy": policy, "reason": "better", "start": start})
}

pub(crate) async fn token(rig: &Rig, name: &str, role: Role) -> Caller {
    let secret = Secret::generate().unwrap();
    let operator = Operator::new(name, role);
    rig.server().fleet().store.add_token(secret.hash(), operator, clock::now()).await.unwrap();
    rig.bearer(secret.reveal())
}

/// A device that has taken `version` over and committed it.
fn committed(generation: u64, version: &str) -> Vec<u8> {
    let version: Version = version.parse().unwrap();
    let model = ModelTwin {
        model: "demo/m".parse().unwrap(),
        version: Some(version.clone()),
        digest: None,
        state: ModelState::Committed,
        desired: Some(version),
        generation: Generation(generation),
        since: clock::now(),
        last_error: None,
    };
    let twin: Twin = serde_json::from_slice(&twin(generation, None)).unwrap();
    serde_json::to_vec(&Twin { models: vec![model], ..twin }).unwrap()
}

async fn phase(rig: &Rig, id: &str, wanted: &str) -> RolloutDetail {
    let path = format!("/api/v1/rollouts/{id}");
    eventually(async || {
        let detail: RolloutDetail = rig.admin().get(&path).await.ok();
        (detail.row.phase.as_str() == wanted).then_some(detail)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_reaches_its_devices_one_stage_after_the_other() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"old").await;
    rig.publish(NEW, b"new").await;
    let devices = [rig.enrol("cam-1").await, rig.enrol("cam-2").await];
    let assigned: Assigned = assign(&rig, MODEL, "*").await.ok();
    let mut links = Vec::new();
    for device in &devices {
        let generation = assigned.devices[&device.token.device].0;
        let mut link = agent(&rig, device, generation).await;
        link.acknowledged(device.topic("twin"), true, committed(generation, "1.0.0")).await;
        links.push(link);
    }
    let row: RolloutRow =
        rig.admin().post("/api/v1/rollouts", &order("[{\"size\": 1}, {\"size\": \"100%\"}]", false)).await.ok();
    let plan: RolloutPlan = rig.admin().get("/api/v1/rollouts/m-1-1-0/plan").await.ok();
    assert!(plan.as_if_started && plan.plan.actions.len() == 1);
    let order_of_devices: Vec<_> =
        plan.stages.concat().iter().map(|d| d.as_str() == "cam-2").map(usize::from).collect();
    assert_eq!(order_of_devices.len(), 2, "each device is in one stage");
    let reason = json!({"reason": "go"});
    let started: RolloutRow = rig.admin().post(&format!("/api/v1/rollouts/{}/start", row.id), &reason).await.ok();
    assert_eq!(started.phase.as_str(), "running");

    for n in order_of_devices {
        let (device, link) = (&devices[n], &mut links[n]);
        let state = admitted(&rig, device, &link.message().await).await;
        assert_eq!(state.models[0].model_version(), NEW.parse().unwrap());
        let blob = rig.device(device).get(&blob_path(&Digest::of(b"new"))).await;
        assert_eq!(blob.status, StatusCode::OK);
        let twin = committed(state.generation.0, "1.1.0");
        link.client.publish(device.topic("twin"), rumqttc::QoS::AtLeastOnce, true, twin).await.unwrap();
    }
    let detail = phase(&rig, "m-1-1-0", "finished").await;
    assert!(detail.rows.iter().all(|row| row.stands == "survived"), "{:?}", detail.rows);
    let page: Page<RolloutHistory> = rig.admin().get("/api/v1/rollouts/m-1-1-0/verdicts").await.ok();
    assert!(page.items.last().unwrap().verdict.is_some());
    rig.event("rollout-finished", "").await;
    let metric = eventually(async || (rig.metric("tern_rollouts{phase=\"finished\"}").await == 1).then_some(1)).await;
    assert_eq!(metric, 1);
    // Whoever looks at the broker sees the same, also after a restart.
    let shown = eventually(async || {
        let all = rig.server().fleet().store.retained().await.unwrap();
        let found = all.into_iter().find(|(topic, _)| topic == "tern/v1/f/_fleet/rollout/m-1-1-0");
        found.and_then(|(_, json)| serde_json::from_slice::<RolloutRow>(&json).ok()).filter(|row| row.closed.is_some())
    })
    .await;
    assert_eq!((shown.phase.as_str(), shown.devices.unwrap().survived), ("finished", 2));
    // The device that was sent nothing else still has it; undoing sends both back.
    let undone = rig.admin().post("/api/v1/rollouts/m-1-1-0/undo", &reason).await;
    assert_eq!(undone.status, StatusCode::OK);
    for (device, link) in devices.iter().zip(&mut links) {
        let state = admitted(&rig, device, &link.message().await).await;
        assert_eq!(state.models[0].model_version(), MODEL.parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_after_a_restart_of_the_server() {
    let mut rig = Rig::start().await;
    rig.publish(NEW, b"new").await;
    let device = rig.enrol("cam-1").await;
    let started = rig.admin().post("/api/v1/rollouts", &order("[{\"size\": \"100%\"}]", true)).await;
    assert_eq!(started.status, StatusCode::CREATED);
    rig.restart().await;
    let mut link = agent(&rig, &device, 0).await;
    let state = admitted(&rig, &device, &link.message().await).await;
    assert_eq!(state.models[0].model_version(), NEW.parse().unwrap());
    link.acknowledged(device.topic("twin"), true, committed(state.generation.0, "1.1.0")).await;
    phase(&rig, "m-1-1-0", "finished").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_to_a_rollout_has_its_own_code() {
    let rig = Rig::start().await;
    rig.publish(NEW, b"new").await;
    rig.enrol("cam-1").await;
    let all = "[{\"size\": \"100%\"}]";
    let admin = rig.admin();
    let viewer = token(&rig, "eve", Role::Viewer).await;
    let refused = async |form: &Value| admin.post("/api/v1/rollouts", form).await.problem();
    assert_eq!(viewer.post("/api/v1/rollouts", &order(all, true)).await.problem(), (403, "wrong-role".into()));
    assert_eq!(refused(&order("[]", true)).await, (422, "bad-policy".into()));
    let mut misspelt = order(all, true);
    misspelt["policy"]["silence"] = json!(5);
    assert_eq!(refused(&misspelt).await, (400, "malformed-json".into()));
    let with = |key: &str, value: Value| {
        let mut form = order(all, true);
        form[key] = value;
        form
    };
    assert_eq!(refused(&with("model", json!("demo/m@9.0.0"))).await, (404, "unknown-version".into()));
    assert_eq!(refused(&with("reason", json!(" "))).await, (422, "bad-order".into()));
    assert_eq!(refused(&with("selector", json!("a b"))).await, (400, "bad-selector".into()));
    let mut governed = order(all, false);
    governed["policy"]["approvals"] = json!(1);
    let create = async |key: &str, form: &Value| {
        let body = serde_json::to_vec(form).unwrap();
        admin.send(Method::POST, "/api/v1/rollouts", &[("idempotency-key", key)], body).await
    };
    assert_eq!(create("", &governed).await.problem(), (400, "bad-idempotency-key".into()));
    let first: RolloutRow = create("k-1", &governed).await.ok();
    let again: RolloutRow = create("k-1", &governed).await.ok();
    assert_eq!((&first.id, first.number), (&again.id, again.number));
    assert_eq!(create("k-1", &order(all, false)).await.problem(), (422, "idempotency-key-reused".into()));
    assert_eq!(refused(&order(all, true)).await, (409, "rollout-active".into()));

    let path = |verb: &str| format!("/api/v1/rollouts/{}/{verb}", first.id);
    let reason = json!({"reason": "because"});
    let verb = async |verb: &str| admin.post(&path(verb), &reason).await.problem();
    assert_eq!(verb("start").await, (409, "needs-approval".into()));
    assert_eq!(verb("approve").await, (403, "own-rollout".into()));
    assert_eq!(verb("pause").await, (409, "rollout-phase".into()));
    assert_eq!(verb("explode").await, (404, "not-found".into()));
    assert_eq!(admin.post(&path("start"), &json!({"reason": ""})).await.problem(), (422, "bad-order".into()));
    let moved = json!({"reason": "because", "if_phase": "running"});
    assert_eq!(admin.post(&path("start"), &moved).await.problem(), (409, "rollout-moved".into()));
    assert_eq!(viewer.post(&path("deny"), &reason).await.problem(), (403, "wrong-role".into()));
    let bob = token(&rig, "bob", Role::Approver).await;
    let _: RolloutRow = bob.post(&path("approve"), &reason).await.ok();
    assert_eq!(bob.post(&path("approve"), &reason).await.problem(), (409, "approved-before".into()));
    let started: RolloutRow = admin.post(&path("start"), &reason).await.ok();
    assert_eq!(started.approvals, ["bob"]);
    assert_eq!(assign(&rig, NEW, "*").await.problem(), (409, "rollout-active".into()));

    assert_eq!(admin.get("/api/v1/rollouts/nobody").await.problem(), (404, "not-found".into()));
    assert_eq!(admin.get("/api/v1/rollouts/nobody/verdicts").await.problem(), (404, "not-found".into()));
    assert_eq!(admin.get("/api/v1/rollouts/A_b").await.problem(), (400, "bad-name".into()));
    assert_eq!(admin.get("/api/v1/rollouts?cursor=x").await.problem(), (400, "bad-query".into()));
    assert_eq!(rig.stranger().get("/api/v1/rollouts").await.problem(), (401, "missing-token".into()));
    let page: Page<RolloutRow> = viewer.get("/api/v1/rollouts?limit=1").await.ok();
    assert_eq!((page.items.len(), page.next), (1, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_cannot_be_read_hinders_no_other() {
    let mut rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let _link = agent(&rig, &device, 0).await;
    let make = async |rig: &Rig, model: &str| {
        let mut form = order("[{\"size\": \"100%\"}]", true);
        form["model"] = json!(model);
        assert_eq!(rig.admin().post("/api/v1/rollouts", &form).await.status, StatusCode::CREATED);
    };
    let demands = async |rig: &Rig, model: &str| {
        let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
        row.desired.iter().any(|desired| desired.to_string() == model).then_some(())
    };
    for model in ["demo/a@1.0.0", "demo/b@1.0.0", "demo/c@1.0.0"] {
        rig.publish(model, model.as_bytes()).await;
    }
    make(&rig, "demo/a@1.0.0").await;
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    database.execute("UPDATE rollouts SET policy = '{}' WHERE id = 'a-1-0-0'", []).unwrap();
    make(&rig, "demo/b@1.0.0").await;
    eventually(async || demands(&rig, "demo/b@1.0.0").await).await;
    rig.restart().await;
    let _link = agent(&rig, &device, 0).await;
    make(&rig, "demo/c@1.0.0").await;
    eventually(async || demands(&rig, "demo/c@1.0.0").await).await;
}
