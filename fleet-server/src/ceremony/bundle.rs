//! The CA certificates that a ceremony tells devices to trust.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tern_protocol::digest::Digest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::trust::CaBundle;

/// Most certificates in a bundle.
const MAX_CERTIFICATES: usize = 8;
/// Longest bundle, in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is no PEM of certificates.
    #[error("the CA bundle holds something that is no certificate: it must be PEM, BEGIN CERTIFICATE")]
    Malformed,
    /// It holds none, or too many.
    #[error("the CA bundle holds {0} certificates: devices take 1 to {MAX_CERTIFICATES}")]
    Count(usize),
    /// A certificate is not an authority's.
    #[error("the CA bundle holds {0:?}, which is no certificate authority")]
    NoAuthority(String),
    /// It is larger than devices read.
    #[error("the CA bundle has {0} bytes: devices read {MAX_BYTES}")]
    TooLarge(usize),
}

/// What targets says of a bundle.
///
/// # Errors
/// Where devices would not take it.
pub fn check(pem: &[u8]) -> Result<CaBundle, BundleError> {
    if pem.len() > MAX_BYTES {
        return Err(BundleError::TooLarge(pem.len()));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| BundleError::Malformed)?;
    if !(1..=MAX_CERTIFICATES).contains(&certificates.len()) {
        return Err(BundleError::Count(certificates.len()));
    }
    for certificate in &certificates {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| BundleError::Malformed)?;
        if !parsed.is_ca() {
            return Err(BundleError::NoAuthority(parsed.subject().to_string()));
        }
    }
    Ok(CaBundle { length: pem.len() as u64, sha256: Digest::of(pem) })
}
