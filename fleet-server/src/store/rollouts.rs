//! Rollouts as they are recorded: made once, moved by verbs and by the planner, and a history that only grows.
//!
//! A rollout is open until it has nothing more to demand: finished and denied ones close at once, aborted and undone ones
//! when everything is demanded back. A model has at most one open rollout.

mod acting;
mod history;
mod reading;
mod signs;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    digest::Digest,
    ids::{ModelName, ModelVersion, Version},
    standing::Disallowed,
};

use super::{
    Store, StoreError, damaged, devices::version_of, directing::listed, from_json, integer, millis, parse, standings,
    time, to_json,
};
use crate::{
    rollout::{
        Order, Phase, Policy, PolicyError, RolloutId, RolloutState, TakeBackTo, Transition, Verb, VerbError, Verdict,
    },
    selector::Selector,
};

pub use acting::Carried;
pub(super) use acting::depart;
pub use history::Happened;
pub(super) use signs::{forget_states, note_states};

/// What somebody wants rolled out.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// What.
    pub model: ModelVersion,
    /// To which devices.
    pub selector: Selector,
    /// On which terms.
    pub policy: Policy,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
    /// Whether it starts at once.
    pub start: bool,
    /// The key under which the request may come again, and the digest of the request.
    pub request: Option<(String, Digest)>,
}

/// A rollout as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its number, in the order of creation.
    pub number: i64,
    /// Its name.
    pub id: RolloutId,
    /// What it rolls out.
    pub target: ModelVersion,
    /// To which devices.
    pub selector: Selector,
    /// On which terms.
    pub policy: Policy,
    /// Where it stands.
    pub state: RolloutState,
    /// When it was made.
    pub created: Timestamp,
    /// Why.
    pub reason: String,
    /// Since when it has nothing more to demand.
    pub closed: Option<Timestamp>,
}

/// Why no rollout was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateRefusal {
    /// The terms cannot be used.
    Policy(PolicyError),
    /// No such version: the one to roll out, or the one to go back to.
    UnknownVersion(ModelVersion),
    /// The team's signed metadata does not list the version.
    Unsigned(ModelVersion),
    /// Its team lets the version run no more.
    Disallowed(Disallowed),
    /// The model has an open rollout.
    Active(RolloutId),
    /// The key came before with another request.
    KeyReused,
    /// It cannot be made or started as wanted.
    Verb(VerbError),
}

/// Why a verb was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerbRefusal {
    /// There is no such rollout.
    Unknown,
    /// Another rollout of the model is open.
    Active(RolloutId),
    /// The verb has no place here.
    Verb(VerbError),
}

const COLUMNS: &str = "team, model_id, version, number, id, selector, policy, state, created, reason, closed";

impl Store {
    /// Makes a rollout; the same request under the same key finds the one that it made before.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn create_rollout(
        &self,
        new: NewRollout,
        now: Timestamp,
    ) -> Result<Result<RolloutRecord, CreateRefusal>, StoreError> {
        self.write(move |connection| create(connection, &new, now)).await
    }

    /// Does to a rollout what somebody wants done.
    ///
    /// # Errors
    /// [`StoreError`]; refusals are in the value.
    pub async fn order_rollout(
        &self,
        id: RolloutId,
        order: Order,
        now: Timestamp,
    ) -> Result<Result<RolloutRecord, VerbRefusal>, StoreError> {
        self.write(move |connection| {
            let Some(record) = find(connection, &id)? else { return Ok(Err(VerbRefusal::Unknown)) };
            let transition = match record.state.order(&record.policy, &order, now) {
                Ok(transition) => transition,
                Err(error) => return Ok(Err(VerbRefusal::Verb(error))),
            };
            // Only undoing opens what was closed.
            let other = open_of(connection, &record.target.name)?.filter(|open| *open != id);
            if let (Some(other), None) = (other, closes(transition.state.phase, now)) {
                return Ok(Err(VerbRefusal::Active(other)));
            }
            enter(connection, &record, &transition, None, now)?;
            Ok(find(connection, &id)?.ok_or(VerbRefusal::Unknown))
        })
        .await
    }

    /// Notes that a rollout that was aborted or undone has nothing more to demand, unless it has moved since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_rollout(&self, id: RolloutId, revision: u64, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE rollouts SET closed = ?3 WHERE id = ?1 AND revision = ?2 AND closed IS NULL
                       AND phase IN ('aborted', 'undone')";
            Ok(connection.execute(sql, params![id.as_str(), integer(revision), millis(now)])? == 1)
        })
        .await
    }
}

fn create(
    connection: &Connection,
    new: &NewRollout,
    now: Timestamp,
) -> Result<Result<RolloutRecord, CreateRefusal>, StoreError> {
    if let Some((key, digest)) = &new.request {
        let sql = "SELECT id, request_sha256 FROM rollouts WHERE created_by = ?1 AND request_key = ?2";
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let before = connection.query_row(sql, params![new.who, key], row).optional()?;
        if let Some((id, made_from)) = before {
            let same = made_from == digest.to_string();
            let found = if same { find(connection, &parse("rollout", &id)?)? } else { None };
            return Ok(found.ok_or(CreateRefusal::KeyReused));
        }
    }
    if let Err(error) = new.policy.check(&new.model.version) {
        return Ok(Err(CreateRefusal::Policy(error)));
    }
    let returns = match &new.policy.take_back {
        TakeBackTo::Version(version) => Some(of(&new.model.name, version)),
        TakeBackTo::Previous => None,
    };
    for version in std::iter::once(&new.model).chain(returns.as_ref()) {
        match listed(connection, version)? {
            None => return Ok(Err(CreateRefusal::UnknownVersion(version.clone()))),
            Some(found) if !found.is_listed() => return Ok(Err(CreateRefusal::Unsigned(version.clone()))),
            Some(_) => {}
        }
        if let Err(why) = standings::standing(connection, &version.name)?.allows(&version.version) {
            return Ok(Err(CreateRefusal::Disallowed(why)));
        }
    }
    if let Some(open) = open_of(connection, &new.model.name)? {
        return Ok(Err(CreateRefusal::Active(open)));
    }
    let made = RolloutState::create(&new.who, new.reason.trim(), now);
    let started = match new.start.then(|| made.state.order(&new.policy, &start(new), now)).transpose() {
        Ok(started) => started,
        Err(error) => return Ok(Err(CreateRefusal::Verb(error))),
    };
    let record = insert(connection, new, &made, now)?;
    if let Some(started) = started {
        enter(connection, &record, &started, None, now)?;
    }
    find(connection, &record.id)?.map(Ok).ok_or_else(|| damaged("rollout", "it is gone"))
}

fn start(new: &NewRollout) -> Order {
    Order { verb: Verb::Start, who: new.who.clone(), why: new.reason.clone(), if_phase: None }
}

fn insert(
    connection: &Connection,
    new: &NewRollout,
    made: &Transition,
    now: Timestamp,
) -> Result<RolloutRecord, StoreError> {
    let id = free_id(connection, &new.model)?;
    let ModelVersion { name, version } = &new.model;
    let (key, digest) = new.request.clone().map(|(key, digest)| (key, digest.to_string())).unzip();
    connection.execute(
        "INSERT INTO rollouts (id, team, model_id, version, selector, policy, state, phase, revision, created,
                               created_by, reason, request_key, request_sha256)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            id.as_str(),
            name.team.as_str(),
            name.model.as_str(),
            version.to_string(),
            new.selector.to_string(),
            to_json(&new.policy),
            to_json(&made.state),
            made.state.phase.as_str(),
            integer(made.state.revision),
            millis(now),
            new.who,
            new.reason.trim(),
            key,
            digest,
        ],
    )?;
    history::insert(connection, (&id, &new.model), &made.entry, None, now)?;
    find(connection, &id)?.ok_or_else(|| damaged("rollout", "it is gone"))
}

/// A name that says what is rolled out and that no rollout has had.
fn free_id(connection: &Connection, model: &ModelVersion) -> Result<RolloutId, StoreError> {
    let sql = "SELECT 1 FROM rollouts WHERE id = ?1";
    let made: i64 = connection.query_row("SELECT coalesce(max(number), 0) FROM rollouts", [], |row| row.get(0))?;
    let plain = format!("{}-{}", model.name.model, model.version).to_lowercase().replace('.', "-");
    // Rollouts were never more than this, so one of the names is free.
    for n in 1..=made.saturating_add(2) {
        let name = if n == 1 { plain.clone() } else { format!("{plain}-{n}") };
        // Long names of models and versions make no name of a rollout.
        let Ok(id) = name.parse::<RolloutId>() else { break };
        if !connection.prepare_cached(sql)?.exists([id.as_str()])? {
            return Ok(id);
        }
    }
    parse("rollout", &format!("rollout-{}", made.saturating_add(1)))
}

/// Stores a change and the line that explains it; false where the rollout has moved since, and nothing is then stored.
fn enter(
    connection: &Connection,
    record: &RolloutRecord,
    transition: &Transition,
    verdict: Option<&Verdict>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let state = &transition.state;
    let sql = "UPDATE rollouts SET state = ?3, phase = ?4, revision = ?5, closed = ?6 WHERE id = ?1 AND revision = ?2";
    let changed = connection.prepare_cached(sql)?.execute(params![
        record.id.as_str(),
        integer(record.state.revision),
        to_json(state),
        state.phase.as_str(),
        integer(state.revision),
        closes(state.phase, now).map(millis),
    ])?;
    if changed == 1 {
        history::insert(connection, (&record.id, &record.target), &transition.entry, verdict, now)?;
    }
    Ok(changed == 1)
}

/// Since when a rollout that enters this phase is closed.
fn closes(phase: Phase, now: Timestamp) -> Option<Timestamp> {
    matches!(phase, Phase::Denied | Phase::Finished).then_some(now)
}

fn of(name: &ModelName, version: &Version) -> ModelVersion {
    ModelVersion { name: name.clone(), version: version.clone() }
}

fn find(connection: &Connection, id: &RolloutId) -> Result<Option<RolloutRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM rollouts WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map(from_row).transpose()
}

/// The open rollout of a model.
fn open_of(connection: &Connection, model: &ModelName) -> Result<Option<RolloutId>, StoreError> {
    let sql = "SELECT id FROM rollouts WHERE team = ?1 AND model_id = ?2 AND closed IS NULL";
    let key = [model.team.as_str(), model.model.as_str()];
    let id: Option<String> = connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    id.map(|id| parse("rollout", &id)).transpose()
}

/// The rollout that may demand versions of the model: open, and started or taken back.
pub(super) fn at_work(connection: &Connection, model: &ModelName) -> Result<Option<RolloutId>, StoreError> {
    let open = open_of(connection, model)?.map(|id| find(connection, &id)).transpose()?.flatten();
    Ok(open.filter(|record| record.state.phase != Phase::Created).map(|record| record.id))
}

fn from_row(row: &Row<'_>) -> Result<RolloutRecord, StoreError> {
    let text = |index: usize| row.get::<_, String>(index);
    Ok(RolloutRecord {
        target: version_of(row, 0)?,
        number: row.get(3)?,
        id: parse("rollout", &text(4)?)?,
        selector: parse("selector", &text(5)?)?,
        policy: from_json("policy", text(6)?.as_bytes())?,
        state: from_json("rollout", text(7)?.as_bytes())?,
        created: time(row.get(8)?)?,
        reason: text(9)?,
        closed: row.get::<_, Option<i64>>(10)?.map(time).transpose()?,
    })
}

#[cfg(test)]
mod tests;
