//! What is demanded of devices: the rule of generations, and the signed bytes that go out.
//!
//! Generation = max(last + 1, unix seconds), so a restored server is never behind its devices. The row's bytes are the
//! only source of what is sent.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    desired::{DesiredModel, MAX_MODELS, Probation, Swap},
    digest::Digest,
    ids::{DeviceId, Generation, ModelName, ModelVersion},
    standing::Disallowed,
};

use super::{
    NewEvent, Paging, Store, StoreError, damaged,
    devices::{list, version_of},
    events, from_json, integer, millis, natural, parse, rollouts, standings, to_json,
};
use crate::{director::SignedState, events::EventKind, rollout::RolloutId, selector::Selector};

/// Signs the state of a device; called inside the transaction that stores it.
pub type SignState =
    Arc<dyn Fn(&DeviceId, Generation, Vec<DesiredModel>, Timestamp) -> anyhow::Result<SignedState> + Send + Sync>;

/// What an operator wants on which devices.
#[derive(Debug, Clone)]
pub struct AssignmentOrder {
    /// What to run.
    pub model: ModelVersion,
    /// On which devices.
    pub selector: Selector,
    /// What the version must survive.
    pub probation: Probation,
    /// Why.
    pub reason: String,
    /// The operator.
    pub actor: String,
}

/// Why nothing was assigned. Nothing was then changed on any device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignRefusal {
    /// No such version.
    UnknownVersion,
    /// The team's signed metadata does not list the version.
    Unsigned,
    /// Its team lets the version run no more.
    Disallowed(Disallowed),
    /// The selector picks no device.
    NoDevice,
    /// A device runs another team's model of the same name.
    NameTaken {
        /// Which device.
        device: DeviceId,
        /// Whose model.
        by: ModelName,
    },
    /// A rollout of the model is at work.
    UnderRollout {
        /// Which.
        rollout: RolloutId,
    },
    /// A device would have too many models.
    TooMany {
        /// Which device.
        device: DeviceId,
    },
}

/// What may have to be sent to a device.
#[derive(Debug, Clone)]
pub struct Demand {
    /// The row's bytes.
    pub bytes: Vec<u8>,
    /// The row's generation.
    pub generation: Generation,
    /// Whether the twin shows another generation.
    pub lags: bool,
}

impl Store {
    /// Assigns a version to every device that the selector picks, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn assign(
        &self,
        order: AssignmentOrder,
        sign: SignState,
        now: Timestamp,
    ) -> Result<Result<BTreeMap<DeviceId, Generation>, AssignRefusal>, StoreError> {
        self.write(move |connection| assign(connection, &order, &sign, now)).await
    }

    /// Signs the states anew that expire before `before`, at most `limit`; says whose.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew(
        &self,
        sign: SignState,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<DeviceId>, StoreError> {
        self.write(move |connection| {
            let sql = "SELECT device FROM devices WHERE desired_expires < ?1 AND revoked IS NULL LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let names = statement.query_map(params![millis(before), limit], |row| row.get::<_, String>(0))?;
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let devices = names.iter().map(|name| parse("device", name)).collect::<Result<Vec<DeviceId>, _>>()?;
            sign_anew(connection, &devices, &sign, now)?;
            Ok(devices)
        })
        .await
    }

    /// Signs the states anew whose bytes `differ`, of the devices after `after` and at most `limit`; gives the last
    /// device that was looked at, where there may be more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_where(
        &self,
        sign: SignState,
        differ: impl Fn(&[u8]) -> bool + Send + 'static,
        after: String,
        limit: usize,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        self.write(move |connection| {
            let sql = "SELECT device, desired FROM devices
                       WHERE device > ?1 AND desired IS NOT NULL AND revoked IS NULL ORDER BY device LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let states = statement.query_map(params![after, integer(limit as u64)], row)?;
            let states: Vec<(String, Vec<u8>)> = states.collect::<Result<_, _>>()?;
            let others = states.iter().filter(|(_, bytes)| differ(bytes));
            let devices = others.map(|(name, _)| parse("device", name)).collect::<Result<Vec<DeviceId>, _>>()?;
            sign_anew(connection, &devices, &sign, now)?;
            Ok(states.last().filter(|_| states.len() == limit).map(|(name, _)| name.clone()))
        })
        .await
    }

    /// What is demanded of the device, if anything is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn demand(&self, device: DeviceId) -> Result<Option<Demand>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT desired, generation, twin_generation <> generation FROM devices
                       WHERE device = ?1 AND revoked IS NULL AND cloned IS NULL AND desired IS NOT NULL";
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Demand { bytes: row.get(0)?, generation: Generation(natural(row.get(1)?)), lags: row.get(2)? })
            };
            Ok(connection.prepare_cached(sql)?.query_row([device.as_str()], row).optional()?)
        })
        .await
    }

    /// What is demanded of the device that holds this blob, and by which generation; none where nothing does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn demand_of_blob(
        &self,
        device: DeviceId,
        blob: Digest,
    ) -> Result<Option<(ModelVersion, Generation)>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT team, model_id, version, generation FROM desired_models
                           JOIN version_blobs USING (team, model_id, version) JOIN devices USING (device)
                       WHERE device = ?1 AND sha256 = ?2 LIMIT 1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![device.as_str(), blob.to_string()])?;
            rows.next()?.map(|row| Ok((version_of(row, 0)?, Generation(natural(row.get(3)?))))).transpose()
        })
        .await
    }

    /// The generation that demands this version of the device; none where none does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn demand_of_version(
        &self,
        device: DeviceId,
        version: ModelVersion,
    ) -> Result<Option<Generation>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT generation FROM desired_models JOIN devices USING (device)
                       WHERE device = ?1 AND team = ?2 AND model_id = ?3 AND version = ?4";
            let ModelVersion { name, version } = version;
            let names = params![device.as_str(), name.team.as_str(), name.model.as_str(), version.to_string()];
            let found = connection.prepare_cached(sql)?.query_row(names, |row| row.get(0)).optional()?;
            Ok(found.map(|generation| Generation(natural(generation))))
        })
        .await
    }
}

/// Whether this version is or ever was demanded of the device. A trigger notes what comes to be demanded.
pub(super) fn was_demanded(
    connection: &Connection,
    device: &DeviceId,
    model: &ModelVersion,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM demanded WHERE device = ?1 AND team = ?2 AND model_id = ?3 AND version = ?4";
    let ModelVersion { name, version } = model;
    let key = params![device.as_str(), name.team.as_str(), name.model.as_str(), version.to_string()];
    Ok(connection.prepare_cached(sql)?.exists(key)?)
}

fn sign_anew(
    connection: &Connection,
    devices: &[DeviceId],
    sign: &SignState,
    now: Timestamp,
) -> Result<(), StoreError> {
    for device in devices {
        demand(connection, device, models(connection, device)?, sign, now)?;
    }
    if devices.is_empty() {
        return Ok(());
    }
    let event = NewEvent::new(EventKind::Renewed, format!("{} desired states", devices.len()));
    events::insert(connection, &event, now)
}

fn assign(
    connection: &Connection,
    order: &AssignmentOrder,
    sign: &SignState,
    now: Timestamp,
) -> Result<Result<BTreeMap<DeviceId, Generation>, AssignRefusal>, StoreError> {
    let ModelVersion { name, version } = &order.model;
    let Some(found) = listed(connection, &order.model)? else { return Ok(Err(AssignRefusal::UnknownVersion)) };
    // Before what is listed: a version that was recalled is listed no more, and its team said why.
    if let Err(why) = standings::standing(connection, name)?.allows(version) {
        return Ok(Err(AssignRefusal::Disallowed(why)));
    }
    if !found.is_listed() {
        return Ok(Err(AssignRefusal::Unsigned));
    }
    if let Some(rollout) = rollouts::at_work(connection, name)? {
        return Ok(Err(AssignRefusal::UnderRollout { rollout }));
    }
    let devices = list(connection, &order.selector, &Paging { after: String::new(), limit: usize::MAX }, false)?;
    if devices.is_empty() {
        return Ok(Err(AssignRefusal::NoDevice));
    }
    let wanted = DesiredModel {
        model: name.clone(),
        version: version.clone(),
        manifest: found.manifest,
        swap: Swap::default(),
        probation: order.probation,
        candidate: found.is_candidate(),
    };
    // All are checked before the first is changed: an assignment happens as a whole or not at all.
    let mut plan = Vec::new();
    for row in devices {
        let mut models = models(connection, &row.device)?;
        match models.iter().position(|model| model.model.model == name.model) {
            Some(at) if models[at].model != *name => {
                return Ok(Err(AssignRefusal::NameTaken { device: row.device, by: models[at].model.clone() }));
            }
            Some(at) => models[at] = wanted.clone(),
            None if models.len() >= MAX_MODELS => return Ok(Err(AssignRefusal::TooMany { device: row.device })),
            None => models.push(wanted.clone()),
        }
        plan.push((row.device, models));
    }
    let mut generations = BTreeMap::new();
    for (device, models) in plan {
        let generation = demand(connection, &device, models, sign, now)?;
        rollouts::depart(connection, &device, name, None)?;
        generations.insert(device, generation);
    }
    record(connection, order, &generations, now)?;
    Ok(Ok(generations))
}

/// A version that was uploaded, and which lists of its team name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    /// SHA-256 of its manifest.
    pub(super) manifest: Digest,
    /// Whether it is a release.
    pub(super) signed: bool,
    /// Whether it is listed as a candidate.
    pub(super) candidate: bool,
}

impl Listed {
    /// Whether it can be demanded at all.
    pub(super) fn is_listed(&self) -> bool {
        self.signed || self.candidate
    }

    /// Whether only devices that take candidates run it.
    pub(super) fn is_candidate(&self) -> bool {
        self.candidate && !self.signed
    }
}

/// What is known of a version; none where it was never uploaded.
pub(super) fn listed(connection: &Connection, of: &ModelVersion) -> Result<Option<Listed>, StoreError> {
    let sql = "SELECT manifest_sha256, signed, candidate FROM versions
               WHERE team = ?1 AND model_id = ?2 AND version = ?3";
    let key = params![of.name.team.as_str(), of.name.model.as_str(), of.version.to_string()];
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
    let found = connection.prepare_cached(sql)?.query_row(key, row).optional()?;
    let known = |(digest, signed, candidate): (String, bool, bool)| {
        Ok(Listed { manifest: parse("manifest digest", &digest)?, signed, candidate })
    };
    found.map(known).transpose()
}

fn record(
    connection: &Connection,
    order: &AssignmentOrder,
    generations: &BTreeMap<DeviceId, Generation>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let selector = order.selector.to_string();
    connection.execute(
        "INSERT INTO assignments (at, actor, model, selector, reason, devices) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![millis(now), order.actor, order.model.to_string(), selector, order.reason, to_json(generations)],
    )?;
    let message = format!("to {} devices by {selector}: {}", generations.len(), order.reason);
    let event = NewEvent::new(EventKind::Assigned, message).by(order.actor.clone()).of_version(&order.model);
    events::insert(connection, &event, now)
}

/// Stores a new signed state of the device under its next generation; of a version that may run no more never.
pub(super) fn demand(
    connection: &Connection,
    device: &DeviceId,
    models: Vec<DesiredModel>,
    sign: &SignState,
    now: Timestamp,
) -> Result<Generation, StoreError> {
    let last: i64 = connection
        .prepare_cached("SELECT generation FROM devices WHERE device = ?1")?
        .query_row([device.as_str()], |row| row.get(0))?;
    let generation = next_generation(natural(last), now);
    let models = standings::allowed(connection, device, models)?;
    connection.prepare_cached("DELETE FROM desired_models WHERE device = ?1")?.execute([device.as_str()])?;
    for model in &models {
        connection
            .prepare_cached(
                "INSERT INTO desired_models (device, model_id, team, version, demand) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                device.as_str(),
                model.model.model.as_str(),
                model.model.team.as_str(),
                model.version.to_string(),
                to_json(model),
            ])?;
    }
    let signed = sign(device, generation, models, now).map_err(|e| damaged("desired state", e))?;
    connection
        .prepare_cached("UPDATE devices SET desired = ?2, desired_expires = ?3, generation = ?4 WHERE device = ?1")?
        .execute(params![device.as_str(), signed.bytes, millis(signed.expires), integer(generation.0)])?;
    Ok(generation)
}

/// The generation after `last`.
pub(crate) fn next_generation(last: u64, now: Timestamp) -> Generation {
    Generation(last.saturating_add(1).max(natural(now.as_second())))
}

pub(super) fn models(connection: &Connection, device: &DeviceId) -> Result<Vec<DesiredModel>, StoreError> {
    let sql = "SELECT team, model_id, version, demand FROM desired_models WHERE device = ?1 ORDER BY model_id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([device.as_str()])?;
    let mut models = Vec::new();
    while let Some(row) = rows.next()? {
        let model: DesiredModel = from_json("demand", row.get::<_, String>(3)?.as_bytes())?;
        if model.model_version() != version_of(row, 0)? {
            return Err(damaged("demand", "it contradicts its own row"));
        }
        models.push(model);
    }
    Ok(models)
}
