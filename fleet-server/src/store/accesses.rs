//! The access log: append-only, numbered by the database.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use tern_protocol::ids::{DeviceId, ModelName};

use super::{Store, StoreError, integer, millis, natural, parse, time};
use crate::{
    accesses::{Access, Outcome, Who},
    forms::AccessRow,
};

/// Which accesses.
#[derive(Debug, Clone, Default)]
pub struct AccessQuery {
    /// Of this device.
    pub device: Option<DeviceId>,
    /// Of this token, device, or `-` for those without a name.
    pub actor: Option<String>,
    /// To this model.
    pub model: Option<ModelName>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// After this number, oldest first.
    pub after: i64,
    /// Instead: before this number, newest first.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

impl Store {
    /// Records accesses, each with how often it came. What a device was granted for one reason is recorded once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_accesses(&self, rows: Vec<(Access, u64)>, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            rows.iter().try_for_each(|(access, times)| insert(connection, access, *times, now))
        })
        .await
    }

    /// The accesses that `query` picks, in its order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accesses(&self, query: AccessQuery) -> Result<Vec<AccessRow>, StoreError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT id, at, kind, actor, address, action, resource, team, model_id, version, reason, outcome,
                           code, times
                       FROM accesses
                       WHERE id > ?1 AND id < ?8 AND (?2 IS NULL OR kind = 'device' AND actor = ?2) AND (?3 IS NULL OR actor = ?3)
                           AND (?4 IS NULL OR team = ?4 AND model_id = ?5) AND (?6 IS NULL OR at >= ?6)
                       ORDER BY id {} LIMIT ?7",
                if query.before.is_some() { "DESC" } else { "ASC" }
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let AccessQuery { device, actor, model, since, after, before, limit } = query;
            let mut rows = statement.query(params![
                after,
                device.as_ref().map(DeviceId::as_str),
                actor,
                model.as_ref().map(|model| model.team.as_str()),
                model.as_ref().map(|model| model.model.as_str()),
                since.map(millis),
                integer(limit as u64),
                before.unwrap_or(i64::MAX),
            ])?;
            let mut accesses = Vec::new();
            while let Some(row) = rows.next()? {
                accesses.push(from_row(row)?);
            }
            Ok(accesses)
        })
        .await
    }
}

fn insert(connection: &Connection, access: &Access, times: u64, now: Timestamp) -> Result<(), StoreError> {
    let (kind, actor, address) = match &access.who {
        Who::Operator(name) => ("operator", name.as_str(), String::new()),
        Who::Device(device) => ("device", device.as_str(), String::new()),
        Who::Stranger(address) => ("stranger", "-", address.to_string()),
    };
    let (outcome, code) = match access.outcome {
        Outcome::Granted => ("granted", ""),
        Outcome::Refused(code) => ("refused", code),
    };
    let sql = "INSERT INTO accesses
                   (at, kind, actor, address, action, resource, team, model_id, version, reason, outcome, code, times)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
               ON CONFLICT (actor, action, resource, reason) WHERE kind = 'device' AND outcome = 'granted' DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        millis(now),
        kind,
        actor,
        address,
        access.action.as_str(),
        access.resource,
        access.model.as_ref().map(|model| model.team.as_str()),
        access.model.as_ref().map(|model| model.model.as_str()),
        access.version.as_ref().map(ToString::to_string),
        access.reason,
        outcome,
        code,
        integer(times),
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> Result<AccessRow, StoreError> {
    let (team, model): (Option<String>, Option<String>) = (row.get(7)?, row.get(8)?);
    let model = match (team, model) {
        (Some(team), Some(model)) => Some(ModelName { team: parse("access", &team)?, model: parse("access", &model)? }),
        _ => None,
    };
    Ok(AccessRow {
        id: row.get(0)?,
        at: time(row.get(1)?)?,
        kind: row.get(2)?,
        actor: row.get(3)?,
        address: row.get(4)?,
        action: row.get(5)?,
        resource: row.get(6)?,
        model,
        version: row.get::<_, Option<String>>(9)?.map(|version| parse("access", &version)).transpose()?,
        reason: row.get(10)?,
        outcome: row.get(11)?,
        code: row.get(12)?,
        times: natural(row.get(13)?),
    })
}
