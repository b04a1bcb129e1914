//! Who a device is: what puts one out, and how one stays in.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use tern_protocol::{
    enrolment::{RenewalRequest, RenewalResponse},
    ids::DeviceId,
};

use super::{
    body,
    caller::{Renewing, operator},
    fleet_routes::check_reason,
    problem::{Answer, Refusal, Refused},
    query,
};
use crate::{
    enrolment::{self, RenewalRefusal},
    fleet::Fleet,
    forms::{EnrolmentTicket, Reidentification, Revocation, Revoked},
    identity::Permission,
};

fn no_such(device: &DeviceId) -> Refused {
    Refused::new(Refusal::NotFound, format!("no device is called {device}"))
}

/// `POST /api/v1/devices/{id}/revoke`.
pub(super) async fn revoke(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Revoked>> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let id: DeviceId = query::name(&id)?;
    let Revocation { reason } = body::json(body).await?;
    check_reason(&reason)?;
    let revoked = enrolment::revoke(&fleet, id.clone(), reason, operator.name).await?;
    revoked.map(Json).ok_or_else(|| no_such(&id))
}

/// `POST /api/v1/devices/{id}/reidentify`.
pub(super) async fn reidentify(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<EnrolmentTicket>> {
    let operator = operator(&fleet, &headers, Permission::Operate).await?;
    let id: DeviceId = query::name(&id)?;
    let order: Reidentification = body::json(body).await?;
    check_reason(&order.reason)?;
    let ticket = enrolment::reidentify(&fleet, id.clone(), order, operator.name).await?;
    let ticket = ticket.map_err(|error| Refused::new(Refusal::BadOrder, error.to_string()))?;
    ticket.map(Json).ok_or_else(|| no_such(&id))
}

/// `POST /api/v1/renew`: the one route that takes a certificate that has expired.
pub(super) async fn renew(
    State(fleet): State<Arc<Fleet>>,
    Renewing(holder): Renewing,
    body: Body,
) -> Answer<Json<RenewalResponse>> {
    let request: RenewalRequest = body::json(body).await?;
    let refused = |refusal: RenewalRefusal| {
        let code = match refusal {
            RenewalRefusal::Csr(_) | RenewalRefusal::Name(_) => Refusal::BadCsr,
            RenewalRefusal::ForeignKey => Refusal::ForeignKey,
            RenewalRefusal::Gone => Refusal::RevokedDevice,
        };
        Refused::new(code, refusal.to_string())
    };
    enrolment::renew(&fleet, holder, request).await?.map(Json).map_err(refused)
}
