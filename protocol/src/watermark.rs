//! What the server has committed of a device's outbox: the payload of `watermark`.
//!
//! JSON, so that a person can read it off the wire. Readers ignore members that they do not know. It is sent after a commit
//! that took rows of the stream, new or known, and it is the truth even where it is lower than one before: a server that
//! was restored from a backup asks again for what it has lost.

use serde::{Deserialize, Serialize};

use crate::report::v1::Stream;

/// Longest watermark, in bytes.
pub const MAX_BYTES: usize = 4 << 10;

/// The payload of `watermark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The stream.
    #[serde(with = "stream_as_hex")]
    pub stream: Stream,
    /// Every row up to this one is committed; 0 for none.
    pub sequence: u64,
    /// The newest report format that the server reads.
    pub reads: u8,
}

mod stream_as_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Stream;

    pub(super) fn serialize<S: Serializer>(stream: &Stream, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(stream.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stream, D::Error> {
        let mut stream = Stream([0; 16]);
        let text = String::deserialize(deserializer)?;
        hex::decode_to_slice(text, &mut stream.0).map_err(D::Error::custom)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_has_one_spelling() {
        let watermark = Watermark { stream: Stream([0xab; 16]), sequence: 7, reads: 1 };
        let text = serde_json::to_string(&watermark).unwrap();
        assert_eq!(text, format!("{{\"stream\":\"{}\",\"sequence\":7,\"reads\":1}}", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<Watermark>(&text).unwrap(), watermark);
        assert!(serde_json::from_str::<Watermark>(&text.replace("ab", "a")).is_err());
    }
}
