//! Dashboards: what a reader may see, that it may say nothing, and that a removed one is out at once.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rumqttc::{Incoming, LastWill, QoS, SubscribeReasonCode};
use serde_json::json;
use tern_fleet_server::{
    forms::{Page, ReaderIssued, ReaderOrder, ReaderRow},
    identity::{Operator, Role, Secret},
};

use crate::rig::{Mqtt, Rig};

pub(crate) async fn add(rig: &Rig, name: &str) -> (ReaderIssued, KeyPair) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let issued = rig.admin().post("/api/v1/readers", &order(name, &key)).await.ok();
    (issued, key)
}

fn order(name: &str, key: &KeyPair) -> ReaderOrder {
    let csr_pem = CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
    ReaderOrder { name: name.parse().unwrap(), csr_pem }
}

/// What no dashboard may subscribe to.
const HIDDEN: [&str; 16] = [
    "#",
    "+/#",
    "+/v1/f/+/status",
    "tern/v1/#",
    "tern/v1/+/+/status",
    "tern/v1/f/#",
    "tern/v1/f/+/#",
    "tern/v1/f/+/+",
    "tern/v1/f/+/desired",
    "tern/v1/f/cam-1/report",
    "tern/v1/f/cam-1/watermark",
    "tern/v1/g/_fleet/#",
    "$SYS/#",
    "$share/x/tern/v1/f/+/status",
    "$share/x/tern/v1/f/+/desired",
    "$queue/tern/v1/f/+/status",
];

/// Whether the broker grants the subscription.
async fn granted(mqtt: &mut Mqtt, filter: &str) -> bool {
    mqtt.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    mqtt.find(|incoming| match incoming {
        Incoming::SubAck(ack) => Some(ack.return_codes != [SubscribeReasonCode::Failure]),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_reads_what_is_for_people_and_says_nothing() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let mut agent = rig.mqtt(&device);
    let status = json!({"online": true, "boot": "b", "agent_version": "0.1.0", "since": "2026-06-01T00:00:00Z"});
    agent.acknowledged(device.topic("status"), true, status.to_string()).await;
    agent.acknowledged(device.topic("m/digits"), true, r#"{"rows":7}"#).await;

    let (issued, key) = add(&rig, "hall").await;
    assert_eq!(issued.client_id, "_reader.hall");
    let identity = (issued.certificate_pem.as_str(), &key);
    let mut hall = Mqtt::reader(&rig, &issued.client_id, identity);
    for filter in HIDDEN {
        assert!(!granted(&mut hall, filter).await, "{filter}");
    }
    rig.event("topic-refused", "topic-foreign").await;
    assert!(granted(&mut hall, "tern/v1/f/_fleet/#").await);
    assert!(granted(&mut hall, "tern/v1/f/+/m/#").await);
    assert_eq!(hall.message().await, r#"{"rows":7}"#, "what was retained before");
    agent.acknowledged(device.topic("m/digits"), true, r#"{"rows":8}"#).await;
    assert_eq!(hall.message().await, r#"{"rows":8}"#, "what is said now");

    // The certificate is good for this name alone, and only over MQTT.
    Mqtt::reader(&rig, "cam-1", identity).ended().await;
    let will = LastWill::new(device.topic("status"), "{}", QoS::AtLeastOnce, true);
    let mut leaving = Mqtt::connect(&rig, &issued.client_id, identity, Some(will));
    leaving.ended().await;
    for topic in [device.topic("status"), device.topic("m/digits"), "tern/v1/f/_fleet/incident/1".into()] {
        Mqtt::reader(&rig, &issued.client_id, identity).refused(topic, true, "{}").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_dashboard_is_cut_off_and_its_name_is_free_for_another_key() {
    let rig = Rig::start().await;
    let (issued, key) = add(&rig, "hall").await;
    let identity = (issued.certificate_pem.as_str(), &key);
    let mut hall = Mqtt::reader(&rig, &issued.client_id, identity);
    assert!(granted(&mut hall, "tern/v1/f/+/status").await);
    let again = rig.admin().post("/api/v1/readers", &order("hall", &key)).await;
    assert_eq!(again.problem(), (409, "reader-exists".into()));

    let delete = async |path: &str| rig.admin().send(hyper::Method::DELETE, path, &[], vec![]).await;
    assert_eq!(delete("/api/v1/readers/hall").await.problem().1, "bad-query", "no reason given");
    assert_eq!(delete("/api/v1/readers/hall?reason=%20").await.problem().1, "bad-order");
    assert_eq!(delete("/api/v1/readers/other?reason=x").await.problem().1, "not-found");
    delete("/api/v1/readers/hall?reason=screen%20sold").await.empty();
    hall.ended().await;
    assert!(rig.event("reader-removed", "").await.contains("screen sold"));
    Mqtt::reader(&rig, &issued.client_id, identity).ended().await;
    rig.event("front-refused", "revoked-device").await;
    let page: Page<ReaderRow> = rig.admin().get("/api/v1/readers").await.ok();
    assert!(page.items.is_empty());

    let (second, new_key) = add(&rig, "hall").await;
    let mut hall = Mqtt::reader(&rig, &second.client_id, (&second.certificate_pem, &new_key));
    assert!(granted(&mut hall, "tern/v1/f/+/status").await);
    Mqtt::reader(&rig, &issued.client_id, identity).ended().await;
    rig.event("front-refused", "replaced-certificate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_are_an_operators_to_add() {
    let rig = Rig::start().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let secret = Secret::generate().unwrap();
    let viewer = Operator::new("viewer", Role::Viewer);
    rig.server().fleet().store.add_token(secret.hash(), viewer, tern_fleet_server::clock::now()).await.unwrap();
    let viewer = rig.bearer(secret.reveal());
    assert_eq!(viewer.post("/api/v1/readers", &order("hall", &key)).await.problem().1, "wrong-role");
    assert_eq!(rig.stranger().get("/api/v1/readers").await.problem().1, "missing-token");
    let bad = json!({"name": "_reader.x", "csr_pem": ""});
    assert_eq!(rig.admin().post("/api/v1/readers", &bad).await.problem().1, "malformed-json");
    let bad = json!({"name": "hall", "csr_pem": "no request"});
    assert_eq!(rig.admin().post("/api/v1/readers", &bad).await.problem().1, "bad-csr");
    add(&rig, "hall").await;
    let page: Page<ReaderRow> = viewer.get("/api/v1/readers").await.ok();
    assert_eq!(page.items[0].name.as_str(), "hall");
}
