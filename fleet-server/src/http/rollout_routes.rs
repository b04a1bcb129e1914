//! Rollouts: make, look, and the nine verbs. Everything is decided by the planner and the store.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tern_protocol::digest::Digest;

use super::{
    body,
    caller::{operator_on, permit},
    fleet_routes::{selector, within},
    problem::{Answer, Refusal, Refused},
    publishing::unsigned,
    query::{self, ListQuery},
};
use crate::{
    clock,
    fleet::Fleet,
    forms::rollouts::{
        KEY_RULE, RolloutDetail, RolloutDevice, RolloutHistory, RolloutOrder, RolloutPlan, RolloutRow, RolloutVerb,
        is_key,
    },
    identity::{
        Permission,
        policy::{self, Resource},
    },
    rollout::{
        FleetSnapshot, MAX_REASON_BYTES, Order, Phase, RolloutId, Verb, VerbError, plan, stage_members, standings,
    },
    store::{CreateRefusal, NewRollout, RolloutRecord, VerbRefusal},
};

/// Every route of rollouts.
pub(super) fn router() -> Router<Arc<Fleet>> {
    Router::new()
        .route("/api/v1/rollouts", get(list).post(create))
        .route("/api/v1/rollouts/{id}", get(one))
        .route("/api/v1/rollouts/{id}/plan", get(dry_run))
        .route("/api/v1/rollouts/{id}/verdicts", get(verdicts))
        .route("/api/v1/rollouts/{id}/{verb}", post(act))
}

/// `POST /api/v1/rollouts`.
async fn create(State(fleet): State<Arc<Fleet>>, headers: HeaderMap, body: Body) -> Answer<Response> {
    let operator = operator_on(&fleet, &headers, Permission::Operate, &Resource::NONE).await?;
    let bytes = body::whole(body, body::MAX_JSON).await?;
    let request = key(&headers)?.map(|key| (key, Digest::of(&bytes)));
    let form: RolloutOrder =
        serde_json::from_slice(&bytes).map_err(|e| Refused::new(Refusal::MalformedJson, e.to_string()))?;
    let reason = form.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
        let words = format!("say why: reason must have 1 to {MAX_REASON_BYTES} bytes");
        return Err(Refused::new(Refusal::BadOrder, words));
    }
    let selector = within(&fleet, &operator, selector(&form.selector)?).await?;
    permit(&fleet, &operator, Permission::Operate, &Resource::team(&form.model.name.team).on(&selector))?;
    let new = NewRollout {
        selector,
        model: form.model,
        policy: form.policy,
        reason: form.reason,
        who: operator.name,
        start: form.start,
        request,
    };
    let record = match fleet.store.create_rollout(new, clock::now()).await? {
        Ok(record) => record,
        Err(refusal) => return Err(not_created(&fleet, refusal).await),
    };
    fleet.pulse.ring();
    Ok((StatusCode::CREATED, Json(RolloutRow::of(&record))).into_response())
}

fn key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| is_key(text));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| Refused::new(Refusal::BadKey, KEY_RULE))
}

async fn not_created(fleet: &Arc<Fleet>, refusal: CreateRefusal) -> Refused {
    match refusal {
        CreateRefusal::Policy(error) => Refused::new(Refusal::BadPolicy, error.to_string()),
        CreateRefusal::UnknownVersion(version) => {
            Refused::new(Refusal::UnknownVersion, format!("{version} was never published: see `tern model list`"))
        }
        CreateRefusal::Unsigned(version) => unsigned(fleet, &version).await,
        CreateRefusal::Disallowed(why) => Refused::new(Refusal::VersionRecalled, format!("{why}: roll another out")),
        CreateRefusal::Active(other) => active(&other),
        CreateRefusal::KeyReused => {
            Refused::new(Refusal::KeyReused, "a key stands for one request: use a new one for another")
        }
        CreateRefusal::Verb(error) => refused(&error),
    }
}

fn active(other: &RolloutId) -> Refused {
    Refused::new(Refusal::RolloutActive, format!("rollout {other} of this model is not over: abort it or let it end"))
}

fn refused(error: &VerbError) -> Refused {
    let code = match error {
        VerbError::NoReason(_) | VerbError::ReasonTooLong(_) => Refusal::BadOrder,
        VerbError::Moved { .. } => Refusal::RolloutMoved,
        VerbError::NotNow { .. } => Refusal::NotNow,
        VerbError::OwnRollout(_) => Refusal::OwnRollout,
        VerbError::ApprovedBefore(_) => Refusal::ApprovedBefore,
        VerbError::NeedsApproval { .. } => Refusal::NeedsApproval,
    };
    Refused::new(code, error.to_string())
}

/// `POST /api/v1/rollouts/{id}/{verb}`.
async fn act(
    State(fleet): State<Arc<Fleet>>,
    Path((id, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<RolloutRow>> {
    let verb = Verb::ALL.into_iter().find(|known| known.as_str() == verb);
    let permission = verb.map_or(Permission::Operate, needs);
    let operator = operator_on(&fleet, &headers, permission, &Resource::NONE).await?;
    let verb = verb.ok_or_else(|| Refused::new(Refusal::NotFound, "that is no verb of a rollout"))?;
    let id: RolloutId = query::name(&id)?;
    let record = fleet.store.rollout(id.clone()).await?.ok_or_else(|| unknown(&id))?;
    permit(&fleet, &operator, permission, &of(&record))?;
    let form: RolloutVerb = body::json(body).await?;
    let order = Order { verb, who: operator.name, why: form.reason, if_phase: form.if_phase };
    let ordered = fleet.store.order_rollout(id.clone(), order, clock::now()).await?;
    let record = ordered.map_err(|refusal| match refusal {
        VerbRefusal::Unknown => unknown(&id),
        VerbRefusal::Active(other) => active(&other),
        VerbRefusal::Verb(error) => refused(&error),
    })?;
    fleet.pulse.ring();
    Ok(Json(RolloutRow::of(&record)))
}

/// Whoever agrees to a rollout is another than who runs it, by role and by name.
fn needs(verb: Verb) -> Permission {
    match verb {
        Verb::Approve | Verb::Deny => Permission::Approve,
        Verb::Start | Verb::Pause | Verb::Resume | Verb::Promote | Verb::Retry | Verb::Abort | Verb::Undo => {
            Permission::Operate
        }
    }
}

/// What a rollout touches.
fn of(record: &RolloutRecord) -> Resource {
    Resource::team(&record.target.name.team).on(&record.selector)
}

fn unknown(id: &RolloutId) -> Refused {
    Refused::new(Refusal::NotFound, format!("no rollout is called {id}: see `tern rollout list`"))
}

/// `GET /api/v1/rollouts`.
async fn list(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let query = ListQuery::of(query)?;
    let paging = query.paging()?;
    if !paging.after.is_empty() && paging.after.parse::<i64>().is_err() {
        return Err(Refused::new(Refusal::BadQuery, "cursor must be the number of a rollout"));
    }
    let records = fleet.store.rollouts(paging).await?;
    let sees = |record: &RolloutRecord| policy::decide(&reader, Permission::Read, &of(record)).is_ok();
    let seen: BTreeSet<_> = records.iter().filter(|record| sees(record)).map(|record| record.id.to_string()).collect();
    let rows = records.iter().map(RolloutRow::of).collect();
    let keep = |row: &RolloutRow| seen.contains(row.id.as_str());
    Ok(query::page_of(rows, query.limit()?, |row| row.number.to_string(), keep))
}

async fn snapshot(fleet: &Arc<Fleet>, headers: &HeaderMap, id: &str) -> Answer<(RolloutRecord, FleetSnapshot)> {
    let reader = operator_on(fleet, headers, Permission::Read, &Resource::NONE).await?;
    let id: RolloutId = query::name(id)?;
    let found = fleet.store.rollout_snapshot(id.clone(), fleet.pulse.hearing_since()).await?;
    let (record, snapshot) = found.ok_or_else(|| unknown(&id))?;
    permit(fleet, &reader, Permission::Read, &of(&record))?;
    Ok((record, snapshot))
}

/// `GET /api/v1/rollouts/{id}`.
async fn one(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<RolloutDetail>> {
    let (record, snapshot) = snapshot(&fleet, &headers, &id).await?;
    let mut detail = detail(&record, &snapshot);
    if record.state.phase.is_over() {
        // How it ended is its last line; the planner has nothing more to say.
        let newest = fleet.store.newest_rollout_history(record.id, 1).await?;
        detail.why = newest.into_iter().next().map_or(detail.why, |line| line.entry.why);
    }
    Ok(Json(detail))
}

fn detail(record: &RolloutRecord, snapshot: &FleetSnapshot) -> RolloutDetail {
    let now = clock::now();
    let plan = plan(&record.policy, snapshot, now);
    let stands = standings(&record.policy, snapshot, now);
    let rows = snapshot.devices.iter().zip(stands).map(|((device, view), (_, stand))| {
        let assignment = view.assignment.as_ref();
        RolloutDevice {
            device: device.clone(),
            class: view.class.clone(),
            stands: stand.word.to_owned(),
            code: stand.code,
            stage: assignment.map(|a| a.stage.saturating_add(1)),
            assigned: assignment.map(|a| a.at),
            settled: assignment.and_then(|a| a.settled).map(|s| s.at),
            taken_back: assignment.and_then(|a| a.taken_back),
            running: view.running.clone(),
            desired: view.desired.clone(),
            online: view.online,
        }
    });
    let rows = rows.collect();
    let row = RolloutRow { devices: Some(plan.verdict.evidence.tally), ..RolloutRow::of(record) };
    let (why, evidence) = (plan.verdict.why, plan.verdict.evidence);
    RolloutDetail { row, policy: record.policy.clone(), why, evidence, next: plan.next, rows }
}

/// `GET /api/v1/rollouts/{id}/plan`.
async fn dry_run(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<RolloutPlan>> {
    let (record, mut snapshot) = snapshot(&fleet, &headers, &id).await?;
    let as_if_started = record.state.phase == Phase::Created;
    if as_if_started {
        snapshot.state.phase = Phase::Running;
    }
    let now = clock::now();
    let plan = plan(&record.policy, &snapshot, now);
    Ok(Json(RolloutPlan { as_if_started, plan, stages: stage_members(&record.policy, &snapshot, now) }))
}

/// `GET /api/v1/rollouts/{id}/verdicts`.
async fn verdicts(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let query = ListQuery::of(query)?;
    let (id, limit): (RolloutId, usize) = (query::name(&id)?, query.limit()?);
    let record = fleet.store.rollout(id.clone()).await?.ok_or_else(|| unknown(&id))?;
    permit(&fleet, &reader, Permission::Read, &of(&record))?;
    let most = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let history = fleet.store.rollout_history(id, query.after.unwrap_or(0), most).await?;
    let rows: Vec<_> = history.into_iter().map(RolloutHistory::from).collect();
    Ok(query::page(rows, limit, |row| row.number.to_string()))
}
