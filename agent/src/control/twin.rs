//! What the device says of itself: the twin for the server, the page for `tern-agent status`.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{DeviceId, FleetId, ModelName},
    twin::{ModelTwin, Twin},
};

use super::Control;
use crate::{install::Machine, outbox::OutboxPage, sources::SourcePage};

/// The answer to `tern-agent status --json`. Members are added over time and keep their meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusPage {
    /// The agent's version.
    pub agent_version: String,
    /// The device.
    pub device: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// Random identity of this start.
    pub boot: String,
    /// When the agent started, by the device's clock.
    pub since: Timestamp,
    /// The device's time, and the floor below it.
    pub time: (Timestamp, Timestamp),
    /// The process id of control.
    pub pid: u32,
    /// The worker.
    pub worker: WorkerPage,
    /// The session with the server.
    pub link: LinkPage,
    /// Why installs are refused altogether, if they are.
    pub fault: Option<String>,
    /// Where the inference API is.
    pub infer_socket: PathBuf,
    /// The same on loopback TCP.
    pub infer_tcp: Option<std::net::SocketAddr>,
    /// The twin as the server sees it.
    pub twin: Twin,
    /// Inferences answered and failed since the start, by model.
    pub inferences: BTreeMap<ModelName, Tally>,
    /// Refusals since the start, by code.
    pub refusals: BTreeMap<String, u64>,
    /// What is counted, and how much of it the server has.
    #[serde(default)]
    pub outbox: OutboxPage,
    /// Increments of the worker, or parts of them, that were not believed since the start.
    #[serde(default)]
    pub poisoned: u64,
    /// Who is asked for manifests and blobs, in order; the server comes last.
    #[serde(default)]
    pub sources: Vec<SourcePage>,
    /// How often a timestamp came under the version of another one since the start: somebody signs who should not.
    #[serde(default)]
    pub equivocations: u64,
}

/// What a model did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Inferences answered.
    pub answered: u64,
    /// Requests that failed, for any reason.
    pub failed: u64,
}

/// The worker, for people.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkerPage {
    /// Its process; none while there is none.
    pub pid: Option<u32>,
    /// How often it died since the start.
    pub deaths: u64,
    /// How it died last.
    pub last_death: Option<String>,
    /// What the kernel lacks of its sandbox.
    pub lacking: Vec<String>,
}

/// The session, for people.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LinkPage {
    /// Whether there is one.
    pub connected: bool,
    /// Since when it stands or is missing.
    pub since: Option<Timestamp>,
    /// Why it broke last.
    pub last_error: Option<String>,
}

impl Control {
    /// The twin, as things stand.
    pub(super) fn twin(&self) -> Twin {
        Twin {
            generation: self.store.read(|s| s.generation()),
            models: self.machines.iter().map(|(name, machine)| model_twin(name, machine)).collect(),
            device_class: self.config.device_class.clone(),
            labels: self.config.labels.clone(),
            agent_version: self.agent.to_string(),
            last_error: self.last_error.clone(),
        }
    }

    /// Hands the twin to the link where it has changed.
    pub(super) fn publish_twin(&self) {
        let bytes = match serde_json::to_vec(&self.twin()) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => return tracing::error!(%error, "the twin cannot be written"),
        };
        self.twin_out.send_if_modified(|known| {
            let changed = *known != bytes;
            *known = bytes;
            changed
        });
    }

    /// The page for `tern-agent status`.
    pub(super) fn page(&self) -> StatusPage {
        StatusPage {
            agent_version: self.agent.to_string(),
            device: self.enrolment.device.clone(),
            fleet: self.enrolment.fleet.clone(),
            boot: self.boot.clone(),
            since: self.since,
            time: (self.clock.now(), self.clock.floor()),
            pid: std::process::id(),
            worker: self.worker.page(),
            link: self.link.clone(),
            fault: self.store.fault().map(|f| f.to_string()),
            infer_socket: self.config.infer_socket(),
            infer_tcp: self.infer_tcp,
            twin: self.twin(),
            inferences: self.tallies.clone(),
            outbox: self.telemetry.outbox.page(),
            poisoned: self.telemetry.machine.poisoned(),
            sources: self.installer.trust.sources(),
            equivocations: self.installer.trust.equivocations(),
            refusals: self.refusals.iter().map(|(code, n)| (code.to_string(), *n)).collect(),
        }
    }
}

fn model_twin(name: &ModelName, machine: &Machine) -> ModelTwin {
    let record = machine.record();
    let answers = machine.answering().or(record.active.as_ref());
    ModelTwin {
        model: name.clone(),
        version: answers.map(|v| v.version.clone()),
        digest: answers.map(|v| v.manifest),
        state: record.state,
        desired: record.desired.as_ref().map(|d| d.version.clone()),
        generation: record.generation,
        since: record.since,
        last_error: record.last_error.clone(),
    }
}
