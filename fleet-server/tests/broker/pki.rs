//! A certificate authority for tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// What sets one leaf apart from another.
#[derive(Clone)]
pub(crate) struct Made<'a> {
    pub(crate) name: &'a str,
    pub(crate) purpose: ExtendedKeyUsagePurpose,
    pub(crate) last_year: i32,
}

impl<'a> Made<'a> {
    pub(crate) fn client(name: &'a str) -> Made<'a> {
        Made { name, purpose: ExtendedKeyUsagePurpose::ClientAuth, last_year: 2090 }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named("test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn leaf(&self, made: Made<'_>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.distinguished_name = named(made.name);
        params.extended_key_usages = vec![made.purpose];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(made.last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let leaf = self.leaf(Made { purpose: ExtendedKeyUsagePurpose::ServerAuth, ..Made::client("server") });
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.certificate], leaf.key)
            .unwrap();
        Arc::new(config)
    }

    /// A client that trusts this authority and shows `leaf`, if any.
    pub(crate) fn client(&self, leaf: Option<Leaf>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        match leaf {
            Some(leaf) => builder.with_client_auth_cert(vec![leaf.certificate], leaf.key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}
