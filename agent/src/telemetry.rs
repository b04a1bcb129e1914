//! Windows: what the worker counts, added up per version and period, as a pure machine: increments and the time in, what is
//! to be recorded and whether to send out.
//!
//! Policy:
//! - A window opens with the first increment that counts something, so silence makes none. It closes once it has lasted
//!   `window_seconds` of the desired state, on probation [`PROBATION_WINDOW`] if that is shorter, and when the contract that
//!   its features are counted under changes. What is open at a start was closed by the outbox.
//! - A row counts once its increment is recorded: totals and the open window go into one [`Batch`], which the outbox writes in
//!   one transaction. Batches are made every `checkpoint_interval_seconds`, when a window closes, and at a clean leave.
//! - Labels go to the window that took their increment: into its feedback while it is open, else into a correction. Labels of
//!   increments that nobody remembers go to the oldest window that is remembered: counts are not lost.
//! - What an increment says is believed as little as the worker: see [`sound`].
//! - Something is to be sent every report interval, at an event, and when a window closes on probation.
//!
//! Never: I/O, a clock, SQL, what becomes of a batch.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tern_protocol::{
    desired::Settings,
    digest::Digest,
    frames::{Increment, Slot},
    ids::ModelVersion,
    report::v1::{Event, System},
};

mod batch;
pub mod change;
mod merging;
mod open;
mod slots;
mod sound;

pub use batch::{Batch, Counts};
pub use merging::merge;
use open::Open;
use slots::Slots;

/// Longest window while a version is on probation.
pub const PROBATION_WINDOW: Duration = Duration::from_secs(60);
/// Longest window and report interval that a desired state can ask for; longer ones are cut to it.
const LONGEST: u32 = 7 * 24 * 3600;
/// Windows that are open at once, each some kilobytes: far beyond the versions that answer on one device.
const MOST_OPEN: usize = 256;

/// What a window is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The version.
    pub version: ModelVersion,
    /// Digest of the contract that its features are counted under.
    pub contract: Digest,
}

/// What the device itself says at a moment. The first three grow for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Processor time of all workers so far, in milliseconds.
    pub worker_cpu_ms: u64,
    /// Processor time of control so far, in milliseconds.
    pub control_cpu_ms: u64,
    /// Bytes that Tern has written to disk so far.
    pub written_bytes: u64,
    /// Resident memory of the worker, in bytes.
    pub worker_rss_bytes: u64,
    /// Resident memory of control, in bytes.
    pub control_rss_bytes: u64,
    /// Free bytes where Tern keeps its files.
    pub disk_free_bytes: u64,
    /// Temperature in degrees Celsius, where there is a sensor.
    pub temperature: Option<f32>,
}

impl Reading {
    /// The figures of a window that began at `self` and ends at `end`.
    fn until(&self, end: &Self) -> System {
        System {
            cpu_ms: end.worker_cpu_ms.saturating_sub(self.worker_cpu_ms),
            rss_bytes: end.worker_rss_bytes,
            disk_free_bytes: end.disk_free_bytes,
            written_bytes: end.written_bytes.saturating_sub(self.written_bytes),
            temperature: end.temperature,
        }
    }
}

/// The moment, as far as the machine may know it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time since the agent started.
    pub uptime: Duration,
    /// The device's time.
    pub time: Timestamp,
    /// Whether that is the clock's, as opposed to the floor below it.
    pub trusted: bool,
    /// What the device says of itself.
    pub reading: Reading,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Todo {
    /// To be recorded, where there is something.
    pub record: Option<Batch>,
    /// Whether what is recorded and not sent yet is to be sent now; after the record.
    pub send: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Telemetry {
    boot: u64,
    settings: Settings,
    checkpoint_interval: Duration,
    open: BTreeMap<ModelVersion, Open>,
    slots: Slots,
    totals: BTreeMap<ModelVersion, Counts>,
    pending: Batch,
    checkpoint_at: Duration,
    send_at: Duration,
    poisoned: u64,
}

impl Telemetry {
    /// The machine of this start of the device, going on from the totals that are recorded.
    pub fn new(boot: u64, checkpoint_interval: Duration, totals: BTreeMap<ModelVersion, Counts>) -> Self {
        Self {
            boot,
            settings: Settings::default(),
            checkpoint_interval,
            open: BTreeMap::new(),
            slots: Slots::default(),
            totals,
            pending: Batch::default(),
            checkpoint_at: checkpoint_interval,
            send_at: Duration::ZERO,
            poisoned: 0,
        }
    }

    /// The boot that windows belong to.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Takes the server's settings over, within bounds.
    pub fn set(&mut self, settings: Settings, now: Duration) {
        self.settings = Settings {
            report_interval_seconds: settings.report_interval_seconds.clamp(1, LONGEST),
            window_seconds: settings.window_seconds.clamp(1, LONGEST),
        };
        self.send_at = self.send_at.min(now.saturating_add(self.report_interval()));
    }

    /// How often reports are sent.
    pub fn report_interval(&self) -> Duration {
        Duration::from_secs(self.settings.report_interval_seconds.into())
    }

    /// Increments, or parts of them, that were not believed.
    pub fn poisoned(&self) -> u64 {
        self.poisoned
    }

    /// Everything counted of a version so far, recorded or not.
    pub fn totals(&self, version: &ModelVersion) -> Counts {
        self.totals.get(version).copied().unwrap_or_default()
    }

    /// The latency that a share `rank` of the open window's inferences stayed within, in microseconds.
    pub fn latency(&self, version: &ModelVersion, rank: f64) -> Option<f32> {
        self.open.get(version)?.latency(rank)
    }

    /// Takes in what the worker counted in a slot that answers as `subject`.
    pub fn take(&mut self, subject: &Subject, increment: &Increment, now: &Now) {
        if !sound::has_sound_counts(increment) {
            self.poisoned += 1;
            return;
        }
        let version = &subject.version;
        if self.open.get(version).is_some_and(|open| open.contract() != subject.contract) {
            self.close(version, now);
        }
        if sound::counts_something(increment) || !self.slots.knows(increment.slot) {
            let Some(open) = self.opened(subject, now) else {
                self.poisoned += 1;
                return;
            };
            let (left_out, number) = (open.add(increment, now), open.number());
            self.poisoned += left_out;
            self.slots.took(increment.slot, increment.number, number);
        }
        let mut fresh = Counts {
            rows: increment.rows,
            inferences: increment.inferences,
            errors: increment.errors.iter().map(|e| e.count).sum(),
            ..Counts::default()
        };
        for labels in &increment.labels {
            if !sound::are_sound_labels(labels) {
                self.poisoned += 1;
                continue;
            }
            fresh.labels = fresh.labels.saturating_add(labels.n);
            fresh.label_errors = fresh.label_errors.saturating_add(labels.errors);
            let window = self.slots.window(increment.slot, labels.increment).unwrap_or_default();
            match self.open.get_mut(version).filter(|open| open.number() == window) {
                Some(open) => open.label(labels.bin, labels.n, labels.errors),
                None => self.pending.correct(version, window, *labels),
            }
        }
        self.totals.entry(version.clone()).or_default().add(&fresh);
        self.pending.counts.entry(version.clone()).or_default().add(&fresh);
    }

    /// A slot is gone, and its labels come no more.
    pub fn forget(&mut self, slot: Slot) {
        self.slots.forget(slot);
    }

    /// The worker is gone, and every slot with it.
    pub fn forget_all(&mut self) {
        self.slots = Slots::default();
    }

    /// Something happened that is to be told at once.
    pub fn event(&mut self, event: Event) -> Todo {
        let mut batch = Batch::default();
        batch.event(event);
        Todo { record: Some(batch), send: true }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: &Now, on_probation: impl Fn(&ModelVersion) -> bool) -> Todo {
        let steady = Duration::from_secs(self.settings.window_seconds.into());
        let is_over = |version: &ModelVersion, open: &Open| {
            open.age(now) >= if on_probation(version) { steady.min(PROBATION_WINDOW) } else { steady }
        };
        let over: Vec<_> = self.open.iter().filter(|(v, open)| is_over(v, open)).map(|(v, _)| v.clone()).collect();
        let mut todo = Todo::default();
        for version in &over {
            self.close(version, now);
            todo.send |= on_probation(version);
        }
        if !over.is_empty() || now.uptime >= self.checkpoint_at {
            self.checkpoint_at = now.uptime.saturating_add(self.checkpoint_interval);
            todo.record = self.checkpoint(now);
        }
        if now.uptime >= self.send_at {
            self.send_at = now.uptime.saturating_add(self.report_interval());
            todo.send = true;
        }
        todo
    }

    /// Everything that is not recorded yet; open windows stay open.
    pub fn checkpoint(&mut self, now: &Now) -> Option<Batch> {
        for (version, open) in self.open.iter_mut().filter(|(_, open)| open.is_dirty()) {
            self.pending.open.insert(version.clone(), Some(open.snapshot(now)));
            open.clean();
        }
        let batch = std::mem::take(&mut self.pending);
        (!batch.is_empty()).then_some(batch)
    }

    /// The open window of a version, opened if need be; none where too many are open.
    fn opened(&mut self, subject: &Subject, now: &Now) -> Option<&mut Open> {
        let version = &subject.version;
        if !self.open.contains_key(version) {
            if self.open.len() >= MOST_OPEN {
                return None;
            }
            let number = self.number(version);
            self.open.insert(version.clone(), Open::new(subject, self.boot, number, now));
        }
        self.open.get_mut(version)
    }

    /// The next window's number. Those of a version that the outbox does not know begin anew for each boot, so that a
    /// lost outbox brings none twice.
    fn number(&mut self, version: &ModelVersion) -> u64 {
        let totals = self.totals.entry(version.clone()).or_default();
        if totals.newest_window == 0 {
            totals.newest_window = self.boot.saturating_sub(1) << 20;
        }
        totals.newest_window += 1;
        let number = totals.newest_window;
        self.pending.counts.entry(version.clone()).or_default().newest_window = number;
        number
    }

    fn close(&mut self, version: &ModelVersion, now: &Now) {
        if let Some(open) = self.open.remove(version) {
            self.pending.open.insert(version.clone(), None);
            self.pending.closed.push(open.snapshot(now));
        }
    }
}

#[cfg(test)]
mod tests;
