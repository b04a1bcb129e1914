//! The worker as control sees it: start it, give it orders, hear of what happens, notice that it died.
//!
//! [`Worker`] is a handle that can be cloned; every order is bounded in time, and dropping its future leaves the order
//! itself in force. The worker is believed as little as any process that parses foreign models: its frames are bounded,
//! and increments of versions that it was never given are dropped. Whether and with which versions to start again is the
//! caller's decision; [`Supervisor::start`] carries it out without losing a queued connection: the caller keeps the
//! listeners open, and they are handed over only after the versions that were serving are back.

mod actor;
mod backoff;
mod merge;
mod pipes;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tern_protocol::{
    frames::{Increment, Limits, ListenerKind, Slot, ToWorker},
    refusal::RefusalCode,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub use backoff::Backoff;

use crate::{admit::Refused, bundle::Opened, self_exec::SelfExec};
use actor::{Answer, Ask, Order};

/// Orders that may wait for the task which owns the worker; whoever gives one more waits.
const ORDERS: usize = 32;
/// Events that may wait for the caller. Increments are merged when it is full, so nothing is lost and nothing waits.
const EVENTS: usize = 64;

/// How long each thing may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the process to its readiness.
    pub start: Duration,
    /// Loading one version.
    pub load: Duration,
    /// Swapping one.
    pub swap: Duration,
    /// Letting the requests of one end.
    pub drain: Duration,
    /// Letting all requests end before leaving; after it the worker is killed.
    pub stop: Duration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// From a heartbeat to its answer; after it the worker is killed.
    pub silence: Duration,
}

impl Default for Timing {
    /// 10 s to start, 120 s to load, 10 s to swap, 60 s to drain, 20 s to stop; a heartbeat every 5 s, 30 s of silence.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            start: seconds(10),
            load: seconds(120),
            swap: seconds(10),
            drain: seconds(60),
            stop: seconds(20),
            heartbeat: seconds(5),
            silence: seconds(30),
        }
    }
}

/// A socket that listens already and that the worker shall serve. Control keeps it open for the worker's successors.
#[derive(Debug)]
pub struct Listener {
    kind: ListenerKind,
    socket: OwnedFd,
}

impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self { kind: ListenerKind::Unix, socket: listener.into() }
    }
}

impl From<std::net::TcpListener> for Listener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self { kind: ListenerKind::Tcp, socket: listener.into() }
    }
}

/// What the worker does unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// What a version did since the increment before.
    Increment(Box<Increment>),
    /// It ended unasked, or was killed because it was silent. Always the last event.
    Died {
        /// How, for people.
        cause: String,
    },
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process cannot be started.
    #[error("worker cannot be started")]
    Spawn(#[source] std::io::Error),
    /// The worker is gone, and the order with it.
    #[error("the worker is gone")]
    Gone,
    /// No answer in time; the order may still be carried out.
    #[error("worker did not {0} in time")]
    TimedOut(&'static str),
    /// The worker refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl WorkerError {
    /// The code for twins and events.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Refused(refused) => refused.code,
            Self::Spawn(_) | Self::Gone | Self::TimedOut(_) => RefusalCode::SwapFailed,
        }
    }
}

/// A worker that has just been started.
#[derive(Debug)]
pub struct Started {
    /// The handle.
    pub worker: Worker,
    /// What the kernel lacks of the sandbox; empty where all holds.
    pub lacking: Vec<String>,
    /// What it does unasked. Ends after `Died`, or without it once the worker has stopped because it was told to.
    pub events: mpsc::Receiver<WorkerEvent>,
    /// Versions of [`Supervisor::start`] that it could not take up again.
    pub failed: Vec<(Slot, WorkerError)>,
}

/// A running worker. The process is told to stop when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
    timing: Timing,
    pid: u32,
}

impl Worker {
    /// Starts a worker that serves nothing yet. Must be called within a tokio runtime that has I/O and time.
    ///
    /// # Errors
    /// [`WorkerError::Spawn`], or `Gone` or `TimedOut` where the process does not become ready.
    pub async fn spawn(programs: &SelfExec, limits: Limits, timing: Timing) -> Result<Started, WorkerError> {
        let (orders, order_queue) = mpsc::channel(ORDERS);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (actor, lacking) = actor::Actor::start(programs, limits, timing).await?;
        let worker = Self { orders, timing, pid: actor.pid() };
        tokio::spawn(actor.run(order_queue, event_sender));
        Ok(Started { worker, lacking, events, failed: Vec::new() })
    }

    /// The process id, for logs and for tests that kill it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it serve a listener.
    ///
    /// # Errors
    /// [`WorkerError::Gone`], also where the descriptor cannot be copied.
    pub async fn listen(&self, listener: &Listener) -> Result<(), WorkerError> {
        let copy = listener.socket.as_fd().try_clone_to_owned().map_err(WorkerError::Spawn)?;
        let order = Order::Send { frame: ToWorker::Listen(listener.kind), descriptors: vec![copy], answer: None };
        self.orders.send(order).await.map_err(|_| WorkerError::Gone)
    }

    /// Loads a version beside what runs and returns how long that took. What it is given was verified.
    ///
    /// # Errors
    /// `Refused` with the code of [`crate::admit::admit`]; `Gone`; `TimedOut`.
    pub async fn load(&self, slot: Slot, version: Opened) -> Result<Duration, WorkerError> {
        let Opened { manifest, reference, model } = version;
        let frame = ToWorker::Load { slot, manifest, reference };
        let ms = self.ask(Ask::Load(slot), frame, vec![model.into()], ("load a version", self.timing.load)).await?;
        Ok(Duration::from_millis(ms))
    }

    /// Makes a loaded version the one that answers for its model.
    ///
    /// # Errors
    /// `Refused` with `swap-failed` where it is not loaded; `Gone`; `TimedOut`.
    pub async fn swap(&self, slot: Slot) -> Result<(), WorkerError> {
        let frame = ToWorker::Swap { slot };
        self.ask(Ask::Swap(slot), frame, Vec::new(), ("swap", self.timing.swap)).await.map(|_| ())
    }

    /// Tells it which models answer nothing for now, and what it shall say of them; false where the order did not go, and
    /// is to be given again.
    pub fn silence(&self, models: Vec<(String, String)>) -> bool {
        let order = Order::Send { frame: ToWorker::Silent(models), descriptors: Vec::new(), answer: None };
        self.orders.try_send(order).is_ok()
    }

    /// Takes a version away once its running requests have ended. Its last increment comes before this returns.
    ///
    /// # Errors
    /// `Gone` or `TimedOut`.
    pub async fn drain(&self, slot: Slot) -> Result<(), WorkerError> {
        let frame = ToWorker::Drain { slot };
        self.ask(Ask::Drain(slot), frame, Vec::new(), ("drain", self.timing.drain)).await.map(|_| ())
    }

    /// Lets the running requests end and the process leave; kills it where that takes too long. Returns when it is gone.
    pub async fn stop(&self) {
        let (gone, wait) = oneshot::channel();
        if self.orders.send(Order::Stop(gone)).await.is_ok() {
            // Closed without a word where the worker died meanwhile, which is as good.
            let _ = wait.await;
        }
    }

    /// Kills the process at once; `Died` follows with this cause.
    pub async fn kill(&self, cause: &str) {
        // Gone already where nobody takes the order.
        let _ = self.orders.send(Order::Kill(cause.to_owned())).await;
    }

    /// Loads and swaps versions in this order; returns those that could not be.
    pub async fn restore(&self, versions: Vec<Restore>) -> Vec<(Slot, WorkerError)> {
        let mut failed = Vec::new();
        for Restore { slot, version } in versions {
            let outcome = match self.load(slot, version).await {
                Ok(_) => self.swap(slot).await,
                Err(error) => Err(error),
            };
            failed.extend(outcome.err().map(|error| (slot, error)));
        }
        failed
    }

    async fn ask(
        &self,
        ask: Ask,
        frame: ToWorker,
        descriptors: Vec<OwnedFd>,
        (what, limit): (&'static str, Duration),
    ) -> Result<u64, WorkerError> {
        let (answer, wait) = oneshot::channel::<Answer>();
        let order = Order::Send { frame, descriptors, answer: Some((ask, answer)) };
        let answered = async {
            self.orders.send(order).await.map_err(|_| WorkerError::Gone)?;
            wait.await.map_err(|_| WorkerError::Gone)?.map_err(WorkerError::Refused)
        };
        timeout(limit, answered).await.map_err(|_| WorkerError::TimedOut(what))?
    }
}

/// A version that shall serve again after a restart.
#[derive(Debug)]
pub struct Restore {
    /// Its number, which may be the one from before.
    pub slot: Slot,
    /// Its files.
    pub version: Opened,
}

/// Everything that a worker and its successors need.
#[derive(Debug)]
pub struct Supervisor {
    programs: SelfExec,
    limits: Limits,
    timing: Timing,
    listeners: Vec<Listener>,
    silent: Mutex<Vec<(String, String)>>,
}

impl Supervisor {
    /// Keeps `listeners` open for every worker to come.
    pub fn new(programs: SelfExec, limits: Limits, timing: Timing, listeners: Vec<Listener>) -> Self {
        Self { programs, limits, timing, listeners, silent: Mutex::default() }
    }

    /// What every worker to come shall say of models that answer nothing for now: see [`Worker::silence`].
    pub fn silence(&self, models: Vec<(String, String)>) {
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }

    /// Starts a worker, gives it back the versions that shall serve, and only then the listeners: connections that come
    /// meanwhile wait in the kernel's queue and find the models in place. What cannot be restored is in
    /// [`Started::failed`] and does not keep the rest from serving.
    ///
    /// A worker that died on the way is answered as started: what it held may be why, and its `Died` event says so.
    ///
    /// # Errors
    /// As [`Worker::spawn`]; it never held a version then, or the system had no descriptor for its listeners.
    pub async fn start(&self, restore: Vec<Restore>) -> Result<Started, WorkerError> {
        let mut started = Worker::spawn(&self.programs, self.limits, self.timing).await?;
        started.failed = started.worker.restore(restore).await;
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        started.worker.silence(silent);
        for listener in &self.listeners {
            match started.worker.listen(listener).await {
                Err(_) if started.worker.orders.is_closed() => break,
                outcome => outcome?,
            }
        }
        Ok(started)
    }
}
