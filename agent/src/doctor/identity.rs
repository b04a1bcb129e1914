//! The identity: enrolled or not, and whether its files are whole and private.

use std::os::unix::fs::PermissionsExt;

use super::{Finding, Patient};
use crate::{clock::DeviceClock, tls};

pub(super) fn check(patient: &Patient) -> Finding {
    let folder = patient.config.identity_dir();
    let again = || format!("remove {} and enrol the device again", folder.display());
    let identity = match &patient.identity {
        Err(why) => return Finding::error("identity", why, again()),
        Ok(None) => {
            let remedy = "run `tern-agent enroll --token …` with a token from `tern device enroll`";
            return Finding::error("identity", "this machine is not enrolled", remedy);
        }
        Ok(Some(identity)) => identity,
    };
    let clock = DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
    if let Err(error) = tls::client_config(identity.authority(), Some(identity.tls()), clock) {
        return Finding::error("identity", format!("{error:#}"), again());
    }
    let key = folder.join("device.key");
    let mode = std::fs::metadata(&key).map_or(0, |m| m.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let found = format!("{} has mode {mode:o}: others can read it", key.display());
        return Finding::error("identity", found, "chmod 600 it, and enrol again if others were on this machine");
    }
    let enrolment = &identity.enrolment;
    Finding::ok("identity", format!("{} in fleet {}", enrolment.device, enrolment.fleet))
}
