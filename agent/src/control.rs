//! The control loop of `tern-agent run`: one task that owns what the device knows, and carries out what the machines say.
//!
//! It serves before it talks: the sockets are bound and the worker is started with every active version from the commit
//! record before the network is looked at. Then events come in by one bounded queue and the link's own; each is handled to
//! its end before the next. Long work (fetch, probe, load) runs in tasks that answer with an event. Shutdown, in order:
//! see [`leaving`].
//! Never: parses ONNX, trusts a byte that `trust` or `desired` has not verified.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tern_protocol::{
    frames::Slot,
    ids::{ModelName, Version},
    refusal::RefusalCode,
    twin::LastError,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::MissedTickBehavior,
};

use crate::{
    bundle::Installer,
    clock::{DeviceClock, Moment},
    config::Config,
    identity::Enrolment,
    install::{self, Context, Effect, Machine, Refusal},
    link, notify, rescue,
    state::ModelRecord,
    store::Store,
    supervisor::{Started, WorkerError, WorkerEvent},
};

mod demand;
mod figures;
mod leaving;
mod listeners;
mod rescuing;
mod setup;
pub(crate) mod socket;
mod sparing;
mod standings;
mod telemetry;
mod twin;
mod worker;

use figures::FiguresSide;
use leaving::{link_failure, told_to_stop};
pub(crate) use setup::lock;
pub use setup::run;
use sparing::Sparing;
use standings::Standings;
use telemetry::TelemetrySide;
pub use twin::{LinkPage, StatusPage, Tally, WorkerPage};
use worker::WorkerSide;

/// Events that wait for the loop. Full: the tasks that send them wait; the loop itself never sends.
const EVENTS: usize = 256;
/// How often machines are asked whether their time has come.
const TICK: Duration = Duration::from_millis(250);
/// How often the disk reserve is filled again, and halted machines are told that records are durable again.
const TEND: Duration = Duration::from_secs(60);

/// Everything that wakes the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something that a machine waits for.
    Install(ModelName, install::Event),
    /// A worker was started, or not; with it, versions that could not be read from the disk.
    WorkerStarted(Result<Started, WorkerError>, Vec<(Slot, Refusal)>),
    /// The worker did something unasked.
    Worker(WorkerEvent),
    /// The pause before the next worker is over.
    WorkerDue,
    /// A slot is gone.
    Drained(Slot),
    /// The director's keys were refreshed for this desired state.
    Readmit(Bytes),
    /// The teams were asked what they say of their models.
    Standings(Result<(), String>),
    /// Somebody asks for the status.
    Asked(oneshot::Sender<String>),
    /// Somebody asks for a rescue, or brings the ticket.
    Rescue(rescue::Request, oneshot::Sender<String>),
}

/// The loop's state.
struct Control {
    config: Config,
    enrolment: Enrolment,
    agent: Version,
    boot: String,
    since: Timestamp,
    started: Moment,
    clock: DeviceClock,
    store: Store,
    installer: Arc<Installer>,
    machines: BTreeMap<ModelName, Machine>,
    numbers: u64,
    running: BTreeMap<u64, AbortHandle>,
    worker: WorkerSide,
    link: LinkPage,
    last_error: Option<LastError>,
    refusals: BTreeMap<RefusalCode, u64>,
    sparing: Sparing,
    tallies: BTreeMap<ModelName, Tally>,
    telemetry: TelemetrySide,
    standings: Standings,
    figures: FiguresSide,
    infer_tcp: Option<SocketAddr>,
    announced: bool,
    tended: Moment,
    garbage: bool,
    /// The director's keys are being refreshed for a desired state of unknown signature; further ones are dropped.
    readmitting: bool,
    events_in: mpsc::Sender<Event>,
    twin_out: watch::Sender<Bytes>,
    beats: notify::Beats,
    /// Held for as long as the agent runs.
    _lock: std::fs::File,
}

/// The ends that the loop reads from, and the tasks that it waits for when it leaves.
struct Wires {
    events: mpsc::Receiver<Event>,
    link_events: mpsc::Receiver<link::Event>,
    stop_link: watch::Sender<bool>,
    link: JoinHandle<anyhow::Result<()>>,
    feeder: JoinHandle<()>,
    socket: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

/// A machine's view of the moment. A function of fields, so that a machine can be borrowed beside them.
fn context<'a>(
    started: &Moment,
    clock: &DeviceClock,
    (agent, config): (&'a Version, &Config),
    numbers: &'a mut u64,
) -> Context<'a> {
    Context { uptime: started.elapsed(), time: clock.now(), agent, candidates: config.candidates.allow, numbers }
}

impl Control {
    async fn run(mut self, mut wires: Wires) -> anyhow::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fed = Moment::now();
        self.start_worker();
        self.reapply().await;
        self.publish_twin();
        // The sockets are bound and the loop turns: what connects now waits for the worker, however long its loads take.
        notify::ready();
        let failure = loop {
            tokio::select! {
                Some(event) = wires.events.recv() => self.take(event).await,
                Some(event) = wires.link_events.recv() => self.link_event(event).await,
                _ = tick.tick() => self.tick(&mut fed).await,
                ended = &mut wires.link => break Some(link_failure(ended)),
                () = told_to_stop(&mut term, &mut int) => break None,
            }
            self.beats.control.turn();
        };
        self.leave(wires, failure.is_some()).await;
        failure.map_or(Ok(()), Err)
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Install(name, event) => self.step(&name, event).await,
            Event::WorkerStarted(started, unreadable) => self.worker_started(started, unreadable).await,
            Event::Worker(event) => self.worker_event(event).await,
            Event::WorkerDue => self.start_worker(),
            Event::Drained(slot) => self.slot_gone(slot),
            Event::Readmit(bytes) => {
                self.readmitting = false;
                self.desired(bytes, true).await;
            }
            Event::Standings(outcome) => self.standings_asked(outcome).await,
            Event::Rescue(request, answer) => self.rescue(request, answer).await,
            Event::Asked(answer) => {
                let page = serde_json::to_string(&self.page()).unwrap_or_default();
                // Who asked may have left.
                let _ = answer.send(page);
            }
        }
    }

    async fn link_event(&mut self, event: link::Event) {
        match event {
            link::Event::Desired(bytes) => self.desired(bytes, false).await,
            link::Event::Watermark(bytes) => self.take_watermark(&bytes),
            link::Event::Session(number) => {
                self.telemetry.outbox.session(number);
                self.ask_standings_again();
                tracing::info!("connected to the server");
                self.link = LinkPage { connected: true, since: Some(self.clock.now()), ..self.link.clone() };
            }
            link::Event::Lost(why) => {
                if self.link.connected || self.link.last_error.as_ref() != Some(&why) {
                    tracing::warn!(%why, "no connection to the server");
                }
                let since = if self.link.connected { Some(self.clock.now()) } else { self.link.since };
                self.link = LinkPage { connected: false, since, last_error: Some(why) };
            }
        }
    }

    async fn tick(&mut self, fed: &mut Moment) {
        let uptime = self.started.elapsed();
        let due = self.machines.iter().filter(|(_, m)| m.deadline().is_some_and(|at| at <= uptime));
        let due: Vec<ModelName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.step(&name, install::Event::Tick).await;
        }
        if self.worker.is_up() {
            // The supervisor reports a worker dead that leaves a heartbeat unanswered.
            self.beats.worker.turn();
        }
        if self.garbage && self.running.is_empty() {
            self.garbage = false;
            self.collect_garbage();
        }
        self.tend_telemetry();
        self.take_held().await;
        self.heed_standings().await;
        self.tend_standings();
        if self.tended.elapsed() >= TEND {
            self.tended = Moment::now();
            self.tend().await;
        }
        if notify::interval().is_some_and(|interval| fed.elapsed() >= interval) {
            *fed = Moment::now();
            notify::feed(&self.beats);
        }
    }

    /// A full disk may have room again: installs need no restart for it.
    async fn tend(&mut self) {
        let reserve = crate::disk::Reserve::new(&self.config.state_dir);
        tokio::task::spawn_blocking(move || reserve.refill());
        if self.store.fault().is_some() {
            return;
        }
        let halted = self.machines.iter().filter(|(_, machine)| machine.is_halted());
        let halted: Vec<ModelName> = halted.map(|(name, _)| name.clone()).collect();
        for name in halted {
            self.step(&name, install::Event::Recordable).await;
        }
    }

    /// Lets a machine take an event in, and carries out what it says, to the end.
    async fn step(&mut self, name: &ModelName, event: install::Event) {
        let news = self.standing_news(name).map(install::Event::Standing);
        let mut queue: VecDeque<_> = news.into_iter().chain([event]).collect();
        let mut told = self.machines.get(name).map(|machine| machine.record().clone());
        while let Some(event) = queue.pop_front() {
            self.finish(&event);
            let Some(machine) = self.machines.get_mut(name) else {
                if let install::Event::Loaded(slot, Ok(())) = event {
                    // Of a model that was forgotten meanwhile.
                    self.drain(slot);
                }
                return;
            };
            let before = machine.record().last_error.clone();
            let mut cx = context(&self.started, &self.clock, (&self.agent, &self.config), &mut self.numbers);
            let effects = machine.on(event, &mut cx);
            let after = machine.record().last_error.clone();
            if let Some(error) = after.filter(|e| Some(e) != before.as_ref()) {
                tracing::warn!(model = %name, code = %error.code, "{}", error.message);
                *self.refusals.entry(error.code).or_default() += 1;
            }
            let failed = self.carry_out(name, effects).await;
            if let Some(told) = told.as_mut().filter(|_| failed.is_none()) {
                // What could not be recorded has not happened.
                self.tell_changes(name, told);
                self.machines.get(name).inspect(|machine| told.clone_from(machine.record()));
            }
            if let Some(failed) = failed {
                // What else came is judged by what is recorded.
                queue.push_front(failed);
            }
        }
        self.tell_silent();
        self.publish_twin();
    }

    /// Carries out effects in order; answers with the event of a failed `Persist`, after which only what
    /// [`Effect::frees`] is carried out.
    async fn carry_out(&mut self, name: &ModelName, effects: Vec<Effect>) -> Option<install::Event> {
        let mut failed = None;
        for effect in effects {
            if failed.is_some() && !effect.frees() {
                continue;
            }
            match effect {
                Effect::Persist(record) => failed = self.persist(name, *record).await.err(),
                Effect::Prepare(number, demand) => {
                    let installer = self.installer.clone();
                    let work = async move { install::Event::Prepared(number, installer.prepare(&demand).await) };
                    self.spawn(name, number, work);
                }
                Effect::Probe(number, version) => {
                    let installer = self.installer.clone();
                    let work = async move { install::Event::Probed(number, installer.try_out(&version).await) };
                    self.spawn(name, number, work);
                }
                Effect::Cancel(number) => {
                    if let Some(task) = self.running.remove(&number) {
                        task.abort();
                    }
                }
                Effect::Load(slot, version) => self.load(name, slot, version),
                Effect::Swap(slot) => self.swap(name, slot),
                Effect::Drain(slot) => self.drain(slot),
            }
        }
        failed
    }

    async fn persist(&mut self, name: &ModelName, record: ModelRecord) -> Result<(), install::Event> {
        self.garbage = true;
        let shown = (record.state, record.active.as_ref().map(|v| v.version.to_string()));
        let (key, boxed) = (name.clone(), Box::new(record));
        let written = self.store.update(move |s| drop(s.models.insert(key, *boxed))).await;
        match written {
            Ok(()) => {
                tracing::info!(model = %name, state = ?shown.0, active = ?shown.1, "recorded");
                Ok(())
            }
            Err(fault) => {
                let durable = self.store.read(|s| s.models.get(name).cloned());
                let known = || self.machines.get(name).map(|m| m.record().clone());
                let durable = durable.or_else(known).unwrap_or_else(|| ModelRecord::new(self.clock.now()));
                Err(install::Event::Unrecordable(Box::new(durable), fault.to_string()))
            }
        }
    }

    fn spawn(&mut self, name: &ModelName, number: u64, work: impl Future<Output = install::Event> + Send + 'static) {
        let (events, name) = (self.events_in.clone(), name.clone());
        let task = tokio::spawn(async move {
            let event = work.await;
            let _ = events.send(Event::Install(name, event)).await;
        });
        self.running.insert(number, task.abort_handle());
    }

    fn finish(&mut self, event: &install::Event) {
        if let install::Event::Prepared(number, _) | install::Event::Probed(number, _) = event {
            self.running.remove(number);
        }
    }

    fn collect_garbage(&self) {
        if self.store.fault().is_some() {
            // Without a record nobody knows what is garbage.
            return;
        }
        let keep = self.store.read(|s| s.manifests().copied().collect());
        let bundles = self.installer.bundles.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = bundles.collect_garbage(&keep) {
                tracing::warn!(%error, "old versions could not be removed");
            }
        });
    }

    /// Says, once, that the inference API answers.
    async fn announce(&mut self) {
        if std::mem::replace(&mut self.announced, true) {
            return;
        }
        if let Some(path) = self.config.ready_file.clone()
            && let Err(error) = setup::write_ready_file(&path, &self.config, self.infer_tcp)
        {
            tracing::error!(%error, path = %path.display(), "the ready file cannot be written");
        }
        tracing::info!(socket = %self.config.infer_socket().display(), tcp = ?self.infer_tcp, "serving");
    }
}
