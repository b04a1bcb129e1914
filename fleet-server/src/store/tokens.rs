//! Operators' tokens: the store knows their hashes only.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use tern_protocol::digest::Digest;

use super::{Store, StoreError, from_json, millis, parse, to_json};
use crate::identity::{Operator, Role, Scope};

/// What a presented token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// Nobody's, or revoked.
    Unknown,
    /// This token's, whose time is over.
    Expired(String),
    /// It counts.
    Counts(Operator),
}

impl Store {
    /// Adds a token that does not end.
    ///
    /// # Errors
    /// [`StoreError`], also where the name is taken.
    pub async fn add_token(&self, hash: Digest, operator: Operator, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            let Operator { name, role, scope } = operator;
            connection.execute(
                "INSERT INTO tokens (hash, name, role, created, teams, devices) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    hash.to_string(),
                    name,
                    role.as_str(),
                    millis(now),
                    scope.teams.as_ref().map(to_json),
                    scope.devices.as_ref().map(ToString::to_string),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// What the token of this hash is at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presented(&self, hash: Digest, now: Timestamp) -> Result<Presented, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT name, role, teams, devices, expires FROM tokens WHERE hash = ?1 AND revoked IS NULL";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row([hash.to_string()], |row| Ok(presented(row, now))).optional()?;
            found.unwrap_or(Ok(Presented::Unknown))
        })
        .await
    }
}

fn presented(row: &Row<'_>, now: Timestamp) -> Result<Presented, StoreError> {
    let operator = holder(row)?;
    let expires: Option<i64> = row.get(4)?;
    Ok(if expires.is_some_and(|expires| expires <= millis(now)) {
        Presented::Expired(operator.name)
    } else {
        Presented::Counts(operator)
    })
}

/// The holder in the columns `name, role, teams, devices`.
fn holder(row: &Row<'_>) -> Result<Operator, StoreError> {
    let (teams, devices): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let scope = Scope {
        teams: teams.map(|teams| from_json("scope", teams.as_bytes())).transpose()?,
        devices: devices.map(|devices| parse("scope", &devices)).transpose()?,
    };
    Ok(Operator { name: row.get(0)?, role: parse::<Role>("role", &row.get::<_, String>(1)?)?, scope })
}
