//! Whether two machines live on one certificate, by the starts of agents that a device's statuses name. Pure.
//!
//! Each start of an agent has a random number, which it says in each session. One machine has one agent at a time (a lock
//! sees to that), so a start that speaks again after another one has spoken was not over: somebody else spoke in between. A
//! restart, a reboot and a restored disk make new starts, which never tell. A message that was late, or a virtual machine
//! that was set back into the life of an older start, may make one start return, or two; only two machines push each other
//! out again and again, with no new start in between.

use serde::{Deserialize, Serialize};
use tern_protocol::digest::Digest;

/// Starts that are remembered.
const REMEMBERED: usize = 4;
/// Returns in a row that take two machines.
const RETURNS: u32 = 3;

/// The newest starts of a device's agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// By digest, the one that spoke last at the end.
    recent: Vec<Digest>,
    /// How often in a row one returned after another had spoken.
    returns: u32,
}

impl Starts {
    /// Takes in that an agent of this start is there; where that takes two machines, says why.
    pub fn heard(&mut self, start: &str) -> Option<String> {
        let start = Digest::of(start.as_bytes());
        let before = self.recent.last().copied();
        if before == Some(start) {
            return None;
        }
        let known = self.recent.iter().position(|known| *known == start);
        match known {
            Some(index) => {
                self.recent.remove(index);
                self.returns += 1;
            }
            None => self.returns = 0,
        }
        self.recent.push(start);
        let forgotten = self.recent.len().saturating_sub(REMEMBERED);
        self.recent.drain(..forgotten);
        let other = before.filter(|_| self.returns >= RETURNS)?;
        let short = |digest: Digest| digest.to_string().chars().take(8).collect::<String>();
        Some(format!("two agents push each other out, of starts {} and {}", short(other), short(start)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(starts: &str) -> Vec<usize> {
        let mut record = Starts::default();
        let heard = starts.chars().enumerate().filter(|(_, start)| record.heard(&start.to_string()).is_some());
        heard.map(|(index, _)| index).collect()
    }

    #[test]
    fn two_machines_are_told_once_they_have_pushed_each_other_out_and_not_before() {
        assert_eq!(told("ababa"), [4]);
        // One of them loses its network in between and comes back more often than the other.
        assert_eq!(told("aabbaaabbbba"), [11]);
        assert_eq!(told("abcabc"), [5], "three machines");
        assert_eq!(told("ababab"), [4, 5], "whoever is not put out is told of again");
    }

    #[test]
    fn restarts_late_words_and_a_machine_that_was_set_back_are_one_machine() {
        assert!(told("aaaaaaaa").is_empty(), "a bad network");
        assert!(told("abcdefgh").is_empty(), "restarts");
        assert!(told("abab").is_empty(), "a late word of the one before, and the next session of this one");
        assert!(told("abacadaea").is_empty(), "set back again and again to one moment, each time after a restart");
        assert!(told("abcdea").is_empty(), "set back beyond what is remembered");
    }

    proptest! {
        /// A machine that is restarted, cut off and set back once a life is never taken for two, whatever the order.
        #[test]
        fn one_machine_is_never_told_of(steps in proptest::collection::vec(0..3u8, 0..200)) {
            let (mut record, mut now, mut newest, mut is_back) = (Starts::default(), 0, 0, false);
            for step in steps {
                match step {
                    0 => {}
                    1 => {
                        newest += 1;
                        (now, is_back) = (newest, false);
                    }
                    // The life that is left is over for good.
                    _ if !is_back && now > 0 => (now, is_back) = (now - 1, true),
                    _ => {}
                }
                prop_assert_eq!(record.heard(&now.to_string()), None);
            }
        }

        #[test]
        fn what_is_remembered_is_bounded(starts in proptest::collection::vec("[a-z]{0,40}", 0..300)) {
            let mut record = Starts::default();
            for start in starts {
                record.heard(&start);
                prop_assert!(record.recent.len() <= REMEMBERED);
            }
        }
    }
}
