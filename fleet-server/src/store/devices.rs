//! Devices as lists show them, and whether one may come in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, Generation, Labels, ModelId, ModelName, ModelVersion, TeamId, Version},
    twin::Twin,
};

use super::{NewEvent, Store, StoreError, events, from_json, millis, natural, parse, time};
use crate::{
    events::EventKind,
    forms::{Barred, DeviceRow},
    identity::policy::DeviceFacts,
    selector::Selector,
};

/// Whether a device may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admittance {
    /// It may, with the key of this digest.
    Enrolled {
        /// SHA-256 of its public key.
        key_sha256: Digest,
        /// SHA-256 of the authority whose certificate it showed last; none where that is not known.
        issuer: Option<Digest>,
    },
    /// It was enrolled and is revoked.
    Revoked,
    /// Two machines live on its certificate.
    Cloned,
    /// It was never enrolled.
    Unknown,
}

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    /// The last name of the page before; empty for the first.
    pub after: String,
    /// Most rows.
    pub limit: usize,
}

/// A device that is gone without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its connection ended.
    Disconnected,
    /// The server was started, so nobody is connected yet.
    ServerStarted,
}

const COLUMNS: &str = "device, online, last_seen, device_class, own_labels, operator_labels, agent_version, generation,
                       twin_generation, twin, certificate_expires, revoked, revoked_by, revoke_reason, cloned, clone_evidence";

impl Store {
    /// Whether the device may come in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn admittance(&self, device: DeviceId) -> Result<Admittance, StoreError> {
        self.read(move |connection| {
            let row: Option<(String, bool, bool, Option<String>)> = connection
                .prepare_cached(
                    "SELECT key_sha256, revoked IS NOT NULL, cloned IS NOT NULL, issuer FROM devices WHERE device = ?1",
                )?
                .query_row([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            Ok(match row {
                None => Admittance::Unknown,
                Some((_, true, ..)) => Admittance::Revoked,
                Some((_, _, true, _)) => Admittance::Cloned,
                Some((key, false, false, issuer)) => Admittance::Enrolled {
                    key_sha256: parse("key digest", &key)?,
                    issuer: issuer.map(|issuer| parse("authority", &issuer)).transpose()?,
                },
            })
        })
        .await
    }

    /// A page of the devices that `selector` picks, by name; those that are revoked too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn devices(&self, selector: Selector, paging: Paging) -> Result<Vec<DeviceRow>, StoreError> {
        self.read(move |connection| list(connection, &selector, &paging, true)).await
    }

    /// A device that `selector` picks and `scope` does not, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_outside(&self, selector: Selector, scope: Selector) -> Result<Option<DeviceFacts>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT device, device_class, own_labels, operator_labels FROM devices WHERE revoked IS NULL
                       ORDER BY device";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let facts = facts(row)?;
                let DeviceFacts { device, class, labels } = &facts;
                if selector.matches(device, class, labels) && !scope.matches(device, class, labels) {
                    return Ok(Some(facts));
                }
            }
            Ok(None)
        })
        .await
    }

    /// What selectors look at of these devices; those that are not in service are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn facts(&self, devices: Vec<DeviceId>) -> Result<Vec<DeviceFacts>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT device, device_class, own_labels, operator_labels FROM devices
                       WHERE device = ?1 AND revoked IS NULL";
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = Vec::new();
            for device in &devices {
                found.extend(statement.query([device.as_str()])?.next()?.map(facts).transpose()?);
            }
            Ok(found)
        })
        .await
    }

    /// One device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device(&self, device: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM devices WHERE device = ?1");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([device.as_str()])?;
            rows.next()?.map(|row| from_row(connection, row)).transpose()
        })
        .await
    }

    /// Notes that a device is gone, or that all are; says how many were online.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn offline(&self, device: Option<DeviceId>, why: Gone, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| {
            let changed = connection.execute(
                // A connection that ends was alive until now.
                "UPDATE devices SET online = 0, last_seen = coalesce(?2, last_seen)
                 WHERE online = 1 AND (?1 IS NULL OR device = ?1)",
                params![device.as_ref().map(DeviceId::as_str), (why == Gone::Disconnected).then(|| millis(now))],
            )?;
            if let (Some(device), 1.., Gone::Disconnected) = (&device, changed, why) {
                let event = NewEvent::new(EventKind::DeviceOffline, "the connection ended without a last will");
                events::insert(connection, &event.of_device(device), now)?;
            }
            Ok(changed)
        })
        .await
    }
}

fn facts(row: &Row<'_>) -> Result<DeviceFacts, StoreError> {
    let text = |index: usize| row.get::<_, String>(index);
    Ok(DeviceFacts {
        device: parse("device", &text(0)?)?,
        class: parse("device class", &text(1)?)?,
        labels: effective_labels(&text(2)?, &text(3)?)?,
    })
}

pub(super) fn list(
    connection: &Connection,
    selector: &Selector,
    paging: &Paging,
    with_revoked: bool,
) -> Result<Vec<DeviceRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM devices WHERE device > ?1 AND (?2 OR revoked IS NULL) ORDER BY device");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![&paging.after, with_revoked])?;
    let mut devices = Vec::new();
    while devices.len() < paging.limit {
        let Some(row) = rows.next()? else { break };
        let device = from_row(connection, row)?;
        if selector.matches(&device.device, &device.device_class, &device.labels) {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn from_row(connection: &Connection, row: &Row<'_>) -> Result<DeviceRow, StoreError> {
    let text = |index: usize| row.get::<_, String>(index);
    let device: DeviceId = parse("device", &text(0)?)?;
    let twin: Option<Twin> = row.get::<_, Option<Vec<u8>>>(9)?.map(|bytes| from_json("twin", &bytes)).transpose()?;
    let (models, last_error) = twin.map(|twin| (twin.models, twin.last_error)).unwrap_or_default();
    Ok(DeviceRow {
        online: row.get(1)?,
        last_seen: row.get::<_, Option<i64>>(2)?.map(time).transpose()?,
        device_class: parse("device class", &text(3)?)?,
        labels: effective_labels(&text(4)?, &text(5)?)?,
        agent_version: text(6)?,
        desired_generation: Generation(natural(row.get(7)?)),
        desired: demanded(connection, &device)?,
        generation: Generation(natural(row.get(8)?)),
        models,
        last_error,
        certificate_expires: time(row.get(10)?)?,
        revoked: barred(row, 11, row.get(12)?, row.get(13)?)?,
        cloned: barred(row, 14, None, row.get(15)?)?,
        device,
    })
}

/// Since when the device is out, where the column of that index says so.
fn barred(
    row: &Row<'_>,
    since: usize,
    by: Option<String>,
    reason: Option<String>,
) -> Result<Option<Barred>, StoreError> {
    let Some(since) = row.get::<_, Option<i64>>(since)? else { return Ok(None) };
    Ok(Some(Barred {
        since: time(since)?,
        by: by.unwrap_or_else(|| "server".into()),
        reason: reason.unwrap_or_default(),
    }))
}

/// The operator's labels go over the device's own.
pub(super) fn effective_labels(own: &str, operators: &str) -> Result<Labels, StoreError> {
    let mut labels: BTreeMap<_, _> = from_json("labels", own.as_bytes())?;
    labels.extend(from_json::<Labels>("labels", operators.as_bytes())?);
    Ok(labels)
}

fn demanded(connection: &Connection, device: &DeviceId) -> Result<Vec<ModelVersion>, StoreError> {
    let sql = "SELECT team, model_id, version FROM desired_models WHERE device = ?1 ORDER BY team, model_id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([device.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        versions.push(version_of(row, 0)?);
    }
    Ok(versions)
}

/// The model version in three columns from `first` on: team, model, version.
pub(super) fn version_of(row: &Row<'_>, first: usize) -> Result<ModelVersion, StoreError> {
    let team: TeamId = parse("team", &row.get::<_, String>(first)?)?;
    let model: ModelId = parse("model", &row.get::<_, String>(first + 1)?)?;
    let version: Version = parse("version", &row.get::<_, String>(first + 2)?)?;
    Ok(ModelVersion { name: ModelName { team, model }, version })
}
