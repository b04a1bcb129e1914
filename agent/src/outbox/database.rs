//! The SQL of `outbox.db`: what a batch changes, in one transaction, and how the file is opened.
//!
//! Tables: `meta` (one row: stream, newest sequence, watermark, boot, under a seal), `waiting` (rows without a sequence,
//! which may still be merged), `offered` (rows with one, immutable), `open` (open windows as of the last checkpoint), `total`
//! (what was counted, by version). WAL with `synchronous=FULL`: a sequence must be durable before it is published. Schema 1
//! is read by agents that know schema 1; another `user_version` is damage, never guessed at.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use tern_protocol::{
    ids::ModelVersion,
    report::v1::{Correction, Event, Item, Stream, Window},
};

use super::rows;
use crate::telemetry::{Batch, Counts};

pub(super) const FILE: &str = "outbox.db";
const SCHEMA: i64 = 1;
/// Rows of a report; also as many events as the server takes in one.
pub(super) const MOST_ROWS: i64 = 256;
/// The journal goes back into the database at so many pages: less on the disk, and a page changed twice is written once.
const JOURNAL_PAGES: i64 = 256;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The file is no whole outbox: another has to be begun.
    #[error("outbox.db is damaged: {0}")]
    Damaged(String),
    /// It may work later.
    #[error("outbox.db cannot be used now: {0}")]
    Unavailable(String),
    /// The budget is used up by what may be neither merged nor dropped.
    #[error("the outbox is full: raise outbox_bytes, or bring the device online")]
    Full,
    /// It panicked; whether of the file or of what was to be written is not known.
    #[error("a bug in the outbox was caught; please report it")]
    Bug,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map(|e| (e.code, e.extended_code));
        let is_damage = match code {
            Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => true,
            // A table or a column that is not there, a sequence that is there twice.
            Some((ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch, _)) => true,
            // Reads that fail or end early: the flash is dying, or the file was cut.
            Some((ErrorCode::SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_READ))
            | Some((ErrorCode::SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_SHORT_READ))
            | Some((ErrorCode::SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_CORRUPTFS)) => true,
            Some(_) => false,
            // No answer of SQLite at all: a column is missing or of another type.
            None => true,
        };
        if is_damage { Self::Damaged(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

/// The one row of `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) stream: Stream,
    /// The newest sequence that was given to a row; 0 before the first.
    pub(super) sequence: u64,
    /// What the server said last that it committed.
    pub(super) watermark: u64,
    /// The boot that opened the outbox last.
    pub(super) boot: u64,
}

impl Meta {
    fn seal(&self) -> [u8; 8] {
        let numbers = [self.sequence, self.watermark, self.boot].map(u64::to_be_bytes).concat();
        rows::seal(&[&self.stream.0[..], &numbers].concat())
    }
}

/// What a waiting row is; events overtake the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 0,
    Correction = 1,
    Window = 2,
}

/// An open outbox.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) meta: Meta,
    /// Rows of a report; fewer once the server has not covered what was published.
    pub(super) at_once: i64,
}

impl Database {
    /// Makes the file, with this stream.
    pub(super) fn create(folder: &Path, stream: Stream) -> Result<Self, Failure> {
        let connection = prepare(Connection::open(folder.join(FILE))?)?;
        let meta = Meta { stream, sequence: 0, watermark: 0, boot: 0 };
        let mut database = Self { connection, meta, at_once: MOST_ROWS };
        database.change(|transaction| {
            transaction.execute_batch(TABLES)?;
            write_meta(transaction, &meta)
        })?;
        Ok(database)
    }

    /// Opens the file that is there; none where there is none. Every page is read once, for rot that nobody noticed.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>, Failure> {
        if !folder.join(FILE).exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = prepare(Connection::open_with_flags(folder.join(FILE), flags)?)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables = tables(&connection)?;
        if version == 0 && tables.is_empty() {
            // The power went before the first transaction of its life.
            return Ok(None);
        }
        if version != SCHEMA || tables != OURS {
            return Err(Failure::Damaged(format!("schema {version} of {tables:?}, this agent knows {SCHEMA}")));
        }
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            return Err(Failure::Damaged(check));
        }
        let meta = read_meta(&connection)?;
        Ok(Some(Self { connection, meta, at_once: MOST_ROWS }))
    }

    /// Does all of it or nothing; durable when it returns well.
    pub(super) fn change<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let transaction = self.connection.transaction()?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Writes `meta` together with `work`.
    pub(super) fn change_meta(
        &mut self,
        meta: Meta,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.change(|transaction| {
            work(transaction)?;
            write_meta(transaction, &meta)
        })?;
        self.meta = meta;
        Ok(())
    }

    /// Records a batch, and what is said of its losses.
    pub(super) fn record(&mut self, batch: &Batch, loss: Option<Event>) -> Result<(), Failure> {
        let boot = self.meta.boot;
        self.change(|transaction| {
            for (version, counts) in &batch.counts {
                add_counts(transaction, version, counts)?;
            }
            for (version, window) in &batch.open {
                checkpoint(transaction, version, window.as_ref())?;
            }
            for window in &batch.closed {
                wait(transaction, boot, Item::Window(Box::new(window.clone())))?;
            }
            for correction in batch.corrections() {
                correct(transaction, boot, correction)?;
            }
            for event in batch.events.iter().cloned().chain(loss) {
                wait(transaction, boot, Item::Event(event))?;
            }
            Ok(())
        })
    }

    /// Everything counted, by version.
    pub(super) fn totals(&self) -> Result<BTreeMap<ModelVersion, Counts>, Failure> {
        let mut statement = self
            .connection
            .prepare("SELECT subject, rows, inferences, errors, labels, label_errors, newest_window FROM total")?;
        let found = statement.query_map([], |row| {
            let number = |at: usize| row.get::<_, i64>(at).map(|n| n.max(0) as u64);
            let counts = Counts {
                rows: number(1)?,
                inferences: number(2)?,
                errors: number(3)?,
                labels: number(4)?,
                label_errors: number(5)?,
                newest_window: number(6)?,
            };
            Ok((row.get::<_, String>(0)?, counts))
        })?;
        found
            .map(|row| {
                let (subject, counts) = row?;
                let version = subject.parse().map_err(|_| Failure::Damaged(format!("a total of {subject:?}")))?;
                Ok((version, counts))
            })
            .collect()
    }

    /// Bytes that the database takes, without its journal.
    pub(super) fn bytes(&self) -> Result<u64, Failure> {
        let pragma = |name: &str| self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let used = pragma("page_count")? - pragma("freelist_count")?;
        Ok(used.saturating_mul(pragma("page_size")?).max(0) as u64)
    }

    /// Rows that have no sequence yet.
    pub(super) fn waiting(&self) -> Result<u64, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT count(*) FROM waiting")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.max(0) as u64)
    }
}

const OURS: [&str; 5] = ["meta", "offered", "open", "total", "waiting"];
const TABLES: &str = "
    CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), stream BLOB NOT NULL, sequence INTEGER NOT NULL,
        watermark INTEGER NOT NULL, boot INTEGER NOT NULL, seal BLOB NOT NULL);
    CREATE TABLE waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, subject TEXT NOT NULL,
        start INTEGER NOT NULL, boot INTEGER NOT NULL, bytes BLOB NOT NULL, seal BLOB NOT NULL);
    CREATE TABLE offered (sequence INTEGER PRIMARY KEY, boot INTEGER NOT NULL, covered INTEGER, bytes BLOB NOT NULL,
        seal BLOB NOT NULL);
    CREATE TABLE open (subject TEXT PRIMARY KEY, bytes BLOB NOT NULL, seal BLOB NOT NULL);
    CREATE TABLE total (subject TEXT PRIMARY KEY, rows INTEGER NOT NULL, inferences INTEGER NOT NULL,
        errors INTEGER NOT NULL, labels INTEGER NOT NULL, label_errors INTEGER NOT NULL,
        newest_window INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = 1;";

fn prepare(connection: Connection) -> Result<Connection, Failure> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", JOURNAL_PAGES)?;
    Ok(connection)
}

fn tables(connection: &Connection) -> Result<Vec<String>, Failure> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn read_meta(connection: &Connection) -> Result<Meta, Failure> {
    let found = connection
        .query_row("SELECT stream, sequence, watermark, boot, seal FROM meta WHERE id = 1", [], |row| {
            let number = |at: usize| row.get::<_, i64>(at).map(|n| n.max(0) as u64);
            let meta =
                Meta { stream: Stream(row.get(0)?), sequence: number(1)?, watermark: number(2)?, boot: number(3)? };
            Ok((meta, row.get::<_, Vec<u8>>(4)?))
        })
        .optional()?;
    let (meta, seal) = found.ok_or_else(|| Failure::Damaged("it has no stream".into()))?;
    if seal == meta.seal() { Ok(meta) } else { Err(Failure::Damaged("its seal does not hold".into())) }
}

fn write_meta(transaction: &Transaction<'_>, meta: &Meta) -> Result<(), Failure> {
    transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (1, ?1, ?2, ?3, ?4, ?5)")?.execute(params![
        meta.stream.0,
        number(meta.sequence),
        number(meta.watermark),
        number(meta.boot),
        meta.seal()
    ])?;
    Ok(())
}

fn add_counts(transaction: &Transaction<'_>, version: &ModelVersion, counts: &Counts) -> Result<(), Failure> {
    // SQLite makes a double of a sum that overflows, which nobody could read again: sums stop at their most.
    let sql = "INSERT INTO total VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (subject) DO UPDATE SET
        rows = rows + min(excluded.rows, 9223372036854775807 - rows),
        inferences = inferences + min(excluded.inferences, 9223372036854775807 - inferences),
        errors = errors + min(excluded.errors, 9223372036854775807 - errors),
        labels = labels + min(excluded.labels, 9223372036854775807 - labels),
        label_errors = label_errors + min(excluded.label_errors, 9223372036854775807 - label_errors),
        newest_window = max(newest_window, excluded.newest_window)";
    transaction.prepare_cached(sql)?.execute(params![
        version.to_string(),
        number(counts.rows),
        number(counts.inferences),
        number(counts.errors),
        number(counts.labels),
        number(counts.label_errors),
        number(counts.newest_window),
    ])?;
    Ok(())
}

fn checkpoint(transaction: &Transaction<'_>, version: &ModelVersion, window: Option<&Window>) -> Result<(), Failure> {
    let Some(window) = window else {
        transaction.prepare_cached("DELETE FROM open WHERE subject = ?1")?.execute([version.to_string()])?;
        return Ok(());
    };
    let (bytes, seal) = encoded(Item::Window(Box::new(window.clone())))?;
    let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO open VALUES (?1, ?2, ?3)")?;
    statement.execute(params![version.to_string(), bytes, seal])?;
    Ok(())
}

/// Adds a row that has no sequence yet.
pub(super) fn wait(transaction: &Transaction<'_>, boot: u64, item: Item) -> Result<(), Failure> {
    let (kind, subject, start) = match &item {
        Item::Event(event) => (Kind::Event, String::new(), event.at_ms),
        Item::Correction(c) => (Kind::Correction, correction_subject(c), 0),
        Item::Window(window) => (Kind::Window, window_subject(window), window.start_ms),
    };
    let (bytes, seal) = encoded(item)?;
    let sql = "INSERT INTO waiting (kind, subject, start, boot, bytes, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    transaction.prepare_cached(sql)?.execute(params![kind as i64, subject, start, number(boot), bytes, seal])?;
    Ok(())
}

/// Adds to the correction of the same window and bin that waits, or makes one wait.
fn correct(transaction: &Transaction<'_>, boot: u64, mut correction: Correction) -> Result<(), Failure> {
    let sql = "SELECT id, bytes, seal FROM waiting WHERE kind = ?1 AND subject = ?2";
    let known = transaction
        .prepare_cached(sql)?
        .query_row(params![Kind::Correction as i64, correction_subject(&correction)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        })
        .optional()?;
    if let Some((id, bytes, seal)) = known
        && let Some(Item::Correction(before)) = rows::decode(&bytes, &seal)
    {
        correction.n = correction.n.saturating_add(before.n);
        correction.errors = correction.errors.saturating_add(before.errors);
        transaction.prepare_cached("DELETE FROM waiting WHERE id = ?1")?.execute([id])?;
    }
    wait(transaction, boot, Item::Correction(correction))
}

fn encoded(item: Item) -> Result<(Vec<u8>, [u8; 8]), Failure> {
    rows::encode(item).map_err(|error| Failure::Unavailable(format!("a row: {error}")))
}

/// Windows of one subject may be merged.
fn window_subject(w: &Window) -> String {
    format!("{}@{} {} {}", w.model, w.version, w.contract, w.boot)
}

fn correction_subject(c: &Correction) -> String {
    format!("{}@{} {} {}", c.model, c.version, c.window, c.bin)
}

/// Beyond SQLite's integers lie only counts that nobody reached by counting.
pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
