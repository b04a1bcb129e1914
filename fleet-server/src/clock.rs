//! The only door to time in the fleet server and the command line.
//!
//! Pure parts take the time as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The present time.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A point on the monotonic clock.
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
}
