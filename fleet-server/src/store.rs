//! The fleet's durable records: SQLite, WAL, `synchronous=FULL`, and the only place where SQL stands.
//!
//! One thread writes. It takes what waits in its queue (at most [`BATCH`] jobs), runs each job in a savepoint of its own
//! inside one transaction, commits once, and only then answers: a group commit, so that many devices share one fsync.
//! A job that fails undoes itself alone. [`READERS`] threads read snapshots. The queues are bounded; when one is full
//! the caller waits, which is how overload reaches a device as a withheld acknowledgement.
//!
//! Never: the network, keys, the clock (time comes as an argument).

mod accesses;
mod catalog;
mod claims;
mod decay;
mod deliveries;
mod devices;
mod directing;
mod enrolments;
mod events;
mod figures;
mod incidents;
mod migrations;
mod proposals;
mod quarantine;
mod readers;
mod reports;
mod rollouts;
mod service;
mod settings;
mod sights;
mod standings;
mod tokens;
mod twins;

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};

pub use accesses::AccessQuery;
pub use catalog::{ManifestOutcome, NewVersion, SignedVersion};
pub use claims::{ClaimOrderRefusal, ClaimRefusal, NewClaim};
pub use decay::{Advance, DetectorState, DeviceState, RunState, TelemetryRow, VersionState};
pub use deliveries::{Delivery, Outcome, Work};
pub use devices::{Admittance, Gone, Paging};
pub use directing::{AssignRefusal, AssignmentOrder, SignState};
pub use enrolments::{Enrolled, EnrolmentRefusal, NewEnrolment, OrderRefusal, UsedToken};
pub use events::NewEvent;
pub use figures::{Around, Figures, FiguresQuery, Telemetry};
pub use incidents::{IncidentChange, OpenIncident, Response, Statement};
pub use proposals::{NewProposal, ProposalRefusal, ProposeRefusal};
pub use quarantine::Quarantined;
pub use readers::{NewReader, ReaderRefusal};
pub use reports::{Batch, BatchRefusal, Committed, Content, NewRow};
pub use rollouts::{Carried, CreateRefusal, Happened, NewRollout, RolloutRecord, VerbRefusal};
pub use service::{PutOut, RenewedCertificate, Revocation};
pub use settings::FleetSettings;
pub use sights::{Counts, IncidentsOf};
pub use tokens::{NewToken, Presented, TokenRefusal};
pub use twins::{Heard, StatusKept, TwinKept};

/// Jobs that wait for the writer; one more makes its caller wait.
const QUEUE: usize = 1024;
/// Jobs that share one commit.
const BATCH: usize = 256;
/// Reading threads.
const READERS: usize = 2;

/// The store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused or failed.
    #[error("database")]
    Sqlite(#[from] rusqlite::Error),
    /// The transaction that the job was part of did not become durable.
    #[error("commit: {0}")]
    Commit(String),
    /// A stored value is not of its form: the file was changed from outside.
    #[error("stored {what} is damaged: {detail}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The database was written by a newer server.
    #[error("database has schema {found}, this server knows {known}: start a server as new as the one that wrote it")]
    Newer {
        /// Its schema.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// The store's thread has ended.
    #[error("the store has stopped")]
    Stopped,
}

/// Runs on the connection, or learns why there is no transaction to run in.
type Job = Box<dyn FnOnce(Result<&Connection, String>) -> Finish + Send>;
/// None asks the thread to end.
type Queue = mpsc::Receiver<Option<Job>>;
/// Hands the job's result out, or the reason why the commit failed.
type Finish = Box<dyn FnOnce(Option<&str>) + Send>;

/// The store; every method may be called from any task of any runtime.
#[derive(Debug)]
pub struct Store {
    writes: mpsc::Sender<Option<Job>>,
    reads: Vec<mpsc::Sender<Option<Job>>>,
    turn: AtomicUsize,
    /// How many transactions were committed; the writer's thread tells.
    commits: watch::Receiver<u64>,
    /// In the order in which they end: the writer is the last to let go of the file, so it can fold it into one.
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Store {
    /// Opens the database, bringing its schema up to date.
    ///
    /// # Errors
    /// Where the file cannot be opened, is damaged, or was written by a newer server.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        migrations::apply(&mut writer)?;
        let (counter, commits) = watch::channel(0);
        let (writes, queue) = mpsc::channel(QUEUE);
        let writer = spawn("store-writer", move || write_loop(&writer, queue, &counter))?;
        let (mut reads, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..READERS {
            let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let (sender, queue) = mpsc::channel(QUEUE);
            threads.push(spawn("store-reader", move || read_loop(&reader, queue))?);
            reads.push(sender);
        }
        threads.push(writer);
        Ok(Self { writes, reads, turn: AtomicUsize::new(0), commits, threads: Mutex::new(threads) })
    }

    /// Ends the store: waits until everything queued is committed and the database is one file. What is asked of it
    /// afterwards fails with [`StoreError::Stopped`].
    pub async fn close(&self) {
        for queue in &self.reads {
            // An Err means that the thread has ended.
            let _ = queue.send(None).await;
        }
        let mut threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let writer = threads.pop();
        join(threads).await;
        let _ = self.writes.send(None).await;
        join(writer.into_iter().collect()).await;
    }

    /// Whether the writer takes jobs.
    pub fn is_running(&self) -> bool {
        !self.writes.is_closed()
    }

    /// How many transactions were committed: fewer than jobs, where jobs shared one.
    pub fn commits(&self) -> u64 {
        *self.commits.borrow()
    }

    /// Wakes whoever follows the records after a commit; it ends with the store. Latest wins: who is slow misses numbers
    /// and reads the same records.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// How many jobs wait for the writer.
    pub fn waiting(&self) -> usize {
        QUEUE - self.writes.capacity()
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = match connection {
                Ok(connection) => in_savepoint(connection, job),
                Err(failure) => Err(StoreError::Commit(failure)),
            };
            Box::new(move |failure| {
                let result = match (failure, result) {
                    (Some(failure), Ok(_)) => Err(StoreError::Commit(failure.to_owned())),
                    (_, result) => result,
                };
                // A caller that has given up does not want to know.
                let _ = sender.send(result);
            })
        });
        self.writes.send(Some(job)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.map_err(StoreError::Commit).and_then(job);
            Box::new(move |_| {
                let _ = sender.send(result);
            })
        });
        let reader = self.turn.fetch_add(1, Relaxed) % self.reads.len();
        self.reads[reader].send(Some(job)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, StoreError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(|_| StoreError::Stopped)
}

async fn join(threads: Vec<thread::JoinHandle<()>>) {
    // An Err means that a thread panicked, which SQLite's journal outlives.
    let all = move || threads.into_iter().for_each(|thread| drop(thread.join()));
    let _ = tokio::task::spawn_blocking(all).await;
}

fn read_loop(connection: &Connection, mut queue: Queue) {
    while let Some(Some(job)) = queue.blocking_recv() {
        job(Ok(connection))(None);
    }
}

fn write_loop(connection: &Connection, mut queue: Queue, commits: &watch::Sender<u64>) {
    while let Some(Some(first)) = queue.blocking_recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            tracing::error!(%error, "a transaction could not begin");
            first(Err(error.to_string()))(None);
            continue;
        }
        let mut finishes = vec![first(Ok(connection))];
        let mut goes_on = true;
        while finishes.len() < BATCH && goes_on {
            match queue.try_recv() {
                Ok(Some(job)) => finishes.push(job(Ok(connection))),
                Ok(None) => goes_on = false,
                Err(_) => break,
            }
        }
        let failure = connection.execute_batch("COMMIT").err().map(|error| {
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            tracing::error!(%error, "a commit failed");
            error.to_string()
        });
        if failure.is_none() {
            commits.send_modify(|commits| *commits += 1);
        }
        finishes.into_iter().for_each(|finish| finish(failure.as_deref()));
        if !goes_on {
            break;
        }
    }
    // Leaves one file behind instead of three.
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT job")?;
    let result = job(connection);
    let end = if result.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    connection.execute_batch(end)?;
    result
}

// How types are written in the database: times as milliseconds since 1970, names as text, counters as integers.

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|e| damaged("time", e))
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e| damaged(what, e))
}

fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|e| damaged(what, e))
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: our forms have text keys only")
}

fn damaged(what: &'static str, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { what, detail: detail.to_string() }
}

#[cfg(test)]
mod tests;
