//! How long to wait before the next session. Pure.
//!
//! Each pause is twice the one before, up to the longest, until a session has stood for a while: a server that takes
//! sessions and drops them, or two devices of one name that push each other out, get no quicker answer than one that is
//! not there.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// A session that stood so long clears the record.
pub(super) const STOOD: Duration = Duration::from_secs(30);

/// The record of sessions that failed, or ended early.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// The pause after a session that stood so long; zero for one that never was.
    pub(super) fn next(&mut self, stood: Duration, longest: Duration) -> Duration {
        if stood >= STOOD {
            self.failures = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(12)).min(longest);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_stood_makes_pauses_short_again() {
        let (mut pauses, longest) = (Pauses::default(), Duration::from_secs(60));
        let early: Vec<u64> = (0..8).map(|_| pauses.next(Duration::from_secs(2), longest).as_secs()).collect();
        assert_eq!(early, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.next(STOOD - Duration::from_millis(1), longest), longest);
        assert_eq!(pauses.next(STOOD, longest), FIRST);
        assert_eq!(pauses.next(Duration::ZERO, longest), FIRST * 2);
    }
}
