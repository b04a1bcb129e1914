//! Forms about who a device is: what puts one out, and what lets it in again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::DeviceId;

/// Since when, by whom and why a device is kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// Since when.
    pub since: Timestamp,
    /// By whom: the token's name, or `server`.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// `POST /api/v1/devices/{id}/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revocation {
    /// Why; kept with the record.
    pub reason: String,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revoked {
    /// The device.
    pub device: DeviceId,
    /// Since when it is out, by whom and why; an earlier revocation stands.
    #[serde(flatten)]
    pub barred: Barred,
    /// Connections that it lost by this: MQTT and HTTPS.
    pub connections_cut: usize,
}

/// `POST /api/v1/devices/{id}/reidentify`; the answer is an [`super::EnrolmentTicket`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reidentification {
    /// Why; kept with the record.
    pub reason: String,
    /// How long the new token is good for.
    pub valid_seconds: u64,
}
