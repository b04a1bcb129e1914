//! Turns a machine into a device: the order of an operator, and the one request that uses it. And back: what puts a
//! device out.

mod claims;
mod renewal;
pub mod serials;

use std::sync::Arc;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    digest::Digest,
    enrolment::{EnrolmentRequest, EnrolmentResponse, EnrolmentToken},
    ids::{DeviceId, Labels},
};

use crate::{
    ca::CsrRefusal,
    clock,
    devices::MAX_LABELS,
    fleet::Fleet,
    forms::{EnrolmentOrder, EnrolmentTicket, Reidentification, Revoked},
    identity::{Secret, secret_hash},
    store::{EnrolmentRefusal, NewEnrolment, OrderRefusal, PutOut, Revocation, UsedToken},
};

pub use claims::{ClaimOrderError, MAX_SERIALS, claim, order_claim};
pub use renewal::{RenewalRefusal, renew};

/// Longest life of a token, in seconds: 30 days.
pub const MAX_VALID_SECONDS: u64 = 30 * 24 * 3600;
/// Longest version of an agent, in bytes.
const MAX_AGENT_VERSION: usize = 64;

/// Why an order is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The life is none or too long.
    #[error("valid_seconds must be 1 to {MAX_VALID_SECONDS}")]
    Life,
    /// Too many labels.
    #[error("at most {MAX_LABELS} labels are kept")]
    Labels,
    /// The device is in service.
    #[error("the device is in service: to replace it, order again with `tern device enroll --replace`")]
    AlreadyEnrolled,
}

/// Why a device does not get its certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefusal {
    /// The token is nobody's.
    #[error("the token is unknown, for another device, or replaced by a newer one: ask for a new one")]
    Unknown,
    /// The serial is not in the token's list.
    #[error("the serial is not in this token's list: list it with `tern device claim`")]
    UnknownSerial,
    /// Another key has used the token.
    #[error("the token was used: ask for a new one, and if nobody of yours used it, revoke the device")]
    Used,
    /// The token has expired.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// The device went into service in between.
    #[error("the device went into service since the token was ordered")]
    AlreadyEnrolled,
    /// The token pins a root that the fleet never had.
    #[error("the token pins a TUF root that this fleet never had: ask for a new token")]
    UnknownRoot,
    /// The certificate request does not hold.
    #[error(transparent)]
    Csr(#[from] CsrRefusal),
    /// Too many labels, or an agent version that is no version.
    #[error("too many labels, or an agent version longer than {MAX_AGENT_VERSION} bytes")]
    Labels,
}

/// Makes a one-time token. `replaces` allows the device to be in service already.
///
/// # Errors
/// Where the store or the system fails; refusals are in the value.
pub async fn order(
    fleet: &Arc<Fleet>,
    order: EnrolmentOrder,
    actor: String,
    replaces: bool,
) -> anyhow::Result<Result<EnrolmentTicket, OrderError>> {
    if order.labels.len() > MAX_LABELS {
        return Ok(Err(OrderError::Labels));
    }
    let Some((secret, enrolment)) = prepare(order.device, order.labels, order.valid_seconds, actor, replaces)? else {
        return Ok(Err(OrderError::Life));
    };
    let ticket = ticket(fleet, &secret, &enrolment)?;
    let ordered = fleet.store.order_enrolment(enrolment, clock::now()).await?;
    Ok(ordered.map(|()| ticket).map_err(|OrderRefusal::AlreadyEnrolled| OrderError::AlreadyEnrolled))
}

/// Puts a device out, cuts its connections and makes the token that lets it in again; none where there is no such device.
///
/// # Errors
/// Where the store or the system fails; refusals are in the value.
pub async fn reidentify(
    fleet: &Arc<Fleet>,
    device: DeviceId,
    order: Reidentification,
    actor: String,
) -> anyhow::Result<Result<Option<EnrolmentTicket>, OrderError>> {
    let prepared = prepare(device.clone(), Labels::new(), order.valid_seconds, actor, true)?;
    let Some((secret, enrolment)) = prepared else { return Ok(Err(OrderError::Life)) };
    let ticket = ticket(fleet, &secret, &enrolment)?;
    if !fleet.store.reidentify(enrolment, order.reason, clock::now()).await? {
        return Ok(Ok(None));
    }
    fleet.cut(&device);
    fleet.pulse.ring();
    Ok(Ok(Some(ticket)))
}

/// Puts a device out for good, voids its open orders and cuts its connections; none where there is neither.
///
/// # Errors
/// Where the store fails.
pub async fn revoke(
    fleet: &Arc<Fleet>,
    device: DeviceId,
    reason: String,
    actor: String,
) -> anyhow::Result<Option<Revoked>> {
    let order = Revocation { device: device.clone(), reason, actor };
    let Some(PutOut { barred, orders_voided, never_enrolled }) = fleet.store.revoke(order, clock::now()).await? else {
        return Ok(None);
    };
    // Only now: whoever is cut before the record stands is back at once.
    let connections_cut = fleet.cut(&device);
    fleet.pulse.ring();
    Ok(Some(Revoked { device, barred, connections_cut, orders_voided, never_enrolled }))
}

/// A secret and the order that it is for; none where its life is none or too long.
fn prepare(
    device: DeviceId,
    labels: Labels,
    valid_seconds: u64,
    actor: String,
    replaces: bool,
) -> anyhow::Result<Option<(Secret, NewEnrolment)>> {
    let Some(expires) = expiry(valid_seconds) else { return Ok(None) };
    let secret = Secret::generate().context("make a token")?;
    let order = NewEnrolment { secret_hash: secret.hash(), device, labels, ordered_by: actor, expires, replaces };
    Ok(Some((secret, order)))
}

/// The end of a token that is ordered now; none where its life is none or too long.
fn expiry(valid_seconds: u64) -> Option<Timestamp> {
    let life = i64::try_from(valid_seconds).ok().filter(|life| *life > 0 && valid_seconds <= MAX_VALID_SECONDS)?;
    Some(clock::now().saturating_add(SignedDuration::from_secs(life)).unwrap_or(Timestamp::MAX))
}

fn ticket(fleet: &Fleet, secret: &Secret, order: &NewEnrolment) -> anyhow::Result<EnrolmentTicket> {
    let token = EnrolmentToken {
        server: fleet.live()?.https_url.clone(),
        device: order.device.clone(),
        secret: secret.reveal().to_owned(),
        ca_sha256: fleet.authority.sha256(),
        root_sha256: Digest::of(&fleet.repository.root()),
    };
    let token = token.encode();
    // The machine may be a device already: the one that is replaced.
    let replace = if order.replaces { "--replace " } else { "" };
    let command = format!("tern-agent enroll {replace}--token {token}");
    Ok(EnrolmentTicket { token, command, expires: order.expires })
}

/// Uses a token: the request's key becomes the device's.
///
/// # Errors
/// Where the store fails; refusals are in the value.
pub async fn enrol(
    fleet: &Arc<Fleet>,
    request: EnrolmentRequest,
) -> anyhow::Result<Result<EnrolmentResponse, EnrolRefusal>> {
    if request.labels.len() > MAX_LABELS || request.agent_version.len() > MAX_AGENT_VERSION {
        return Ok(Err(EnrolRefusal::Labels));
    }
    let now = clock::now();
    let secret_hash = secret_hash(&request.secret);
    // A stranger's request is turned away before anything of it is read or signed.
    if let Err(refusal) = fleet.store.enrollable(secret_hash, request.device.clone(), now).await? {
        return Ok(Err(refusal.into()));
    }
    // What the device would refuse is refused before the token is used up.
    let Some(root) = root(fleet, request.root_sha256).await? else { return Ok(Err(EnrolRefusal::UnknownRoot)) };
    let (device, csr) = (request.device.clone(), request.csr_pem);
    // The certificate is made before the token is used up, so that a bad request costs no token; it leaves only after.
    let certified = fleet.blocking(move |fleet| fleet.authority.newest().certify(&device, &csr, now)).await?;
    let certificate = match certified {
        Ok(certificate) => certificate,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let token = UsedToken {
        secret_hash,
        device: request.device.clone(),
        key_sha256: certificate.key_sha256,
        device_class: request.device_class,
        labels: request.labels,
        agent_version: request.agent_version,
        certificate_expires: certificate.expires,
    };
    let enrolled = match fleet.store.enrol(token, now).await? {
        Ok(enrolled) => enrolled,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    if enrolled.replaced {
        fleet.cut(&request.device);
    }
    response(fleet, certificate.pem, &root).map(Ok)
}

/// The root that a token pins, from which a device goes on to the newest by itself; none where there never was one.
async fn root(fleet: &Arc<Fleet>, pinned: Option<Digest>) -> anyhow::Result<Option<Vec<u8>>> {
    let root = move |fleet: &Fleet| match pinned {
        Some(pinned) => fleet.repository.root_of(&pinned),
        None => Ok(Some(fleet.repository.root())),
    };
    fleet.blocking(root).await?
}

/// What a device is told beside its certificate.
fn response(fleet: &Fleet, certificate_pem: String, root: &[u8]) -> anyhow::Result<EnrolmentResponse> {
    Ok(EnrolmentResponse {
        fleet: fleet.settings.fleet.clone(),
        certificate_pem,
        // The one that the token pins stands first.
        ca_pem: fleet.authority.bundle_pem(),
        root_base64: BASE64_STANDARD.encode(root),
        mqtt_address: fleet.live()?.mqtt_address.clone(),
    })
}

impl From<EnrolmentRefusal> for EnrolRefusal {
    fn from(refusal: EnrolmentRefusal) -> Self {
        match refusal {
            EnrolmentRefusal::Unknown => Self::Unknown,
            EnrolmentRefusal::Used => Self::Used,
            EnrolmentRefusal::Expired => Self::Expired,
            EnrolmentRefusal::AlreadyEnrolled => Self::AlreadyEnrolled,
        }
    }
}
