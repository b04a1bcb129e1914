//! What teams say of their models besides listing versions, as it is recorded, and what is demanded because of it: no
//! demand is ever signed of a version that may not run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    desired::{DesiredModel, Probation, Swap},
    ids::{DeviceId, Generation, ModelId, ModelName, ModelVersion, TeamId, Version},
    standing::Standing,
};

use super::{
    NewEvent, SignState, Store, StoreError,
    directing::{Listed, demand, listed, models},
    events, from_json, integer, parse, rollouts, to_json,
};
use crate::events::EventKind;

/// Devices of which demands are settled in one transaction.
const BATCH: usize = 256;

/// What settling demands came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Devices of which something else is demanded now.
    pub devices: BTreeMap<DeviceId, Generation>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}

impl Store {
    /// Takes over what a team's metadata says of its models; says whether that is anything new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_standings(
        &self,
        team: TeamId,
        standings: BTreeMap<ModelId, Standing>,
        actor: String,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let before = of_team(connection, &team)?;
            if before == standings {
                return Ok(false);
            }
            connection.execute("DELETE FROM standings WHERE team = ?1", [team.as_str()])?;
            for (model, standing) in &standings {
                let sql = "INSERT INTO standings (team, model_id, standing) VALUES (?1, ?2, ?3)";
                connection.execute(sql, params![team.as_str(), model.as_str(), to_json(standing)])?;
                let name = ModelName { team: team.clone(), model: model.clone() };
                let none = Standing::default();
                for event in news(&name, before.get(model).unwrap_or(&none), standing) {
                    events::insert(connection, &event.by(actor.clone()), now)?;
                }
            }
            Ok(true)
        })
        .await
    }

    /// What the model's team says of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(&self, model: ModelName) -> Result<Standing, StoreError> {
        self.read(move |connection| standing(connection, &model)).await
    }

    /// Signs anew what is demanded of devices after `after` of which a version of the team is demanded that may not run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_demands(
        &self,
        team: TeamId,
        after: String,
        sign: SignState,
        now: Timestamp,
    ) -> Result<Settled, StoreError> {
        self.write(move |connection| {
            let sql =
                "SELECT DISTINCT device FROM desired_models WHERE team = ?1 AND device > ?2 ORDER BY device LIMIT ?3";
            let limit = integer(BATCH as u64);
            let mut statement = connection.prepare_cached(sql)?;
            let names = statement.query_map(params![team.as_str(), after, limit], |row| row.get::<_, String>(0))?;
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let mut settled =
                Settled { next: names.last().filter(|_| names.len() == BATCH).cloned(), ..Settled::default() };
            for name in &names {
                let device: DeviceId = parse("device", name)?;
                let demanded = models(connection, &device)?;
                let mut lost = Vec::new();
                for model in demanded.iter().filter(|model| model.model.team == team) {
                    if standing(connection, &model.model)?.allows(&model.version).is_err() {
                        lost.push(model.model.clone());
                    }
                }
                if lost.is_empty() {
                    continue;
                }
                let generation = demand(connection, &device, demanded, &sign, now)?;
                for model in &lost {
                    rollouts::depart(connection, &device, model, None)?;
                }
                settled.devices.insert(device, generation);
            }
            if !settled.devices.is_empty() {
                let words = format!("{} devices: versions of {team} that may run no more", settled.devices.len());
                events::insert(connection, &NewEvent::new(EventKind::DemandsSettled, words), now)?;
            }
            Ok(settled)
        })
        .await
    }
}

/// What became of a model, as events.
fn news(name: &ModelName, before: &Standing, after: &Standing) -> Vec<NewEvent> {
    let of = |version: &Version| ModelVersion { name: name.clone(), version: version.clone() };
    let recalled = after.recalled.iter().filter(|(version, _)| !before.recalled.contains_key(*version));
    let mut news: Vec<_> =
        recalled.map(|(v, why)| NewEvent::new(EventKind::VersionRecalled, why).of_version(&of(v))).collect();
    if let Some(floor) = after.floor.as_ref().filter(|floor| before.floor.as_ref() != Some(floor)) {
        let words = format!("versions of {name} below {floor} may run no more");
        news.push(NewEvent::new(EventKind::FloorRaised, words).of_version(&of(floor)));
    }
    news
}

fn of_team(connection: &Connection, team: &TeamId) -> Result<BTreeMap<ModelId, Standing>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT model_id, standing FROM standings WHERE team = ?1")?;
    let mut rows = statement.query([team.as_str()])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (model, text): (String, String) = (row.get(0)?, row.get(1)?);
        found.insert(parse("model", &model)?, from_json("standing", text.as_bytes())?);
    }
    Ok(found)
}

/// What is recorded of a model.
pub(super) fn standing(connection: &Connection, model: &ModelName) -> Result<Standing, StoreError> {
    let sql = "SELECT standing FROM standings WHERE team = ?1 AND model_id = ?2";
    let key = params![model.team.as_str(), model.model.as_str()];
    let text: Option<String> = connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    text.map_or_else(|| Ok(Standing::default()), |text| from_json("standing", text.as_bytes()))
}

/// `wanted` where every version may run; in place of one that may not, the newest that may and that was demanded of the
/// device before; nothing where there is none.
pub(super) fn allowed(
    connection: &Connection,
    device: &DeviceId,
    wanted: Vec<DesiredModel>,
) -> Result<Vec<DesiredModel>, StoreError> {
    let mut models = Vec::with_capacity(wanted.len());
    for model in wanted {
        let standing = standing(connection, &model.model)?;
        if standing.allows(&model.version).is_ok() {
            models.push(model);
        } else {
            models.extend(fallback(connection, device, &model.model, &standing)?);
        }
    }
    Ok(models)
}

fn fallback(
    connection: &Connection,
    device: &DeviceId,
    name: &ModelName,
    standing: &Standing,
) -> Result<Option<DesiredModel>, StoreError> {
    let sql = "SELECT version FROM demanded WHERE device = ?1 AND team = ?2 AND model_id = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let key = params![device.as_str(), name.team.as_str(), name.model.as_str()];
    let texts = statement.query_map(key, |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut versions = texts.iter().map(|text| parse("version", text)).collect::<Result<Vec<Version>, _>>()?;
    versions.retain(|version| standing.allows(version).is_ok());
    versions.sort_unstable();
    for version in versions.into_iter().rev() {
        let wanted = ModelVersion { name: name.clone(), version };
        if let Some(Listed { manifest, signed: true, .. }) = listed(connection, &wanted)? {
            let (swap, probation) = (Swap::default(), Probation::default());
            let (model, version) = (wanted.name, wanted.version);
            return Ok(Some(DesiredModel { model, version, manifest, swap, probation, candidate: false }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
