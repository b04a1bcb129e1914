//! Incidents as they are kept: what the detector says of them, what people and hooks add, and the retained payload that is
//! kept in the same transaction as every change.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    ids::{FleetId, ModelVersion},
    topics::{FleetChannel, fleet_topic},
};

use super::{
    NewEvent, Paging, Store, StoreError, decay::model_version, deliveries, events, from_json, integer, millis, natural,
    parse, time, to_json, twins,
};
use crate::{
    decay::incidents::{Change, Incident},
    events::EventKind,
    forms::incident::{IncidentKind, IncidentRow},
};

/// How long a resolved incident's topic stays, for dashboards that look once a day.
const TOPIC_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Devices that its topic names: an incident of a whole fleet must fit into a message. The interface names all.
const NAMED: usize = 256;

/// An open incident as the detector goes on from it.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenIncident {
    /// Of which version.
    pub model: ModelVersion,
    /// What it is.
    pub kind: IncidentKind,
    /// What is remembered of it.
    pub incident: Incident,
}

/// What happened to an incident.
#[derive(Debug, Clone)]
pub struct IncidentChange {
    /// Of which version.
    pub model: ModelVersion,
    /// What it is.
    pub kind: IncidentKind,
    /// As it is now.
    pub incident: Incident,
    /// What happened.
    pub change: Change,
    /// When the row that did it was received.
    pub at: Timestamp,
    /// Hooks to run, each with the occasion.
    pub hooks: Vec<(&'static str, &'static str)>,
}

/// Something to say on a retained topic; empty clears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// What was done about an incident, by whom.
#[derive(Debug, Clone)]
pub enum Response {
    /// Somebody has seen it.
    Acknowledge,
    /// Its hooks keep quiet until then.
    Mute(Timestamp),
}

const COLUMNS: &str = "number, team, model_id, version, kind, state, opened, updated, resolved, acknowledged_by,
    muted_until, muted_by, mute_reason, body";

impl Store {
    /// Incidents, newest first, only those in `state` where it is given. `paging.after` is the number that a page ended at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn incidents(&self, state: Option<String>, paging: Paging) -> Result<Vec<IncidentRow>, StoreError> {
        self.read(move |connection| {
            let before = paging.after.parse::<i64>().unwrap_or(i64::MAX);
            let sql = format!(
                "SELECT {COLUMNS} FROM incidents WHERE number < ?1 AND (?2 IS NULL OR state = ?2)
                 ORDER BY number DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![before, state, integer(paging.limit as u64)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(from_row(connection, row)?);
            }
            Ok(found)
        })
        .await
    }

    /// One incident.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn incident(&self, number: u64) -> Result<Option<IncidentRow>, StoreError> {
        self.read(move |connection| by_number(connection, integer(number))).await
    }

    /// Records what an operator does about an incident; none where there is no such incident. Returns it as it is now and
    /// what to say on MQTT.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn respond(
        &self,
        number: u64,
        response: Response,
        (actor, reason): (String, String),
        fleet: FleetId,
        now: Timestamp,
    ) -> Result<Option<(IncidentRow, Statement)>, StoreError> {
        self.write(move |connection| {
            let id = integer(number);
            let (changed, kind, words) = match &response {
                Response::Acknowledge => {
                    let sql = "UPDATE incidents SET acknowledged_by = ?2, acknowledged = ?3 WHERE number = ?1";
                    let changed = connection.prepare_cached(sql)?.execute(params![id, actor, millis(now)])?;
                    (changed, EventKind::IncidentAcknowledged, format!("incident {number}: {reason}"))
                }
                Response::Mute(until) => {
                    let sql =
                        "UPDATE incidents SET muted_until = ?2, muted_by = ?3, mute_reason = ?4 WHERE number = ?1";
                    let muted = params![id, millis(*until), actor, reason];
                    let changed = connection.prepare_cached(sql)?.execute(muted)?;
                    (changed, EventKind::IncidentMuted, format!("incident {number} until {until}: {reason}"))
                }
            };
            if changed == 0 {
                return Ok(None);
            }
            let Some(row) = by_number(connection, id)? else { return Ok(None) };
            let event = NewEvent::new(kind, words).by(actor).of_version(&row.model);
            events::insert(connection, &event, now)?;
            let statement = state_it(connection, &row, &fleet)?;
            Ok(Some((row, statement)))
        })
        .await
    }

    /// How many incidents of each kind are open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_incidents(&self) -> Result<BTreeMap<IncidentKind, u64>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT kind, count(*) FROM incidents WHERE state = 'open' GROUP BY kind";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                found.insert(parse("kind", &row.get::<_, String>(0)?)?, natural(row.get(1)?));
            }
            Ok(found)
        })
        .await
    }

    /// Clears the topics of incidents that were resolved long enough ago; returns what to say on MQTT.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_incidents(&self, fleet: FleetId, now: Timestamp) -> Result<Vec<Statement>, StoreError> {
        let due = "SELECT number FROM incidents WHERE clear_after <= ?1 LIMIT 100";
        let none = self
            .read(move |connection| Ok(connection.prepare_cached(due)?.exists([millis(now)])?))
            .await
            .map(|exists| !exists)?;
        if none {
            return Ok(Vec::new());
        }
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(due)?;
            let numbers = statement.query_map([millis(now)], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            let mut statements = Vec::new();
            for number in numbers {
                let sql = "UPDATE incidents SET clear_after = NULL WHERE number = ?1";
                connection.prepare_cached(sql)?.execute([number])?;
                let topic = fleet_topic(&fleet, &FleetChannel::Incident(natural(number)));
                twins::retain(connection, &topic, &[])?;
                statements.push(Statement { topic, payload: Vec::new() });
            }
            Ok(statements)
        })
        .await
    }
}

/// Writes what happened to an incident, with the event, the hooks' orders and the retained payload.
pub(super) fn apply(
    connection: &Connection,
    change: &IncidentChange,
    fleet: &FleetId,
    now: Timestamp,
) -> Result<Statement, StoreError> {
    let number = match change.change {
        Change::Opened => insert(connection, change)?,
        Change::Updated { .. } | Change::Refreshed => update(connection, change, None)?,
        Change::Resolved(_) => {
            update(connection, change, Some(change.at.saturating_add(TOPIC_LIFE).unwrap_or(Timestamp::MAX)))?
        }
    };
    let kind = change.kind.as_str();
    let event = match change.change {
        Change::Opened => Some((EventKind::IncidentOpened, "opened".to_owned())),
        Change::Updated { .. } => Some((EventKind::IncidentUpdated, "changed".to_owned())),
        Change::Resolved(why) => Some((EventKind::IncidentResolved, format!("resolved, {}", why.says()))),
        Change::Refreshed => None,
    };
    if let Some((event, what)) = event {
        let words = format!("incident {number} ({kind}) {what}: {}", change.incident.summary);
        events::insert(connection, &NewEvent::new(event, words).of_version(&change.model), change.at)?;
    }
    for (hook, occasion) in &change.hooks {
        deliveries::order(connection, number, hook, occasion, now)?;
    }
    let row = by_number(connection, number)?.ok_or_else(|| super::damaged("incident", "it is not there"))?;
    state_it(connection, &row, fleet)
}

fn insert(connection: &Connection, change: &IncidentChange) -> Result<i64, StoreError> {
    // Who muted the one before has not asked to be told again.
    let sql = "INSERT INTO incidents (team, model_id, version, kind, severity, state, opened, updated, body,
                   muted_until, muted_by, mute_reason)
               SELECT ?1, ?2, ?3, ?4, ?5, 'open', ?6, ?6, ?7, m.muted_until, m.muted_by, m.mute_reason
               FROM (SELECT 1) LEFT JOIN (
                   SELECT muted_until, muted_by, mute_reason FROM incidents
                   WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND kind = ?4 AND muted_until > ?6
                   ORDER BY number DESC LIMIT 1) m
               RETURNING number";
    let name = &change.model.name;
    let number = connection.prepare_cached(sql)?.query_row(
        params![
            name.team.as_str(),
            name.model.as_str(),
            change.model.version.to_string(),
            change.kind.as_str(),
            change.incident.severity.as_str(),
            millis(change.at),
            to_json(&change.incident),
        ],
        |row| row.get(0),
    )?;
    Ok(number)
}

fn update(connection: &Connection, change: &IncidentChange, clear: Option<Timestamp>) -> Result<i64, StoreError> {
    let resolved = matches!(change.change, Change::Resolved(_));
    let sql = "UPDATE incidents SET severity = ?5, updated = ?6, body = ?7, state = iif(?8, 'resolved', 'open'),
                   resolved = iif(?8, ?6, NULL), clear_after = ?9
               WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND kind = ?4 AND state = 'open' RETURNING number";
    let name = &change.model.name;
    let number = connection
        .prepare_cached(sql)?
        .query_row(
            params![
                name.team.as_str(),
                name.model.as_str(),
                change.model.version.to_string(),
                change.kind.as_str(),
                change.incident.severity.as_str(),
                millis(change.at),
                to_json(&change.incident),
                resolved,
                clear.map(millis),
            ],
            |row| row.get(0),
        )
        .optional()?;
    number.ok_or_else(|| super::damaged("incident", "an open one is not there"))
}

/// Keeps the payload of the incident's topic; returns it, to be said.
pub(super) fn state_it(connection: &Connection, row: &IncidentRow, fleet: &FleetId) -> Result<Statement, StoreError> {
    let topic = fleet_topic(fleet, &FleetChannel::Incident(row.number));
    let few = (row.devices.len() > NAMED)
        .then(|| IncidentRow { devices: row.devices.iter().take(NAMED).cloned().collect(), ..row.clone() });
    let payload = to_json(few.as_ref().unwrap_or(row)).into_bytes();
    twins::retain(connection, &topic, &payload)?;
    Ok(Statement { topic, payload })
}

/// One incident.
pub(super) fn by_number(connection: &Connection, number: i64) -> Result<Option<IncidentRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM incidents WHERE number = ?1"))?;
    let mut rows = statement.query([number])?;
    rows.next()?.map(|row| from_row(connection, row)).transpose()
}

/// The open incidents as the detector goes on from them.
pub(super) fn open(connection: &Connection) -> Result<Vec<OpenIncident>, StoreError> {
    let sql = "SELECT team, model_id, version, kind, body FROM incidents WHERE state = 'open'";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(OpenIncident {
            model: model_version(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?,
            kind: parse("kind", &row.get::<_, String>(3)?)?,
            incident: from_json("incident", row.get::<_, String>(4)?.as_bytes())?,
        });
    }
    Ok(found)
}

/// Numbers of the open incidents of a version.
pub(super) fn open_numbers(connection: &Connection, model: &ModelVersion) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT number FROM incidents WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND state = 'open'
               ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let key = params![model.name.team.as_str(), model.name.model.as_str(), model.version.to_string()];
    let numbers = statement.query_map(key, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    Ok(numbers.into_iter().map(natural).collect())
}

fn from_row(connection: &Connection, row: &Row<'_>) -> Result<IncidentRow, StoreError> {
    let number: i64 = row.get(0)?;
    let optional = |index: usize| row.get::<_, Option<i64>>(index)?.map(time).transpose();
    let incident: Incident = from_json("incident", row.get::<_, String>(13)?.as_bytes())?;
    Ok(IncidentRow {
        number: natural(number),
        model: model_version(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?, &row.get::<_, String>(3)?)?,
        kind: parse("kind", &row.get::<_, String>(4)?)?,
        severity: incident.severity,
        state: row.get(5)?,
        cause: incident.cause,
        summary: incident.summary,
        devices: incident.devices,
        features: incident.features,
        since: incident.since,
        opened: time(row.get(6)?)?,
        updated: time(row.get(7)?)?,
        resolved: optional(8)?,
        resolution: incident.resolution,
        evidence: incident.evidence,
        acknowledged_by: row.get(9)?,
        muted_until: optional(10)?,
        muted_by: row.get(11)?,
        mute_reason: row.get(12)?,
        actions: deliveries::of(connection, number)?,
    })
}
