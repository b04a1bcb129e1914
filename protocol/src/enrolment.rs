//! The one-time token that turns a machine into a device, and what is said over the wire when it is used; `claim`: a token
//! for a list of machines.
//!
//! The token pins the server's CA and the TUF root by hash, so nothing is trusted on first use.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    digest::Digest,
    ids::{DeviceClass, DeviceId, FleetId, Labels},
};

mod claim;

pub use claim::{ClaimRequest, ClaimResponse, ClaimToken, InvalidSerial, MAX_SERIAL_BYTES, Serial};

const PREFIX: &str = "tern-enrol-1.";
/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 2048;
/// Longest certificate request or certificate, in bytes.
pub const MAX_PEM_BYTES: usize = 16 << 10;

/// What an enrolment token holds. It is a secret until it is used or has expired.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentToken {
    /// Base address of the server's HTTPS, such as `https://fleet.example:8443`.
    pub server: String,
    /// The device that the token makes.
    pub device: DeviceId,
    /// 32 random bytes, hexadecimal; the server keeps their hash only.
    pub secret: String,
    /// SHA-256 of the CA certificate's DER, which must end the server's chain.
    pub ca_sha256: Digest,
    /// SHA-256 of the TUF root that the device starts from.
    pub root_sha256: Digest,
}

impl std::fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolmentToken({} at {})", self.device, self.server)
    }
}

/// Text that is no enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an enrolment token: paste the whole line that `tern device enroll` printed")]
pub struct InvalidToken;

impl EnrolmentToken {
    /// The token as one word, `tern-enrol-1.…`.
    pub fn encode(&self) -> String {
        word(PREFIX, self)
    }

    /// The token in `text`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn decode(text: &str) -> Result<Self, InvalidToken> {
        of_word(PREFIX, text)
    }
}

/// A token as one word that survives a clipboard.
fn word(prefix: &str, token: &impl Serialize) -> String {
    let json = serde_json::to_vec(token).expect("invariant: a token holds text only");
    format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
}

/// The token in a word of this prefix.
fn of_word<T: DeserializeOwned>(prefix: &str, text: &str) -> Result<T, InvalidToken> {
    let text = text.trim();
    let body = text.strip_prefix(prefix).filter(|_| text.len() <= MAX_TOKEN_BYTES).ok_or(InvalidToken)?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(body).map_err(|_| InvalidToken)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken)
}

/// `POST /api/v1/enrol`: the device's half.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentRequest {
    /// The token's device.
    pub device: DeviceId,
    /// The token's secret.
    pub secret: String,
    /// A PKCS#10 request, PEM, whose key never leaves the device. The server takes the key from it and nothing else.
    pub csr_pem: String,
    /// The device's class.
    pub device_class: DeviceClass,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// The agent's version.
    pub agent_version: String,
    /// SHA-256 of the TUF root that the token pins, which the answer is to hold; without it, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_sha256: Option<Digest>,
}

/// The server's half.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentResponse {
    /// The fleet.
    pub fleet: FleetId,
    /// The device's certificate, PEM.
    pub certificate_pem: String,
    /// The CA, PEM.
    pub ca_pem: String,
    /// The TUF root whose hash the token pins: its bytes, base64.
    pub root_base64: String,
    /// Where MQTT is, as `host:port`.
    pub mqtt_address: String,
}

/// `POST /api/v1/renew`, over a connection with the device's certificate, which may have expired.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewalRequest {
    /// A PKCS#10 request, PEM, for the same key and of the same name.
    pub csr_pem: String,
    /// SHA-256 of each CA certificate that the device trusts: the newest that the server has makes the certificate.
    #[serde(default)]
    pub authorities: Vec<Digest>,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewalResponse {
    /// The new certificate, PEM.
    pub certificate_pem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_clipboard_and_hides_its_secret() {
        let token = EnrolmentToken {
            server: "https://localhost:8443".into(),
            device: "cam-1".parse().unwrap(),
            secret: "5ec7e7".into(),
            ca_sha256: Digest::of(b"ca"),
            root_sha256: Digest::of(b"root"),
        };
        assert_eq!(EnrolmentToken::decode(&format!(" {}\n", token.encode())), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("5ec7e7"));
        let long = format!("{PREFIX}{}", "A".repeat(MAX_TOKEN_BYTES));
        for text in ["", "tern-enrol-1.", "tern-enrol-2.e30", "tern-enrol-1.!", &long] {
            assert_eq!(EnrolmentToken::decode(text), Err(InvalidToken), "{text}");
        }
    }
}
