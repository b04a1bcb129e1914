//! TLS of clients that trust what a PEM file names, and nobody else.

use std::sync::Arc;

use anyhow::Context;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A client that trusts the certificates in `pem`.
///
/// # Errors
/// Where there is none, or something else.
pub(crate) fn by_pem(pem: &[u8]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let unusable = "the CA file holds something that is no certificate";
        roots.add(certificate.ok().context(unusable)?).ok().context(unusable)?;
    }
    anyhow::ensure!(!roots.is_empty(), "the CA file holds no certificate: it must be PEM, BEGIN CERTIFICATE");
    with_roots(roots)
}

/// A client that trusts nobody: for connections without TLS.
///
/// # Errors
/// Where TLS cannot be set up at all.
pub(crate) fn by_nobody() -> anyhow::Result<ClientConfig> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(by_pem(text.as_bytes()).is_err(), "{text}");
        }
    }
}
