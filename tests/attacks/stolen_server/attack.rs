//! The claim's proof. A device was enrolled with a real server and runs what that server had it run. Then the process is
//! replaced on the same addresses by the attacker's, who has the whole data folder: the authority's key, those of snapshot,
//! timestamp and director, and what else ever lay there; and the network. Root, targets and the team's release are offline
//! by then, 2 of 3 and 2 of 2; the keys of the fleet's first days, which root has rotated away, are his too. He tries every
//! attack of this suite on devices. The device must run nothing new, and answer all the while; and what
//! is left to him must be what the director may do: choose among versions that the team has released.

use std::thread;

use tern_protocol::refusal::RefusalCode::{Metadata, UnknownTarget};

use crate::{
    arbitrary_install, candidate, endless_data, equivocation, fast_forward, freeze, key_compromise, lost_records,
    malicious_mirror, mix_and_match, recalled, replay,
    rig::{
        Rig,
        fleet::Fleet,
        refused,
        release::MODEL,
        repository::{Key, Keys, key_in},
        wait,
    },
    rollback, slow_retrieval, wrong_software,
};

/// The offline keys of a fleet that its server's folder once held.
struct FirstDays {
    root: Key,
    targets: Key,
    release: Key,
}

/// An attack of this suite, on a device whose server is the attacker's.
type Attack = fn(&mut Rig);

/// Every attack that the holder of a server can make on devices. Each line has a fleet of its own, with this in its
/// device's configuration, all at once: nearly all of their time is waiting.
const EVERYTHING: [(&str, &[Attack]); 5] = [
    ("", &[arbitrary_install::tried, key_compromise::tried, mix_and_match::tried]),
    ("", &[malicious_mirror::tried]),
    (slow_retrieval::CONFIG, &[slow_retrieval::tried]),
    ("", &[wrong_software::tried, replay::tried, candidate::tried, recalled::tried, equivocation::tried]),
    ("", &[rollback::tried, freeze::tried, endless_data::tried, lost_records::tried, fast_forward::tried]),
];

#[test]
fn whoever_holds_the_server_makes_no_device_run_what_was_not_released() {
    thread::scope(|scope| {
        let all: Vec<_> = (0..EVERYTHING.len()).map(|part| scope.spawn(move || stolen(part))).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

fn stolen(part: usize) {
    let (config, attacks) = EVERYTHING[part];
    let fleet = Fleet::with("stolen_server", config);
    let held = |name: &str| key_in(&fleet.data, name);
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
    let mut rig = Rig::steal(fleet, keys, vec![root]);
    ceremony(&mut rig);
    if part == 0 {
        keys_of_the_first_days(&mut rig, &first);
    }
    attacks.iter().for_each(|attack| attack(&mut rig));
    // What is left: the director has the device run the other version that its team released.
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
