//! What wakes the reconciler, since when the server hears devices, and the figures that the last round left.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Tally;
use crate::clock::Moment;

/// A wall clock that moves against the monotonic one by more than this has jumped. Clock discipline moves it by less.
const JUMP: SignedDuration = SignedDuration::from_secs(30);

/// Shared by those who learn something and the reconciler, who acts on it.
#[derive(Debug)]
pub struct Pulse {
    bell: Notify,
    hearing_since: AtomicI64,
    figures: Mutex<Figures>,
}

/// How many rollouts are in which phase, and where the devices of open ones stand.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Rollouts by phase.
    pub phases: BTreeMap<String, u64>,
    /// Devices of open rollouts.
    pub devices: Tally,
}

impl Pulse {
    /// A server that hears since `now`.
    pub fn new(now: Timestamp) -> Self {
        let hearing_since = AtomicI64::new(now.as_millisecond());
        Self { bell: Notify::new(), hearing_since, figures: Mutex::default() }
    }

    /// Something was learned that may change a plan. Ringing twice before the reconciler looks is ringing once.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until somebody rings, at most so long.
    pub(super) async fn rung(&self, most: Duration) {
        // Running out of time is as good a reason to look.
        let _ = tokio::time::timeout(most, self.bell.notified()).await;
    }

    /// Since when the server hears devices without a gap.
    pub fn hearing_since(&self) -> Timestamp {
        Timestamp::from_millisecond(self.hearing_since.load(Relaxed)).unwrap_or(Timestamp::MIN)
    }

    pub(super) fn hears_since(&self, at: Timestamp) {
        self.hearing_since.store(at.as_millisecond(), Relaxed);
    }

    pub(super) fn leave(&self, figures: Figures) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// The figures as Prometheus text.
    pub fn page(&self) -> String {
        let Figures { phases, devices } = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = String::from("# HELP tern_rollouts Rollouts by phase.\n# TYPE tern_rollouts gauge\n");
        for phase in super::Phase::ALL {
            let count = phases.get(phase.as_str()).copied().unwrap_or(0);
            let _ = writeln!(page, "tern_rollouts{{phase=\"{phase}\"}} {count}");
        }
        page.push_str("# HELP tern_rollout_devices Devices of open rollouts by outcome.\n");
        page.push_str("# TYPE tern_rollout_devices gauge\n");
        for (outcome, count) in [
            ("waiting", devices.waiting),
            ("pending", devices.pending),
            ("survived", devices.survived),
            ("failed", devices.failed),
            ("rejected", devices.rejected),
            ("idle", devices.idle),
            ("silent", devices.silent),
            ("unreached", devices.unreached),
            ("outstanding", devices.outstanding),
        ] {
            let _ = writeln!(page, "tern_rollout_devices{{outcome=\"{outcome}\"}} {count}");
        }
        page
    }
}

/// Notices when the wall clock jumps, as after a suspend or when it is set.
#[derive(Debug)]
pub(super) struct Watch {
    wall: Timestamp,
    since: Moment,
}

impl Watch {
    pub(super) fn new(wall: Timestamp) -> Self {
        Self { wall, since: Moment::now() }
    }

    /// Whether the clock has jumped since the last look.
    pub(super) fn jumped(&mut self, wall: Timestamp) -> bool {
        let jumped = is_jump(self.wall, wall, self.since.elapsed());
        *self = Self::new(wall);
        jumped
    }
}

fn is_jump(before: Timestamp, after: Timestamp, elapsed: Duration) -> bool {
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
    after.duration_since(before).saturating_sub(elapsed).unsigned_abs() > JUMP.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_does_not_jump_and_one_that_is_set_does() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let passed = Duration::from_secs;
        assert!(!is_jump(at(100), at(700), passed(600)));
        assert!(!is_jump(at(100), at(125), passed(0)), "a clock under discipline");
        assert!(is_jump(at(100), at(700), passed(60)), "a machine that slept");
        assert!(is_jump(at(700), at(100), passed(1)), "a clock that is set back");
        assert!(is_jump(Timestamp::MIN, Timestamp::MAX, passed(0)));
    }

    #[test]
    fn every_phase_and_outcome_shows() {
        let pulse = Pulse::new(Timestamp::UNIX_EPOCH);
        let devices = Tally { silent: 3, ..Tally::default() };
        pulse.leave(Figures { phases: BTreeMap::from([("held".to_owned(), 2)]), devices });
        let page = pulse.page();
        for line in ["tern_rollouts{phase=\"held\"} 2\n", "tern_rollouts{phase=\"undone\"} 0\n"] {
            assert!(page.contains(line), "{page}");
        }
        assert!(page.contains("tern_rollout_devices{outcome=\"silent\"} 3\n"));
        assert!(page.lines().all(|line| line.starts_with('#') || line.split(' ').count() == 2));
    }
}
