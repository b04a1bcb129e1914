//! The attacker reads tokens over somebody's shoulder: used ones, old ones, ones for other devices; or guesses. He sends
//! them with a key of his own. No certificate may come of it, and each refusal must say which it is.

use tern_protocol::{api::ENROL, enrolment::EnrolmentToken};

use crate::rig::{fleet::Fleet, intruder::Identity};

#[test]
fn a_token_makes_one_device_once() {
    let mut fleet = Fleet::new("enrolment_token");
    let used = EnrolmentToken::decode(&fleet.ticket("cam-2")).unwrap();
    let honest = Identity::make("cam-2");
    let body = honest.enrolment(&used.secret);
    assert_eq!(fleet.ask(None, "POST", ENROL, &body).status, 200);
    // Whoever lost the answer may ask again, with the same key.
    assert_eq!(fleet.ask(None, "POST", ENROL, &body).status, 200);
    let replaced = EnrolmentToken::decode(&fleet.ticket("cam-3")).unwrap();
    let fresh = EnrolmentToken::decode(&fleet.ticket("cam-3")).unwrap();
    let cut = &fresh.secret[..fresh.secret.len() - 1];
    for (variant, name, secret, code) in [
        ("a used token with another key", "cam-2", &*used.secret, "used-enrolment"),
        ("a used token for another device", "cam-3", &used.secret, "unknown-enrolment"),
        ("a token that a newer one replaced", "cam-3", &replaced.secret, "unknown-enrolment"),
        ("a fresh token for another device", "cam-2", &fresh.secret, "unknown-enrolment"),
        ("a fresh token for the honest device", "cam-1", &fresh.secret, "unknown-enrolment"),
        ("a token of which the end is missing", "cam-3", cut, "unknown-enrolment"),
        ("no token", "cam-3", "", "unknown-enrolment"),
        ("a guess", "cam-3", "00000000000000000000000000000000", "unknown-enrolment"),
    ] {
        let reply = fleet.ask(None, "POST", ENROL, &Identity::make(name).enrolment(secret));
        assert_eq!(reply.refusal(), (403, code.to_owned()), "{variant}");
        fleet.refused(variant);
    }
    // A request in another name is answered in the token's: the name is the server's to give.
    let thief = Identity::make("cam-3");
    let mut request: serde_json::Value = serde_json::from_slice(&thief.enrolment(&fresh.secret)).unwrap();
    request["csr_pem"] = Identity::make("cam-1").csr().into();
    let reply = fleet.ask(None, "POST", ENROL, request.to_string().as_bytes());
    let pem = reply.json()["certificate_pem"].as_str().expect("a certificate").to_owned();
    let der = rustls::pki_types::CertificateDer::from(pem_bytes(&pem));
    let holder = tern_fleet_server::ca::Holder::of(&der).expect("a device's certificate");
    assert_eq!(holder.device.as_str(), "cam-3");
    fleet.refused("a certificate request in the honest device's name");
    fleet.finish();
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
