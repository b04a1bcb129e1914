//! Scopes: what a token is for bounds every route, and lists show no more than that.

use tern_fleet_server::forms::{EnrolmentOrder, rollouts::RolloutRow};
use tern_protocol::ids::Labels;

use super::{tokens::holder, *};

const OUTSIDE: (u16, &str) = (403, "out-of-scope");

fn is_outside(reply: rig::Reply) {
    let (status, code) = reply.problem();
    assert_eq!((status, code.as_str()), OUTSIDE);
}

fn at(site: &str) -> Labels {
    [("site".parse().unwrap(), site.parse().unwrap())].into()
}

async fn order(by: &Caller, device: &str, labels: Labels) -> rig::Reply {
    let order = EnrolmentOrder { device: device.parse().unwrap(), labels, valid_seconds: 600 };
    by.post("/api/v1/enrolments", &order).await
}

async fn enrol_at(rig: &Rig, device: &str, site: &str) {
    let ticket: EnrolmentTicket = order(&rig.admin(), device, at(site)).await.ok();
    let token = EnrolmentToken::decode(&ticket.token).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let _: EnrolmentResponse = rig.stranger().post("/api/v1/enrol", &enrolment_request(&token, &key)).await.ok();
}

fn assignment(model: &str, selector: &str) -> Value {
    json!({"model": model, "selector": selector, "reason": "test"})
}

fn rollout(model: &str, selector: &str) -> Value {
    let policy = json!({"stages": [{"size": "100%"}]});
    json!({"model": model, "selector": selector, "policy": policy, "reason": "test", "start": false})
}

async fn names(caller: &Caller, path: &str, member: &str) -> Vec<String> {
    let page: Page<Value> = caller.get(path).await.ok();
    page.items.iter().map(|row| row[member].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_team_touches_its_models_only() {
    let rig = Rig::start().await;
    for model in ["demo/m@1.0.0", "other/n@1.0.0"] {
        rig.publish(model, model.as_bytes()).await;
    }
    let caller = holder(&rig, "demo-ci", "publisher", json!({"teams": ["demo"]})).await;
    let (own, foreign) = (bundle("demo/m@1.1.0", b"x").0, bundle("other/n@1.1.0", b"x").0);
    let _: ManifestStored = caller.put(&manifest_path("demo/m@1.1.0"), own).await.ok();
    is_outside(caller.put(&manifest_path("other/n@1.1.0"), foreign).await);
    is_outside(caller.put("/api/v1/teams/other/metadata", b"{}".to_vec()).await);
    assert_eq!(caller.put("/api/v1/teams/demo/metadata", b"{}".to_vec()).await.problem().1, "metadata-malformed");
    is_outside(caller.get("/api/v1/teams/other/metadata").await);

    assert_eq!(names(&caller, "/api/v1/models", "model").await, ["demo/m@1.0.0", "demo/m@1.1.0"]);
    is_outside(caller.get("/api/v1/models/other/n").await);
    is_outside(caller.get("/api/v1/models/other/n/1.0.0").await);
    assert!(caller.get("/api/v1/models/demo/m/1.0.0").await.status.is_success());

    let blob = |content: &[u8]| format!("/api/v1/blobs/sha256/{}", Digest::of(content));
    let read = caller.get(&blob(b"demo/m@1.0.0")).await;
    assert_eq!((read.status, read.body.as_ref()), (StatusCode::OK, b"demo/m@1.0.0".as_ref()));
    is_outside(caller.get(&blob(b"other/n@1.0.0")).await);
    is_outside(caller.put(&blob(b"other/n@1.0.0"), b"other/n@1.0.0".to_vec()).await);
    assert_eq!(caller.get(&blob(b"in")).await.status, StatusCode::OK, "both teams have it");

    let operator = holder(&rig, "demo-op", "operator", json!({"teams": ["demo"]})).await;
    enrol_at(&rig, "cam-1", "hall-1").await;
    is_outside(operator.post("/api/v1/assignments", &assignment("other/n@1.0.0", "*")).await);
    is_outside(operator.post("/api/v1/rollouts", &rollout("other/n@1.0.0", "*")).await);
    let _: Assigned = operator.post("/api/v1/assignments", &assignment("demo/m@1.0.0", "*")).await.ok();
    let foreign: RolloutRow = rig.admin().post("/api/v1/rollouts", &rollout("other/n@1.0.0", "*")).await.ok();
    let path = format!("/api/v1/rollouts/{}", foreign.id);
    is_outside(operator.get(&path).await);
    is_outside(operator.get(&format!("{path}/plan")).await);
    is_outside(operator.get(&format!("{path}/verdicts")).await);
    is_outside(operator.post(&format!("{path}/abort"), &json!({"reason": "x"})).await);
    assert_eq!(names(&operator, "/api/v1/rollouts", "id").await, Vec::<String>::new());
    is_outside(operator.get("/api/v1/readers").await);

    let page: Page<Value> = operator.get("/api/v1/events?limit=1000").await.ok();
    assert!(page.items.iter().any(|event| event["model"] == "demo/m"));
    assert!(page.items.iter().all(|event| event["model"] != "other/n"));
}

/// A device is every team's whose models it runs: who holds one team's token neither puts it out nor takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_team_holds_no_device() {
    let rig = Rig::start().await;
    enrol_at(&rig, "cam-1", "hall-1").await;
    let caller = holder(&rig, "demo-op", "operator", json!({"teams": ["demo"]})).await;
    let reason = json!({"reason": "x", "valid_seconds": 600});
    is_outside(caller.post("/api/v1/devices/cam-1/revoke", &json!({"reason": "x"})).await);
    is_outside(caller.post("/api/v1/devices/cam-1/reidentify", &reason).await);
    is_outside(order(&caller, "cam-1", Labels::default()).await);
    is_outside(order(&caller, "cam-9", Labels::default()).await);
    let serials = json!({"devices": [{"serial": "s-1", "device": "cam-9"}], "valid_seconds": 600});
    is_outside(caller.post("/api/v1/claims", &serials).await);
    assert!(caller.get("/api/v1/devices/cam-1").await.status.is_success(), "it sees where its models may go");
    let here = holder(&rig, "here", "operator", json!({"teams": ["demo"], "devices": "site=hall-1"})).await;
    assert!(here.post("/api/v1/devices/cam-1/revoke", &json!({"reason": "x"})).await.status.is_success());
    // An order for a device that never came is voided by whoever could have given it.
    order(&rig.admin(), "cam-9", Labels::from([("site".parse().unwrap(), "hall-1".parse().unwrap())])).await;
    let there = holder(&rig, "there", "operator", json!({"devices": "site=hall-2"})).await;
    for outside in [&caller, &there] {
        is_outside(outside.post("/api/v1/devices/cam-9/revoke", &json!({"reason": "x"})).await);
    }
    assert!(here.post("/api/v1/devices/cam-9/revoke", &json!({"reason": "x"})).await.status.is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_site_touches_its_devices_only() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"model").await;
    for (device, site) in [("cam-1", "hall-1"), ("cam-2", "hall-2"), ("cam-3", "hall-2")] {
        enrol_at(&rig, device, site).await;
    }
    let caller = holder(&rig, "hall", "operator", json!({"devices": "site=hall-2"})).await;
    assert_eq!(names(&caller, "/api/v1/devices", "device").await, ["cam-2", "cam-3"]);
    assert_eq!(names(&caller, "/api/v1/devices?selector=device%3Dcam-1", "device").await, Vec::<String>::new());
    assert!(caller.get("/api/v1/devices/cam-2").await.status.is_success());
    is_outside(caller.get("/api/v1/devices/cam-1").await);
    is_outside(caller.get("/api/v1/devices/cam-1/windows?model=demo/m").await);
    is_outside(caller.get("/api/v1/figures").await);
    is_outside(caller.get("/api/v1/figures?device=cam-1").await);
    assert!(caller.get("/api/v1/figures?device=cam-2").await.status.is_success());
    for list in ["events", "stream", "incidents", "quarantine", "readers"] {
        is_outside(caller.get(&format!("/api/v1/{list}")).await);
    }

    let assign = async |selector: &str| caller.post("/api/v1/assignments", &assignment(MODEL, selector)).await;
    let refused = assign("*").await;
    let words = String::from_utf8(refused.body.to_vec()).unwrap();
    assert!(words.contains("which does not hold cam-1"), "{words}");
    is_outside(refused);
    is_outside(assign("device in (cam-1,cam-2)").await);
    assert!(rig.server().fleet().store.demand("cam-2".parse().unwrap()).await.unwrap().is_none());
    let assigned: Assigned = assign("device=cam-2").await.ok();
    assert_eq!(assigned.devices.keys().map(ToString::to_string).collect::<Vec<_>>(), ["cam-2"]);

    is_outside(caller.post("/api/v1/rollouts", &rollout(MODEL, "*")).await);
    let row: RolloutRow = caller.post("/api/v1/rollouts", &rollout(MODEL, "device!=cam-1")).await.ok();
    assert_eq!(row.selector, "device!=cam-1,site=hall-2", "a device that comes later must be inside too");
    let _: RolloutRow = caller.post(&format!("/api/v1/rollouts/{}/abort", row.id), &json!({"reason": "x"})).await.ok();
    let over = async || {
        let reply = rig.admin().post("/api/v1/rollouts", &rollout(MODEL, "*")).await;
        reply.status.is_success().then(|| reply.ok::<RolloutRow>())
    };
    let wide = eventually(over).await;
    is_outside(caller.post(&format!("/api/v1/rollouts/{}/start", wide.id), &json!({"reason": "x"})).await);
    assert_eq!(names(&caller, "/api/v1/rollouts", "id").await, [row.id.to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_site_enrols_devices_of_its_site_only() {
    let rig = Rig::start().await;
    enrol_at(&rig, "cam-1", "hall-1").await;
    let caller = holder(&rig, "hall", "operator", json!({"devices": "site=hall-2"})).await;
    is_outside(order(&caller, "cam-9", Labels::default()).await);
    is_outside(order(&caller, "cam-9", at("hall-1")).await);
    is_outside(order(&caller, "cam-1", at("hall-2")).await);
    let _: EnrolmentTicket = order(&caller, "cam-9", at("hall-2")).await.ok();
}
