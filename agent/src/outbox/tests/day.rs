//! A day of production defaults, simulated: what it costs the flash and the wire.

use tern_protocol::{
    desired::Settings,
    frames::{Increment, Slot},
    report::v1::Violations,
};
use tern_stats::{latency::Latency, numeric::Numeric, window::Sums};

use super::*;
use crate::{
    telemetry::{Now, Reading, Subject, Telemetry},
    vitals,
};

/// Cells of a feature, as the reference profile has them by default.
const CELLS: usize = tern_stats::cells::CELLS;
/// DESIGN 6: what a day may cost at production defaults.
const FLASH: u64 = 10 << 20;
const WIRE: usize = 1 << 20;

/// One inference a second.
fn increment(second: u64) -> Increment {
    let mut latency = Latency::default();
    latency.record((second.wrapping_mul(7919) % 10_007) as f32);
    let feature = |f: u64| {
        let mut cells = vec![0; CELLS];
        cells[((second.wrapping_mul(31 + f) >> 2) % CELLS as u64) as usize] = 1;
        let x = (second % 97) as f64 / 97.0 - 0.5;
        Sums::Numeric(Numeric { cells, n: 1, s1: x, s2: x * x, sd_sum: 0.3, nd: 1, ..Numeric::default() })
    };
    Increment {
        slot: Slot(1),
        number: second,
        inferences: 1,
        rows: 1,
        errors: vec![],
        violations: Violations::default(),
        latency_sum_us: 0,
        latency_max_us: 0,
        latency: latency.to_bytes(),
        sums: tern_stats::window::Window {
            rows: 1,
            features: (0..8).map(feature).collect(),
            outputs: (8..10).map(feature).collect(),
            confidence: (0..20).map(|bin| u64::from(bin == second % 20)).collect(),
            labels: vec![],
        },
        labels: vec![],
    }
}

#[test]
fn a_day_at_production_defaults_stays_within_its_budgets() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let mut telemetry = Telemetry::new(1, Duration::from_secs(900), Default::default());
    telemetry.set(Settings::default(), Duration::ZERO);
    let subject = Subject { version: version(), contract: Digest::of(b"contract") };
    let written = vitals::written_by_this_thread().expect("the kernel counts what a thread writes");
    let (mut wire, mut reports, mut longest) = (0, 0, 0);
    for second in 1..=86_400 {
        let now = Now {
            uptime: Duration::from_secs(second),
            time: Timestamp::from_second(1_800_000_000 + second as i64).unwrap(),
            trusted: true,
            reading: Reading { worker_cpu_ms: second, ..Reading::default() },
        };
        telemetry.take(&subject, &increment(second), &now);
        let todo = telemetry.tick(&now, |_| false);
        if let Some(batch) = todo.record {
            database.keep_within(32 << 20).unwrap();
            database.record(&batch, None).unwrap();
        }
        while todo.send && database.offer().unwrap() > 0 {
            let report = database.published(database.meta.watermark, STAMP).unwrap();
            let last = report.last().unwrap().sequence;
            let payload = rows::payload(database.meta.stream, report).unwrap();
            (wire, reports, longest) = (wire + payload.len(), reports + 1, longest.max(payload.len()));
            database.watermark(database.meta.stream, last, STAMP).unwrap();
        }
    }
    // What is in the journal still is not written twice yet: closing does that.
    drop(database);
    let written = vitals::written_by_this_thread().unwrap() - written;
    let kib = written >> 10;
    let said =
        format!("{kib} KiB written, {wire} B in {reports} reports of {longest} B at most, {CELLS} cells a feature");
    assert!(written > 100 << 10 && written < FLASH, "{said}");
    // Figures for people take the other part of what may go over the wire.
    assert!(reports >= 23 && wire < WIRE / 2, "{said}");
}
