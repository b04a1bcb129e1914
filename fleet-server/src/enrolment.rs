//! Turns a machine into a device: the order of an operator, and the one request that uses it.

use std::sync::Arc;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    digest::Digest,
    enrolment::{EnrolmentRequest, EnrolmentResponse, EnrolmentToken},
};

use crate::{
    ca::CsrRefusal,
    clock,
    devices::MAX_LABELS,
    fleet::Fleet,
    forms::{EnrolmentOrder, EnrolmentTicket},
    identity::{Secret, secret_hash},
    store::{EnrolmentRefusal, NewEnrolment, OrderRefusal, UsedToken},
};

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
    /// Another key has used the token.
    #[error("the token was used: ask for a new one, and if nobody of yours used it, revoke the device")]
    Used,
    /// The token has expired.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// The device went into service in between.
    #[error("the device went into service since the token was ordered")]
    AlreadyEnrolled,
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
    let life = i64::try_from(order.valid_seconds).ok().filter(|_| order.valid_seconds <= MAX_VALID_SECONDS);
    let Some(life) = life.filter(|life| *life > 0) else { return Ok(Err(OrderError::Life)) };
    if order.labels.len() > MAX_LABELS {
        return Ok(Err(OrderError::Labels));
    }
    let (now, live) = (clock::now(), fleet.live()?);
    let secret = Secret::generate().context("make a token")?;
    let expires = now.saturating_add(SignedDuration::from_secs(life)).unwrap_or(Timestamp::MAX);
    let enrolment = NewEnrolment {
        secret_hash: secret.hash(),
        device: order.device.clone(),
        labels: order.labels,
        ordered_by: actor,
        expires,
        replaces,
    };
    match fleet.store.order_enrolment(enrolment, now).await? {
        Err(OrderRefusal::AlreadyEnrolled) => return Ok(Err(OrderError::AlreadyEnrolled)),
        Ok(()) => {}
    }
    let token = EnrolmentToken {
        server: live.https_url.clone(),
        device: order.device,
        secret: secret.reveal().to_owned(),
        ca_sha256: fleet.authority.sha256(),
        root_sha256: Digest::of(&fleet.repository.root()),
    };
    let token = token.encode();
    let command = format!("tern-agent enroll --token {token}");
    Ok(Ok(EnrolmentTicket { token, command, expires }))
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
    let (now, live) = (clock::now(), fleet.live()?);
    let (device, csr) = (request.device.clone(), request.csr_pem);
    // The certificate is made before the token is used up, so that a bad request costs no token; it leaves only after.
    let certified = fleet.blocking(move |fleet| fleet.authority.certify(&device, &csr, now)).await?;
    let certificate = match certified {
        Ok(certificate) => certificate,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let token = UsedToken {
        secret_hash: secret_hash(&request.secret),
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
        live.broker.cut(request.device.as_str());
    }
    Ok(Ok(EnrolmentResponse {
        fleet: fleet.settings.fleet.clone(),
        certificate_pem: certificate.pem,
        ca_pem: fleet.authority.pem().to_owned(),
        root_base64: BASE64_STANDARD.encode(fleet.repository.root()),
        mqtt_address: live.mqtt_address.clone(),
    }))
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
