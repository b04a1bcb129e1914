//! Forms that `tern` and the server exchange on `/api/v1`: JSON, additive, readers ignore what they do not know.

mod access;
mod identity;
pub mod incident;
pub mod proposals;
pub mod rollouts;
mod telemetry;
pub mod trust;

use std::collections::BTreeMap;

use crate::{
    devices::{Refusal, refusals},
    readers::ReaderName,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    digest::Digest,
    ids::{ByteCount, DeviceClass, DeviceId, FleetId, Generation, Labels, ModelName, ModelVersion, Version},
    twin::{LastError, ModelTwin},
};

pub use access::{AccessRow, ScopeForm, TokenIssued, TokenOrder, TokenRow};
pub use identity::{Barred, ClaimOrder, ClaimTicket, ClaimedDevice, Reidentification, Revocation, Revoked};
pub use telemetry::{EstimatedAccuracy, FeatureRow, FiguresRow, QuarantineRow, WindowRow};

/// `GET /api/v1/whoami`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The token's name.
    pub name: String,
    /// Its role: `viewer`, `publisher`, `approver`, `operator`, `auditor`, `admin`.
    pub role: String,
    /// What of the fleet it is for.
    #[serde(default)]
    pub scope: ScopeForm,
    /// The fleet that the server serves.
    pub fleet: FleetId,
    /// The server's version.
    pub server_version: String,
    /// Whether keys that lie on the server suffice for root or targets.
    pub solo: bool,
}

/// `GET /api/v1/trust`: what is published, for whoever makes a rescue ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustVersions {
    /// How many of root's keys must sign what root signs.
    pub root_threshold: usize,
    /// The version of every TUF role, by its name.
    pub roles: BTreeMap<String, u64>,
}

/// A page of a list. `next` is the `cursor` of the following page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the list goes on, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /api/v1/models`: one row a version. `GET /api/v1/models/{team}/{model}`: those of one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionRow {
    /// Model and version.
    pub model: ModelVersion,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// Bytes of its files together.
    pub bytes: ByteCount,
    /// When it was published.
    pub published: Timestamp,
    /// By whom: the token's name.
    pub published_by: String,
    /// Whether the team's signed metadata lists it: only then can it be assigned.
    pub signed: bool,
    /// On how many devices it answers, by their twins.
    pub devices: u64,
    /// Whether the team's list of candidates names it: devices may opt in to run it.
    #[serde(default)]
    pub candidate: bool,
    /// Why it may run no more, where its team recalled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled: Option<String>,
    /// The lowest version that its team lets run, where this one lies below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
}

/// `GET /api/v1/models/{team}/{model}/{version}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionDetail {
    /// The row of the list.
    #[serde(flatten)]
    pub row: VersionRow,
    /// The whole manifest.
    pub manifest_json: serde_json::Value,
}

/// `PUT /api/v1/manifests/{team}/{model}/{version}`, body: the manifest's bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestStored {
    /// SHA-256 of the bytes.
    pub manifest: Digest,
    /// Blobs that must be uploaded before the version can be signed.
    pub missing_blobs: Vec<Digest>,
}

/// `GET /api/v1/teams/{team}/metadata`: the team's TUF role as it stands, or the start of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TeamMetadata {
    /// The version that the next signed metadata must carry.
    pub next_version: u64,
    /// The present `signed` part; none where the team has signed nothing.
    pub signed: Option<serde_json::Value>,
    /// The signatures over it, so that the next signer sees who vouched for what is there.
    #[serde(default)]
    pub signatures: Vec<TeamSignature>,
    /// The keys that count for the next one.
    #[serde(default)]
    pub keys: Vec<tern_protocol::keys::KeyId>,
    /// When the next one should expire.
    pub expires: Timestamp,
}

/// One signature over a team's metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TeamSignature {
    /// The key.
    pub keyid: tern_protocol::keys::KeyId,
    /// The signature, hexadecimal.
    pub sig: String,
}

/// `POST /api/v1/enrolments`; with `?replace=true` also for a device that is in service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentOrder {
    /// The device to be.
    pub device: DeviceId,
    /// Labels that the operator gives it, over those that it brings.
    #[serde(default)]
    pub labels: Labels,
    /// How long the token is good for.
    pub valid_seconds: u64,
}

/// The answer: shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentTicket {
    /// The one-time token.
    pub token: String,
    /// The line to run on the device.
    pub command: String,
    /// When the token goes stale.
    pub expires: Timestamp,
}

/// `GET /api/v1/devices` (`?selector=`), and `GET /api/v1/devices/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The device.
    pub device: DeviceId,
    /// Whether its last status says online.
    pub online: bool,
    /// When the server last heard of it.
    pub last_seen: Option<Timestamp>,
    /// Its class.
    pub device_class: DeviceClass,
    /// Its labels.
    pub labels: Labels,
    /// The agent's version.
    pub agent_version: String,
    /// The generation that the server demands.
    pub desired_generation: Generation,
    /// What the server demands.
    pub desired: Vec<ModelVersion>,
    /// The generation that the twin reports.
    pub generation: Generation,
    /// The twin's models.
    pub models: Vec<ModelTwin>,
    /// The twin's newest refusal that concerns no single model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
    /// Where an operator put it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Barred>,
    /// Where two machines live on its certificate, which keeps both out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned: Option<Barred>,
}

impl DeviceRow {
    /// Why the device is kept out, in a word; none where it is in service.
    pub fn kept_out(&self) -> Option<(&'static str, &Barred)> {
        let revoked = self.revoked.as_ref().map(|barred| ("revoked", barred));
        revoked.or_else(|| self.cloned.as_ref().map(|barred| ("cloned", barred)))
    }

    /// Every refusal that the twin shows.
    pub fn refusals(&self) -> impl Iterator<Item = Refusal<'_>> {
        refusals(&self.models, self.last_error.as_ref(), self.generation, self.desired_generation)
    }
}

/// `POST /api/v1/readers`: a dashboard to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderOrder {
    /// Its name.
    pub name: ReaderName,
    /// The certificate request, of which only the key counts.
    pub csr_pem: String,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderIssued {
    /// Its name.
    pub name: ReaderName,
    /// The MQTT client id that it must use: its certificate's common name.
    pub client_id: String,
    /// The fleet, a part of every topic.
    pub fleet: FleetId,
    /// Its certificate.
    pub certificate_pem: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// When its certificate ends.
    pub expires: Timestamp,
    /// Where MQTT is, `host:port`.
    pub mqtt_address: String,
}

/// `GET /api/v1/readers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderRow {
    /// Its name.
    pub name: ReaderName,
    /// When it was added.
    pub created: Timestamp,
    /// By whom: the token's name.
    pub created_by: String,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
}

/// `POST /api/v1/assignments`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub model: ModelVersion,
    /// On which devices, such as `site=hall-2,class!=old`; `*` for all.
    pub selector: String,
    /// Why; kept with the record.
    pub reason: String,
    /// What the version must survive; the default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<tern_protocol::desired::Probation>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assigned {
    /// The new generation of each device.
    pub devices: BTreeMap<DeviceId, Generation>,
}

/// `GET /api/v1/events` (`?after=`): what happened in the fleet, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number.
    pub id: i64,
    /// When the server saw it.
    pub at: Timestamp,
    /// What: `device-enrolled`, `device-online`, `device-refused`, `version-published`, `assigned`, `front-refused`, …
    pub kind: String,
    /// Who did it: a token's name, a device, or `server`.
    pub actor: String,
    /// The device it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The model it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// The version it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The code of what was refused, or empty.
    pub code: String,
    /// The same for people.
    pub message: String,
}
