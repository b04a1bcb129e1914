//! When a certificate is renewed, and what becomes of the folder.

use std::io;

use super::*;
use crate::identity::{Enrolment, Files};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};

#[test]
fn a_third_of_its_life_before_its_end_a_certificate_is_due() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let life = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
    assert_eq!(due(life), at("2026-03-02T00:00:00Z"));
    assert_eq!(due((life.1, life.1)), life.1, "one without a life is due at its end");
}

#[test]
fn tries_that_do_not_help_are_ever_further_apart() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // A certificate of a year, on a device whose clock is ten years ahead, and on one whose clock is right.
    let due = due((at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
    let (ahead, right) = (at("2036-01-01T00:00:00Z"), at("2026-01-01T00:00:01Z"));
    let mut pauses = Pauses::default();
    assert_eq!(pauses.after(Some(due), right), None, "it helped");
    let told: Vec<_> = (0..13).map(|_| pauses.after(Some(due), ahead).unwrap().as_secs()).collect();
    assert_eq!(told, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
    assert_eq!(pauses.after(None, right), Some(PAUSES.1), "one that failed");
    assert_eq!(pauses.after(Some(due), right), None);
    assert_eq!(pauses.after(Some(due), due), Some(PAUSES.0), "due this moment, after one that helped");
}

#[tokio::test]
async fn a_device_that_can_reach_its_server_again_rests_no_longer() {
    let (signs, hour, moment) = (Signs::default(), Duration::from_secs(3600), Duration::from_millis(1));
    let goes_on = async || tokio::time::timeout(moment * 50, rest(&signs, hour, moment)).await.is_err();
    assert!(goes_on().await, "nobody has said anything");
    signs.lost();
    assert!(goes_on().await, "a lost link says nothing of dates");
    signs.expired();
    rest(&signs, hour, moment).await;
    assert!(goes_on().await, "what was said counts once");
    rest(&signs, moment, hour).await;
}

#[test]
fn only_the_servers_word_on_dates_is_taken_for_it() {
    let alert = |description| rustls::Error::AlertReceived(description);
    let wrapped = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    assert!(says_expired(&wrapped(alert(rustls::AlertDescription::CertificateExpired))));
    let deep = rumqttc::ConnectionError::Io(wrapped(alert(rustls::AlertDescription::CertificateExpired)));
    assert!(says_expired(&deep));
    assert!(!says_expired(&wrapped(alert(rustls::AlertDescription::UnknownCA))));
    assert!(!says_expired(&io::Error::from(io::ErrorKind::ConnectionReset)));
}

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        Self::named("first")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self, name: &str, key: &KeyPair, year: i32) -> String {
        self.certificate_with(name, key, year, vec![])
    }

    fn certificate_with(&self, name: &str, key: &KeyPair, year: i32, more: Vec<rcgen::CustomExtension>) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(year, 1, 1));
        params.custom_extensions = more;
        params.signed_by(key, &self.0).unwrap().pem()
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn files(ca: &Ca, key: &KeyPair) -> Files {
    Files {
        key_pem: key.serialize_pem(),
        certificate_pem: ca.certificate("cam-1", key, 2027),
        ca_pem: ca.0.pem(),
        enrolment: Enrolment {
            format: 1,
            device: "cam-1".parse().unwrap(),
            fleet: "f".parse().unwrap(),
            server: "https://localhost:1".into(),
            mqtt_address: "localhost:2".into(),
            root_sha256: Digest::of(b"root"),
            root_base64: "cm9vdA==".into(),
        },
    }
}

#[test]
fn a_renewed_certificate_is_of_the_same_name_and_key_or_the_old_one_stays() {
    let (scratch, ca, key) = (tempfile::tempdir().unwrap(), Ca::new(), key());
    let folder = scratch.path().join("identity");
    files(&ca, &key).install(&folder, false).unwrap();
    let mut identity = Identity::load(&folder).unwrap().unwrap();
    let request = identity.signing_request().unwrap();
    let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request).unwrap();
    let name = parsed.params.distinguished_name.get(&rcgen::DnType::CommonName);
    assert_eq!(name, Some(&rcgen::DnValue::Utf8String("cam-1".into())));
    let before = std::fs::read(folder.join("device.pem")).unwrap();
    // Of this name and key, but with what TLS may not overlook and does not know: no connection could show it.
    let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    let bad = [
        ca.certificate_with("cam-1", &key, 2028, vec![unknown]),
        ca.certificate("cam-2", &key, 2028),
        ca.certificate("cam-1", &self::key(), 2028),
        "x".into(),
        "x".repeat(20_000),
    ];
    for pem in bad {
        assert!(identity.replace_certificate(&folder, pem).is_err());
        assert_eq!(std::fs::read(folder.join("device.pem")).unwrap(), before);
    }
    let renewed = ca.certificate("cam-1", &key, 2028);
    identity.replace_certificate(&folder, renewed.clone()).unwrap();
    let loaded = Identity::load(&folder).unwrap().unwrap();
    assert_eq!(loaded.certificate_pem, renewed.as_bytes());
    assert_eq!(loaded.validity().unwrap(), identity.validity().unwrap());
    assert!(loaded.validity().unwrap().1 > "2027-06-01T00:00:00Z".parse().unwrap());
    loaded.credentials().unwrap();
}

#[test]
fn a_power_cut_while_a_certificate_is_renewed_leaves_a_whole_identity() {
    let (scratch, ca, key) = (tempfile::tempdir().unwrap(), Ca::new(), key());
    let folder = scratch.path().join("identity");
    files(&ca, &key).install(&folder, false).unwrap();
    // What a cut before the rename leaves beside the file.
    std::fs::copy(folder.join("device.pem"), folder.join("device.pem.tmp")).unwrap();
    let mut identity = Identity::load(&folder).unwrap().unwrap();
    identity.credentials().unwrap();
    identity.replace_certificate(&folder, ca.certificate("cam-1", &key, 2028)).unwrap();
    Identity::load(&folder).unwrap().unwrap().credentials().unwrap();
    assert!(!folder.join("device.pem.tmp").exists());
}

#[test]
fn a_new_identity_takes_the_place_of_the_old_one_whole_and_only_when_asked() {
    let (scratch, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let folder = scratch.path().join("identity");
    let (first, second) = (key(), key());
    files(&ca, &first).install(&folder, false).unwrap();
    assert!(files(&ca, &second).install(&folder, false).is_err());
    let kept = std::fs::read_to_string(folder.join("device.key")).unwrap();
    assert_eq!(kept, first.serialize_pem());
    files(&ca, &second).install(&folder, true).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("device.key")).unwrap(), second.serialize_pem());
    assert!(!scratch.path().join("identity.new").exists(), "the old key is gone");
}

#[test]
fn connections_show_the_newest_certificate_and_trust_the_newest_authorities() {
    use rustls::client::ResolvesClientCert;
    let (scratch, ca, key) = (tempfile::tempdir().unwrap(), Ca::new(), key());
    let folder = scratch.path().join("identity");
    files(&ca, &key).install(&folder, false).unwrap();
    let mut identity = Identity::load(&folder).unwrap().unwrap();
    let credentials = identity.credentials().unwrap();
    let shown = |credentials: &Credentials| credentials.resolve(&[], &[]).unwrap().cert[0].clone();
    let before = shown(&credentials);
    identity.replace_certificate(&folder, ca.certificate("cam-1", &key, 2028)).unwrap();
    assert_eq!(shown(&credentials), before);
    credentials.show(identity.tls()).unwrap();
    assert_ne!(shown(&credentials), before);
    let stranger = files(&ca, &self::key());
    let other = scratch.path().join("other");
    stranger.install(&other, false).unwrap();
    let (chain, _) = Identity::load(&other).unwrap().unwrap().tls();
    let (_, own_key) = identity.tls();
    assert!(credentials.show((chain, own_key)).is_err(), "a certificate of another key");
}

#[test]
fn a_bundle_of_cas_takes_the_place_of_those_before_or_nothing_changes() {
    let (scratch, ca, key) = (tempfile::tempdir().unwrap(), Ca::new(), key());
    let folder = scratch.path().join("identity");
    files(&ca, &key).install(&folder, false).unwrap();
    let mut identity = Identity::load(&folder).unwrap().unwrap();
    let before = std::fs::read(folder.join("ca.pem")).unwrap();
    assert_eq!(identity.authorities_sha256(), Digest::of(&before));
    let next = Ca::named("next");
    let leaf = ca.certificate("cam-1", &key, 2028);
    for bad in ["", "x", &leaf, &format!("{}{leaf}", next.0.pem()), &next.0.pem().repeat(9)] {
        assert!(identity.replace_authorities(&folder, bad.as_bytes()).is_err(), "{bad}");
        assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), before);
        assert_eq!(identity.authorities().len(), 1);
    }
    assert!(identity.is_of_newest_authority());
    let both = format!("{}{}", ca.0.pem(), next.0.pem());
    identity.replace_authorities(&folder, both.as_bytes()).unwrap();
    assert!(!identity.is_of_newest_authority(), "the newest stands last");
    let loaded = Identity::load(&folder).unwrap().unwrap();
    assert_eq!((loaded.authorities().len(), loaded.authorities_sha256()), (2, Digest::of(both.as_bytes())));
    identity.replace_certificate(&folder, next.certificate("cam-1", &key, 2028)).unwrap();
    assert!(identity.is_of_newest_authority());
}
