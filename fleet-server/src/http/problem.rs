//! Everything that the HTTPS interface refuses: a closed list, each with its status, answered as RFC 9457 problems.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use tern_protocol::api::{PROBLEM_TYPE, Problem};

use crate::store::StoreError;

macro_rules! refusals {
    ($($variant:ident = $status:literal $code:literal $title:literal;)*) => {
        /// Why a request is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = $title] $variant,)*
        }

        impl Refusal {
            /// Every refusal, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code: the last part of the problem's type.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The kind for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

refusals! {
    NotFound = 404 "not-found" "There is no such thing";
    MethodNotAllowed = 405 "method-not-allowed" "The address does not take this method";
    BadName = 400 "bad-name" "A name in the address is not valid";
    BadQuery = 400 "bad-query" "A part of the query is not valid";
    MissingToken = 401 "missing-token" "An operator's token is wanted";
    BadToken = 401 "bad-token" "The token does not count";
    ExpiredToken = 401 "expired-token" "The token has expired";
    TokenExists = 409 "token-exists" "The name was given before";
    MightierToken = 403 "mightier-token" "The token may do more than yours";
    LastAdmin = 409 "last-admin" "It is the last admin token";
    OutOfScope = 403 "out-of-scope" "The token's scope does not hold this";
    WrongRole = 403 "wrong-role" "The token's role does not allow this";
    NoCertificate = 401 "no-certificate" "A device certificate is wanted";
    UnknownDevice = 403 "unknown-device" "The device is not enrolled";
    RevokedDevice = 403 "revoked-device" "The device is revoked";
    ClonedDevice = 403 "device-cloned" "Two machines use the device's certificate";
    ExpiredCertificate = 403 "expired-certificate" "The device's certificate has expired";
    ForeignKey = 403 "foreign-key" "The request is for another key than the device's";
    ReplacedCertificate = 403 "replaced-certificate" "The device was enrolled anew with another key";
    UnknownEnrolment = 403 "unknown-enrolment" "The enrolment token does not count";
    UnknownSerial = 403 "unknown-serial" "The serial is not in the token's list";
    UsedEnrolment = 403 "used-enrolment" "The enrolment token was used";
    ExpiredEnrolment = 403 "expired-enrolment" "The enrolment token has expired";
    DeviceEnrolled = 409 "device-enrolled" "The device is in service";
    UnknownRoot = 409 "unknown-root" "The token pins another fleet's root";
    BadCsr = 422 "bad-csr" "The certificate request cannot be used";
    BadLabels = 422 "bad-labels" "The labels are too many";
    TooLarge = 413 "too-large" "The body is too large";
    SlowBody = 408 "slow-body" "The body did not come in time";
    CutBody = 400 "cut-body" "The body ended early";
    MalformedJson = 400 "malformed-json" "The body is not JSON of the wanted form";
    BadOrder = 422 "bad-order" "The order cannot be carried out";
    ManifestInvalid = 422 "manifest-invalid" "The manifest is not valid";
    VersionExists = 409 "version-exists" "The version is signed with other bytes";
    NoSpace = 507 "no-space" "The server has no room for uploads";
    UnknownBlob = 404 "unknown-blob" "No manifest names this blob";
    BlobNotDemanded = 404 "blob-not-demanded" "Nothing demanded of the device holds this";
    BlobDigest = 422 "blob-digest" "The bytes have another digest";
    BlobLength = 422 "blob-length" "The bytes have another length";
    RangeNotSatisfiable = 416 "range-not-satisfiable" "The range lies outside the blob";
    UnknownTeam = 404 "unknown-team" "There is no such team";
    MetadataMalformed = 422 "metadata-malformed" "The team metadata is malformed";
    MetadataMoved = 409 "metadata-moved" "The team metadata was published in between";
    MetadataDelegates = 422 "metadata-delegates" "The team metadata delegates";
    MetadataExpired = 422 "metadata-expired" "The team metadata is expired";
    MetadataRefused = 422 "metadata-refused" "Devices would refuse the team metadata";
    UnderThreshold = 422 "under-threshold" "Too few valid signatures";
    ForeignTarget = 422 "foreign-target" "A target is not the team's own";
    BadTrust = 422 "bad-trust" "Devices or ceremonies would refuse this root or these targets";
    ServerKeyMissing = 409 "server-key-missing" "The server lacks a key that root names";
    StandingInvalid = 422 "standing-invalid" "What the list says of its models cannot be";
    StandingLowered = 409 "standing-lowered" "A recall or a floor would be taken back";
    OwnVersion = 403 "own-version" "Nobody releases their own version alone";
    TooManyProposals = 409 "too-many-proposals" "The team has too many open proposals";
    UnknownProposal = 404 "unknown-proposal" "There is no such proposal";
    ProposalVoid = 409 "proposal-void" "The proposal's signatures are void";
    ProposalOver = 409 "proposal-over" "The proposal is over";
    ProposalExists = 409 "proposal-exists" "The same list is proposed already";
    UnknownKey = 422 "unknown-key" "A key does not count for the role";
    SignedBefore = 409 "signed-before" "One signature counts for each key";
    SignatureMismatch = 422 "signature-mismatch" "A signature is over other bytes";
    NotYours = 403 "not-yours" "Only its author or an approver may do this";
    VersionRecalled = 409 "version-recalled" "The version may run no more";
    ManifestMissing = 422 "manifest-missing" "A listed version has no such manifest here";
    ReferenceUnfit = 422 "reference-unfit" "A listed version has a reference profile that cannot be used";
    BlobsMissing = 422 "blobs-missing" "A listed version has blobs that are not here";
    BadSelector = 400 "bad-selector" "The selector cannot be read";
    NoDeviceMatched = 422 "no-device-matched" "The selector picks no device";
    ReaderExists = 409 "reader-exists" "There is a dashboard of this name";
    UnknownVersion = 404 "unknown-version" "There is no such version";
    VersionUnsigned = 409 "version-unsigned" "The version is not signed by its team";
    ModelNameTaken = 409 "model-name-taken" "A device has a model of this name from another team";
    TooManyModels = 409 "too-many-models" "A device would have too many models";
    TooManyStreams = 503 "too-many-streams" "Too many follow the events already";
    RolloutActive = 409 "rollout-active" "The model has a rollout that is under way";
    BadPolicy = 422 "bad-policy" "The terms of the rollout cannot be used";
    BadKey = 400 "bad-idempotency-key" "The Idempotency-Key is not valid";
    KeyReused = 422 "idempotency-key-reused" "The Idempotency-Key came before with another request";
    RolloutMoved = 409 "rollout-moved" "The rollout has moved in between";
    NotNow = 409 "rollout-phase" "The rollout is in a phase that does not take this";
    OwnRollout = 403 "own-rollout" "Nobody approves their own rollout";
    ApprovedBefore = 409 "approved-before" "One approval counts for each person";
    NeedsApproval = 409 "needs-approval" "The rollout is not approved yet";
    TooManyRequests = 429 "too-many-requests" "You ask too often";
    TimedOut = 503 "timed-out" "The server did not finish in time";
    Internal = 500 "internal" "The server failed";
}

/// A refusal with its words.
#[derive(Debug)]
pub struct Refused {
    refusal: Refusal,
    detail: String,
    retry_after: Option<Duration>,
}

/// What a handler gives.
pub type Answer<T> = Result<T, Refused>;

impl Refused {
    /// A refusal; `detail` says what is wrong and what to do.
    pub fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self { refusal, detail: detail.into(), retry_after: None }
    }

    /// The same, to whoever may ask again after so long.
    #[must_use]
    pub fn again_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Whether it is this refusal.
    pub fn is(&self, refusal: Refusal) -> bool {
        self.refusal == refusal
    }

    /// What is wrong and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The server's own failure: logged whole, answered without particulars.
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "a request failed");
        Self::new(Refusal::Internal, "the server's log says why; try again later")
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::internal(&error.into())
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::internal(&error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let refusal = self.refusal;
        let problem = Problem::new(refusal.status(), refusal.code(), refusal.title(), self.detail);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        if refusal.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the layer that counts: it sees responses only.
        response.extensions_mut().insert(refusal);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index);
            assert!((400..=599).contains(&refusal.status()), "{}", refusal.code());
        }
    }
}
