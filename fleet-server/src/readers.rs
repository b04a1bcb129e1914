//! Dashboards: who may read the fleet's topics over MQTT without being a device.
//!
//! A reader holds a certificate of the fleet's authority whose common name no device can have. What it may read stands in
//! `tern_protocol::topics`; it writes nothing. Removing one is recorded first and cuts its session after, so that it cannot
//! come back in between. The key is made where the dashboard is set up and stays there.

use std::{fmt, str::FromStr, sync::Arc};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tern_protocol::ids::{DeviceId, InvalidName};

use crate::{
    ca::CsrRefusal,
    clock,
    fleet::Fleet,
    forms::{ReaderIssued, ReaderOrder},
    store::{NewReader, ReaderRefusal},
};

/// What a reader's common name begins with; no id begins with `_` or holds a dot.
const PREFIX: &str = "_reader.";
/// Longest name: with the prefix it fits X.520's 64 bytes.
const MAX_LENGTH: usize = 56;
const RULE: &str = "use 1 to 56 of a-z, 0-9 and '-', not starting with '-'";

/// A reader's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReaderName(String);

impl ReaderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its certificate's common name, which is its MQTT client id too.
    pub fn common_name(&self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// The reader that a certificate of this common name is for; none where it is no reader's.
    pub fn of_common_name(text: &str) -> Option<Self> {
        text.strip_prefix(PREFIX)?.parse().ok()
    }
}

impl FromStr for ReaderName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // A shorter device's name: the same letters.
        if text.len() <= MAX_LENGTH && text.parse::<DeviceId>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { kind: "reader", text: text.chars().take(80).collect(), rule: RULE })
    }
}

impl TryFrom<String> for ReaderName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ReaderName> for String {
    fn from(name: ReaderName) -> Self {
        name.0
    }
}

impl fmt::Display for ReaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a reader is not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddRefusal {
    /// There is one of this name.
    #[error(
        "a dashboard of this name reads already: remove it first with `tern dashboard remove`, or take another name"
    )]
    Exists,
    /// There are too many.
    #[error("there are as many dashboards as there may be: remove one with `tern dashboard remove`")]
    TooMany,
    /// The certificate request does not hold.
    #[error(transparent)]
    Csr(#[from] CsrRefusal),
}

/// Certifies the key of a new reader and records it.
///
/// # Errors
/// Where the store fails; refusals are in the value.
pub async fn add(
    fleet: &Arc<Fleet>,
    order: ReaderOrder,
    actor: String,
) -> anyhow::Result<Result<ReaderIssued, AddRefusal>> {
    let (now, live) = (clock::now(), fleet.live()?);
    let (name, csr) = (order.name.common_name(), order.csr_pem);
    let certified = fleet.blocking(move |fleet| fleet.authority.newest().certify_client(&name, &csr, now)).await?;
    let certificate = match certified {
        Ok(certificate) => certificate,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let reader = NewReader {
        name: order.name.clone(),
        key_sha256: certificate.key_sha256,
        certificate_expires: certificate.expires,
        created_by: actor,
    };
    match fleet.store.add_reader(reader, now).await.context("record the reader")? {
        Err(ReaderRefusal::Exists) => return Ok(Err(AddRefusal::Exists)),
        Err(ReaderRefusal::TooMany) => return Ok(Err(AddRefusal::TooMany)),
        Ok(()) => {}
    }
    Ok(Ok(ReaderIssued {
        client_id: order.name.common_name(),
        name: order.name,
        fleet: fleet.settings.fleet.clone(),
        certificate_pem: certificate.pem,
        ca_pem: fleet.authority.bundle_pem(),
        expires: certificate.expires,
        mqtt_address: live.mqtt_address.clone(),
    }))
}

/// Revokes a reader and ends its sessions; false where there is none of this name.
///
/// # Errors
/// Where the store fails.
pub async fn remove(fleet: &Arc<Fleet>, name: ReaderName, actor: String, reason: String) -> anyhow::Result<bool> {
    let common_name = name.common_name();
    let removed = fleet.store.remove_reader(name, actor, reason, clock::now()).await.context("record the removal")?;
    if removed {
        fleet.live()?.broker.cut(&common_name);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readers_common_name_is_no_devices_and_names_the_reader() {
        for name in ["hall", "a", &"x".repeat(MAX_LENGTH)] {
            let name: ReaderName = name.parse().unwrap();
            let common_name = name.common_name();
            assert!(common_name.len() <= 64 && common_name.parse::<DeviceId>().is_err(), "{common_name}");
            assert_eq!(ReaderName::of_common_name(&common_name), Some(name));
        }
        for other in ["hall", "_reader.", "_reader.A", "_reader.a/b", "_reader._reader.a", "$probe", "_fleet"] {
            assert_eq!(ReaderName::of_common_name(other), None, "{other}");
        }
        for bad in ["", "-a", "a.b", "A", "a/b", "+", &"x".repeat(MAX_LENGTH + 1)] {
            assert!(bad.parse::<ReaderName>().is_err(), "{bad}");
        }
    }
}
