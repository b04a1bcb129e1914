//! When a round of devices ends, and how long rounds usually take.
//!
//! A device that was offline sends the windows of days at once, and a hostile one as many as it likes: if its windows alone
//! could end rounds, all others would count as silent, and what they show would be forgotten. So the few end a round only
//! after the time that the many take for two.

use serde::{Deserialize, Serialize};

/// Windows of one device that end a round for the lost.
const MOST_IN_ROUND: u32 = 4;
/// Usual rounds that the few wait for the many.
const PATIENCE: i64 = 2;

/// How rounds follow one another, by the server's clock in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pace {
    /// When the round before ended; 0 before the first.
    ended: i64,
    /// How long a round of the many takes; 0 before it is known.
    usual: i64,
}

impl Pace {
    /// Whether the round ends with a window that came `at`, the `in_round`th of its device: `here` of `active` devices have
    /// closed one.
    pub fn ends(&self, at: i64, in_round: u32, here: usize, active: usize) -> bool {
        let are_many = here == active || (here > 1 && in_round > 1 && here.saturating_mul(2) >= active);
        are_many || (in_round >= MOST_IN_ROUND && self.lasts(at) >= self.usual.saturating_mul(PATIENCE))
    }

    /// The round ended `at`, with `here` of `active` devices.
    pub fn end(&mut self, at: i64, here: usize, active: usize) {
        // One outage says little of what is usual, and neither does the rush after it.
        if self.ended != 0 && here.saturating_mul(2) >= active {
            let lasted = self.lasts(at);
            let is_known = self.usual != 0;
            self.usual =
                if is_known { lasted.clamp(self.usual / 2, self.usual.saturating_mul(2)) } else { lasted }.max(1);
        }
        self.ended = at;
    }

    fn lasts(&self, at: i64) -> i64 {
        at.saturating_sub(self.ended).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of an hour that all of eight took part in.
    fn hourly() -> Pace {
        let mut pace = Pace::default();
        (1..=4).for_each(|hour| pace.end(hour * 3600, 8, 8));
        pace
    }

    #[test]
    fn the_many_end_a_round_at_once_and_the_few_wait() {
        let pace = hourly();
        let soon = 4 * 3600 + 10;
        assert!(pace.ends(soon, 1, 8, 8) && pace.ends(soon, 2, 4, 8));
        assert!(!pace.ends(soon, 1, 4, 8) && !pace.ends(soon, 1000, 3, 8), "a flood of few");
        assert!(!pace.ends(soon, 2, 1, 2), "one of two is not many");
        assert!(!pace.ends(6 * 3600 - 1, 4, 1, 8) && pace.ends(6 * 3600, 4, 1, 8), "nobody waits for the lost");
    }

    #[test]
    fn an_outage_and_the_rush_after_it_change_what_is_usual_slowly() {
        let mut pace = hourly();
        pace.end(1_000_000, 8, 8);
        assert_eq!(pace.usual, 7200);
        pace.end(1_000_001, 8, 8);
        assert_eq!(pace.usual, 3600);
        pace.end(1_000_002, 1, 8);
        assert_eq!(pace.usual, 3600, "the few do not say what is usual");
        pace.end(0, 8, 8);
        pace.end(i64::MAX, 8, 8);
        assert!((1..=3600).contains(&pace.usual), "a clock that goes back, or on to its end, is no trouble");
    }
}
