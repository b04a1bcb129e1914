//! Reads a verified client certificate's name, key and end, and names the reason of a failed handshake.
//!
//! It never decides trust: that is the TLS verifier's part.

use std::io;
use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tern_protocol::digest::Digest;
use x509_parser::parse_x509_certificate;

use super::Refusal;

/// The longest name that fits X.520's bound on a common name.
const NAME_BYTES: usize = 64;

/// What the front takes from a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) name: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) key_sha256: Digest,
    pub(super) not_after: SystemTime,
}

/// Returns the only common name of `certificate`, its key's digest and its end.
///
/// # Errors
/// [`Refusal::BadName`] unless there is exactly one name, of 1 to 64 visible ASCII characters without MQTT's own
/// `/ + # $`.
pub(super) fn holder(certificate: &CertificateDer<'_>) -> Result<Holder, Refusal> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| Refusal::BadName)?;
    let mut names = parsed.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else { return Err(Refusal::BadName) };
    let name = name.as_str().map_err(|_| Refusal::BadName)?;
    let usable = |byte: u8| byte.is_ascii_graphic() && !b"/+#$".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(usable) {
        return Err(Refusal::BadName);
    }
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Holder {
        name: name.to_owned(),
        key_sha256: Digest::of(parsed.public_key().raw),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    })
}

/// Names the reason why a TLS handshake failed.
pub(super) fn handshake_refusal(failure: &io::Error) -> Refusal {
    use CertificateError as Certificate;
    match failure.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Refusal::NoCertificate,
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. } => Refusal::ExpiredCertificate,
            Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => Refusal::WrongPurpose,
            _ => Refusal::UntrustedCertificate,
        },
        _ => Refusal::Handshake,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        certificate_of(names, &KeyPair::generate().unwrap())
    }

    fn certificate_of(names: &[&str], key: &KeyPair) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        params.self_signed(key).unwrap().der().clone()
    }

    #[test]
    fn the_only_common_name_the_key_and_the_end_are_read() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(2_524_608_000);
        let key = KeyPair::generate().unwrap();
        let key_sha256 = Digest::of(&key.subject_public_key_info());
        let read = holder(&certificate_of(&["cam-1"], &key));
        assert_eq!(read, Ok(Holder { name: "cam-1".into(), key_sha256, not_after: end }));
    }

    #[test]
    fn a_name_that_cannot_be_a_client_id_is_refused() {
        for bad in ["", " ", "a/b", "+", "#", "$probe", "a\0b", "ümlaut", &"x".repeat(65)] {
            assert_eq!(holder(&certificate(&[bad])), Err(Refusal::BadName), "{bad:?}");
        }
        assert_eq!(holder(&certificate(&[])), Err(Refusal::BadName));
        assert_eq!(holder(&CertificateDer::from(vec![0x30, 0x03, 1, 2])), Err(Refusal::BadName));
    }
}
