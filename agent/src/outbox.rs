//! The outbox: what the device has counted, from the record to the server's commit. `outbox.db`, on a thread of its own.
//!
//! Rows wait without a sequence until something is to be sent and there is a session. Then they are offered: numbered
//! without holes, immutable, durable before they are published, in order, as many reports at once as the link has room for.
//! Only the server's watermark covers them; each session, and a watermark that does not move, starts again from it.
//! Covered rows stay [`KEPT`], within the disk budget, for a server that was restored from a backup.
//!
//! Its loss costs statistics, never control: a disk that refuses is tried again while [`Batch`] keeps the counts in memory,
//! bounded; what is lost then is counted, and said by an event. Nobody waits for this thread: what it is told lies in one
//! place behind a lock that is never held over I/O, where what comes later joins what is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{Generation, ModelVersion},
    watermark::Watermark,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::DeviceClock,
    telemetry::{Batch, Counts},
};

mod budget;
mod clerk;
mod database;
mod offering;
mod opening;
mod rows;

pub use opening::Boots;

/// How long covered rows stay.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// What was published and not covered for so long is published again, also within a session: somebody between here and
/// the server's commit acknowledged it and lost it.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Watermarks that wait for the thread; the oldest give way, for each says everything.
const MOST_WATERMARKS: usize = 16;

/// Where the outbox is and how much it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the file.
    pub folder: PathBuf,
    /// Most bytes on the disk, beside the journal.
    pub budget: u64,
    /// What `state.db` says of earlier starts.
    pub boots: Boots,
    /// For when rows are covered and streams begin.
    pub clock: DeviceClock,
    /// The generation in force.
    pub generation: Generation,
    /// See [`PATIENCE`]; it doubles each time in vain.
    pub patience: Duration,
}

/// What a start goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The number of this start.
    pub boot: u64,
    /// Whether the outbox is open; it is tried again otherwise.
    pub is_open: bool,
    /// What was counted before, by version.
    pub totals: BTreeMap<ModelVersion, Counts>,
}

/// A report that can be published in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The session that it was made for: in another one it comes again, from the watermark on.
    pub session: u64,
    /// The payload.
    pub payload: Bytes,
}

/// The outbox, for `tern-agent status` and for figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutboxPage {
    /// The stream's identity; empty while there is no outbox.
    pub stream: String,
    /// Rows that have no sequence yet.
    pub waiting: u64,
    /// Rows that have one and that the server has not said it committed.
    pub offered: u64,
    /// The newest sequence.
    pub sequence: u64,
    /// What the server said last that it committed.
    pub watermark: u64,
    /// Size on the disk, in bytes, without the journal.
    pub bytes: u64,
    /// Bytes written to it per day, as of this start; none within the first hour.
    pub written_bytes_per_day: Option<u64>,
    /// Bytes written to it since the start; none where the kernel does not say.
    pub written_bytes: Option<u64>,
    /// Why it is not written now, if so.
    pub fault: Option<String>,
    /// What is counted, by version: recorded in the outbox or sent from it, since the outbox began.
    pub counted: BTreeMap<ModelVersion, Counts>,
}

/// What lies before the thread.
#[derive(Debug, Default)]
struct Inbox {
    batch: Batch,
    send: bool,
    session: Option<u64>,
    watermarks: Vec<Watermark>,
    generation: Option<Generation>,
    wanted: Option<oneshot::Sender<Ready>>,
    stop: bool,
    /// Makes the thread panic.
    #[cfg(test)]
    trap: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        let nothing = self.batch.is_empty() && self.watermarks.is_empty() && self.wanted.is_none();
        #[cfg(test)]
        let nothing = nothing && !self.trap;
        nothing && !self.send && self.session.is_none() && !self.stop
    }
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    page: Mutex<OutboxPage>,
}

/// The way to the outbox. Clones are the same outbox; nothing here waits for the disk.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

impl Outbox {
    /// Opens the outbox and starts its thread. Reads the whole file once, so this takes as long as reading
    /// `outbox_bytes` does.
    ///
    /// # Errors
    /// Only where the system gives no thread: an outbox that cannot be opened is tried again.
    pub fn open(options: Options) -> std::io::Result<(Self, Opened, std::thread::JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let clerk = clerk::Clerk::new(options, shared.clone());
        let opened = clerk.opened();
        let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || clerk.run())?;
        Ok((Self(shared), opened, thread))
    }

    /// Records a batch under this generation, and sends what is recorded if `send` says so.
    pub fn record(&self, batch: Option<Batch>, send: bool, generation: Generation) {
        self.tell(|inbox| {
            if let Some(batch) = batch {
                inbox.batch.absorb(batch);
            }
            inbox.send |= send;
            inbox.generation = Some(generation);
        });
    }

    /// A session stands: everything that the server has not covered is published again.
    pub fn session(&self, number: u64) {
        self.tell(|inbox| inbox.session = Some(number));
    }

    /// The server said what it has committed.
    pub fn watermark(&self, watermark: Watermark) {
        self.tell(|inbox| {
            if inbox.watermarks.len() >= MOST_WATERMARKS {
                inbox.watermarks.remove(0);
            }
            inbox.watermarks.push(watermark);
        });
    }

    /// The next report, once there is one; none where the outbox has ended.
    pub async fn next(&self) -> Option<Ready> {
        let (wanted, ready) = oneshot::channel();
        self.tell(|inbox| inbox.wanted = Some(wanted));
        ready.await.ok()
    }

    /// Hands every report to the link as soon as that has room for it.
    pub async fn feed(self, link: mpsc::Sender<Ready>) {
        while let Ok(room) = link.reserve().await {
            let Some(report) = self.next().await else { return };
            room.send(report);
        }
    }

    /// Ends the thread, after a last try to record what it holds.
    pub fn stop(&self) {
        self.tell(|inbox| inbox.stop = true);
    }

    /// The outbox as it stands.
    pub fn page(&self) -> OutboxPage {
        self.0.page.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.0.inbox());
        self.0.bell.notify_one();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies there, once something does or the time is over.
    fn wait(&self, longest: Duration) -> Inbox {
        let inbox = self.inbox();
        let waited = self.bell.wait_timeout_while(inbox, longest, |inbox| inbox.is_empty());
        let (mut inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *inbox)
    }
}

/// What `doctor` says of the outbox, without becoming its writer: rows that the server has not covered and bytes on the disk;
/// none where there is no outbox yet.
///
/// # Errors
/// What is wrong with it, for people.
pub fn examine(folder: &Path) -> Result<Option<(u64, u64)>, String> {
    opening::examine(folder).map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests;
