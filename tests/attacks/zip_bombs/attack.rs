//! The attacker holds one device of the fleet and sends what is small on the wire and large when it is unpacked: reports that
//! unfold to a gigabyte, and bodies that nest or claim to be compressed. Each must be refused or put aside, the server's
//! memory must stay bounded, and nothing of it may be counted.

use std::{collections::BTreeSet, io::Write};

use tern_protocol::api::ENROL;

use crate::rig::{fleet::Fleet, intruder::Session, wait};

/// Most that the server's resident memory may grow by.
const MEMORY: u64 = 64 << 20;

/// A zstd frame of so many zeros, which says how many or not.
fn bomb(megabytes: usize, announced: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    if announced {
        encoder.set_pledged_src_size(Some((megabytes as u64) << 20)).unwrap();
        encoder.include_contentsize(true).unwrap();
    }
    let piece = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap()
}

/// Codes by which reports were put aside, with how many.
fn quarantined(fleet: &Fleet) -> BTreeSet<(String, u64)> {
    fleet.metrics("tern_quarantined_total{code=\"").collect()
}

#[test]
fn what_unfolds_without_bounds_is_put_aside() {
    let mut fleet = Fleet::new("zip_bombs");
    let insider = fleet.insider("cam-2");
    let memory = fleet.memory();
    let rows = fleet.metric("tern_report_rows_total");
    let report = |frame: Vec<u8>| [vec![1, 1], frame].concat();
    for (variant, payload) in [
        ("a gigabyte, announced", report(bomb(1024, true))),
        ("a gigabyte, unannounced", report(bomb(1024, false))),
        ("five megabytes", report(bomb(5, true))),
        ("a bomb within a frame of its own kind", report(zstd::bulk::compress(&bomb(64, true), 3).unwrap())),
        ("many frames, each within its bound", report(bomb(3, true).repeat(200))),
        ("a frame that is none", report(vec![0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff])),
    ] {
        let before = quarantined(&fleet);
        let mut session = Session::open(fleet.mqtt, &fleet.ca(), Some(&insider), "cam-2", None).expect("a session");
        session.publish("tern/v1/plant/cam-2/report", &payload, false);
        let now = wait(&format!("{variant} is put aside"), || Some(quarantined(&fleet)).filter(|now| *now != before));
        let new: Vec<_> = now.difference(&before).map(|(code, _)| code.as_str()).collect();
        let code = if variant.starts_with("a bomb") { "report-inconsistent" } else { "report-compression" };
        assert_eq!(new, [code], "{variant}");
        let grown = fleet.memory().saturating_sub(memory);
        assert!(grown < MEMORY, "{variant}: the server grew by {grown} B");
        fleet.refused(variant);
    }
    let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    for (variant, body, refusal) in [
        ("a body that nests a hundred thousand times", nested, (400, "malformed-json")),
        ("a body that is compressed", bomb(1, false), (400, "malformed-json")),
        ("a body of one byte too many", vec![b' '; (256 << 10) + 1], (413, "too-large")),
    ] {
        let reply = fleet.ask(None, "POST", ENROL, &body);
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()), "{variant}");
        fleet.refused(variant);
    }
    let grown = fleet.memory().saturating_sub(memory);
    assert!(grown < MEMORY, "the server grew by {grown} B");
    assert!(fleet.metric("tern_report_rows_total") >= rows);
    let figures = fleet.tern(&["device", "figures"]);
    assert!(!figures.contains("cam-2"), "{figures}");
    fleet.finish();
}
