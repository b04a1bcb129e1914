//! Operators' tokens: the store knows their hashes only.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use tern_protocol::digest::Digest;

use super::{Store, StoreError, millis, parse};
use crate::identity::{Operator, Role};

impl Store {
    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError`], also where the name is taken.
    pub async fn add_token(&self, hash: Digest, operator: Operator, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO tokens (hash, name, role, created) VALUES (?1, ?2, ?3, ?4)",
                params![hash.to_string(), operator.name, operator.role.as_str(), millis(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// Whose token has this hash, if it counts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operator(&self, hash: Digest) -> Result<Option<Operator>, StoreError> {
        self.read(move |connection| {
            let row: Option<(String, String)> = connection
                .prepare_cached("SELECT name, role FROM tokens WHERE hash = ?1 AND revoked IS NULL")?
                .query_row([hash.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            row.map(|(name, role)| Ok(Operator { name, role: parse::<Role>("role", &role)? })).transpose()
        })
        .await
    }
}
