//! The only door to time on the device.
//!
//! A device may have no clock: [`floored`] turns what the machine says into a time that never lies before what was signed
//! (DESIGN 3). Nothing else in this crate reads `SystemTime` or `Instant`; the pure parts take time as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How far the machine's clock may run ahead of the floor before it is not believed.
pub const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(400 * 24);

/// A point on the monotonic clock: for latencies, deadlines and back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Instant);

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Time that has passed since.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }

    /// Time left until this moment; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What the machine's clock says, believed by nobody without [`floored`].
pub fn machine_time() -> Timestamp {
    Timestamp::now()
}

/// The present time as the device may believe it: the machine's clock if it lies within 400 days after the floor, else
/// the floor itself.
pub fn floored(machine: Timestamp, floor: Timestamp) -> Timestamp {
    let latest = floor.checked_add(MAX_AHEAD).unwrap_or(Timestamp::MAX);
    if (floor..=latest).contains(&machine) { machine } else { floor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_outside_its_bounds_is_not_believed() {
        let floor: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (machine, believed) in [
            ("1970-01-01T00:00:00Z", "2026-06-01T00:00:00Z"),
            ("2026-05-31T23:59:59Z", "2026-06-01T00:00:00Z"),
            ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z"),
            ("2027-07-06T00:00:00Z", "2027-07-06T00:00:00Z"),
            ("2027-07-06T00:00:01Z", "2026-06-01T00:00:00Z"),
            ("2099-01-01T00:00:00Z", "2026-06-01T00:00:00Z"),
        ] {
            assert_eq!(floored(machine.parse().unwrap(), floor), believed.parse().unwrap(), "{machine}");
        }
        assert_eq!(floored(Timestamp::MAX, Timestamp::MAX), Timestamp::MAX);
    }
}
