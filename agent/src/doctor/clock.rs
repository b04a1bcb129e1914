//! The machine's clock against the floor of signed time.

use jiff::Timestamp;

use tern_protocol::tuf::OnlineKeys;

use super::{Finding, Patient};
use crate::{clock, store::Store, trust::known_root};

fn floor(patient: &Patient) -> Timestamp {
    match &patient.page {
        Some(page) => page.time.1,
        None => recorded(patient).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn recorded(patient: &Patient) -> Option<Timestamp> {
    let folder = &patient.config.state_dir;
    let state = Store::peek(folder)?;
    let identity = patient.identity.as_ref().ok()?.as_ref()?;
    let online = known_root(folder, &identity.root).ok().and_then(|root| OnlineKeys::of(&root).ok());
    Some(online.map_or(state.time_floor, |online| state.time(&online)))
}

/// The time as the device believes it.
pub(super) fn now(patient: &Patient) -> Timestamp {
    clock::floored(clock::machine_time(), floor(patient))
}

pub(super) fn check(patient: &Patient) -> Finding {
    judge(clock::machine_time(), floor(patient))
}

fn judge(machine: Timestamp, floor: Timestamp) -> Finding {
    if clock::floored(machine, floor) == machine {
        return Finding::ok("clock", format!("{machine}, above the floor of signed time, {floor}"));
    }
    let found = format!("the machine says {machine}; signed time is {floor}, which counts instead");
    Finding::warn("clock", found, "set the clock (NTP), so that expiry is judged by it")
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_clock_before_signed_time_is_told() {
        let floor: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        assert_eq!(judge(floor, floor).verdict, Verdict::Ok);
        assert_eq!(judge(Timestamp::UNIX_EPOCH, floor).verdict, Verdict::Warn);
    }
}
