//! Whose client certificate passes TLS: chain, purpose and signature always count, its dates where they must.
//!
//! "Not yet valid" never fails: only the authority could have made it, and a server's clock may have been set back.
//! "Expired" passes where the owner asked for it; what an expired one may do is for the routes to say.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// A verifier that looks at dates last.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) lets_expired_in: bool,
}

impl ClientVerifier {
    /// The moment by which the certificate is judged: `now`, moved to where its life begins or ends.
    fn moment(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<UnixTime, Error> {
        let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(malformed)?;
        let second = |second: i64| u64::try_from(second).unwrap_or(0);
        let validity = parsed.validity();
        let (start, end) = (second(validity.not_before.timestamp()), second(validity.not_after.timestamp()));
        let moment = now.as_secs().max(start);
        let moment = if self.lets_expired_in { moment.min(end) } else { moment };
        Ok(UnixTime::since_unix_epoch(Duration::from_secs(moment)))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(end_entity, intermediates, self.moment(end_entity, now)?)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
