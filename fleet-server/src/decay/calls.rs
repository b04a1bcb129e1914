//! A device's inferences by how they ended, and whether too many of them fail.
//!
//! They are looked at each time that as many were asked for as a detection window has rows, or as soon as more have failed than
//! may of so many. That rests on counts alone, whatever values their windows hold: a device whose every inference fails has none,
//! closes no detection window and ends no round. Said once, it holds until [`QUIET`](super::marks::QUIET) looks in a row found
//! nothing; a device that nobody asks proves nothing.

use serde::{Deserialize, Serialize};

use super::marks::{Ground, Marks, When};
use crate::forms::incident::Layer;

/// Share of inferences that may fail. No baseline says what is usual: one in twenty is no noise in any service.
const FAILED_LIMIT: f64 = 0.05;

/// Inferences by how they ended, since the last time that they were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Answered.
    pub answered: u64,
    /// Not answered for the engine's, the deadline's or the output's sake.
    pub failed: u64,
}

/// The inferences of one device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Calls {
    open: Service,
    looks: u64,
    /// What was said of them, if anything.
    pub marks: Marks,
}

impl Calls {
    /// Counts `more`; returns whether there were enough to look at, of detection windows of `rows` rows.
    pub fn take(&mut self, more: Service, rows: u64, when: When) -> bool {
        let open = &mut self.open;
        open.answered = open.answered.saturating_add(more.answered);
        open.failed = open.failed.saturating_add(more.failed);
        let all = open.answered.saturating_add(open.failed);
        let is_over = open.failed as f64 > FAILED_LIMIT * rows as f64;
        if all < rows && !is_over {
            return false;
        }
        let share = open.failed as f64 / all.max(1) as f64;
        self.looks += 1;
        if share > FAILED_LIMIT {
            let ground = Ground::of_share("failed", share, FAILED_LIMIT, all);
            self.marks.set(0, Layer::Service, ground, When { window: self.looks, ..when });
        }
        self.marks.age(self.looks);
        self.open = Service::default();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether they were looked at, and the share that was said, in reports of answered and failed inferences.
    fn of(reports: &[(u64, u64)]) -> Vec<(bool, Option<f64>)> {
        let mut calls = Calls::default();
        let when = When { round: 0, window: 0, at: 0 };
        let mut take = |(answered, failed): &(u64, u64)| {
            let is_look = calls.take(Service { answered: *answered, failed: *failed }, 200, when);
            (is_look, calls.marks.iter().next().and_then(|(_, _, mark)| mark.ground.share))
        };
        reports.iter().map(&mut take).collect()
    }

    #[test]
    fn as_many_are_looked_at_as_a_window_has_and_no_fewer_unless_enough_have_failed() {
        assert_eq!(of(&[(150, 0), (49, 0), (1, 0)]), [(false, None), (false, None), (true, None)]);
        assert_eq!(of(&[(190, 10)]), [(true, None)], "one in twenty may");
        assert_eq!(of(&[(0, 10), (0, 1)]), [(false, None), (true, Some(1.0))], "no later answer makes it fewer");
        assert_eq!(of(&[(9, 10), (80, 0), (0, 1)])[2], (true, Some(0.11)));
        assert_eq!(of(&[(10_000, 11)]), [(true, None)], "of one report its share counts");
        assert_eq!(of(&[(u64::MAX, u64::MAX)]).len(), 1);
    }

    #[test]
    fn what_was_said_holds_for_ten_quiet_looks_and_no_row_none() {
        let mut reports = vec![(0, 200)];
        reports.extend([(0, 0); 50]);
        reports.extend([(200, 0); 10]);
        let said = of(&reports);
        assert!(said[..reports.len() - 1].iter().all(|(_, share)| share.is_some()));
        assert_eq!(said.last(), Some(&(true, None)));
        assert!(said[1..51].iter().all(|(is_look, _)| !is_look));
    }
}
