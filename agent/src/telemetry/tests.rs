//! Windows as a pure machine: nothing counted is lost under any order, and what is impossible is not believed.

use proptest::prelude::*;
use tern_protocol::{
    frames::LateLabels,
    ids::Generation,
    refusal::RefusalCode,
    report::v1::{Clock, ErrorCount, ErrorKind, EventKind, Violations, Window},
};
use tern_stats::{latency::Latency, numeric::Numeric, window::Sums};

use super::*;

fn subject(version: &str) -> Subject {
    let version = format!("vision/digits@{version}").parse().unwrap();
    Subject { version, contract: Digest::of(b"contract") }
}

fn at(seconds: u64) -> Now {
    Now {
        uptime: Duration::from_secs(seconds),
        time: Timestamp::from_second(1_800_000_000 + seconds as i64).unwrap(),
        trusted: true,
        reading: Reading { worker_cpu_ms: seconds * 10, written_bytes: seconds, ..Reading::default() },
    }
}

fn increment(slot: u64, number: u64, rows: u64) -> Increment {
    let mut latency = Latency::default();
    (0..rows).for_each(|i| latency.record(i as f32));
    let numeric = Numeric { cells: vec![rows, 0], n: rows, s1: rows as f64, s2: rows as f64, ..Numeric::default() };
    let sums = tern_stats::window::Window {
        rows,
        features: vec![Sums::Numeric(numeric)],
        outputs: vec![],
        confidence: vec![rows, 0],
        labels: vec![],
    };
    Increment {
        slot: Slot(slot),
        number,
        inferences: rows,
        rows,
        errors: vec![ErrorCount { kind: ErrorKind::Deadline, count: 1 }],
        violations: Violations::default(),
        latency_sum_us: 0,
        latency_max_us: 0,
        latency: latency.to_bytes(),
        sums,
        labels: vec![],
    }
}

fn labels(increment: u64, bin: u32, n: u64, errors: u64) -> LateLabels {
    LateLabels { increment, bin, n, errors }
}

fn machine() -> Telemetry {
    Telemetry::new(1, Duration::from_secs(900), BTreeMap::new())
}

fn steady(_: &ModelVersion) -> bool {
    false
}

#[test]
fn a_window_lasts_its_time_and_silence_makes_none() {
    let mut telemetry = machine();
    assert!(telemetry.tick(&at(0), steady).send, "what an earlier start left is sent at once");
    telemetry.take(&subject("1.0.0"), &increment(1, 1, 10), &at(10));
    assert_eq!(telemetry.tick(&at(899), steady), Todo::default());
    let todo = telemetry.tick(&at(900), steady);
    let batch = todo.record.unwrap();
    assert!(todo.send && batch.closed.is_empty() && batch.open.len() == 1, "a checkpoint");
    telemetry.take(&subject("1.0.0"), &increment(1, 2, 5), &at(1000));
    let mut closed = Vec::new();
    for second in 901..=3610 {
        closed.extend(telemetry.tick(&at(second), steady).record.into_iter().flat_map(|b| b.closed));
    }
    let [window] = &closed[..] else { panic!("{} windows", closed.len()) };
    assert_eq!((window.rows, window.inferences, window.number, window.boot), (15, 15, 1, 1));
    assert_eq!((window.end_ms - window.start_ms, window.clock), (3_600_000, Clock::Trusted));
    assert_eq!((window.system.cpu_ms, window.system.written_bytes), (36_000, 3600));
    assert_eq!(window.latencies().unwrap().count(), 15);
    assert_eq!(window.errors, [ErrorCount { kind: ErrorKind::Deadline, count: 2 }]);
    for second in 3611..20_000 {
        assert_eq!(telemetry.tick(&at(second), steady).record, None, "silence");
    }
}

#[test]
fn windows_are_short_on_probation_and_never_longer_than_asked() {
    for (asked, lasts) in [(3600, 60), (5, 5)] {
        let mut telemetry = machine();
        telemetry.set(Settings { report_interval_seconds: 900, window_seconds: asked }, Duration::ZERO);
        telemetry.tick(&at(0), steady);
        telemetry.take(&subject("1.0.0"), &increment(1, 1, 1), &at(1));
        assert_eq!(telemetry.tick(&at(lasts), |_| true), Todo::default());
        let todo = telemetry.tick(&at(1 + lasts), |_| true);
        assert!(todo.send && todo.record.unwrap().closed.len() == 1, "and they are sent at once");
    }
}

#[test]
fn labels_go_to_the_window_that_took_their_increment() {
    let mut telemetry = machine();
    telemetry.take(&subject("1.0.0"), &increment(1, 3, 10), &at(0));
    // Increments 4 to 9 were merged.
    let merged = Increment { labels: vec![labels(2, 0, 2, 1), labels(7, 1, 1, 0)], ..increment(1, 9, 20) };
    telemetry.take(&subject("1.0.0"), &merged, &at(1));
    let closed = telemetry.tick(&at(3600), steady).record.unwrap().closed;
    assert_eq!(closed[0].feedback.iter().map(|f| (f.n, f.errors)).collect::<Vec<_>>(), [(2, 1), (1, 0)]);
    let late =
        Increment { labels: vec![labels(9, 1, 4, 4), labels(3, 1, 1, 0), labels(10, 0, 1, 1)], ..increment(1, 10, 1) };
    telemetry.take(&subject("1.0.0"), &late, &at(3700));
    let only_labels = Increment { labels: vec![labels(1, 1, 1, 1)], ..empty(1, 11) };
    telemetry.take(&subject("1.0.0"), &only_labels, &at(3701));
    let batch = telemetry.checkpoint(&at(3702)).unwrap();
    let corrections: Vec<_> = batch.corrections().map(|c| (c.window, c.bin, c.n, c.errors)).collect();
    assert_eq!(corrections, [(1, 1, 6, 5)], "by window and bin, in one");
    let open = batch.open[&subject("1.0.0").version].clone().unwrap();
    assert_eq!((open.number, open.feedback[0].n), (2, 1));
    assert_eq!(telemetry.totals(&subject("1.0.0").version).labels, 10);
}

fn empty(slot: u64, number: u64) -> Increment {
    let nothing = increment(slot, number, 0);
    Increment { errors: vec![], sums: Default::default(), latency: vec![], ..nothing }
}

#[test]
fn labels_alone_open_no_window_where_theirs_is_known() {
    let mut telemetry = machine();
    telemetry.take(&subject("1.0.0"), &increment(1, 1, 1), &at(0));
    telemetry.tick(&at(3600), steady);
    telemetry.take(&subject("1.0.0"), &Increment { labels: vec![labels(1, 0, 1, 0)], ..empty(1, 2) }, &at(3601));
    let batch = telemetry.checkpoint(&at(3602)).unwrap();
    assert!(batch.open.is_empty() && batch.corrections.len() == 1);
}

#[test]
fn a_window_in_which_every_request_failed_is_told_with_its_failures_and_no_value() {
    let mut telemetry = machine();
    let errors = || vec![ErrorCount { kind: ErrorKind::Engine, count: 4 }];
    let nothing = tern_stats::window::Window {
        features: vec![Sums::Numeric(Numeric::empty(2))],
        confidence: vec![0, 0],
        ..Default::default()
    };
    // Of a version with a profile, and of one whose worker could not read it.
    for (version, sums) in [("1.0.0", nothing), ("1.1.0", Default::default())] {
        for number in 1..=3 {
            let failed = Increment { errors: errors(), sums: sums.clone(), ..empty(1, number) };
            telemetry.take(&subject(version), &failed, &at(number));
        }
    }
    let todo = telemetry.tick(&at(3700), steady);
    let closed = todo.record.unwrap().closed;
    assert_eq!(closed.len(), 2);
    for (window, features) in closed.iter().zip([1, 0]) {
        assert_eq!((window.inferences, window.rows, window.features.len()), (0, 0, features));
        assert_eq!(window.errors, [ErrorCount { kind: ErrorKind::Engine, count: 12 }]);
        is_sendable(window);
    }
}

#[test]
fn increments_of_an_older_worker_count_without_number_and_sums() {
    let mut telemetry = machine();
    let plain = Increment { sums: Default::default(), latency: vec![], ..increment(1, 0, 7) };
    telemetry.take(&subject("1.0.0"), &plain, &at(0));
    telemetry.take(&subject("1.0.0"), &plain, &at(1));
    let batch = telemetry.checkpoint(&at(2)).unwrap();
    let window = batch.open[&subject("1.0.0").version].clone().unwrap();
    assert_eq!((window.rows, window.features.len(), window.feedback.len()), (14, 0, 1));
    assert_eq!(telemetry.poisoned(), 0);
}

#[test]
fn what_is_impossible_is_left_out_and_the_rows_stay() {
    let numeric = |change: fn(&mut Numeric)| {
        let mut bad = increment(1, 2, 5);
        let Some(Sums::Numeric(sums)) = bad.sums.features.first_mut() else { unreachable!() };
        change(sums);
        bad
    };
    let bad_sums = [
        numeric(|s| s.s1 = f64::NAN),
        numeric(|s| s.s2 = -1.0),
        numeric(|s| s.s1 = 1e9),
        numeric(|s| s.cells[0] += 1),
        numeric(|s| s.out = 6),
        numeric(|s| s.flat = 1),
        numeric(|s| s.cells.push(0)),
        numeric(|s| (s.n, s.cells) = (u64::MAX, vec![u64::MAX, 0])),
        Increment { latency: vec![9; 40], ..increment(1, 2, 5) },
    ];
    for bad in bad_sums {
        let mut telemetry = machine();
        telemetry.take(&subject("1.0.0"), &increment(1, 1, 10), &at(0));
        telemetry.take(&subject("1.0.0"), &bad, &at(1));
        assert_eq!(telemetry.poisoned(), 1, "{bad:?}");
        let batch = telemetry.checkpoint(&at(2)).unwrap();
        let window = batch.open[&subject("1.0.0").version].clone().unwrap();
        assert_eq!(window.rows, 15);
        is_sendable(&window);
    }
    let lies = [
        Increment { rows: u64::MAX, ..increment(1, 1, 1) },
        Increment { errors: vec![ErrorCount { kind: ErrorKind::Engine, count: u64::MAX }], ..increment(1, 1, 1) },
        Increment { labels: vec![labels(1, 0, 1, 2)], ..empty(1, 1) },
        Increment { labels: vec![labels(1, u32::MAX, 1, 0)], ..empty(1, 1) },
    ];
    for lie in lies {
        let mut telemetry = machine();
        telemetry.take(&subject("1.0.0"), &lie, &at(0));
        assert_eq!((telemetry.poisoned(), telemetry.totals(&subject("1.0.0").version).rows), (1, 0), "{lie:?}");
    }
}

/// One window that the server refuses would quarantine every row beside it.
fn is_sendable(window: &Window) {
    use tern_protocol::report::{self, Codec, v1};
    let row = v1::Row { sequence: 1, item: v1::Item::Window(Box::new(window.clone())) };
    let report = v1::Report { stream: v1::Stream([1; 16]), rows: vec![row] };
    assert_eq!(report::decode(&report::encode(&report, Codec::Zstd).unwrap()).unwrap(), report);
    window.sums().unwrap();
}

#[test]
fn another_contract_or_boot_is_another_window_and_numbers_come_once() {
    let mut telemetry = machine();
    telemetry.take(&subject("1.0.0"), &increment(1, 1, 1), &at(0));
    let other = Subject { contract: Digest::of(b"other"), ..subject("1.0.0") };
    telemetry.take(&other, &increment(2, 1, 2), &at(1));
    telemetry.take(&subject("2.0.0"), &increment(3, 1, 4), &at(2));
    let batch = telemetry.checkpoint(&at(3)).unwrap();
    assert_eq!(batch.closed.iter().map(|w| (w.number, w.rows)).collect::<Vec<_>>(), [(1, 1)]);
    let open: Vec<_> = batch.open.values().flatten().map(|w| (w.number, w.rows)).collect();
    assert_eq!(open, [(2, 2), (1, 4)], "each version has numbers of its own");
    let totals = telemetry.totals.clone();
    let mut next = Telemetry::new(2, Duration::from_secs(900), totals);
    next.take(&subject("1.0.0"), &increment(1, 1, 1), &at(0));
    next.take(&subject("9.0.0"), &increment(1, 1, 1), &at(0));
    assert_eq!(next.totals(&subject("1.0.0").version).newest_window, 3);
    assert_eq!(next.totals(&subject("9.0.0").version).newest_window, (1 << 20) + 1, "whatever an older outbox knew");
}

#[test]
fn a_clock_that_is_not_believed_marks_the_window_and_never_ends_it_before_its_start() {
    let mut telemetry = machine();
    telemetry.take(&subject("1.0.0"), &increment(1, 1, 1), &at(100));
    let floored = Now { trusted: false, time: Timestamp::UNIX_EPOCH, ..at(101) };
    let batch = telemetry.checkpoint(&floored).unwrap();
    let window = batch.open.values().flatten().next().unwrap();
    assert_eq!((window.clock, window.end_ms), (Clock::Floored, window.start_ms));
}

#[test]
fn what_waits_for_a_disk_is_bounded_and_counts_survive() {
    let mut waiting = Batch::default();
    let mut telemetry = machine();
    telemetry.set(Settings { report_interval_seconds: 1, window_seconds: 1 }, Duration::ZERO);
    for second in 0..2000 {
        telemetry.take(&subject("1.0.0"), &increment(1, second + 1, 3), &at(second));
        waiting.absorb(telemetry.tick(&at(second), steady).record.unwrap_or_default());
        let kind = EventKind::WorkerRestarted { cause: "x".into() };
        let event = Event { at_ms: 0, generation: Generation(1), kind };
        waiting.absorb(telemetry.event(event).record.unwrap());
    }
    waiting.absorb(telemetry.checkpoint(&at(2000)).unwrap_or_default());
    assert!(waiting.closed.len() <= 256 && waiting.events.len() <= 512);
    assert_eq!(waiting.lost_events, 2000 - 512);
    assert!(waiting.confess(0, Generation(1)).is_some());
    assert_eq!(rows(&waiting), 6000);
    assert_eq!(waiting.counts[&subject("1.0.0").version].rows, 6000);
    waiting.closed.iter().for_each(is_sendable);
}

#[test]
fn a_window_of_failures_only_takes_the_shape_of_the_one_that_it_is_merged_with() {
    let shaped = |rows| {
        let mut telemetry = machine();
        telemetry.take(&subject("1.0.0"), &increment(1, 1, rows), &at(0));
        telemetry.checkpoint(&at(1)).unwrap().open.into_values().flatten().next().unwrap()
    };
    let blind = Window { features: vec![], confidence: vec![], latency: vec![], ..shaped(0) };
    for (mut first, second) in [(blind.clone(), shaped(5)), (shaped(5), blind)] {
        merge(&mut first, &second);
        assert_eq!((first.rows, first.errors[0].count, first.features.len()), (5, 2, 1));
        assert_eq!(first.latencies().unwrap().count(), 5);
        is_sendable(&first);
    }
    let mut odd = shaped(3);
    odd.outputs = odd.features.clone();
    let mut sum = shaped(4);
    merge(&mut sum, &odd);
    assert_eq!((sum.rows, sum.outputs.len(), sum.sums().unwrap().features[0].rows()), (7, 0, 4), "counts, not sums");
}

fn rows(batch: &Batch) -> u64 {
    batch.closed.iter().chain(batch.open.values().flatten()).map(|w| w.rows).sum()
}

#[test]
fn events_say_what_became_of_a_version() {
    use crate::state::{ModelRecord, VersionRef};
    use tern_protocol::twin::LastError;
    let model = "vision/digits".parse().unwrap();
    let v = |n: &str| {
        Some(VersionRef { version: n.parse().unwrap(), manifest: Digest::of(n.as_bytes()), candidate: false })
    };
    let version = |n: &str| n.parse().unwrap();
    let error = |code, n: &str| {
        let (message, at) = ("why".into(), Timestamp::UNIX_EPOCH);
        Some(LastError { code, message, version: Some(version(n)), generation: Generation(1), at, count: 1 })
    };
    let old = ModelRecord { active: v("1.0.0"), proven: true, ..ModelRecord::new(Timestamp::UNIX_EPOCH) };
    let fetching = ModelRecord { candidate: v("2.0.0"), ..old.clone() };
    assert_eq!(change::between(&model, &old, &fetching), []);
    let trial = ModelRecord { active: v("2.0.0"), previous: v("1.0.0"), candidate: None, proven: false, ..old.clone() };
    let activated =
        EventKind::Activated { model: model_name(), version: version("2.0.0"), previous: Some(version("1.0.0")) };
    assert_eq!(change::between(&model, &fetching, &trial), [activated]);
    let committed = ModelRecord { proven: true, ..trial.clone() };
    let survived = EventKind::Committed { model: model_name(), version: version("2.0.0") };
    assert_eq!(change::between(&model, &trial, &committed), [survived]);
    let code = RefusalCode::ProbationFailed;
    let back = ModelRecord { last_error: error(code, "2.0.0"), previous: None, ..old.clone() };
    let (to, gone) = (Some(version("1.0.0")), version("2.0.0"));
    let taken_back = EventKind::TakenBack { model: model_name(), version: gone, to, code };
    assert_eq!(change::between(&model, &trial, &back), [taken_back], "and nothing is refused besides");
    let refused = ModelRecord { last_error: error(RefusalCode::GoldenMismatch, "2.0.0"), ..old.clone() };
    let events = change::between(&model, &fetching, &refused);
    let [kind @ EventKind::Refused { code: RefusalCode::GoldenMismatch, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    let mut told = change::Told::default();
    assert!(told.is_new(kind, Generation(1)) && !told.is_new(kind, Generation(1)) && told.is_new(kind, Generation(2)));
}

fn model_name() -> tern_protocol::ids::ModelName {
    "vision/digits".parse().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Rows { slot: u64, rows: u64 },
    Labels { slot: u64, back: u64, n: u64 },
    Wait(u64),
    Checkpoint,
    WorkerDied,
    OtherContract,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4u64, 0..50u64).prop_map(|(slot, rows)| Step::Rows { slot, rows }),
        2 => (1..4u64, 0..20u64, 1..9u64).prop_map(|(slot, back, n)| Step::Labels { slot, back, n }),
        3 => (1..2000u64).prop_map(Step::Wait),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::WorkerDied),
        1 => Just(Step::OtherContract),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever is recorded holds what is counted: totals equal the windows, at every batch; in the end they equal what came.
    #[test]
    fn nothing_is_lost_and_nothing_counts_before_it_is_recorded(steps in steps()) {
        let (mut telemetry, mut second, mut number, mut contract) = (machine(), 0u64, 0u64, 0u8);
        let (mut came_rows, mut came_labels) = (0, 0);
        let mut disk = Disk::default();
        for step in steps {
            let version = |slot: u64| Subject {
                contract: Digest::of(&[contract]),
                ..subject(if slot == 3 { "2.0.0" } else { "1.0.0" })
            };
            match step {
                Step::Rows { slot, rows } => {
                    number += 1;
                    came_rows += rows;
                    telemetry.take(&version(slot), &increment(slot, number, rows), &at(second));
                }
                Step::Labels { slot, back, n } => {
                    number += 1;
                    came_labels += n;
                    let late = labels(number.saturating_sub(back), 1, n, n / 2);
                    telemetry.take(&version(slot), &Increment { labels: vec![late], ..empty(slot, number) }, &at(second));
                }
                Step::Wait(seconds) => second += seconds,
                Step::Checkpoint => disk.write(telemetry.checkpoint(&at(second))),
                Step::WorkerDied => telemetry.forget_all(),
                Step::OtherContract => contract = 1 - contract,
            }
            disk.write(telemetry.tick(&at(second), |v| v.version.to_string() == "2.0.0").record);
            disk.agrees()?;
        }
        disk.write(telemetry.checkpoint(&at(second)));
        disk.agrees()?;
        prop_assert_eq!((disk.counted().rows, disk.counted().labels), (came_rows, came_labels));
        prop_assert_eq!(telemetry.poisoned(), 0);
    }
}

/// What the outbox would hold.
#[derive(Default)]
struct Disk {
    all: Batch,
}

impl Disk {
    fn write(&mut self, batch: Option<Batch>) {
        self.all.absorb(batch.unwrap_or_default());
    }

    fn counted(&self) -> Counts {
        self.all.counts.values().fold(Counts::default(), |mut sum, counts| {
            sum.add(counts);
            sum
        })
    }

    fn agrees(&self) -> Result<(), TestCaseError> {
        let windows = || self.all.closed.iter().chain(self.all.open.values().flatten());
        let feedback: u64 = windows().flat_map(|w| &w.feedback).map(|f| f.n).sum();
        let corrected: u64 = self.all.corrections().map(|c| c.n).sum();
        let errors: u64 = windows().flat_map(|w| &w.errors).map(|e| e.count).sum();
        prop_assert_eq!(self.counted().rows, windows().map(|w| w.rows).sum::<u64>());
        prop_assert_eq!(self.counted().labels, feedback + corrected);
        prop_assert_eq!(self.counted().errors, errors);
        Ok(())
    }
}
