//! Claims: one token for a list of serial numbers, each of which makes its own device, once.

use rcgen::CertificateParams;
use tern_fleet_server::{
    enrolment::MAX_SERIALS,
    forms::{ClaimTicket, DeviceRow, EventRow},
};
use tern_protocol::{
    enrolment::{ClaimRequest, ClaimResponse, ClaimToken, EnrolmentToken},
    ids::Labels,
};

use super::{rig::Reply, *};

const CLAIMS: &str = "/api/v1/claims";

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn order(rows: &[(&str, &str)]) -> Value {
    let rows: Vec<_> = rows.iter().map(|(serial, device)| json!({"serial": serial, "device": device})).collect();
    json!({"devices": rows, "valid_seconds": 600})
}

async fn list(rig: &Rig, rows: &[(&str, &str)]) -> ClaimToken {
    let ticket: ClaimTicket = rig.admin().post(CLAIMS, &order(rows)).await.ok();
    assert_eq!(ticket.devices, rows.len());
    assert_eq!(ticket.command, format!("tern-agent enroll --serial SERIAL --token {}", ticket.token));
    ClaimToken::decode(&ticket.token).unwrap()
}

fn request(token: &ClaimToken, serial: &str, key: &KeyPair) -> ClaimRequest {
    ClaimRequest {
        serial: serial.parse().unwrap(),
        secret: token.secret.clone(),
        csr_pem: CertificateParams::default().serialize_request(key).unwrap().pem().unwrap(),
        device_class: "pi".parse().unwrap(),
        labels: Labels::new(),
        agent_version: "1.0.0".into(),
        root_sha256: Some(token.root_sha256),
    }
}

async fn claim(rig: &Rig, token: &ClaimToken, serial: &str, key: &KeyPair) -> Reply {
    rig.stranger().post("/api/v1/claim", &request(token, serial, key)).await
}

/// The device that a claim made.
fn made(token: &ClaimToken, key: KeyPair, response: ClaimResponse) -> Enrolled {
    let token = EnrolmentToken {
        server: token.server.clone(),
        device: response.device.clone(),
        secret: token.secret.clone(),
        ca_sha256: token.ca_sha256,
        root_sha256: token.root_sha256,
    };
    Enrolled { name: response.device.to_string(), token, key, response: response.enrolment }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listed_serial_becomes_its_device_once() {
    let rig = Rig::start().await;
    let mut form = order(&[("SN-1", "cam-1"), ("SN-2", "cam-2")]);
    form["devices"][0]["labels"] = json!({"site": "hall"});
    let ticket: ClaimTicket = rig.admin().post(CLAIMS, &form).await.ok();
    let token = ClaimToken::decode(&ticket.token).unwrap();
    let (one, two) = (new_key(), new_key());
    let first: ClaimResponse = claim(&rig, &token, "SN-1", &one).await.ok();
    let second: ClaimResponse = claim(&rig, &token, "SN-2", &two).await.ok();
    assert_eq!((first.device.as_str(), second.device.as_str()), ("cam-1", "cam-2"));
    // An answer that was lost on the way is given again, for the same key only.
    assert_eq!(claim(&rig, &token, "SN-1", &one).await.ok::<ClaimResponse>().device, first.device);
    assert_eq!(claim(&rig, &token, "SN-1", &new_key()).await.problem(), (403, "used-enrolment".into()));
    let first = made(&token, one, first);
    agent(&rig, &first, 0).await.acknowledged(first.topic("twin"), true, twin(0, None)).await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["site=hall"]);
    // The other's certificate is the other's: the list makes two devices, not one.
    let second = made(&token, two, second);
    assert_eq!(rig.device(&second).get("/tuf/metadata/timestamp.json").await.status, StatusCode::OK);
    assert_eq!(rig.event("device-enrolled", "").await, "token ordered by admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_listed_is_refused_by_its_own_name() {
    let rig = Rig::start().await;
    let token = list(&rig, &[("SN-1", "cam-1")]).await;
    let refused = async |token: &ClaimToken, serial: &str| claim(&rig, token, serial, &new_key()).await.problem();
    assert_eq!(refused(&token, "SN-2").await, (403, "unknown-serial".into()));
    assert_eq!(refused(&token, "sn-1").await, (403, "unknown-serial".into()));
    let guessed = ClaimToken { secret: "0".repeat(64), ..token.clone() };
    assert_eq!(refused(&guessed, "SN-1").await, (403, "unknown-enrolment".into()));
    // Neither kind of token is the other.
    let one = EnrolmentToken::decode(&rig.order("cam-7").await.token).unwrap();
    let as_list = ClaimToken { secret: one.secret, ..token.clone() };
    assert_eq!(refused(&as_list, "SN-1").await, (403, "unknown-enrolment".into()));
    let mut bad = request(&token, "SN-1", &new_key());
    bad.csr_pem = "junk".into();
    assert_eq!(rig.stranger().post("/api/v1/claim", &bad).await.problem(), (422, "bad-csr".into()));
    rig.event("enrolment-refused", "unknown-serial").await;
    let events: Vec<EventRow> = rig.admin().get("/api/v1/events").await.ok::<Page<EventRow>>().items;
    assert!(events.iter().all(|event| event.kind != "device-enrolled"));
    // None of that used the serial up.
    claim(&rig, &token, "SN-1", &new_key()).await.ok::<ClaimResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_ends_with_its_time_with_a_newer_list_and_with_a_revocation() {
    let rig = Rig::start().await;
    let mut form = order(&[("SN-1", "cam-1")]);
    form["valid_seconds"] = 1.into();
    let ticket: ClaimTicket = rig.admin().post(CLAIMS, &form).await.ok();
    let token = ClaimToken::decode(&ticket.token).unwrap();
    eventually(async || {
        let (status, code) = claim(&rig, &token, "SN-0", &new_key()).await.problem();
        (code != "unknown-serial").then(|| assert_eq!((status, &*code), (403, "expired-enrolment")))
    })
    .await;
    assert_eq!(claim(&rig, &token, "SN-1", &new_key()).await.problem(), (403, "expired-enrolment".into()));

    let old = list(&rig, &[("SN-2", "cam-2"), ("SN-3", "cam-3")]).await;
    let new = list(&rig, &[("SN-2", "cam-2b")]).await;
    assert_eq!(claim(&rig, &old, "SN-2", &new_key()).await.problem(), (403, "unknown-serial".into()));
    let (two, three) = (new_key(), new_key());
    assert_eq!(claim(&rig, &new, "SN-2", &two).await.ok::<ClaimResponse>().device.as_str(), "cam-2b");
    claim(&rig, &old, "SN-3", &three).await.ok::<ClaimResponse>();

    // A serial that was used, and a device that is enrolled, are not listed again until the device is out.
    for rows in [("SN-2", "cam-4"), ("SN-4", "cam-2b")] {
        assert_eq!(
            rig.admin().post(CLAIMS, &order(&[rows])).await.problem(),
            (409, "device-enrolled".into()),
            "{rows:?}"
        );
    }
    let reason = json!({"reason": "it was stolen"});
    assert_eq!(rig.admin().post("/api/v1/devices/cam-2b/revoke", &reason).await.status, StatusCode::OK);
    assert_eq!(claim(&rig, &new, "SN-2", &two).await.problem(), (403, "used-enrolment".into()));
    // What was ordered before a revocation lets nobody in after it: neither a token nor a serial.
    let waiting = list(&rig, &[("SN-5", "cam-5")]).await;
    rig.enrol("cam-5").await;
    assert_eq!(rig.admin().post("/api/v1/devices/cam-5/revoke", &reason).await.status, StatusCode::OK);
    assert_eq!(claim(&rig, &waiting, "SN-5", &new_key()).await.problem(), (403, "unknown-serial".into()));
    let again = list(&rig, &[("SN-2", "cam-2b")]).await;
    claim(&rig, &again, "SN-2", &new_key()).await.ok::<ClaimResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_a_list_is_refused_and_lists_nothing() {
    let rig = Rig::start().await;
    let ask = async |form: Value| rig.admin().post(CLAIMS, &form).await.problem();
    let bad = |code: &str| (422, code.to_owned());
    assert_eq!(ask(order(&[])).await, bad("bad-order"));
    assert_eq!(ask(order(&[("A", "cam-1"), ("A", "cam-2")])).await, bad("bad-order"));
    assert_eq!(ask(order(&[("A", "cam-1"), ("B", "cam-1")])).await, bad("bad-order"));
    let many: Vec<_> = (0..=MAX_SERIALS).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_eq!(ask(order(&many)).await, bad("bad-order"));
    let mut form = order(&[("A", "cam-1")]);
    form["valid_seconds"] = 0.into();
    assert_eq!(ask(form.clone()).await, bad("bad-order"));
    form["valid_seconds"] = (31 * 86_400).into();
    assert_eq!(ask(form).await, bad("bad-order"));
    let mut form = order(&[("A", "cam-1")]);
    form["devices"][0]["labels"] =
        (0..65).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(ask(form).await.1, "bad-labels");
    assert_eq!(ask(order(&[("a b", "cam-1")])).await, (400, "malformed-json".into()));
    // As many as a token takes are listed in one go.
    list(&rig, &many[1..]).await;
}
