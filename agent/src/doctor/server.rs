//! Whether the server can be reached, and knows the device.

use std::time::Duration;

use tern_protocol::api;
use tokio::net::TcpStream;

use super::{Finding, Patient};
use crate::{
    clock::DeviceClock,
    http::{HttpError, Remote},
    identity::Identity,
    tls,
};

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_BYTES: u64 = 1 << 20;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let Ok(Some(identity)) = &patient.identity else { return Vec::new() };
    let now = super::clock::now(patient);
    let (https, mqtt) = tokio::join!(https(identity, now), mqtt(&identity.enrolment.mqtt_address));
    vec![https, mqtt]
}

async fn https(identity: &Identity, now: jiff::Timestamp) -> Finding {
    let server = &identity.enrolment.server;
    match ask(identity, now).await {
        Ok(()) => Finding::ok("server", format!("{server} answers, and knows this device")),
        Err(HttpError::Status { status: status @ (401 | 403), detail, .. }) => {
            let found = format!("{server} answers {status}: {detail}");
            Finding::error("server", found, "was the device revoked? enrol it again")
        }
        Err(error) => {
            let remedy = "check the network and the server; serving goes on without it";
            Finding::warn("server", format!("{server}: {error}"), remedy)
        }
    }
}

async fn ask(identity: &Identity, now: jiff::Timestamp) -> Result<(), HttpError> {
    let config = tls::client_config(identity.authority(), Some(identity.tls()), DeviceClock::new(now));
    let config = config.map_err(|e| HttpError::Unreachable(format!("{e:#}")))?;
    let remote = Remote::new(&identity.enrolment.server, &config)?;
    let path = format!("{}timestamp.json", api::TUF_METADATA);
    remote.get_bounded(&path, MAX_BYTES, PATIENCE).await.map(drop)
}

async fn mqtt(address: &str) -> Finding {
    let reached = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let why = match reached {
        Ok(Ok(_)) => return Finding::ok("mqtt", format!("{address} accepts connections")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".into(),
    };
    let remedy = "check the network and firewall; serving goes on without it";
    Finding::warn("mqtt", format!("{address}: {why}"), remedy)
}
