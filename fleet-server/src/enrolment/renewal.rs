//! A new certificate for the key that a device has: before its old one ends, and after.
//!
//! The old certificate, expired or not, proved in the handshake that the device holds the key; the request is signed by
//! that key again. A device that was put out, or enrolled anew with another key, gets none.

use std::sync::Arc;

use tern_protocol::enrolment::{RenewalRequest, RenewalResponse};

use crate::{
    ca::{self, CsrRefusal, Holder},
    clock,
    fleet::Fleet,
    store::RenewedCertificate,
};

/// Why a certificate is not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalRefusal {
    /// The certificate request does not hold.
    #[error(transparent)]
    Csr(#[from] CsrRefusal),
    /// It is for another name.
    #[error("the certificate request names {0:?}, the certificate another device")]
    Name(String),
    /// It is for another key: a new key takes a new enrolment.
    #[error(
        "the certificate request is for another key: a new key takes a new token from `tern device enroll --replace`"
    )]
    ForeignKey,
    /// The device was put out or enrolled anew in between.
    #[error("the device is not in service with this key any more: enrol it again with `tern device enroll`")]
    Gone,
}

/// Certifies the key of `holder` again.
///
/// # Errors
/// Where the store fails; refusals are in the value.
pub async fn renew(
    fleet: &Arc<Fleet>,
    holder: Holder,
    request: RenewalRequest,
) -> anyhow::Result<Result<RenewalResponse, RenewalRefusal>> {
    let now = clock::now();
    let (device, csr, trusted) = (holder.device.clone(), request.csr_pem, request.authorities);
    let certified = fleet.blocking(move |fleet| {
        let name = ca::requested_name(&csr)?;
        if name.as_deref() != Some(device.as_str()) {
            return Err(RenewalRefusal::Name(name.unwrap_or_default()));
        }
        Ok(fleet.authority.newest_of(&trusted).certify(&device, &csr, now)?)
    });
    let certificate = match certified.await? {
        Ok(certificate) if certificate.key_sha256 == holder.key_sha256 => certificate,
        Ok(_) => return Ok(Err(RenewalRefusal::ForeignKey)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let renewed = RenewedCertificate {
        device: holder.device.clone(),
        key_sha256: certificate.key_sha256,
        expires: certificate.expires,
        is_news: fleet.renewal_is_news(&holder.device),
    };
    if !fleet.store.renew_certificate(renewed, now).await? {
        return Ok(Err(RenewalRefusal::Gone));
    }
    // The session goes on under the new certificate: it is of the same key.
    fleet.live()?.broker.extend(holder.device.as_str(), &certificate.key_sha256, certificate.expires.into());
    Ok(Ok(RenewalResponse { certificate_pem: certificate.pem }))
}
