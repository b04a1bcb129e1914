//! Who calls: an operator by bearer token, a device by client certificate. Deny by default.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use tern_protocol::{api::RENEW, ids::DeviceId};

use super::problem::{Answer, Refusal, Refused};
use crate::{
    ca::Holder,
    clock,
    events::EventKind,
    fleet::Fleet,
    identity::{Operator, Permission, secret_hash},
    store::{Admittance, NewEvent},
};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 256;

/// What to do with a device that is not in service.
const ENROL: &str = "enrol the device again with `tern device enroll`";

/// The other end of a connection, put into each of its requests by the listener.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says, where it has one that TLS verified.
    pub holder: Option<Holder>,
}

/// The operator of this request, if the token allows `permission`.
pub(super) async fn operator(fleet: &Arc<Fleet>, headers: &HeaderMap, permission: Permission) -> Answer<Operator> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim) else {
        return Err(Refused::new(Refusal::MissingToken, "send `Authorization: Bearer TOKEN`; `tern login` does"));
    };
    let known = if token.len() <= MAX_TOKEN { fleet.store.operator(secret_hash(token)).await? } else { None };
    let Some(operator) = known else {
        return Err(Refused::new(Refusal::BadToken, "the token is unknown or revoked: log in again with `tern login`"));
    };
    if !operator.role.allows(permission) {
        let event = NewEvent::new(EventKind::FrontRefused, format!("{permission:?} wanted"));
        let event = event.by(operator.name.clone()).coded(Refusal::WrongRole.code());
        fleet.record_refusal(&operator.name, event);
        let role = operator.role.as_str();
        return Err(Refused::new(Refusal::WrongRole, format!("role {role} may not do this: ask an admin")));
    }
    Ok(operator)
}

/// An enrolled device with the certificate of its newest enrolment.
pub(super) struct Device(pub(super) DeviceId);

impl FromRequestParts<Arc<Fleet>> for Device {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Refused> {
        let holder = holder(parts, fleet).await?;
        if holder.is_expired(clock::now()) {
            let refusal = Refusal::ExpiredCertificate;
            let event = NewEvent::new(EventKind::FrontRefused, refusal.title()).by(holder.device.as_str());
            fleet.record_refusal(holder.device.as_str(), event.coded(refusal.code()));
            return Err(Refused::new(refusal, format!("renew it: POST {RENEW} with this very certificate")));
        }
        Ok(Self(holder.device))
    }
}

/// An enrolled device with the key of its newest enrolment, whose certificate may have expired: it may ask for its renewal.
pub(super) struct Renewing(pub(super) Holder);

impl FromRequestParts<Arc<Fleet>> for Renewing {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Refused> {
        holder(parts, fleet).await.map(Self)
    }
}

/// Who holds the certificate of this connection, if that is in service.
async fn holder(parts: &Parts, fleet: &Arc<Fleet>) -> Answer<Holder> {
    let peer = parts.extensions.get::<Peer>().cloned();
    let Some(holder) = peer.and_then(|peer| peer.holder) else {
        return Err(Refused::new(Refusal::NoCertificate, "connect with the certificate of an enrolled device"));
    };
    let device = &holder.device;
    let (refusal, advice) = match fleet.store.admittance(device.clone()).await? {
        Admittance::Enrolled { key_sha256 } if key_sha256 == holder.key_sha256 => return Ok(holder),
        Admittance::Enrolled { .. } => (Refusal::ReplacedCertificate, ENROL),
        Admittance::Revoked => (Refusal::RevokedDevice, ENROL),
        Admittance::Cloned => (Refusal::ClonedDevice, "give it a new identity with `tern device reidentify`"),
        Admittance::Unknown => (Refusal::UnknownDevice, ENROL),
    };
    let event = NewEvent::new(EventKind::FrontRefused, refusal.title()).by(device.as_str()).coded(refusal.code());
    fleet.record_refusal(device.as_str(), event);
    Err(Refused::new(refusal, advice))
}

/// The address of the caller, for the log and for muting.
pub(super) struct Caller(pub(super) SocketAddr);

impl FromRequestParts<Arc<Fleet>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Fleet>) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.address);
        peer.map(Self).ok_or_else(|| Refused::new(Refusal::Internal, "the listener named no peer"))
    }
}
