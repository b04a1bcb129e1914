//! The transaction that takes rows of a report: dedupe, figures, telemetry, events, quarantine and watermark, or nothing.

use std::collections::{
    BTreeMap,
    btree_map::Entry::{Occupied, Vacant},
};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    ids::{DeviceId, ModelVersion},
    report::v1::Stream,
};

use super::{
    NewEvent, Quarantined, Store, StoreError, damaged, directing, events, figures, from_json, integer, millis, natural,
    quarantine, to_json,
};
use crate::ingest::{
    Cost, Entry, Poison, Tally,
    ledger::{Ledger, LedgerRefusal},
};

/// Streams of a device: an outbox begins anew when it was damaged or restored, which is rare.
const MAX_STREAMS: i64 = 256;
/// A stream that was silent for so long gives way to a new one: devices keep what was committed for seven days.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a row takes beside its bytes: its other columns, its place in the index, its share of half-filled pages. Measured 80 to 110
/// with short names.
const ROW_BYTES: usize = 256;

/// Rows of one stream, in growing sequence.
#[derive(Debug)]
pub struct Batch {
    /// From whom.
    pub device: DeviceId,
    /// From which of its outboxes.
    pub stream: Stream,
    /// The rows.
    pub rows: Vec<NewRow>,
}

/// One row, judged.
#[derive(Debug)]
pub struct NewRow {
    /// Its number in the stream.
    pub sequence: u64,
    /// Where it belongs.
    pub content: Content,
}

/// What a row is; `bytes` is the postcard of its item.
#[derive(Debug)]
pub enum Content {
    /// A window or late labels, for figures and telemetry.
    Counted {
        /// What it says.
        entry: Box<Entry>,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// Something that the fleet is told.
    Told(Box<NewEvent>),
    /// Something that is told in another way.
    Silent,
    /// Something for the quarantine.
    Poisoned {
        /// Why.
        poison: Poison,
        /// Why, for people.
        words: String,
        /// As it came.
        bytes: Vec<u8>,
    },
}

/// Why no row of a batch is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefusal {
    /// The rows cannot follow what is committed of the stream.
    #[error(transparent)]
    Ledger(#[from] LedgerRefusal),
    /// The device has too many streams.
    #[error("the device began {MAX_STREAMS} outboxes in {} days", FORGOTTEN.as_hours() / 24)]
    TooManyStreams,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// Every row of the stream up to this one is committed.
    pub watermark: u64,
    /// Whether the stream is new.
    pub began: bool,
    /// Rows that were new.
    pub new: u64,
    /// Rows that were committed before.
    pub known: u64,
    /// Of the new ones, those in quarantine.
    pub quarantined: Vec<(Poison, String)>,
    /// What it added to the database.
    pub cost: Cost,
}

impl Store {
    /// Takes the rows of a batch, each at most once for ever.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value. Nothing changed in either case.
    pub async fn commit_report(
        &self,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Result<Committed, BatchRefusal>, StoreError> {
        self.write(move |connection| commit(connection, batch, now)).await
    }
}

fn commit(
    connection: &Connection,
    batch: Batch,
    now: Timestamp,
) -> Result<Result<Committed, BatchRefusal>, StoreError> {
    let Batch { device, stream, rows } = batch;
    let known = ledger(connection, &device, stream)?;
    let began = known.is_none();
    let mut ledger = match known {
        Some(ledger) => ledger,
        None if make_room(connection, &device, now)? => Ledger::default(),
        None => return Ok(Err(BatchRefusal::TooManyStreams)),
    };
    let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
    let is_new = match ledger.take(&sequences) {
        Ok(is_new) => is_new,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let mut committed = Committed { watermark: ledger.watermark(), began, ..Committed::default() };
    // What comes again is written too, as a new state of its stream.
    committed.cost.bytes = ROW_BYTES;
    let mut tallies: BTreeMap<ModelVersion, Option<Tally>> = BTreeMap::new();
    let mut poisoned = Vec::new();
    for (row, is_new) in rows.into_iter().zip(is_new) {
        if !is_new {
            committed.known += 1;
            continue;
        }
        committed.new += 1;
        let (poison, words, bytes) = match row.content {
            Content::Silent => continue,
            Content::Told(event) => {
                events::insert(connection, &event, now)?;
                committed.cost.bytes += ROW_BYTES + event.message.len();
                committed.cost.events += 1;
                continue;
            }
            Content::Counted { entry, bytes } => {
                let tally = match tallies.entry(entry.model.clone()) {
                    Occupied(known) => known.into_mut(),
                    // In this transaction: what is demanded meanwhile is demanded before or after it.
                    Vacant(place) => {
                        let is_demanded = directing::was_demanded(connection, &device, place.key())?;
                        place.insert(is_demanded.then(Tally::default))
                    }
                };
                if let Some(tally) = tally {
                    figures::insert(connection, &device, &entry, &bytes, now)?;
                    tally.merge(&entry.tally);
                    committed.cost.bytes += ROW_BYTES + bytes.len();
                    continue;
                }
                (Poison::RowDemand, format!("{} was never demanded of this device", entry.model), bytes)
            }
            Content::Poisoned { poison, words, bytes } => (poison, words, bytes),
        };
        committed.cost.bytes += ROW_BYTES + bytes.len();
        committed.quarantined.push((poison, words.clone()));
        poisoned.push(Quarantined { poison, words, place: Some((stream, row.sequence)), bytes });
    }
    for (model, tally) in &tallies {
        if let Some(tally) = tally {
            figures::add(connection, &device, model, tally, now)?;
        }
    }
    quarantine::keep(connection, &device, &poisoned, now)?;
    keep(connection, &device, stream, &ledger, now)?;
    heard(connection, &device, now)?;
    Ok(Ok(committed))
}

fn ledger(connection: &Connection, device: &DeviceId, stream: Stream) -> Result<Option<Ledger>, StoreError> {
    let sql = "SELECT watermark, ahead FROM streams WHERE device = ?1 AND stream = ?2";
    let row: Option<(i64, String)> = connection
        .prepare_cached(sql)?
        .query_row(params![device.as_str(), stream.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((watermark, ahead)) = row else { return Ok(None) };
    let ahead = from_json("stream", ahead.as_bytes())?;
    let ledger = Ledger::restore(natural(watermark), ahead);
    ledger.map(Some).ok_or_else(|| damaged("stream", "its ranges contradict each other"))
}

fn keep(
    connection: &Connection,
    device: &DeviceId,
    stream: Stream,
    ledger: &Ledger,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO streams (device, stream, watermark, ahead, touched) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET watermark = excluded.watermark, ahead = excluded.ahead,
                   touched = excluded.touched";
    connection.prepare_cached(sql)?.execute(params![
        device.as_str(),
        stream.0,
        integer(ledger.watermark()),
        to_json(&ledger.ahead()),
        millis(now)
    ])?;
    Ok(())
}

/// A report is a sign of life like any other. One that overtook the first status, or comes after an enrolment anew, is none
/// yet: null stays.
fn heard(connection: &Connection, device: &DeviceId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET last_seen = ?2 WHERE device = ?1 AND last_seen < ?2";
    connection.prepare_cached(sql)?.execute(params![device.as_str(), millis(now)])?;
    Ok(())
}

/// Whether a device may begin another stream; one that was silent for long makes room.
fn make_room(connection: &Connection, device: &DeviceId, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) FROM streams WHERE device = ?1";
    let streams: i64 = connection.prepare_cached(sql)?.query_row([device.as_str()], |row| row.get(0))?;
    if streams < MAX_STREAMS {
        return Ok(true);
    }
    let before = millis(now.saturating_sub(FORGOTTEN).unwrap_or(Timestamp::MIN));
    let sql = "DELETE FROM streams WHERE device = ?1 AND touched < ?2";
    Ok(connection.prepare_cached(sql)?.execute(params![device.as_str(), before])? > 0)
}

#[cfg(test)]
mod tests;
