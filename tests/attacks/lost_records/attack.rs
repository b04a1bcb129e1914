//! The attacker holds the server and the network, and both records of the device are gone, with every floor in them: he
//! serves what is old, for there is nothing left to hold it against. What serves must go on, and nothing may be installed. He
//! forges the ticket that gives a device new floors, with every key but root's quorum; or has one that was made for another
//! device or day. None may count; and the one that does must be no way back.

use std::fs;

use serde_json::Value;
use tern_protocol::{
    ids::Generation,
    refusal::RefusalCode::{FloorUnreadable, OldGeneration, Rollback},
    rescue::{self, RescueTicket},
    signed,
};

use crate::{
    rig::{FLEET, Rig, fleet::Fleet, refused, repository::in_days, wait},
    rollback::lose,
};

#[test]
fn without_both_records_nothing_is_installed() {
    let mut rig = Rig::new("lost_records");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let past = rig.publication(&[]).files();
    rig.restart(|state| {
        for record in ["state.db", "state.copy"] {
            lose(state, record);
        }
    });
    let evil = rig.evil();
    rig.https.serve(past);
    for (variant, demand) in [("a version nobody released", evil.desired()), ("a released one", rig.next.desired())] {
        let before = rig.device.status()["twin"]["last_error"].clone();
        rig.demand(demand);
        rig.expect_state_refusal(
            variant,
            &before,
            refused(FloorUnreadable, "neither state.db nor state.copy can be read"),
        );
    }
    rescue(rig);
}

/// Only root's quorum gives a device new floors, for this device, this occasion and this time.
fn rescue(rig: &mut Rig) {
    let (asked, said) = rig.device.rescue(None);
    assert!(asked, "{said}");
    let asked: Value = serde_json::from_str(&said).unwrap();
    let nonce = asked["asked"]["nonce"].as_str().expect("a nonce").to_owned();
    // Only timestamp and team have moved since the first publication.
    let floor = |role: &str| if ["timestamp", "demo"].contains(&role) { rig.version } else { 1 };
    let ticket = RescueTicket {
        format: rescue::FORMAT,
        fleet: FLEET.parse().unwrap(),
        device: rig.device.name.parse().unwrap(),
        nonce,
        issued: in_days(0).parse().unwrap(),
        expires: in_days(1).parse().unwrap(),
        generation: Generation(rig.generation + 1),
        roles: ["timestamp", "demo", "root", "snapshot", "targets"].map(|role| (role.to_owned(), floor(role))).into(),
    };
    let [one, two, three] = rig.keys.root.clone();
    let quorum = [one.clone(), two];
    let online = [&rig.keys.director, &rig.keys.timestamp, &rig.keys.snapshot].map(Clone::clone);
    let offline = [&rig.keys.targets[0], &rig.keys.targets[1], &rig.keys.team[0], &rig.keys.team[1]].map(Clone::clone);
    let good = || ticket.clone();
    for (variant, ticket, signers, words) in [
        ("a ticket by one root key", good(), &[three][..], "1 of 2 needed signatures"),
        ("a ticket by every online key", good(), &online, "0 of 2 needed signatures"),
        ("a ticket by targets and team", good(), &offline, "0 of 2 needed signatures"),
        ("a ticket by one root key twice", good(), &[one.clone(), one], "signed more than once"),
        (
            "another device's ticket",
            RescueTicket { device: "cam-2".parse().unwrap(), ..good() },
            &quorum,
            "is for device",
        ),
        ("another fleet's ticket", RescueTicket { fleet: "other".parse().unwrap(), ..good() }, &quorum, "is for fleet"),
        (
            "a ticket that gives timestamp no floor",
            RescueTicket {
                roles: good().roles.into_iter().filter(|(role, _)| role != "timestamp").collect(),
                ..good()
            },
            &quorum,
            "gives timestamp no floor",
        ),
        ("a ticket of another occasion", RescueTicket { nonce: "0".repeat(32), ..good() }, &quorum, "another nonce"),
    ] {
        let signers: Vec<_> = signers.iter().map(|key| &**key).collect();
        let (rescued, said) = rig.device.rescue(Some(&signed::sign(&ticket, &signers).unwrap()));
        assert!(!rescued && said.contains(words), "{variant}: {said}");
        rig.refused_otherwise(variant);
    }
    let signers: Vec<_> = quorum.iter().map(|key| &**key).collect();
    let bytes = signed::sign(&ticket, &signers).unwrap();
    let (rescued, said) = rig.device.rescue(Some(&bytes));
    assert!(rescued, "{said}");
    let (again, said) = rig.device.rescue(Some(&bytes));
    assert!(!again && said.contains("nothing to rescue"), "{said}");
    rig.refused_otherwise("the same ticket once more");
    // The ticket's floors hold: a rescue is no way back.
    let version = std::mem::replace(&mut rig.version, 50);
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.version = version;
    rig.attempt("metadata older than the ticket says", files, &evil, refused(Rollback, ""));
    let generation = std::mem::replace(&mut rig.generation, 0);
    let before = rig.device.status()["twin"]["last_error"].clone();
    rig.demand(rig.next.desired());
    rig.expect_state_refusal("a generation older than the ticket says", &before, refused(OldGeneration, ""));
    rig.generation = generation;
}

/// The way out for the honest: root's keys give the device new floors, and it follows its server again.
#[test]
fn a_rescued_device_takes_over_what_its_server_demands() {
    let mut fleet = Fleet::new("lost_records");
    let witness = fleet.witness.take().expect("a witness");
    {
        let _silence = witness.silence();
        fleet.device.kill();
        ["state.db", "state.copy"].iter().for_each(|record| lose(&fleet.device.folder.join("state"), record));
        fleet.device.start();
    }
    witness.still_answered("without its records");
    let (asked, said) = fleet.device.rescue(None);
    assert!(asked, "{said}");
    let asked: Value = serde_json::from_str(&said).unwrap();
    let nonce = asked["asked"]["nonce"].as_str().expect("a nonce").to_owned();
    let key = fleet.data.join("keys/root-1.key").display().to_string();
    let ticket = fleet.scratch.path().join("cam-1.ticket");
    let out = ticket.display().to_string();
    fleet.tern(&["device", "rescue", "cam-1", "--nonce", &nonce, "--key", &key, "--out", &out]);
    let (rescued, said) = fleet.device.rescue(Some(&fs::read(&ticket).unwrap()));
    assert!(rescued, "{said}");
    wait("the device follows its server", || {
        let (page, row) = (fleet.device.status(), fleet.operate("GET", "/api/v1/devices/cam-1", b"").json());
        let follows = page["twin"]["generation"] == row["desired_generation"] && page["twin"]["generation"] != 0;
        (follows && page["fault"].is_null() && page["twin"]["last_error"].is_null()).then_some(())
    });
    witness.still_answered("after the rescue");
    witness.end();
}
