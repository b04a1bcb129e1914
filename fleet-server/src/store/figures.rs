//! Figures of versions on devices, and the telemetry behind the newest of them.
//!
//! `figures` has one row a device and version, exact and for ever. `telemetry` has the items themselves, for detectors and
//! charts; it goes after some days, and nothing that counts rests on it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion},
    report::v1::{Correction, Item},
};

use super::{Store, StoreError, damaged, devices::version_of, from_json, integer, millis, natural, parse, to_json};
use crate::ingest::{Entry, MOST, Tally};

/// What one device and version have come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The device.
    pub device: DeviceId,
    /// Model and version.
    pub model: ModelVersion,
    /// The sums.
    pub tally: Tally,
    /// When the newest row was committed, in milliseconds since 1970.
    pub updated: i64,
}

/// Which figures.
#[derive(Debug, Clone, Default)]
pub struct FiguresQuery {
    /// Of this model only.
    pub model: Option<ModelName>,
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// After this device and version, `device team/model@version`.
    pub after: String,
    /// At most so many.
    pub limit: usize,
}

/// An item of telemetry.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Its number in the order of commits.
    pub id: i64,
    /// When it was committed, in milliseconds since 1970.
    pub received: i64,
    /// The item.
    pub item: Item,
}

/// A span of time, and how many windows are wanted around it.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// When it begins, by the server's clock.
    pub since: Timestamp,
    /// When it ends; none where it lasts.
    pub until: Option<Timestamp>,
    /// Most windows of it, the newest.
    pub within: usize,
    /// Most windows just before it, and just after it.
    pub beside: usize,
}

const COLUMNS: &str = "team, model_id, version, device, rows, inferences, errors, violations, windows, labels,
    label_errors, confidence, newest_end, updated";

impl Store {
    /// A page of figures, by device, model and version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn figures(&self, query: FiguresQuery) -> Result<Vec<Figures>, StoreError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM figures WHERE (?1 IS NULL OR team || '/' || model_id = ?1)
                     AND (?2 IS NULL OR device = ?2) AND (device, team, model_id, version) > (?3, ?4, ?5, ?6)
                 ORDER BY device, team, model_id, version LIMIT ?7"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let FiguresQuery { model, device, after, limit } = query;
            let (model, device) = (model.map(|name| name.to_string()), device.map(|device| device.to_string()));
            let [of, team, name, version] = parts(&after);
            let mut rows = statement.query(params![model, device, of, team, name, version, integer(limit as u64)])?;
            let mut figures = Vec::new();
            while let Some(row) = rows.next()? {
                figures.push(from_row(row)?);
            }
            Ok(figures)
        })
        .await
    }

    /// Windows of a model on a device in the order of their commits, at most `limit`: those after item `after`, or the
    /// newest where it is not given. Labels that came later are in them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn windows(
        &self,
        device: DeviceId,
        model: ModelName,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Telemetry>, StoreError> {
        self.read(move |connection| {
            let order = if after.is_some() { "ASC" } else { "DESC" };
            let sql = format!(
                "SELECT id, received, item FROM telemetry WHERE device = ?1 AND team = ?2 AND model_id = ?3
                     AND kind = 'window' AND id > ?4 ORDER BY id {order} LIMIT ?5"
            );
            let (team, name) = (model.team.as_str(), model.model.as_str());
            let of = params![device.as_str(), team, name, after.unwrap_or(0), integer(limit as u64)];
            let mut windows = collect(connection, &sql, of)?;
            windows.sort_by_key(|item| item.id);
            add_late_labels(connection, &device, &model, &mut windows)?;
            Ok(windows)
        })
        .await
    }

    /// Windows of a version on a device around a span of time, in the order of their commits, with labels that came later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn windows_around(
        &self,
        device: DeviceId,
        version: ModelVersion,
        span: Around,
    ) -> Result<Vec<Telemetry>, StoreError> {
        self.read(move |connection| {
            let (team, name) = (version.name.team.as_str(), version.name.model.as_str());
            let number = version.version.to_string();
            let some = |first: i64, last: i64, order: &str, limit: usize| {
                let sql = format!(
                    "SELECT id, received, item FROM telemetry WHERE device = ?1 AND team = ?2 AND model_id = ?3
                         AND version = ?4 AND kind = 'window' AND received BETWEEN ?5 AND ?6 ORDER BY id {order} LIMIT ?7"
                );
                collect(connection, &sql, params![device.as_str(), team, name, number, first, last, integer(limit as u64)])
            };
            let since = millis(span.since);
            let until = span.until.map_or(i64::MAX, millis);
            let mut windows = some(i64::MIN, since.saturating_sub(1), "DESC", span.beside)?;
            windows.extend(some(since, until, "DESC", span.within)?);
            if let Some(after) = until.checked_add(1) {
                windows.extend(some(after, i64::MAX, "ASC", span.beside)?);
            }
            windows.sort_by_key(|item| item.id);
            add_late_labels(connection, &device, &version.name, &mut windows)?;
            Ok(windows)
        })
        .await
    }

    /// Items of telemetry after item `after` in the order of their commits, with their devices, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn telemetry_after(&self, after: i64, limit: usize) -> Result<Vec<(DeviceId, Telemetry)>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT id, received, item, device FROM telemetry WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, integer(limit as u64)])?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                items.push((parse("device", &row.get::<_, String>(3)?)?, item_of(row)?));
            }
            Ok(items)
        })
        .await
    }

    /// Deletes telemetry that was received before `before`, of the oldest at most `limit` items; says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_telemetry(&self, before: Timestamp, limit: u32) -> Result<usize, StoreError> {
        self.write(move |connection| {
            // By number, so that a table of any size is looked at for `limit` rows only.
            let sql = "DELETE FROM telemetry
                       WHERE id < (SELECT min(id) FROM telemetry) + ?2 AND received < ?1";
            Ok(connection.prepare_cached(sql)?.execute(params![millis(before), limit])?)
        })
        .await
    }
}

/// The four names in `device team/model@version`; those that are missing are empty, which is before all others.
fn parts(after: &str) -> [&str; 4] {
    let (device, rest) = after.split_once(' ').unwrap_or((after, ""));
    let (team, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, version) = rest.split_once('@').unwrap_or((rest, ""));
    [device, team, name, version]
}

fn collect(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Telemetry>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(item_of(row)?);
    }
    Ok(items)
}

fn item_of(row: &Row<'_>) -> Result<Telemetry, StoreError> {
    let item = postcard::from_bytes(row.get_ref(2)?.as_blob().map_err(|e| damaged("telemetry", e))?);
    Ok(Telemetry { id: row.get(0)?, received: row.get(1)?, item: item.map_err(|e| damaged("telemetry", e))? })
}

fn number(item: &Item) -> Option<u64> {
    match item {
        Item::Window(window) => Some(window.number),
        _ => None,
    }
}

/// Adds the labels that came after their windows, which are in the order of their commits.
fn add_late_labels(
    connection: &Connection,
    device: &DeviceId,
    model: &ModelName,
    windows: &mut [Telemetry],
) -> Result<(), StoreError> {
    let Some(first) = windows.first().map(|item| item.id) else { return Ok(()) };
    let numbers = || windows.iter().filter_map(|item| number(&item.item));
    let (least, most) = (numbers().min().unwrap_or(0), numbers().max().unwrap_or(0));
    let sql = "SELECT id, received, item FROM telemetry WHERE device = ?1 AND team = ?2 AND model_id = ?3
                   AND kind = 'correction' AND id > ?4 AND number BETWEEN ?5 AND ?6 ORDER BY id LIMIT 10000";
    let (team, name) = (model.team.as_str(), model.model.as_str());
    let of = params![device.as_str(), team, name, first, integer(least), integer(most)];
    for late in collect(connection, sql, of)? {
        let Item::Correction(late) = late.item else { continue };
        windows.iter_mut().for_each(|window| correct(&mut window.item, &late));
    }
    Ok(())
}

/// Adds late labels to the window that they are of.
fn correct(item: &mut Item, late: &Correction) {
    let Item::Window(window) = item else { return };
    if window.number != late.window || window.version != late.version {
        return;
    }
    let bin = late.bin as usize;
    // Bins were judged when the row came; of a window that had no label yet they must be made first.
    if bin >= window.feedback.len() && bin < window.confidence.len().max(1) {
        window.feedback.resize_with(window.confidence.len().max(1), Default::default);
    }
    if let Some(labels) = window.feedback.get_mut(bin) {
        labels.n = labels.n.saturating_add(late.n);
        labels.errors = labels.errors.saturating_add(late.errors);
    }
}

const INSERT: &str = "INSERT INTO telemetry
    (device, team, model_id, version, received, start, end, rows, kind, number, item)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Adds a row of telemetry, inside the caller's transaction.
pub(super) fn insert(
    connection: &Connection,
    device: &DeviceId,
    entry: &Entry,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let Entry { model: ModelVersion { name, version }, kind, number, times, rows, tally: _ } = entry;
    let (received, version) = (millis(now), version.to_string());
    let (start, end) = times.unwrap_or((received, received));
    connection.prepare_cached(INSERT)?.execute(params![
        device.as_str(),
        name.team.as_str(),
        name.model.as_str(),
        version,
        received,
        start,
        end,
        integer(*rows),
        kind,
        integer(*number),
        bytes,
    ])?;
    Ok(())
}

/// Adds to the figures of a version on a device, inside the caller's transaction.
pub(super) fn add(
    connection: &Connection,
    device: &DeviceId,
    model: &ModelVersion,
    tally: &Tally,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (team, name, version) = (model.name.team.as_str(), model.name.model.as_str(), model.version.to_string());
    let sql =
        format!("SELECT {COLUMNS} FROM figures WHERE device = ?1 AND team = ?2 AND model_id = ?3 AND version = ?4");
    let mut sums = connection
        .prepare_cached(&sql)?
        .query_row(params![device.as_str(), team, name, version], |row| Ok(from_row(row)))
        .optional()?
        .transpose()?
        .map_or_else(Tally::default, |figures| figures.tally);
    sums.merge(tally);
    let sql = format!(
        "INSERT OR REPLACE INTO figures ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        team,
        name,
        version,
        device.as_str(),
        integer(sums.rows),
        integer(sums.inferences),
        integer(sums.errors),
        integer(sums.violations),
        integer(sums.windows),
        integer(sums.labels),
        integer(sums.label_errors),
        to_json(&sums.confidence),
        sums.newest_end,
        millis(now),
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> Result<Figures, StoreError> {
    let count = |index: usize| row.get::<_, i64>(index).map(|count| natural(count).min(MOST));
    let tally = Tally {
        rows: count(4)?,
        inferences: count(5)?,
        errors: count(6)?,
        violations: count(7)?,
        windows: count(8)?,
        labels: count(9)?,
        label_errors: count(10)?,
        confidence: from_json("figures", row.get::<_, String>(11)?.as_bytes())?,
        newest_end: row.get(12)?,
    };
    Ok(Figures {
        device: parse("device", &row.get::<_, String>(3)?)?,
        model: version_of(row, 0)?,
        tally,
        updated: row.get(13)?,
    })
}
