//! What operators see of incidents and do about them.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use jiff::SignedDuration;
use serde::de::DeserializeOwned;

use super::{
    body,
    caller::{operator_on, permit},
    fleet_routes::MAX_REASON,
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery},
};
use crate::{
    clock,
    decay::task::say,
    fleet::Fleet,
    forms::incident::{Acknowledgement, IncidentRow, Mute},
    identity::{
        Operator, Permission,
        policy::{Resource, Touched},
    },
    store::Response as Reaction,
};

/// Longest mute, in hours: 30 days.
const MAX_HOURS: u32 = 720;

/// `GET /api/v1/incidents` (`?state=open|resolved`), newest first.
pub(super) async fn incidents(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    // What devices an incident is about is not looked up for a whole list.
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::DEVICES).await?;
    let query = ListQuery::of(query)?;
    if let Some(state) = query.state.as_deref().filter(|state| !["open", "resolved"].contains(state)) {
        return Err(Refused::new(Refusal::BadQuery, format!("state is open or resolved, not {state:?}")));
    }
    let rows = fleet.store.incidents(query.state.clone(), query.paging()?).await?;
    let keep = |row: &IncidentRow| reader.scope.has_team(&row.model.name.team);
    Ok(query::page_of(rows, query.limit()?, |row| row.number.to_string(), keep))
}

/// `GET /api/v1/incidents/{number}`.
pub(super) async fn incident(
    State(fleet): State<Arc<Fleet>>,
    Path(number): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<IncidentRow>> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let number = query::name(&number)?;
    theirs(&fleet, &reader, Permission::Read, number).await.map(Json)
}

/// An incident of a team and of devices that the operator may do this to: all of the devices that show it.
async fn theirs(fleet: &Arc<Fleet>, operator: &Operator, permission: Permission, number: u64) -> Answer<IncidentRow> {
    let row = fleet.store.incident(number).await?.ok_or_else(|| unknown(number))?;
    let team = Resource::team(&row.model.name.team);
    if operator.scope.devices.is_none() {
        permit(fleet, operator, permission, &team)?;
        return Ok(row);
    }
    let facts = fleet.store.facts(row.devices.clone()).await?;
    if facts.is_empty() {
        permit(fleet, operator, permission, &Resource { devices: Touched::Everything, ..team })?;
        return Ok(row);
    }
    for facts in facts {
        permit(fleet, operator, permission, &Resource { team: team.team.clone(), ..Resource::device(facts) })?;
    }
    Ok(row)
}

/// `POST /api/v1/incidents/{number}/acknowledge`.
pub(super) async fn acknowledge(
    State(fleet): State<Arc<Fleet>>,
    Path(number): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<IncidentRow>> {
    let react = |form: Acknowledgement| Ok((Reaction::Acknowledge, form.reason));
    respond(&fleet, &number, &headers, body, react).await
}

/// `POST /api/v1/incidents/{number}/mute`.
pub(super) async fn mute(
    State(fleet): State<Arc<Fleet>>,
    Path(number): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<IncidentRow>> {
    let react = |form: Mute| {
        if !(1..=MAX_HOURS).contains(&form.hours) {
            return Err(Refused::new(Refusal::BadOrder, format!("hours must be 1 to {MAX_HOURS}")));
        }
        let until = clock::now().saturating_add(SignedDuration::from_hours(i64::from(form.hours)));
        Ok((Reaction::Mute(until.map_err(anyhow::Error::from)?), form.reason))
    };
    respond(&fleet, &number, &headers, body, react).await
}

async fn respond<T: DeserializeOwned>(
    fleet: &Arc<Fleet>,
    number: &str,
    headers: &HeaderMap,
    body: Body,
    react: impl FnOnce(T) -> Answer<(Reaction, String)>,
) -> Answer<Json<IncidentRow>> {
    let operator = operator_on(fleet, headers, Permission::Operate, &Resource::NONE).await?;
    let number = query::name(number)?;
    theirs(fleet, &operator, Permission::Operate, number).await?;
    let (reaction, reason) = react(body::json(body).await?)?;
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        return Err(Refused::new(Refusal::BadOrder, format!("say why: reason must have 1 to {MAX_REASON} bytes")));
    }
    let id = fleet.settings.fleet.clone();
    let kept = fleet.store.respond(number, reaction, (operator.name, reason), id, clock::now()).await?;
    let (row, statement) = kept.ok_or_else(|| unknown(number))?;
    say(fleet, statement).await;
    Ok(Json(row))
}

fn unknown(number: u64) -> Refused {
    Refused::new(Refusal::NotFound, format!("there is no incident {number}"))
}
