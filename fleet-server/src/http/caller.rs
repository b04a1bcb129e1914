//! Who calls: an operator by bearer token, a device by client certificate. Deny by default.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use tern_protocol::ids::DeviceId;

use super::problem::{Answer, Refusal, Refused};
use crate::{
    ca::Holder,
    events::EventKind,
    fleet::Fleet,
    identity::{Operator, Permission, secret_hash},
    store::{Admittance, NewEvent},
};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 256;

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
        let peer = parts.extensions.get::<Peer>().cloned();
        let Some(Holder { device, key_sha256 }) = peer.and_then(|peer| peer.holder) else {
            return Err(Refused::new(Refusal::NoCertificate, "connect with the certificate of an enrolled device"));
        };
        let refusal = match fleet.store.admittance(device.clone()).await? {
            Admittance::Enrolled { key_sha256: enrolled } if enrolled == key_sha256 => return Ok(Self(device)),
            Admittance::Enrolled { .. } => Refusal::ReplacedCertificate,
            Admittance::Revoked => Refusal::RevokedDevice,
            Admittance::Unknown => Refusal::UnknownDevice,
        };
        let event = NewEvent::new(EventKind::FrontRefused, refusal.title()).by(device.as_str()).coded(refusal.code());
        fleet.record_refusal(device.as_str(), event);
        Err(Refused::new(refusal, "enrol the device again with `tern device enroll`"))
    }
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
