//! A token of many uses, one for each serial number in its list, for machines that are made before anybody knows where
//! they go.
//!
//! It pins what a token of one device pins. The server alone knows the list, and names the device in its answer.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{EnrolmentResponse, InvalidToken, of_word, word};
use crate::{
    digest::Digest,
    ids::{DeviceClass, DeviceId, Labels},
};

const PREFIX: &str = "tern-claim-1.";
/// Longest serial number, in bytes.
pub const MAX_SERIAL_BYTES: usize = 64;

/// The number that a maker gave a machine: 1 to 64 visible ASCII characters, without commas and quotes, as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

/// Text that is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a serial number has 1 to {MAX_SERIAL_BYTES} visible ASCII characters, without commas and quotes")]
pub struct InvalidSerial;

impl Serial {
    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = InvalidSerial;
    fn from_str(text: &str) -> Result<Self, InvalidSerial> {
        let good = |b: u8| b.is_ascii_graphic() && !b",\"'".contains(&b);
        let fits = (1..=MAX_SERIAL_BYTES).contains(&text.len());
        if fits && text.bytes().all(good) { Ok(Self(text.to_owned())) } else { Err(InvalidSerial) }
    }
}

impl TryFrom<String> for Serial {
    type Error = InvalidSerial;
    fn try_from(text: String) -> Result<Self, InvalidSerial> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a claim's token holds. It is a secret until the last serial is used or it has expired.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimToken {
    /// Base address of the server's HTTPS.
    pub server: String,
    /// 32 random bytes, hexadecimal; the server keeps their hash only.
    pub secret: String,
    /// SHA-256 of the CA certificate's DER, which must end the server's chain.
    pub ca_sha256: Digest,
    /// SHA-256 of the TUF root that the devices start from.
    pub root_sha256: Digest,
}

impl fmt::Debug for ClaimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimToken(at {})", self.server)
    }
}

impl ClaimToken {
    /// Whether `text` means to be one.
    pub fn is_meant(text: &str) -> bool {
        text.trim().starts_with(PREFIX)
    }

    /// The token as one word, `tern-claim-1.…`.
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

/// `POST /api/v1/claim`: the machine's half.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The machine's serial number.
    pub serial: Serial,
    /// The token's secret.
    pub secret: String,
    /// A PKCS#10 request, PEM, whose key never leaves the machine. The server takes the key from it and nothing else.
    pub csr_pem: String,
    /// The device's class.
    pub device_class: DeviceClass,
    /// Its own labels.
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
pub struct ClaimResponse {
    /// What the machine is from now on.
    pub device: DeviceId,
    /// The rest, as for a token of one device.
    #[serde(flatten)]
    pub enrolment: EnrolmentResponse,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrolment::{EnrolmentToken, MAX_TOKEN_BYTES};

    #[test]
    fn a_claims_token_survives_the_clipboard_hides_its_secret_and_is_no_other_token() {
        let token = ClaimToken {
            server: "https://localhost:8443".into(),
            secret: "5ec7e7".into(),
            ca_sha256: Digest::of(b"ca"),
            root_sha256: Digest::of(b"root"),
        };
        let text = format!(" {}\n", token.encode());
        assert!(ClaimToken::is_meant(&text));
        assert_eq!(ClaimToken::decode(&text), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("5ec7e7"));
        assert_eq!(EnrolmentToken::decode(&text), Err(InvalidToken));
        let long = format!("{PREFIX}{}", "A".repeat(MAX_TOKEN_BYTES));
        for text in ["", PREFIX, "tern-enrol-1.e30", "tern-claim-1.e30", &long] {
            assert_eq!(ClaimToken::decode(text), Err(InvalidToken), "{text}");
        }
    }

    #[test]
    fn a_serial_is_what_a_maker_prints() {
        for good in ["1", "SN-0042/a:b", &"x".repeat(MAX_SERIAL_BYTES)] {
            assert_eq!(good.parse::<Serial>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a,b", "\"a\"", "ä", "a\n", &"x".repeat(MAX_SERIAL_BYTES + 1)] {
            assert_eq!(bad.parse::<Serial>(), Err(InvalidSerial), "{bad:?}");
        }
    }
}
