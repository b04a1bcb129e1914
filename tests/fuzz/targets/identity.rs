//! How a machine becomes a device: token, request, answer, certificate request; and certificates and keys by themselves.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use tern_fleet_server::ca::{Authority, CsrRefusal, Holder};
use tern_protocol::{
    digest::Digest,
    enrolment::{
        ClaimRequest, ClaimToken, EnrolmentRequest, EnrolmentResponse, EnrolmentToken, MAX_PEM_BYTES, MAX_TOKEN_BYTES,
    },
    keys::{PublicKey, SigningKey},
};

use super::{
    NOW, authorities::Authorities, key, keyfiles::KeyFiles, renewals::Renewals, telemetry::Spoken, trust::Trust,
};
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("enrolment-token", Form::Text, Pace::Call, || Box::new(Tokens { is_wrapped: true })),
        Kind::new("enrolment-token-json", Form::Json, Pace::Call, || Box::new(Tokens { is_wrapped: false })),
        Kind::new("claim-token", Form::Json, Pace::Call, || Box::new(ClaimTokens)),
        Kind::new("claim-request", Form::Json, Pace::Call, || Box::new(Spoken::<ClaimRequest>(claim(), |_, _| {}))),
        Kind::new("enrolment-request", Form::Json, Pace::Call, || {
            Box::new(Spoken::<EnrolmentRequest>(request(), |_, _| {}))
        }),
        Kind::new("enrolment-response", Form::Json, Pace::Call, || {
            Box::new(Spoken::<EnrolmentResponse>(response(), |_, _| {}))
        }),
        Kind::new("csr-pem", Form::Text, Pace::Slow, || Box::new(Requests::new(true))),
        Kind::new("csr-der", Form::Binary, Pace::Slow, || Box::new(Requests::new(false))),
        Kind::new("certificate", Form::Binary, Pace::Call, || Box::new(Certificates)),
        Kind::new("certificate-renewed", Form::Binary, Pace::Exchange, || Box::new(Renewals::new())),
        Kind::new("ca-bundle", Form::Text, Pace::Exchange, || Box::new(Authorities::new(true))),
        Kind::new("ca-bundle-der", Form::Binary, Pace::Exchange, || Box::new(Authorities::new(false))),
        Kind::new("trust-upload", Form::Json, Pace::Exchange, || Box::new(Trust::new())),
        Kind::new("private-key", Form::Binary, Pace::Call, || Box::new(PrivateKeys)),
        Kind::new("key-file", Form::Text, Pace::Slow, || Box::new(KeyFiles::new(true))),
        Kind::new("key-file-encrypted", Form::Binary, Pace::Exchange, || Box::new(KeyFiles::new(false))).within(256),
        Kind::new("public-key", Form::Json, Pace::Call, || Box::new(Spoken::<PublicKey>(public(), use_public))),
    ]
}

fn token(device: &str) -> EnrolmentToken {
    EnrolmentToken {
        server: "https://fleet.example:8443".into(),
        device: device.parse().expect("a name"),
        secret: "5e".repeat(32),
        ca_sha256: Digest::of(b"ca"),
        root_sha256: Digest::of(b"root"),
    }
}

/// Tokens as one word, and the JSON inside it by itself.
struct Tokens {
    is_wrapped: bool,
}

const PREFIX: &str = "tern-enrol-1.";

impl Target for Tokens {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        ["cam-1", "a"]
            .map(|device| {
                let bytes = match self.is_wrapped {
                    true => token(device).encode().into(),
                    false => serde_json::to_vec(&token(device)).expect("a token can be written"),
                };
                (format!("{device}.token"), bytes)
            })
            .into()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = match self.is_wrapped {
            true => String::from_utf8_lossy(input).into_owned(),
            false => format!("{PREFIX}{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(input)),
        };
        let Ok(token) = EnrolmentToken::decode(&text) else { return Verdict::Refused };
        assert!(text.trim().len() <= MAX_TOKEN_BYTES);
        let shown = [token.server.as_str(), token.device.as_str(), " at ", "EnrolmentToken"];
        let is_apart = token.secret.len() >= 8 && !shown.iter().any(|text| text.contains(&token.secret));
        assert!(!is_apart || !format!("{token:?}").contains(&token.secret), "a secret is not printed");
        let again = token.encode();
        // What JSON escapes takes more room than it took.
        assert!(again.len() > MAX_TOKEN_BYTES || EnrolmentToken::decode(&again).as_ref() == Ok(&token));
        Verdict::Accepted
    }
}

/// What is inside the tokens of lists of serials.
struct ClaimTokens;

impl Target for ClaimTokens {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let EnrolmentToken { server, secret, ca_sha256, root_sha256, .. } = token("cam-1");
        let token = ClaimToken { server, secret, ca_sha256, root_sha256 };
        vec![("list.token".into(), serde_json::to_vec(&token).expect("a token can be written"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = format!("tern-claim-1.{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(input));
        assert!(ClaimToken::is_meant(&text) && EnrolmentToken::decode(&text).is_err(), "the two kinds are told apart");
        let Ok(token) = ClaimToken::decode(&text) else { return Verdict::Refused };
        let is_apart = token.secret.len() >= 8 && !token.server.contains(&token.secret);
        assert!(!is_apart || !format!("{token:?}").contains(&token.secret), "a secret is not printed");
        let again = token.encode();
        assert!(again.len() > MAX_TOKEN_BYTES || ClaimToken::decode(&again).as_ref() == Ok(&token));
        Verdict::Accepted
    }
}

fn claim() -> Vec<(String, Vec<u8>)> {
    let request = json!({"serial": "SN-1", "secret": "5e".repeat(32), "csr_pem": csr("SN-1").pem().expect("text"),
        "device_class": "pi", "labels": {"site": "hall-2"}, "agent_version": "0.1.0"});
    vec![("request.json".into(), request.to_string().into())]
}

fn csr(name: &str) -> rcgen::CertificateSigningRequest {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = CertificateParams::new(vec!["cam-1.example".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(&key).expect("a request")
}

fn request() -> Vec<(String, Vec<u8>)> {
    let request = json!({"device": "cam-1", "secret": "5e".repeat(32), "csr_pem": csr("cam-1").pem().expect("text"),
        "device_class": "pi", "labels": {"site": "hall-2"}, "agent_version": "0.1.0"});
    vec![("request.json".into(), request.to_string().into())]
}

fn response() -> Vec<(String, Vec<u8>)> {
    let response = json!({"fleet": "f", "certificate_pem": "-----BEGIN CERTIFICATE-----\n", "ca_pem": "",
        "root_base64": BASE64_STANDARD.encode(b"{}"), "mqtt_address": "fleet.example:8883"});
    vec![("response.json".into(), response.to_string().into())]
}

/// Certificate requests, as PEM and as what is inside.
struct Requests {
    is_pem: bool,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Requests {
    fn new(is_pem: bool) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let now = NOW.parse().expect("a time");
        Self {
            is_pem,
            authority: Authority::create(folder.path(), "fuzz", now).expect("an authority"),
            _folder: folder,
        }
    }
}

impl Target for Requests {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let bytes = |csr: &rcgen::CertificateSigningRequest| match self.is_pem {
            true => csr.pem().expect("text").into(),
            false => csr.der().to_vec(),
        };
        vec![("cam-1.csr".into(), bytes(&csr("cam-1"))), ("odd.csr".into(), bytes(&csr("/../*,=é")))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = match self.is_pem {
            true => String::from_utf8_lossy(input).into_owned(),
            false => {
                let (begin, end) = ("-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----");
                format!("{begin}\n{}\n{end}\n", BASE64_STANDARD.encode(input))
            }
        };
        let device = "cam-7".parse().expect("a name");
        let made = match self.authority.certify(&device, &text, NOW.parse().expect("a time")) {
            Ok(made) => made,
            Err(refusal) => {
                assert_eq!(matches!(refusal, CsrRefusal::TooLarge(_)), text.len() > MAX_PEM_BYTES);
                return Verdict::Refused;
            }
        };
        let certificate = CertificateDer::from_pem_slice(made.pem.as_bytes()).expect("a certificate");
        let holder = Holder::of(&certificate).expect("a device's");
        assert_eq!(
            (holder.device, holder.key_sha256),
            (device, made.key_sha256),
            "name and key, and only the key is asked for"
        );
        Verdict::Accepted
    }
}

struct Certificates;

impl Target for Certificates {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut requests = Requests::new(true);
        let (_, csr) = requests.seeds().remove(0);
        let now = NOW.parse().expect("a time");
        let text = String::from_utf8(csr).expect("text");
        let made = requests.authority.certify(&"cam-1".parse().expect("a name"), &text, now).expect("a certificate");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
        vec![("cam-1.der".into(), der(&made.pem))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        Verdict::of(Holder::of(&CertificateDer::from(input)).is_some())
    }
}

struct PrivateKeys;

impl Target for PrivateKeys {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        // Version 1, and version 2 as ring writes it.
        let second = SigningKey::generate().expect("a key");
        vec![("1.pkcs8".into(), key(1).to_pkcs8().into()), ("2.pkcs8".into(), second.to_pkcs8().into())]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(key) = SigningKey::from_pkcs8(input) else { return Verdict::Refused };
        let public = key.public();
        assert!(public.verifies(b"message", &key.sign(b"message")), "a key fits its own half");
        assert!(!public.verifies(b"other", &key.sign(b"message")));
        assert_eq!(SigningKey::from_pkcs8(key.to_pkcs8()).map(|again| again.public()), Ok(public));
        Verdict::Accepted
    }
}

fn public() -> Vec<(String, Vec<u8>)> {
    vec![("1.pub".into(), serde_json::to_vec(&key(1).public()).expect("a key can be written"))]
}

fn use_public(key: &PublicKey, _: &[u8]) {
    let _ = (key.id(), key.bytes());
    assert!(!key.verifies(b"message", &[0; 64]) || key.bytes().is_ok());
}
