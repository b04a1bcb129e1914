//! What spares the flash whoever holds the director's key: what comes of the states that they sign is written so often and
//! no more. Pure, but for the state that is held back.
//!
//! A code of refusal is written down once an hour, and counted in between. States are taken over as they come until
//! [`BURST`] of them came at once, then one every [`REFILL`]; of those that wait the newest counts, which is what the fleet
//! wants in the end. An honest server never comes near that.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tern_protocol::refusal::RefusalCode;

/// How often the same code is written down as the newest refusal.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// States that are taken over without a pause.
const BURST: u32 = 256;
/// The time in which one more may be taken over.
const REFILL: Duration = Duration::from_secs(30);

/// What was written of late.
#[derive(Debug, Default)]
pub(super) struct Sparing {
    /// When the codes of refusals were last written down, as uptime.
    noted: BTreeMap<RefusalCode, Duration>,
    /// How many of [`BURST`] are used up, as of `since`.
    taken: u32,
    since: Duration,
    /// The newest state that waits.
    held: Option<Bytes>,
}

impl Sparing {
    /// Whether a refusal of this code is to be written down now.
    pub(super) fn is_noted(&mut self, code: RefusalCode, uptime: Duration) -> bool {
        let is_due = self.noted.get(&code).is_none_or(|last| uptime.saturating_sub(*last) >= NOTED_EVERY);
        if is_due {
            self.noted.insert(code, uptime);
        }
        is_due
    }

    /// Whether a new state is taken over now; else it is held back, in the place of any before.
    pub(super) fn is_taken(&mut self, bytes: &Bytes, uptime: Duration) -> bool {
        let is_due = self.refilled(uptime) < BURST;
        if is_due {
            self.taken += 1;
        }
        self.held = (!is_due).then(|| bytes.clone());
        is_due
    }

    /// The state that was held back, once it may be taken over.
    pub(super) fn release(&mut self, uptime: Duration) -> Option<Bytes> {
        if self.held.is_none() || self.refilled(uptime) >= BURST {
            return None;
        }
        self.held.take()
    }

    fn refilled(&mut self, uptime: Duration) -> u32 {
        let more = uptime.saturating_sub(self.since).as_secs() / REFILL.as_secs();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.taken = self.taken.saturating_sub(more);
        self.since = if self.taken == 0 { uptime } else { self.since.saturating_add(REFILL.saturating_mul(more)) };
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flood_of_different_refusals_is_written_once_an_hour_each() {
        let (mut sparing, codes) = (Sparing::default(), [RefusalCode::OldGeneration, RefusalCode::WrongDevice]);
        let mut written =
            |seconds| codes.iter().cycle().take(1000).filter(|c| sparing.is_noted(**c, SECOND * seconds)).count();
        assert_eq!([0, 1, 3599, 3600, 3601].map(&mut written), [2, 0, 0, 2, 0]);
    }

    #[test]
    fn a_flood_of_states_is_taken_over_at_a_pace_and_ends_with_the_newest() {
        let mut sparing = Sparing::default();
        let mut at = |seconds: u32, from: u32| {
            let offered = from..from + 1000;
            offered.filter(|n| sparing.is_taken(&Bytes::from(n.to_string()), SECOND * seconds)).count() as u32
        };
        assert_eq!([at(100, 0), at(129, 1000), at(130, 2000), at(160, 3000)], [BURST, 0, 1, 1]);
        assert_eq!(at(160 + 3600, 4000), 120);
        // Who waits is let in by itself, once.
        assert_eq!(sparing.release(SECOND * 3760), None);
        assert_eq!(sparing.release(SECOND * 3790), Some(Bytes::from("4999")));
        assert_eq!(sparing.release(SECOND * 3790), None);
        // After a day of quiet it is as on the first.
        assert_eq!((0..1000).filter(|_| sparing.is_taken(&Bytes::new(), SECOND * 90_000)).count(), BURST as usize);
    }

    #[test]
    fn a_state_that_is_taken_over_ends_the_wait_of_an_older_one() {
        let mut sparing = Sparing { taken: BURST, ..Sparing::default() };
        assert!(!sparing.is_taken(&Bytes::from("old"), SECOND));
        assert!(sparing.is_taken(&Bytes::from("new"), REFILL));
        assert_eq!(sparing.release(REFILL * 9), None);
    }
}
