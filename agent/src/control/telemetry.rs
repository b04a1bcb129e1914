//! Control's side of telemetry: increments and events in, batches to the outbox, figures to the link.
//!
//! What counts is decided by [`Telemetry`] and kept by the outbox; here the moment is added, and what a slot stands for.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tern_protocol::{
    canonical,
    desired::Settings,
    digest::Digest,
    frames::{Increment, Slot},
    ids::{ModelName, ModelVersion},
    report::v1::{Event, EventKind},
    twin::ModelState,
    watermark::{self, Watermark},
};

use super::Control;
use crate::{
    clock::Moment,
    outbox::Outbox,
    state::{ModelRecord, VersionRef},
    telemetry::{Batch, Now, Reading, Subject, Telemetry, change},
    vitals::Vitals,
};

/// Figures of the device itself are read at most so often: each reading is a few files of `/proc`.
const FRESH: Duration = Duration::from_secs(1);
/// Longest time for the last batch when the agent leaves.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Telemetry as control holds it.
#[derive(Debug)]
pub(super) struct TelemetrySide {
    pub(super) machine: Telemetry,
    pub(super) outbox: Outbox,
    thread: Option<std::thread::JoinHandle<()>>,
    vitals: Vitals,
    read: Option<(Moment, Reading)>,
    subjects: BTreeMap<Slot, Subject>,
    told: change::Told,
}

impl TelemetrySide {
    pub(super) fn new(machine: Telemetry, outbox: Outbox, thread: std::thread::JoinHandle<()>, vitals: Vitals) -> Self {
        let (read, subjects, told) = (None, BTreeMap::new(), change::Told::default());
        Self { machine, outbox, thread: Some(thread), vitals, read, subjects, told }
    }

    /// The worker is gone, and what its slots stood for.
    pub(super) fn worker_gone(&mut self) {
        self.subjects.clear();
        self.machine.forget_all();
    }

    /// A slot is gone so long that nothing of it is on its way any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.subjects.remove(&slot);
        self.machine.forget(slot);
    }

    /// What the device says of itself, a second old at most.
    pub(super) fn reading(&mut self, worker: Option<u32>) -> Reading {
        if let Some((_, reading)) = self.read.filter(|(read, _)| read.elapsed() < FRESH) {
            return reading;
        }
        let reading = self.vitals.read(worker);
        self.read = Some((Moment::now(), reading));
        reading
    }
}

impl Control {
    /// Adds up what a version did.
    pub(super) async fn fold(&mut self, name: &ModelName, version: &VersionRef, increment: &Increment) {
        let subject = self.subject(increment.slot, name, version).await;
        let now = self.telemetry_now();
        match subject {
            Ok(subject) => self.telemetry.machine.take(&subject, increment, &now),
            Err(subject) => {
                // Sums of an unknown contract say nothing; the rows count all the same, in a window of their own.
                let blind = Increment { sums: Default::default(), ..increment.clone() };
                self.telemetry.machine.take(&subject, &blind, &now);
            }
        }
    }

    /// What a slot stands for, its manifest read once; where it cannot be read, a subject of no contract.
    async fn subject(&mut self, slot: Slot, name: &ModelName, version: &VersionRef) -> Result<Subject, Subject> {
        if let Some(subject) = self.telemetry.subjects.get(&slot) {
            return Ok(subject.clone());
        }
        let (bundles, manifest) = (self.installer.bundles.clone(), version.manifest);
        let read = tokio::task::spawn_blocking(move || bundles.manifest(&manifest)).await;
        let contract = read.ok().and_then(Result::ok).and_then(|(m, _)| canonical::document(&m.contract).ok());
        let version = ModelVersion { name: name.clone(), version: version.version.clone() };
        let Some(contract) = contract else {
            return Err(Subject { version, contract: Digest::from_bytes([0; 32]) });
        };
        let subject = Subject { version, contract: Digest::of(&contract) };
        self.telemetry.subjects.insert(slot, subject.clone());
        Ok(subject)
    }

    /// Tells the server of what happened, once.
    pub(super) fn tell(&mut self, kind: EventKind) {
        let generation = self.store.read(|s| s.generation());
        if !self.telemetry.told.is_new(&kind, generation) {
            return;
        }
        let todo = self.telemetry.machine.event(Event { at_ms: self.clock.now().as_millisecond(), generation, kind });
        self.hand_over(todo.record, todo.send);
    }

    /// Tells what has become of a model since `before`.
    pub(super) fn tell_changes(&mut self, name: &ModelName, before: &ModelRecord) {
        let Some(machine) = self.machines.get(name) else { return };
        for kind in change::between(name, before, machine.record()) {
            self.tell(kind);
        }
    }

    /// Takes the server's settings over.
    pub(super) fn set_telemetry(&mut self, settings: Settings) {
        self.telemetry.machine.set(settings, self.started.elapsed());
    }

    /// Closes, records and sends what is due.
    pub(super) fn tend_telemetry(&mut self) {
        let now = self.telemetry_now();
        let machines = &self.machines;
        let on_probation = |version: &ModelVersion| {
            let record = machines.get(&version.name).map(crate::install::Machine::record);
            record.is_some_and(|r| {
                r.state == ModelState::OnProbation && r.active.as_ref().is_some_and(|a| a.version == version.version)
            })
        };
        let todo = self.telemetry.machine.tick(&now, on_probation);
        self.hand_over(todo.record, todo.send);
        self.publish_figures(&now);
    }

    /// Takes in what the server has committed.
    pub(super) fn take_watermark(&self, bytes: &Bytes) {
        let parsed = (bytes.len() <= watermark::MAX_BYTES).then(|| serde_json::from_slice::<Watermark>(bytes));
        match parsed {
            Some(Ok(watermark)) => self.telemetry.outbox.watermark(watermark),
            Some(Err(error)) => tracing::warn!(%error, "a watermark that is none"),
            None => tracing::warn!(length = bytes.len(), "a watermark that is too long"),
        }
    }

    /// Records what is not recorded, and waits for it.
    pub(super) async fn close_telemetry(&mut self) {
        let now = self.telemetry_now();
        let batch = self.telemetry.machine.checkpoint(&now);
        self.hand_over(batch, false);
        self.telemetry.outbox.stop();
        let Some(thread) = self.telemetry.thread.take() else { return };
        let ended = tokio::task::spawn_blocking(move || thread.join().is_ok());
        if !matches!(tokio::time::timeout(LAST_WORDS, ended).await, Ok(Ok(true))) {
            tracing::warn!("the outbox did not end in time: the last windows may not be recorded");
        }
    }

    fn hand_over(&self, batch: Option<Batch>, send: bool) {
        if batch.is_some() || send {
            let generation = self.store.read(|s| s.generation());
            self.telemetry.outbox.record(batch, send, generation);
        }
    }

    fn telemetry_now(&mut self) -> Now {
        let worker = self.worker.page().pid;
        Now {
            uptime: self.started.elapsed(),
            time: self.clock.now(),
            trusted: self.clock.is_trusted(),
            reading: self.telemetry.reading(worker),
        }
    }
}
