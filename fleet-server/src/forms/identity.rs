//! Forms about who a device is: what puts one out, and what lets it in again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    enrolment::Serial,
    ids::{DeviceId, Labels},
};

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
    /// Tokens and serials that would have let it in, and do no more.
    #[serde(default)]
    pub orders_voided: usize,
    /// Whether there was no such device, only orders for one.
    #[serde(default)]
    pub never_enrolled: bool,
}

/// `POST /api/v1/devices/{id}/reidentify`; the answer is an [`super::EnrolmentTicket`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reidentification {
    /// Why; kept with the record.
    pub reason: String,
    /// How long the new token is good for.
    pub valid_seconds: u64,
}

/// `POST /api/v1/claims`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimOrder {
    /// The machines; no serial and no device twice.
    pub devices: Vec<ClaimedDevice>,
    /// How long the token is good for.
    pub valid_seconds: u64,
}

/// A machine of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedDevice {
    /// Its serial number.
    pub serial: Serial,
    /// What it will be.
    pub device: DeviceId,
    /// Labels that go over those that it brings.
    #[serde(default)]
    pub labels: Labels,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimTicket {
    /// The token. It is shown only here.
    pub token: String,
    /// The line to run on each machine, with its own serial.
    pub command: String,
    /// When the token goes stale.
    pub expires: Timestamp,
    /// For how many machines it is.
    pub devices: usize,
}
