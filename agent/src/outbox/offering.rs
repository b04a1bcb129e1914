//! Sequences and streams: rows are offered, read for publishing, covered, asked for again, or carried into a new stream.
//!
//! A row gets its sequence in the transaction that takes it out of `waiting`, so the sequences of a stream have no hole and
//! no row has two. What a watermark says is taken as the truth, also where it is lower than one before.

use rusqlite::{Transaction, params};
use tern_protocol::{
    ids::Generation,
    report::v1::{Event, EventKind, Item, Row, Stream},
};

use super::{
    database::{Database, Failure, MOST_ROWS, Meta, number, wait},
    rows,
};

/// Bytes of a report before compression: one that fails is sent again whole.
const MOST_BYTES: usize = 128 << 10;

/// A server takes no row that lies further above its watermark. So where it lost more than this, nothing that is here was
/// taken under the old stream since; where it lost less, some of it may have been, and the stream has to go on.
const MOST_AHEAD: u64 = 1 << 20;

/// When and under which generation something is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at_ms: i64,
    pub(super) generation: Generation,
}

/// What a watermark meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It is of another stream.
    Foreign,
    /// Rows up to it are covered.
    Covered,
    /// The server lost rows: what is still here is published again from it on, and what is gone is stood in for.
    Rewound,
    /// The server lost the stream's beginning, or has rows that never were given here: a new stream began.
    NewStream,
}

impl Database {
    /// Offers rows that wait, as many as make a report; returns how many. Events go first.
    pub(super) fn offer(&mut self) -> Result<usize, Failure> {
        let chosen = self.choose()?;
        if chosen.is_empty() {
            return Ok(0);
        }
        let mut meta = self.meta;
        let first = meta.sequence + 1;
        meta.sequence += chosen.len() as u64;
        self.change_meta(meta, |transaction| {
            for (id, sequence) in chosen.iter().zip(first..) {
                let sql = "INSERT INTO offered SELECT ?1, boot, NULL, bytes, seal FROM waiting WHERE id = ?2";
                transaction.prepare_cached(sql)?.execute(params![number(sequence), id])?;
                transaction.prepare_cached("DELETE FROM waiting WHERE id = ?1")?.execute([id])?;
            }
            Ok(())
        })?;
        Ok(chosen.len())
    }

    fn choose(&self) -> Result<Vec<i64>, Failure> {
        let sql = "SELECT id, length(bytes) FROM waiting ORDER BY kind <> 0, id LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([MOST_ROWS])?;
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            bytes += row.get::<_, i64>(1)?.max(0) as usize;
            if !chosen.is_empty() && bytes > MOST_BYTES {
                break;
            }
            chosen.push(row.get(0)?);
        }
        Ok(chosen)
    }

    /// The rows after `cursor`, as many as make a report. One that rotted, or that is gone and asked for again, is replaced
    /// by an event that says so: the server waits for its number.
    pub(super) fn published(&self, cursor: u64, stamp: Stamp) -> Result<Vec<Row>, Failure> {
        let sql = "SELECT sequence, bytes, seal FROM offered WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params![number(cursor), self.at_once])?;
        let (mut report, mut length) = (Vec::new(), 0);
        let stand_in = |sequence, why| rows::stand_in(sequence, why, stamp.at_ms, stamp.generation);
        let stand_in_until = |report: &mut Vec<Row>, end: u64| {
            let next = report.last().map_or(cursor, |row: &Row| row.sequence) + 1;
            let room = self.at_once as usize - report.len();
            let gone = (next..end).take(room);
            report.extend(gone.map(|sequence| Row { sequence, item: stand_in(sequence, "was dropped once covered") }));
        };
        while let Some(row) = found.next()? {
            let (sequence, bytes, seal): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let sequence = sequence.max(0) as u64;
            stand_in_until(&mut report, sequence);
            length += bytes.len();
            let is_full = report.len() >= self.at_once as usize;
            if is_full || (!report.is_empty() && length > MOST_BYTES) {
                return Ok(report);
            }
            let item = rows::decode(&bytes, &seal).unwrap_or_else(|| {
                tracing::error!(sequence, "a row of the outbox rotted on the disk");
                stand_in(sequence, "rotted on the disk")
            });
            report.push(Row { sequence, item });
        }
        stand_in_until(&mut report, self.meta.sequence + 1);
        Ok(report)
    }

    /// Takes in what the server said of `stream`.
    pub(super) fn watermark(&mut self, stream: Stream, sequence: u64, stamp: Stamp) -> Result<Said, Failure> {
        let meta = self.meta;
        if stream != meta.stream {
            return Ok(Said::Foreign);
        }
        if sequence > meta.sequence {
            // The server has rows under numbers that were never given here: this file is older than what it has seen.
            self.disown(false, stamp)?;
            return Ok(Said::NewStream);
        }
        let lowered = Meta { watermark: sequence, ..meta };
        if sequence >= meta.watermark {
            if sequence > meta.watermark {
                self.change_meta(lowered, |transaction| {
                    let sql = "UPDATE offered SET covered = ?3 WHERE sequence > ?1 AND sequence <= ?2";
                    let bounds = params![number(meta.watermark), number(sequence), stamp.at_ms];
                    transaction.prepare_cached(sql)?.execute(bounds)?;
                    Ok(())
                })?;
            }
            return Ok(Said::Covered);
        }
        if meta.watermark - sequence <= MOST_AHEAD {
            self.change_meta(lowered, |transaction| {
                let sql = "UPDATE offered SET covered = NULL WHERE sequence > ?1";
                transaction.prepare_cached(sql)?.execute([number(sequence)])?;
                Ok(())
            })?;
            return Ok(Said::Rewound);
        }
        self.begin(fresh_stream()?, stamp, |transaction| {
            let kept = "SELECT boot, bytes, seal FROM offered WHERE sequence > ?1 ORDER BY sequence";
            carry_over(transaction, kept, sequence)
        })?;
        Ok(Said::NewStream)
    }

    /// Begins a new stream because this file is a copy of an earlier one: what it held then was the former one's to
    /// deliver, so only rows of this boot are carried over. While it is opened, its open windows go as well.
    pub(super) fn disown(&mut self, is_opening: bool, stamp: Stamp) -> Result<(), Failure> {
        let boot = self.meta.boot;
        self.begin(fresh_stream()?, stamp, |transaction| {
            transaction.execute("DELETE FROM waiting WHERE boot <> ?1", [number(boot)])?;
            if is_opening {
                transaction.execute("DELETE FROM open", [])?;
            }
            let kept = "SELECT boot, bytes, seal FROM offered WHERE boot = ?1 ORDER BY sequence";
            carry_over(transaction, kept, boot)
        })
    }

    /// Begins a new stream: `keep` says which offered rows wait again, and the rest of them goes.
    fn begin(
        &mut self,
        stream: Stream,
        stamp: Stamp,
        keep: impl FnOnce(&Transaction<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let before = self.meta;
        tracing::warn!(stream = %hex::encode(stream.0), "the outbox begins a new stream");
        self.change_meta(Meta { stream, sequence: 0, watermark: 0, boot: before.boot }, |transaction| {
            keep(transaction)?;
            transaction.execute("DELETE FROM offered", [])?;
            wait(transaction, before.boot, Item::Event(new_stream(Some(before.stream), stamp)))
        })
    }

    /// Removes rows that were covered before `before_ms`.
    pub(super) fn forget_covered(&mut self, before_ms: i64) -> Result<(), Failure> {
        let sql = "DELETE FROM offered WHERE covered < ?1";
        self.change(|transaction| {
            transaction.prepare_cached(sql)?.execute([before_ms])?;
            Ok(())
        })
    }
}

fn carry_over(transaction: &Transaction<'_>, sql: &str, bound: u64) -> Result<(), Failure> {
    let mut statement = transaction.prepare(sql)?;
    let mut found = statement.query([number(bound)])?;
    while let Some(row) = found.next()? {
        let (boot, bytes, seal): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(item) = rows::decode(&bytes, &seal) {
            wait(transaction, boot.max(0) as u64, item)?;
        }
    }
    Ok(())
}

/// The event of a new stream.
pub(super) fn new_stream(previous: Option<Stream>, stamp: Stamp) -> Event {
    Event { at_ms: stamp.at_ms, generation: stamp.generation, kind: EventKind::NewStream { previous } }
}

/// A stream that never was.
pub(super) fn fresh_stream() -> Result<Stream, Failure> {
    use ring::rand::SecureRandom;
    let mut stream = Stream([0; 16]);
    let filled = ring::rand::SystemRandom::new().fill(&mut stream.0);
    filled.map_err(|_| Failure::Unavailable("the system gives no random bytes".into()))?;
    Ok(stream)
}
