//! The two kinds of tokens: for one device, and for a list of serial numbers of which this machine's is one.

use tern_protocol::{
    api,
    digest::Digest,
    enrolment::{ClaimRequest, ClaimResponse, ClaimToken, EnrolmentRequest, EnrolmentResponse, EnrolmentToken, Serial},
};

use super::EnrolError;
use crate::config::Config;

/// A token, with what it takes to use it.
#[derive(Debug)]
pub(super) enum Token {
    One(EnrolmentToken),
    Listed(ClaimToken, Serial),
}

impl Token {
    pub(super) fn decode(text: &str, serial: Option<Serial>) -> Result<Self, EnrolError> {
        if ClaimToken::is_meant(text) {
            let token = ClaimToken::decode(text)?;
            return Ok(Self::Listed(token, serial.ok_or(EnrolError::NoSerial)?));
        }
        let token = EnrolmentToken::decode(text)?;
        if serial.is_some() { Err(EnrolError::NeedlessSerial) } else { Ok(Self::One(token)) }
    }

    /// By which the key is kept that was tried with it.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::One(token) => Digest::of(token.encode().as_bytes()),
            Self::Listed(token, serial) => Digest::of(format!("{serial} {}", token.encode()).as_bytes()),
        }
    }

    pub(super) fn server(&self) -> &str {
        match self {
            Self::One(token) => &token.server,
            Self::Listed(token, _) => &token.server,
        }
    }

    pub(super) fn ca_sha256(&self) -> Digest {
        match self {
            Self::One(token) => token.ca_sha256,
            Self::Listed(token, _) => token.ca_sha256,
        }
    }

    /// The name in the certificate request, which the server does not read.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::One(token) => token.device.as_str(),
            Self::Listed(_, serial) => serial.as_str(),
        }
    }

    /// Where to ask, and what.
    pub(super) fn request(
        &self,
        config: &Config,
        csr_pem: String,
    ) -> (&'static str, Result<Vec<u8>, serde_json::Error>) {
        let (device_class, labels) = (config.device_class.clone(), config.labels.clone());
        let agent_version = env!("CARGO_PKG_VERSION").to_owned();
        match self {
            Self::One(token) => {
                let (device, secret) = (token.device.clone(), token.secret.clone());
                let root_sha256 = Some(token.root_sha256);
                let request =
                    EnrolmentRequest { device, secret, csr_pem, device_class, labels, agent_version, root_sha256 };
                (api::ENROL, serde_json::to_vec(&request))
            }
            Self::Listed(token, serial) => {
                let (serial, secret) = (serial.clone(), token.secret.clone());
                let root_sha256 = Some(token.root_sha256);
                let request =
                    ClaimRequest { serial, secret, csr_pem, device_class, labels, agent_version, root_sha256 };
                (api::CLAIM, serde_json::to_vec(&request))
            }
        }
    }

    /// The answer, and the token as if it had been for that device alone.
    pub(super) fn answered(self, bytes: &[u8]) -> Result<(EnrolmentToken, EnrolmentResponse), EnrolError> {
        let bad = |error: serde_json::Error| EnrolError::BadAnswer(error.to_string());
        match self {
            Self::One(token) => Ok((token, serde_json::from_slice(bytes).map_err(bad)?)),
            Self::Listed(ClaimToken { server, secret, ca_sha256, root_sha256 }, _) => {
                let ClaimResponse { device, enrolment } = serde_json::from_slice(bytes).map_err(bad)?;
                Ok((EnrolmentToken { server, device, secret, ca_sha256, root_sha256 }, enrolment))
            }
        }
    }
}
