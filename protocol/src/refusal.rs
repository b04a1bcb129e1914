//! Why a device did not take something over: the closed list that twins, events and counters share.
//!
//! Each code stands for one error variant of the code that refuses; texts are for people and may change, codes may not.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($variant:ident = $code:literal, $doc:literal;)*) => {
        /// A code that says what was refused and why.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalCode {
            $(#[doc = $doc] $variant,)*
            /// A code that this reader does not know: the sender is newer.
            Other,
        }

        impl RefusalCode {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)* Self::Other];

            /// The code as text, as in twins and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* Self::Other => "other" }
            }

            fn from_text(text: &str) -> Self {
                match text { $($code => Self::$variant,)* _ => Self::Other }
            }
        }
    };
}

codes! {
    Signature = "signature", "A desired state's signatures do not count.";
    WrongDevice = "wrong-device", "A desired state names another device.";
    WrongFleet = "wrong-fleet", "A desired state names another fleet.";
    OldGeneration = "old-generation", "A desired state is older than one that was taken over.";
    Equivocation = "equivocation", "Two desired states carry one generation, or two timestamps one version.";
    Expired = "expired", "A desired state or TUF role has expired.";
    Malformed = "malformed", "A document is not of its form.";
    UnknownFormat = "unknown-format", "A document has a format that the agent does not know.";
    Metadata = "metadata", "TUF metadata does not verify.";
    Rollback = "rollback", "TUF metadata is older than a recorded floor.";
    FloorUnreadable = "floor-unreadable", "A recorded floor cannot be read or written: installs stop.";
    UnknownTarget = "unknown-target", "The version is not among the team's signed targets.";
    ManifestDigest = "manifest-digest", "A manifest differs from its signed digest, or from the one demanded.";
    Recalled = "recalled", "The version's team took it out of service.";
    BelowFloor = "below-floor", "The version lies below the floor that its team signed.";
    CandidateNotAllowed = "candidate-not-allowed", "The device's own configuration takes no candidate versions.";
    Manifest = "manifest", "A manifest is not valid.";
    WrongClass = "wrong-class", "The version does not allow this device class.";
    AgentTooOld = "agent-too-old", "The version needs a newer agent.";
    OverBudget = "over-budget", "The version breaks its budget on this device.";
    NoSpace = "no-space", "The disk has no room for the version.";
    BlobDigest = "blob-digest", "A blob's bytes differ from its signed digest.";
    BlobLength = "blob-length", "A blob's length differs from its signed length.";
    Fetch = "fetch", "Something could not be fetched; it is tried again.";
    LoadFailed = "load-failed", "The engine cannot load the model.";
    GoldenMismatch = "golden-mismatch", "The model's answers differ from its golden vectors.";
    ContractMismatch = "contract-mismatch", "The model's inputs or outputs differ from its contract.";
    ProbeDied = "probe-died", "The probe ended without a result.";
    SwapFailed = "swap-failed", "The worker could not take the version over.";
    ProbationFailed = "probation-failed", "The version failed on probation and was taken back.";
    AttemptsExhausted = "attempts-exhausted", "Installing was interrupted too often.";
}

impl RefusalCode {
    /// Whether trying the same thing again can end otherwise.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Fetch
                | Self::NoSpace
                | Self::FloorUnreadable
                | Self::BlobDigest
                | Self::BlobLength
                | Self::ManifestDigest
                | Self::Metadata
                | Self::Expired
        )
    }
}

// As text in every format: codes are added over time, and a number would change its meaning.
impl Serialize for RefusalCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RefusalCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from_text(&text))
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_rotted_are_worth_another_fetch() {
        for code in [RefusalCode::ManifestDigest, RefusalCode::BlobDigest, RefusalCode::BlobLength] {
            assert!(code.is_retryable(), "{code}");
        }
        for code in [RefusalCode::Manifest, RefusalCode::Rollback, RefusalCode::GoldenMismatch] {
            assert!(!code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn codes_are_unique_and_travel_as_text() {
        let mut texts = std::collections::BTreeSet::new();
        for code in RefusalCode::ALL {
            assert!(texts.insert(code.as_str()), "{code} twice");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        assert_eq!(serde_json::from_str::<RefusalCode>("\"from-the-future\"").unwrap(), RefusalCode::Other);
    }
}
