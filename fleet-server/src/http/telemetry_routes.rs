//! What devices reported: figures, windows for charts, and the quarantine.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use tern_protocol::ids::{DeviceId, ModelName};

use super::{
    caller::{operator_on, permit},
    fleet_routes::visible,
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery},
};
use crate::{
    figures,
    fleet::Fleet,
    forms::FiguresRow,
    identity::{Permission, policy::Resource},
    store::FiguresQuery,
};

/// `?model=team/model&device=`, beside those of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OfQuery {
    model: Option<String>,
    device: Option<String>,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

fn of(query: Asked<OfQuery>) -> Answer<OfQuery> {
    query.map(|Query(query)| query).map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))
}

/// `GET /api/v1/figures`.
pub(super) async fn figures(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    list: Asked<ListQuery>,
    asked: Asked<OfQuery>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let (list, of) = (ListQuery::of(list)?, of(asked)?);
    let paging = list.paging()?;
    let query = FiguresQuery {
        model: of.model.as_deref().map(query::name::<ModelName>).transpose()?,
        device: of.device.as_deref().map(query::name).transpose()?,
        after: paging.after,
        limit: paging.limit,
    };
    match &query.device {
        Some(device) if reader.scope.devices.is_some() => {
            visible(&fleet, &reader, device.clone()).await?;
        }
        Some(_) => {}
        None => permit(&fleet, &reader, Permission::Read, &Resource::DEVICES)?,
    }
    let rows = figures::figures(&fleet, query).await?;
    let keep = |row: &FiguresRow| reader.scope.has_team(&row.model.name.team);
    Ok(query::page_of(rows, list.limit()?, |row| format!("{} {}", row.device, row.model), keep))
}

/// `GET /api/v1/devices/{id}/windows`.
pub(super) async fn windows(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    list: Asked<ListQuery>,
    asked: Asked<OfQuery>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let (list, of) = (ListQuery::of(list)?, of(asked)?);
    let model = of.model.ok_or_else(|| Refused::new(Refusal::BadQuery, "say which: ?model=team/model"))?;
    let (device, model, limit): (DeviceId, ModelName, usize) = (query::name(&id)?, query::name(&model)?, list.limit()?);
    permit(&fleet, &reader, Permission::Read, &Resource::team(&model.team))?;
    if reader.scope.devices.is_some() {
        visible(&fleet, &reader, device.clone()).await?;
    }
    // Without `after` these are the newest, after which there is no page; with it the one row more tells.
    let asked = limit + usize::from(list.after.is_some());
    let rows = figures::windows(&fleet, device, model, list.after, asked).await?;
    Ok(query::page(rows, limit, |row| row.id.to_string()))
}

/// `GET /api/v1/quarantine`.
pub(super) async fn quarantine(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    list: Asked<ListQuery>,
) -> Answer<Response> {
    operator_on(&fleet, &headers, Permission::Read, &Resource::DEVICES).await?;
    let list = ListQuery::of(list)?;
    let limit = list.limit()?;
    let rows = fleet.store.quarantined(list.after.unwrap_or(0), limit + 1).await?;
    Ok(query::page(rows, limit, |row| row.id.to_string()))
}
