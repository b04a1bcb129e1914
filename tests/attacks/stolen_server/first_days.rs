//! The same of a fleet that began on one machine: root, targets and release lay on the server, until a ceremony took them off
//! it. The thief has the keys of those days from an old copy.

use tern_protocol::refusal::RefusalCode::{Metadata, UnknownTarget};

use crate::rig::{
    Rig,
    fleet::Fleet,
    refused,
    release::MODEL,
    repository::{Key, Keys, key_in},
    wait,
};

/// The offline keys of a fleet that its server's folder once held.
struct FirstDays {
    root: Key,
    targets: Key,
    release: Key,
}

#[test]
fn keys_that_root_has_rotated_away_count_for_nothing() {
    let mut fleet = Fleet::new("stolen_server");
    let data = fleet.stolen();
    let held = |name: &str| key_in(&data, name);
    let first = FirstDays {
        root: held("keys/root-1.key"),
        targets: held("keys/targets-1.key"),
        release: held("operator/release-demo.key"),
    };
    let keys = Keys {
        snapshot: held("keys/snapshot-1.key"),
        timestamp: held("keys/timestamp-1.key"),
        director: held("keys/director-1.key"),
        ..Keys::new()
    };
    // The ceremony that took the offline keys off the server: the first root hands over to three people's.
    let mut root = keys.root(2);
    root.signers.push(first.root.clone());
    let mut rig = Rig::steal(fleet, &data, keys, vec![root]);
    ceremony(&mut rig);
    keys_of_the_first_days(&mut rig, &first);
    rig.finish();
}

/// The device learns of the new root, from the last honest publication.
fn ceremony(rig: &mut Rig) {
    let evil = rig.evil();
    let files = rig.publication(&[]).files();
    rig.https.serve(files);
    rig.demand(evil.desired());
    wait("the device has seen the new root", || {
        let error = rig.device.model(MODEL)["last_error"].clone();
        (error["version"] == evil.named.version.to_string() && error["code"] == UnknownTarget.as_str()).then_some(())
    });
}

/// Root has rotated them away: they count for nothing, alone or beside the online keys.
fn keys_of_the_first_days(rig: &mut Rig, first: &FirstDays) {
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    let mut root = Keys::new().root(rig.next_root());
    root.signers = vec![first.root.clone(), first.targets.clone(), rig.keys.director.clone()];
    publication.roots.push(root);
    rig.attempt("the first root's key signs another root", publication.files(), &evil, refused(Metadata, "role root"));
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    publication.targets.signers = vec![first.targets.clone(), rig.keys.snapshot.clone()];
    let expected = refused(Metadata, "role targets: 0/2");
    rig.attempt("the first targets' key signs targets", publication.files(), &evil, expected);
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    publication.team.signers = vec![first.release.clone(), rig.keys.director.clone()];
    let expected = refused(Metadata, "role demo: 0/2");
    rig.attempt("the first release key signs a release", publication.files(), &evil, expected);
}
