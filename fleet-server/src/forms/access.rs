//! Forms of tokens and of the access log.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{ModelName, TeamId, Version};

use crate::identity::Scope;

/// `GET /api/v1/accesses`: one row an access, or so many like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRow {
    /// Its number; only grows.
    pub id: i64,
    /// When; of a count, when it was closed.
    pub at: Timestamp,
    /// What `actor` names: `operator`, `device`, `stranger`.
    pub kind: String,
    /// Who: a token's name, a device, or `-`.
    pub actor: String,
    /// From where, of a stranger; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// `read-blob`, `read-manifest`, `read-sample`, `request`.
    pub action: String,
    /// What was asked for.
    pub resource: String,
    /// The model that it belongs to, where that is known.
    pub model: Option<ModelName>,
    /// The version that it belongs to, where that is known.
    pub version: Option<Version>,
    /// Why: the generation that demands it, or the route.
    pub reason: String,
    /// `granted` or `refused`.
    pub outcome: String,
    /// The code of the refusal, or empty.
    pub code: String,
    /// How often; above one, these came after the row before with the same words.
    pub times: u64,
}

/// What a token is for; what is absent is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeForm {
    /// The teams whose models it may touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<BTreeSet<TeamId>>,
    /// The devices that it may touch: a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<String>,
}

impl From<&Scope> for ScopeForm {
    fn from(scope: &Scope) -> Self {
        Self { teams: scope.teams.clone(), devices: scope.devices.as_ref().map(ToString::to_string) }
    }
}
