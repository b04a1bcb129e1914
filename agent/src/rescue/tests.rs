//! Rescues: of whom, by whom, once, and whole or not at all.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the door's back")]

use std::{collections::BTreeMap, fs};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::SignedDuration;
use serde_json::json;
use tern_protocol::{
    desired::GenerationFloor,
    digest::Digest,
    keys::{KeySet, SigningKey},
    signed::{self, SignatureError},
    twin::ModelState,
};

use super::*;
use crate::state::{ModelRecord, VersionRef};

/// A device that lost its records, and the keys of its fleet's root.
struct Lost {
    folder: tempfile::TempDir,
    keys: Vec<SigningKey>,
    root: Vec<u8>,
    enrolment: Enrolment,
}

fn new_keys() -> Vec<SigningKey> {
    (0..3).map(|_| SigningKey::generate().unwrap()).collect()
}

fn root(version: u64, keys: &[SigningKey], signers: &[&SigningKey]) -> Vec<u8> {
    let ids: Vec<_> = keys.iter().map(|k| k.public().id()).collect();
    let role = json!({"keyids": ids, "threshold": 2});
    let known: BTreeMap<_, _> = keys.iter().map(|k| (k.public().id().0, k.public())).collect();
    let signed = json!({
        "_type": "root", "spec_version": "1.0.31", "version": version, "expires": "2030-01-01T00:00:00Z",
        "consistent_snapshot": true, "keys": known,
        "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role}, tuf::DIRECTOR: role,
    });
    signed::sign_value(signed, signers).unwrap()
}

impl Lost {
    fn new() -> Self {
        tuf::install_provider();
        let (folder, keys) = (tempfile::tempdir().unwrap(), new_keys());
        let root = root(1, &keys, &[&keys[0], &keys[1]]);
        let enrolment = Enrolment {
            format: 1,
            device: "cam-1".parse().unwrap(),
            fleet: "f".parse().unwrap(),
            server: "https://localhost".into(),
            mqtt_address: "localhost:8883".into(),
            root_sha256: Digest::of(&root),
            root_base64: BASE64_STANDARD.encode(&root),
        };
        let mut state = State::new(Some(Digest::of(&root)), "2026-06-01T00:00:00Z".parse().unwrap());
        let active = VersionRef { version: "1.0.0".parse().unwrap(), manifest: Digest::of(b"1"), candidate: false };
        let record = ModelRecord {
            active: Some(active),
            proven: true,
            state: ModelState::Committed,
            ..ModelRecord::new(Timestamp::UNIX_EPOCH)
        };
        state.models.insert("vision/digits".parse().unwrap(), record);
        Store::create(folder.path(), &state).unwrap();
        let lost = Self { folder, keys, root, enrolment };
        lost.lose();
        lost
    }

    fn lose(&self) {
        for name in ["state.db", "state.copy"] {
            fs::write(self.path().join(name), b"rot").unwrap();
        }
        for name in ["state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(self.path().join(name));
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ask(&self, request: &Request) -> Result<Answer, RescueError> {
        act(self.path(), &self.enrolment, &self.root, &Store::open(self.path()), request)
    }

    fn nonce(&self) -> String {
        match self.ask(&Request::Nonce) {
            Ok(Answer::Asked(asked)) => asked.nonce,
            other => panic!("{other:?}"),
        }
    }

    fn ticket(&self, nonce: &str) -> RescueTicket {
        let now = clock::machine_time();
        RescueTicket {
            format: rescue::FORMAT,
            fleet: "f".parse().unwrap(),
            device: "cam-1".parse().unwrap(),
            nonce: nonce.into(),
            issued: now,
            expires: now + SignedDuration::from_hours(24),
            generation: Generation(7),
            roles: rescue::FLOORED.map(|role| (role.to_owned(), if role == "root" { 1 } else { 70 })).into(),
        }
    }

    fn signed(&self, ticket: &RescueTicket) -> Request {
        Request::Ticket(signed::sign(ticket, &[&self.keys[0], &self.keys[2]]).unwrap())
    }

    fn refusal(&self, request: &Request) -> TicketRefusal {
        match self.ask(request) {
            Err(RescueError::Ticket(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_nonce_lasts_until_it_is_used_or_nothing_is_lost_any_more() {
    let lost = Lost::new();
    assert_eq!(lost.nonce(), lost.nonce());
    fs::write(nonce_path(lost.path()), b"rot").unwrap();
    let nonce = lost.nonce();
    assert_eq!((nonce.len(), &lost.nonce()), (32, &nonce));
    Store::create(lost.path(), &State::new(None, Timestamp::UNIX_EPOCH)).unwrap();
    assert!(matches!(lost.ask(&Request::Nonce), Err(RescueError::Readable)));
    assert!(!nonce_path(lost.path()).exists());
}

#[test]
fn a_ticket_gives_new_floors_and_what_served_serves() {
    let lost = Lost::new();
    let ticket = lost.ticket(&lost.nonce());
    let outcome = Outcome { generation: Generation(7), time: ticket.issued, models: 1 };
    assert_eq!(lost.ask(&lost.signed(&ticket)).unwrap(), Answer::Rescued(outcome));
    let store = Store::open(lost.path());
    let state = store.state();
    assert_eq!((store.fault(), state.time_floor, state.root_pin), (None, ticket.issued, Some(Digest::of(&lost.root))));
    assert_eq!(
        state.generation_floor(&KeySet::new([], 1)),
        GenerationFloor { generation: Generation(7), digest: None }
    );
    assert_eq!(state.floor("timestamp", &Digest::of(b"any keys")), 70);
    let record = &state.models[&"vision/digits".parse().unwrap()];
    assert_eq!((record.active.as_ref().unwrap().version.to_string().as_str(), record.proven), ("1.0.0", true));
}

#[test]
fn a_ticket_is_used_once() {
    let lost = Lost::new();
    let ticket = lost.signed(&lost.ticket(&lost.nonce()));
    lost.ask(&ticket).unwrap();
    assert!(matches!(lost.ask(&ticket), Err(RescueError::Readable)));
    lost.lose();
    assert!(matches!(lost.ask(&ticket), Err(RescueError::NoNonce)));
    lost.nonce();
    assert_eq!(lost.refusal(&ticket), TicketRefusal::WrongNonce);
}

#[test]
fn what_is_no_ticket_for_this_device_leaves_it_as_it_was() {
    let lost = Lost::new();
    assert!(matches!(lost.ask(&lost.signed(&lost.ticket("0"))), Err(RescueError::NoNonce)));
    let good = lost.ticket(&lost.nonce());
    let one = Request::Ticket(signed::sign(&good, &[&lost.keys[1]]).unwrap());
    let under = TicketRefusal::Signature(SignatureError::UnderThreshold { found: 1, threshold: 2 });
    assert_eq!(lost.refusal(&one), under);
    let other = RescueTicket { device: "cam-2".parse().unwrap(), ..good.clone() };
    assert!(matches!(lost.refusal(&lost.signed(&other)), TicketRefusal::WrongDevice { .. }));
    let other = RescueTicket { fleet: "g".parse().unwrap(), ..good.clone() };
    assert!(matches!(lost.refusal(&lost.signed(&other)), TicketRefusal::WrongFleet { .. }));
    let day = SignedDuration::from_hours(24);
    let late = RescueTicket { issued: good.issued - day * 2, expires: good.issued - day, ..good.clone() };
    assert!(matches!(lost.refusal(&lost.signed(&late)), TicketRefusal::Expired { .. }));
    assert!(matches!(Store::open(lost.path()).fault(), Some(StoreError::Unreadable(_))));
    assert!(lost.ask(&lost.signed(&good)).is_ok(), "and its nonce is not used up");
}

#[test]
fn the_newest_root_on_the_device_says_whose_signatures_count() {
    let lost = Lost::new();
    let newer = new_keys();
    let rotated = root(2, &newer, &[&lost.keys[0], &lost.keys[1], &newer[0], &newer[1]]);
    fs::create_dir_all(lost.path().join("tuf/root_history")).unwrap();
    fs::write(lost.path().join("tuf/root_history/2.root.json"), rotated).unwrap();
    let Ok(Answer::Asked(asked)) = lost.ask(&Request::Nonce) else { panic!("asked") };
    assert_eq!(asked.root, 2);
    let ticket = lost.ticket(&asked.nonce);
    let under = TicketRefusal::Signature(SignatureError::UnderThreshold { found: 0, threshold: 2 });
    assert_eq!(lost.refusal(&lost.signed(&ticket)), under);
    let signed = signed::sign(&ticket, &[&newer[1], &newer[2]]).unwrap();
    assert!(lost.ask(&Request::Ticket(signed)).is_ok());
}

#[test]
fn a_device_that_does_not_know_what_it_served_gets_its_floors_all_the_same() {
    let lost = Lost::new();
    fs::write(lost.path().join("serving.json"), b"rot").unwrap();
    let ticket = lost.signed(&lost.ticket(&lost.nonce()));
    assert!(matches!(lost.ask(&ticket).unwrap(), Answer::Rescued(Outcome { models: 0, .. })));
    assert_eq!(Store::open(lost.path()).fault(), None);
}

/// The files of the state folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    entries.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(p).unwrap())).collect()
}

/// A rescue replaces files one by one, in this order; power may go after each of them.
#[test]
fn a_rescue_that_is_cut_short_leaves_the_lost_record_or_the_new_one() {
    let lost = Lost::new();
    let ticket = lost.ticket(&lost.nonce());
    let before = files(lost.path());
    lost.ask(&lost.signed(&ticket)).unwrap();
    let after = files(lost.path());
    let order = ["state.db (gone)", "serving.json", "state.db", "state.copy", "rescue.nonce"];
    let mut ends = Vec::new();
    for cut in 0..=order.len() {
        let folder = tempfile::tempdir().unwrap();
        let mut now = before.clone();
        for step in &order[..cut] {
            match step.strip_suffix(" (gone)") {
                Some(name) => drop(now.remove(name)),
                None => match after.get(*step) {
                    Some(bytes) => drop(now.insert((*step).to_owned(), bytes.clone())),
                    None => drop(now.remove(*step)),
                },
            }
        }
        now.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        let store = Store::open(folder.path());
        let cut = Lost { folder, keys: Vec::new(), root: lost.root.clone(), enrolment: lost.enrolment.clone() };
        match store.fault() {
            None => {
                assert_eq!(store.state().time_floor, ticket.issued);
                assert!(matches!(cut.ask(&lost.signed(&ticket)), Err(RescueError::Readable)));
                assert!(!nonce_path(cut.path()).exists());
            }
            Some(_) => assert!(matches!(cut.ask(&lost.signed(&ticket)), Ok(Answer::Rescued(_)))),
        }
        ends.push(store.fault().is_none());
    }
    assert_eq!(ends, [false, false, false, true, true, true]);
}
