//! The task that owns a worker's process: passes orders on, matches answers, asks for signs of life, sees it end.

use std::{collections::BTreeMap, os::fd::OwnedFd, process::Stdio, time::Duration};

use tern_protocol::{
    frames::{self, FromWorker, Limits, Slot, ToWorker},
    refusal::RefusalCode,
};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Timing, WorkerError, WorkerEvent,
    merge::Backlog,
    pipes::{Outgoing, Pipes},
};
use crate::{
    admit::Refused,
    channel::{Channel, ChannelError},
    clock::Moment,
    self_exec::{SelfExec, ending},
};

/// How long a worker that closed its channel may take to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// What an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    Load(Slot),
    Swap(Slot),
    Drain(Slot),
}

/// Milliseconds for loads, 0 for others; or why not.
pub(super) type Answer = Result<u64, Refused>;

#[derive(Debug)]
pub(super) enum Order {
    Send { frame: ToWorker, descriptors: Vec<OwnedFd>, answer: Option<(Ask, oneshot::Sender<Answer>)> },
    Stop(oneshot::Sender<()>),
    Kill(String),
}

/// How a worker's life ends.
enum End {
    /// It was told to.
    Stopped,
    /// It closed its channel or sent what is no frame.
    Lost(ChannelError),
    /// It must be killed, for this cause.
    Kill(String),
}

pub(super) struct Actor {
    child: Child,
    pid: u32,
    pipes: Pipes,
    timing: Timing,
    answers: BTreeMap<Ask, oneshot::Sender<Answer>>,
    backlog: Backlog,
    nonce: u64,
    asked: Option<Moment>,
    stopping: Vec<oneshot::Sender<()>>,
}

impl Actor {
    /// Starts the process and waits until it is confined and configured; returns what its sandbox lacks.
    pub(super) async fn start(
        programs: &SelfExec,
        limits: Limits,
        timing: Timing,
    ) -> Result<(Self, Vec<String>), WorkerError> {
        let (channel, stdin) = Channel::pair().map_err(WorkerError::Spawn)?;
        let mut command = Command::from(programs.command("worker"));
        command.stdin(Stdio::from(OwnedFd::from(stdin))).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(WorkerError::Spawn)?;
        // The command holds the worker's end of the channel, and with it the end of file that tells of its death.
        drop(command);
        let pid = child.id().unwrap_or(0);
        let pipes = Pipes::start(channel).map_err(WorkerError::Spawn)?;
        let mut actor = Self {
            child,
            pid,
            pipes,
            timing,
            answers: BTreeMap::new(),
            backlog: Backlog::default(),
            nonce: 0,
            asked: None,
            stopping: Vec::new(),
        };
        actor.send(&ToWorker::Configure(limits), Vec::new()).map_err(|_| WorkerError::Gone)?;
        match timeout(timing.start, actor.pipes.incoming.recv()).await {
            Ok(Some(Ok(FromWorker::Ready { lacking }))) => {
                let cut = |text: String| text.chars().take(200).collect();
                Ok((actor, lacking.into_iter().take(16).map(cut).collect()))
            }
            Ok(_) => Err(WorkerError::Gone),
            Err(_) => Err(WorkerError::TimedOut("become ready")),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Until the worker is gone.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>, events: mpsc::Sender<WorkerEvent>) {
        let end = self.live(&mut orders, &events).await;
        orders.close();
        let died = self.bury(end).await;
        // A caller that does not listen any more loses nothing by that.
        while let Some(increment) = self.backlog.take() {
            let _ = events.send(WorkerEvent::Increment(Box::new(increment))).await;
        }
        if let Some(cause) = died {
            tracing::warn!(pid = self.pid, %cause, "worker died");
            let _ = events.send(WorkerEvent::Died { cause }).await;
        }
        for told in self.stopping.drain(..) {
            let _ = told.send(());
        }
    }

    async fn live(&mut self, orders: &mut mpsc::Receiver<Order>, events: &mpsc::Sender<WorkerEvent>) -> End {
        let mut heartbeat = interval(self.timing.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        let patience = sleep(self.timing.stop);
        tokio::pin!(patience);
        loop {
            let step = tokio::select! {
                frame = self.pipes.incoming.recv() => self.hear(frame),
                order = orders.recv(), if !stopping => self.obey(order),
                () = &mut patience, if stopping => return End::Kill("it did not stop in time".into()),
                _ = heartbeat.tick(), if !stopping => self.ask_for_life(),
                room = events.reserve(), if !self.backlog.is_empty() && !events.is_closed() => {
                    if let (Ok(room), Some(increment)) = (room, self.backlog.take()) {
                        room.send(WorkerEvent::Increment(Box::new(increment)));
                    }
                    Ok(Next::GoOn)
                }
            };
            match step {
                Ok(Next::GoOn) => {}
                Ok(Next::Stop) => {
                    stopping = true;
                    patience.set(sleep(self.timing.stop));
                }
                Err(End::Lost(ChannelError::Closed)) if stopping => return End::Stopped,
                Err(end) => return end,
            }
        }
    }

    fn hear(&mut self, frame: Option<Result<FromWorker, ChannelError>>) -> Result<Next, End> {
        let (ask, answer) = match frame.unwrap_or(Err(ChannelError::Closed)).map_err(End::Lost)? {
            FromWorker::Loaded { slot, load_ms } => (Ask::Load(slot), Ok(load_ms)),
            FromWorker::LoadFailed { slot, code, message } => {
                let ask = if code == RefusalCode::SwapFailed { Ask::Swap(slot) } else { Ask::Load(slot) };
                (ask, Err(Refused::new(code, message)))
            }
            FromWorker::Swapped { slot } => (Ask::Swap(slot), Ok(0)),
            FromWorker::Drained { slot } => {
                self.backlog.forget(slot);
                (Ask::Drain(slot), Ok(0))
            }
            FromWorker::Heartbeat { nonce } => {
                if nonce == self.nonce {
                    self.asked = None;
                }
                return Ok(Next::GoOn);
            }
            FromWorker::Increment(increment) => {
                self.backlog.add(*increment);
                return Ok(Next::GoOn);
            }
            FromWorker::Ready { .. } => return Err(End::Kill("it said twice that it is ready".into())),
        };
        if let Some(waiting) = self.answers.remove(&ask) {
            // Whoever asked may have given up.
            let _ = waiting.send(answer);
        }
        Ok(Next::GoOn)
    }

    fn obey(&mut self, order: Option<Order>) -> Result<Next, End> {
        match order {
            Some(Order::Send { frame, descriptors, answer }) => {
                if let ToWorker::Load { slot, .. } = frame {
                    self.backlog.expect(slot);
                }
                self.send(&frame, descriptors)?;
                self.answers.extend(answer);
                Ok(Next::GoOn)
            }
            Some(Order::Kill(cause)) => Err(End::Kill(cause)),
            Some(Order::Stop(told)) => {
                self.stopping.push(told);
                self.send(&ToWorker::Stop, Vec::new()).map(|()| Next::Stop)
            }
            None => self.send(&ToWorker::Stop, Vec::new()).map(|()| Next::Stop),
        }
    }

    fn ask_for_life(&mut self) -> Result<Next, End> {
        match self.asked {
            Some(asked) if asked.elapsed() >= self.timing.silence => {
                Err(End::Kill(format!("it gave no sign of life for {} s", asked.elapsed().as_secs())))
            }
            Some(_) => Ok(Next::GoOn),
            None => {
                self.nonce += 1;
                self.asked = Some(Moment::now());
                self.send(&ToWorker::Heartbeat { nonce: self.nonce }, Vec::new()).map(|()| Next::GoOn)
            }
        }
    }

    fn send(&mut self, message: &ToWorker, descriptors: Vec<OwnedFd>) -> Result<(), End> {
        let frame = frames::encode(message).map_err(|error| End::Lost(error.into()))?;
        self.pipes.outgoing.try_send(Outgoing { frame, descriptors }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => End::Kill("it does not take orders".into()),
            mpsc::error::TrySendError::Closed(_) => End::Lost(ChannelError::Closed),
        })
    }

    /// Sees that the process is gone; returns why where nobody told it to go.
    async fn bury(&mut self, end: End) -> Option<String> {
        let why = match &end {
            End::Stopped => None,
            End::Lost(ChannelError::Closed) => Some(String::new()),
            End::Lost(error) => Some(format!("it sent no readable frame ({error}); ")),
            End::Kill(cause) => Some(format!("{cause}; ")),
        };
        if !matches!(end, End::Stopped | End::Lost(ChannelError::Closed)) {
            // Fails only where it is gone already.
            let _ = self.child.start_kill();
        }
        let status = match timeout(LEAVING, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                let _ = self.child.start_kill();
                self.child.wait().await
            }
        };
        self.answers.clear();
        let ended = status.map_or_else(|error| error.to_string(), ending);
        let told = !self.stopping.is_empty();
        why.filter(|_| !told).map(|why| format!("{why}ended with {ended}"))
    }
}

enum Next {
    GoOn,
    Stop,
}
