//! When a desired state is sent: at once when it changes or when a device shows for the first time since it connected
//! that it lags, then with a delay that doubles from the configured one to an hour, for as long as it lags.
//!
//! A device that refuses a state publishes its twin again each time; the delay is what keeps that from becoming a loop.
//! The schedule is a pure table over an abstract clock; [`Delivery::run`] is the only part that waits and sends.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tern_protocol::ids::{DeviceId, Generation};
use tokio::sync::Notify;

use crate::clock::Moment;

/// The longest delay between two sends of the same state.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// What waits for a device. Bounded by the number of enrolled devices.
#[derive(Debug, Default)]
struct Schedule {
    pending: HashMap<DeviceId, Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    generation: Generation,
    due: Duration,
    delay: Duration,
}

impl Schedule {
    /// The state of `generation` is demanded of a device whose twin is behind it.
    fn lags(&mut self, device: &DeviceId, generation: Generation, now: Duration, first: Duration) {
        match self.pending.get(device) {
            Some(pending) if pending.generation == generation => {}
            _ => {
                let pending = Pending { generation, due: now, delay: first };
                self.pending.insert(device.clone(), pending);
            }
        }
    }

    fn settled(&mut self, device: &DeviceId) {
        self.pending.remove(device);
    }

    /// The devices that are due; each is put off by its delay, which doubles.
    fn take_due(&mut self, now: Duration) -> Vec<DeviceId> {
        let mut due = Vec::new();
        for (device, pending) in &mut self.pending {
            if pending.due <= now {
                pending.due = now + pending.delay;
                pending.delay = (pending.delay * 2).min(LONGEST);
                due.push(device.clone());
            }
        }
        due.sort();
        due
    }

    fn next_due(&self) -> Option<Duration> {
        self.pending.values().map(|pending| pending.due).min()
    }
}

/// The schedule of sends and its alarm clock.
#[derive(Debug)]
pub struct Delivery {
    schedule: Mutex<Schedule>,
    changed: Notify,
    started: Moment,
    first: Duration,
}

impl Delivery {
    /// A schedule whose first delay is `first`.
    pub fn new(first: Duration) -> Self {
        Self { schedule: Mutex::default(), changed: Notify::new(), started: Moment::now(), first }
    }

    /// A device is behind `generation`: it is sent at once, unless that is already on its way.
    pub fn lags(&self, device: &DeviceId, generation: Generation) {
        self.lock().lags(device, generation, self.started.elapsed(), self.first);
        self.changed.notify_one();
    }

    /// A device has caught up, has gone, or has just connected: its next lag is answered at once.
    pub fn settled(&self, device: &DeviceId) {
        self.lock().settled(device);
    }

    /// How many devices lag.
    pub fn lagging(&self) -> usize {
        self.lock().pending.len()
    }

    /// Calls `send` for each device that is due, for ever.
    pub async fn run<F: Future<Output = ()>>(&self, mut send: impl FnMut(DeviceId) -> F) {
        loop {
            let due = self.lock().take_due(self.started.elapsed());
            for device in due {
                send(device).await;
            }
            let next = self.lock().next_due().map(|due| due.saturating_sub(self.started.elapsed()));
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(next.unwrap_or(LONGEST)) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_send_is_at_once_and_then_the_delay_doubles_to_an_hour() {
        let (mut schedule, device) = (Schedule::default(), "cam-1".parse().unwrap());
        schedule.lags(&device, Generation(5), at(0), FIRST);
        let mut sent = Vec::new();
        for second in 0..20_000 {
            // A device that refuses shows its lag again and again.
            schedule.lags(&device, Generation(5), at(second), FIRST);
            if !schedule.take_due(at(second)).is_empty() {
                sent.push(second);
            }
        }
        assert_eq!(sent, [0, 30, 90, 210, 450, 930, 1890, 3810, 7410, 11010, 14610, 18210]);
    }

    #[test]
    fn a_new_generation_and_a_new_connection_start_over() {
        let (mut schedule, device) = (Schedule::default(), "cam-1".parse().unwrap());
        schedule.lags(&device, Generation(5), at(0), FIRST);
        assert_eq!(schedule.take_due(at(0)).len(), 1);
        schedule.lags(&device, Generation(6), at(1), FIRST);
        assert_eq!(schedule.take_due(at(1)).len(), 1);
        schedule.settled(&device);
        assert_eq!(schedule.next_due(), None);
        schedule.lags(&device, Generation(6), at(2), FIRST);
        assert_eq!(schedule.take_due(at(2)).len(), 1);
        assert_eq!(schedule.next_due(), Some(at(32)));
    }
}
