//! What operators do with the fleet: enrol, assign, look; and the server's health.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tern_protocol::{desired::Probation, ids::DeviceId};

use super::{
    body,
    caller::operator,
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery},
};
use crate::{
    clock,
    enrolment::{self, OrderError},
    fleet::Fleet,
    forms::{Assigned, Assignment, DeviceRow, EnrolmentOrder, EnrolmentTicket, WhoAmI},
    identity::Permission,
    selector::Selector,
    store::{AssignRefusal, AssignmentOrder},
};

/// Longest reason, in bytes.
pub(super) const MAX_REASON: usize = 1000;
/// Longest probation: as many inferences or seconds.
const MAX_PROBATION: u64 = 1_000_000_000;

/// `GET /api/v1/whoami`.
pub(super) async fn whoami(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<WhoAmI>> {
    let operator = operator(&fleet, &headers, Permission::Read).await?;
    Ok(Json(WhoAmI {
        name: operator.name,
        role: operator.role.as_str().into(),
        scope: (&operator.scope).into(),
        fleet: fleet.settings.fleet.clone(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        solo: fleet.settings.solo,
    }))
}

/// `?replace=true`: the device may be in service already.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OrderQuery {
    #[serde(default)]
    replace: bool,
}

/// `POST /api/v1/enrolments`.
pub(super) async fn order_enrolment(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<OrderQuery>, QueryRejection>,
    body: Body,
) -> Answer<Json<EnrolmentTicket>> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let Query(query) = query.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    let order: EnrolmentOrder = body::json(body).await?;
    let refused = |error: OrderError| {
        let code = match error {
            OrderError::Life => Refusal::BadOrder,
            OrderError::Labels => Refusal::BadLabels,
            OrderError::AlreadyEnrolled => Refusal::DeviceEnrolled,
        };
        Refused::new(code, error.to_string())
    };
    enrolment::order(&fleet, order, operator.name, query.replace).await?.map(Json).map_err(refused)
}

/// `GET /api/v1/devices`.
pub(super) async fn devices(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    operator(&fleet, &headers, Permission::Read).await?;
    let query = ListQuery::of(query)?;
    let selector = query.selector.as_deref().map_or_else(|| Ok(Selector::all()), selector)?;
    let rows = fleet.store.devices(selector, query.paging()?).await?;
    Ok(query::page(rows, query.limit()?, |row| row.device.to_string()))
}

pub(super) fn selector(text: &str) -> Answer<Selector> {
    text.parse().map_err(|e: crate::selector::InvalidSelector| Refused::new(Refusal::BadSelector, e.to_string()))
}

/// `GET /api/v1/devices/{id}`.
pub(super) async fn device(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<DeviceRow>> {
    operator(&fleet, &headers, Permission::Read).await?;
    let id: DeviceId = query::name(&id)?;
    let words = format!("no device is called {id}");
    let found = fleet.store.device(id).await?;
    found.map(Json).ok_or_else(|| Refused::new(Refusal::NotFound, words))
}

/// `POST /api/v1/assignments`.
pub(super) async fn assign(State(fleet): State<Arc<Fleet>>, headers: HeaderMap, body: Body) -> Answer<Json<Assigned>> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let form: Assignment = body::json(body).await?;
    let selector = selector(&form.selector)?;
    let probation = form.probation.unwrap_or_default();
    check(&form.reason, &probation)?;
    let order = AssignmentOrder { model: form.model, selector, probation, reason: form.reason, actor: operator.name };
    let model = order.model.clone();
    let assigned = fleet.store.assign(order, fleet.signer(), clock::now()).await?;
    let devices = assigned.map_err(|refusal| assign_refused(&refusal, &model.to_string()))?;
    for (device, generation) in devices.iter().filter(|(device, _)| fleet.is_connected(device)) {
        fleet.delivery.lags(device, *generation);
    }
    Ok(Json(Assigned { devices }))
}

/// Every change says why.
pub(super) fn check_reason(reason: &str) -> Answer<()> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        let words = format!("say why: reason must have 1 to {MAX_REASON} bytes");
        return Err(Refused::new(Refusal::BadOrder, words));
    }
    Ok(())
}

fn check(reason: &str, probation: &Probation) -> Answer<()> {
    check_reason(reason)?;
    let refused = |words: String| Err(Refused::new(Refusal::BadOrder, words));
    if probation.min_inferences > MAX_PROBATION || probation.min_seconds > MAX_PROBATION {
        return refused(format!("probation must be at most {MAX_PROBATION}"));
    }
    Ok(())
}

fn assign_refused(refusal: &AssignRefusal, model: &str) -> Refused {
    match refusal {
        AssignRefusal::UnknownVersion => {
            Refused::new(Refusal::UnknownVersion, format!("{model} was never published: see `tern model list`"))
        }
        AssignRefusal::Unsigned => {
            let words = format!("the team's signed metadata does not list {model}: publish it with its release key");
            Refused::new(Refusal::VersionUnsigned, words)
        }
        AssignRefusal::NoDevice => {
            Refused::new(Refusal::NoDeviceMatched, "try the selector with `tern device list --selector`")
        }
        AssignRefusal::NameTaken { device, by } => {
            let words = format!("{device} runs {by}; on a device a model's name is unique without its team");
            Refused::new(Refusal::ModelNameTaken, words)
        }
        AssignRefusal::UnderRollout { rollout } => {
            let words = format!("rollout {rollout} of this model is under way: abort it or let it end, then assign");
            Refused::new(Refusal::RolloutActive, words)
        }
        AssignRefusal::TooMany { device } => {
            Refused::new(Refusal::TooManyModels, format!("{device} has as many models as a device may have"))
        }
    }
}

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    operator(&fleet, &headers, Permission::Read).await?;
    let query = ListQuery::of(query)?;
    let limit = query.limit()?;
    let rows = fleet.store.events_after(query.after.unwrap_or(0), u32::try_from(limit + 1).unwrap_or(u32::MAX)).await?;
    Ok(query::page(rows, limit, |row| row.id.to_string()))
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the store answers and everything listens.
pub(super) async fn readyz(State(fleet): State<Arc<Fleet>>) -> Answer<&'static str> {
    fleet.store.settings().await?;
    fleet.live()?;
    if !fleet.store.is_running() {
        return Err(anyhow::anyhow!("the store's writer has ended: restart the server").into());
    }
    Ok("ready\n")
}

/// `GET /metrics`: Prometheus text, for a token that may read.
pub(super) async fn metrics(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Response> {
    operator(&fleet, &headers, Permission::Read).await?;
    Ok(page(&fleet))
}

/// The same on the loopback listener, where a scraper of this machine needs no token.
pub(super) async fn local_metrics(State(fleet): State<Arc<Fleet>>) -> Response {
    page(&fleet)
}

fn page(fleet: &Fleet) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], fleet.metrics_page()).into_response()
}
