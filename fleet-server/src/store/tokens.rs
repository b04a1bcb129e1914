//! Operators' tokens: the store knows their hashes only. Rows stay for ever, so a name means one holder.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::digest::Digest;

use super::{NewEvent, Store, StoreError, events, from_json, millis, parse, time, to_json};
use crate::{
    events::EventKind,
    forms::TokenRow,
    identity::{Operator, Role, Scope, TokenName, policy},
};

/// Most tokens that are not revoked.
const MAX_TOKENS: i64 = 10_000;

/// What a presented token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// Nobody's.
    Unknown,
    /// This token's, which was revoked.
    Revoked(String),
    /// This token's, whose time is over.
    Expired(String),
    /// It counts.
    Counts(Operator),
}

/// A token that is not recorded yet.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its secret's hash.
    pub hash: Digest,
    /// Its name.
    pub name: TokenName,
    /// Its role.
    pub role: Role,
    /// What it is for.
    pub scope: Scope,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

/// Why a token is not made, or not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The name was given before.
    #[error("a token was called {0} before, and names in the records mean one holder: take another name")]
    Exists(TokenName),
    /// There are [`MAX_TOKENS`].
    #[error("there are {MAX_TOKENS} tokens: revoke some first")]
    TooMany,
    /// It may do more than the operator's own.
    #[error("{0} may do more than your own token does: ask somebody whose token is for all of it")]
    Mightier(TokenName),
    /// No token that counts has the name.
    #[error("no token that counts is called {0}: see `tern token list`")]
    Unknown(TokenName),
    /// Without it nobody could administer the fleet any more.
    #[error("{0} is the last admin token for the whole fleet that does not end: make another first")]
    LastAdmin(TokenName),
}

impl Store {
    /// Adds a token that does not end: what `init` makes.
    ///
    /// # Errors
    /// [`StoreError`], also where the name is taken.
    pub async fn add_token(&self, hash: Digest, operator: Operator, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            let Operator { name, role, scope } = operator;
            insert(connection, &hash, (&name, role, &scope), (None, None), now)
        })
        .await
    }

    /// Adds a token by order of `by`; it ends no later than the token of `by`.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn create_token(
        &self,
        token: NewToken,
        by: Operator,
        now: Timestamp,
    ) -> Result<Result<TokenRow, TokenRefusal>, StoreError> {
        self.write(move |connection| {
            let NewToken { hash, name, role, scope, expires } = token;
            if !policy::covers(&by, role, &scope) {
                return Ok(Err(TokenRefusal::Mightier(name)));
            }
            if row(connection, name.as_str())?.is_some() {
                return Ok(Err(TokenRefusal::Exists(name)));
            }
            let count = "SELECT count(*) FROM tokens WHERE revoked IS NULL";
            if connection.query_row(count, [], |row| row.get::<_, i64>(0))? >= MAX_TOKENS {
                return Ok(Err(TokenRefusal::TooMany));
            }
            let makers = row(connection, &by.name)?.and_then(|(maker, _)| maker.expires);
            let expires = expires.into_iter().chain(makers).min();
            insert(connection, &hash, (name.as_str(), role, &scope), (expires, Some(&by.name)), now)?;
            let until = expires.map_or_else(|| "until revoked".into(), |expires| format!("until {expires}"));
            let words = format!("token {name}: {}, for {scope}, {until}", role.as_str());
            events::insert(connection, &NewEvent::new(EventKind::TokenCreated, words).by(by.name), now)?;
            row(connection, name.as_str())?
                .map(|(row, _)| Ok(row))
                .ok_or_else(|| super::damaged("token", "it is not there"))
        })
        .await
    }

    /// Revokes a token by order of `by`; it counts no more once this returns.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn revoke_token(
        &self,
        name: TokenName,
        by: Operator,
        reason: String,
        now: Timestamp,
    ) -> Result<Result<(), TokenRefusal>, StoreError> {
        self.write(move |connection| {
            let Some((_, holder)) = row(connection, name.as_str())?.filter(|(row, _)| row.revoked.is_none()) else {
                return Ok(Err(TokenRefusal::Unknown(name)));
            };
            if !policy::covers(&by, holder.role, &holder.scope) {
                return Ok(Err(TokenRefusal::Mightier(name)));
            }
            let others = "SELECT count(*) FROM tokens WHERE name != ?1 AND role = 'admin' AND teams IS NULL
                              AND devices IS NULL AND expires IS NULL AND revoked IS NULL";
            let others: i64 = connection.query_row(others, [name.as_str()], |row| row.get(0))?;
            if holder.role == Role::Admin && holder.scope.is_whole() && others == 0 {
                return Ok(Err(TokenRefusal::LastAdmin(name)));
            }
            let sql = "UPDATE tokens SET revoked = ?2, revoked_by = ?3, revoke_reason = ?4 WHERE name = ?1";
            connection.execute(sql, params![name.as_str(), millis(now), by.name, reason])?;
            let event = NewEvent::new(EventKind::TokenRevoked, format!("token {name}: {reason}")).by(by.name);
            events::insert(connection, &event, now)?;
            Ok(Ok(()))
        })
        .await
    }

    /// Every token there ever was, by name; there are few.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY name"))?;
            let mut rows = statement.query([])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(from_row(row)?.0);
            }
            Ok(tokens)
        })
        .await
    }

    /// What the token of this hash is at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presented(&self, hash: Digest, now: Timestamp) -> Result<Presented, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT name, role, teams, devices, expires, revoked FROM tokens WHERE hash = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row([hash.to_string()], |row| Ok(presented(row, now))).optional()?;
            found.unwrap_or(Ok(Presented::Unknown))
        })
        .await
    }

    /// Notes that a token is in use.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_used(&self, name: String, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE tokens SET last_used = ?2 WHERE name = ?1";
            connection.prepare_cached(sql)?.execute(params![name, millis(now)])?;
            Ok(())
        })
        .await
    }
}

fn insert(
    connection: &Connection,
    hash: &Digest,
    (name, role, scope): (&str, Role, &Scope),
    (expires, created_by): (Option<Timestamp>, Option<&str>),
    now: Timestamp,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO tokens (hash, name, role, created, teams, devices, expires, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            hash.to_string(),
            name,
            role.as_str(),
            millis(now),
            scope.teams.as_ref().map(to_json),
            scope.devices.as_ref().map(ToString::to_string),
            expires.map(millis),
            created_by,
        ],
    )?;
    Ok(())
}

const COLUMNS: &str =
    "name, role, teams, devices, expires, created, created_by, last_used, revoked, revoked_by, revoke_reason";

fn row(connection: &Connection, name: &str) -> Result<Option<(TokenRow, Operator)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(from_row).transpose()
}

fn from_row(row: &Row<'_>) -> Result<(TokenRow, Operator), StoreError> {
    let holder = holder(row)?;
    let at = |index: usize| row.get::<_, Option<i64>>(index)?.map(time).transpose();
    let form = TokenRow {
        name: holder.name.clone(),
        role: holder.role.as_str().into(),
        scope: (&holder.scope).into(),
        expires: at(4)?,
        created: time(row.get(5)?)?,
        created_by: row.get(6)?,
        last_used: at(7)?,
        revoked: at(8)?,
        revoked_by: row.get(9)?,
        revoke_reason: row.get(10)?,
    };
    Ok((form, holder))
}

fn presented(row: &Row<'_>, now: Timestamp) -> Result<Presented, StoreError> {
    let operator = holder(row)?;
    let (expires, revoked): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
    Ok(if revoked.is_some() {
        Presented::Revoked(operator.name)
    } else if expires.is_some_and(|expires| expires <= millis(now)) {
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
