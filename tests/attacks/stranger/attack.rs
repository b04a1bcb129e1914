//! The attacker can reach the server, and has no certificate, one by an authority of his own in the honest device's name, or
//! one of a device that was replaced. Neither files nor a session may come of it; and a device's own certificate reads
//! nothing that was not demanded of it.

use tern_fleet_server::{ca::Authority, clock};
use tern_protocol::enrolment::EnrolmentToken;

use crate::rig::{
    fleet::Fleet,
    intruder::{Identity, NoSession, Session, request},
    release::Release,
    repository::blob_path,
};

#[test]
fn whoever_is_not_of_the_fleet_gets_nothing() {
    let mut fleet = Fleet::new("stranger");
    let release = Release::quickstart("1.0.0");
    let routes =
        ["/tuf/metadata/timestamp.json".to_owned(), release.manifest_path(), blob_path(&release.file("model"))];
    for path in &routes {
        let reply = fleet.ask(None, "GET", path, b"");
        assert_eq!(reply.refusal(), (401, "no-certificate".into()), "{path}");
        fleet.refused(&format!("{path} without a certificate"));
    }
    // An authority of his own.
    let folder = tempfile::tempdir().unwrap();
    let theirs = Authority::create(folder.path(), "tern plant", clock::now()).unwrap();
    let forged = Identity::make("cam-1");
    let certificate = theirs.certify(&"cam-1".parse().unwrap(), &forged.csr(), clock::now()).unwrap().pem;
    let forged = forged.with(&certificate);
    for path in &routes {
        let answer = request(fleet.https, &fleet.ca(), Some(&forged), ("GET", path, &[]), b"");
        assert!(answer.is_err(), "{path}: {answer:?}");
        fleet.refused(&format!("{path} with a forged certificate"));
    }
    let open = |fleet: &Fleet, identity: Option<&Identity>| {
        Session::open(fleet.mqtt, &fleet.ca(), identity, "cam-1", None).err()
    };
    for (variant, identity, code) in [
        ("without a certificate", None, "no_certificate"),
        ("with a forged one", Some(&forged), "untrusted_certificate"),
    ] {
        let metric = format!("tern_mqtt_refusals_total{{code=\"{code}\"}}");
        let before = fleet.metric(&metric);
        assert_eq!(open(&fleet, identity), Some(NoSession::Closed), "{variant}");
        crate::rig::wait("the refusal is counted", || (fleet.metric(&metric) == before + 1).then_some(()));
        fleet.refused(&format!("a session {variant}"));
    }
    insider(&mut fleet, &routes);
    fleet.finish();
}

/// A device of the fleet, of which nothing is demanded; and the same once it is replaced.
fn insider(fleet: &mut Fleet, routes: &[String; 3]) {
    let insider = fleet.insider("cam-2");
    for path in &routes[1..] {
        let reply = fleet.ask(Some(&insider), "GET", path, b"");
        assert_eq!(reply.refusal(), (404, "blob-not-demanded".into()), "{path}");
        fleet.refused(&format!("{path} by a device that need not have it"));
    }
    let mut live = Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), "cam-2", None).expect("a session");
    // The operator replaces it: the key in the attacker's hands counts no more.
    let ticket = fleet.tern(&["device", "enroll", "cam-2", "--replace"]);
    let ticket: serde_json::Value = serde_json::from_str(&ticket).unwrap();
    let token = EnrolmentToken::decode(ticket["token"].as_str().expect("a token")).unwrap();
    let body = Identity::make("cam-2").enrolment(&token.secret);
    assert_eq!(fleet.ask(None, "POST", tern_protocol::api::ENROL, &body).status, 200);
    assert!(live.ends(), "the live session is cut");
    let reply = fleet.ask(Some(&insider), "GET", &routes[0], b"");
    assert_eq!(reply.refusal(), (403, "replaced-certificate".into()));
    fleet.refused("metadata for a device that was replaced");
    let refused = Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), "cam-2", None).err();
    assert!(refused.is_some());
    fleet.refused("a session for a device that was replaced");
}
