//! Readers: dashboards with a certificate of their own.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use tern_protocol::digest::Digest;

use super::{Admittance, NewEvent, Store, StoreError, events, millis, parse, time};
use crate::{events::EventKind, forms::ReaderRow, readers::ReaderName};

/// Most readers that are not revoked.
const MAX_READERS: i64 = 1000;

/// A reader that is not recorded yet.
#[derive(Debug, Clone)]
pub struct NewReader {
    /// Its name.
    pub name: ReaderName,
    /// SHA-256 of its public key.
    pub key_sha256: Digest,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
    /// Who adds it.
    pub created_by: String,
}

/// Why a reader is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderRefusal {
    /// There is one of this name.
    Exists,
    /// There are [`MAX_READERS`].
    TooMany,
}

impl Store {
    /// Records a reader; the name of a removed one is free again, with another key.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn add_reader(&self, reader: NewReader, now: Timestamp) -> Result<Result<(), ReaderRefusal>, StoreError> {
        self.write(move |connection| {
            let count = "SELECT count(*) FROM readers WHERE revoked IS NULL";
            if connection.query_row(count, [], |row| row.get::<_, i64>(0))? >= MAX_READERS {
                return Ok(Err(ReaderRefusal::TooMany));
            }
            let sql = "INSERT INTO readers (name, key_sha256, certificate_expires, created, created_by)
                       VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT (name) DO UPDATE SET key_sha256 = excluded.key_sha256,
                           certificate_expires = excluded.certificate_expires, created = excluded.created,
                           created_by = excluded.created_by, revoked = NULL, revoked_by = NULL, revoke_reason = NULL
                       WHERE revoked IS NOT NULL";
            let NewReader { name, key_sha256, certificate_expires, created_by } = reader;
            let (key, expires) = (key_sha256.to_string(), millis(certificate_expires));
            if connection.execute(sql, params![name.as_str(), key, expires, millis(now), created_by])? == 0 {
                return Ok(Err(ReaderRefusal::Exists));
            }
            let event = NewEvent::new(EventKind::ReaderAdded, format!("dashboard {name}, until {certificate_expires}"));
            events::insert(connection, &event.by(created_by), now)?;
            Ok(Ok(()))
        })
        .await
    }

    /// Revokes a reader; false where there is none of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_reader(
        &self,
        name: ReaderName,
        actor: String,
        reason: String,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE readers SET revoked = ?2, revoked_by = ?3, revoke_reason = ?4
                       WHERE name = ?1 AND revoked IS NULL";
            if connection.execute(sql, params![name.as_str(), millis(now), actor, reason])? == 0 {
                return Ok(false);
            }
            let event = NewEvent::new(EventKind::ReaderRemoved, format!("dashboard {name}: {reason}")).by(actor);
            events::insert(connection, &event, now)?;
            Ok(true)
        })
        .await
    }

    /// Whether the reader may come in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reader_admittance(&self, name: ReaderName) -> Result<Admittance, StoreError> {
        self.read(move |connection| {
            let row: Option<(String, Option<i64>)> = connection
                .prepare_cached("SELECT key_sha256, revoked FROM readers WHERE name = ?1")?
                .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(match row {
                None => Admittance::Unknown,
                Some((_, Some(_))) => Admittance::Revoked,
                Some((key, None)) => Admittance::Enrolled { key_sha256: parse("key digest", &key)?, issuer: None },
            })
        })
        .await
    }

    /// The readers that are not revoked, by name; there are few.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn readers(&self) -> Result<Vec<ReaderRow>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT name, created, created_by, certificate_expires FROM readers
                       WHERE revoked IS NULL ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut readers = Vec::new();
            while let Some(row) = rows.next()? {
                readers.push(ReaderRow {
                    name: parse("reader", &row.get::<_, String>(0)?)?,
                    created: time(row.get(1)?)?,
                    created_by: row.get(2)?,
                    certificate_expires: time(row.get(3)?)?,
                });
            }
            Ok(readers)
        })
        .await
    }
}
