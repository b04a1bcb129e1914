//! Rows count once whatever comes when; figures, telemetry and quarantine against a real file.

use tern_protocol::report::v1::{Correction, Feedback, Item, Window};

use super::*;
use crate::{
    events::EventKind,
    ingest::{ledger::MAX_AHEAD, samples::window},
    store::{Around, FiguresQuery},
};

const STREAM: Stream = Stream([1; 16]);

struct Scratch {
    store: Store,
    folder: tempfile::TempDir,
}

fn scratch() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    Scratch { store, folder }
}

/// The version of the samples and the next were demanded of these devices once.
async fn demanded(store: &Store, devices: &'static [&str]) {
    let note = |connection: &Connection| {
        let sql = "INSERT INTO demanded (device, team, model_id, version)
                   VALUES (?1, 'demo', 'm', '1.0.0'), (?1, 'demo', 'm', '2.0.0')";
        devices.iter().try_for_each(|device| connection.execute(sql, [device]).map(drop)).map_err(StoreError::from)
    };
    store.write(note).await.unwrap();
}

async fn world() -> Scratch {
    let scratch = scratch();
    demanded(&scratch.store, &["cam-1", "cam-2"]).await;
    scratch
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn later(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

fn device() -> DeviceId {
    "cam-1".parse().unwrap()
}

/// The window of ten rows with this number, as that row.
fn row(sequence: u64) -> NewRow {
    let window = Box::new(Window { confidence: vec![4, 6], ..window(sequence, 10) });
    let entry = Box::new(Entry::from(&*window));
    let bytes = postcard::to_stdvec(&Item::Window(window)).unwrap();
    NewRow { sequence, content: Content::Counted { entry, bytes } }
}

fn late(sequence: u64, of: u64, bin: u32) -> NewRow {
    let window = window(of, 0);
    let correction = Correction { model: window.model, version: window.version, window: of, bin, n: 3, errors: 1 };
    let entry = Box::new(Entry::from(&correction));
    let bytes = postcard::to_stdvec(&Item::Correction(correction)).unwrap();
    NewRow { sequence, content: Content::Counted { entry, bytes } }
}

fn poisoned(sequence: u64, bytes: Vec<u8>) -> NewRow {
    let content = Content::Poisoned { poison: Poison::RowShape, words: "odd".into(), bytes };
    NewRow { sequence, content }
}

async fn send(store: &Store, stream: Stream, rows: Vec<NewRow>) -> Committed {
    store.commit_report(Batch { device: device(), stream, rows }, now()).await.unwrap().unwrap()
}

async fn tally(store: &Store) -> Tally {
    let all = FiguresQuery { limit: 9, ..FiguresQuery::default() };
    let mut figures = store.figures(all).await.unwrap();
    assert_eq!(figures.len(), 1);
    figures.remove(0).tally
}

#[tokio::test]
async fn duplicated_and_reordered_rows_count_once() {
    let Scratch { store, folder: _folder } = world().await;
    let first = send(&store, STREAM, vec![row(3), row(4)]).await;
    assert_eq!((first.watermark, first.began, first.new, first.known), (0, true, 2, 0));
    let again = send(&store, STREAM, vec![row(1), row(3), row(4), row(6)]).await;
    assert_eq!((again.watermark, again.began, again.new, again.known), (1, false, 2, 2));
    let closed = send(&store, STREAM, vec![row(2), row(5)]).await;
    assert_eq!((closed.watermark, closed.new), (6, 2));
    assert_eq!((tally(&store).await.rows, tally(&store).await.windows), (60, 6));
    // Another life of the outbox counts from one again.
    assert_eq!(send(&store, Stream([2; 16]), vec![row(1)]).await.new, 1);
    assert_eq!(tally(&store).await.rows, 70);
}

#[tokio::test]
async fn rows_stay_known_when_their_telemetry_is_gone() {
    let Scratch { store, folder } = world().await;
    send(&store, STREAM, (1..=30).map(row).collect()).await;
    assert_eq!(store.forget_telemetry(now(), 10).await.unwrap(), 0, "not old enough");
    assert_eq!(store.forget_telemetry(later(1), 10).await.unwrap(), 10);
    assert_eq!(store.telemetry_after(0, 99).await.unwrap()[0].1.id, 11, "the oldest go");
    while store.forget_telemetry(later(1), 10).await.unwrap() > 0 {}
    assert!(store.telemetry_after(0, 99).await.unwrap().is_empty());
    store.close().await;
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    let again = send(&store, STREAM, (1..=30).map(row).collect()).await;
    assert_eq!((again.new, again.known, again.watermark), (0, 30, 30));
    assert_eq!(tally(&store).await.rows, 300, "figures stay");
    send(&store, STREAM, vec![row(31)]).await;
    assert_eq!(store.telemetry_after(0, 99).await.unwrap()[0].1.id, 31, "numbers are never given twice");
}

#[tokio::test]
async fn a_refused_batch_changes_nothing() {
    let Scratch { store, folder: _folder } = world().await;
    send(&store, STREAM, vec![row(1)]).await;
    let far = Batch { device: device(), stream: STREAM, rows: vec![row(2), row(2 + MAX_AHEAD)] };
    let refused = store.commit_report(far, now()).await.unwrap();
    assert!(matches!(refused, Err(BatchRefusal::Ledger(LedgerRefusal::TooFar { .. }))), "{refused:?}");
    assert_eq!((tally(&store).await.rows, send(&store, STREAM, vec![row(2)]).await.new), (10, 1));
}

#[tokio::test]
async fn a_device_begins_so_many_streams_and_silent_ones_give_way() {
    let Scratch { store, folder: _folder } = world().await;
    let of = |number: i64| Stream((number as u128).to_be_bytes());
    for number in 0..MAX_STREAMS {
        send(&store, of(number), vec![row(1)]).await;
    }
    let begin = |hours| Batch { device: device(), stream: of(MAX_STREAMS + hours), rows: vec![row(1)] };
    let refused = store.commit_report(begin(0), later(29 * 24)).await.unwrap();
    assert_eq!(refused.unwrap_err(), BatchRefusal::TooManyStreams);
    let known = Batch { device: device(), stream: of(7), rows: vec![row(1)] };
    assert_eq!(store.commit_report(known, later(29 * 24)).await.unwrap().unwrap().known, 1);
    assert!(store.commit_report(begin(1), later(31 * 24)).await.unwrap().unwrap().began);
    assert_eq!(send(&store, of(7), vec![row(1)]).await.known, 1, "it was not silent");
}

#[tokio::test]
async fn late_labels_reach_figures_and_their_window() {
    let Scratch { store, folder: _folder } = world().await;
    send(&store, STREAM, vec![row(1), row(2), late(3, 1, 1), late(4, 9, 0)]).await;
    assert_eq!((tally(&store).await.labels, tally(&store).await.label_errors), (6, 2));
    assert_eq!(tally(&store).await.confidence, [8, 12]);
    let items = store.telemetry_after(0, 9).await.unwrap();
    assert_eq!(items.len(), 4);
    assert!(matches!(&items[2].1.item, Item::Correction(late) if late.window == 1));
    let windows = |after, limit| store.windows(device(), "demo/m".parse().unwrap(), after, limit);
    let feedback = |item: &crate::store::Telemetry| match &item.item {
        Item::Window(window) => window.feedback.clone(),
        _ => panic!("windows only"),
    };
    let both = windows(None, 9).await.unwrap();
    assert_eq!(both.iter().map(|item| item.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(feedback(&both[0]), [Feedback::default(), Feedback { n: 3, errors: 1 }]);
    assert_eq!(feedback(&both[1]), []);
    assert_eq!(windows(None, 1).await.unwrap()[0].id, 2, "the newest");
    assert_eq!(windows(Some(0), 1).await.unwrap()[0].id, 1, "from there on");
    assert_eq!(windows(Some(2), 9).await.unwrap(), []);
}

#[tokio::test]
async fn windows_around_a_span_are_of_its_version_and_few_before_and_after() {
    let Scratch { store, folder: _folder } = world().await;
    let of = |sequence, version: &str| {
        let window =
            Box::new(Window { version: version.parse().unwrap(), confidence: vec![4, 6], ..window(sequence, 10) });
        let entry = Box::new(Entry::from(&*window));
        let bytes = postcard::to_stdvec(&Item::Window(window)).unwrap();
        NewRow { sequence, content: Content::Counted { entry, bytes } }
    };
    for hour in 1..=12 {
        let rows = vec![of(2 * hour, "1.0.0"), of(2 * hour + 1, "2.0.0")];
        let at = later(i64::try_from(hour).unwrap());
        store.commit_report(Batch { device: device(), stream: STREAM, rows }, at).await.unwrap().unwrap();
    }
    store
        .commit_report(Batch { device: device(), stream: STREAM, rows: vec![late(26, 8, 0)] }, later(13))
        .await
        .unwrap()
        .unwrap();
    let hours = async |until, within, beside| {
        let span = Around { since: later(5), until, within, beside };
        let version = "demo/m@1.0.0".parse().unwrap();
        let found = store.windows_around(device(), version, span).await.unwrap();
        let of_one = |item: &Item| matches!(item, Item::Window(window) if window.version == "1.0.0".parse().unwrap());
        assert!(found.iter().all(|telemetry| of_one(&telemetry.item)), "no other version");
        found.iter().map(|item| (item.received - millis(now())) / 3_600_000).collect::<Vec<_>>()
    };
    assert_eq!(hours(Some(later(7)), 9, 2).await, [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(hours(None, 9, 1).await, [4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(hours(None, 2, 1).await, [4, 11, 12], "of a long one the newest");
    let span = Around { since: later(4), until: Some(later(4)), within: 1, beside: 0 };
    let found = store.windows_around(device(), "demo/m@1.0.0".parse().unwrap(), span).await.unwrap();
    let Item::Window(window) = &found[0].item else { panic!("a window") };
    assert_eq!(window.feedback, [Feedback { n: 3, errors: 1 }, Feedback::default()], "late labels are in it");
}

#[tokio::test]
async fn a_poisoned_row_is_committed_and_kept_apart() {
    let Scratch { store, folder: _folder } = world().await;
    let taken = send(&store, STREAM, vec![row(1), poisoned(2, vec![7]), row(3)]).await;
    assert_eq!((taken.watermark, taken.new), (3, 3));
    assert_eq!(taken.quarantined, [(Poison::RowShape, "odd".to_owned())]);
    assert_eq!(tally(&store).await.rows, 20);
    let kept = store.quarantined(0, 9).await.unwrap();
    assert_eq!((kept.len(), kept[0].code.as_str(), kept[0].sequence), (1, "row-shape", Some(2)));
    assert_eq!((kept[0].stream.clone(), kept[0].bytes), (Some("01".repeat(16)), 1));
    assert!(send(&store, STREAM, vec![poisoned(2, vec![7])]).await.quarantined.is_empty(), "it is known");
}

#[tokio::test]
async fn what_was_never_demanded_of_a_device_does_not_count_and_holds_nothing_back() {
    let Scratch { store, folder: _folder } = scratch();
    let taken = send(&store, STREAM, vec![row(1), late(2, 1, 0), row(3)]).await;
    assert_eq!((taken.watermark, taken.new), (3, 3));
    assert_eq!(taken.quarantined.iter().map(|(poison, _)| *poison).collect::<Vec<_>>(), [Poison::RowDemand; 3]);
    assert!(store.telemetry_after(0, 9).await.unwrap().is_empty());
    assert!(store.figures(FiguresQuery { limit: 9, ..FiguresQuery::default() }).await.unwrap().is_empty());
    assert_eq!(store.quarantined(0, 9).await.unwrap().len(), 3);
    // Of another device it says nothing.
    demanded(&store, &["cam-2"]).await;
    assert_eq!(send(&store, STREAM, vec![row(4)]).await.quarantined.len(), 1);
    demanded(&store, &["cam-1"]).await;
    assert!(send(&store, STREAM, vec![row(5), late(6, 1, 0)]).await.quarantined.is_empty());
    assert_eq!((tally(&store).await.windows, tally(&store).await.labels), (1, 3));
}

#[tokio::test]
async fn what_a_report_costs_is_no_less_than_what_the_database_grows_by() {
    let Scratch { store, folder } = world().await;
    let told = |sequence| {
        let event = NewEvent::new(EventKind::WorkerRestarted, "signal 9".repeat(9)).of_device(&device());
        NewRow { sequence, content: Content::Told(Box::new(event)) }
    };
    let reports: Vec<Vec<NewRow>> = vec![
        (1..=4096).map(|sequence| late(sequence, 1, 0)).collect(),
        (4097..=8192).map(row).collect(),
        (8193..=12288).map(told).collect(),
    ];
    let pages = || {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        store.read(|connection| Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?))
    };
    for rows in reports {
        let before = pages().await.unwrap();
        let cost = send(&store, STREAM, rows).await.cost;
        let grown = usize::try_from(pages().await.unwrap() - before).unwrap();
        assert!(grown <= cost.bytes && cost.bytes < 4 * grown, "{grown} bytes cost {}", cost.bytes);
    }
    let again = send(&store, STREAM, (1..=4096).map(row).collect()).await;
    assert_eq!((again.known, again.cost), (4096, Cost { bytes: ROW_BYTES, events: 0 }));
    drop(folder);
}

#[tokio::test]
async fn quarantine_is_bounded_by_entries_and_bytes_and_counts_repetitions() {
    let Scratch { store, folder: _folder } = world().await;
    let report =
        |bytes: Vec<u8>| Quarantined { poison: Poison::ReportMalformed, words: "x".into(), place: None, bytes };
    for byte in 0..70u8 {
        store.quarantine(device(), report(vec![byte]), now()).await.unwrap();
    }
    store.quarantine(device(), report(vec![69]), later(1)).await.unwrap();
    let kept = store.quarantined(0, 100).await.unwrap();
    assert_eq!((kept.len(), kept[0].id), (64, 7), "the oldest went");
    assert_eq!((kept[63].times, kept[63].received), (2, later(1)));
    for byte in 0..40 {
        store.quarantine(device(), report(vec![byte; 1 << 20]), now()).await.unwrap();
    }
    let kept = store.quarantined(0, 100).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.bytes).collect::<Vec<_>>(), [1 << 20; 32], "the first 64 KiB of each");
    let other = Quarantined { words: "other".into(), ..report(vec![1]) };
    store.quarantine("cam-2".parse().unwrap(), other, now()).await.unwrap();
    assert_eq!(store.quarantined(0, 100).await.unwrap().len(), 33, "bounds are each device's own");
}

#[tokio::test]
async fn a_flood_of_odd_rows_is_not_written_to_be_deleted_at_once() {
    let Scratch { store, folder } = world().await;
    let odd = |sequence: u64| {
        let bytes = [&sequence.to_be_bytes()[..], &[7; 4000]].concat();
        let content = Content::Poisoned { poison: Poison::RowShape, words: "odd".into(), bytes };
        NewRow { sequence, content }
    };
    let taken = send(&store, STREAM, (1..=4096).map(odd).collect()).await;
    assert_eq!((taken.watermark, taken.quarantined.len()), (4096, 4096), "all are committed and counted");
    let kept = store.quarantined(0, 100).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.sequence).collect::<Vec<_>>(), (4033..=4096).map(Some).collect::<Vec<_>>());
    let written: u64 = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(written < 4 << 20, "{written} bytes for 16 MiB of nonsense");
}

#[tokio::test]
async fn an_event_of_a_row_is_recorded_once() {
    let Scratch { store, folder: _folder } = world().await;
    let told = || {
        let event = NewEvent::new(EventKind::WorkerRestarted, "signal 9").of_device(&device());
        NewRow { sequence: 1, content: Content::Told(Box::new(event)) }
    };
    send(&store, STREAM, vec![told()]).await;
    send(&store, STREAM, vec![told(), NewRow { sequence: 2, content: Content::Silent }]).await;
    let events = store.newest_events(9).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["worker-restarted"]);
}

#[tokio::test]
async fn figures_come_page_by_page_and_by_model_and_device() {
    let Scratch { store, folder: _folder } = world().await;
    for name in ["cam-1", "cam-2"] {
        let batch = Batch { device: name.parse().unwrap(), stream: STREAM, rows: vec![row(1)] };
        store.commit_report(batch, now()).await.unwrap().unwrap();
    }
    let names = async |query: FiguresQuery| {
        let figures = store.figures(query).await.unwrap();
        figures.into_iter().map(|row| format!("{} {}", row.device, row.model)).collect::<Vec<_>>()
    };
    let page = |after: &str, limit| FiguresQuery { after: after.into(), limit, ..FiguresQuery::default() };
    assert_eq!(names(page("", 1)).await, ["cam-1 demo/m@1.0.0"]);
    assert_eq!(names(page("cam-1 demo/m@1.0.0", 9)).await, ["cam-2 demo/m@1.0.0"]);
    let of = |model: &str| FiguresQuery { model: Some(model.parse().unwrap()), ..page("", 9) };
    assert_eq!((names(of("demo/m")).await.len(), names(of("demo/n")).await.len()), (2, 0));
    let of = FiguresQuery { device: Some(device()), ..page("", 9) };
    assert_eq!(names(of).await, ["cam-1 demo/m@1.0.0"]);
}

#[tokio::test]
async fn a_damaged_stream_is_said_and_not_guessed() {
    let Scratch { store, folder: _folder } = world().await;
    send(&store, STREAM, vec![row(1)]).await;
    let spoil = |connection: &Connection| Ok(connection.execute("UPDATE streams SET ahead = '[[1,5]]'", [])?);
    store.write(spoil).await.unwrap();
    let batch = Batch { device: device(), stream: STREAM, rows: vec![row(2)] };
    assert!(matches!(store.commit_report(batch, now()).await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn what_the_detector_is_behind_is_known_from_the_ends_of_the_table() {
    let Scratch { store, folder: _folder } = world().await;
    let behind = async |cursor| store.detector_rows(cursor, 2).await.unwrap().1;
    assert_eq!((behind(0).await, behind(7).await), (0, 0), "nothing is there");
    send(&store, STREAM, (1..=9).map(row).collect()).await;
    assert_eq!((behind(0).await, behind(7).await, behind(9).await), (9, 2, 0));
    store.forget_telemetry(later(1), 4).await.unwrap();
    assert_eq!((behind(0).await, behind(7).await), (5, 2), "what was deleted will never be read");
}
