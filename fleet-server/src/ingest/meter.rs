//! What a device may have stored: a leaky bucket each, of bytes and of events. Pure.
//!
//! A bucket fills with what was committed and leaks at a steady rate. While it is over the brim, reports are not taken:
//! the acknowledgement is withheld and the device keeps its rows. What a report costs is known only once it was taken, so
//! the brim may be passed by one report; that is paid off before the next.
//!
//! Events are never removed, so their rate is low; those beyond it go into quarantine in place of the log. Withheld, they
//! would hold back every window behind them for hours, of a device whose only fault is a worker that cannot start.
//!
//! Kept in memory alone: a server that starts again forgives everybody, which needs an operator and no device.

use std::collections::HashMap;

use jiff::Timestamp;
use tern_protocol::ids::DeviceId;

/// A device that comes back after months brings its outbox of 32 MiB at once; small rows cost up to three times as much
/// here as there.
const BURST_BYTES: f64 = (96 << 20) as f64;
/// 1,000 rows a minute of 1.9 KB: a device with 16 models and windows of one second. The default is a row a minute.
const BYTES_PER_SECOND: f64 = (32 << 10) as f64;
/// What an event may cost for ever is counted by rows. Years of a working device.
const BURST_EVENTS: f64 = 4096.0;
/// A worker that dies at once is started every 30 s.
const EVENTS_PER_SECOND: f64 = 2.0 / 60.0;
/// Buckets that are kept. Beyond, at least the emptier half is forgotten: it forgives those who owe least.
const MOST: usize = 16_384;

/// Whether a report may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Yes, and so many of its rows may become events of the fleet.
    Taken {
        /// The rest goes into quarantine.
        events: usize,
    },
    /// Not now.
    Withheld {
        /// Whether this was not said yet.
        is_news: bool,
    },
}

/// What a report left behind for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes on the disk.
    pub bytes: usize,
    /// Rows of the event log.
    pub events: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    bytes: f64,
    events: f64,
    at: Timestamp,
    /// It was said that this device is withheld from, and it has not calmed down since.
    is_told: bool,
}

impl Bucket {
    fn new(at: Timestamp) -> Self {
        Self { bytes: 0.0, events: 0.0, at, is_told: false }
    }

    /// Lets leak out what may since the last look. A clock that was set back costs nobody anything but this once.
    fn leak(&mut self, now: Timestamp) {
        let seconds = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.at = now;
        self.bytes = (self.bytes - seconds * BYTES_PER_SECOND).max(0.0);
        self.events = (self.events - seconds * EVENTS_PER_SECOND).max(0.0);
        // Half a bucket, so that a device which stays at the brim is told of once and not with each report.
        self.is_told &= self.bytes > BURST_BYTES / 2.0;
    }

    /// How full it is, of 1.
    fn level(&self) -> f64 {
        (self.bytes / BURST_BYTES).max(self.events / BURST_EVENTS)
    }
}

/// The buckets of all devices.
#[derive(Debug, Default)]
pub(super) struct Meter(HashMap<DeviceId, Bucket>);

impl Meter {
    /// Whether a report of the device may be taken now.
    pub(super) fn ask(&mut self, device: &DeviceId, now: Timestamp) -> Allowance {
        let Some(bucket) = self.0.get_mut(device) else {
            return Allowance::Taken { events: BURST_EVENTS as usize };
        };
        bucket.leak(now);
        if bucket.bytes < BURST_BYTES {
            return Allowance::Taken { events: (BURST_EVENTS - bucket.events).max(0.0) as usize };
        }
        Allowance::Withheld { is_news: !std::mem::replace(&mut bucket.is_told, true) }
    }

    /// A report of the device was taken.
    pub(super) fn charge(&mut self, device: &DeviceId, cost: Cost, now: Timestamp) {
        if !self.0.contains_key(device) {
            self.make_room(now);
        }
        let bucket = self.0.entry(device.clone()).or_insert_with(|| Bucket::new(now));
        bucket.leak(now);
        bucket.bytes += cost.bytes as f64;
        bucket.events += cost.events as f64;
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|_, bucket| {
            bucket.leak(now);
            bucket.level() > 0.0
        });
        if self.0.len() < MOST {
            return;
        }
        let mut levels: Vec<f64> = self.0.values().map(Bucket::level).collect();
        let (_, median, _) = levels.select_nth_unstable_by(MOST / 2, f64::total_cmp);
        // Many may be as full as the median: they go too.
        let median = *median;
        self.0.retain(|_, bucket| bucket.level() > median);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + seconds).unwrap()
    }

    fn device(number: usize) -> DeviceId {
        format!("cam-{number}").parse().unwrap()
    }

    fn bytes(bytes: usize) -> Cost {
        Cost { bytes, events: 0 }
    }

    fn is_taken(meter: &mut Meter, seconds: i64) -> bool {
        matches!(meter.ask(&device(1), at(seconds)), Allowance::Taken { .. })
    }

    #[test]
    fn a_device_that_comes_back_after_months_brings_its_whole_outbox_at_once() {
        let mut meter = Meter::default();
        // 32 MiB of the smallest rows, as reports of 128 KiB, each row at three times its bytes.
        for _ in 0..256 {
            assert!(is_taken(&mut meter, 0));
            meter.charge(&device(1), bytes(3 * (128 << 10)), at(0));
        }
        assert!(!is_taken(&mut meter, 0), "and not twice");
    }

    #[test]
    fn a_thousand_rows_a_minute_pass_for_ever() {
        let mut meter = Meter::default();
        for minute in 0..60 * 24 * 30 {
            assert!(is_taken(&mut meter, minute * 60), "minute {minute}");
            meter.charge(&device(1), Cost { bytes: 1000 * 1900, events: 2 }, at(minute * 60));
        }
    }

    #[test]
    fn a_flood_is_held_to_the_steady_rate_and_told_of_once() {
        let (mut meter, mut taken, mut told) = (Meter::default(), 0u64, 0);
        const REPORT: usize = 4 << 20;
        const DAY: i64 = 24 * 3600;
        for second in 0..DAY {
            match meter.ask(&device(1), at(second)) {
                Allowance::Taken { .. } => {
                    taken += REPORT as u64;
                    meter.charge(&device(1), bytes(REPORT), at(second));
                }
                Allowance::Withheld { is_news } => told += usize::from(is_news),
            }
            assert!(matches!(meter.ask(&device(2), at(second)), Allowance::Taken { .. }), "nobody else pays");
        }
        let most = (BURST_BYTES + DAY as f64 * BYTES_PER_SECOND) as u64 + REPORT as u64;
        assert!(taken <= most && taken > most / 100 * 95, "{taken} of {most}");
        assert_eq!(told, 1);
        let calm = DAY + (BURST_BYTES / BYTES_PER_SECOND) as i64 + 200;
        assert!(is_taken(&mut meter, calm));
        meter.charge(&device(1), bytes(2 * BURST_BYTES as usize), at(calm));
        assert_eq!(meter.ask(&device(1), at(calm)), Allowance::Withheld { is_news: true }, "another time");
    }

    #[test]
    fn events_run_out_and_windows_do_not() {
        let mut meter = Meter::default();
        assert_eq!(meter.ask(&device(1), at(0)), Allowance::Taken { events: 4096 });
        meter.charge(&device(1), Cost { bytes: 1, events: 4095 }, at(0));
        assert_eq!(meter.ask(&device(1), at(0)), Allowance::Taken { events: 1 });
        meter.charge(&device(1), Cost { bytes: 1, events: 256 }, at(0));
        assert_eq!(meter.ask(&device(1), at(0)), Allowance::Taken { events: 0 });
        let day = 24 * 3600;
        let Allowance::Taken { events } = meter.ask(&device(1), at(day)) else { panic!("withheld") };
        assert!((2400..2700).contains(&events), "2 a minute, less what was owed: {events}");
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody_for_long() {
        let mut meter = Meter::default();
        meter.charge(&device(1), bytes(BURST_BYTES as usize + 1), at(0));
        assert!(!is_taken(&mut meter, -1_000_000));
        assert!(is_taken(&mut meter, -999_990), "it leaks from there on");
        meter.charge(&device(1), bytes(1), Timestamp::MAX);
        meter.charge(&device(1), bytes(1), Timestamp::MAX - SignedDuration::from_hours(1));
        assert!(is_taken(&mut meter, 0));
    }

    #[test]
    fn memory_is_bounded_and_who_owes_most_is_remembered() {
        let mut meter = Meter::default();
        meter.charge(&device(1), bytes(BURST_BYTES as usize + 1), at(0));
        for number in 2..3 * MOST {
            meter.charge(&device(number), bytes(1 << 20), at(0));
            assert!(meter.0.len() <= MOST);
        }
        assert!(!is_taken(&mut meter, 0));
        for number in 4 * MOST..5 * MOST {
            meter.charge(&device(number), bytes(1), at(1_000_000));
        }
        assert!(!meter.0.contains_key(&device(1)), "an empty bucket is none");
        assert_eq!(meter.0.len(), MOST);
    }
}
