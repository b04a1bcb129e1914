//! What a plan says, done: each action checks what it expects and changes everything that belongs to it, or nothing.
//!
//! A plan of another revision is void as a whole; an action whose device has moved since is void alone. What is void is
//! not repeated here: the next plan knows better.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    desired::{DesiredModel, MAX_MODELS, Probation, Swap},
    ids::{DeviceId, Generation, ModelName, ModelVersion, Version},
    refusal::RefusalCode,
};

use super::{RolloutRecord, enter, find, of};
use crate::{
    rollout::{Action, Outcome, RolloutId, TakeBackCause, Verdict},
    store::{
        SignState, Store, StoreError, damaged,
        directing::{Listed, demand, listed, models},
        from_json, in_savepoint, integer, millis, natural,
        standings::standing,
        to_json,
    },
};

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// A device is demanded something else, under this generation.
    Demanded(DeviceId, Generation),
    /// It is recorded.
    Recorded,
    /// What it expects is not so any more: nothing was changed.
    Void,
    /// It cannot be done: nothing was changed, and the log says why.
    Failed,
}

/// What the actions of one plan share.
struct Work<'a> {
    connection: &'a Connection,
    record: RolloutRecord,
    sign: &'a SignState,
    now: Timestamp,
}

impl Store {
    /// Carries actions of one plan out, in one transaction and each alone: what one of them cannot do hinders no other.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was then changed.
    pub async fn carry_out(
        &self,
        (rollout, revision): (RolloutId, u64),
        actions: Vec<Action>,
        verdict: Verdict,
        sign: SignState,
        now: Timestamp,
    ) -> Result<Vec<Carried>, StoreError> {
        self.write(move |connection| {
            let mut carried = Vec::with_capacity(actions.len());
            for action in &actions {
                let record = find(connection, &rollout)?.filter(|record| record.state.revision == revision);
                let Some(record) = record else {
                    carried.push(Carried::Void);
                    continue;
                };
                let work =
                    |connection: &Connection| Work { connection, record, sign: &sign, now }.carry_out(action, &verdict);
                carried.push(in_savepoint(connection, work).unwrap_or_else(|error| {
                    tracing::error!(%rollout, ?action, %error, "an action failed");
                    Carried::Failed
                }));
            }
            Ok(carried)
        })
        .await
    }
}

impl Work<'_> {
    fn carry_out(&self, action: &Action, verdict: &Verdict) -> Result<Carried, StoreError> {
        if let Some(transition) = self.record.state.after(action, self.now) {
            let entered = enter(self.connection, &self.record, &transition, Some(verdict), self.now)?;
            return Ok(if entered { Carried::Recorded } else { Carried::Void });
        }
        let carried = match action {
            Action::Settle { device, outcome, code } => self.settle(device, *outcome, *code)?,
            Action::TakeBack { device, to, cause, expects } => self.take_back(device, to.as_ref(), *cause, *expects)?,
            Action::Assign { device, stage, round, probation, previous, expects } => {
                let place = Place { stage: *stage, round: *round, probation: *probation };
                self.assign(device, &place, previous.as_ref(), *expects)?
            }
            _ => None,
        };
        Ok(carried.unwrap_or(Carried::Void))
    }

    fn settle(
        &self,
        device: &DeviceId,
        outcome: Outcome,
        code: Option<RefusalCode>,
    ) -> Result<Option<Carried>, StoreError> {
        // Silence may heal; every other ending stands.
        let sql = "UPDATE rollout_devices SET outcome = ?3, code = ?4, settled = ?5
                   WHERE rollout = ?1 AND device = ?2 AND (outcome IS NULL OR outcome = 'silent')";
        let changed = self.connection.prepare_cached(sql)?.execute(params![
            self.record.id.as_str(),
            device.as_str(),
            outcome.as_str(),
            code.map(RefusalCode::as_str),
            millis(self.now),
        ])?;
        Ok((changed == 1).then_some(Carried::Recorded))
    }

    fn take_back(
        &self,
        device: &DeviceId,
        to: Option<&Version>,
        cause: TakeBackCause,
        expects: Generation,
    ) -> Result<Option<Carried>, StoreError> {
        let target = &self.record.target;
        let standing = self.standing(device)?;
        let Some(Standing { previous, is_held: true }) = standing else { return Ok(None) };
        // Also of a revoked device, lest the rollout wait for it for ever: nothing is sent to it.
        let Some((mut models, _)) = self.models(device, expects)? else { return Ok(None) };
        let Some(at) = models.iter().position(|model| model.model_version() == *target) else { return Ok(None) };
        match to {
            None => drop(models.remove(at)),
            Some(version) => models[at] = self.demand_of(version, previous.clone())?,
        }
        let restores = to.is_some() && to == previous.as_ref().map(|model| &model.version);
        let generation = demand(self.connection, device, models, self.sign, self.now)?;
        if restores {
            self.give_back(device)?;
        }
        let sql = "UPDATE rollout_devices SET taken_back = ?3 WHERE rollout = ?1 AND device = ?2";
        let cause = to_json(&cause);
        self.connection.prepare_cached(sql)?.execute(params![
            self.record.id.as_str(),
            device.as_str(),
            cause.trim_matches('"')
        ])?;
        Ok(Some(Carried::Demanded(device.clone(), generation)))
    }

    fn assign(
        &self,
        device: &DeviceId,
        place: &Place,
        previous: Option<&Version>,
        expects: Generation,
    ) -> Result<Option<Carried>, StoreError> {
        let target = &self.record.target;
        let Some(found) = listed(self.connection, target)?.filter(Listed::is_listed) else { return Ok(None) };
        if standing(self.connection, &target.name)?.allows(&target.version).is_err() {
            return Ok(None);
        }
        let Some((mut models, false)) = self.models(device, expects)? else { return Ok(None) };
        let at = models.iter().position(|model| model.model.model == target.name.model);
        if at.map_or(models.len() >= MAX_MODELS, |at| models[at].model != target.name) {
            return Ok(None);
        }
        // Where the version stands already, a take-back still returns to what was there before it.
        let before = match self.standing(device)? {
            Some(Standing { previous, is_held: true }) => previous,
            _ => at.map(|at| models[at].clone()),
        };
        if before.as_ref().map(|model| &model.version) != previous {
            return Ok(None);
        }
        let wanted = DesiredModel {
            model: target.name.clone(),
            version: target.version.clone(),
            manifest: found.manifest,
            swap: before.as_ref().map_or_else(Swap::default, |model| model.swap),
            probation: place.probation,
            candidate: found.is_candidate(),
        };
        match at {
            Some(at) => models[at] = wanted,
            None => models.push(wanted),
        }
        let generation = demand(self.connection, device, models, self.sign, self.now)?;
        depart(self.connection, device, &target.name, Some(&self.record.id))?;
        let sql = "INSERT OR REPLACE INTO rollout_devices (rollout, device, stage, round, at, generation, previous)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.connection.prepare_cached(sql)?.execute(params![
            self.record.id.as_str(),
            device.as_str(),
            place.stage,
            place.round,
            millis(self.now),
            integer(generation.0),
            before.as_ref().map(to_json),
        ])?;
        Ok(Some(Carried::Demanded(device.clone(), generation)))
    }

    /// The demand of before stands again, so whoever made it may take it back.
    fn give_back(&self, device: &DeviceId) -> Result<(), StoreError> {
        let sql = "UPDATE rollout_devices SET departed = 0 WHERE device = ?1 AND departed = ?2";
        self.connection.prepare_cached(sql)?.execute(params![device.as_str(), self.record.number])?;
        Ok(())
    }

    /// What is demanded of the device and whether it is revoked, if it has the generation that is expected.
    fn models(&self, device: &DeviceId, expects: Generation) -> Result<Option<(Vec<DesiredModel>, bool)>, StoreError> {
        let sql = "SELECT generation, revoked IS NOT NULL FROM devices WHERE device = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?));
        let found = self.connection.prepare_cached(sql)?.query_row([device.as_str()], row).optional()?;
        match found {
            Some((generation, revoked)) if natural(generation) == expects.0 => {
                Ok(Some((models(self.connection, device)?, revoked)))
            }
            _ => Ok(None),
        }
    }

    fn standing(&self, device: &DeviceId) -> Result<Option<Standing>, StoreError> {
        let sql = "SELECT previous, taken_back IS NULL AND departed = 0 FROM rollout_devices
                   WHERE rollout = ?1 AND device = ?2";
        let key = params![self.record.id.as_str(), device.as_str()];
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?));
        let found = self.connection.prepare_cached(sql)?.query_row(key, row).optional()?;
        let Some((previous, is_held)) = found else { return Ok(None) };
        let previous = previous.map(|text| from_json("demand", text.as_bytes())).transpose()?;
        Ok(Some(Standing { previous, is_held }))
    }

    /// The demand of a version: the very one of before, if it was of that version.
    fn demand_of(&self, version: &Version, previous: Option<DesiredModel>) -> Result<DesiredModel, StoreError> {
        if let Some(previous) = previous.filter(|model| model.version == *version) {
            return Ok(previous);
        }
        let wanted: ModelVersion = of(&self.record.target.name, version);
        let found = listed(self.connection, &wanted)?;
        let found = found.ok_or_else(|| damaged("take-back", format!("{wanted} is gone")))?;
        let (swap, probation) = (Swap::default(), Probation::default());
        let (manifest, candidate) = (found.manifest, found.is_candidate());
        Ok(DesiredModel { model: wanted.name, version: wanted.version, manifest, swap, probation, candidate })
    }
}

/// What a rollout did to a device.
struct Standing {
    /// What was demanded before.
    previous: Option<DesiredModel>,
    /// Whether the rollout's demand stands.
    is_held: bool,
}

/// Where in a rollout a device is assigned.
struct Place {
    stage: u32,
    round: u32,
    probation: Probation,
}

/// What stands in `departed` where no rollout but an operator has demanded the model; a rollout writes its number.
const BY_HAND: i64 = -1;

/// Notes that somebody else than the rollouts of before has demanded the model of the device.
pub(in crate::store) fn depart(
    connection: &Connection,
    device: &DeviceId,
    model: &ModelName,
    by: Option<&RolloutId>,
) -> Result<(), StoreError> {
    let sql = "UPDATE rollout_devices SET departed = coalesce((SELECT number FROM rollouts WHERE id = ?4), ?5)
               WHERE device = ?1 AND departed = 0 AND rollout IS NOT ?4
               AND rollout IN (SELECT id FROM rollouts WHERE team = ?2 AND model_id = ?3)";
    let by = by.map(RolloutId::as_str);
    let of = params![device.as_str(), model.team.as_str(), model.model.as_str(), by, BY_HAND];
    connection.prepare_cached(sql)?.execute(of)?;
    Ok(())
}
