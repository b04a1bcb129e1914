//! The attacker holds the server and the network, and both records of the device are gone, with every floor in them: he
//! serves what is old, for there is nothing left to hold it against. What serves must go on, and nothing may be installed.

use std::fs;

use serde_json::Value;
use tern_protocol::refusal::RefusalCode::FloorUnreadable;

use crate::{
    rig::{Rig, fleet::Fleet, refused, wait},
    rollback::lose,
};

#[test]
fn without_both_records_nothing_is_installed() {
    let mut rig = Rig::new("lost_records");
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
    rig.end_without_update();
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
    let asked: Value = serde_json::from_str(&fleet.device.rescue(&[])).unwrap();
    let nonce = asked["asked"]["nonce"].as_str().expect("a nonce").to_owned();
    let keys = fs::read_dir(fleet.data.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    let root = keys.filter(|key| key.file_name().unwrap().to_string_lossy().starts_with("root-"));
    let root: Vec<String> =
        root.filter(|key| key.extension().unwrap() == "key").map(|k| k.display().to_string()).collect();
    let ticket = fleet.scratch.path().join("cam-1.ticket").display().to_string();
    fleet.tern(&["device", "rescue", "cam-1", "--nonce", &nonce, "--key", &root[0], "--out", &ticket]);
    fleet.device.rescue(&["--ticket", &ticket]);
    wait("the device follows its server", || {
        let (page, row) = (fleet.device.status(), fleet.operate("GET", "/api/v1/devices/cam-1", b""));
        let row: Value = serde_json::from_slice(&row.body).unwrap();
        let follows = page["twin"]["generation"] == row["desired_generation"] && page["twin"]["generation"] != 0;
        (follows && page["fault"].is_null() && page["twin"]["last_error"].is_null()).then_some(())
    });
    witness.still_answered("after the rescue");
    witness.end();
}
