//! Free space and the reserve.

use super::{Finding, Patient};
use crate::disk::{RESERVE_BYTES, Reserve, free_bytes};

/// Less than this, and a model hardly fits.
const LITTLE: u64 = 64 << 20;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let folder = &patient.config.state_dir;
    let free = match free_bytes(folder) {
        Ok(free) => free,
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            return vec![Finding::error("disk", found, "make the folder, or correct state_dir")];
        }
    };
    let space = judge(free);
    let reserve = if Reserve::new(folder).is_full() {
        Finding::ok("reserve", "there, for records on a full disk")
    } else {
        Finding::warn("reserve", "missing or used up", "free some space and restart the agent")
    };
    vec![space, reserve]
}

fn judge(free: u64) -> Finding {
    let found = format!("{} MiB free", free >> 20);
    if free < RESERVE_BYTES {
        Finding::error("disk", found, "free some space: records may not be written any more")
    } else if free < LITTLE {
        Finding::warn("disk", found, "free some space: new versions may not fit")
    } else {
        Finding::ok("disk", found)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn little_space_warns_and_none_is_an_error() {
        assert_eq!(judge(0).verdict, Verdict::Error);
        assert_eq!(judge(RESERVE_BYTES).verdict, Verdict::Warn);
        assert_eq!(judge(LITTLE).verdict, Verdict::Ok);
    }
}
