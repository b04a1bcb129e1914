//! How long to wait before a worker that died is started again. Pure.
//!
//! The first restart is at once, for clients are waiting; each further one doubles, up to half a minute. A worker that
//! held out for a minute clears the record.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
const HELD_OUT: Duration = Duration::from_secs(60);

/// The record of early deaths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    early: u32,
}

impl Backoff {
    /// The pause after a worker that died `ran` after its start.
    pub fn pause(&mut self, ran: Duration) -> Duration {
        if ran >= HELD_OUT {
            self.early = 0;
        }
        let early = self.early;
        self.early = early.saturating_add(1);
        match early.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_worker_holds_out() {
        let mut backoff = Backoff::default();
        let early: Vec<u128> = (0..10).map(|_| backoff.pause(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(early, [0, 250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        for _ in 0..100 {
            assert_eq!(backoff.pause(Duration::ZERO), LONGEST);
        }
        assert_eq!(backoff.pause(HELD_OUT), Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO), FIRST);
    }
}
