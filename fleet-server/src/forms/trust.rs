//! Root and targets on their way to the server and back.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tern_protocol::ids::FleetId;

/// What a ceremony agreed on: `PUT /api/v1/trust/metadata`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustUpload {
    /// The next root, signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Value>,
    /// The next targets, signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Value>,
}

/// What is in force: `GET /api/v1/trust/metadata`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrustNow {
    /// The fleet.
    pub fleet: FleetId,
    /// Whether keys that lie on the server suffice for root or targets.
    pub solo: bool,
    /// Every root from the first, signed.
    pub roots: Vec<Value>,
    /// Targets, signed.
    pub targets: Value,
    /// Roles of teams whose list does not count until it is signed with the keys that count now.
    pub roles_to_sign_again: Vec<String>,
}

/// The answer to a [`TrustUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustPublished {
    /// The version of root in force.
    pub root_version: u64,
    /// The version of targets in force.
    pub targets_version: u64,
    /// Whether keys that lie on the server suffice for root or targets.still.
    pub solo: bool,
    /// Roles of teams whose list does not count until it is signed with the keys that count now.
    pub roles_to_sign_again: Vec<String>,
    /// Key files in the server's data folder that count for nothing any more.
    pub useless_keys: Vec<String>,
}
