//! The outbox against cuts, damage, copies, a server that forgets, and a disk that is too small.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the door's back")]

use std::fs;

use jiff::Timestamp;
use tern_protocol::{
    digest::Digest,
    report::{
        self,
        v1::{Clock, Event, EventKind, Feedback, Item, Row, Stream, System, Violations, Window},
    },
};

use super::{
    database::{Database, FILE, Failure},
    offering::{Said, Stamp},
    *,
};

mod any_order;
mod day;
mod lost;
mod thread;

const STAMP: Stamp = Stamp { at_ms: 1_800_000_000_000, generation: Generation(3) };
const BUDGET: u64 = 1 << 30;

fn version() -> ModelVersion {
    "vision/digits@1.0.0".parse().unwrap()
}

fn window(number: u64, rows: u64) -> Window {
    let ModelVersion { name, version } = version();
    let feature = report::v1::Numeric { cells: vec![rows; 1], n: rows, s1: rows as f64, ..Default::default() };
    Window {
        number,
        model: name,
        version,
        contract: Digest::of(b"contract"),
        boot: 1,
        start_ms: STAMP.at_ms + number as i64 * 60_000,
        end_ms: STAMP.at_ms + number as i64 * 60_000 + 60_000,
        clock: Clock::Trusted,
        inferences: rows,
        rows,
        errors: vec![],
        violations: Violations::default(),
        latency: vec![],
        features: vec![report::v1::Feature::Numeric(feature)],
        outputs: vec![],
        confidence: vec![rows],
        feedback: vec![Feedback::default()],
        system: System { cpu_ms: 5, ..System::default() },
    }
}

fn counted(rows: u64) -> std::collections::BTreeMap<ModelVersion, Counts> {
    [(version(), Counts { rows, ..Counts::default() })].into()
}

fn closed(number: u64, rows: u64) -> Batch {
    Batch {
        counts: counted(rows),
        closed: vec![window(number, rows)],
        open: [(version(), None)].into(),
        ..Batch::default()
    }
}

fn still_open(number: u64, rows: u64, fresh: u64) -> Batch {
    Batch { counts: counted(fresh), open: [(version(), Some(window(number, rows)))].into(), ..Batch::default() }
}

fn event(cause: &str) -> Batch {
    let kind = EventKind::WorkerRestarted { cause: cause.into() };
    Batch { events: vec![Event { at_ms: 7, generation: Generation(3), kind }], ..Batch::default() }
}

fn open(folder: &Path, boots: Boots) -> Database {
    opening::open(folder, boots, None, STAMP).unwrap()
}

fn first(folder: &Path) -> Database {
    open(folder, Boots::default())
}

/// Everything that a copy of the folder would come up with after a power cut: the journal included.
fn cut(folder: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{FILE}{suffix}");
        if folder.join(&name).exists() {
            fs::copy(folder.join(&name), left.path().join(&name)).unwrap();
        }
    }
    left
}

fn items(database: &Database) -> Vec<Item> {
    let sql = "SELECT bytes, seal FROM waiting UNION ALL SELECT bytes, seal FROM offered UNION ALL SELECT bytes, seal FROM open";
    let mut statement = database.connection.prepare(sql).unwrap();
    let found = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    found.map(|row| row.map(|(bytes, seal)| rows::decode(&bytes, &seal).unwrap()).unwrap()).collect()
}

fn windows(database: &Database) -> Vec<Window> {
    let windows = items(database).into_iter().filter_map(|item| match item {
        Item::Window(window) => Some(*window),
        _ => None,
    });
    windows.collect()
}

fn agrees(database: &Database) -> u64 {
    let rows: u64 = windows(database).iter().map(|w| w.rows).sum();
    let total = database.totals().unwrap().get(&version()).map_or(0, |counts| counts.rows);
    assert_eq!(total, rows, "a row counts once it is recorded");
    rows
}

fn sequences(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.sequence).collect()
}

fn new_streams(database: &Database) -> usize {
    let is_new = |item: &Item| matches!(item, Item::Event(Event { kind: EventKind::NewStream { .. }, .. }));
    items(database).iter().filter(|item| is_new(item)).count()
}

#[test]
fn power_cut_at_every_durable_step_loses_nothing_that_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let stream = database.meta.stream;
    let steps: [&dyn Fn(&mut Database); 7] = [
        &|d| d.record(&still_open(1, 5, 5), None).unwrap(),
        &|d| d.record(&still_open(1, 9, 4), None).unwrap(),
        &|d| d.record(&closed(1, 1), None).unwrap_or(()),
        &|d| d.record(&still_open(2, 3, 3), None).unwrap(),
        &|d| assert_eq!(d.offer().unwrap(), 1),
        &|d| assert_eq!(d.watermark(d.meta.stream, 1, STAMP).unwrap(), Said::Covered),
        &|d| d.record(&event("x"), None).unwrap(),
    ];
    // The third step closes window 1 with 10 rows, one of them new.
    let close = Batch { counts: counted(1), ..closed(1, 10) };
    let (mut rows, mut given) = (Vec::new(), Vec::new());
    for (n, step) in steps.iter().enumerate() {
        if n == 2 {
            database.record(&close, None).unwrap()
        } else {
            step(&mut database)
        };
        rows.push(agrees(&database));
        given.push((database.meta.sequence, database.meta.watermark));
        let left = cut(folder.path());
        let after = open(left.path(), Boots { started: 1, opened: 1 });
        assert_eq!((agrees(&after), after.meta.stream, after.meta.boot), (rows[n], stream, 2), "step {n}");
        assert_eq!((after.meta.sequence, after.meta.watermark), given[n], "step {n}");
        let open: i64 = after.connection.query_row("SELECT count(*) FROM open", [], |row| row.get(0)).unwrap();
        assert_eq!(open, 0, "what was open is closed");
    }
    assert_eq!(rows, [5, 9, 10, 13, 13, 13, 13]);
    assert_eq!(given.last(), Some(&(1, 1)));
}

#[test]
fn a_journal_that_is_cut_anywhere_leaves_a_whole_outbox_that_agrees_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    for number in 1..6 {
        database.record(&still_open(number, number, number), None).unwrap();
        database.record(&Batch { counts: counted(0), ..closed(number, number) }, None).unwrap();
        database.offer().unwrap();
    }
    let wal = folder.path().join(format!("{FILE}-wal"));
    let length = fs::metadata(&wal).unwrap().len();
    let (mut before, mut seen) = (0, std::collections::BTreeSet::new());
    for cut_at in (0..=length).step_by(1021) {
        let left = cut(folder.path());
        let path = left.path().join(format!("{FILE}-wal"));
        fs::File::options().write(true).open(&path).unwrap().set_len(cut_at).unwrap();
        let after = opening::open(left.path(), Boots::default(), None, STAMP).unwrap();
        let rows = agrees(&after);
        assert!(rows >= before, "more of the journal holds no less");
        let offered = after.published(0, STAMP).unwrap();
        assert_eq!(offered.len() as u64, after.meta.sequence, "no hole");
        assert!(offered.iter().all(|row| matches!(row.item, Item::Window(_))), "and nothing stands in for a row");
        before = rows;
        seen.insert(rows);
    }
    assert!(seen.len() > 4 && before == 15, "{seen:?}");
}

#[test]
fn a_row_gets_its_sequence_once_events_first_and_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    database.record(&closed(1, 10), None).unwrap();
    database.record(&event("boom"), None).unwrap();
    assert_eq!(database.published(0, STAMP).unwrap(), []);
    assert_eq!((database.offer().unwrap(), database.offer().unwrap()), (2, 0));
    let offered = database.published(0, STAMP).unwrap();
    assert_eq!(sequences(&offered), [1, 2]);
    assert!(matches!(offered[0].item, Item::Event(_)), "events overtake windows");
    database.record(&closed(2, 20), None).unwrap();
    database.offer().unwrap();
    drop(database);
    let database = open(folder.path(), Boots { started: 1, opened: 1 });
    let after = database.published(0, STAMP).unwrap();
    assert_eq!((&after[..2], sequences(&after)), (&offered[..], vec![1, 2, 3]));
    assert_eq!(sequences(&database.published(2, STAMP).unwrap()), [3]);
}

#[test]
fn reports_are_bounded_and_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let mut batch =
        Batch { closed: (1..=1000).map(|n| window(n, 1)).collect(), counts: counted(1000), ..Batch::default() };
    // One of two megabytes gives up its sums; one of half a megabyte has a report of its own.
    let wide =
        |cells| report::v1::Numeric { cells: vec![1 << 40; cells], n: (cells as u64) << 40, ..Default::default() };
    let features = |n| vec![report::v1::Feature::Numeric(wide(1000)); n];
    batch.closed[500] = Window { features: features(400), ..window(501, 1) };
    batch.closed[600] = Window { features: features(90), ..window(601, 1) };
    database.record(&batch, None).unwrap();
    let (mut cursor, mut rows, mut longest) = (0, 0, 0);
    while database.offer().unwrap() > 0 {
        let report = database.published(cursor, STAMP).unwrap();
        cursor = report.last().unwrap().sequence;
        rows += report.len();
        let payload = rows::payload(database.meta.stream, report.clone()).unwrap();
        longest = longest.max(payload.len());
        assert_eq!(report::decode(&payload).unwrap().rows, report);
    }
    assert_eq!((rows, agrees(&database)), (1000, 1000));
    assert!(longest <= report::MAX_BYTES);
    let bare: Vec<_> = windows(&database).into_iter().filter(|w| w.features.is_empty()).map(|w| w.number).collect();
    assert_eq!(bare, [501]);
}

#[test]
fn the_watermark_covers_rewinds_and_is_ignored_where_it_is_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    for number in 1..=4 {
        database.record(&closed(number, 1), None).unwrap();
    }
    database.offer().unwrap();
    let stream = database.meta.stream;
    assert_eq!(database.watermark(Stream([9; 16]), 4, STAMP).unwrap(), Said::Foreign);
    assert_eq!(database.meta.watermark, 0);
    assert_eq!(database.watermark(stream, 3, STAMP).unwrap(), Said::Covered);
    assert_eq!(database.watermark(stream, 3, STAMP).unwrap(), Said::Covered);
    // The server was restored from a backup of this week.
    assert_eq!(database.watermark(stream, 1, STAMP).unwrap(), Said::Rewound);
    assert_eq!(sequences(&database.published(database.meta.watermark, STAMP).unwrap()), [2, 3, 4]);
    assert_eq!(database.meta.stream, stream);
    assert_eq!(database.watermark(stream, 4, STAMP).unwrap(), Said::Covered);
    // Kept seven days, and no longer.
    database.forget_covered(STAMP.at_ms).unwrap();
    assert_eq!(sequences(&database.published(0, STAMP).unwrap()), [1, 2, 3, 4]);
    database.forget_covered(STAMP.at_ms + 1).unwrap();
    assert!(items(&database).is_empty());
}

#[test]
fn counts_that_nobody_reached_by_counting_stop_at_their_most_and_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let lie = Batch { counts: counted(u64::MAX), ..Batch::default() };
    for _ in 0..3 {
        database.record(&lie, None).unwrap();
    }
    assert_eq!(database.totals().unwrap()[&version()].rows, i64::MAX as u64);
}

#[test]
fn a_window_that_no_reader_would_take_gives_up_its_sums_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    // Sums that stopped at their most do not add up any more.
    let cells = vec![u64::MAX; 2];
    let numeric = report::v1::Numeric { n: u64::MAX, cells, ..Default::default() };
    let odd = Window { features: vec![report::v1::Feature::Numeric(numeric)], ..window(1, 7) };
    database.record(&Batch { counts: counted(7), closed: vec![odd], ..Batch::default() }, None).unwrap();
    assert_eq!(agrees(&database), 7);
    assert!(windows(&database)[0].features.is_empty());
}

#[test]
fn labels_that_come_in_drops_wait_as_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let labels =
        |n, errors| Batch { corrections: [((version(), 7, 1), Feedback { n, errors })].into(), ..Batch::default() };
    for _ in 0..50 {
        database.record(&labels(2, 1), None).unwrap();
    }
    let found = items(&database);
    let [Item::Correction(correction)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((correction.window, correction.bin, correction.n, correction.errors), (7, 1, 100, 50));
    database.offer().unwrap();
    database.record(&labels(1, 0), None).unwrap();
    assert_eq!(items(&database).len(), 2, "an offered row never changes");
}

#[test]
fn a_small_budget_merges_windows_and_drops_only_what_the_server_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let budget = 400 << 10;
    let wide = |number| {
        let cells = vec![3; 700];
        let numeric = report::v1::Numeric { n: 2100, cells, ..Default::default() };
        Window { features: vec![report::v1::Feature::Numeric(numeric); 8], ..window(number, 2) }
    };
    let record = |database: &mut Database, number: u64| {
        let batch = Batch { counts: counted(2), closed: vec![wide(number)], ..Batch::default() };
        database.keep_within(budget).and_then(|()| database.record(&batch, None))
    };
    record(&mut database, 1).unwrap();
    database.offer().unwrap();
    database.watermark(database.meta.stream, 1, STAMP).unwrap();
    let labels = Batch { corrections: [((version(), 3, 0), Feedback { n: 4, errors: 1 })].into(), ..Batch::default() };
    database.record(&labels, None).unwrap();
    database.record(&event("kept"), None).unwrap();
    for number in 2..=1000 {
        record(&mut database, number).unwrap();
        assert!(database.bytes().unwrap() <= budget + (64 << 10), "one batch above, at most");
    }
    let kept = windows(&database);
    assert_eq!((kept.iter().map(|w| w.rows).sum::<u64>(), kept.len() < 60), (2 * 999, true));
    assert!(kept.iter().all(|w| w.number > 1), "what is covered went first");
    assert_eq!(kept.iter().flat_map(|w| &w.feedback).map(|f| (f.n, f.errors)).max(), Some((4, 1)), "labels went along");
    assert!(items(&database).iter().any(|item| matches!(item, Item::Event(_))), "events are never merged");
    assert!(kept.iter().any(|w| w.end_ms - w.start_ms > 30 * 60_000), "into hours");
}

#[test]
fn an_outbox_full_of_offered_rows_refuses_and_takes_again_once_they_are_covered() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    let budget = 100 << 10;
    let mut number = 0;
    let refused = loop {
        number += 1;
        if let Err(failure) = database.keep_within(budget) {
            break failure;
        }
        database.record(&closed(number, 1), None).unwrap();
        database.offer().unwrap();
        assert!(number < 10_000);
    };
    assert!(matches!(refused, Failure::Full), "{refused}");
    database.watermark(database.meta.stream, database.meta.sequence, STAMP).unwrap();
    database.keep_within(budget).unwrap();
    assert!(database.bytes().unwrap() <= budget);
}

fn options(folder: &Path) -> Options {
    let clock = DeviceClock::new(Timestamp::from_second(1_700_000_000).unwrap());
    let (budget, boots, generation) = (BUDGET, Boots::default(), Generation(3));
    Options { folder: folder.into(), budget, boots, clock, generation, patience: PATIENCE }
}
