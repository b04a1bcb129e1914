//! The only door to time in the stories.
#![expect(clippy::disallowed_methods, reason = "this is the door that the lint names")]

use std::time::{Duration, Instant};

/// A point on the monotonic clock.
#[derive(Debug, Clone, Copy)]
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
