//! Who a device is, from its enrolment to its end: revocation, renewal, a new identity.

use http_body_util::BodyExt;
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use tern_fleet_server::{
    ca::{Authority, Holder},
    clock,
    config::Config,
    forms::{Assigned, DeviceRow, EnrolmentTicket, EventRow, Page, Revoked},
};
use tern_protocol::{
    api::{RENEW, blob_path},
    digest::Digest,
    enrolment::{EnrolmentResponse, EnrolmentToken, RenewalRequest, RenewalResponse},
};

use super::{
    MODEL, agent, assign,
    rig::{Caller, Enrolled, Reply, Rig, enrolment_request, eventually},
    twin,
};

const TIMESTAMP: &str = "/tuf/metadata/timestamp.json";

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn csr(name: &str, key: &KeyPair) -> RenewalRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    RenewalRequest { csr_pem: params.serialize_request(key).unwrap().pem().unwrap(), authorities: vec![] }
}

fn holder(pem: &str) -> Holder {
    Holder::of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

/// The same device with another certificate.
fn with_certificate(device: &Enrolled, pem: String) -> Enrolled {
    Enrolled {
        name: device.name.clone(),
        token: device.token.clone(),
        key: KeyPair::from_pem(&device.key.serialize_pem()).unwrap(),
        response: EnrolmentResponse { certificate_pem: pem, ..device.response.clone() },
    }
}

/// The same device, whose certificate ended long ago.
fn expired(authority: &Authority, device: &Enrolled) -> Enrolled {
    let then = clock::now() - SignedDuration::from_hours(3 * 365 * 24);
    let made = authority.certify(&device.token.device, &csr(&device.name, &device.key).csr_pem, then).unwrap();
    assert!(made.expires < clock::now());
    with_certificate(device, made.pem)
}

fn authority(rig: &Rig) -> Authority {
    Authority::open(&rig.folder.path().join("data/ca")).unwrap()
}

async fn revoke(rig: &Rig, device: &str) -> Reply {
    let order = json!({"reason": "it was stolen"});
    rig.admin().post(&format!("/api/v1/devices/{device}/revoke"), &order).await
}

async fn enrol_with(rig: &Rig, ticket: &EnrolmentTicket, key: KeyPair) -> Enrolled {
    let token = EnrolmentToken::decode(&ticket.token).unwrap();
    let response = rig.stranger().post("/api/v1/enrol", &enrolment_request(&token, &key)).await.ok();
    Enrolled { name: token.device.to_string(), token, key, response }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_loses_its_session_and_its_download_and_stays_out() {
    let rig = Rig::start().await;
    // More than what the kernel's buffers hold of a download that nobody reads.
    let content = vec![7; 24 << 20];
    rig.publish(MODEL, &content).await;
    let (device, other) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut session = agent(&rig, &device, 0).await;
    session.acknowledged(device.topic("m/system"), true, "{}").await;
    let mut bystander = agent(&rig, &other, 0).await;
    bystander.acknowledged(other.topic("m/system"), true, "{}").await;
    let caller = rig.device(&device);
    let (status, mut body) = caller.open(&blob_path(&Digest::of(&content)), &[]).await;
    assert_eq!(status, StatusCode::OK);
    let mut received = body.frame().await.unwrap().unwrap().into_data().unwrap().len();

    let revoked: Revoked = revoke(&rig, "cam-1").await.ok();
    assert_eq!((revoked.barred.reason.as_str(), revoked.barred.by.as_str()), ("it was stolen", "admin"));
    assert!(revoked.connections_cut >= 2, "{}", revoked.connections_cut);
    session.ended().await;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            received += frame.into_data().map_or(0, |data| data.len());
        }
        received
    };
    let received = tokio::time::timeout(super::rig::DEADLINE, rest).await.expect("the download ends");
    assert!(received < content.len(), "{received} bytes came");

    assert_eq!(caller.get(TIMESTAMP).await.problem(), (403, "revoked-device".into()));
    rig.mqtt(&device).ended().await;
    assert!(rig.metric("tern_ingest_refusals_total{code=\"revoked-device\"}").await >= 1);
    let renewal = caller.post(RENEW, &csr("cam-1", &device.key)).await;
    assert_eq!(renewal.problem(), (403, "revoked-device".into()));
    assert_eq!(rig.event("device-revoked", "").await, "it was stolen");
    bystander.acknowledged(other.topic("m/system"), true, "{\"a\":1}").await;

    // Lists show it, offline; a second order changes nothing.
    let page: Page<DeviceRow> = rig.admin().get("/api/v1/devices").await.ok();
    let row = page.items.into_iter().find(|row| row.device == device.token.device).unwrap();
    assert_eq!((row.online, row.revoked.clone()), (false, Some(revoked.barred.clone())));
    assert_eq!(row.kept_out().unwrap().0, "revoked");
    assert_eq!(revoke(&rig, "cam-1").await.ok::<Revoked>().barred, revoked.barred);
    // It gets nothing more.
    assert_eq!(assign(&rig, MODEL, "device=cam-1").await.problem(), (422, "no-device-matched".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_new_order_lets_a_revoked_device_in_again() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let spare = rig.order("cam-1").await;
    revoke(&rig, "cam-1").await.ok::<Revoked>();
    // Neither its own token with its own key, nor one that was ordered before.
    let again = enrolment_request(&device.token, &device.key);
    assert_eq!(rig.stranger().post("/api/v1/enrol", &again).await.problem(), (403, "used-enrolment".into()));
    let spare = EnrolmentToken::decode(&spare.token).unwrap();
    let with_spare = enrolment_request(&spare, &new_key());
    assert_eq!(rig.stranger().post("/api/v1/enrol", &with_spare).await.problem(), (403, "unknown-enrolment".into()));
    let new = enrol_with(&rig, &rig.order("cam-1").await, new_key()).await;
    assert_eq!(rig.device(&new).get(TIMESTAMP).await.status, StatusCode::OK);
    assert_eq!(rig.device(&device).get(TIMESTAMP).await.problem().1, "replaced-certificate");
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.revoked, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_voids_every_open_order_also_later_ones_and_of_devices_that_never_came() {
    let rig = Rig::start().await;
    rig.enrol("cam-1").await;
    let first: Revoked = revoke(&rig, "cam-1").await.ok();
    assert_eq!((first.orders_voided, first.never_enrolled), (0, false));
    let leaked = rig.order("cam-1").await;
    let again: Revoked = revoke(&rig, "cam-1").await.ok();
    assert_eq!((again.barred, again.orders_voided), (first.barred, 1));
    let never = rig.order("cam-9").await;
    let listed = json!({"devices": [{"serial": "SN-9", "device": "cam-9"}], "valid_seconds": 600});
    rig.admin().post("/api/v1/claims", &listed).await.ok::<serde_json::Value>();
    let revoked: Revoked = revoke(&rig, "cam-9").await.ok();
    assert_eq!((revoked.orders_voided, revoked.never_enrolled), (2, true));
    for ticket in [leaked, never] {
        let with = enrolment_request(&EnrolmentToken::decode(&ticket.token).unwrap(), &new_key());
        assert_eq!(rig.stranger().post("/api/v1/enrol", &with).await.problem(), (403, "unknown-enrolment".into()));
    }
    assert_eq!(revoke(&rig, "cam-9").await.problem(), (404, "not-found".into()), "nothing is left to void");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_revoking_is_refused_by_its_own_name() {
    let rig = Rig::start().await;
    rig.enrol("cam-1").await;
    assert_eq!(revoke(&rig, "cam-9").await.problem(), (404, "not-found".into()));
    assert_eq!(revoke(&rig, "CAM").await.problem(), (400, "bad-name".into()));
    for what in ["revoke", "reidentify"] {
        let path = format!("/api/v1/devices/cam-1/{what}");
        let blank = json!({"reason": " ", "valid_seconds": 60});
        assert_eq!(rig.admin().post(&path, &blank).await.problem(), (422, "bad-order".into()), "{what}");
        assert_eq!(rig.admin().post(&path, &json!({})).await.problem(), (400, "malformed-json".into()), "{what}");
        assert_eq!(rig.stranger().post(&path, &blank).await.problem(), (401, "missing-token".into()), "{what}");
    }
    let order = json!({"reason": "r", "valid_seconds": 0});
    let reidentify = async |id: &str, order: &_| {
        rig.admin().post(&format!("/api/v1/devices/{id}/reidentify"), order).await.problem()
    };
    assert_eq!(reidentify("cam-1", &order).await, (422, "bad-order".into()));
    assert_eq!(reidentify("cam-9", &json!({"reason": "r", "valid_seconds": 60})).await, (404, "not-found".into()));
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.revoked, None, "what was refused changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_identity_puts_the_old_one_out_and_keeps_what_the_operator_said() {
    let rig = Rig::start().await;
    let order = json!({"device": "cam-1", "labels": {"site": "hall"}, "valid_seconds": 60});
    let first: EnrolmentTicket = rig.admin().post("/api/v1/enrolments", &order).await.ok();
    let old = enrol_with(&rig, &first, new_key()).await;
    let mut session = agent(&rig, &old, 0).await;
    session.acknowledged(old.topic("m/system"), true, "{}").await;
    let order = json!({"reason": "two of them", "valid_seconds": 60});
    let ticket: EnrolmentTicket = rig.admin().post("/api/v1/devices/cam-1/reidentify", &order).await.ok();
    assert_eq!(ticket.command, format!("tern-agent enroll --replace --token {}", ticket.token));
    session.ended().await;
    assert_eq!(rig.device(&old).get(TIMESTAMP).await.problem().1, "revoked-device");
    assert_eq!(rig.event("device-reidentified", "").await, "two of them");
    let new = enrol_with(&rig, &ticket, new_key()).await;
    agent(&rig, &new, 0).await.acknowledged(new.topic("twin"), true, twin(0, None)).await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.labels["site".parse::<tern_protocol::ids::LabelKey>().as_ref().unwrap()].as_str(), "hall");
    assert!(row.kept_out().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_for_the_same_key_before_its_end_and_after() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let old = expired(&authority(&rig), &device);
    for one in [&device, &old] {
        let renewed: RenewalResponse = rig.device(one).post(RENEW, &csr("cam-1", &device.key)).await.ok();
        let (before, after) = (holder(&one.response.certificate_pem), holder(&renewed.certificate_pem));
        assert_eq!((&after.device, after.key_sha256), (&before.device, before.key_sha256));
        assert!(after.not_after >= before.not_after && !after.is_expired(clock::now()));
        let new = with_certificate(&device, renewed.certificate_pem);
        assert_eq!(rig.device(&new).get(TIMESTAMP).await.status, StatusCode::OK);
        agent(&rig, &new, 0).await.acknowledged(new.topic("twin"), true, twin(0, None)).await;
        let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
        assert_eq!(row.certificate_expires, after.not_after);
    }
    rig.event("certificate-renewed", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renews_again_and_again_fills_no_record() {
    let rig = Rig::start().await;
    let (device, other) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    for one in [&device, &device, &other, &device] {
        rig.device(one).post(RENEW, &csr(&one.name, &one.key)).await.ok::<RenewalResponse>();
    }
    let events: Vec<EventRow> = rig.admin().get("/api/v1/events").await.ok::<Page<EventRow>>().items;
    let renewed = events.iter().filter(|event| event.kind == "certificate-renewed");
    assert_eq!(renewed.map(|event| event.actor.as_str()).collect::<Vec<_>>(), ["cam-1", "cam-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_good_for_its_renewal_and_nothing_else() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let old = expired(&authority(&rig), &device);
    let caller = rig.device(&old);
    for path in [TIMESTAMP, "/tuf/targets/x", &blob_path(&Digest::of(b"weights"))] {
        assert_eq!(caller.get(path).await.problem(), (403, "expired-certificate".into()), "{path}");
    }
    rig.event("front-refused", "expired-certificate").await;
    rig.mqtt(&old).ended().await;
    assert_eq!(rig.metric("tern_mqtt_refusals_total{code=\"expired_certificate\"}").await, 1);
    // Trust is asked for before dates are: another fleet's certificate does not pass TLS, expired or not.
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::create(elsewhere.path(), "tern f", clock::now()).unwrap();
    let forged = rig.device(&expired(&foreign, &device));
    assert!(forged.try_send(hyper::Method::POST, RENEW, &[], vec![]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_renewing_is_refused_by_its_own_name() {
    let rig = Rig::start().await;
    let (device, other) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    let ask = async |caller: Caller, request: &RenewalRequest| caller.post(RENEW, request).await.problem();
    let good = csr("cam-1", &device.key);
    assert_eq!(ask(rig.stranger(), &good).await, (401, "no-certificate".into()));
    assert_eq!(ask(rig.admin(), &good).await, (401, "no-certificate".into()));
    assert_eq!(ask(rig.device(&device), &csr("cam-1", &new_key())).await, (403, "foreign-key".into()));
    assert_eq!(ask(rig.device(&device), &csr("cam-1", &other.key)).await, (403, "foreign-key".into()));
    assert_eq!(ask(rig.device(&device), &csr("cam-2", &device.key)).await, (422, "bad-csr".into()));
    let junk = RenewalRequest { csr_pem: "junk".into(), authorities: vec![] };
    assert_eq!(ask(rig.device(&device), &junk).await, (422, "bad-csr".into()));
    // A request whose signature is not by its key proves nothing.
    let mut forged = good.csr_pem.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    let last = forged.len() - 2;
    let flipped = if forged[last].starts_with('A') { "B" } else { "A" };
    forged[last].replace_range(..1, flipped);
    let forged = RenewalRequest { csr_pem: forged.join("\n"), authorities: vec![] };
    assert_eq!(ask(rig.device(&device), &forged).await, (422, "bad-csr".into()));
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.certificate_expires, holder(&device.response.certificate_pem).not_after);
    // The key that was replaced gets no certificate, not even for its expired one.
    let order = json!({"device": "cam-1", "valid_seconds": 60});
    let ticket: EnrolmentTicket = rig.admin().post("/api/v1/enrolments?replace=true", &order).await.ok();
    enrol_with(&rig, &ticket, new_key()).await;
    for replaced in [rig.device(&device), rig.device(&expired(&authority(&rig), &device))] {
        assert_eq!(ask(replaced, &good).await, (403, "replaced-certificate".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_session_outlives_the_certificate_that_it_began_with() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    rig.start_again(Config { certificate_life_seconds: 5, ..rig.config() }).await;
    let (device, idle) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    let (mut session, mut unrenewed) = (agent(&rig, &device, 0).await, agent(&rig, &idle, 0).await);
    let end = holder(&device.response.certificate_pem).not_after;
    let ended = async || (clock::now() > end + SignedDuration::from_secs(2)).then_some(());
    let mut newest: Timestamp = end;
    let (mut current, mut rounds) = (with_certificate(&device, device.response.certificate_pem.clone()), 0);
    while ended().await.is_none() {
        // As an agent does: once a part of the life is gone.
        eventually(async || {
            let due = newest - SignedDuration::from_secs(3);
            (clock::now() > due || clock::now() > end + SignedDuration::from_secs(2)).then_some(())
        })
        .await;
        let renewed: RenewalResponse = rig.device(&current).post(RENEW, &csr("cam-1", &device.key)).await.ok();
        newest = holder(&renewed.certificate_pem).not_after;
        current = with_certificate(&device, renewed.certificate_pem);
        rounds += 1;
    }
    assert!(rounds >= 2, "{rounds}");
    session.acknowledged(device.topic("m/system"), true, "{}").await;
    // Without renewal the session ends with its certificate.
    unrenewed.ended().await;
}
