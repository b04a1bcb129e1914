//! Whether a device is in service: put out for good, or with a new certificate for the key that it has.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, Labels},
};

use super::{NewEvent, Store, StoreError, events, from_json, millis, parse, time};
use crate::{events::EventKind, forms::Barred};

/// An operator's order to put a device out.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// Which.
    pub device: DeviceId,
    /// Why.
    pub reason: String,
    /// By whom: the token's name.
    pub actor: String,
}

/// What an order to put a device out came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOut {
    /// Since when it is out, by whom and why.
    pub barred: Barred,
    /// Open orders that let it in no more.
    pub orders_voided: usize,
    /// Whether there is no such device: only orders for one.
    pub never_enrolled: bool,
}

/// A certificate that a device gets for the key that it has.
#[derive(Debug, Clone)]
pub struct RenewedCertificate {
    /// Whose.
    pub device: DeviceId,
    /// SHA-256 of its key, which stays.
    pub key_sha256: Digest,
    /// Its end.
    pub expires: Timestamp,
    /// Whether it is worth an event.
    pub is_news: bool,
}

impl Store {
    /// Puts a device out for good and voids its open orders; none where there is neither. An earlier revocation stands as
    /// it is, and orders that came after it are void all the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, order: Revocation, now: Timestamp) -> Result<Option<PutOut>, StoreError> {
        self.write(move |connection| {
            let orders_voided = revoke(connection, &order, now)?;
            let device = order.device.as_str();
            let sql = "SELECT revoked, coalesce(revoked_by, ''), coalesce(revoke_reason, '') FROM devices
                       WHERE device = ?1 AND revoked IS NOT NULL";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?));
            let stands = connection.query_row(sql, [device], row).optional()?;
            let Some((since, by, reason)) = stands else {
                let barred = Barred { since: now, by: order.actor, reason: order.reason };
                return Ok((orders_voided > 0).then_some(PutOut { barred, orders_voided, never_enrolled: true }));
            };
            let barred = Barred { since: time(since)?, by, reason };
            Ok(Some(PutOut { barred, orders_voided, never_enrolled: false }))
        })
        .await
    }

    /// The labels of each order by which a device could still come in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_orders(&self, device: DeviceId) -> Result<Vec<Labels>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT labels FROM enrolments WHERE device = ?1 AND used IS NULL
                       UNION ALL SELECT labels FROM claim_serials WHERE device = ?1 AND used IS NULL";
            let mut statement = connection.prepare(sql)?;
            let labels = statement.query_map([device.as_str()], |row| row.get::<_, String>(0))?;
            labels.map(|labels| from_json("labels", labels?.as_bytes())).collect()
        })
        .await
    }

    /// Records that a device in service showed a certificate by this authority: only then is it sure to have one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn showed_certificate_by(
        &self,
        issuer: Digest,
        device: DeviceId,
        key_sha256: Digest,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE devices SET issuer = ?3 WHERE device = ?1 AND key_sha256 = ?2";
            connection.execute(sql, [device.as_str(), &key_sha256.to_string(), &issuer.to_string()])?;
            Ok(())
        })
        .await
    }

    /// The devices in service that did not come with a certificate by this authority last, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certified_by_others(&self, issuer: Digest) -> Result<Vec<DeviceId>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT device FROM devices WHERE revoked IS NULL AND issuer IS NOT ?1 ORDER BY device";
            let mut statement = connection.prepare(sql)?;
            let names = statement.query_map([issuer.to_string()], |row| row.get::<_, String>(0))?;
            names.map(|name| parse("device", &name?)).collect()
        })
        .await
    }

    /// The devices to be that an order can still make, by name: their tokens pin the authority that was when they were made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ordered(&self, now: Timestamp) -> Result<Vec<DeviceId>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT device FROM enrolments WHERE used IS NULL AND expires > ?1
                       UNION SELECT s.device FROM claim_serials s JOIN claims c ON c.id = s.claim
                             WHERE s.used IS NULL AND c.expires > ?1 ORDER BY device";
            let mut statement = connection.prepare(sql)?;
            let names = statement.query_map([millis(now)], |row| row.get::<_, String>(0))?;
            names.map(|name| parse("device", &name?)).collect()
        })
        .await
    }

    /// Records a renewed certificate; false where the device is not in service with that key any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_certificate(&self, renewed: RenewedCertificate, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE devices SET certificate_expires = ?3
                       WHERE device = ?1 AND key_sha256 = ?2 AND revoked IS NULL AND cloned IS NULL";
            let key = renewed.key_sha256.to_string();
            let changed = connection.execute(sql, params![renewed.device.as_str(), key, millis(renewed.expires)])?;
            if changed > 0 && renewed.is_news {
                let words = format!("it ends on {}", renewed.expires);
                let event = NewEvent::new(EventKind::CertificateRenewed, words).by(renewed.device.as_str());
                events::insert(connection, &event.of_device(&renewed.device), now)?;
            }
            Ok(changed > 0)
        })
        .await
    }
}

/// Puts a device out, unless it is, and voids its open orders; returns how many those were.
pub(super) fn revoke(connection: &Connection, order: &Revocation, now: Timestamp) -> Result<usize, StoreError> {
    let device = order.device.as_str();
    // Whatever would still let it in was ordered before, also where an earlier revocation stands.
    let voided = connection.execute("DELETE FROM enrolments WHERE device = ?1 AND used IS NULL", [device])?
        + connection.execute("DELETE FROM claim_serials WHERE device = ?1 AND used IS NULL", [device])?;
    let sql = "UPDATE devices SET revoked = ?2, revoked_by = ?3, revoke_reason = ?4, online = 0
               WHERE device = ?1 AND revoked IS NULL";
    let put_out = connection.execute(sql, params![device, millis(now), order.actor, order.reason])?;
    if put_out + voided > 0 {
        let event = NewEvent::new(EventKind::DeviceRevoked, order.reason.clone()).by(order.actor.clone());
        events::insert(connection, &event.of_device(&order.device), now)?;
    }
    Ok(voided)
}
