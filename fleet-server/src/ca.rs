//! The fleet's own certificate authority: ECDSA P-256, one self-signed root, leaves for the server and its devices.
//!
//! From a device's request it takes the public key and nothing else: name, purpose and dates are the server's. Never:
//! the decision who may have a certificate, the clock (time comes as an argument).

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tern_protocol::{digest::Digest, enrolment::MAX_PEM_BYTES, ids::DeviceId};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, ParsedExtension},
};

pub mod rotation;
mod verifier;

use verifier::ClientVerifier;

use crate::{
    disk::{self, Access},
    identity,
};

/// Life of the authority's own certificate.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);
/// Life of the server's certificate; it is made anew at each start and when half of it is gone.
pub const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Life of a device's or a reader's certificate.
pub const DEVICE_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Clocks may be behind by so much, and by a tenth of a life that is short.
const SLACK: SignedDuration = SignedDuration::from_hours(24);
/// Longest certificate or key file of the authority, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefusal {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("certificate request of {0} bytes is over the limit")]
    TooLarge(usize),
    /// No PKCS#10 request, or its signature is not by its own key.
    #[error("certificate request cannot be used: {0}")]
    Malformed(String),
    /// Its key is of another kind.
    #[error("certificate request is for a key of another kind: make an ECDSA P-256 key")]
    WrongKey,
}

/// A certificate for a device or a reader.
#[derive(Debug, Clone)]
pub struct DeviceCertificate {
    /// The certificate.
    pub pem: String,
    /// Its end.
    pub expires: Timestamp,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_sha256: Digest,
}

/// The holder of the authority's key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// SHA-256 of the identifier of its key, which its certificates name.
    key_identifier: Option<Digest>,
    device_life: SignedDuration,
    /// Whoever comes after, while both count.
    next: Option<Box<Self>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.sha256())
    }
}

impl Authority {
    /// Makes an authority of this name and writes it to `folder` as `ca.pem` and `ca.key`.
    ///
    /// # Errors
    /// Where there is no randomness or the disk refuses.
    pub fn create(folder: &Path, name: &str, now: Timestamp) -> anyhow::Result<Self> {
        Self::create_as(folder, "ca", name, now)
    }

    fn create_as(folder: &Path, stem: &str, name: &str, now: Timestamp) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make the authority's key")?;
        let mut params = params(name, now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).context("sign the authority's certificate")?;
        disk::write(&folder.join(format!("{stem}.key")), key.serialize_pem().as_bytes(), Access::Private)?;
        disk::write(&folder.join(format!("{stem}.pem")), certificate.pem().as_bytes(), Access::Public)?;
        Self::new(&certificate.pem(), key)
    }

    /// The authority in `folder`, with the next where a rotation is under way.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or they do not belong together.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let rotated = folder.join("next.pem").exists().then(|| Self::open_as(folder, "next")).transpose()?;
        let Some(next) = rotated else { return Self::open_as(folder, "ca") };
        let key = disk::read(&folder.join("ca.key"), MAX_FILE)?;
        if key == disk::read(&folder.join("next.key"), MAX_FILE)? {
            // The old one was being retired.
            return Ok(next);
        }
        Ok(Self { next: Some(Box::new(next)), ..Self::open_as(folder, "ca")? })
    }

    fn open_as(folder: &Path, stem: &str) -> anyhow::Result<Self> {
        let text = |kind: &str| {
            let path = folder.join(format!("{stem}.{kind}"));
            let bytes = disk::read(&path, MAX_FILE).with_context(|| format!("read {}", path.display()))?;
            let bytes = bytes.with_context(|| format!("{} is missing: restore it from a backup", path.display()))?;
            String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))
        };
        let key = KeyPair::from_pem(&text("key")?).context("read the authority's key")?;
        Self::new(&text("pem")?, key)
    }

    fn new(pem: &str, key: KeyPair) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context("read the authority's certificate")?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).context("read the authority's certificate")?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            bail!("ca.pem and ca.key do not belong together: restore both from one backup");
        }
        let key_identifier = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(Digest::of(identifier.0)),
            _ => None,
        });
        let issuer = Issuer::from_ca_cert_der(&certificate, key).context("use the authority's certificate")?;
        Ok(Self { issuer, certificate, pem: pem.to_owned(), key_identifier, device_life: DEVICE_LIFE, next: None })
    }

    /// The same, whose devices' certificates live so long.
    #[must_use]
    pub fn with_device_life(self, device_life: SignedDuration) -> Self {
        let next = self.next.map(|next| Box::new(next.with_device_life(device_life)));
        Self { device_life, next, ..self }
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its DER, which enrolment tokens pin.
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The certificate for the key in a device's request.
    ///
    /// # Errors
    /// [`CsrRefusal`]; nothing was signed.
    pub fn certify(&self, device: &DeviceId, csr_pem: &str, now: Timestamp) -> Result<DeviceCertificate, CsrRefusal> {
        self.certify_client(device.as_str(), csr_pem, now)
    }

    /// The certificate of a client of this common name, for the key in its request.
    ///
    /// # Errors
    /// [`CsrRefusal`]; nothing was signed.
    pub fn certify_client(&self, name: &str, csr_pem: &str, now: Timestamp) -> Result<DeviceCertificate, CsrRefusal> {
        if csr_pem.len() > MAX_PEM_BYTES {
            return Err(CsrRefusal::TooLarge(csr_pem.len()));
        }
        let malformed = |e: rcgen::Error| CsrRefusal::Malformed(e.to_string());
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(malformed)?;
        if *PublicKeyData::algorithm(&request.public_key) != PKCS_ECDSA_P256_SHA256 {
            return Err(CsrRefusal::WrongKey);
        }
        let life = self.device_life;
        let mut params = params(name, now, life).map_err(|e| CsrRefusal::Malformed(e.to_string()))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(malformed)?;
        let key_sha256 = Digest::of(&request.public_key.subject_public_key_info());
        Ok(DeviceCertificate { pem: certificate.pem(), expires: end(now, life), key_sha256 })
    }

    /// What the HTTPS listener speaks TLS with: a client certificate is asked for, may be absent, and may have expired:
    /// with one that has, a device may ask for its renewal and nothing else, which the routes see to.
    ///
    /// # Errors
    /// Where a name is none that a certificate can carry.
    pub fn https(&self, names: &[String], now: Timestamp) -> anyhow::Result<Arc<ServerConfig>> {
        let mut config = self.server_config(names, true, now)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What the MQTT front speaks TLS with: a client certificate is mandatory.
    ///
    /// # Errors
    /// Where a name is none that a certificate can carry.
    pub fn mqtt(&self, names: &[String], now: Timestamp) -> anyhow::Result<Arc<ServerConfig>> {
        Ok(Arc::new(self.server_config(names, false, now)?))
    }

    fn server_config(&self, names: &[String], may_be_absent: bool, now: Timestamp) -> anyhow::Result<ServerConfig> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make the server's key")?;
        let mut params = params("tern-server", now, SERVER_LIFE)?;
        params.subject_alt_names = CertificateParams::new(names).context("use the server's names")?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &self.issuer).context("sign the server's certificate")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in std::iter::once(self).chain(self.next.as_deref()) {
            roots.add(authority.certificate.clone()).context("trust the authority")?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = if may_be_absent { verifier.allow_unauthenticated() } else { verifier };
        let verifier = verifier.build().context("verify client certificates")?;
        let verifier = Arc::new(ClientVerifier { inner: verifier, lets_expired_in: may_be_absent });
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone(), self.certificate.clone()], private)
            .context("use the server's certificate")?;
        // A resumed session would show the certificate of the one before: a renewed device would look expired.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// The only common name in a certificate request; none where it has none or several.
///
/// # Errors
/// [`CsrRefusal`].
pub fn requested_name(csr_pem: &str) -> Result<Option<String>, CsrRefusal> {
    if csr_pem.len() > MAX_PEM_BYTES {
        return Err(CsrRefusal::TooLarge(csr_pem.len()));
    }
    let malformed = |_| CsrRefusal::Malformed("it is no PKCS#10 request".into());
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|e| malformed(e.to_string()))?;
    let request = X509CertificationRequest::from_der(&pem.contents);
    let (_, request) = request.map_err(|e| malformed(e.to_string()))?;
    let mut names = request.certification_request_info.subject.iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else { return Ok(None) };
    Ok(name.as_str().ok().map(ToOwned::to_owned))
}

/// The holder of a verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its only common name, where that is a device's.
    pub device: DeviceId,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_sha256: Digest,
    /// The certificate's end, which may have passed.
    pub not_after: Timestamp,
    /// SHA-256 of the identifier of the key that signed it, where it names one.
    pub issuer_key: Option<Digest>,
}

impl Holder {
    /// Whether the certificate has ended at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after <= now
    }

    /// Who holds `certificate`, which TLS has verified; none where its name is no device's.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let mut names = parsed.subject().iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else { return None };
        Some(Self {
            device: name.as_str().ok()?.parse().ok()?,
            key_sha256: Digest::of(parsed.public_key().raw),
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
            issuer_key: parsed
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
                    _ => None,
                })
                .map(|identifier| Digest::of(identifier.0)),
        })
    }
}

fn params(name: &str, now: Timestamp, life: SignedDuration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let seconds = |at: Timestamp| std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let slack = SLACK.min(life / 10);
    params.not_before = epoch + seconds(now.saturating_sub(slack).unwrap_or(Timestamp::UNIX_EPOCH));
    params.not_after = epoch + seconds(end(now, life));
    // 127 random bits: positive, and never the same twice.
    let mut serial = identity::random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn end(now: Timestamp, life: SignedDuration) -> Timestamp {
    crate::director::whole_seconds(now.saturating_add(life).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn authority(folder: &Path) -> Authority {
        Authority::create(folder, "tern f", NOW.parse().unwrap()).unwrap()
    }

    fn csr(params: &CertificateParams, key: &KeyPair) -> String {
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn only_the_key_is_taken_from_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wish = CertificateParams::new(["evil.example".to_owned()]).unwrap();
        wish.distinguished_name.push(DnType::CommonName, "cam-2");
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = authority.certify(&"cam-1".parse().unwrap(), &csr(&wish, &key), NOW.parse().unwrap()).unwrap();
        let der = CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap();
        let holder = Holder::of(&der).unwrap();
        let device = "cam-1".parse().unwrap();
        let issuer_key = authority.key_identifier;
        assert!(issuer_key.is_some());
        assert_eq!(holder, Holder { device, key_sha256: made.key_sha256, not_after: made.expires, issuer_key });
        assert!(!holder.is_expired(NOW.parse().unwrap()) && holder.is_expired(made.expires));
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(parsed.validity().not_after.timestamp(), made.expires.as_second());
        parsed.verify_signature(Some(authority_key(&authority).public_key())).unwrap();
    }

    fn authority_key(authority: &Authority) -> x509_parser::certificate::X509Certificate<'_> {
        x509_parser::parse_x509_certificate(&authority.certificate).unwrap().1
    }

    #[test]
    fn requests_that_do_not_hold_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let device = "cam-1".parse().unwrap();
        let refused = |text: &str| authority.certify(&device, text, NOW.parse().unwrap()).unwrap_err();
        assert!(matches!(refused(""), CsrRefusal::Malformed(_)));
        assert!(matches!(refused(&"x".repeat(MAX_PEM_BYTES + 1)), CsrRefusal::TooLarge(_)));
        let params = CertificateParams::default();
        let good = csr(&params, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let body: String = good.lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let forged = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{forged}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(matches!(refused(&forged), CsrRefusal::Malformed(_)));
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(refused(&csr(&params, &other)), CsrRefusal::WrongKey);
    }

    #[test]
    fn an_authority_survives_its_folder_and_swapped_files_are_noticed() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = authority(a.path());
        assert_eq!(Authority::open(a.path()).unwrap().sha256(), made.sha256());
        authority(b.path());
        std::fs::copy(b.path().join("ca.pem"), a.path().join("ca.pem")).unwrap();
        assert!(Authority::open(a.path()).unwrap_err().to_string().contains("do not belong together"));
    }
}
