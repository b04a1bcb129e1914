//! Many devices by one token: the order of an operator who has a list of serial numbers, and the requests that use it.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context;
use tern_protocol::{
    digest::Digest,
    enrolment::{ClaimRequest, ClaimResponse, ClaimToken, Serial},
    ids::DeviceId,
};

use super::{EnrolRefusal, MAX_AGENT_VERSION, MAX_VALID_SECONDS, expiry, response, root};
use crate::{
    clock,
    devices::MAX_LABELS,
    fleet::Fleet,
    forms::{ClaimOrder, ClaimTicket},
    identity::{Secret, secret_hash},
    store::{ClaimOrderRefusal, ClaimRefusal, NewClaim, UsedToken},
};

/// Most serials of one token.
pub const MAX_SERIALS: usize = 1000;

/// Why an order is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimOrderError {
    /// The life is none or too long.
    #[error("valid_seconds must be 1 to {MAX_VALID_SECONDS}")]
    Life,
    /// No serial, or too many.
    #[error("a token is for 1 to {MAX_SERIALS} serials: make several")]
    Count,
    /// Too many labels.
    #[error("serial {0}: at most {MAX_LABELS} labels are kept")]
    Labels(Serial),
    /// A serial twice.
    #[error("serial {0} is listed twice")]
    SerialTwice(Serial),
    /// A device twice.
    #[error("device {0} is listed twice")]
    DeviceTwice(DeviceId),
    /// A device is enrolled.
    #[error("{0} is a device already: take it off the list, or replace it with `tern device enroll --replace`")]
    AlreadyEnrolled(DeviceId),
    /// A serial was used.
    #[error("serial {0} is the device {1} by now: take it off the list, or revoke that device first")]
    SerialUsed(Serial, DeviceId),
}

/// Makes a token for every serial of the order.
///
/// # Errors
/// Where the store or the system fails; refusals are in the value.
pub async fn order_claim(
    fleet: &Arc<Fleet>,
    order: ClaimOrder,
    actor: String,
) -> anyhow::Result<Result<ClaimTicket, ClaimOrderError>> {
    if let Err(error) = check(&order) {
        return Ok(Err(error));
    }
    let Some(expires) = expiry(order.valid_seconds) else { return Ok(Err(ClaimOrderError::Life)) };
    let secret = Secret::generate().context("make a token")?;
    let token = ClaimToken {
        server: fleet.live()?.https_url.clone(),
        secret: secret.reveal().to_owned(),
        ca_sha256: fleet.authority.sha256(),
        root_sha256: Digest::of(&fleet.repository.root()),
    };
    let token = token.encode();
    let devices = order.devices.len();
    let listed = order.devices.into_iter().map(|row| (row.serial, row.device, row.labels)).collect();
    let claim = NewClaim { secret_hash: secret.hash(), listed, ordered_by: actor, expires };
    let ordered = fleet.store.order_claim(claim, clock::now()).await?;
    let command = format!("tern-agent enroll --serial SERIAL --token {token}");
    Ok(ordered.map(|()| ClaimTicket { token, command, expires, devices }).map_err(|refusal| match refusal {
        ClaimOrderRefusal::AlreadyEnrolled(device) => ClaimOrderError::AlreadyEnrolled(device),
        ClaimOrderRefusal::SerialUsed(serial, device) => ClaimOrderError::SerialUsed(serial, device),
    }))
}

fn check(order: &ClaimOrder) -> Result<(), ClaimOrderError> {
    if !(1..=MAX_SERIALS).contains(&order.devices.len()) {
        return Err(ClaimOrderError::Count);
    }
    let (mut serials, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for row in &order.devices {
        if row.labels.len() > MAX_LABELS {
            return Err(ClaimOrderError::Labels(row.serial.clone()));
        }
        if !serials.insert(&row.serial) {
            return Err(ClaimOrderError::SerialTwice(row.serial.clone()));
        }
        if !devices.insert(&row.device) {
            return Err(ClaimOrderError::DeviceTwice(row.device.clone()));
        }
    }
    Ok(())
}

/// Uses a serial: the request's key becomes the key of its device.
///
/// # Errors
/// Where the store fails; refusals are in the value.
pub async fn claim(fleet: &Arc<Fleet>, request: ClaimRequest) -> anyhow::Result<Result<ClaimResponse, EnrolRefusal>> {
    if request.labels.len() > MAX_LABELS || request.agent_version.len() > MAX_AGENT_VERSION {
        return Ok(Err(EnrolRefusal::Labels));
    }
    let (now, secret_hash, serial) = (clock::now(), secret_hash(&request.secret), request.serial);
    let device = match fleet.store.claimed(secret_hash, serial.clone(), now).await? {
        Ok(device) => device,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    // What the device would refuse is refused before the token is used up.
    let Some(root) = root(fleet, request.root_sha256).await? else { return Ok(Err(EnrolRefusal::UnknownRoot)) };
    let (name, csr) = (device.clone(), request.csr_pem);
    // As for a token of one device: a bad request costs nothing, and the certificate leaves only after the record.
    let certificate = match fleet.blocking(move |fleet| fleet.authority.newest().certify(&name, &csr, now)).await? {
        Ok(certificate) => certificate,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let token = UsedToken {
        secret_hash,
        device: device.clone(),
        key_sha256: certificate.key_sha256,
        device_class: request.device_class,
        labels: request.labels,
        agent_version: request.agent_version,
        certificate_expires: certificate.expires,
    };
    match fleet.store.claim(token, serial, now).await? {
        Ok(()) => Ok(Ok(ClaimResponse { device, enrolment: response(fleet, certificate.pem, &root)? })),
        Err(refusal) => Ok(Err(refusal.into())),
    }
}

impl From<ClaimRefusal> for EnrolRefusal {
    fn from(refusal: ClaimRefusal) -> Self {
        match refusal {
            ClaimRefusal::Token(refusal) => refusal.into(),
            ClaimRefusal::UnknownSerial => Self::UnknownSerial,
        }
    }
}
