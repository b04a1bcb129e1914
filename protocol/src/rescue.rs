//! The rescue ticket: how a device whose floors cannot be read gets new ones without being enrolled again.
//!
//! Signed offline by root's keys at root's threshold. It names the device and a nonce that the device made for this
//! one purpose, so it works once and nowhere else, and it carries the floors to start from, so that a rescue is no way back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{DeviceId, FleetId, Generation},
    keys::KeySet,
    signed::{self, Document, SignatureError, Verified},
};

/// The format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// The roles that a ticket gives a floor to, whatever else: one that it forgot would begin at nothing.
pub const FLOORED: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// New floors for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueTicket {
    /// [`FORMAT`].
    pub format: u32,
    /// The device's fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// What the device asked with: 32 hexadecimal digits.
    pub nonce: String,
    /// When it was signed: the device's new floor of time.
    pub issued: Timestamp,
    /// Not to be used from then on.
    pub expires: Timestamp,
    /// The lowest generation of desired state to take over from now on.
    pub generation: Generation,
    /// The lowest versions of TUF roles to believe from now on, by the role's name, whatever keys sign them.
    pub roles: BTreeMap<String, u64>,
}

impl Document for RescueTicket {
    const TYPE: &'static str = "tern-rescue-ticket";
    const MAX_BYTES: usize = 64 << 10;
}

impl RescueTicket {
    /// The first of [`FLOORED`] that has no floor.
    pub fn unfloored(&self) -> Option<&'static str> {
        FLOORED.into_iter().find(|role| self.roles.get(*role).is_none_or(|version| *version == 0))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// This device.
    pub device: &'a DeviceId,
    /// Its fleet.
    pub fleet: &'a FleetId,
    /// The nonce that it made.
    pub nonce: &'a str,
    /// Root's keys, at root's threshold.
    pub root: &'a KeySet,
    /// The present time, as far as the device knows one.
    pub now: Timestamp,
}

/// Why a ticket does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketRefusal {
    /// Too few of root's keys signed, or it is no ticket.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A later form.
    #[error("rescue ticket has format {0}: update the agent")]
    UnknownFormat(u32),
    /// It leaves a role of every repository without a floor.
    #[error("rescue ticket gives {0} no floor: have it made anew, with what the server publishes")]
    NoFloor(&'static str),
    /// Another device's.
    #[error("rescue ticket is for device {named}, this is {this}")]
    WrongDevice {
        /// Whose it is.
        named: DeviceId,
        /// Who asks.
        this: DeviceId,
    },
    /// Another fleet's.
    #[error("rescue ticket is for fleet {named}, this is {this}")]
    WrongFleet {
        /// Whose it is.
        named: FleetId,
        /// Who asks.
        this: FleetId,
    },
    /// Made for another occasion.
    #[error("rescue ticket answers another nonce: sign one for the nonce that `tern-agent rescue` prints")]
    WrongNonce,
    /// Too late.
    #[error("rescue ticket expired at {expires}, it is {now}: sign a new one")]
    Expired {
        /// When.
        expires: Timestamp,
        /// Now.
        now: Timestamp,
    },
}

/// The ticket in `bytes`, if it counts for who asks.
///
/// # Errors
/// The first refusal, in the order of [`TicketRefusal`].
pub fn admit(bytes: &[u8], asking: &Asking<'_>) -> Result<Verified<RescueTicket>, TicketRefusal> {
    let ticket: Verified<RescueTicket> = signed::verify(bytes, asking.root)?;
    if ticket.format != FORMAT {
        return Err(TicketRefusal::UnknownFormat(ticket.format));
    }
    if let Some(role) = ticket.unfloored() {
        return Err(TicketRefusal::NoFloor(role));
    }
    if ticket.device != *asking.device {
        return Err(TicketRefusal::WrongDevice { named: ticket.device.clone(), this: asking.device.clone() });
    }
    if ticket.fleet != *asking.fleet {
        return Err(TicketRefusal::WrongFleet { named: ticket.fleet.clone(), this: asking.fleet.clone() });
    }
    if ticket.nonce != asking.nonce {
        return Err(TicketRefusal::WrongNonce);
    }
    // A device without its floors may have no clock either: then only the nonce keeps a ticket from being used late.
    if ticket.expires <= asking.now {
        return Err(TicketRefusal::Expired { expires: ticket.expires, now: asking.now });
    }
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    #[test]
    fn a_ticket_counts_for_one_device_one_nonce_and_a_while() {
        let keys = [SigningKey::generate().unwrap(), SigningKey::generate().unwrap()];
        let root = KeySet::new(keys.iter().map(|k| (k.public().id(), k.public())), 2);
        let ticket = RescueTicket {
            format: FORMAT,
            fleet: "f".parse().unwrap(),
            device: "cam-1".parse().unwrap(),
            nonce: "0".repeat(32),
            issued: "2026-06-01T00:00:00Z".parse().unwrap(),
            expires: "2026-06-08T00:00:00Z".parse().unwrap(),
            generation: Generation(7),
            roles: FLOORED.map(|role| (role.to_owned(), 2)).into(),
        };
        let (device, other, nonce) = ("cam-1".parse().unwrap(), "cam-2".parse().unwrap(), "0".repeat(32));
        let fleet = "f".parse().unwrap();
        let asking =
            |device, nonce, now: &str| Asking { device, fleet: &fleet, nonce, root: &root, now: now.parse().unwrap() };
        let both = signed::sign(&ticket, &[&keys[0], &keys[1]]).unwrap();
        assert_eq!(*admit(&both, &asking(&device, &nonce, "1970-01-01T00:00:00Z")).unwrap(), ticket);
        let refused = |bytes: &[u8], asking| admit(bytes, &asking).unwrap_err();
        let one = signed::sign(&ticket, &[&keys[0]]).unwrap();
        let at = "2026-06-02T00:00:00Z";
        let under = SignatureError::UnderThreshold { found: 1, threshold: 2 };
        assert_eq!(refused(&one, asking(&device, &nonce, at)), TicketRefusal::Signature(under));
        assert!(matches!(refused(&both, asking(&other, &nonce, at)), TicketRefusal::WrongDevice { .. }));
        assert_eq!(refused(&both, asking(&device, "1", at)), TicketRefusal::WrongNonce);
        for role in FLOORED {
            for floor in [None, Some(0)] {
                let mut ticket = ticket.clone();
                ticket.roles.remove(role);
                ticket.roles.extend(floor.map(|version| (role.to_owned(), version)));
                let bytes = signed::sign(&ticket, &[&keys[0], &keys[1]]).unwrap();
                assert_eq!(refused(&bytes, asking(&device, &nonce, at)), TicketRefusal::NoFloor(role));
            }
        }
        let late = refused(&both, asking(&device, &nonce, "2026-06-08T00:00:00Z"));
        assert!(matches!(late, TicketRefusal::Expired { .. }));
    }
}
