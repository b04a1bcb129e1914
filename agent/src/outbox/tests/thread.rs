//! The outbox as a whole: its thread, sessions, and a disk that comes and goes.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Waits until the page says so.
fn until(outbox: &Outbox, holds: impl Fn(&OutboxPage) -> bool) -> OutboxPage {
    let deadline = crate::clock::Moment::now().after(Duration::from_secs(30));
    loop {
        let page = outbox.page();
        if holds(&page) {
            return page;
        }
        assert!(!deadline.remaining().is_zero(), "waited in vain: {page:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn decoded(ready: &Ready) -> report::v1::Report {
    report::decode(&ready.payload).unwrap()
}

async fn next(outbox: &Outbox) -> Ready {
    tokio::time::timeout(Duration::from_secs(30), outbox.next()).await.unwrap().unwrap()
}

fn told(outbox: &Outbox, report: &report::v1::Report) {
    let sequence = report.rows.last().unwrap().sequence;
    outbox.watermark(Watermark { stream: report.stream, sequence, reads: 1 });
}

#[tokio::test]
async fn nothing_goes_out_before_it_is_due_and_each_session_begins_at_the_watermark() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, opened, thread) = Outbox::open(options(folder.path())).unwrap();
    assert_eq!((opened.boot, opened.is_open), (1, true));
    outbox.session(1);
    outbox.record(Some(closed(1, 5)), false, Generation(3));
    until(&outbox, |page| page.waiting == 1);
    let wanted = outbox.next();
    tokio::pin!(wanted);
    tokio::select! {
        biased;
        _ = &mut wanted => panic!("not due"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(outbox.page().sequence, 0, "and not offered: it may still be merged");
    outbox.record(None, true, Generation(3));
    let first = tokio::time::timeout(Duration::from_secs(30), wanted).await.unwrap().unwrap();
    assert_eq!((first.session, sequences(&decoded(&first).rows)), (1, vec![1]));
    outbox.record(Some(closed(2, 6)), true, Generation(3));
    let second = next(&outbox).await;
    assert_eq!(sequences(&decoded(&second).rows), [2], "in order, and once in a session");
    // Acknowledged by a broker that then died, and a session that is lost: all of it again, as it was.
    outbox.session(2);
    let again = next(&outbox).await;
    assert_eq!((again.session, sequences(&decoded(&again).rows)), (2, vec![1, 2]));
    assert_eq!(decoded(&again).rows[0], decoded(&first).rows[0]);
    told(&outbox, &decoded(&first));
    let page = until(&outbox, |page| page.watermark == 1);
    assert_eq!((page.offered, page.counted[&version()].rows), (1, 11));
    outbox.session(3);
    assert_eq!(sequences(&decoded(&next(&outbox).await).rows), [2]);
    outbox.stop();
    thread.join().unwrap();
    let (_, opened, _thread) = Outbox::open(options(folder.path())).unwrap();
    assert_eq!((opened.boot, opened.totals[&version()].rows), (2, 11));
}

#[tokio::test]
async fn the_link_is_fed_as_it_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _, _thread) = Outbox::open(options(folder.path())).unwrap();
    let (room, mut link) = mpsc::channel(1);
    let feeder = tokio::spawn(outbox.clone().feed(room));
    outbox.session(1);
    for number in 1..=3 {
        outbox.record(Some(closed(number, 1)), true, Generation(3));
        let ready = tokio::time::timeout(Duration::from_secs(30), link.recv()).await.unwrap().unwrap();
        assert_eq!(sequences(&decoded(&ready).rows), [number]);
    }
    drop(link);
    tokio::time::timeout(Duration::from_secs(30), feeder).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_used_costs_nothing_that_memory_holds() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    // A file where the folder should be: no outbox can be made, whoever runs the test.
    fs::write(&place, b"").unwrap();
    let (outbox, opened, thread) = Outbox::open(options(&place)).unwrap();
    assert!(!opened.is_open && outbox.page().fault.is_some());
    outbox.session(1);
    outbox.record(Some(closed(1, 5)), true, Generation(3));
    outbox.record(Some(still_open(2, 3, 3)), true, Generation(3));
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
    // Whoever leaves does not wait for the pause after a refusal.
    outbox.stop();
    thread.join().unwrap();
    assert_eq!(outbox.page().counted[&version()].rows, 8);
    let database = Database::open(&place).unwrap().unwrap();
    assert_eq!(agrees(&database), 8);
}

#[test]
fn damage_under_the_running_agent_begins_a_new_outbox_and_counting_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _, thread) = Outbox::open(options(folder.path())).unwrap();
    outbox.record(Some(closed(1, 5)), false, Generation(3));
    let before = until(&outbox, |page| page.waiting == 1);
    let connection = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    connection.execute_batch("DROP TABLE waiting").unwrap();
    drop(connection);
    outbox.record(Some(closed(2, 6)), false, Generation(3));
    until(&outbox, |page| page.fault.is_some());
    outbox.stop();
    thread.join().unwrap();
    let page = outbox.page();
    assert_eq!((page.fault, page.counted[&version()].rows), (None, 11));
    assert_ne!(page.stream, before.stream);
    let database = Database::open(folder.path()).unwrap().unwrap();
    assert_eq!((windows(&database).len(), new_streams(&database)), (1, 1));
}

#[tokio::test]
async fn what_somebody_acknowledged_and_lost_is_published_again_within_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { patience: Duration::ZERO, ..options(folder.path()) };
    let (outbox, _, _thread) = Outbox::open(options).unwrap();
    outbox.session(1);
    outbox.record(Some(closed(1, 5)), true, Generation(3));
    let first = next(&outbox).await;
    assert_eq!(next(&outbox).await, first);
    told(&outbox, &decoded(&first));
    until(&outbox, |page| page.watermark == 1);
    let many = Batch { closed: (2..=101).map(|n| window(n, 1)).collect(), counts: counted(100), ..Batch::default() };
    outbox.record(Some(many), true, Generation(3));
    for rows in [100, 64, 16, 4, 1, 1] {
        let report = decoded(&next(&outbox).await);
        assert_eq!(
            (report.rows[0].sequence, report.rows.len()),
            (2, rows),
            "what is covered is not, and fewer each time"
        );
    }
}

#[tokio::test]
async fn a_bug_is_seen_and_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _, thread) = Outbox::open(options(folder.path())).unwrap();
    outbox.session(1);
    outbox.record(Some(closed(1, 5)), false, Generation(3));
    until(&outbox, |page| page.waiting == 1);
    outbox.tell(|inbox| inbox.trap = true);
    let page = until(&outbox, |page| page.fault.is_some());
    assert!(page.fault.unwrap().contains("bug"));
    outbox.record(Some(closed(2, 6)), true, Generation(3));
    outbox.stop();
    thread.join().unwrap();
    let page = outbox.page();
    assert_eq!((page.fault, page.counted[&version()].rows, page.waiting + page.offered), (None, 11, 2));
}

#[tokio::test]
async fn a_server_that_covers_nothing_is_offered_no_more_than_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _, thread) = Outbox::open(options(folder.path())).unwrap();
    outbox.session(1);
    let most = crate::link::WINDOW as u64 * 256;
    let rows = most + 600;
    for first in (1..=rows).step_by(100) {
        let closed = (first..(first + 100).min(rows + 1)).map(|n| window(n, 1)).collect();
        let batch = Batch { closed, counts: counted(100), ..Batch::default() };
        outbox.record(Some(batch), true, Generation(3));
        until(&outbox, |page| page.waiting + page.offered >= (first + 99).min(rows));
    }
    let mut last = decoded(&next(&outbox).await);
    while last.rows.last().unwrap().sequence < most {
        last = decoded(&next(&outbox).await);
    }
    let wanted = outbox.next();
    tokio::pin!(wanted);
    let none = tokio::time::timeout(Duration::from_millis(300), &mut wanted).await;
    let page = outbox.page();
    assert!(none.is_err() && page.offered < most + 256 && page.waiting > 0, "the rest may still be merged: {page:?}");
    told(&outbox, &last);
    let more = tokio::time::timeout(Duration::from_secs(30), wanted).await.unwrap().unwrap();
    assert_eq!(decoded(&more).rows[0].sequence, page.sequence + 1);
    outbox.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn an_outbox_full_of_events_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let budget = 256 << 10;
    let (outbox, _, thread) = Outbox::open(Options { budget, ..options(folder.path()) }).unwrap();
    let many = || Batch { events: vec![event(&"x".repeat(400)).events.remove(0); 100], ..Batch::default() };
    while outbox.page().fault.is_none() {
        let before = outbox.page();
        outbox.record(Some(many()), false, Generation(3));
        until(&outbox, |page| page.waiting > before.waiting || page.fault.is_some());
    }
    let full = outbox.page();
    outbox.stop();
    thread.join().unwrap();
    // Each start tries at once what otherwise waits for the pause after a refusal.
    for n in 1..=40 {
        let boots = Boots { started: n, opened: n };
        let options = Options { budget, boots, ..options(folder.path()) };
        let (outbox, _, thread) = Outbox::open(options).unwrap();
        outbox.record(Some(closed(n, 5)), false, Generation(3));
        outbox.record(Some(many()), false, Generation(3));
        outbox.stop();
        thread.join().unwrap();
        let page = outbox.page();
        assert!(page.fault.is_some_and(|fault| fault.contains("full")), "and says so");
        assert!(page.bytes <= budget / 2 * 3 && page.waiting <= full.waiting + 2, "start {n}");
        assert_eq!(page.counted[&version()].rows, 5 * n);
    }
    let database = Database::open(folder.path()).unwrap().unwrap();
    assert_eq!((agrees(&database), windows(&database).len() <= 2), (200, true));
}
