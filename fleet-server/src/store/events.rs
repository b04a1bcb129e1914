//! What happened in the fleet: append-only, numbered by the database.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use tern_protocol::ids::{DeviceId, ModelName, ModelVersion, Version};

use super::{Store, StoreError, millis, parse, time};
use crate::{events::EventKind, forms::EventRow};

/// An event that is not recorded yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// Who did it: a token's name, a device, or `server`.
    pub actor: String,
    /// The device it concerns.
    pub device: Option<DeviceId>,
    /// The model it concerns.
    pub model: Option<ModelName>,
    /// The version it concerns.
    pub version: Option<Version>,
    /// The code of what was refused, or empty.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
}

impl NewEvent {
    /// An event of the server itself.
    pub fn new(kind: EventKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, actor: "server".into(), device: None, model: None, version: None, code: "", message }
    }

    /// By whom.
    #[must_use]
    pub fn by(self, actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// Of a device.
    #[must_use]
    pub fn of_device(self, device: &DeviceId) -> Self {
        Self { device: Some(device.clone()), ..self }
    }

    /// Of a version.
    #[must_use]
    pub fn of_version(self, version: &ModelVersion) -> Self {
        Self { model: Some(version.name.clone()), version: Some(version.version.clone()), ..self }
    }

    /// With the code of what was refused.
    #[must_use]
    pub fn coded(self, code: &'static str) -> Self {
        Self { code, ..self }
    }
}

pub(super) fn insert(connection: &Connection, event: &NewEvent, now: Timestamp) -> Result<(), StoreError> {
    let text = |name: Option<&dyn ToString>| name.map(ToString::to_string);
    connection
        .prepare_cached(
            "INSERT INTO events (at, kind, actor, device, team, model_id, version, code, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            millis(now),
            event.kind.as_str(),
            event.actor,
            text(event.device.as_ref().map(|d| d as _)),
            text(event.model.as_ref().map(|m| &m.team as _)),
            text(event.model.as_ref().map(|m| &m.model as _)),
            text(event.version.as_ref().map(|v| v as _)),
            event.code,
            event.message.chars().take(1000).collect::<String>(),
        ])?;
    Ok(())
}

const COLUMNS: &str = "id, at, kind, actor, device, team, model_id, version, code, message";

impl Store {
    /// Records an event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&self, event: NewEvent, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| insert(connection, &event, now)).await
    }

    /// The events after number `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| collect(connection, "WHERE id > ?1 ORDER BY id LIMIT ?2", params![after, limit]))
            .await
    }

    /// The newest events, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_events(&self, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| collect(connection, "ORDER BY id DESC LIMIT ?1", params![limit])).await
    }
}

/// The events that the `rest` of a statement picks, in its order.
pub(super) fn collect(
    connection: &Connection,
    rest: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<EventRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM events {rest}"))?;
    let mut rows = statement.query(params)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(from_row(row)?);
    }
    Ok(events)
}

fn from_row(row: &Row<'_>) -> Result<EventRow, StoreError> {
    let (team, model): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
    let model = match (team, model) {
        (Some(team), Some(model)) => Some(ModelName { team: parse("event", &team)?, model: parse("event", &model)? }),
        _ => None,
    };
    Ok(EventRow {
        id: row.get(0)?,
        at: time(row.get(1)?)?,
        kind: row.get(2)?,
        actor: row.get(3)?,
        device: row.get::<_, Option<String>>(4)?.map(|d| parse("event", &d)).transpose()?,
        model,
        version: row.get::<_, Option<String>>(7)?.map(|v| parse("event", &v)).transpose()?,
        code: row.get(8)?,
        message: row.get(9)?,
    })
}
