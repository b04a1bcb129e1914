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
use tern_protocol::{
    desired::Probation,
    ids::{DeviceId, Labels, ModelVersion},
};

use super::{
    body,
    caller::{operator, operator_on, permit},
    problem::{Answer, Refusal, Refused},
    publishing::unsigned,
    query::{self, ListQuery},
};
use crate::{
    clock,
    enrolment::{self, OrderError},
    fleet::Fleet,
    forms::{Assigned, Assignment, DeviceRow, EnrolmentOrder, EnrolmentTicket, EventRow, TrustVersions, WhoAmI},
    identity::{
        Operator, Permission,
        policy::{DeviceFacts, Resource},
    },
    selector::Selector,
    store::{AssignRefusal, AssignmentOrder},
};

/// Longest reason, in bytes.
pub(super) const MAX_REASON: usize = 1000;

/// `GET /api/v1/whoami`.
pub(super) async fn whoami(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<WhoAmI>> {
    let operator = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    Ok(Json(WhoAmI {
        name: operator.name,
        role: operator.role.as_str().into(),
        scope: (&operator.scope).into(),
        fleet: fleet.settings.fleet.clone(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        solo: fleet.repository.is_solo(),
    }))
}

/// `GET /api/v1/trust`.
pub(super) async fn trust(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<TrustVersions>> {
    operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    Ok(Json(fleet.repository.versions()))
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
    let operator = operator_on(&fleet, &headers, Permission::Operate, &Resource::NONE).await?;
    let Query(query) = query.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    let order: EnrolmentOrder = body::json(body).await?;
    may_enrol(&fleet, &operator, &order.device, &order.labels).await?;
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

/// What a device will be is not known before it is there: the order itself must say every term of the scope. One that is
/// there must be inside as well.
pub(super) async fn may_enrol(
    fleet: &Arc<Fleet>,
    operator: &Operator,
    device: &DeviceId,
    labels: &Labels,
) -> Answer<()> {
    if operator.scope.is_whole() {
        return Ok(());
    }
    let labels = labels.iter().map(|(key, value)| format!(",{key}={value}"));
    let selector = selector(&format!("device={device}{}", labels.collect::<String>()))?;
    permit(fleet, operator, Permission::Operate, &Resource::NONE.on(&selector))?;
    match fleet.store.device(device.clone()).await? {
        Some(row) => permit(fleet, operator, Permission::Operate, &Resource::device(facts(&row))),
        None => Ok(()),
    }
}

/// What selectors look at.
pub(super) fn facts(row: &DeviceRow) -> DeviceFacts {
    DeviceFacts { device: row.device.clone(), class: row.device_class.clone(), labels: row.labels.clone() }
}

/// The selector of an order, cut to the operator's scope; refused where it picks a device outside.
pub(super) async fn within(fleet: &Arc<Fleet>, operator: &Operator, selector: Selector) -> Answer<Selector> {
    let Some(scope) = operator.scope.devices.clone() else { return Ok(selector) };
    if let Some(row) = fleet.store.first_outside(selector.clone(), scope.clone()).await? {
        permit(fleet, operator, Permission::Operate, &Resource::device(row))?;
    }
    // A device that comes to match later must be inside too.
    let long = || Refused::new(Refusal::BadSelector, format!("with your scope {scope} the selector is too long"));
    selector.and(&scope).ok_or_else(long)
}

/// `GET /api/v1/devices`.
pub(super) async fn devices(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let query = ListQuery::of(query)?;
    let mut selector = query.selector.as_deref().map_or_else(|| Ok(Selector::all()), selector)?;
    if let Some(scope) = &reader.scope.devices {
        let long = || Refused::new(Refusal::BadSelector, format!("with your scope {scope} the selector is too long"));
        selector = selector.and(scope).ok_or_else(long)?;
    }
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
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let row = visible(&fleet, &reader, query::name(&id)?).await?;
    Ok(Json(row))
}

/// A device that the operator may see.
pub(super) async fn visible(fleet: &Arc<Fleet>, operator: &Operator, id: DeviceId) -> Answer<DeviceRow> {
    let words = format!("no device is called {id}");
    let row = fleet.store.device(id).await?.ok_or_else(|| Refused::new(Refusal::NotFound, words))?;
    permit(fleet, operator, Permission::Read, &Resource::device(facts(&row)))?;
    Ok(row)
}

/// `POST /api/v1/assignments`.
pub(super) async fn assign(State(fleet): State<Arc<Fleet>>, headers: HeaderMap, body: Body) -> Answer<Json<Assigned>> {
    let operator = operator_on(&fleet, &headers, Permission::Operate, &Resource::NONE).await?;
    let form: Assignment = body::json(body).await?;
    let selector = within(&fleet, &operator, selector(&form.selector)?).await?;
    permit(&fleet, &operator, Permission::Operate, &Resource::team(&form.model.name.team).on(&selector))?;
    let probation = form.probation.unwrap_or_default();
    check(&form.reason, &probation)?;
    let order = AssignmentOrder { model: form.model, selector, probation, reason: form.reason, actor: operator.name };
    let model = order.model.clone();
    let assigned = fleet.store.assign(order, fleet.signer(), clock::now()).await?;
    let devices = match assigned {
        Ok(devices) => devices,
        Err(refusal) => return Err(assign_refused(&fleet, &refusal, &model).await),
    };
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
    if probation.is_too_long() {
        let (inferences, seconds) = (Probation::MOST_INFERENCES, Probation::MOST_SECONDS);
        return refused(format!("probation must be at most {inferences} inferences and {seconds} seconds"));
    }
    Ok(())
}

async fn assign_refused(fleet: &Arc<Fleet>, refusal: &AssignRefusal, model: &ModelVersion) -> Refused {
    match refusal {
        AssignRefusal::UnknownVersion => {
            Refused::new(Refusal::UnknownVersion, format!("{model} was never published: see `tern model list`"))
        }
        AssignRefusal::Unsigned => unsigned(fleet, model).await,
        AssignRefusal::Disallowed(why) => Refused::new(Refusal::VersionRecalled, format!("{why}: assign another")),
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
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::DEVICES).await?;
    let query = ListQuery::of(query)?;
    let limit = query.limit()?;
    let rows = fleet.store.events_after(query.after.unwrap_or(0), u32::try_from(limit + 1).unwrap_or(u32::MAX)).await?;
    Ok(query::page_of(rows, limit, |row| row.id.to_string(), |row| sees(&reader, row)))
}

/// Whether an event is one that the reader may see: what concerns a model of another team is not.
pub(super) fn sees(reader: &Operator, event: &EventRow) -> bool {
    event.model.as_ref().is_none_or(|model| reader.scope.has_team(&model.team))
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
