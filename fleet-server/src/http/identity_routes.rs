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
    caller::{Renewing, operator_on, permit},
    fleet_routes::{check_reason, facts, may_enrol},
    problem::{Answer, Refusal, Refused},
    query,
};
use crate::{
    enrolment::{self, ClaimOrderError, RenewalRefusal},
    fleet::Fleet,
    forms::{ClaimOrder, ClaimTicket, EnrolmentTicket, Reidentification, Revocation, Revoked},
    identity::{Operator, Permission, policy::Resource},
};

fn no_such(device: &DeviceId) -> Refused {
    Refused::new(Refusal::NotFound, format!("no device is called {device}"))
}

/// An operator who may act on this device, in service or out of it.
async fn operable(fleet: &Arc<Fleet>, headers: &HeaderMap, id: &str) -> Answer<(Operator, DeviceId)> {
    let operator = operator_on(fleet, headers, Permission::Operate, &Resource::NONE).await?;
    let id: DeviceId = query::name(id)?;
    let row = fleet.store.device(id.clone()).await?.ok_or_else(|| no_such(&id))?;
    permit(fleet, &operator, Permission::Operate, &Resource::device(facts(&row)))?;
    Ok((operator, id))
}

/// `POST /api/v1/devices/{id}/revoke`.
pub(super) async fn revoke(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Revoked>> {
    let operator = operator_on(&fleet, &headers, Permission::Operate, &Resource::NONE).await?;
    let id: DeviceId = query::name(&id)?;
    match fleet.store.device(id.clone()).await? {
        Some(row) => permit(&fleet, &operator, Permission::Operate, &Resource::device(facts(&row)))?,
        // A token may have leaked before its device came: whoever may order it may void it.
        None => {
            for labels in fleet.store.open_orders(id.clone()).await? {
                may_enrol(&fleet, &operator, &id, &labels).await?;
            }
        }
    }
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
    let (operator, id) = operable(&fleet, &headers, &id).await?;
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

/// `POST /api/v1/claims`.
pub(super) async fn order_claim(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ClaimTicket>> {
    let operator = operator_on(&fleet, &headers, Permission::Operate, &Resource::NONE).await?;
    let order: ClaimOrder = body::json(body).await?;
    for row in &order.devices {
        may_enrol(&fleet, &operator, &row.device, &row.labels).await?;
    }
    let refused = |error: ClaimOrderError| {
        let code = match error {
            ClaimOrderError::Labels(_) => Refusal::BadLabels,
            ClaimOrderError::AlreadyEnrolled(_) | ClaimOrderError::SerialUsed(..) => Refusal::DeviceEnrolled,
            _ => Refusal::BadOrder,
        };
        Refused::new(code, error.to_string())
    };
    enrolment::order_claim(&fleet, order, operator.name).await?.map(Json).map_err(refused)
}
