//! Claims: tokens that make many devices, each by a serial number that was listed before, and once.
//!
//! The rules of a serial are those of a one-time token: it counts for the first key that used it, which may ask again until
//! the claim expires. A serial or a device that is listed anew stops counting in older lists where it was not used.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    digest::Digest,
    enrolment::Serial,
    ids::{DeviceId, Labels},
};

use super::{
    NewEvent, Store, StoreError, UsedToken,
    enrolments::{EnrolmentRefusal, Order, in_service, install},
    events, millis, parse, to_json,
};
use crate::events::EventKind;

/// An order for a claim's token.
#[derive(Debug, Clone)]
pub struct NewClaim {
    /// Hash of the token's secret.
    pub secret_hash: Digest,
    /// Which serial becomes which device, with which labels over those that the machine brings; no serial and no device
    /// twice.
    pub listed: Vec<(Serial, DeviceId, Labels)>,
    /// The operator.
    pub ordered_by: String,
    /// When the token goes stale.
    pub expires: Timestamp,
}

/// Why no token is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOrderRefusal {
    /// This device is enrolled.
    AlreadyEnrolled(DeviceId),
    /// This serial is this device by now.
    SerialUsed(Serial, DeviceId),
}

/// Why a serial does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// As for a one-time token.
    Token(EnrolmentRefusal),
    /// The serial is not in the token's list.
    UnknownSerial,
}

impl Store {
    /// Records a claim; its serials and devices stop counting in older lists where they were not used.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value, and nothing is recorded then.
    pub async fn order_claim(
        &self,
        claim: NewClaim,
        now: Timestamp,
    ) -> Result<Result<(), ClaimOrderRefusal>, StoreError> {
        self.write(move |connection| {
            for (serial, device, _) in &claim.listed {
                if let Some(refusal) = unlistable(connection, serial, device)? {
                    return Ok(Err(refusal));
                }
            }
            insert(connection, &claim, now)?;
            Ok(Ok(()))
        })
        .await
    }

    /// The device that a serial becomes by the token with this hash.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn claimed(
        &self,
        secret_hash: Digest,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Result<DeviceId, ClaimRefusal>, StoreError> {
        self.read(move |connection| Ok(find(connection, &secret_hash, &serial, now)?.map(|found| found.device))).await
    }

    /// Uses a serial up and records its device, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn claim(
        &self,
        token: UsedToken,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Result<(), ClaimRefusal>, StoreError> {
        self.write(move |connection| {
            let found = match find(connection, &token.secret_hash, &serial, now)? {
                Ok(found) if found.device == token.device => found,
                Ok(_) => return Ok(Err(ClaimRefusal::UnknownSerial)),
                Err(refusal) => return Ok(Err(refusal)),
            };
            let sql = "SELECT key_sha256, revoked IS NULL AND cloned IS NULL FROM devices WHERE device = ?1";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?));
            let before = connection.query_row(sql, [token.device.as_str()], row).optional()?;
            let key = token.key_sha256.to_string();
            let is_its_own = before.is_some_and(|(before, is_in)| before == key && is_in);
            match &found.order.used_key {
                Some(used) if *used == key && is_its_own => return Ok(Ok(())),
                Some(_) => return Ok(Err(ClaimRefusal::Token(EnrolmentRefusal::Used))),
                None if in_service(connection, &token.device)? => {
                    return Ok(Err(ClaimRefusal::Token(EnrolmentRefusal::AlreadyEnrolled)));
                }
                None => {}
            }
            let sql = "UPDATE claim_serials SET used = ?3, used_key = ?4 WHERE claim = ?1 AND serial = ?2";
            connection.execute(sql, params![found.claim, serial.as_str(), millis(now), key])?;
            install(connection, &token, &found.order, now)?;
            Ok(Ok(()))
        })
        .await
    }
}

struct Found {
    claim: i64,
    device: DeviceId,
    order: Order,
}

fn find(
    connection: &Connection,
    secret_hash: &Digest,
    serial: &Serial,
    now: Timestamp,
) -> Result<Result<Found, ClaimRefusal>, StoreError> {
    let sql = "SELECT id, ordered_by, expires FROM claims WHERE secret_hash = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let claim: Option<(i64, String, i64)> =
        connection.prepare_cached(sql)?.query_row([secret_hash.to_string()], row).optional()?;
    let Some((claim, ordered_by, expires)) = claim else {
        return Ok(Err(ClaimRefusal::Token(EnrolmentRefusal::Unknown)));
    };
    if expires <= millis(now) {
        return Ok(Err(ClaimRefusal::Token(EnrolmentRefusal::Expired)));
    }
    let sql = "SELECT device, labels, used_key FROM claim_serials WHERE claim = ?1 AND serial = ?2";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let listed: Option<(String, String, Option<String>)> =
        connection.prepare_cached(sql)?.query_row(params![claim, serial.as_str()], row).optional()?;
    let Some((device, labels, used_key)) = listed else { return Ok(Err(ClaimRefusal::UnknownSerial)) };
    let order = Order { labels, ordered_by, expires, replaces: false, used_key };
    Ok(Ok(Found { claim, device: parse("device", &device)?, order }))
}

/// Why this serial may not become this device, if so.
fn unlistable(
    connection: &Connection,
    serial: &Serial,
    device: &DeviceId,
) -> Result<Option<ClaimOrderRefusal>, StoreError> {
    let sql = "SELECT 1 FROM devices WHERE device = ?1 AND revoked IS NULL";
    if connection.prepare_cached(sql)?.exists([device.as_str()])? {
        return Ok(Some(ClaimOrderRefusal::AlreadyEnrolled(device.clone())));
    }
    let sql = "SELECT s.device FROM claim_serials s JOIN devices d ON d.device = s.device
               WHERE s.serial = ?1 AND s.used IS NOT NULL AND d.revoked IS NULL";
    let other: Option<String> =
        connection.prepare_cached(sql)?.query_row([serial.as_str()], |row| row.get(0)).optional()?;
    let other = other.map(|other| parse("device", &other)).transpose()?;
    Ok(other.map(|other| ClaimOrderRefusal::SerialUsed(serial.clone(), other)))
}

fn insert(connection: &Connection, claim: &NewClaim, now: Timestamp) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO claims (secret_hash, ordered_by, ordered, expires) VALUES (?1, ?2, ?3, ?4)",
        params![claim.secret_hash.to_string(), claim.ordered_by, millis(now), millis(claim.expires)],
    )?;
    let id = connection.last_insert_rowid();
    for (serial, device, labels) in &claim.listed {
        connection
            .prepare_cached("DELETE FROM claim_serials WHERE (serial = ?1 OR device = ?2) AND used IS NULL")?
            .execute([serial.as_str(), device.as_str()])?;
        connection
            .prepare_cached("INSERT INTO claim_serials (claim, serial, device, labels) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, serial.as_str(), device.as_str(), to_json(labels)])?;
    }
    let words = format!("{} serials, token good until {}", claim.listed.len(), claim.expires);
    let event = NewEvent::new(EventKind::EnrolmentOrdered, words);
    events::insert(connection, &event.by(claim.ordered_by.clone()), now)
}
