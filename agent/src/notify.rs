//! What systemd is told: ready, stopping, alive.
//!
//! The watchdog is fed only while each of the loops that matter has turned lately. A worker that is down and being
//! restarted keeps its grace: killing control would not bring it back sooner.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sd_notify::NotifyState;

use crate::clock::Moment;

/// Longest time without a turn of the control loop or the link's loop.
pub const LOOP_LIMIT: Duration = Duration::from_secs(30);
/// Longest time without a heartbeat of the worker: it may be loading for long, or be restarted with growing pauses.
pub const WORKER_LIMIT: Duration = Duration::from_secs(600);

/// When a loop last turned.
#[derive(Debug, Clone)]
pub struct Beat {
    start: Moment,
    last: Arc<AtomicU64>,
}

impl Beat {
    /// A beat that begins now.
    pub fn new() -> Self {
        Self { start: Moment::now(), last: Arc::default() }
    }

    /// The loop turned.
    pub fn turn(&self) {
        self.last.store(self.millis(), Ordering::Relaxed);
    }

    /// How long ago the loop turned last.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self::new()
    }
}

/// The loops that must turn.
#[derive(Debug, Clone, Default)]
pub struct Beats {
    /// The control loop.
    pub control: Beat,
    /// The link's loop.
    pub link: Beat,
    /// The worker, by its heartbeats.
    pub worker: Beat,
}

impl Beats {
    /// The loop that has not turned for too long, if any.
    pub fn stuck(&self) -> Option<&'static str> {
        stuck(self.control.age(), self.link.age(), self.worker.age())
    }
}

fn stuck(control: Duration, link: Duration, worker: Duration) -> Option<&'static str> {
    [("control", control, LOOP_LIMIT), ("link", link, LOOP_LIMIT), ("worker", worker, WORKER_LIMIT)]
        .into_iter()
        .find(|(_, age, limit)| age > limit)
        .map(|(name, ..)| name)
}

/// Tells systemd that the inference sockets listen.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells systemd that the agent is leaving.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog if everything turns.
pub fn feed(beats: &Beats) {
    match beats.stuck() {
        None => tell(&[NotifyState::Watchdog]),
        Some(name) => tracing::error!("the {name} loop is stuck: the watchdog is not fed"),
    }
}

/// How often the watchdog wants to be fed; none where there is none.
pub fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loop_is_missed_and_a_worker_that_restarts_is_not() {
        let (zero, minute) = (Duration::ZERO, Duration::from_secs(60));
        assert_eq!(stuck(zero, zero, zero), None);
        assert_eq!(stuck(zero, zero, minute), None);
        assert_eq!(stuck(minute, zero, zero), Some("control"));
        assert_eq!(stuck(zero, minute, zero), Some("link"));
        assert_eq!(stuck(zero, zero, minute * 11), Some("worker"));
        assert_eq!(Beats::default().stuck(), None);
    }
}
