//! What only the console asks: counts and small lists, each by one bounded query.

use rusqlite::{Connection, params};
use tern_protocol::{
    ids::{DeviceId, Generation, ModelName, ModelVersion, Version},
    twin::Twin,
};

use super::{Store, StoreError, catalog, devices::version_of, events, incidents, natural, parse};
use crate::{
    devices::refusals,
    forms::{EventRow, VersionRow, incident::IncidentRow},
    ingest::Tally,
    rollout::RolloutId,
};

/// Which incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncidentsOf {
    /// Every one.
    All,
    /// Those that are open.
    Open,
    /// Those that name this device.
    Device(DeviceId),
    /// Those of this model.
    Model(ModelName),
}

/// How many devices stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices that are enrolled and not revoked.
    pub devices: u64,
    /// Of those, with a connection.
    pub online: u64,
    /// Of those, not yet at the generation that is demanded.
    pub behind: u64,
    /// Of those, whose twin reports a refusal that stands.
    pub refusing: u64,
    /// Versions that were published.
    pub versions: u64,
}

impl Store {
    /// How many devices stand where.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|connection| {
            let sql = "SELECT count(*), coalesce(sum(online), 0), coalesce(sum(twin_generation != generation), 0),
                              (SELECT count(*) FROM versions)
                       FROM devices WHERE revoked IS NULL";
            let counts = connection.prepare_cached(sql)?.query_row([], |row| {
                let number = |index| row.get(index).map(natural);
                Ok(Counts {
                    devices: number(0)?,
                    online: number(1)?,
                    behind: number(2)?,
                    refusing: 0,
                    versions: number(3)?,
                })
            })?;
            Ok(Counts { refusing: refusing(connection)?, ..counts })
        })
        .await
    }

    /// Events with a number below `before`, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_before(&self, before: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| {
            events::collect(connection, "WHERE id < ?1 ORDER BY id DESC LIMIT ?2", params![before, limit])
        })
        .await
    }

    /// The newest events of a device, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_of(&self, device: DeviceId, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| {
            let rest = "WHERE device = ?1 ORDER BY id DESC LIMIT ?2";
            events::collect(connection, rest, params![device.as_str(), limit])
        })
        .await
    }

    /// The devices on which a version of `model` answers, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn running(&self, model: ModelName, limit: usize) -> Result<Vec<(DeviceId, Version)>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT r.device, r.version FROM running_models r JOIN devices d ON d.device = r.device
                       WHERE r.team = ?1 AND r.model_id = ?2 AND d.revoked IS NULL ORDER BY r.device LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![model.team.as_str(), model.model.as_str(), limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (device, version): (String, String) = (row.get(0)?, row.get(1)?);
                found.push((parse("device", &device)?, parse("version", &version)?));
            }
            Ok(found)
        })
        .await
    }

    /// Versions that answer on some device, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn versions_in_service(&self, limit: usize) -> Result<Vec<VersionRow>, StoreError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {} FROM versions v WHERE (team, model_id, version) IN
                     (SELECT team, model_id, version FROM running_models)
                 ORDER BY team, model_id, version LIMIT ?1",
                catalog::COLUMNS
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let mut versions = Vec::new();
            while let Some(row) = rows.next()? {
                versions.push(catalog::from_row(row)?);
            }
            Ok(versions)
        })
        .await
    }

    /// Incidents, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn incidents_of(&self, of: IncidentsOf, limit: u32) -> Result<Vec<IncidentRow>, StoreError> {
        self.read(move |connection| {
            let (state, device, team, model) = match &of {
                IncidentsOf::All => (None, None, None, None),
                IncidentsOf::Open => (Some("open"), None, None, None),
                IncidentsOf::Device(device) => (None, Some(device.as_str()), None, None),
                IncidentsOf::Model(name) => (None, None, Some(name.team.as_str()), Some(name.model.as_str())),
            };
            let sql = "SELECT number FROM incidents WHERE (?1 IS NULL OR state = ?1)
                           AND (?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(body, '$.devices') WHERE value = ?2))
                           AND (?3 IS NULL OR (team = ?3 AND model_id = ?4))
                       ORDER BY number DESC LIMIT ?5";
            let mut statement = connection.prepare_cached(sql)?;
            let numbers = statement.query_map(params![state, device, team, model, limit], |row| row.get(0))?;
            let mut found = Vec::new();
            for number in numbers.collect::<Result<Vec<i64>, _>>()? {
                found.extend(incidents::by_number(connection, number)?);
            }
            Ok(found)
        })
        .await
    }

    /// The sums of each version of `model` over all devices, at most `limit`, newest heard first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn figures_of_versions(
        &self,
        model: ModelName,
        limit: usize,
    ) -> Result<Vec<(ModelVersion, Tally)>, StoreError> {
        self.read(move |connection| {
            // `total` saturates where `sum` fails: a device may have reported the largest count there is.
            let sql = "SELECT team, model_id, version, CAST(total(rows) AS INTEGER), CAST(total(inferences) AS INTEGER),
                              CAST(total(errors) AS INTEGER), CAST(total(windows) AS INTEGER),
                              CAST(total(labels) AS INTEGER), CAST(total(label_errors) AS INTEGER)
                       FROM figures WHERE team = ?1 AND model_id = ?2 GROUP BY version ORDER BY max(updated) DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![model.team.as_str(), model.model.as_str(), limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let number = |index| row.get(index).map(natural);
                let tally = Tally {
                    rows: number(3)?,
                    inferences: number(4)?,
                    errors: number(5)?,
                    windows: number(6)?,
                    labels: number(7)?,
                    label_errors: number(8)?,
                    ..Tally::default()
                };
                found.push((version_of(row, 0)?, tally));
            }
            Ok(found)
        })
        .await
    }

    /// The rollouts of a model, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollouts_of(&self, model: ModelName, limit: u32) -> Result<Vec<RolloutId>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT id FROM rollouts WHERE team = ?1 AND model_id = ?2 ORDER BY number DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let key = params![model.team.as_str(), model.model.as_str(), limit];
            let names = statement.query_map(key, |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            names.iter().map(|name| parse("rollout", name)).collect()
        })
        .await
    }
}

/// Devices whose refusal stands; a twin that this server cannot read reports none.
fn refusing(connection: &Connection) -> Result<u64, StoreError> {
    // Most twins know of no refusal: they are not read.
    let sql =
        "SELECT twin, generation FROM devices WHERE revoked IS NULL AND instr(twin, CAST('last_error' AS BLOB)) > 0";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut devices = 0;
    while let Some(row) = rows.next()? {
        let twin: Vec<u8> = row.get(0)?;
        let Ok(twin) = serde_json::from_slice::<Twin>(&twin) else { continue };
        let demanded = Generation(natural(row.get(1)?));
        let mut all = refusals(&twin.models, twin.last_error.as_ref(), twin.generation, demanded);
        devices += u64::from(all.any(|refusal| refusal.stands));
    }
    Ok(devices)
}
