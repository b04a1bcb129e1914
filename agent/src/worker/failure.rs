//! Why a request gets no inference: the closed list, with the status that the client sees and the kind that is counted.

use hyper::StatusCode;
use tern_protocol::report::v1::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no such page; the inference API begins at /v2")]
    NoSuchPage,
    #[error("this page takes {0}")]
    Method(&'static str),
    #[error("no model `{0}` on this device")]
    UnknownModel(String),
    #[error("model `{model}` has no version `{version}` here; `{active}` answers")]
    UnknownVersion { model: String, version: String, active: String },
    #[error("model `{0}` is not ready")]
    NotReady(String),
    #[error("{0}")]
    Silent(String),
    #[error("the server is stopping")]
    Stopping,
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Contract(String),
    #[error("content encoding is not taken: send the body as it is")]
    Encoded,
    #[error("request body is over the limit of {0} bytes")]
    TooLarge(u64),
    #[error("request body did not come in time")]
    SlowBody,
    #[error("too many requests at once: try again later")]
    Overload,
    #[error("no answer within {0} ms")]
    Deadline(u64),
    #[error("inference failed: {0}")]
    Engine(String),
    #[error("{0}")]
    NotFinite(String),
}

impl Failure {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPage | Self::UnknownModel(_) | Self::UnknownVersion { .. } => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotReady(_) | Self::Silent(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Malformed(_) | Self::Contract(_) => StatusCode::BAD_REQUEST,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Overload => StatusCode::TOO_MANY_REQUESTS,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Engine(_) | Self::NotFinite(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What it counts as on the version that was asked; none where no version was.
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Malformed(_) | Self::Encoded | Self::TooLarge(_) | Self::SlowBody => Some(ErrorKind::BadRequest),
            Self::Contract(_) => Some(ErrorKind::Contract),
            Self::Overload => Some(ErrorKind::Overload),
            Self::Deadline(_) => Some(ErrorKind::Deadline),
            Self::Engine(_) => Some(ErrorKind::Engine),
            Self::NotFinite(_) => Some(ErrorKind::NotFinite),
            _ => None,
        }
    }

    /// Whether the connection cannot be used for another request, because the rest of this one is still on its way.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::SlowBody | Self::Stopping)
    }

    /// The label in metrics, for what concerns no version.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NoSuchPage | Self::Method(_) => "no-such-page",
            Self::UnknownModel(_) | Self::UnknownVersion { .. } => "unknown-model",
            Self::NotReady(_) | Self::Silent(_) | Self::Stopping => "not-ready",
            Self::Malformed(_) => "malformed",
            Self::Contract(_) => "contract",
            Self::Encoded => "encoded",
            Self::TooLarge(_) => "too-large",
            Self::SlowBody => "slow-body",
            Self::Overload => "overload",
            Self::Deadline(_) => "deadline",
            Self::Engine(_) => "engine",
            Self::NotFinite(_) => "not-finite",
        }
    }

    pub(super) const LABELS: [&'static str; 12] = [
        "no-such-page",
        "unknown-model",
        "not-ready",
        "malformed",
        "contract",
        "encoded",
        "too-large",
        "slow-body",
        "overload",
        "deadline",
        "engine",
        "not-finite",
    ];
}
