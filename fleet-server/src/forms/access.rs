//! Forms of tokens and of the access log.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{ModelName, TeamId, Version};

use crate::{
    identity::{Scope, TokenName},
    selector::InvalidSelector,
};

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
    /// `read-blob`, `read-manifest`, `request`.
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

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenOrder {
    /// Who will hold it.
    pub name: TokenName,
    /// `viewer`, `publisher`, `approver`, `operator`, `auditor`, `admin`.
    pub role: String,
    /// What of the fleet it is for.
    #[serde(default)]
    pub scope: ScopeForm,
    /// When it ends, in seconds from now; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_seconds: Option<u64>,
}

/// The answer to a [`TokenOrder`]: the only time that the secret is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenIssued {
    /// The token itself.
    pub secret: String,
    /// What is known of it.
    #[serde(flatten)]
    pub row: TokenRow,
}

/// `GET /api/v1/tokens`: one row a token, revoked ones too; never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Who holds it.
    pub name: String,
    /// Its role.
    pub role: String,
    /// What of the fleet it is for.
    #[serde(default)]
    pub scope: ScopeForm,
    /// When it was made.
    pub created: Timestamp,
    /// By whom; absent of the one that `init` made.
    pub created_by: Option<String>,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub revoke_reason: Option<String>,
}

impl TryFrom<&ScopeForm> for Scope {
    type Error = InvalidSelector;

    fn try_from(form: &ScopeForm) -> Result<Self, InvalidSelector> {
        let devices = form.devices.as_deref().map(str::parse).transpose()?;
        Ok(Self { teams: form.teams.clone(), devices })
    }
}

impl From<&Scope> for ScopeForm {
    fn from(scope: &Scope) -> Self {
        Self { teams: scope.teams.clone(), devices: scope.devices.as_ref().map(ToString::to_string) }
    }
}
