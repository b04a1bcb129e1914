//! One certificate authority after another: both count in between, and whoever took the new one over stays in.

use jiff::SignedDuration;
use rcgen::CertificateParams;
use tern_fleet_server::server::ca::{CaOrder, CaStep, carry_out};
use tern_protocol::enrolment::{RenewalRequest, RenewalResponse};

use super::*;

const TIMESTAMP: &str = "/tuf/metadata/timestamp.json";

fn order(rig: &Rig, step: CaStep) -> CaOrder {
    CaOrder { data_dir: rig.folder.path().join("data"), step }
}

async fn refused(rig: &Rig, step: CaStep) -> String {
    format!("{:#}", carry_out(&order(rig, step)).await.unwrap_err())
}

/// The same device with the certificate that it gets when it trusts these authorities.
async fn renewed(rig: &Rig, device: &Enrolled, authorities: Vec<Digest>) -> Enrolled {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, device.name.as_str());
    let csr_pem = params.serialize_request(&device.key).unwrap().pem().unwrap();
    let request = RenewalRequest { csr_pem, authorities };
    let renewed: RenewalResponse = rig.device(device).post("/api/v1/renew", &request).await.ok();
    Enrolled {
        name: device.name.clone(),
        token: device.token.clone(),
        key: KeyPair::from_pem(&device.key.serialize_pem()).unwrap(),
        response: EnrolmentResponse { certificate_pem: renewed.certificate_pem, ..device.response.clone() },
    }
}

/// The devices that would be left behind if this authority were alone.
async fn behind(rig: &Rig, newest: Digest) -> Vec<String> {
    let names = rig.server().fleet().store.certified_by_others(newest).await.unwrap();
    names.iter().map(ToString::to_string).collect()
}

/// The certificates in a bundle, by digest.
fn digests(pem: &[u8]) -> Vec<Digest> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::pem_slice_iter(pem).map(|der| Digest::of(&der.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_replaced_and_nobody_who_followed_is_left_behind() {
    let mut rig = Rig::start().await;
    let (quick, late) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    let retire = CaStep::Retire { leave_behind: false };
    assert!(refused(&rig, CaStep::Rotate).await.contains("is the server running?"));
    rig.stop().await;
    assert!(refused(&rig, CaStep::Retire { leave_behind: true }).await.contains("ca rotate"));
    carry_out(&order(&rig, CaStep::Rotate)).await.unwrap();
    let told = refused(&rig, retire).await;
    assert!(told.starts_with("2 devices know the old authority only") && told.contains("cam-1, cam-2"), "{told}");
    rig.start_again(rig.config()).await;

    // Devices find both in the signed targets, and each certificate goes on counting.
    let pem = std::fs::read(rig.folder.path().join("data/ca/bundle.pem")).unwrap();
    let [old, new] = digests(&pem)[..] else { panic!("two authorities") };
    assert_eq!(old, quick.token.ca_sha256);
    let mut trusted = updater(&rig, &quick).await;
    assert_eq!(trusted.get_target(tuf::CA_BUNDLE, clock::now()).await.unwrap(), pem);
    let path = |digest: &Digest| format!("/tuf/targets/ca/{digest}.bundle.pem");
    assert_eq!(rig.stranger().get(&path(&Digest::of(&pem))).await.problem().1, "no-certificate");
    assert_eq!(rig.device(&quick).get(&path(&Digest::of(b"x"))).await.problem(), (404, "not-found".into()));
    agent(&rig, &late, 0).await.acknowledged(late.topic("twin"), true, twin(0, None)).await;

    // Only who says that it trusts the new one gets a certificate of it; who enrols now trusts both from the start.
    renewed(&rig, &late, vec![]).await;
    renewed(&rig, &late, vec![old]).await;
    let before = quick;
    let quick = renewed(&rig, &before, vec![old, new]).await;
    agent(&rig, &quick, 0).await.acknowledged(quick.topic("twin"), true, twin(0, None)).await;
    let fresh = rig.enrol("cam-3").await;
    assert_eq!(rig.device(&fresh).get(TIMESTAMP).await.status, StatusCode::OK);
    assert_eq!(behind(&rig, new).await, ["cam-1", "cam-2"], "cam-1 may never have had the answer");
    for (shown, left) in [(&quick, &["cam-2"][..]), (&before, &["cam-1", "cam-2"]), (&quick, &["cam-2"])] {
        assert_eq!(rig.device(shown).get(TIMESTAMP).await.status, StatusCode::OK);
        assert_eq!(behind(&rig, new).await, left);
    }
    assert_eq!(digests(fresh.response.ca_pem.as_bytes()), [old, new]);
    assert_eq!(fresh.token.ca_sha256, old, "the server still shows the old one");
    // A token that was ordered under the old one pins it: it is voided, or used, or left behind knowingly.
    rig.order("cam-8").await;
    let listed = json!({"devices": [{"serial": "SN-9", "device": "cam-9"}], "valid_seconds": 600});
    rig.admin().post("/api/v1/claims", &listed).await.ok::<Value>();
    rig.stop().await;
    let told = refused(&rig, retire).await;
    assert!(told.starts_with("open tokens for 2 devices") && told.contains("such as cam-8, cam-9:"), "{told}");
    rig.start_again(rig.config()).await;
    for device in ["cam-8", "cam-9"] {
        let path = format!("/api/v1/devices/{device}/revoke");
        rig.admin().post(&path, &json!({"reason": "it pins the old one"})).await.ok::<Value>();
    }
    rig.stop().await;
    let told = refused(&rig, retire).await;
    assert!(told.starts_with("1 devices know the old authority only") && told.contains("such as cam-2:"), "{told}");
    assert!(told.contains(" UTC), revoke them"), "by when to wait: {told}");
    let (before, ca) = (clock::now(), rig.folder.path().join("data/ca/ca.pem"));
    let told = carry_out(&order(&rig, CaStep::Retire { leave_behind: true })).await.unwrap();
    assert!(told.contains(&format!("log in again with it (`tern login --ca {}`)", ca.display())), "{told}");
    let hours =
        [before, clock::now()].map(|now| (now + SignedDuration::from_hours(1)).strftime("%F %H:%M UTC").to_string());
    assert!(hours.iter().any(|hour| told.ends_with(&format!("trust it alone by {hour}"))), "{hours:?}: {told}");
    rig.start_again(rig.config()).await;

    // The old one is nobody's: not the server's, and not a device's.
    assert!(rig.device(&quick).try_send(Method::GET, TIMESTAMP, &[], vec![]).await.is_err());
    rig.ca = std::fs::read_to_string(rig.folder.path().join("data/ca/ca.pem")).unwrap();
    assert_eq!(digests(rig.ca.as_bytes()), [new]);
    for device in [&quick, &fresh] {
        assert_eq!(rig.device(device).get(TIMESTAMP).await.status, StatusCode::OK, "{}", device.name);
        agent(&rig, device, 0).await.acknowledged(device.topic("twin"), true, twin(0, None)).await;
    }
    assert!(rig.device(&late).try_send(Method::GET, TIMESTAMP, &[], vec![]).await.is_err());
    let mut trusted = updater(&rig, &quick).await;
    assert_eq!(trusted.get_target(tuf::CA_BUNDLE, clock::now()).await.unwrap(), rig.ca.as_bytes());
    assert_eq!(rig.enrol("cam-4").await.token.ca_sha256, new);
    rig.event("authority-rotated", "").await;
    rig.event("authority-retired", "").await;
}
