//! The record against damage: one copy, both, a seal, a disk that refuses.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the door's back")]

use std::fs;

use tern_protocol::{digest::Digest, tuf::RoleFloor};

use super::*;
use crate::state::{ModelRecord, VersionRef};

fn floor(version: u64) -> Vec<RoleFloor> {
    vec![RoleFloor { role: "timestamp".into(), key_set: Digest::of(b"k"), version }]
}

fn state() -> State {
    let mut state = State::new(Some(Digest::of(b"root")), "2026-06-01T00:00:00Z".parse().unwrap());
    state.raise_floors(&floor(7));
    state.models.insert("vision/digits".parse().unwrap(), ModelRecord::new(Timestamp::UNIX_EPOCH));
    state
}

fn created() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Store::create(folder.path(), &state()).unwrap();
    folder
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_change_survives_a_restart_in_both_records() {
    let folder = created();
    let store = Store::open(folder.path());
    store.update_blocking(|s| s.raise_floors(&floor(9))).unwrap();
    store.update_blocking(|s| s.raise_floors(&floor(9))).unwrap();
    assert_eq!(store.state().sequence, 1, "an update that changes nothing writes nothing");
    drop(store);
    assert_eq!(examine(folder.path()), (Ok(1), Ok(1)));
    let store = Store::open(folder.path());
    assert_eq!(store.origin(), Origin::Database);
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 9);
}

#[test]
fn an_unreadable_database_is_restored_from_the_copy() {
    let folder = created();
    Store::open(folder.path()).update_blocking(|s| s.raise_floors(&floor(9))).unwrap();
    damage(&folder.path().join("state.db"));
    let store = Store::open(folder.path());
    assert_eq!((store.origin(), store.fault()), (Origin::Copy, None));
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 9);
    store.update_blocking(|s| s.raise_floors(&floor(10))).unwrap();
    drop(store);
    let store = Store::open(folder.path());
    assert_eq!(store.origin(), Origin::Database);
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 10);
    assert!(folder.path().join("state.db.damaged").exists());
}

/// What a power cut after change `CHANGES` leaves on the disk.
fn crashed() -> tempfile::TempDir {
    let (folder, left) = (created(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path());
    for version in 8..8 + CHANGES {
        store.update_blocking(move |s| s.raise_floors(&floor(version))).unwrap();
    }
    for name in ["state.db", "state.db-wal", "state.copy"] {
        fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    left
}

const CHANGES: u64 = 6;

#[test]
fn a_database_that_lost_the_end_of_its_journal_is_restored_from_the_newer_copy() {
    let flip = |path: &Path| {
        let mut journal = fs::read(path).unwrap();
        let middle = journal.len() / 2;
        journal[middle] ^= 1;
        fs::write(path, journal).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    for harm in [&flip as &dyn Fn(&Path), &remove] {
        let folder = crashed();
        harm(&folder.path().join("state.db-wal"));
        let (database, copy) = examine(folder.path());
        assert!(database.unwrap() < CHANGES, "the database is whole, sealed and old");
        assert_eq!(copy, Ok(CHANGES));
        let folder = crashed();
        harm(&folder.path().join("state.db-wal"));
        assert_eq!(Store::peek(folder.path()).unwrap().sequence, CHANGES);
        let store = Store::open(folder.path());
        assert_eq!((store.origin(), store.fault(), store.state().sequence), (Origin::Copy, None, CHANGES));
        assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 7 + CHANGES);
        drop(store);
        assert_eq!(examine(folder.path()), (Ok(CHANGES), Ok(CHANGES)), "both records are the newest again");
        assert_eq!(Store::open(folder.path()).origin(), Origin::Database);
    }
}

#[test]
fn an_older_copy_is_rewritten_from_the_database() {
    let folder = created();
    let old = fs::read(folder.path().join("state.copy")).unwrap();
    Store::open(folder.path()).update_blocking(|s| s.raise_floors(&floor(9))).unwrap();
    fs::write(folder.path().join("state.copy"), old).unwrap();
    assert_eq!(examine(folder.path()), (Ok(1), Ok(0)));
    assert_eq!(Store::open(folder.path()).origin(), Origin::Database);
    assert_eq!(examine(folder.path()), (Ok(1), Ok(1)));
}

#[test]
fn a_missing_database_is_restored_from_the_copy() {
    let folder = created();
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    assert_eq!(Store::open(folder.path()).state(), state());
}

#[test]
fn a_database_changed_behind_our_back_does_not_match_its_seal() {
    let folder = created();
    let connection = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    connection.execute("UPDATE floor SET version = 1", []).unwrap();
    drop(connection);
    let store = Store::open(folder.path());
    assert_eq!(store.origin(), Origin::Copy);
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 7);
}

#[test]
fn a_damaged_copy_is_rewritten_from_the_database() {
    let folder = created();
    damage(&folder.path().join("state.copy"));
    assert!(examine(folder.path()).1.is_err());
    assert_eq!(Store::open(folder.path()).origin(), Origin::Database);
    assert_eq!(examine(folder.path()), (Ok(0), Ok(0)));
}

#[test]
fn with_both_unreadable_nothing_changes_any_more() {
    let folder = created();
    damage(&folder.path().join("state.db"));
    damage(&folder.path().join("state.copy"));
    let store = Store::open(folder.path());
    assert_eq!(store.origin(), Origin::Nowhere);
    assert!(matches!(store.fault(), Some(StoreError::Unreadable(_))));
    assert!(matches!(store.update_blocking(|s| s.raise_floors(&floor(1))), Err(StoreError::Unreadable(_))));
    assert!(fs::read(folder.path().join("state.db")).is_ok(), "what is left is kept for somebody to look at");
}

#[test]
fn a_write_that_fails_is_latched() {
    let folder = created();
    let store = Store::open(folder.path());
    let other = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    other.execute_batch("DROP TABLE floor").unwrap();
    assert!(matches!(store.update_blocking(|s| s.raise_floors(&floor(8))), Err(StoreError::Unwritable(_))));
    assert!(store.fault().is_some());
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 7, "what is not durable does not count");
    assert!(store.update_blocking(|s| s.last_error = None).is_err());
}

#[test]
fn a_newer_schema_is_not_guessed_at() {
    let folder = created();
    let connection = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    assert!(examine(folder.path()).0.unwrap_err().contains("schema 2"));
}

#[tokio::test]
async fn updates_do_not_block_the_runtime() {
    let folder = created();
    let store = Store::open(folder.path());
    store.update(|s| s.raise_floors(&floor(8))).await.unwrap();
    assert_eq!(store.read(|s| s.floor("timestamp", &Digest::of(b"k"))), 8);
}

fn served(folder: &Path) -> Vec<(String, bool)> {
    let records = Store::last_served(folder, Timestamp::UNIX_EPOCH).unwrap();
    records.into_values().map(|r| (r.active.unwrap().version.to_string(), r.proven)).collect()
}

#[test]
fn what_serves_is_known_without_the_record_and_is_what_was_proven() {
    let folder = created();
    let version = |text: &str| {
        let manifest = Digest::of(text.as_bytes());
        Some(VersionRef { version: text.parse().unwrap(), manifest, candidate: false })
    };
    let store = Store::open(folder.path());
    let serve = |active, proven, previous| {
        let record = ModelRecord { active, proven, previous, ..ModelRecord::new(Timestamp::UNIX_EPOCH) };
        store.update_blocking(move |s| drop(s.models.insert("vision/digits".parse().unwrap(), record))).unwrap();
        served(folder.path())
    };
    assert_eq!(served(folder.path()), []);
    let one = [("1.0.0".to_owned(), true)];
    assert_eq!(serve(version("1.0.0"), false, None), one, "there is no other");
    assert_eq!(serve(version("1.1.0"), false, version("1.0.0")), one, "on probation it is not proven");
    assert_eq!(serve(version("1.1.0"), true, version("1.0.0")), [("1.1.0".to_owned(), true)]);
    assert_eq!(serve(None, false, version("1.0.0")), [], "a model that was stopped stays so");
}

#[test]
fn a_damaged_or_old_serving_file_is_made_anew_from_the_record_and_never_believed() {
    let folder = created();
    let path = folder.path().join("serving.json");
    let whole = fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let other = text.replace("\"models\": {}", "\"models\": {\"a/b\": {}}");
    let newer = text.replace("\"format\": 1", "\"format\": 2");
    assert!(other != text && newer != text);
    for bad in [b"rot".to_vec(), whole[..whole.len() / 2].to_vec(), other.into_bytes(), newer.into_bytes()] {
        fs::write(&path, &bad).unwrap();
        assert!(Store::last_served(folder.path(), Timestamp::UNIX_EPOCH).is_err());
        drop(Store::open(folder.path()));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
