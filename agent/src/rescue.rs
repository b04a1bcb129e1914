//! `tern-agent rescue`: new floors, on root's word, for a device that can read none of its own.
//!
//! Asked without a ticket the device says who it is and makes a nonce, which is durable until it is used. A ticket counts
//! where root's keys signed it for this device and this nonce, and only while the floors cannot be read: a rescue is no way
//! back. The new record takes the place of what is left in the order that every record is made in: cut anywhere, either
//! nothing can be read, as before, or all of the new record can. The nonce goes last, and goes as well at any start that can
//! read its floors.
//!
//! The running agent does it in its own process, asked through its control socket, for a device must not fall silent to be
//! rescued; where none runs, the command does it under the lock of the state folder.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{DeviceId, FleetId, Generation},
    rescue::{self, Asking, RescueTicket, TicketRefusal},
    signed::Verified,
    tuf,
};

use crate::{
    clock,
    config::Config,
    control, disk,
    identity::{Enrolment, Identity},
    state::{Rescued, State},
    status,
    store::{Store, StoreError},
    trust::{TrustError, known_root},
};

const NONCE_FILE: &str = "rescue.nonce";
const NONCE_BYTES: usize = 16;

/// Why a device is not rescued.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// Nothing is lost.
    #[error("this device can read its floors: there is nothing to rescue")]
    Readable,
    /// The floors can be read, but not written.
    #[error(transparent)]
    Unwritable(StoreError),
    /// Nobody asked for a ticket yet, or the nonce was used.
    #[error(
        "no ticket was asked for: run `tern-agent rescue` without one first, and have it made for the nonce it prints"
    )]
    NoNonce,
    /// The ticket does not count.
    #[error(transparent)]
    Ticket(#[from] TicketRefusal),
    /// No root can be verified.
    #[error("no TUF root can be verified, and so no ticket: enrol the device again ({0})")]
    Root(String),
    /// The disk or the system refuses.
    #[error("{0}")]
    Local(String),
    /// What the running agent said.
    #[error("{0}")]
    Agent(String),
}

impl From<TrustError> for RescueError {
    fn from(error: TrustError) -> Self {
        Self::Root(crate::http::chain(&error))
    }
}

/// What a device asks its operators with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The device.
    pub device: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// What the ticket must name.
    pub nonce: String,
    /// The version of the root whose keys must sign it.
    pub root: u64,
}

/// What came of a rescue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The oldest desired state that is taken over from now on.
    pub generation: Generation,
    /// The new floor of time.
    pub time: Timestamp,
    /// How many models serve.
    pub models: usize,
}

/// What `tern-agent rescue` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who are you, and which nonce?
    Nonce,
    /// Here is a ticket.
    Ticket(Vec<u8>),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Nonce`].
    Asked(Asked),
    /// To [`Request::Ticket`].
    Rescued(Outcome),
    /// It cannot be.
    Error(String),
}

/// Carries the command out: through the running agent, else in this process.
///
/// # Errors
/// Each cause has its variant of [`RescueError`].
pub fn run(config: &Config, request: &Request) -> Result<Answer, RescueError> {
    let local = |e: anyhow::Error| RescueError::Local(format!("{e:#}"));
    let Some(identity) = Identity::load(&config.identity_dir()).map_err(local)? else {
        return Err(RescueError::Local("this device is not enrolled: there is nothing to rescue".into()));
    };
    let held = control::lock(&config.state_dir);
    if held.is_err()
        && let Ok(answer) = status::ask_line(&config.control_socket(), &control::socket::rescue_line(request))
    {
        return match serde_json::from_str(&answer) {
            Ok(Answer::Error(why)) => Err(RescueError::Agent(why)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(RescueError::Agent(format!("the agent's answer is not understood: {answer}"))),
        };
    }
    let _held = held.map_err(local)?;
    let store = Store::open(&config.state_dir);
    act(&config.state_dir, &identity.enrolment, &identity.root, &store, request)
}

/// Carries out a request on a store that the caller alone writes. Blocks.
///
/// # Errors
/// Each cause has its variant of [`RescueError`].
pub fn act(
    state_dir: &Path,
    enrolment: &Enrolment,
    root: &[u8],
    store: &Store,
    request: &Request,
) -> Result<Answer, RescueError> {
    match store.fault() {
        Some(StoreError::Unreadable(_)) => {}
        Some(other) => return Err(RescueError::Unwritable(other)),
        None => {
            forget_nonce(state_dir);
            return Err(RescueError::Readable);
        }
    }
    let root = known_root(state_dir, root)?;
    let Request::Ticket(ticket) = request else {
        let Enrolment { device, fleet, .. } = enrolment.clone();
        let nonce = match nonce(state_dir)? {
            Some(nonce) => nonce,
            None => make_nonce(state_dir)?,
        };
        return Ok(Answer::Asked(Asked { device, fleet, nonce, root: root.version }));
    };
    let nonce = nonce(state_dir)?.ok_or(RescueError::NoNonce)?;
    let keys = tuf::root_keys(&root).map_err(TrustError::from)?;
    let Enrolment { device, fleet, root_sha256, .. } = enrolment;
    let ticket = admit(ticket, &Asking { device, fleet, nonce: &nonce, root: &keys, now: Timestamp::UNIX_EPOCH })?;
    let mut state = State::new(Some(*root_sha256), ticket.issued);
    let served = Store::last_served(state_dir, ticket.issued);
    state.models = served.unwrap_or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "what was served is not known: the next desired state says it");
        Default::default()
    });
    state.rescued = Some(Rescued { generation: ticket.generation, roles: ticket.roles.clone() });
    let models = state.models.len();
    store.renew(state).map_err(|e| RescueError::Local(e.to_string()))?;
    forget_nonce(state_dir);
    Ok(Answer::Rescued(Outcome { generation: ticket.generation, time: ticket.issued, models }))
}

/// The ticket, if it counts. The device knows no time but what the ticket says and what its clock adds to that.
fn admit(bytes: &[u8], asking: &Asking<'_>) -> Result<Verified<RescueTicket>, TicketRefusal> {
    let ticket = rescue::admit(bytes, asking)?;
    let now = clock::floored(clock::machine_time(), ticket.issued);
    rescue::admit(bytes, &Asking { now, ..*asking })
}

fn nonce_path(state_dir: &Path) -> PathBuf {
    state_dir.join(NONCE_FILE)
}

fn nonce(state_dir: &Path) -> Result<Option<String>, RescueError> {
    let read = disk::read_bounded(&nonce_path(state_dir), 256);
    let bytes = read.map_err(|e| RescueError::Local(format!("{NONCE_FILE}: {e}")))?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
    Ok(text.filter(|text| hex::decode(text).is_ok_and(|bytes| bytes.len() == NONCE_BYTES)))
}

fn make_nonce(state_dir: &Path) -> Result<String, RescueError> {
    let mut bytes = [0; NONCE_BYTES];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| RescueError::Local("the system gives no random bytes".into()))?;
    let nonce = hex::encode(bytes);
    let written = disk::write_file(&nonce_path(state_dir), nonce.as_bytes(), disk::SECRET);
    written.map_err(|e| RescueError::Local(format!("{NONCE_FILE} cannot be kept: {e}")))?;
    Ok(nonce)
}

/// No ticket is waited for any more.
pub(crate) fn forget_nonce(state_dir: &Path) {
    if let Err(error) = disk::remove_file(&nonce_path(state_dir)) {
        tracing::warn!(%error, "a used nonce cannot be removed");
    }
}

/// The answer for people.
pub fn show(answer: &Answer) -> String {
    match answer {
        Answer::Asked(Asked { device, fleet, nonce, root }) => format!(
            "device   {device}\nfleet    {fleet}\nnonce    {nonce}\nroot     version {root}\n\n\
             An operator makes the ticket, and holders of root's keys sign it:\n  \
             tern device rescue {device} --nonce {nonce} --key root.key --out {device}.ticket\n\
             Bring it here: tern-agent rescue --ticket {device}.ticket"
        ),
        Answer::Rescued(Outcome { generation, time, models }) => format!(
            "rescued: {models} models serve; desired states from generation {generation} on are taken over, and the \
             time is {time} at least"
        ),
        Answer::Error(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests;
