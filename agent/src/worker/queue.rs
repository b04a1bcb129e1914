//! Requests that wait for an inference thread, and the threads.
//!
//! Full means refused at once: the queue holds as many requests as configured beyond the threads that are free. Heartbeats
//! go before requests, so that load is not taken for death; a thread that picks one up answers only if no other thread
//! has been stuck in one request, so that a loop without end is seen even where there are many threads.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    answer::{Tally, answer},
    failure::Failure,
    ledger::Answered,
    reply::Answer,
    slots::{Held, Loaded},
};
use crate::clock::Moment;

/// A thread that is longer than this in one request is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Counting an answer takes at most this long, by far: thousands of rows are milliseconds.
const FOLD: Duration = Duration::from_secs(2);
/// Heartbeats that may wait; control never has more than one under way.
const HEARTBEATS: usize = 4;

/// One request and where its answer goes.
pub(super) struct Job {
    pub(super) held: Held,
    pub(super) body: Bytes,
    pub(super) json_bytes: Option<usize>,
    pub(super) admitted: Moment,
    pub(super) reply: oneshot::Sender<Result<Answer, Failure>>,
}

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
    started: Moment,
    /// Per thread: when it took up its request, in milliseconds after the start; 0 while free.
    busy_since: Vec<AtomicU64>,
    /// Per thread: odd while it counts an answer that it has given.
    folds: Vec<AtomicU64>,
    /// Somebody has counted one.
    folded: Notify,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    heartbeats: VecDeque<u64>,
    free: usize,
    closed: bool,
}

enum Work {
    Job(Box<Job>),
    Heartbeat(u64),
}

impl Queue {
    pub(super) fn new(threads: usize, capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            capacity,
            started: Moment::now(),
            busy_since: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            folds: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            folded: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in, or refuses it at once.
    pub(super) fn push(&self, job: Job) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.closed {
            return Err(Failure::Stopping);
        }
        if state.jobs.len() >= self.capacity + state.free {
            return Err(Failure::Overload);
        }
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Asks for a sign of life; asked too often, the question is dropped.
    pub(super) fn push_heartbeat(&self, nonce: u64) {
        let mut state = self.lock();
        if state.heartbeats.len() < HEARTBEATS {
            state.heartbeats.push_back(nonce);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Lets the threads end once nothing waits any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Requests that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(nonce) = state.heartbeats.pop_front() {
                return Some(Work::Heartbeat(nonce));
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(Work::Job(Box::new(job)));
            }
            if state.closed {
                return None;
            }
            state.free += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.free -= 1;
        }
    }

    /// Works until the queue is closed and empty. `alive` answers heartbeats.
    pub(super) fn work(&self, thread: usize, alive: impl Fn(u64)) {
        while let Some(work) = self.next() {
            match work {
                Work::Heartbeat(nonce) if self.stuck() => tracing::error!(nonce, "an inference thread is stuck"),
                Work::Heartbeat(nonce) => alive(nonce),
                Work::Job(job) => {
                    self.busy_since[thread].store(self.now().max(1), Relaxed);
                    self.run(thread, *job);
                    self.busy_since[thread].store(0, Relaxed);
                }
            }
        }
    }

    /// Answers first and counts afterwards. Whoever asked and has gone is counted by the one who sent it away.
    fn run(&self, thread: usize, job: Job) {
        let Job { held, body, json_bytes, admitted, reply } = job;
        if reply.is_closed() {
            return;
        }
        let outcome = caught(&held.loaded, &body, json_bytes);
        let latency = admitted.elapsed();
        match outcome {
            Ok((answer, tally)) => {
                // Before the answer goes, so that whoever has it and labels it finds the fold under way.
                self.folds[thread].fetch_add(1, Release);
                if reply.send(Ok(answer)).is_ok() {
                    count(&held.loaded, &tally, latency);
                }
                self.folds[thread].fetch_add(1, Release);
                self.folded.notify_waiters();
            }
            Err(failure) => {
                let kind = failure.kind();
                if let (Ok(()), Some(kind)) = (reply.send(Err(failure)), kind) {
                    held.loaded.counters.failed(kind);
                }
            }
        }
    }

    /// Returns once every answer that was given before is counted, at the latest after [`FOLD`].
    pub(super) async fn folded(&self) {
        let read = |fold: &AtomicU64| fold.load(Acquire);
        let before: Vec<u64> = self.folds.iter().map(read).collect();
        let all_done = async {
            loop {
                let mut changed = std::pin::pin!(self.folded.notified());
                // From here on no notice is missed.
                changed.as_mut().enable();
                let is_done = |(fold, before): (&AtomicU64, &u64)| before.is_multiple_of(2) || read(fold) != *before;
                if self.folds.iter().zip(&before).all(is_done) {
                    return;
                }
                changed.await;
            }
        };
        // Past it the answer is as if the prediction were not known, which the client may ask again.
        let _ = timeout(FOLD, all_done).await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn stuck(&self) -> bool {
        let oldest = self.now().saturating_sub(STUCK.as_millis() as u64);
        self.busy_since.iter().map(|since| since.load(Relaxed)).any(|since| since != 0 && since < oldest)
    }
}

/// Folds an answer that was given, and remembers what it predicted.
fn count(loaded: &Loaded, tally: &Tally, latency: Duration) {
    let Tally { id, rows, breaches, inputs, outputs } = tally;
    let answered = Answered { at: Moment::now(), rows: *rows, breaches: *breaches, latency, inputs, outputs };
    // A bug in counting must not end the thread; what it leaves half-counted is one answer.
    let folded = catch_unwind(AssertUnwindSafe(|| loaded.ledger.fold(&answered)));
    match folded {
        Ok(folded) => {
            loaded.counters.answered(folded.rows, *breaches, latency);
            loaded.predictions.remember(id, folded.increment, folded.predicted, Moment::now());
        }
        Err(_) => {
            tracing::error!("counting an answer panicked; please report it");
            loaded.counters.answered(*rows, *breaches, latency);
        }
    }
}

type Outcome = Result<(Answer, Tally), Failure>;

fn caught(loaded: &Arc<Loaded>, body: &Bytes, json_bytes: Option<usize>) -> Outcome {
    // Nothing that the closure changes outlives a panic: it only reads the loaded version.
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(loaded, body, json_bytes)));
    outcome.unwrap_or_else(|_| Err(Failure::Engine("a bug in the server was caught; please report it".into())))
}

#[cfg(test)]
mod tests;
