//! The attacker stole a device with its key, and had a session open when its operator revoked it; or a certificate that has
//! ended; or he holds another device, and wants a certificate for a key or in a name that is not its own. The session must
//! end, nothing may be read, and no certificate may come of it.

use jiff::SignedDuration;
use serde_json::json;
use tern_fleet_server::{ca::Authority, clock};
use tern_protocol::{
    api::{ENROL, RENEW},
    enrolment::EnrolmentToken,
};

use crate::rig::{
    fleet::Fleet,
    intruder::{Identity, NoSession, Session},
    release::Release,
    repository::blob_path,
};

#[test]
fn who_was_put_out_stays_out() {
    let mut fleet = Fleet::new("revoked_certificate");
    let stolen = fleet.insider("cam-2");
    let mut live = Session::open(fleet.mqtt, &fleet.ca(), Some(&stolen), "cam-2", None).expect("a session");
    let ordered: serde_json::Value =
        serde_json::from_str(&fleet.tern(&["device", "enroll", "cam-2", "--replace"])).unwrap();
    let spare = EnrolmentToken::decode(ordered["token"].as_str().expect("a token")).unwrap();
    fleet.tern(&["device", "revoke", "cam-2", "--reason", "it was stolen"]);
    assert!(live.ends(), "the live session is cut");
    fleet.refused("a session that was open");
    let release = Release::quickstart("1.0.0");
    let blob = blob_path(&release.file("model"));
    for path in ["/tuf/metadata/timestamp.json", &release.manifest_path(), &blob] {
        assert_eq!(fleet.ask(Some(&stolen), "GET", path, b"").refusal(), (403, "revoked-device".into()), "{path}");
        fleet.refused(&format!("{path} by a revoked device"));
    }
    let opened = Session::open(fleet.mqtt, &fleet.ca(), Some(&stolen), "cam-2", None).err();
    assert_eq!(opened, Some(NoSession::Refused(5)));
    fleet.refused("another session");
    let renewal = fleet.ask(Some(&stolen), "POST", RENEW, &renewal(&stolen));
    assert_eq!(renewal.refusal(), (403, "revoked-device".into()));
    fleet.refused("its renewal");
    let reply = fleet.ask(None, "POST", ENROL, &Identity::make("cam-2").enrolment(&spare.secret));
    assert_eq!(reply.refusal(), (403, "unknown-enrolment".into()));
    fleet.refused("a token that was ordered before it was revoked");
    others(&mut fleet);
    fleet.finish();
}

fn renewal(identity: &Identity) -> Vec<u8> {
    json!({"csr_pem": identity.csr()}).to_string().into_bytes()
}

/// A device in service renews its own certificate, and no other; one whose certificate has ended may do nothing else.
fn others(fleet: &mut Fleet) {
    let insider = fleet.insider("cam-3");
    let authority = Authority::open(&fleet.data.join("ca")).unwrap();
    let then = clock::now() - SignedDuration::from_hours(3 * 365 * 24);
    for (variant, request, refusal) in [
        ("a key of the attacker's own", Identity::make("cam-3"), (403, "foreign-key")),
        ("the honest device's name", Identity::make("cam-1"), (422, "bad-csr")),
        ("the honest device's name with its own key", insider.called("cam-1"), (422, "bad-csr")),
    ] {
        let reply = fleet.ask(Some(&insider), "POST", RENEW, &renewal(&request));
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()), "{variant}");
        fleet.refused(&format!("a renewal for {variant}"));
    }
    let reply = fleet.ask(None, "POST", RENEW, &renewal(&insider));
    assert_eq!(reply.refusal(), (401, "no-certificate".into()));
    fleet.refused("a renewal without a certificate");
    let ended = authority.certify(&"cam-3".parse().unwrap(), &insider.csr(), then).unwrap().pem;
    let ended = insider.with(&ended);
    let reply = fleet.ask(Some(&ended), "GET", "/tuf/metadata/timestamp.json", b"");
    assert_eq!(reply.refusal(), (403, "expired-certificate".into()));
    fleet.refused("metadata with a certificate that has ended");
    let opened = Session::open(fleet.mqtt, &fleet.ca(), Some(&ended), "cam-3", None).err();
    assert_eq!(opened, Some(NoSession::Closed));
    fleet.refused("a session with a certificate that has ended");
}
