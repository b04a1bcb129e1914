//! Something is lost, on this side or on the server's: damage, copies, and servers that forget.

use super::*;

/// Covers five rows and loses the first two of them; another waits to be covered.
fn with_rows_gone(folder: &Path) -> Database {
    let mut database = first(folder);
    for number in 1..=2 {
        database.record(&closed(number, number), None).unwrap();
    }
    database.offer().unwrap();
    database.watermark(database.meta.stream, 2, STAMP).unwrap();
    database.forget_covered(i64::MAX).unwrap();
    for number in 3..=6 {
        database.record(&closed(number, number), None).unwrap();
    }
    database.offer().unwrap();
    database.watermark(database.meta.stream, 5, STAMP).unwrap();
    database
}

#[test]
fn a_server_that_lost_what_is_gone_here_too_counts_the_rest_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = with_rows_gone(folder.path());
    let stream = database.meta.stream;
    // It was restored from a backup; row 6 reaches it before it can say so, and it takes it out of order.
    let mut server: std::collections::BTreeSet<u64> = [1, 6].into();
    let mut counted = 6;
    assert_eq!(database.watermark(stream, 1, STAMP).unwrap(), Said::Rewound);
    assert_eq!(database.meta.stream, stream, "under another one row 6 would count twice");
    for row in database.published(1, STAMP).unwrap() {
        match row.item {
            Item::Window(window) if server.insert(row.sequence) => counted += window.rows,
            Item::Event(Event { kind: EventKind::Refused { message, .. }, .. }) if server.insert(row.sequence) => {
                assert_eq!((row.sequence, message.contains("dropped")), (2, true));
            }
            _ => {}
        }
    }
    assert_eq!((server.into_iter().collect::<Vec<_>>(), counted), ((1..=6).collect(), 3 + 4 + 5 + 6), "no hole");
    database.watermark(stream, 6, STAMP).unwrap();
    database.forget_covered(i64::MAX).unwrap();
    // Everything is gone, and asked for: still as many rows as make a report, and no more.
    database.at_once = 4;
    assert_eq!(database.watermark(stream, 0, STAMP).unwrap(), Said::Rewound);
    assert_eq!(sequences(&database.published(0, STAMP).unwrap()), [1, 2, 3, 4]);
    assert_eq!(sequences(&database.published(4, STAMP).unwrap()), [5, 6]);
    assert_eq!(database.published(6, STAMP).unwrap(), []);
}

#[test]
fn a_server_that_lost_the_beginning_of_a_long_stream_gets_the_rest_in_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = with_rows_gone(folder.path());
    let stream = database.meta.stream;
    // As if a million rows had come and gone before.
    let far = 1 << 21;
    database.connection.execute("UPDATE offered SET sequence = sequence + ?1", [far]).unwrap();
    let meta = database.meta;
    (database.meta.sequence, database.meta.watermark) = (meta.sequence + far as u64, meta.watermark + far as u64);
    assert_eq!(database.watermark(stream, 1, STAMP).unwrap(), Said::NewStream);
    assert!(database.meta.stream != stream && database.meta.sequence == 0 && database.meta.watermark == 0);
    assert_eq!(new_streams(&database), 1);
    let numbers: Vec<_> = windows(&database).iter().map(|w| w.number).collect();
    assert_eq!(numbers, [3, 4, 5, 6], "what the server has not, and is still here");
    database.offer().unwrap();
    assert_eq!(sequences(&database.published(0, STAMP).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(database.watermark(stream, 4, STAMP).unwrap(), Said::Foreign, "the old stream is over");
}

#[test]
fn a_server_that_knows_more_than_was_ever_given_betrays_a_device_put_back_from_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    database.record(&closed(1, 1), None).unwrap();
    database.offer().unwrap();
    database.record(&closed(2, 2), None).unwrap();
    drop(database);
    // The image: both databases are of boot 1. The former life went on to sequence 50.
    let mut database = open(folder.path(), Boots { started: 1, opened: 1 });
    let stream = database.meta.stream;
    database.record(&closed(3, 4), None).unwrap();
    database.offer().unwrap();
    assert_eq!(database.meta.sequence, 3);
    assert_eq!(database.watermark(stream, 50, STAMP).unwrap(), Said::NewStream);
    let numbers: Vec<_> = windows(&database).iter().map(|w| w.number).collect();
    assert_eq!((numbers, new_streams(&database)), (vec![3], 1), "the former life's rows were its own to deliver");
    assert_ne!(database.meta.stream, stream);
}

#[test]
fn an_outbox_that_is_older_than_the_last_start_is_a_copy_and_begins_a_new_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    database.record(&closed(1, 1), None).unwrap();
    database.record(&still_open(2, 2, 2), None).unwrap();
    let (copy, stream) = (cut(folder.path()), database.meta.stream);
    let database = open(copy.path(), Boots { started: 5, opened: 4 });
    assert!(database.meta.stream != stream && database.meta.boot == 6);
    assert_eq!((windows(&database).len(), new_streams(&database)), (0, 1), "nothing is sent twice");
    assert_eq!(database.totals().unwrap()[&version()].rows, 3, "what was counted stays counted");
    drop(database);
    let again = open(copy.path(), Boots { started: 6, opened: 6 });
    assert_eq!(new_streams(&again), 1, "and that is all");
    // Starts that could not open the outbox make no copy of it.
    let before = again.meta.stream;
    drop(again);
    assert_eq!(open(copy.path(), Boots { started: 9, opened: 7 }).meta.stream, before);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_stream_says_so() {
    let harms: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(path, b"what a dying flash returns").unwrap(),
        &|path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0xA5);
            fs::write(path, bytes).unwrap();
        },
        &|path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute("UPDATE meta SET sequence = 99", []).unwrap();
        },
        &|path| rusqlite::Connection::open(path).unwrap().pragma_update(None, "user_version", 2).unwrap(),
        &|path| rusqlite::Connection::open(path).unwrap().execute_batch("DROP TABLE meta").unwrap(),
    ];
    for (n, harm) in harms.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = first(folder.path());
        let stream = database.meta.stream;
        database.record(&closed(1, 1), None).unwrap();
        database.offer().unwrap();
        // Closing the last connection puts the journal back into the file.
        drop(database);
        harm(&folder.path().join(FILE));
        let database = open(folder.path(), Boots { started: 1, opened: 1 });
        assert!(database.meta.stream != stream && database.meta.sequence == 0, "harm {n}");
        assert_eq!((new_streams(&database), items(&database).len()), (1, 1), "harm {n}");
        assert!(folder.path().join(format!("{FILE}.damaged")).exists(), "harm {n}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(new_streams(&first(folder.path())), 0, "the first outbox of a device is no news");
    let folder = tempfile::tempdir().unwrap();
    let lost = open(folder.path(), Boots { started: 2, opened: 2 });
    assert_eq!(new_streams(&lost), 1, "one that is missing is");
}

#[test]
fn a_journal_that_was_left_beside_no_file_is_not_played_into_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    database.record(&closed(1, 1), None).unwrap();
    let (left, stream) = (cut(folder.path()), database.meta.stream);
    // The power went while damaged files were set aside.
    fs::remove_file(left.path().join(FILE)).unwrap();
    assert!(fs::metadata(left.path().join(format!("{FILE}-wal"))).unwrap().len() > 0);
    let after = open(left.path(), Boots { started: 1, opened: 1 });
    assert!(after.meta.stream != stream && windows(&after).is_empty() && new_streams(&after) == 1);
}

#[test]
fn an_offered_row_that_rots_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = first(folder.path());
    for number in 1..=3 {
        database.record(&closed(number, 1), None).unwrap();
    }
    database.offer().unwrap();
    database.connection.execute("UPDATE offered SET bytes = x'01020304' WHERE sequence = 2", []).unwrap();
    let report = database.published(0, STAMP).unwrap();
    assert_eq!(sequences(&report), [1, 2, 3]);
    assert!(
        matches!(&report[1].item, Item::Event(Event { kind: EventKind::Refused { message, .. }, .. }) if message.contains("rotted"))
    );
}
