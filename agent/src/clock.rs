//! The only door to time on the device.
//!
//! A device may have no clock: [`floored`] turns what the machine says into a time that never lies before what was signed
//! (DESIGN 3). Nothing else in this crate reads `SystemTime` or `Instant`; the pure parts take time as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tern_protocol::desired::latest_believed;

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

    /// Time that has passed since an earlier moment; zero where that is no earlier one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
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
    if (floor..=latest_believed(floor)).contains(&machine) { machine } else { floor }
}

/// The device's time: the machine's clock within its bounds above the floor of signed time. Clones share the floor.
#[derive(Debug, Clone)]
pub struct DeviceClock {
    floor: Arc<AtomicI64>,
    /// What the machine's clock says, where a test says it.
    machine: Option<Timestamp>,
}

impl DeviceClock {
    /// A clock above this floor.
    pub fn new(floor: Timestamp) -> Self {
        Self { floor: Arc::new(AtomicI64::new(floor.as_second())), machine: None }
    }

    /// A clock on a machine whose own clock is stuck.
    #[cfg(test)]
    pub(crate) fn at(machine: Timestamp, floor: Timestamp) -> Self {
        Self { machine: Some(machine), ..Self::new(floor) }
    }

    /// The present time as the device may believe it.
    pub fn now(&self) -> Timestamp {
        floored(self.machine(), self.floor())
    }

    /// Whether the present time is what the machine's clock says, as opposed to the floor.
    pub fn is_trusted(&self) -> bool {
        let machine = self.machine();
        floored(machine, self.floor()) == machine
    }

    fn machine(&self) -> Timestamp {
        self.machine.unwrap_or_else(machine_time)
    }

    /// The floor, in whole seconds.
    pub fn floor(&self) -> Timestamp {
        Timestamp::from_second(self.floor.load(Ordering::Relaxed)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Moves the floor: up with each signed time that was verified and is durable, down where root takes away the key that
    /// vouched for it.
    pub fn set(&self, floor: Timestamp) {
        self.floor.store(floor.as_second(), Ordering::Relaxed);
    }
}

/// `pause` less a random part of it, at most `share` (0 to 1): devices must not keep step.
pub fn jittered(pause: Duration, share: f64) -> Duration {
    let mut byte = [0; 1];
    // Without randomness the fleet keeps step, which is worse manners but no harm.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    pause.mul_f64(1.0 - share * f64::from(byte[0]) / 255.0)
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

    #[test]
    fn a_pause_is_shortened_by_no_more_than_its_share() {
        let pause = Duration::from_secs(1000);
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| jittered(pause, 0.1)).collect();
        assert!(drawn.iter().all(|d| (Duration::from_secs(900)..=pause).contains(d)) && drawn.len() > 1);
    }

    #[test]
    fn clones_share_the_floor_of_the_device_clock() {
        let floor: Timestamp = "2099-06-01T00:00:00Z".parse().unwrap();
        let clock = DeviceClock::new(Timestamp::UNIX_EPOCH);
        clock.clone().set(floor);
        assert_eq!((clock.floor(), clock.now()), (floor, floor));
    }
}
