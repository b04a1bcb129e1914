//! TLS on the device: who the server must be, who the device is, and by which time certificates are judged.
//!
//! The server's chain must end at the pinned CA. A certificate that is "not yet valid" is accepted: a device without a
//! clock may live before it was made, and only the CA could have made it. Expired ones are refused. Nothing here opens a
//! connection.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};
use tern_protocol::digest::Digest;

use crate::clock::DeviceClock;

/// The CA whose chain the server must present.
#[derive(Debug, Clone)]
pub enum Authority {
    /// This certificate.
    Certificate(CertificateDer<'static>),
    /// The certificate with this SHA-256, which the server sends along: enrolment knows no more. What the server sent
    /// instead is put into the cell.
    Pin(Digest, Arc<OnceLock<Digest>>),
}

/// The chain and key of the device.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The configuration of every connection to the server.
///
/// # Errors
/// Where the CA, certificate or key cannot be used.
pub fn client_config(
    authority: Authority,
    identity: Option<Identity>,
    clock: DeviceClock,
) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier { authority, provider: provider.clone() });
    if let Authority::Certificate(ca) = &verifier.authority {
        verifier.roots(ca).context("the CA certificate is not usable")?;
    }
    let builder = ClientConfig::builder_with_details(provider, Arc::new(FlooredTime(clock)))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).context("the device's certificate and key")?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct FlooredTime(DeviceClock);

impl TimeProvider for FlooredTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now().as_second()))
    }
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[derive(Debug)]
struct Verifier {
    authority: Authority,
    provider: Arc<CryptoProvider>,
}

/// The server's chain does not end at the pinned CA.
#[derive(Debug, thiserror::Error)]
#[error("the server's chain does not end at the pinned CA")]
struct CaMismatch;

fn mismatch() -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(CaMismatch))))
}

impl Verifier {
    fn roots(&self, ca: &CertificateDer<'_>) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))
    }

    fn ca<'a>(&'a self, chain: &'a [CertificateDer<'a>]) -> Result<&'a CertificateDer<'a>, Error> {
        match &self.authority {
            Authority::Certificate(ca) => Ok(ca),
            Authority::Pin(pin, found) => {
                let last = chain.last().ok_or_else(mismatch)?;
                let digest = Digest::of(last);
                if digest == *pin {
                    Ok(last)
                } else {
                    found.get_or_init(|| digest);
                    Err(mismatch())
                }
            }
        }
    }
}

/// The latest moment from which all of these are valid, in seconds.
fn valid_from<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'a>>) -> i64 {
    let starts = certificates.filter_map(|der| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(parsed.validity().not_before.timestamp())
    });
    starts.max().unwrap_or(0)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = self.ca(intermediates)?;
        let start = unix_time(valid_from(std::iter::once(end_entity).chain(intermediates)));
        self.roots(ca)?.verify_server_cert(end_entity, intermediates, server_name, ocsp, now.max(start))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
