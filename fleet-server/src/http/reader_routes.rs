//! Dashboards' access: `/api/v1/readers`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};

use super::{
    body,
    caller::operator,
    fleet_routes::check_reason,
    problem::{Answer, Refusal, Refused},
    query::{self, Why},
};
use crate::{
    fleet::Fleet,
    forms::{Page, ReaderIssued, ReaderOrder, ReaderRow},
    identity::Permission,
    readers::{self, AddRefusal, ReaderName},
};

/// `POST /api/v1/readers`.
pub(super) async fn add(State(fleet): State<Arc<Fleet>>, headers: HeaderMap, body: Body) -> Answer<Json<ReaderIssued>> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let order: ReaderOrder = body::json(body).await?;
    let refused = |refusal: AddRefusal| {
        let code = match refusal {
            AddRefusal::Exists => Refusal::ReaderExists,
            AddRefusal::TooMany => Refusal::BadOrder,
            AddRefusal::Csr(_) => Refusal::BadCsr,
        };
        Refused::new(code, refusal.to_string())
    };
    readers::add(&fleet, order, operator.name).await?.map(Json).map_err(refused)
}

/// `GET /api/v1/readers`: all of them on one page.
pub(super) async fn list(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<Page<ReaderRow>>> {
    operator(&fleet, &headers, Permission::Read).await?;
    Ok(Json(Page { items: fleet.store.readers().await?, next: None }))
}

/// `DELETE /api/v1/readers/{name}`.
pub(super) async fn remove(
    State(fleet): State<Arc<Fleet>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    why: Result<Query<Why>, QueryRejection>,
) -> Answer<StatusCode> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let name: ReaderName = query::name(&name)?;
    let Query(Why { reason }) = why.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    check_reason(&reason)?;
    let words = format!("no dashboard is called {name}");
    if readers::remove(&fleet, name, operator.name, reason).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Refused::new(Refusal::NotFound, words))
}
