//! Control's side of the worker: when it is started, what it is given first, and what of its events reaches the machines.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tern_protocol::{
    frames::{Increment, Slot},
    ids::ModelName,
    refusal::RefusalCode,
    report::v1::{ErrorKind, EventKind},
};
use tokio::sync::mpsc;

use super::{Control, Event, twin::WorkerPage};
use crate::{
    bundle::{Bundles, Opened},
    clock::Moment,
    install::{self, Refusal},
    state::VersionRef,
    supervisor::{Backoff, Restore, Started, Supervisor, Worker, WorkerError, WorkerEvent},
};

/// Slots that are gone and still remembered: their last increments may be on their way.
const MOST_GONE: usize = 64;

/// The worker and what is known of it.
#[derive(Debug)]
pub(super) struct WorkerSide {
    supervisor: Arc<Supervisor>,
    up: Option<Worker>,
    started: Moment,
    backoff: Backoff,
    slots: Assigned,
    /// Passes on what the worker does; ends with it.
    forwarding: Option<tokio::task::JoinHandle<()>>,
    /// Slots that a start was asked to restore, until it answers.
    restoring: Vec<(ModelName, Slot)>,
    page: WorkerPage,
}

impl WorkerSide {
    pub(super) fn new(supervisor: Supervisor) -> Self {
        Self {
            supervisor: Arc::new(supervisor),
            up: None,
            started: Moment::now(),
            backoff: Backoff::default(),
            slots: Assigned::default(),
            forwarding: None,
            restoring: Vec::new(),
            page: WorkerPage::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    pub(super) fn handle(&self) -> Option<Worker> {
        self.up.clone()
    }

    pub(super) fn page(&self) -> WorkerPage {
        WorkerPage { pid: self.up.as_ref().map(Worker::pid), ..self.page.clone() }
    }

    pub(super) fn assign(&mut self, slot: Slot, model: &ModelName, version: &VersionRef) {
        self.slots.versions.insert(slot, (model.clone(), version.clone()));
    }

    /// Tells this worker, and every one to come, which models answer nothing for now; false where this one was not told.
    pub(super) fn silence(&self, models: Vec<(String, String)>) -> bool {
        self.supervisor.silence(models.clone());
        self.up.as_ref().is_none_or(|worker| worker.silence(models))
    }

    /// What passes on the worker's last words, to be waited for when the agent leaves.
    pub(super) fn forwarding(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        self.forwarding.take()
    }
}

/// Which version each slot was given out for.
#[derive(Debug, Default)]
struct Assigned {
    versions: BTreeMap<Slot, (ModelName, VersionRef)>,
    /// Those that are gone, oldest first.
    gone: VecDeque<Slot>,
}

impl Assigned {
    /// A slot is gone; returns the one that is forgotten for it. Never one that may still answer, however long ago it was
    /// given out: what it counts would be nobody's.
    fn retire(&mut self, slot: Slot) -> Option<Slot> {
        if self.versions.contains_key(&slot) && !self.gone.contains(&slot) {
            self.gone.push_back(slot);
        }
        let forgotten = if self.gone.len() > MOST_GONE { self.gone.pop_front() } else { None };
        forgotten.inspect(|slot| drop(self.versions.remove(slot)))
    }
}

impl Control {
    /// Starts a worker with every active version, so that queued connections find their models.
    pub(super) fn start_worker(&mut self) {
        let mut wanted = Vec::new();
        for (name, machine) in &mut self.machines {
            let mut cx = super::context(&self.started, &self.clock, (&self.agent, &self.config), &mut self.numbers);
            if let Some((slot, version)) = machine.restore(&mut cx) {
                wanted.push((name.clone(), slot, version));
            }
        }
        self.worker.restoring = wanted.iter().map(|(name, slot, _)| (name.clone(), *slot)).collect();
        for (name, slot, version) in &wanted {
            self.worker.assign(*slot, name, version);
        }
        self.worker.started = Moment::now();
        let (supervisor, bundles) = (self.worker.supervisor.clone(), self.installer.bundles.clone());
        let events = self.events_in.clone();
        tokio::spawn(async move {
            let mut unreadable = Vec::new();
            let mut restore = Vec::new();
            for (_, slot, version) in wanted {
                match open(&bundles, version).await {
                    Ok(version) => restore.push(Restore { slot, version }),
                    Err(refusal) => unreadable.push((slot, refusal)),
                }
            }
            let started = supervisor.start(restore).await;
            // Control is gone where nobody takes it, and the worker goes with the handle.
            let _ = events.send(Event::WorkerStarted(started, unreadable)).await;
        });
    }

    pub(super) async fn worker_started(
        &mut self,
        started: Result<Started, WorkerError>,
        unreadable: Vec<(Slot, Refusal)>,
    ) {
        let restoring = std::mem::take(&mut self.worker.restoring);
        let Started { worker, lacking, events, failed } = match started {
            Ok(started) => started,
            Err(error) => {
                // The machine that has no room for a process says nothing against any version.
                let cause = format!("it did not start: {}", crate::http::chain(&error));
                return self.worker_gone(cause, install::Event::WorkerNotStarted).await;
            }
        };
        if !lacking.is_empty() {
            tracing::warn!(?lacking, "the worker's sandbox is not whole on this kernel");
        }
        self.worker.page.lacking = lacking;
        self.worker.up = Some(worker);
        self.worker.forwarding = Some(tokio::spawn(forward(events, self.events_in.clone())));
        let names: Vec<ModelName> = self.machines.keys().cloned().collect();
        for name in names {
            self.step(&name, install::Event::WorkerUp).await;
        }
        for (name, slot) in restoring {
            let refused = unreadable.iter().find(|(s, _)| *s == slot).map(|(_, refusal)| refusal.clone());
            let failed = failed.iter().find(|(s, _)| *s == slot).map(|(_, error)| error);
            if matches!(failed, Some(WorkerError::Gone)) {
                // `Died` follows and says it better.
                continue;
            }
            let outcome = refused.or_else(|| failed.map(refusal)).map_or(Ok(()), Err);
            self.step(&name, install::Event::Swapped(slot, outcome)).await;
        }
        self.announce().await;
    }

    pub(super) async fn worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Increment(increment) => self.count(*increment).await,
            WorkerEvent::Died { cause } => self.worker_died(cause).await,
        }
    }

    async fn worker_died(&mut self, cause: String) {
        self.worker.page.deaths += 1;
        self.tell(EventKind::WorkerRestarted { cause: cause.clone() });
        self.worker_gone(cause.clone(), install::Event::WorkerDied(cause)).await;
    }

    async fn worker_gone(&mut self, cause: String, event: install::Event) {
        self.worker.up = None;
        self.worker.slots = Assigned::default();
        self.telemetry.worker_gone();
        self.worker.page.last_death = Some(cause.clone());
        let names: Vec<ModelName> = self.machines.keys().cloned().collect();
        for name in names {
            self.step(&name, event.clone()).await;
        }
        let pause = self.worker.backoff.pause(self.worker.started.elapsed());
        tracing::warn!(%cause, ?pause, "the worker is gone and will be started again");
        let events = self.events_in.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(Event::WorkerDue).await;
        });
    }

    /// A slot is gone, or never came to be.
    pub(super) fn slot_gone(&mut self, slot: Slot) {
        if let Some(forgotten) = self.worker.slots.retire(slot) {
            self.telemetry.forget(forgotten);
        }
    }

    /// Counts what a slot did, and nothing more.
    pub(super) async fn count_only(&mut self, increment: &Increment) -> Option<ModelName> {
        let Some((name, version)) = self.worker.slots.versions.get(&increment.slot).cloned() else {
            tracing::warn!(slot = increment.slot.0, rows = increment.rows, "counts of a slot that nobody knows");
            return None;
        };
        self.fold(&name, &version, increment).await;
        Some(name)
    }

    async fn count(&mut self, increment: Increment) {
        let Some(name) = self.count_only(&increment).await else { return };
        let sum = |of: &dyn Fn(ErrorKind) -> bool| {
            let counted = increment.errors.iter().filter(|e| of(e.kind));
            counted.fold(0u64, |sum, e| sum.saturating_add(e.count))
        };
        let failures = sum(&speaks_against);
        let tally = self.tallies.entry(name.clone()).or_default();
        tally.answered = tally.answered.saturating_add(increment.inferences);
        tally.failed = tally.failed.saturating_add(sum(&|_| true));
        let (slot, inferences) = (increment.slot, increment.inferences);
        self.step(&name, install::Event::Counted { slot, inferences, failures }).await;
    }

    /// Carries out a `Load`; its answer comes as an event, except where the worker is gone.
    pub(super) fn load(&mut self, name: &ModelName, slot: Slot, version: VersionRef) {
        let Some(worker) = self.worker.handle() else { return };
        self.worker.assign(slot, name, &version);
        let (bundles, events, name) = (self.installer.bundles.clone(), self.events_in.clone(), name.clone());
        tokio::spawn(async move {
            let outcome = match open(&bundles, version).await {
                Ok(version) => worker.load(slot, version).await.map(drop),
                Err(refusal) => {
                    let _ = events.send(Event::Install(name, install::Event::Loaded(slot, Err(refusal)))).await;
                    let _ = events.send(Event::Drained(slot)).await;
                    return;
                }
            };
            let Some(outcome) = answered(outcome) else { return };
            let is_gone = outcome.is_err();
            if is_gone {
                // A load that ran out of time may still end: nobody would ever drop it.
                let _ = worker.drain(slot).await;
            }
            let _ = events.send(Event::Install(name, install::Event::Loaded(slot, outcome))).await;
            if is_gone {
                let _ = events.send(Event::Drained(slot)).await;
            }
        });
    }

    pub(super) fn swap(&self, name: &ModelName, slot: Slot) {
        let Some(worker) = self.worker.handle() else { return };
        let (events, name) = (self.events_in.clone(), name.clone());
        tokio::spawn(async move {
            let Some(outcome) = answered(worker.swap(slot).await) else { return };
            let _ = events.send(Event::Install(name, install::Event::Swapped(slot, outcome))).await;
        });
    }

    pub(super) fn drain(&self, slot: Slot) {
        let Some(worker) = self.worker.handle() else { return };
        let events = self.events_in.clone();
        tokio::spawn(async move {
            if let Err(error) = worker.drain(slot).await {
                tracing::debug!(%error, ?slot, "a version was not drained");
            }
            let _ = events.send(Event::Drained(slot)).await;
        });
    }
}

/// Whether an error speaks against the model that is on probation; what clients do wrong does not.
fn speaks_against(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Engine | ErrorKind::NotFinite)
}

/// The answer, or nothing where the worker is gone: then `Died` comes, once, for everything.
fn answered(outcome: Result<(), WorkerError>) -> Option<Result<(), Refusal>> {
    match outcome {
        Ok(()) => Some(Ok(())),
        Err(WorkerError::Gone) => None,
        Err(error) => Some(Err(refusal(&error))),
    }
}

fn refusal(error: &WorkerError) -> Refusal {
    Refusal::new(error.code(), crate::http::chain(error))
}

async fn open(bundles: &Bundles, version: VersionRef) -> Result<Opened, Refusal> {
    let bundles = bundles.clone();
    let opened = tokio::task::spawn_blocking(move || bundles.model(&version)).await;
    opened.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::SwapFailed, "reading the version panicked")))
}

async fn forward(mut from: mpsc::Receiver<WorkerEvent>, to: mpsc::Sender<Event>) {
    while let Some(event) = from.recv().await {
        if to.send(Event::Worker(event)).await.is_err() {
            return;
        }
    }
}

/// How long the worker may take to end its requests when the agent leaves.
pub(super) const WORKER_GRACE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use tern_protocol::digest::Digest;

    use super::*;

    #[test]
    fn a_slot_that_answers_for_years_outlives_all_that_came_and_went_beside_it() {
        let version =
            VersionRef { version: "1.0.0".parse().unwrap(), manifest: Digest::of(b"manifest"), candidate: false };
        let mut slots = Assigned::default();
        let mut forgotten = Vec::new();
        for slot in 1..=2000 {
            slots.versions.insert(Slot(slot), ("demo/m".parse().unwrap(), version.clone()));
            if slot > 1 {
                forgotten.extend(slots.retire(Slot(slot)));
                forgotten.extend(slots.retire(Slot(slot)));
            }
        }
        assert!(slots.versions.contains_key(&Slot(1)) && slots.versions.contains_key(&Slot(2000)));
        assert_eq!((slots.versions.len(), slots.gone.len()), (MOST_GONE + 1, MOST_GONE));
        assert_eq!(forgotten, (2..=2000 - MOST_GONE as u64).map(Slot).collect::<Vec<_>>());
        assert_eq!(slots.retire(Slot(9999)), None, "nor does one that was never given out push another out");
    }

    #[test]
    fn an_answer_that_is_no_number_speaks_against_a_model_and_a_bad_request_does_not() {
        let all = [
            ErrorKind::BadRequest,
            ErrorKind::Contract,
            ErrorKind::Overload,
            ErrorKind::Deadline,
            ErrorKind::Engine,
            ErrorKind::NotFinite,
        ];
        assert_eq!(all.map(speaks_against), [false, false, false, false, true, true]);
    }
}
