//! What a server answers to a device that asks for a new certificate, and what the device's folder is like afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use tern_agent::identity::{Enrolment, Files, Identity};
use tern_protocol::digest::Digest;

use super::key;
use crate::target::{Target, Verdict};

/// The identity of a device whose key is the same everywhere, and certificates for it.
pub(super) struct Renewals {
    identity: Identity,
    folder: PathBuf,
    original: String,
    _scratch: tempfile::TempDir,
}

fn pair(number: u8) -> KeyPair {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(key(number).to_pkcs8())).expect("a key")
}

pub(super) fn authority(number: u8) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2036, 1, 1));
    CertifiedIssuer::self_signed(params, pair(number)).expect("a CA")
}

pub(super) fn certificate(name: &str, end: i32, more: &[CustomExtension]) -> String {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(end, 1, 1));
    params.serial_number = Some(vec![1, 2, 3].into());
    params.custom_extensions = more.to_vec();
    params.signed_by(&pair(1), &authority(2)).expect("a certificate").pem()
}

pub(super) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
}

/// The identity of a device that was just enrolled, in this folder.
pub(super) fn enrolled(folder: &Path) -> Identity {
    let files = Files {
        key_pem: pair(1).serialize_pem(),
        certificate_pem: certificate("cam-1", 2027, &[]),
        ca_pem: authority(2).pem(),
        enrolment: Enrolment {
            format: 1,
            device: "cam-1".parse().expect("a name"),
            fleet: "f".parse().expect("a name"),
            server: "https://localhost:1".into(),
            mqtt_address: "localhost:2".into(),
            root_sha256: Digest::of(b"root"),
            root_base64: BASE64_STANDARD.encode(b"root"),
        },
    };
    files.install(folder, false).expect("an identity");
    Identity::load(folder).expect("a readable folder").expect("an identity")
}

impl Renewals {
    pub(super) fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folder = scratch.path().join("identity");
        let identity = enrolled(&folder);
        let original = certificate("cam-1", 2027, &[]);
        Self { identity, folder, original, _scratch: scratch }
    }

    fn written(&self) -> Vec<u8> {
        fs::read(self.folder.join("device.pem")).expect("a certificate")
    }
}

impl Target for Renewals {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut critical = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        critical.set_criticality(true);
        let der = |pem: String| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
        vec![
            ("renewed.der".into(), der(certificate("cam-1", 2028, &[]))),
            ("over.der".into(), der(certificate("cam-1", 2026, &[]))),
            ("refused-other.der".into(), der(certificate("cam-2", 2028, &[]))),
            ("refused-unknown-extension.der".into(), der(certificate("cam-1", 2028, &[critical]))),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let before = self.written();
        let taken = self.identity.replace_certificate(&self.folder, pem(input)).is_ok();
        let loaded = Identity::load(&self.folder).expect("the folder can be read").expect("it is an identity");
        loaded.credentials().expect("a restarted agent can connect with it");
        assert_eq!(loaded.enrolment.device.as_str(), "cam-1");
        if !taken {
            assert!(self.written() == before, "what was refused left a trace");
            return Verdict::Refused;
        }
        let (start, end) = loaded.validity().expect("it says when it counts");
        let _ = tern_agent::renewal::due((start, end));
        self.identity.replace_certificate(&self.folder, self.original.clone()).expect("the first one still fits");
        Verdict::Accepted
    }
}
