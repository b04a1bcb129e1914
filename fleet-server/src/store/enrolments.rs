//! One-time tokens and what becomes of them.
//!
//! A token is good for one key: whoever holds the private half of the key that used it may ask again until it expires,
//! so that an answer lost on the way costs no second token. A device that never spoke to the fleet may be enrolled anew;
//! one that did is replaced only by an order that says so.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceClass, DeviceId, Labels},
};

use super::{NewEvent, Revocation, Store, StoreError, events, from_json, millis, rollouts, service, to_json};
use crate::events::EventKind;

/// An order for a one-time token.
#[derive(Debug, Clone)]
pub struct NewEnrolment {
    /// Hash of the token's secret.
    pub secret_hash: Digest,
    /// The device to be.
    pub device: DeviceId,
    /// Labels that go over those that the device brings.
    pub labels: Labels,
    /// The operator.
    pub ordered_by: String,
    /// When the token goes stale.
    pub expires: Timestamp,
    /// Whether a device that is in service may be replaced.
    pub replaces: bool,
}

/// Why no token is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderRefusal {
    /// The device is in service.
    AlreadyEnrolled,
}

/// A token that a device presents.
#[derive(Debug, Clone)]
pub struct UsedToken {
    /// Hash of the presented secret.
    pub secret_hash: Digest,
    /// The device that it says it is.
    pub device: DeviceId,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key_sha256: Digest,
    /// Its class.
    pub device_class: DeviceClass,
    /// Its own labels.
    pub labels: Labels,
    /// The agent's version.
    pub agent_version: String,
    /// End of the certificate that it will get.
    pub certificate_expires: Timestamp,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrolmentRefusal {
    /// Nobody ordered it, a newer order replaced it, or it is for another device.
    Unknown,
    /// Another key has used it.
    Used,
    /// It has expired.
    Expired,
    /// The device has gone into service since it was ordered.
    AlreadyEnrolled,
}

/// What a counting token changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enrolled {
    /// Whether another key was the device's before.
    pub replaced: bool,
}

impl Store {
    /// Records an order; older unused ones for the device stop counting.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn order_enrolment(
        &self,
        order: NewEnrolment,
        now: Timestamp,
    ) -> Result<Result<(), OrderRefusal>, StoreError> {
        self.write(move |connection| {
            if !order.replaces && in_service(connection, &order.device)? {
                return Ok(Err(OrderRefusal::AlreadyEnrolled));
            }
            insert(connection, &order, now)?;
            Ok(Ok(()))
        })
        .await
    }

    /// Puts a device out and records the order that lets it in again, with the labels that its operator gave it; false
    /// where there is no such device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reidentify(
        &self,
        mut order: NewEnrolment,
        reason: String,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let sql = "SELECT operator_labels FROM devices WHERE device = ?1";
            let labels: Option<String> =
                connection.query_row(sql, [order.device.as_str()], |row| row.get(0)).optional()?;
            let Some(labels) = labels else { return Ok(false) };
            order.labels = from_json("labels", labels.as_bytes())?;
            let event = NewEvent::new(EventKind::DeviceReidentified, reason.clone()).by(order.ordered_by.clone());
            events::insert(connection, &event.of_device(&order.device), now)?;
            let out = Revocation { device: order.device.clone(), reason, actor: order.ordered_by.clone() };
            service::revoke(connection, &out, now)?;
            insert(connection, &order, now)?;
            Ok(true)
        })
        .await
    }

    /// Whether the token with this hash still makes this device, as far as that can be told without its key; nothing is
    /// changed.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn enrollable(
        &self,
        secret_hash: Digest,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Result<(), EnrolmentRefusal>, StoreError> {
        self.read(move |connection| Ok(judge(connection, &secret_hash, &device, None, now)?.map(drop))).await
    }

    /// Uses a token up and records the device, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn enrol(
        &self,
        token: UsedToken,
        now: Timestamp,
    ) -> Result<Result<Enrolled, EnrolmentRefusal>, StoreError> {
        self.write(move |connection| {
            let key = token.key_sha256.to_string();
            let judged = judge(connection, &token.secret_hash, &token.device, Some(&key), now)?;
            let Judged { order, replaced } = match judged {
                Ok(judged) => judged,
                Err(refusal) => return Ok(Err(refusal)),
            };
            connection.execute(
                "UPDATE enrolments SET used = ?2, used_key = ?3 WHERE secret_hash = ?1",
                params![token.secret_hash.to_string(), millis(now), key],
            )?;
            if order.used_key.is_none() {
                install(connection, &token, &order, now)?;
            }
            Ok(Ok(Enrolled { replaced }))
        })
        .await
    }
}

/// Records an order; older unused ones for the device stop counting.
fn insert(connection: &Connection, order: &NewEnrolment, now: Timestamp) -> Result<(), StoreError> {
    let device = order.device.as_str();
    connection.execute("DELETE FROM enrolments WHERE device = ?1 AND used IS NULL", [device])?;
    connection.execute(
        "INSERT INTO enrolments (secret_hash, device, labels, ordered_by, ordered, expires, replaces)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            order.secret_hash.to_string(),
            device,
            to_json(&order.labels),
            order.ordered_by,
            millis(now),
            millis(order.expires),
            order.replaces,
        ],
    )?;
    let event = NewEvent::new(EventKind::EnrolmentOrdered, format!("token good until {}", order.expires));
    events::insert(connection, &event.by(order.ordered_by.clone()).of_device(&order.device), now)
}

pub(super) struct Order {
    pub(super) labels: String,
    pub(super) ordered_by: String,
    pub(super) expires: i64,
    pub(super) replaces: bool,
    pub(super) used_key: Option<String>,
}

/// A token that counts.
struct Judged {
    order: Order,
    /// Whether another key is the device's.
    replaced: bool,
}

/// Whether a token counts, for this key where it is known already.
fn judge(
    connection: &Connection,
    secret_hash: &Digest,
    device: &DeviceId,
    key: Option<&str>,
    now: Timestamp,
) -> Result<Result<Judged, EnrolmentRefusal>, StoreError> {
    let Some(order) = find(connection, secret_hash, device)? else { return Ok(Err(EnrolmentRefusal::Unknown)) };
    if order.expires <= millis(now) {
        return Ok(Err(EnrolmentRefusal::Expired));
    }
    let before: Option<(String, bool)> = connection
        .query_row(
            "SELECT key_sha256, revoked IS NOT NULL OR cloned IS NOT NULL FROM devices WHERE device = ?1",
            [device.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let is_out = before.as_ref().is_some_and(|(_, is_out)| *is_out);
    let is_other = |known: &str| key.is_some_and(|key| key != known);
    let replaced = before.is_some_and(|(before, _)| is_other(&before));
    match &order.used_key {
        // A key that was replaced since cannot ask again either: it would cut its successor off. One that was put out needs
        // a new order.
        Some(used) if is_other(used) || replaced || is_out => Ok(Err(EnrolmentRefusal::Used)),
        None if !order.replaces && in_service(connection, device)? => Ok(Err(EnrolmentRefusal::AlreadyEnrolled)),
        _ => Ok(Ok(Judged { order, replaced })),
    }
}

fn find(connection: &Connection, secret_hash: &Digest, device: &DeviceId) -> Result<Option<Order>, StoreError> {
    let found = connection
        .query_row(
            "SELECT labels, ordered_by, expires, replaces, used_key FROM enrolments
             WHERE secret_hash = ?1 AND device = ?2",
            params![secret_hash.to_string(), device.as_str()],
            |row| {
                Ok(Order {
                    labels: row.get(0)?,
                    ordered_by: row.get(1)?,
                    expires: row.get(2)?,
                    replaces: row.get(3)?,
                    used_key: row.get(4)?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

pub(super) fn in_service(connection: &Connection, device: &DeviceId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM devices WHERE device = ?1 AND revoked IS NULL AND last_seen IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.exists([device.as_str()])?)
}

/// A replaced device keeps what is demanded of it and its generation, and forgets what the former one said.
pub(super) fn install(
    connection: &Connection,
    token: &UsedToken,
    order: &Order,
    now: Timestamp,
) -> Result<(), StoreError> {
    let device = token.device.as_str();
    connection.execute(
        "INSERT INTO devices (device, enrolled, device_class, own_labels, operator_labels, agent_version, key_sha256,
                              certificate_expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (device) DO UPDATE SET enrolled = ?2, device_class = ?3, own_labels = ?4, operator_labels = ?5,
             agent_version = ?6, key_sha256 = ?7, certificate_expires = ?8, issuer = NULL, revoked = NULL,
             revoked_by = NULL, revoke_reason = NULL, cloned = NULL, clone_evidence = NULL, starts = NULL, online = 0, boot = NULL,
             last_seen = NULL, twin = NULL, twin_generation = 0",
        params![
            device,
            millis(now),
            token.device_class.as_str(),
            to_json(&token.labels),
            order.labels,
            token.agent_version,
            token.key_sha256.to_string(),
            millis(token.certificate_expires),
        ],
    )?;
    connection.execute("DELETE FROM running_models WHERE device = ?1", [device])?;
    rollouts::forget_states(connection, &token.device)?;
    let event = NewEvent::new(EventKind::DeviceEnrolled, format!("token ordered by {}", order.ordered_by));
    events::insert(connection, &event.by(device).of_device(&token.device), now)
}
