//! TLS on the device: who the server must be, who the device is, and by which time certificates are judged.
//!
//! The server's chain must end at a pinned CA. A certificate that is "not yet valid" is accepted: a device without a
//! clock may live before it was made, and only the CA could have made it. Expired ones are refused. Nothing here opens a
//! connection.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use tern_protocol::digest::Digest;

use crate::clock::DeviceClock;

/// The CA whose chain the server must present.
#[derive(Debug, Clone)]
pub enum Authority {
    /// One of these certificates.
    Certificates(Vec<CertificateDer<'static>>),
    /// One of those that are held now.
    Held(Credentials),
    /// The certificate with this SHA-256, which the server sends along: enrolment knows no more. What the server sent
    /// instead is put into the cell.
    Pin(Digest, Arc<OnceLock<Digest>>),
}

/// The chain and key of the device.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificates of a running agent: whom it trusts and what it shows. They change under it, and the next connection
/// uses them as they are then. Clones share them.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<RwLock<Held>>);

#[derive(Debug)]
struct Held {
    authorities: Vec<CertificateDer<'static>>,
    shown: Arc<CertifiedKey>,
}

impl Credentials {
    /// The credentials of this device.
    ///
    /// # Errors
    /// Where a CA, the certificate or the key cannot be used, or they do not belong together.
    pub fn new(authorities: Vec<CertificateDer<'static>>, identity: Identity) -> anyhow::Result<Self> {
        let shown = certified(identity)?;
        roots(&authorities, &provider()).context("a CA certificate is not usable")?;
        Ok(Self(Arc::new(RwLock::new(Held { authorities, shown }))))
    }

    /// Shows this certificate from the next connection on.
    ///
    /// # Errors
    /// As [`Credentials::new`]; nothing changes then.
    pub fn show(&self, identity: Identity) -> anyhow::Result<()> {
        let shown = certified(identity)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).shown = shown;
        Ok(())
    }

    /// Trusts these CAs from the next connection on, and no other.
    ///
    /// # Errors
    /// Where one cannot be used; nothing changes then.
    pub fn trust(&self, authorities: Vec<CertificateDer<'static>>) -> anyhow::Result<()> {
        roots(&authorities, &provider()).context("a CA certificate is not usable")?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).authorities = authorities;
        Ok(())
    }

    /// The configuration of every connection of a running agent.
    ///
    /// # Errors
    /// Where rustls refuses its own versions.
    pub fn config(&self, clock: DeviceClock) -> anyhow::Result<Arc<ClientConfig>> {
        let config = builder(Authority::Held(self.clone()), clock)?;
        Ok(finished(config.with_client_cert_resolver(Arc::new(self.clone()))))
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).authorities.clone()
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).shown.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified((chain, key): Identity) -> anyhow::Result<Arc<CertifiedKey>> {
    let certified = CertifiedKey::from_der(chain, key, &provider());
    Ok(Arc::new(certified.context("the device's certificate and key")?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration of a few connections with certificates that do not change.
///
/// # Errors
/// Where the CA, certificate or key cannot be used.
pub fn client_config(
    authority: Authority,
    identity: Option<Identity>,
    clock: DeviceClock,
) -> anyhow::Result<Arc<ClientConfig>> {
    if let Authority::Certificates(authorities) = &authority {
        roots(authorities, &provider()).context("the CA certificate is not usable")?;
    }
    let builder = builder(authority, clock)?;
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).context("the device's certificate and key")?,
        None => builder.with_no_client_auth(),
    };
    Ok(finished(config))
}

fn builder(authority: Authority, clock: DeviceClock) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let verifier = Arc::new(Verifier { authority, provider: provider() });
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(FlooredTime(clock)))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    // A resumed session would go on with the certificates of the one before.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn roots(
    authorities: &[CertificateDer<'_>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for ca in authorities {
        roots.add(ca.clone().into_owned())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| Error::General(e.to_string()))
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
#[error("the server's chain does not end at a pinned CA")]
struct CaMismatch;

fn mismatch() -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(CaMismatch))))
}

impl Verifier {
    fn authorities(&self, chain: &[CertificateDer<'_>]) -> Result<Vec<CertificateDer<'static>>, Error> {
        match &self.authority {
            Authority::Certificates(authorities) => Ok(authorities.clone()),
            Authority::Held(credentials) => Ok(credentials.authorities()),
            Authority::Pin(pin, found) => {
                let last = chain.last().ok_or_else(mismatch)?;
                let digest = Digest::of(last);
                if digest == *pin {
                    Ok(vec![last.clone().into_owned()])
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
        let authorities = self.authorities(intermediates)?;
        let start = unix_time(valid_from(std::iter::once(end_entity).chain(intermediates)));
        roots(&authorities, &self.provider)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp,
            now.max(start),
        )
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
