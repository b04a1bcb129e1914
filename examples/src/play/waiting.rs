//! Labels that wait for their time: what an image really was is told seconds after the answer, as people do it.

use std::{collections::VecDeque, time::Duration};

use crate::cameras::Label;

/// Most labels that wait; the oldest is given up for the newest, since the device forgets old requests first.
const MAX_WAITING: usize = 10_000;
/// Most labels that are sent at once.
pub(super) const BATCH: usize = 100;

/// A label and the phase that its answer belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Late {
    pub phase: String,
    pub label: Label,
}

/// Labels of one camera in the order of their time, which is that of the camera's own clock.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(Duration, Late)>);

impl Waiting {
    /// Lets `late` wait until `due`; gives back the one that had to go for it.
    pub(super) fn push(&mut self, due: Duration, late: Late) -> Option<Late> {
        let given_up = if self.0.len() >= MAX_WAITING { self.0.pop_front().map(|(_, late)| late) } else { None };
        self.0.push_back((due, late));
        given_up
    }

    /// The labels whose time has come, as many as are sent at once; they wait on until [`Self::drop_first`].
    pub(super) fn due(&self, now: Duration) -> Vec<Late> {
        self.0.iter().take(BATCH).take_while(|(due, _)| *due <= now).map(|(_, late)| late.clone()).collect()
    }

    /// Forgets the first `count`: they have been sent.
    pub(super) fn drop_first(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }

    /// What still waits.
    pub(super) fn into_rest(self) -> impl Iterator<Item = Late> {
        self.0.into_iter().map(|(_, late)| late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(id: usize) -> Late {
        Late { phase: "clean".into(), label: Label { id: id.to_string(), row: 0, label: 7 } }
    }

    #[test]
    fn labels_wait_for_their_time_and_are_sent_in_batches() {
        let mut waiting = Waiting::default();
        let second = Duration::from_secs(1);
        for id in 0..150 {
            assert_eq!(waiting.push(second, late(id)), None);
        }
        waiting.push(3 * second, late(150));
        assert_eq!(waiting.due(second / 2), []);
        assert_eq!(waiting.due(second).len(), BATCH);
        waiting.drop_first(BATCH);
        assert_eq!(waiting.due(second).first(), Some(&late(100)));
        waiting.drop_first(50);
        assert_eq!(waiting.due(second), []);
        assert_eq!(waiting.into_rest().collect::<Vec<_>>(), [late(150)]);
    }

    #[test]
    fn the_oldest_goes_where_too_many_wait() {
        let mut waiting = Waiting::default();
        for id in 0..MAX_WAITING {
            waiting.push(Duration::ZERO, late(id));
        }
        assert_eq!(waiting.push(Duration::ZERO, late(MAX_WAITING)), Some(late(0)));
        assert_eq!(waiting.into_rest().count(), MAX_WAITING);
    }
}
