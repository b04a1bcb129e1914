//! What a plan is made from, read in one transaction, and the lists that people look at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    desired::{DesiredModel, MAX_MODELS},
    ids::{DeviceClass, DeviceId, Generation, ModelVersion, Version},
    manifest::Manifest,
    refusal::RefusalCode,
    twin::Twin,
};

use super::{COLUMNS, RolloutRecord, find, from_row};
use crate::{
    forms::incident::{IncidentKind, Severity},
    rollout::{
        Assignment, DeviceView, Eligibility, FleetSnapshot, Gate, RefusalView, RolloutId, Says, Settled, TwinView,
    },
    store::{
        Paging, Store, StoreError, damaged, devices::effective_labels, directing::listed, from_json, natural, parse,
        standings::standing, time,
    },
};

/// Most incidents that become gates: one is enough to stop a rollout.
const MAX_GATES: u32 = 16;

impl Store {
    /// A rollout, and the fleet as its plan sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollout_snapshot(
        &self,
        id: RolloutId,
        hearing_since: Timestamp,
    ) -> Result<Option<(RolloutRecord, FleetSnapshot)>, StoreError> {
        self.read(move |connection| {
            // One transaction: a demand and its assignment are seen both or not at all.
            let transaction = connection.unchecked_transaction()?;
            let Some(record) = find(&transaction, &id)? else { return Ok(None) };
            let snapshot = FleetSnapshot {
                rollout: id,
                target: record.target.clone(),
                state: record.state.clone(),
                hearing_since,
                gates: gates(&transaction, &record.target)?,
                devices: devices(&transaction, &record)?,
            };
            Ok(Some((record, snapshot)))
        })
        .await
    }

    /// A rollout.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollout(&self, id: RolloutId) -> Result<Option<RolloutRecord>, StoreError> {
        self.read(move |connection| find(connection, &id)).await
    }

    /// The rollouts that have something to demand, in the order of creation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_rollouts(&self) -> Result<Vec<RolloutId>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT id FROM rollouts WHERE closed IS NULL ORDER BY number")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            names.iter().map(|name| parse("rollout", name)).collect()
        })
        .await
    }

    /// A page of rollouts, newest first; the cursor is a number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollouts(&self, paging: Paging) -> Result<Vec<RolloutRecord>, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM rollouts WHERE number < ?1 ORDER BY number DESC LIMIT ?2");
            let before = paging.after.parse().unwrap_or(i64::MAX);
            let limit = i64::try_from(paging.limit).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![before, limit])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(from_row(row)?);
            }
            Ok(records)
        })
        .await
    }

    /// How many rollouts are in each phase; phases without any are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollout_phases(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT phase, count(*) FROM rollouts GROUP BY phase")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, natural(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// What speaks against the version: it is listed no more, it may run no more, or an incident of it is open.
fn gates(connection: &Connection, target: &ModelVersion) -> Result<BTreeMap<String, Gate>, StoreError> {
    let mut gates = BTreeMap::new();
    if !listed(connection, target)?.is_some_and(|found| found.is_listed()) {
        let detail = format!("the team's signed metadata lists {target} no more");
        gates.insert("listed".to_owned(), Gate { says: Says::Hold, detail });
    }
    if let Err(why) = standing(connection, &target.name)?.allows(&target.version) {
        gates.insert("standing".to_owned(), Gate { says: Says::Abort, detail: why.to_string() });
    }
    let sql = "SELECT number, kind, severity FROM incidents
               WHERE team = ?1 AND model_id = ?2 AND version = ?3 AND state = 'open' ORDER BY number LIMIT ?4";
    let ModelVersion { name, version } = target;
    let mut statement = connection.prepare_cached(sql)?;
    let key = params![name.team.as_str(), name.model.as_str(), version.to_string(), MAX_GATES];
    let mut rows = statement.query(key)?;
    while let Some(row) = rows.next()? {
        let (number, kind, severity): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let detail = format!("incident {number}: {kind}, {severity}");
        gates.insert(format!("incident-{number}"), Gate { says: says(&kind, &severity), detail });
    }
    Ok(gates)
}

/// What an open incident of the version wants. What a device or the world does to a version is no harm that it does.
fn says(kind: &str, severity: &str) -> Says {
    use IncidentKind::{LatencyOrErrors, ModelBroken, ObjectiveBreached};
    let is_harm = matches!(kind.parse(), Ok(ModelBroken | ObjectiveBreached | LatencyOrErrors));
    match severity.parse() {
        Ok(Severity::Critical) if is_harm => Says::Abort,
        Ok(Severity::Notice) => Says::Pass,
        // A word that this server does not know is for a human, too.
        Ok(Severity::Critical | Severity::Alarm) | Err(_) => Says::Hold,
    }
}

const DEVICES: &str = "
    SELECT d.device, d.device_class, d.own_labels, d.operator_labels, d.agent_version, d.revoked, d.online, d.last_seen,
           d.generation, d.twin, m.team, m.version,
           (SELECT count(*) FROM desired_models x WHERE x.device = d.device), r.version, s.changed,
           a.stage, a.round, a.at, a.generation, a.previous, a.fetched, a.outcome, a.code, a.settled, a.taken_back,
           a.departed
    FROM devices d
    LEFT JOIN desired_models m ON m.device = d.device AND m.model_id = ?2
    LEFT JOIN running_models r ON r.device = d.device AND r.team = ?1 AND r.model_id = ?2
    LEFT JOIN model_states s ON s.device = d.device AND s.team = ?1 AND s.model_id = ?2
    LEFT JOIN rollout_devices a ON a.device = d.device AND a.rollout = ?3
    WHERE d.revoked IS NULL OR a.device IS NOT NULL
    ORDER BY d.device";

fn devices(connection: &Connection, record: &RolloutRecord) -> Result<BTreeMap<DeviceId, DeviceView>, StoreError> {
    let ModelVersion { name, version } = &record.target;
    let sql = "SELECT manifest FROM versions WHERE team = ?1 AND model_id = ?2 AND version = ?3";
    let key = params![name.team.as_str(), name.model.as_str(), version.to_string()];
    let bytes: Option<Vec<u8>> = connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    // A manifest that this server cannot read excludes nobody: each device judges for itself.
    let reader = Reader { record, manifest: bytes.and_then(|bytes| Manifest::from_slice(&bytes).ok()) };
    let mut statement = connection.prepare_cached(DEVICES)?;
    let mut rows = statement.query([name.team.as_str(), name.model.as_str(), record.id.as_str()])?;
    let mut devices = BTreeMap::new();
    while let Some(row) = rows.next()? {
        devices.extend(reader.device(row)?);
    }
    Ok(devices)
}

struct Reader<'a> {
    record: &'a RolloutRecord,
    manifest: Option<Manifest>,
}

impl Reader<'_> {
    /// The device of a row; none where it has nothing to do with the rollout.
    fn device(&self, row: &Row<'_>) -> Result<Option<(DeviceId, DeviceView)>, StoreError> {
        let text = |index: usize| row.get::<_, String>(index);
        let device: DeviceId = parse("device", &text(0)?)?;
        let class: DeviceClass = parse("device class", &text(1)?)?;
        let labels = effective_labels(&text(2)?, &text(3)?)?;
        let selected = self.record.selector.matches(&device, &class, &labels);
        let assignment = assignment(row)?;
        if !selected && assignment.is_none() {
            return Ok(None);
        }
        let team: Option<String> = row.get(10)?;
        let foreign = team.as_ref().is_some_and(|team| team != self.record.target.name.team.as_str());
        let full = team.is_none() && natural(row.get(12)?) >= MAX_MODELS as u64;
        let desired: Option<Version> = version(row, 11)?.filter(|_| !foreign);
        let revoked = row.get::<_, Option<i64>>(5)?.is_some();
        let departed = row.get::<_, Option<bool>>(25)?.unwrap_or(false);
        let view = DeviceView {
            eligible: match () {
                () if revoked => Eligibility::Barred,
                () if !selected => Eligibility::Unselected,
                () if foreign || full || !self.suits(&class, &text(4)?) => Eligibility::Unsuited,
                () => Eligibility::Eligible,
            },
            class,
            online: row.get::<_, bool>(6)? && !revoked,
            last_seen: instant(row, 7)?,
            running: version(row, 13)?,
            generation: Generation(natural(row.get(8)?)),
            // What somebody else has demanded since is not this rollout's demand, whichever version it is.
            desired: desired.filter(|version| !(departed && *version == self.record.target.version)),
            twin: self.twin(row)?,
            assignment,
        };
        Ok(Some((device, view)))
    }

    /// Whether the version allows the class and the agent.
    fn suits(&self, class: &DeviceClass, agent: &str) -> bool {
        let Some(manifest) = &self.manifest else { return true };
        // An agent whose version cannot be read may be any.
        manifest.allows(class) && agent.parse().map_or(true, |agent: Version| manifest.minimum_agent <= agent)
    }

    fn twin(&self, row: &Row<'_>) -> Result<Option<TwinView>, StoreError> {
        let bytes: Option<Vec<u8>> = row.get(9)?;
        // A stored twin that this server cannot read counts as none.
        let twin = bytes.and_then(|bytes| serde_json::from_slice::<Twin>(&bytes).ok());
        let model = twin.and_then(|twin| twin.models.into_iter().find(|m| m.model == self.record.target.name));
        let (Some(model), Some(changed)) = (model, instant(row, 14)?) else { return Ok(None) };
        let error =
            model.last_error.map(|e| RefusalView { code: e.code, version: e.version, generation: e.generation });
        let (generation, desired, state) = (model.generation, model.desired, model.state);
        Ok(Some(TwinView { generation, desired, state, changed, error }))
    }
}

fn assignment(row: &Row<'_>) -> Result<Option<Assignment>, StoreError> {
    let Some(stage) = row.get::<_, Option<u32>>(15)? else { return Ok(None) };
    let previous: Option<String> = row.get(19)?;
    let previous = previous.map(|text| from_json::<DesiredModel>("demand", text.as_bytes())).transpose()?;
    let settled = match (row.get::<_, Option<String>>(21)?, instant(row, 23)?) {
        (Some(outcome), Some(at)) => {
            let code: Option<String> = row.get(22)?;
            Some(Settled {
                outcome: word(&outcome)?,
                code: code.map(|code| word::<RefusalCode>(&code)).transpose()?,
                at,
            })
        }
        _ => None,
    };
    Ok(Some(Assignment {
        stage,
        round: row.get(16)?,
        at: time(row.get(17)?)?,
        generation: Generation(natural(row.get(18)?)),
        previous: previous.map(|model| model.version),
        fetched: instant(row, 20)?,
        settled,
        taken_back: row.get::<_, Option<String>>(24)?.map(|cause| word(&cause)).transpose()?,
    }))
}

fn instant(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>, StoreError> {
    row.get::<_, Option<i64>>(index)?.map(time).transpose()
}

fn version(row: &Row<'_>, index: usize) -> Result<Option<Version>, StoreError> {
    row.get::<_, Option<String>>(index)?.map(|text| parse("version", &text)).transpose()
}

/// A closed word as its type spells it in JSON.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(text.into()).map_err(|e| damaged("rollout of a device", e))
}
