//! The history of rollouts: one row a change, with the verdict that led to it, and an event for everybody to see.

use jiff::Timestamp;
use rusqlite::{Connection, Params, params};
use tern_protocol::ids::ModelVersion;

use super::super::{NewEvent, Store, StoreError, events, from_json, integer, millis, to_json};
use crate::{
    events::EventKind,
    rollout::{Actor, Change, Entry, RolloutId, Verb, Verdict},
};

/// One change of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Its number.
    pub number: i64,
    /// What changed, by whom and why.
    pub entry: Entry,
    /// What the planner decided, and on which grounds, where it was the planner.
    pub verdict: Option<Verdict>,
}

impl Store {
    /// The changes of a rollout after number `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollout_history(&self, id: RolloutId, after: i64, limit: u32) -> Result<Vec<Happened>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT number, entry, verdict FROM rollout_history WHERE rollout = ?1 AND number > ?2
                       ORDER BY number LIMIT ?3";
            happened(connection, sql, params![id.as_str(), after, limit])
        })
        .await
    }

    /// The newest changes of a rollout, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_rollout_history(&self, id: RolloutId, limit: u32) -> Result<Vec<Happened>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT number, entry, verdict FROM rollout_history WHERE rollout = ?1
                       ORDER BY number DESC LIMIT ?2";
            happened(connection, sql, params![id.as_str(), limit])
        })
        .await
    }
}

fn happened(connection: &Connection, sql: &str, of: impl Params) -> Result<Vec<Happened>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(of)?;
    let mut history = Vec::new();
    while let Some(row) = rows.next()? {
        let verdict: Option<String> = row.get(2)?;
        history.push(Happened {
            number: row.get(0)?,
            entry: from_json("rollout history", row.get::<_, String>(1)?.as_bytes())?,
            verdict: verdict.map(|text| from_json("verdict", text.as_bytes())).transpose()?,
        });
    }
    Ok(history)
}

/// Adds a change and its event.
pub(super) fn insert(
    connection: &Connection,
    (id, target): (&RolloutId, &ModelVersion),
    entry: &Entry,
    verdict: Option<&Verdict>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO rollout_history (rollout, at, revision, entry, verdict) VALUES (?1, ?2, ?3, ?4, ?5)";
    let verdict = verdict.map(to_json);
    connection.prepare_cached(sql)?.execute(params![
        id.as_str(),
        millis(entry.at),
        integer(entry.revision),
        to_json(entry),
        verdict
    ])?;
    let event = NewEvent::new(kind(entry.what), format!("{id}: {}", entry.why)).of_version(target);
    let event = match &entry.who {
        Actor::Person(name) => event.by(name.clone()),
        Actor::Planner => event,
    };
    events::insert(connection, &event, now)
}

fn kind(change: Change) -> EventKind {
    match change {
        Change::Created => EventKind::RolloutCreated,
        Change::Verb(Verb::Approve) => EventKind::RolloutApproved,
        Change::Verb(Verb::Deny) => EventKind::RolloutDenied,
        Change::Verb(Verb::Start) => EventKind::RolloutStarted,
        Change::Verb(Verb::Pause) => EventKind::RolloutPaused,
        Change::Verb(Verb::Resume) => EventKind::RolloutResumed,
        Change::Verb(Verb::Promote) => EventKind::RolloutPromotionOrdered,
        Change::Verb(Verb::Retry) => EventKind::RolloutRetried,
        Change::Verb(Verb::Undo) => EventKind::RolloutUndone,
        Change::Verb(Verb::Abort) | Change::Aborted => EventKind::RolloutAborted,
        Change::Baking => EventKind::RolloutBaking,
        Change::Promoted(_) => EventKind::RolloutPromoted,
        Change::Held => EventKind::RolloutHeld,
        Change::Finished => EventKind::RolloutFinished,
    }
}
