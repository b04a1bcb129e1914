//! Proposals: a role's next list while its signatures are gathered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tern_protocol::{
    digest::Digest,
    ids::{ModelVersion, TeamId},
    keys::KeyId,
};

use crate::{
    proposals::{Envelope, ProposalState, Signature},
    repository::RoleKind,
};

/// `POST /api/v1/teams/{team}/proposals`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProposalOrder {
    /// Of which of the team's lists.
    #[serde(default)]
    pub role: RoleKind,
    /// Why; kept with the record.
    pub reason: String,
    /// The next list, with the signatures that there are already; none is fine.
    pub envelope: Envelope,
}

/// `POST /api/v1/proposals/{id}/signatures`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignatureOrder {
    /// The signatures, over exactly what is proposed.
    pub signatures: Vec<Signature>,
    /// Why it was signed although the signer's checks failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_reason: Option<String>,
}

/// `POST /api/v1/proposals/{id}/withdraw`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Why; kept with the record.
    pub reason: String,
}

/// A signature that a proposal has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalSignature {
    /// The key.
    pub keyid: KeyId,
    /// The signature, hexadecimal.
    pub sig: String,
    /// Who sent it: the token's name.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why it was signed although the signer's checks failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_reason: Option<String>,
}

/// What a proposed list changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListChange {
    /// Versions that it lists anew.
    #[serde(default)]
    pub adds: Vec<ModelVersion>,
    /// Versions that it lists no more.
    #[serde(default)]
    pub removes: Vec<ModelVersion>,
    /// Versions that may run no more because of it, with the reasons.
    #[serde(default)]
    pub recalls: Vec<(ModelVersion, String)>,
    /// Floors that it raises: the lowest version that may run.
    #[serde(default)]
    pub floors: Vec<ModelVersion>,
}

/// `GET /api/v1/proposals` (`?team=`): newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalRow {
    /// Its number.
    pub id: i64,
    /// Whose list.
    pub team: TeamId,
    /// Which of its lists.
    pub role: RoleKind,
    /// The version that the list will have.
    pub version: u64,
    /// SHA-256 of the bytes that are signed.
    pub digest: Digest,
    /// What it changes.
    pub change: ListChange,
    /// Who made it: the token's name.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created: Timestamp,
    /// Where it stands.
    pub state: ProposalState,
    /// The signatures so far.
    pub signatures: Vec<ProposalSignature>,
    /// How many are needed.
    pub threshold: u64,
    /// What is still missing, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants: Option<String>,
    /// Why it cannot be published as it stands, whoever signs it, for people; none where nothing hinders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// By whom, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_why: Option<String>,
}

/// `GET /api/v1/proposals/{id}`; also the answer to whatever changes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalDetail {
    /// The row of the list.
    #[serde(flatten)]
    pub row: ProposalRow,
    /// What is signed; none once it is over.
    pub signed: Option<Value>,
}
