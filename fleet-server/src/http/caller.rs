//! Who calls: an operator by bearer token, a device by client certificate. Deny by default.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use tern_protocol::{api::RENEW, digest::Digest, ids::DeviceId};

use super::{
    problem::{Answer, Refusal, Refused},
    rates::Party,
};
use crate::{
    ca::Holder,
    clock,
    events::EventKind,
    fleet::Fleet,
    identity::{
        Operator, Permission,
        policy::{self, Denied, Resource},
        secret_hash,
    },
    store::{Admittance, NewEvent, Presented},
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

/// The operator of this request, if the token allows `permission` on the whole fleet: what a route wants that does not say
/// what it touches.
pub(super) async fn operator(fleet: &Arc<Fleet>, headers: &HeaderMap, permission: Permission) -> Answer<Operator> {
    operator_on(fleet, headers, permission, &Resource::FLEET).await
}

/// The operator of this request, if the token allows `permission` on `resource`. Where that takes the request's body to
/// know, ask with [`Resource::NONE`] first and [`permit`] after.
pub(super) async fn operator_on(
    fleet: &Arc<Fleet>,
    headers: &HeaderMap,
    permission: Permission,
    resource: &Resource,
) -> Answer<Operator> {
    let operator = holder(fleet, headers).await?;
    permit(fleet, &operator, permission, resource)?;
    Ok(operator)
}

/// Refuses what the operator may not do, and says so in the events.
pub(super) fn permit(
    fleet: &Arc<Fleet>,
    operator: &Operator,
    permission: Permission,
    resource: &Resource,
) -> Answer<()> {
    let Err(denied) = policy::decide(operator, permission, resource) else { return Ok(()) };
    let code = if matches!(denied, Denied::Role(..)) { Refusal::WrongRole } else { Refusal::OutOfScope };
    let event = NewEvent::new(EventKind::FrontRefused, format!("{} wanted: {denied}", permission.as_str()));
    fleet.record_refusal(&operator.name, event.by(operator.name.clone()).coded(code.code()));
    Err(Refused::new(code, denied.to_string()))
}

/// Whose token this request carries. An unknown one costs a hash and one look by it, whatever it is.
async fn holder(fleet: &Arc<Fleet>, headers: &HeaderMap) -> Answer<Operator> {
    let is_bearer = |value: &HeaderValue| value.as_bytes().starts_with(b"Bearer ");
    if !headers.get(header::AUTHORIZATION).is_some_and(is_bearer) {
        return Err(Refused::new(Refusal::MissingToken, "send `Authorization: Bearer TOKEN`; `tern login` does"));
    }
    let unknown = || Refused::new(Refusal::BadToken, "the token is unknown or revoked: log in again with `tern login`");
    let Some(token) = bearer(headers) else { return Err(unknown()) };
    match fleet.store.presented(secret_hash(token), clock::now()).await? {
        Presented::Unknown | Presented::Revoked(_) => Err(unknown()),
        Presented::Expired(_) => {
            Err(Refused::new(Refusal::ExpiredToken, "the token has expired: ask an admin for a new one"))
        }
        Presented::Counts(operator) => {
            fleet.token_used(&operator.name);
            Ok(operator)
        }
    }
}

/// The token that a request carries, if it carries one that could be ours.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(header.strip_prefix("Bearer ")?.trim()).filter(|token| token.len() <= MAX_TOKEN)
}

/// An enrolled device with the certificate of its newest enrolment.
pub(super) struct Device(pub(super) DeviceId);

impl FromRequestParts<Arc<Fleet>> for Device {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Refused> {
        let holder = certified(parts, fleet).await?;
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
        certified(parts, fleet).await.map(Self)
    }
}

/// Who holds the certificate of this connection, if that is in service.
async fn certified(parts: &Parts, fleet: &Arc<Fleet>) -> Answer<Holder> {
    let peer = parts.extensions.get::<Peer>().cloned();
    let Some(holder) = peer.and_then(|peer| peer.holder) else {
        return Err(Refused::new(Refusal::NoCertificate, "connect with the certificate of an enrolled device"));
    };
    let device = &holder.device;
    within_rate(fleet, Party::Key(holder.key_sha256), device.as_str())?;
    let (refusal, advice) = match fleet.store.admittance(device.clone()).await? {
        Admittance::Enrolled { key_sha256, issuer } if key_sha256 == holder.key_sha256 => {
            showed(fleet, &holder, issuer).await;
            return Ok(holder);
        }
        Admittance::Enrolled { .. } => (Refusal::ReplacedCertificate, ENROL),
        Admittance::Revoked => (Refusal::RevokedDevice, ENROL),
        Admittance::Cloned => (Refusal::ClonedDevice, "give it a new identity with `tern device reidentify`"),
        Admittance::Unknown => (Refusal::UnknownDevice, ENROL),
    };
    let event = NewEvent::new(EventKind::FrontRefused, refusal.title()).by(device.as_str()).coded(refusal.code());
    fleet.record_refusal(device.as_str(), event);
    Err(Refused::new(refusal, advice))
}

/// Records which authority's certificate the device has, where another one's is recorded.
async fn showed(fleet: &Arc<Fleet>, holder: &Holder, recorded: Option<Digest>) {
    let Some(maker) = fleet.authority.maker_of(holder).filter(|maker| Some(*maker) != recorded) else { return };
    if let Err(error) = fleet.store.showed_certificate_by(maker, holder.device.clone(), holder.key_sha256).await {
        // It asks again; until then `ca retire` waits for it.
        tracing::warn!(device = %holder.device, %error, "the authority of a certificate was not recorded");
    }
}

/// Refuses a party that has used its allowance up, and says so in the events.
fn within_rate(fleet: &Arc<Fleet>, party: Party, name: &str) -> Answer<()> {
    let Err(wait) = fleet.rates.take(party) else { return Ok(()) };
    let refusal = Refusal::TooManyRequests;
    let event = NewEvent::new(EventKind::FrontRefused, refusal.title()).by(name).coded(refusal.code());
    fleet.record_refusal(name, event);
    Err(Refused::new(refusal, "wait as long as Retry-After says").again_after(wait))
}

/// Somebody without a certificate, by address: for the log, and to be counted.
pub(super) struct Caller(pub(super) SocketAddr);

impl FromRequestParts<Arc<Fleet>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.address);
        let address = peer.ok_or_else(|| Refused::new(Refusal::Internal, "the listener named no peer"))?;
        within_rate(fleet, Party::at(address.ip()), &address.ip().to_string())?;
        Ok(Self(address))
    }
}
