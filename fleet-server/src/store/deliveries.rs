//! Orders to run a hook, each once for an incident and occasion. An order that was begun and never ended is run again.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::ids::FleetId;

use super::{
    NewEvent, Store, StoreError, events,
    incidents::{self, Statement},
    millis, natural, time,
};
use crate::{
    events::EventKind,
    forms::incident::{Action, IncidentRow},
};

/// An order that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its number, the same at every try.
    pub id: i64,
    /// On which occasion.
    pub occasion: String,
    /// Tries so far, this one included.
    pub attempts: u32,
    /// The incident as it is now.
    pub incident: IncidentRow,
}

/// What a hook finds when it asks for work.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// This is due; its try is recorded.
    Due(Box<Delivery>),
    /// Nothing before then.
    Later(Timestamp),
    /// Nothing.
    None,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done(String),
    /// Not; it is tried again then.
    Retry(String, Timestamp),
    /// Not, and it was the last try.
    Failed(String),
}

impl Store {
    /// The oldest order of `hook` that is due, with its try recorded before it is made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work(&self, hook: &'static str, now: Timestamp) -> Result<Work, StoreError> {
        let next = self
            .read(move |connection| {
                let sql = "SELECT min(due) FROM deliveries WHERE hook = ?1 AND state = 'waiting'";
                Ok(connection.prepare_cached(sql)?.query_row([hook], |row| row.get::<_, Option<i64>>(0))?)
            })
            .await?;
        match next {
            None => return Ok(Work::None),
            Some(due) if due > millis(now) => return Ok(Work::Later(time(due)?)),
            Some(_) => {}
        }
        self.write(move |connection| {
            let sql = "UPDATE deliveries SET attempts = attempts + 1, updated = ?2
                       WHERE id = (SELECT id FROM deliveries WHERE hook = ?1 AND state = 'waiting' AND due <= ?2
                                   ORDER BY due, id LIMIT 1)
                       RETURNING id, incident, occasion, attempts";
            let found = connection
                .prepare_cached(sql)?
                .query_row(params![hook, millis(now)], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let Some((id, number, occasion, attempts)) = found else { return Ok(Work::None) };
            let incident = incidents::by_number(connection, number)?;
            let incident = incident.ok_or_else(|| super::damaged("delivery", "its incident is not there"))?;
            Ok(Work::Due(Box::new(Delivery { id, occasion, attempts, incident })))
        })
        .await
    }

    /// Records how a try ended; returns what to say on MQTT.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_delivery(
        &self,
        id: i64,
        outcome: Outcome,
        fleet: FleetId,
        now: Timestamp,
    ) -> Result<Statement, StoreError> {
        self.write(move |connection| {
            let (state, detail, due) = match &outcome {
                Outcome::Done(detail) => ("done", detail, now),
                Outcome::Retry(detail, due) => ("waiting", detail, *due),
                Outcome::Failed(detail) => ("failed", detail, now),
            };
            let sql = "UPDATE deliveries SET state = ?2, detail = ?3, due = ?4, updated = ?5 WHERE id = ?1
                       RETURNING incident, hook, occasion, attempts";
            let (number, hook, occasion, attempts): (i64, String, String, u32) = connection
                .prepare_cached(sql)?
                .query_row(params![id, state, detail, millis(due), millis(now)], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?;
            let row = incidents::by_number(connection, number)?;
            let row = row.ok_or_else(|| super::damaged("delivery", "its incident is not there"))?;
            let kind = if state == "done" { EventKind::HookRan } else { EventKind::HookFailed };
            let words = format!("{hook} for incident {number} {occasion}, try {attempts}: {detail}");
            events::insert(connection, &NewEvent::new(kind, words).of_version(&row.model), now)?;
            incidents::state_it(connection, &row, &fleet)
        })
        .await
    }
}

/// Orders a hook, once for the occasion; that an incident ended is only told where it was told that it began.
pub(super) fn order(
    connection: &Connection,
    incident: i64,
    hook: &str,
    occasion: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO deliveries (incident, hook, occasion, state, due, updated)
               SELECT ?1, ?2, ?3, iif(coalesce(i.muted_until, 0) > ?4, 'muted', 'waiting'), ?4, ?4
               FROM incidents i WHERE i.number = ?1 AND (?3 = 'opened' OR EXISTS (
                   SELECT 1 FROM deliveries d WHERE d.incident = ?1 AND d.hook = ?2 AND d.occasion = 'opened'))
               ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![incident, hook, occasion, millis(now)])?;
    Ok(())
}

/// What policy did about an incident.
pub(super) fn of(connection: &Connection, incident: i64) -> Result<Vec<Action>, StoreError> {
    let sql = "SELECT hook, occasion, state, attempts, updated, detail FROM deliveries WHERE incident = ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([incident])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Action {
            hook: row.get(0)?,
            occasion: row.get(1)?,
            state: row.get(2)?,
            attempts: u32::try_from(natural(row.get(3)?)).unwrap_or(u32::MAX),
            at: time(row.get(4)?)?,
            detail: row.get(5)?,
        });
    }
    Ok(found)
}
