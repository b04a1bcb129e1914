//! What devices say of themselves, and the last retained payload of every topic.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    ids::{DeviceId, Generation},
    refusal::RefusalCode,
    twin::{Status, Twin},
};

use super::{NewEvent, Store, StoreError, events, from_json, integer, millis, natural, rollouts, to_json};
use crate::{
    devices::{self, starts::Starts},
    events::EventKind,
};

/// Most retained topics of figures that one device may have.
const MAX_FIGURES: i64 = 160;

/// A payload that a device published on a retained topic.
#[derive(Debug, Clone)]
pub struct Heard {
    /// From whom.
    pub device: DeviceId,
    /// On which topic.
    pub topic: String,
    /// Its bytes; empty clears the topic.
    pub payload: Vec<u8>,
}

/// What became of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKept {
    /// It is known.
    Kept,
    /// It says that two machines live on one certificate, which both are out from now on.
    Cloned,
    /// The device is not enrolled, or is out.
    Refused,
}

/// What a twin brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinKept {
    /// The generation that is demanded, where the twin shows another: an older one, or a newer one by a thief's key.
    pub behind: Option<Generation>,
    /// Refusals that were not in the twin before.
    pub refusals: Vec<RefusalCode>,
}

impl Store {
    /// Keeps a twin; none where the device is not enrolled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_twin(&self, heard: Heard, twin: Twin, now: Timestamp) -> Result<Option<TwinKept>, StoreError> {
        self.write(move |connection| {
            let old: Option<Option<Vec<u8>>> = connection
                .prepare_cached("SELECT twin FROM devices WHERE device = ?1 AND revoked IS NULL")?
                .query_row([heard.device.as_str()], |row| row.get(0))
                .optional()?;
            let Some(old) = old else { return Ok(None) };
            // A stored twin that this server cannot read counts as none.
            let old: Option<Twin> = old.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let behind = update(connection, &heard, &twin, now)?;
            retain(connection, &heard.topic, &heard.payload)?;
            rollouts::note_states(connection, &heard.device, &twin, now)?;
            for version in devices::newly_running(old.as_ref(), &twin) {
                let event = NewEvent::new(EventKind::DeviceRunning, "").of_version(&version);
                events::insert(connection, &event.by(heard.device.as_str()).of_device(&heard.device), now)?;
            }
            let refusals = devices::new_refusals(old.as_ref(), &twin);
            for refusal in &refusals {
                let event = NewEvent::new(EventKind::DeviceRefused, refusal.error.message.clone());
                let event = NewEvent { model: refusal.model.clone(), version: refusal.error.version.clone(), ..event };
                let event = event.by(heard.device.as_str()).of_device(&heard.device).coded(refusal.error.code.as_str());
                events::insert(connection, &event, now)?;
            }
            Ok(Some(TwinKept { behind, refusals: refusals.into_iter().map(|refusal| refusal.error.code).collect() }))
        })
        .await
    }

    /// Keeps a status. One that takes two machines puts both out, in the same transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_status(&self, heard: Heard, status: Status, now: Timestamp) -> Result<StatusKept, StoreError> {
        self.write(move |connection| keep_status(connection, &heard, &status, now)).await
    }

    /// Keeps the payload of a retained topic that the server does not read; false where the device has too many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_figures(&self, heard: Heard) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let folder = heard.topic.rfind('/').map_or(heard.topic.as_str(), |end| &heard.topic[..end]);
            // Between `folder/` and `folder0` lie exactly the topics below the folder.
            let sql = "SELECT count(*) FROM retained WHERE topic > ?1 || '/' AND topic < ?1 || '0' AND topic != ?2";
            let others: i64 =
                connection.prepare_cached(sql)?.query_row([folder, heard.topic.as_str()], |row| row.get(0))?;
            if others >= MAX_FIGURES {
                return Ok(false);
            }
            retain(connection, &heard.topic, &heard.payload)?;
            Ok(true)
        })
        .await
    }

    /// Keeps what the server itself says on a retained topic; an empty payload clears it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retain(&self, topic: String, payload: Vec<u8>) -> Result<(), StoreError> {
        self.write(move |connection| retain(connection, &topic, &payload)).await
    }

    /// The last retained payload of every topic.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retained(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT topic, payload FROM retained ORDER BY topic")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Writes the twin's columns; says what is demanded where the twin shows another generation.
fn update(
    connection: &Connection,
    heard: &Heard,
    twin: &Twin,
    now: Timestamp,
) -> Result<Option<Generation>, StoreError> {
    let device = heard.device.as_str();
    let (lags, generation): (bool, i64) = connection
        .prepare_cached(
            "UPDATE devices SET twin = ?2, twin_generation = ?3, device_class = ?4, own_labels = ?5,
                 agent_version = ?6, last_seen = ?7 WHERE device = ?1
             RETURNING twin_generation <> generation, generation",
        )?
        .query_row(
            params![
                device,
                heard.payload,
                integer(twin.generation.0),
                twin.device_class.as_str(),
                to_json(&twin.labels),
                twin.agent_version,
                millis(now),
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    connection.prepare_cached("DELETE FROM running_models WHERE device = ?1")?.execute([device])?;
    for version in devices::running(twin) {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO running_models (device, team, model_id, version) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                device,
                version.name.team.as_str(),
                version.name.model.as_str(),
                version.version.to_string()
            ])?;
    }
    Ok(lags.then(|| Generation(natural(generation))))
}

pub(super) fn retain(connection: &Connection, topic: &str, payload: &[u8]) -> Result<(), StoreError> {
    if payload.is_empty() {
        connection.prepare_cached("DELETE FROM retained WHERE topic = ?1")?.execute([topic])?;
    } else {
        let sql = "INSERT INTO retained (topic, payload) VALUES (?1, ?2)
                   ON CONFLICT (topic) DO UPDATE SET payload = excluded.payload";
        connection.prepare_cached(sql)?.execute(params![topic, payload])?;
    }
    Ok(())
}

/// What is known of a device before its status.
struct Known {
    was_online: bool,
    boot: Option<String>,
    is_out: bool,
    starts: Starts,
}

fn known(connection: &Connection, device: &DeviceId) -> Result<Option<Known>, StoreError> {
    let sql = "SELECT online, boot, revoked IS NOT NULL OR cloned IS NOT NULL, starts FROM devices WHERE device = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?));
    let found = connection.prepare_cached(sql)?.query_row([device.as_str()], row).optional()?;
    let Some((was_online, boot, is_out, starts)) = found else { return Ok(None) };
    let starts = starts.map(|starts| from_json("starts", starts.as_bytes())).transpose()?.unwrap_or_default();
    Ok(Some(Known { was_online, boot, is_out, starts }))
}

fn keep_status(
    connection: &Connection,
    heard: &Heard,
    status: &Status,
    now: Timestamp,
) -> Result<StatusKept, StoreError> {
    let device = heard.device.as_str();
    let Some(mut known) = known(connection, &heard.device)? else { return Ok(StatusKept::Refused) };
    if known.is_out {
        if status.online {
            return Ok(StatusKept::Refused);
        }
        // The last will of a session that was cut: what dashboards see is then true.
        retain(connection, &heard.topic, &heard.payload)?;
        let event = NewEvent::new(EventKind::DeviceOffline, "its session was cut");
        events::insert(connection, &event.by(device).of_device(&heard.device), now)?;
        return Ok(StatusKept::Kept);
    }
    if status.online
        && let Some(evidence) = known.starts.heard(&status.boot)
    {
        let sql = "UPDATE devices SET cloned = ?2, clone_evidence = ?3, online = 0 WHERE device = ?1";
        connection.execute(sql, params![device, millis(now), evidence])?;
        let event = NewEvent::new(EventKind::DeviceCloned, evidence).of_device(&heard.device);
        events::insert(connection, &event, now)?;
        return Ok(StatusKept::Cloned);
    }
    connection
        .prepare_cached(
            "UPDATE devices SET online = ?2, boot = ?3, agent_version = ?4, last_seen = ?5, starts = ?6
             WHERE device = ?1",
        )?
        .execute(params![
            device,
            status.online,
            status.boot,
            status.agent_version,
            millis(now),
            to_json(&known.starts)
        ])?;
    retain(connection, &heard.topic, &heard.payload)?;
    let kind = if status.online { EventKind::DeviceOnline } else { EventKind::DeviceOffline };
    if known.was_online != status.online || (status.online && known.boot.as_ref() != Some(&status.boot)) {
        let event = NewEvent::new(kind, format!("agent {}", status.agent_version));
        events::insert(connection, &event.by(device).of_device(&heard.device), now)?;
    }
    Ok(StatusKept::Kept)
}
