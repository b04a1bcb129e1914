//! What devices sent that could not be used, for whoever mends it: bounded per device and in all, the oldest go.
//!
//! The same bytes of a device stand here once, with how often they came.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use tern_protocol::{digest::Digest, ids::DeviceId, report::v1::Stream};

use super::{Store, StoreError, integer, millis, natural, parse, time};
use crate::{forms::QuarantineRow, ingest::Poison};

/// Most entries of a device, and their bytes.
const OF_DEVICE: (i64, i64) = (64, 2 << 20);
/// Most entries in all, and their bytes.
const IN_ALL: (i64, i64) = (4096, 64 << 20);

/// Most bytes that are kept of one entry; its length and digest are those of all.
const LONGEST: usize = 64 << 10;

/// Something for the quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Why.
    pub poison: Poison,
    /// Why, for people.
    pub words: String,
    /// The row's stream and number, where it has one.
    pub place: Option<(Stream, u64)>,
    /// As it came.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Keeps something of a device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine(&self, device: DeviceId, kept: Quarantined, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| keep(connection, &device, &[kept], now)).await
    }

    /// What is kept, oldest first, after entry `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantined(&self, after: i64, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT id, device, code, received, times, stream, sequence, message, sha256, length
                       FROM quarantine WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, integer(limit as u64)])?;
            let mut kept = Vec::new();
            while let Some(row) = rows.next()? {
                kept.push(QuarantineRow {
                    id: row.get(0)?,
                    device: parse("device", &row.get::<_, String>(1)?)?,
                    code: row.get(2)?,
                    received: time(row.get(3)?)?,
                    times: natural(row.get(4)?),
                    stream: row.get::<_, Option<Vec<u8>>>(5)?.map(hex::encode),
                    sequence: row.get::<_, Option<i64>>(6)?.map(natural),
                    message: row.get(7)?,
                    sha256: parse("digest", &row.get::<_, String>(8)?)?,
                    bytes: natural(row.get(9)?),
                });
            }
            Ok(kept)
        })
        .await
    }
}

/// Keeps what a device sent, inside the caller's transaction.
pub(super) fn keep(
    connection: &Connection,
    device: &DeviceId,
    kept: &[Quarantined],
    now: Timestamp,
) -> Result<(), StoreError> {
    // A report may bring 4,096 rows, or one of 4 MiB: what would go again at once is not written first.
    let newest = kept.len().saturating_sub(OF_DEVICE.0 as usize);
    for Quarantined { poison, words, place, bytes } in &kept[newest..] {
        let sql = "INSERT INTO quarantine
                       (device, code, received, times, stream, sequence, message, sha256, length, bytes)
                   VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9)
                   ON CONFLICT (device, sha256) DO UPDATE SET times = times + 1, received = excluded.received";
        connection.prepare_cached(sql)?.execute(params![
            device.as_str(),
            poison.code(),
            millis(now),
            place.map(|(stream, _)| stream.0),
            place.map(|(_, sequence)| integer(sequence)),
            words.chars().take(500).collect::<String>(),
            Digest::of(bytes).to_string(),
            integer(bytes.len() as u64),
            &bytes[..bytes.len().min(LONGEST)],
        ])?;
    }
    if kept.is_empty() {
        return Ok(());
    }
    trim(connection, Some(device), OF_DEVICE)?;
    trim(connection, None, IN_ALL)
}

/// Lets go of the oldest beyond the bounds.
fn trim(connection: &Connection, device: Option<&DeviceId>, (entries, bytes): (i64, i64)) -> Result<(), StoreError> {
    let of = if device.is_some() { "device = ?3" } else { "?3 IS NULL" };
    let sql = format!(
        "DELETE FROM quarantine WHERE id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER newest AS place, sum(min(length, {LONGEST})) OVER newest AS total
                 FROM quarantine WHERE {of} WINDOW newest AS (ORDER BY id DESC))
             WHERE place > ?1 OR total > ?2)"
    );
    connection.prepare_cached(&sql)?.execute(params![entries, bytes, device.map(DeviceId::as_str)])?;
    Ok(())
}
