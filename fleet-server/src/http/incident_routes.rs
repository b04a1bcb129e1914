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
    caller::operator,
    fleet_routes::MAX_REASON,
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery},
};
use crate::{
    clock,
    decay::task::say,
    fleet::Fleet,
    forms::incident::{Acknowledgement, IncidentRow, Mute},
    identity::Permission,
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
    operator(&fleet, &headers, Permission::Read).await?;
    let query = ListQuery::of(query)?;
    if let Some(state) = query.state.as_deref().filter(|state| !["open", "resolved"].contains(state)) {
        return Err(Refused::new(Refusal::BadQuery, format!("state is open or resolved, not {state:?}")));
    }
    let rows = fleet.store.incidents(query.state.clone(), query.paging()?).await?;
    Ok(query::page(rows, query.limit()?, |row| row.number.to_string()))
}

/// `GET /api/v1/incidents/{number}`.
pub(super) async fn incident(
    State(fleet): State<Arc<Fleet>>,
    Path(number): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<IncidentRow>> {
    operator(&fleet, &headers, Permission::Read).await?;
    let number = query::name(&number)?;
    fleet.store.incident(number).await?.map(Json).ok_or_else(|| unknown(number))
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
    let operator = operator(fleet, headers, Permission::Operate).await?;
    let number = query::name(number)?;
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
