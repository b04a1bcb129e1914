//! Ceremonies on paper: who must sign, what is refused, what devices would take.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tern_protocol::keys::{PublicKey, SigningKey};

use super::{
    faults::Fault,
    signing::{Envelope, Papers, Sheets, Trouble},
    trust::{Edition, ROOT_LIFE, RootTrust, TARGETS_LIFE, TargetsTrust, Unreadable},
    wanted::Wanted,
    words::Names,
};

const WANTED: &str = r#"
    [root]
    threshold = 2
    keys = ["anna", "ben", "cold"]
    [targets]
    threshold = 2
    keys = ["anna", "ben"]
    [online]
    snapshot = "snapshot"
    timestamp = "timestamp"
    director = "director"
    [teams.demo]
    threshold = 2
    keys = ["dora", "emil"]
    candidate = "robot"
"#;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// Everybody's keys, by the name that a declaration calls them by.
#[derive(Default)]
struct People(BTreeMap<String, SigningKey>);

impl People {
    fn key(&mut self, name: &str) -> &SigningKey {
        self.0.entry(name.to_owned()).or_insert_with(|| SigningKey::generate().unwrap())
    }

    fn public(&mut self, name: &str) -> PublicKey {
        self.key(name).public()
    }

    fn trust(&mut self, text: &str) -> anyhow::Result<(RootTrust, TargetsTrust)> {
        Wanted::parse(text).unwrap().trust(None, |_, called| Ok(self.public(called)))
    }

    fn fault(&mut self, text: &str) -> Fault {
        self.trust(text).unwrap_err().downcast().unwrap()
    }

    /// The first papers, unsigned.
    fn first(&mut self) -> Papers {
        let (root, targets) = self.trust(WANTED).unwrap();
        let root = root.document(Edition::after(None, ROOT_LIFE, now()));
        let targets = targets.document(Edition::after(None, TARGETS_LIFE, now()));
        read(None, Some(root), Some(targets)).unwrap()
    }

    fn sign(&mut self, papers: &mut Papers, names: &[&str]) {
        for name in names {
            papers.sign(self.key(name)).unwrap();
        }
    }

    /// What is in force after a first ceremony.
    fn in_force(&mut self) -> Papers {
        let mut papers = self.first();
        self.sign(&mut papers, &["anna", "ben"]);
        papers.verify(now()).unwrap();
        Papers { root: papers.next_root.take(), targets: papers.next_targets.take(), ..papers }
    }
}

fn read(present: Option<&Papers>, root: Option<Value>, targets: Option<Value>) -> Result<Papers, Trouble> {
    let next = |value: Option<Value>| value.map(|value| Envelope::unsigned(value).to_bytes());
    Papers::read(&Sheets {
        root: present.and_then(|papers| papers.root.as_ref()).map(|paper| paper.envelope.to_bytes()),
        targets: present.and_then(|papers| papers.targets.as_ref()).map(|paper| paper.envelope.to_bytes()),
        next_root: next(root),
        next_targets: next(targets),
    })
}

#[test]
fn enough_people_make_what_devices_take_and_fewer_do_not() {
    let mut people = People::default();
    let mut papers = people.first();
    people.sign(&mut papers, &["anna"]);
    assert!(matches!(papers.verify(now()), Err(Trouble::Unsigned(_))));
    // One person twice is one person.
    people.sign(&mut papers, &["anna"]);
    assert!(papers.tallies().iter().all(|tally| tally.signed.len() == 1 && !tally.is_complete()));
    // The cold key counts for root alone.
    people.sign(&mut papers, &["cold"]);
    let complete: Vec<_> = papers.tallies().iter().map(|tally| (tally.document, tally.is_complete())).collect();
    assert_eq!(complete, [("root", true), ("targets", false)]);
    assert!(matches!(papers.verify(now()), Err(Trouble::Unsigned(_))));
    people.sign(&mut papers, &["ben"]);
    papers.verify(now()).unwrap();
    let words = papers.words(&Names::default()).join("\n");
    assert!(words.contains("root: 2 of 3") && words.contains("team demo: 2 of 2"), "{words}");
    let stranger = SigningKey::generate().unwrap();
    assert_eq!(papers.sign(&stranger), Err(Trouble::CountsForNothing(stranger.public().id())));
}

#[test]
fn what_defeats_the_split_of_powers_is_refused() {
    let mut people = People::default();
    let with = |from: &str, to: &str| WANTED.replacen(from, to, 1);
    assert!(
        matches!(people.fault(&with("threshold = 2", "threshold = 0")), Fault::NoThreshold(role) if role == "root")
    );
    let unreachable = people.fault(&with("threshold = 2", "threshold = 4"));
    assert!(matches!(unreachable, Fault::Unreachable { threshold: 4, keys: 3, .. }), "{unreachable:?}");
    let twice = people.fault(&with(r#""anna", "ben", "cold""#, r#""anna", "ben", "anna""#));
    assert!(matches!(twice, Fault::DuplicateKey { .. }), "{twice:?}");
    for (from, to, holder) in [
        (r#"director = "director""#, r#"director = "anna""#, "the server"),
        (r#"["dora", "emil"]"#, r#"["dora", "timestamp"]"#, "the server"),
        (r#"candidate = "robot""#, r#"candidate = "dora""#, "the robot"),
    ] {
        let shared = people.fault(&with(from, to));
        assert!(matches!(shared, Fault::SharedKey { holder: h, .. } if h == holder), "{shared:?}");
    }
    assert!(matches!(people.fault(&with("teams.demo", "teams.targets")), Fault::ReservedName(_)));
    let none = people.fault("[root]\nthreshold=1\nkeys=[\"a\"]\n[targets]\nthreshold=1\nkeys=[\"b\"]\n[online]\nsnapshot=\"s\"\ntimestamp=\"t\"\ndirector=\"d\"\n[teams]");
    assert_eq!(none, Fault::RoleCount(0));
}

#[test]
fn papers_that_hold_something_unseen_or_do_not_follow_are_refused() {
    let mut people = People::default();
    let present = people.in_force();
    let (root, targets) = people.trust(WANTED).unwrap();
    let second = Edition { version: 2, expires: now() + SignedDuration::from_hours(24), issued: Some(now()) };
    let (mut next_root, mut next_targets) = (root.document(second), targets.document(second));
    read(Some(&present), Some(next_root.clone()), Some(next_targets.clone())).unwrap().check(now()).unwrap();
    let check = |root: &Value, targets: &Value| {
        read(Some(&present), Some(root.clone()), Some(targets.clone())).and_then(|papers| papers.check(now()))
    };
    for (member, value) in [("x-more", json!(1)), ("consistent_snapshot", json!(false))] {
        let mut odd = next_root.clone();
        odd[member] = value;
        assert_eq!(check(&odd, &next_targets), Err(Trouble::Unreadable(Unreadable::Foreign("root"))), "{member}");
    }
    let mut odd = next_targets.clone();
    odd["targets"] = json!({"models/demo/m/1.0.0/manifest.json": {"length": 1, "hashes": {"sha256": "00".repeat(32)}}});
    assert_eq!(check(&next_root, &odd), Err(Trouble::Unreadable(Unreadable::Foreign("targets"))));
    odd = next_targets.clone();
    odd["delegations"]["roles"][0]["paths"] = json!(["*"]);
    assert_eq!(check(&next_root, &odd), Err(Trouble::Unreadable(Unreadable::Foreign("targets"))));

    next_root["version"] = json!(3);
    let gap = Trouble::Version { document: "root", found: 3, wanted: 2 };
    assert_eq!(check(&next_root, &next_targets), Err(gap));
    next_root["version"] = json!(2);
    let [latest, early] = [3600, 3601].map(|ahead| now() + SignedDuration::from_secs(ahead));
    next_root[tern_protocol::tuf::ISSUED] = json!(latest);
    assert_eq!(check(&next_root, &next_targets), Ok(()));
    next_root[tern_protocol::tuf::ISSUED] = json!(early);
    assert_eq!(check(&next_root, &next_targets), Err(Trouble::Early(early)));
    next_root[tern_protocol::tuf::ISSUED] = json!(now());
    for expires in ["2026-02-28T00:00:00Z", "2031-01-01T00:00:00Z"] {
        next_targets["expires"] = json!(expires);
        assert!(matches!(check(&next_root, &next_targets), Err(Trouble::Expiry { document: "targets", .. })));
    }
    assert!(matches!(read(Some(&present), None, None).unwrap().check(now()), Err(Trouble::Missing(..))));
    let garbage = Sheets { next_root: Some(b"{}".to_vec()), ..Sheets::default() };
    assert!(matches!(Papers::read(&garbage), Err(Trouble::NotSigned("next/root.json", _))));
}

#[test]
fn a_root_key_is_replaced_by_those_who_were_and_those_who_are() {
    let mut people = People::default();
    let present = people.in_force();
    let (root, _) =
        people.trust(&WANTED.replacen(r#""anna", "ben", "cold""#, r#""anna", "carla", "cold""#, 1)).unwrap();
    let next = root.document(Edition::after(present.root.as_ref().map(|root| root.content.1), ROOT_LIFE, now()));
    let mut papers = read(Some(&present), Some(next), None).unwrap();
    let words = papers.words(&Names::default()).join("\n");
    assert!(words.contains("now counts") && words.contains("counts no more"), "{words}");
    // Two of the new ones, one of the old.
    people.sign(&mut papers, &["carla", "anna"]);
    assert_eq!(papers.tallies().iter().map(super::signing::Tally::is_complete).collect::<Vec<_>>(), [false, true]);
    assert!(matches!(papers.verify(now()), Err(Trouble::Unsigned(_))));
    people.sign(&mut papers, &["ben"]);
    papers.verify(now()).unwrap();
    // What was signed is what is verified: another word in it, and no signature holds.
    let mut forged = papers.clone();
    forged.next_root.as_mut().unwrap().envelope.signed["version"] = json!(2.5);
    assert!(forged.verify(now()).is_err());
}
