//! What the detector reads and writes: rows in the order of their commits, states, and the cursor, which moves in the one
//! transaction that keeps what was made of the rows.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::ids::{DeviceId, FleetId, ModelName, ModelVersion};

use super::{
    Store, StoreError, from_json,
    incidents::{self, IncidentChange, Statement},
    integer, millis, natural, parse, time, to_json,
};
use crate::forms::incident::{WatchFigures, WatchRow};

/// A row of `telemetry` as it is stored.
#[derive(Debug, Clone)]
pub struct TelemetryRow {
    /// Its number: the order of commits.
    pub id: i64,
    /// From whom.
    pub device: DeviceId,
    /// Of what.
    pub model: ModelVersion,
    /// When the server received it, in milliseconds since 1970.
    pub received: i64,
    /// Its item, in postcard.
    pub item: Vec<u8>,
}

/// A version as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionState {
    /// Which one.
    pub model: ModelVersion,
    /// `watching`, or why not.
    pub status: String,
    /// Detection windows judged.
    pub windows: u64,
    /// Devices whose newest windows are of it.
    pub devices: u64,
    /// What is shown of it.
    pub figures: WatchFigures,
    /// Its detectors' state and that state's format.
    pub state: Option<(u16, Vec<u8>)>,
}

/// A device on a version as it is written down; without a state it has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// On which version.
    pub model: ModelVersion,
    /// Which device.
    pub device: DeviceId,
    /// Its state and that state's format.
    pub state: Option<(u16, Vec<u8>)>,
}

/// Which version a device's newest windows are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// Which device.
    pub device: DeviceId,
    /// Which version.
    pub model: ModelVersion,
    /// How many in a row.
    pub in_a_row: u8,
}

/// Everything that the detector remembers.
#[derive(Debug)]
pub struct DetectorState {
    /// The newest row that was read.
    pub cursor: i64,
    /// Versions.
    pub versions: Vec<VersionState>,
    /// Devices.
    pub devices: Vec<DeviceState>,
    /// Runs.
    pub runs: Vec<RunState>,
    /// Open incidents.
    pub open: Vec<incidents::OpenIncident>,
}

/// A step of the detector.
#[derive(Debug)]
pub struct Advance {
    /// Where it stood before: a step from elsewhere is not taken.
    pub from: i64,
    /// Where it stands now.
    pub cursor: i64,
    /// Versions that it touched.
    pub versions: Vec<VersionState>,
    /// Devices that it touched.
    pub devices: Vec<DeviceState>,
    /// Runs that it touched.
    pub runs: Vec<RunState>,
    /// What happened to incidents, in order.
    pub changes: Vec<IncidentChange>,
}

impl Store {
    /// The rows after number `cursor`, oldest first, at most `limit`; and about how many there are in all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn detector_rows(&self, cursor: i64, limit: u32) -> Result<(Vec<TelemetryRow>, u64), StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, device, team, model_id, version, received, item FROM telemetry WHERE id > ?1
                 ORDER BY id LIMIT ?2",
            )?;
            let mut rows = statement.query(params![cursor, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, device): (_, String) = (row.get(0)?, row.get(1)?);
                let model =
                    model_version(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?, &row.get::<_, String>(4)?)?;
                let (received, item) = (row.get(5)?, row.get(6)?);
                found.push(TelemetryRow { id, device: parse("telemetry", &device)?, model, received, item });
            }
            // By the ends of the table: to count what is behind would read all of it at every batch.
            let sql = "SELECT coalesce((SELECT max(id) FROM telemetry)
                           - max(?1, (SELECT min(id) FROM telemetry) - 1), 0)";
            let behind: i64 = connection.prepare_cached(sql)?.query_row([cursor], |row| row.get(0))?;
            Ok((found, natural(behind)))
        })
        .await
    }

    /// Classes of devices, of those that are enrolled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device_classes(&self, devices: Vec<DeviceId>) -> Result<Vec<(DeviceId, String)>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT device_class FROM devices WHERE device = ?1")?;
            let mut classes = Vec::new();
            for device in devices {
                let class = statement.query_row([device.as_str()], |row| row.get(0)).optional()?;
                classes.extend(class.map(|class| (device, class)));
            }
            Ok(classes)
        })
        .await
    }

    /// Everything that the detector remembers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn detector(&self) -> Result<DetectorState, StoreError> {
        self.read(|connection| {
            Ok(DetectorState {
                cursor: cursor(connection)?,
                versions: versions(connection)?,
                devices: devices(connection)?,
                runs: runs(connection)?,
                open: incidents::open(connection)?,
            })
        })
        .await
    }

    /// Takes a step of the detector, whole or not at all. Returns what has to be said on MQTT now; it is kept already.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the cursor is not where the step begins; nothing is written then.
    pub async fn advance(&self, step: Advance, fleet: FleetId, now: Timestamp) -> Result<Vec<Statement>, StoreError> {
        self.write(move |connection| {
            let found = cursor(connection)?;
            if found != step.from {
                return Err(super::damaged("cursor", format!("it is at {found}, not {}", step.from)));
            }
            connection.prepare_cached("UPDATE detector SET cursor = ?1")?.execute([step.cursor])?;
            step.versions.iter().try_for_each(|version| write_version(connection, version, now))?;
            step.devices.iter().try_for_each(|device| write_device(connection, device))?;
            step.runs.iter().try_for_each(|run| write_run(connection, run))?;
            let mut statements = Vec::new();
            for change in &step.changes {
                statements.push(incidents::apply(connection, change, &fleet, now)?);
            }
            Ok(statements)
        })
        .await
    }

    /// The versions that the detector has seen rows of, of one model or of all, newest rows first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watches(&self, model: Option<ModelName>) -> Result<Vec<WatchRow>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT team, model_id, version, status, windows, devices, figures, updated FROM detector_versions
                       WHERE ?1 IS NULL OR (team = ?1 AND model_id = ?2) ORDER BY updated DESC, version DESC LIMIT 1000";
            let mut statement = connection.prepare_cached(sql)?;
            let names = model.as_ref().map(|model| (model.team.as_str(), model.model.as_str()));
            let mut rows = statement.query(params![names.map(|n| n.0), names.map(|n| n.1)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let model = model_version(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?;
                found.push(WatchRow {
                    open_incidents: incidents::open_numbers(connection, &model)?,
                    model,
                    status: row.get(3)?,
                    windows: natural(row.get(4)?),
                    devices: natural(row.get(5)?),
                    figures: from_json("figures", row.get::<_, String>(6)?.as_bytes())?,
                    updated: time(row.get(7)?)?,
                });
            }
            Ok(found)
        })
        .await
    }
}

/// Model and version of three columns.
pub(super) fn model_version(team: &str, model: &str, version: &str) -> Result<ModelVersion, StoreError> {
    let name = ModelName { team: parse("model", team)?, model: parse("model", model)? };
    Ok(ModelVersion { name, version: parse("version", version)? })
}

fn cursor(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached("SELECT cursor FROM detector")?.query_row([], |row| row.get(0))?)
}

fn versions(connection: &Connection) -> Result<Vec<VersionState>, StoreError> {
    let sql = "SELECT team, model_id, version, status, windows, devices, figures, format, state FROM detector_versions";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let state = row.get::<_, Option<Vec<u8>>>(8)?;
        found.push(VersionState {
            model: model_version(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?,
            status: row.get(3)?,
            windows: natural(row.get(4)?),
            devices: natural(row.get(5)?),
            figures: from_json("figures", row.get::<_, String>(6)?.as_bytes())?,
            state: state.zip(Some(row.get(7)?)).map(|(bytes, format)| (format, bytes)),
        });
    }
    Ok(found)
}

fn devices(connection: &Connection) -> Result<Vec<DeviceState>, StoreError> {
    let sql = "SELECT team, model_id, version, device, format, state FROM detector_devices";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(DeviceState {
            model: model_version(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?,
            device: parse("device", &row.get::<_, String>(3)?)?,
            state: Some((row.get(4)?, row.get(5)?)),
        });
    }
    Ok(found)
}

fn runs(connection: &Connection) -> Result<Vec<RunState>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT device, team, model_id, version, in_a_row FROM detector_runs")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(RunState {
            device: parse("device", &row.get::<_, String>(0)?)?,
            model: model_version(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?, &row.get::<_, String>(3)?)?,
            in_a_row: row.get(4)?,
        });
    }
    Ok(found)
}

fn write_version(connection: &Connection, version: &VersionState, now: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO detector_versions
                   (team, model_id, version, status, windows, devices, figures, format, state, updated)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        version.model.name.team.as_str(),
        version.model.name.model.as_str(),
        version.model.version.to_string(),
        version.status,
        integer(version.windows),
        integer(version.devices),
        to_json(&version.figures),
        version.state.as_ref().map_or(0, |(format, _)| *format),
        version.state.as_ref().map(|(_, bytes)| bytes),
        millis(now),
    ])?;
    Ok(())
}

fn write_device(connection: &Connection, device: &DeviceState) -> Result<(), StoreError> {
    let (team, model) = (device.model.name.team.as_str(), device.model.name.model.as_str());
    let (version, name) = (device.model.version.to_string(), device.device.as_str());
    match &device.state {
        Some((format, bytes)) => {
            let sql = "INSERT OR REPLACE INTO detector_devices (team, model_id, version, device, format, state)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.prepare_cached(sql)?.execute(params![team, model, version, name, format, bytes])?;
        }
        None => {
            let sql = "DELETE FROM detector_devices WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND device = ?4";
            connection.prepare_cached(sql)?.execute(params![team, model, version, name])?;
        }
    }
    Ok(())
}

fn write_run(connection: &Connection, run: &RunState) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO detector_runs (device, team, model_id, version, in_a_row)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![
        run.device.as_str(),
        run.model.name.team.as_str(),
        run.model.name.model.as_str(),
        run.model.version.to_string(),
        run.in_a_row,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests;
