//! Addresses and forms of the HTTPS interface that agent and server share.
//!
//! Device routes want a client certificate, operator routes a bearer token. What only `tern` and the server say to each
//! other is in the fleet server.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where a device enrols: `POST`, [`crate::enrolment::EnrolmentRequest`].
pub const ENROL: &str = "/api/v1/enrol";
/// Where a machine of a list enrols: `POST`, [`crate::enrolment::ClaimRequest`].
pub const CLAIM: &str = "/api/v1/claim";
/// Where a device renews its certificate: `POST`, [`crate::enrolment::RenewalRequest`]; with one that has expired, too.
pub const RENEW: &str = "/api/v1/renew";
/// Below it TUF metadata, by file name: device route.
pub const TUF_METADATA: &str = "/tuf/metadata/";
/// Below it TUF targets, by consistent-snapshot path: device route.
pub const TUF_TARGETS: &str = "/tuf/targets/";

/// The route of a blob: device route, Range allowed, only for blobs of bundles that the device's desired state names.
pub fn blob_path(digest: &Digest) -> String {
    format!("/blobs/sha256/{digest}")
}

/// The consistent-snapshot path of a target: its digest goes before the file's name.
pub fn target_path(path: &str, digest: &Digest) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{TUF_TARGETS}{folder}/{digest}.{name}"),
        None => format!("{TUF_TARGETS}{digest}.{path}"),
    }
}

/// The media type of [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// An error's body, after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI of this kind of problem: `urn:tern:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence for people: what is wrong and what to do.
    pub detail: String,
}

impl Problem {
    /// The problem with this code, such as `bad-token`.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self { kind: format!("urn:tern:{code}"), title: title.into(), status, detail: detail.into() }
    }

    /// The code: the last part of the kind.
    pub fn code(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_asked_for_by_digest() {
        let digest = Digest::of(b"");
        let path = target_path("models/demo/m/1.0.0/manifest.json", &digest);
        assert_eq!(path, format!("/tuf/targets/models/demo/m/1.0.0/{digest}.manifest.json"));
        assert_eq!(target_path("ca.pem", &digest), format!("/tuf/targets/{digest}.ca.pem"));
    }

    #[test]
    fn a_problem_keeps_its_code() {
        assert_eq!(Problem::new(401, "bad-token", "Unauthorized", "log in again").code(), "bad-token");
    }
}
