//! Two machines on one certificate: told, put out both, and one of them let in again.

use tern_protocol::enrolment::RenewalResponse;

use super::*;

/// A request for a new certificate of this key.
fn renewal(key: &KeyPair) -> Value {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "cam-1");
    json!({"csr_pem": params.serialize_request(key).unwrap().pem().unwrap()})
}

/// A session in which an agent of this start says that it is there.
async fn speaks(rig: &Rig, device: &Enrolled, start: &str) -> Mqtt {
    let mut mqtt = rig.mqtt(device);
    mqtt.subscribed(device.topic("desired")).await;
    let status = json!({"online": true, "boot": start, "agent_version": "0.1.0", "since": "2026-06-01T00:00:00Z"});
    mqtt.client.publish(device.topic("status"), rumqttc::QoS::AtLeastOnce, true, status.to_string()).await.unwrap();
    mqtt
}

/// Sessions one after the other, each until the server knows that its agent is there.
async fn speak(rig: &Rig, device: &Enrolled, starts: &[&str]) {
    for start in starts {
        let mut session = speaks(rig, device, start).await;
        session.acknowledged(device.topic("m/system"), true, "{}").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_on_one_certificate_are_both_put_out_until_one_has_a_new_identity() {
    let mut rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let other = rig.enrol("cam-2").await;
    speak(&rig, &device, &["one", "two"]).await;
    // What is known outlives the server.
    rig.restart().await;
    let mut bystander = agent(&rig, &other, 0).await;
    bystander.acknowledged(other.topic("m/system"), true, "{}").await;
    speak(&rig, &device, &["one", "two"]).await;
    speaks(&rig, &device, "one").await.ended().await;
    let told = rig.event("device-cloned", "").await;
    assert!(told.starts_with("two agents push each other out"), "{told}");

    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(
        (row.online, row.kept_out().map(|(what, barred)| (what, &*barred.by))),
        (false, Some(("cloned", "server")))
    );
    assert_eq!(row.cloned.unwrap().reason, told);
    rig.mqtt(&device).ended().await;
    rig.event("front-refused", "device-cloned").await;
    let caller = rig.device(&device);
    assert_eq!(caller.get("/tuf/metadata/timestamp.json").await.problem(), (403, "device-cloned".into()));
    let refused = caller.post("/api/v1/renew", &renewal(&device.key)).await;
    assert_eq!(refused.problem(), (403, "device-cloned".into()));
    bystander.acknowledged(other.topic("m/system"), true, "{\"a\":1}").await;

    let order = json!({"reason": "two of them", "valid_seconds": 60});
    let ticket: EnrolmentTicket = rig.admin().post("/api/v1/devices/cam-1/reidentify", &order).await.ok();
    let (token, key) =
        (EnrolmentToken::decode(&ticket.token).unwrap(), KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    let response = rig.stranger().post("/api/v1/enrol", &enrolment_request(&token, &key)).await.ok();
    let new = Enrolled { name: "cam-1".into(), token, key, response };
    let mut session = speaks(&rig, &new, "one").await;
    session.acknowledged(new.topic("m/system"), true, "{}").await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert!(row.online && row.kept_out().is_none());
    // Its double has the old identity still, and that is nobody's.
    assert_eq!(caller.get("/tuf/metadata/timestamp.json").await.problem().1, "replaced-certificate");
    rig.device(&new).post("/api/v1/renew", &renewal(&new.key)).await.ok::<RenewalResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_reboots_and_a_restored_disk_raise_no_alarm() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    // A bad network, restarts, a disk that is set back (a new start of an old image), a machine that is set back while it
    // ran (an old start).
    speak(&rig, &device, &["a", "a", "b", "b", "c", "d", "c", "e", "d", "e"]).await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert!(row.kept_out().is_none(), "{row:?}");
    assert_eq!(rig.device(&device).get("/tuf/metadata/timestamp.json").await.status, StatusCode::OK);
}
