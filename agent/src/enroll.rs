//! `tern-agent enroll`: turns a machine into a device with a one-time token.
//!
//! Order: the server must hold the CA that the token pins, or nothing is sent; the answer must hold that CA, the TUF root
//! that the token pins, and a certificate for our key and name; then the record of floors is made, and last the identity
//! appears by one rename. Whatever fails before leaves no identity, but the key waits in [`pending`] for another try with the
//! same token, which the server binds to the first key that it sees. The private key never leaves the device.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tern_protocol::{
    digest::Digest,
    enrolment::{EnrolmentResponse, EnrolmentToken, InvalidToken, MAX_PEM_BYTES, Serial},
    ids::Generation,
    tuf,
};

use crate::{
    clock::{self, DeviceClock},
    config::Config,
    control, disk,
    http::{HttpError, Remote},
    identity::{Enrolment, Files, check_certificate, signing_request},
    state::State,
    store::Store,
    tls::{self, Authority},
};
use token::Token;

mod pending;
mod token;

/// Longest answer: a root, two certificates.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// Why a machine did not become a device.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is none.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The token is for a list of machines.
    #[error("this token is for a list of machines: say which one this is with --serial")]
    NoSerial,
    /// The token is for one device.
    #[error("this token is for one device: leave --serial out")]
    NeedlessSerial,
    /// There is an identity already.
    #[error("this machine is a device already, by {0}; to enrol it anew, stop the agent and enroll with --replace")]
    AlreadyEnrolled(PathBuf),
    /// The server, or whoever answers in its place, has another CA.
    #[error("the server's CA is {found}, the token pins {pinned}: this is not the server that made the token")]
    CaMismatch {
        /// The token's.
        pinned: Digest,
        /// The server's.
        found: Digest,
    },
    /// The server gave another TUF root.
    #[error("the server's TUF root is {found}, the token pins {pinned}: ask for a new token if root was rotated")]
    RootMismatch {
        /// The token's.
        pinned: Digest,
        /// The server's.
        found: Digest,
    },
    /// The server refused: the token was used, has expired, or is unknown.
    #[error("the server refused ({status}{}): {detail}", .code.as_ref().map(|c| format!(", {c}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: Option<String>,
        /// What the server said.
        detail: String,
    },
    /// The server cannot be reached.
    #[error("the server at {server} cannot be reached: {cause}")]
    Unreachable {
        /// Its address, from the token.
        server: String,
        /// What happened.
        cause: HttpError,
    },
    /// The server's answer makes no identity.
    #[error("the server's answer makes no identity: {0}")]
    BadAnswer(String),
    /// The disk or the system refuses.
    #[error("{0:#}")]
    Local(anyhow::Error),
}

impl From<anyhow::Error> for EnrolError {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

/// Enrols this machine, whose `serial` is wanted where the token is for a list of them; returns what it is now. An identity that it has is replaced only where `replace` says so, and only
/// once the new one is whole.
///
/// # Errors
/// Each cause has its variant of [`EnrolError`].
pub async fn run(config: &Config, token: &str, serial: Option<Serial>, replace: bool) -> Result<Enrolment, EnrolError> {
    let token = Token::decode(token, serial)?;
    let folder = config.identity_dir();
    if folder.exists() && !replace {
        // The power may have gone between the identity's appearance and this.
        pending::forget(&config.state_dir);
        return Err(EnrolError::AlreadyEnrolled(folder));
    }
    disk::make_folder(&config.state_dir).with_context(|| format!("make {}", config.state_dir.display()))?;
    let _lock = control::lock(&config.state_dir)?;
    let key = pending::key(&config.state_dir, token.digest())?;
    let answer = ask(config, &token, &key).await?;
    let (token, response) = token.answered(&answer)?;
    settle(config, &token, &key, &response, replace)
}

/// Makes the server's answer the identity of this device.
fn settle(
    config: &Config,
    token: &EnrolmentToken,
    key: &KeyPair,
    response: &EnrolmentResponse,
    replace: bool,
) -> Result<Enrolment, EnrolError> {
    let files = check(token, key, response)?;
    let not_before = valid_from(&response.certificate_pem)?;
    prepare_record(config, token, not_before)?;
    files.install(&config.identity_dir(), replace)?;
    pending::forget(&config.state_dir);
    Ok(files.enrolment)
}

async fn ask(config: &Config, token: &Token, key: &KeyPair) -> Result<Vec<u8>, EnrolError> {
    let found = Arc::new(OnceLock::new());
    let (pinned, server) = (token.ca_sha256(), token.server());
    let tls = tls::client_config(Authority::Pin(pinned, found.clone()), None, DeviceClock::new(clock::machine_time()))?;
    let unreachable = |cause| EnrolError::Unreachable { server: server.to_owned(), cause };
    let remote = Remote::new(server, &tls).map_err(unreachable)?;
    let (path, body) = token.request(config, signing_request(token.name(), key)?);
    let answer = remote.post_json(path, body.context("the request")?, MAX_RESPONSE_BYTES).await;
    answer.map_err(|error| match (found.get(), error) {
        (Some(found), _) => EnrolError::CaMismatch { pinned, found: *found },
        (None, HttpError::Status { status, code, detail }) => EnrolError::Refused { status, code, detail },
        (None, cause) => unreachable(cause),
    })
}

/// The files of the identity, once the answer has proven to be what the token asked for.
fn check(token: &EnrolmentToken, key: &KeyPair, response: &EnrolmentResponse) -> Result<Files, EnrolError> {
    let bad = |what: &str| EnrolError::BadAnswer(what.to_owned());
    if response.certificate_pem.len().max(response.ca_pem.len()) > MAX_PEM_BYTES {
        return Err(bad("a certificate is too long"));
    }
    let ca = CertificateDer::from_pem_slice(response.ca_pem.as_bytes()).map_err(|_| bad("the CA is no certificate"))?;
    if Digest::of(&ca) != token.ca_sha256 {
        return Err(EnrolError::CaMismatch { pinned: token.ca_sha256, found: Digest::of(&ca) });
    }
    let root = BASE64_STANDARD.decode(&response.root_base64).map_err(|_| bad("the root is not base64"))?;
    if Digest::of(&root) != token.root_sha256 {
        return Err(EnrolError::RootMismatch { pinned: token.root_sha256, found: Digest::of(&root) });
    }
    tuf::parse_root(&root).and_then(|root| tuf::director_keys(&root)).map_err(|e| bad(&e.to_string()))?;
    check_certificate(&response.certificate_pem, &token.device, key).map_err(|what| bad(&what))?;
    let enrolment = Enrolment {
        format: 1,
        device: token.device.clone(),
        fleet: response.fleet.clone(),
        server: token.server.clone(),
        mqtt_address: response.mqtt_address.clone(),
        root_sha256: token.root_sha256,
        root_base64: response.root_base64.clone(),
    };
    Ok(Files {
        key_pem: key.serialize_pem(),
        certificate_pem: response.certificate_pem.clone(),
        ca_pem: response.ca_pem.clone(),
        enrolment,
    })
}

/// When the certificate begins: the first signed time that the device learns.
fn valid_from(pem: &str) -> Result<Timestamp, EnrolError> {
    let bad = || EnrolError::BadAnswer("the certificate has no beginning".into());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| bad())?;
    Timestamp::from_second(parsed.validity().not_before.timestamp()).map_err(|_| bad())
}

/// Makes the record of floors. What serves may go on serving, and the floors of roles and what teams said stand, each under
/// the keys that it was signed with: the root that the token pins may be a newer one of the same fleet.
///
/// Time and generation start anew: the token, which pins CA and root, is the operator's word that this device may.
fn prepare_record(config: &Config, token: &EnrolmentToken, not_before: Timestamp) -> anyhow::Result<()> {
    let mut state = State::new(Some(token.root_sha256), not_before);
    if let Ok(served) = Store::last_served(&config.state_dir, not_before) {
        // Counts only where the record itself cannot be read.
        state.models = served;
    }
    if let Some(known) = Store::peek(&config.state_dir) {
        (state.models, state.sequence) = (known.models, known.sequence + 1);
        for record in state.models.values_mut() {
            record.generation = Generation(0);
            if let Some(refused) = &mut record.refused {
                refused.generation = Generation(0);
            }
        }
        (state.floors, state.standings) = (known.floors, known.standings);
        if known.root_pin != state.root_pin {
            // It begins from the root that the token pins, whatever its number.
            state.floors.retain(|floor| floor.role != "root");
            let cache = config.state_dir.join("tuf");
            if cache.exists() {
                std::fs::remove_dir_all(cache).context("clear the metadata of another root")?;
            }
        }
    }
    Store::create(&config.state_dir, &state).context("make the record of floors")
}

#[cfg(test)]
mod tests;
