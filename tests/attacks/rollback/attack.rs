//! The attacker holds the server, the network and what was ever published. He serves old roles in place of newer ones, to
//! bring back a version with a known fault; after a restart, after the device's cache of metadata is wiped, after one of
//! its two records is lost. The device must refuse each.

use std::{fs, path::Path};

use tern_protocol::refusal::RefusalCode::{Metadata, Rollback, UnknownTarget};

use crate::rig::{Expected, Rig, device::put, refused, release::Release, repository::Files};

/// The files of a publication that the device has seen a newer one than, with an old version listed.
fn past(rig: &mut Rig) -> Files {
    let old = rig.next.renamed("0.9.0");
    let past = rig.publication(&[&old]).files();
    // Every role of a newer one is higher: a demand makes the device look.
    let newer = rig.publication(&[]);
    let evil = rig.evil();
    let expected = refused(UnknownTarget, "is not among its team's signed targets");
    rig.attempt("a look at the newest metadata", newer.files(), &evil, expected);
    past
}

/// What a dying flash makes of a record.
pub(crate) fn lose(state: &Path, record: &str) {
    put(&state.join(record), b"what a dying flash returns");
    // A database can be read off its journal alone.
    for journal in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.join(format!("{record}{journal}")));
    }
}

/// Demands a version of the past, under a name of its own each time.
fn old(rig: &mut Rig, variant: &str, files: &Files, expected: Expected) {
    let evil: Release = rig.evil();
    rig.attempt(variant, files.clone(), &evil, expected);
}

#[test]
fn what_is_older_than_what_was_seen_is_refused() {
    let mut rig = Rig::new("rollback");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let past = past(rig);
    let expected = refused(Rollback, "timestamp");
    old(rig, "every role of the past", &past, expected);
    by_role(rig);
    rig.restart(|_| ());
    old(rig, "after a restart", &past, expected);
    rig.restart(|state| fs::remove_dir_all(state.join("tuf")).unwrap());
    old(rig, "after the cache of metadata was wiped", &past, refused(Rollback, "was verified before"));
    rig.restart(|state| lose(state, "state.db"));
    old(rig, "after state.db was lost", &past, expected);
    rig.restart(|state| {
        lose(state, "state.copy");
        fs::remove_dir_all(state.join("tuf")).unwrap();
    });
    old(rig, "after state.copy and the cache were lost", &past, refused(Rollback, "was verified before"));
}

/// One role of the past at a time: whoever holds the online keys can sign the others around it.
fn by_role(rig: &mut Rig) {
    let floor = rig.version;
    let mut publication = rig.publication(&[]);
    publication.snapshot.set("version", floor - 1);
    publication.timestamp.signed["meta"]["snapshot.json"]["version"] = (floor - 1).into();
    old(rig, "an old snapshot", &publication.files(), refused(Rollback, "snapshot"));
    for (role, name) in [("targets", "targets.json"), ("the team's role", "demo.json")] {
        let mut publication = rig.publication(&[]);
        let which = if role == "targets" { &mut publication.targets } else { &mut publication.team };
        which.set("version", floor - 1);
        publication.snapshot.signed["meta"][name]["version"] = (floor - 1).into();
        old(rig, &format!("an old version of {role} in a new snapshot"), &publication.files(), refused(Rollback, ""));
        let mut publication = rig.publication(&[]);
        let which = if role == "targets" { &mut publication.targets } else { &mut publication.team };
        let promised = which.version();
        which.set("version", floor - 1);
        let mut files = publication.files();
        let path = |version| crate::rig::repository::Publication::path(name.trim_end_matches(".json"), Some(version));
        let bytes = files.remove(&path(floor - 1)).expect("the old role");
        files.insert(path(promised), bytes);
        old(rig, &format!("an old version of {role} under a new name"), &files, refused(Metadata, ""));
    }
}
