//! The attacker held the online keys for a moment and signed counters at their end, so that nothing honest would ever be
//! newer again. Honest metadata is then refused as older, which is right; and root's quorum must be able to mend it, by
//! new keys for the roles that were stolen, without a visit to the device, which must not lose what it serves.

use tern_protocol::{
    refusal::RefusalCode::{Expired, Metadata, OldGeneration, Rollback, Signature, UnknownTarget},
    tuf,
};

use crate::rig::{
    Rig, refused,
    repository::{Key, in_days, key},
    wait,
};

/// The highest number that every reader of JSON agrees on.
const END: u64 = (1 << 53) - 1;

#[test]
fn counters_at_their_end_are_mended_by_root() {
    let mut rig = Rig::new("fast_forward");
    tried(&mut rig);
    generations(&mut rig);
    times(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let evil = rig.evil();
    let mut publication = rig.publication(&[]);
    publication.snapshot.set("version", END);
    publication.timestamp.signed["meta"]["snapshot.json"]["version"] = END.into();
    publication.timestamp.set("version", END);
    let expected = refused(UnknownTarget, "is not among its team's signed targets");
    rig.attempt("stolen counters list nothing new", publication.files(), &evil, expected);
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.attempt("honest metadata is older now", files, &evil, refused(Rollback, "timestamp"));
    // Root's quorum gives the two roles new keys, and with them new floors.
    let stolen = std::mem::replace(&mut rig.keys.timestamp, key());
    rig.keys.snapshot = key();
    let root = rig.keys.root(rig.next_root());
    rig.roots.push(root);
    // The thief still has the old keys: they are worth nothing any more.
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    publication.timestamp.signers = vec![stolen];
    let expected = refused(Metadata, "role timestamp");
    rig.attempt("the stolen keys after the rotation", publication.files(), &evil, expected);
}

/// The floor of the device's time.
fn floor(rig: &Rig) -> jiff::Timestamp {
    serde_json::from_value(rig.device.status()["time"][1].clone()).unwrap()
}

/// The same for the time: what a key vouched for counts as long as root names that key.
fn times(rig: &mut Rig) {
    let mut publication = rig.publication(&[]);
    publication.timestamp.set(tuf::ISSUED, in_days(390));
    publication.timestamp.set("expires", in_days(3000));
    rig.https.serve(publication.files());
    // The timestamp's key carries time past the end of targets, the director's past that of root and certificates.
    for days in [0, 780, 1170] {
        let mut state = rig.state(rig.active.desired());
        state.issued = in_days(days).parse().unwrap();
        state.expires = in_days(days + 7).parse().unwrap();
        rig.send(&state, &[&rig.keys.director]);
        // After each demand the device looks what the teams say, and so at the timestamp.
        let least = in_days(days.max(389)).parse().unwrap();
        wait("the thief's time is believed", || (floor(rig) >= least).then_some(()));
    }
    let before = rig.last_error();
    rig.demand(rig.next.desired());
    rig.expect_state_refusal("an honest demand has expired by then", &before, refused(Expired, "expired at"));
    rig.keys.timestamp = key();
    let stolen = rotate_director(rig);
    // By the thief's time the server's certificate has expired too, so after a start there is no session; files are fetched.
    rig.restart(|_| {});
    let tomorrow = in_days(1).parse().unwrap();
    wait("the device finds back to its time", || (floor(rig) < tomorrow).then_some(()));
    honest_is_heard_and_stolen_is_not(rig, &stolen);
}

/// The same for the director's counter: what a key signed counts for as long as root names that key.
fn generations(rig: &mut Rig) {
    rig.publish_honestly();
    let honest = rig.generation;
    rig.generation = END - 1;
    let evil = rig.evil();
    rig.try_demand("the last generation of all", evil.desired(), refused(UnknownTarget, "signed targets"));
    rig.generation = honest;
    let before = rig.last_error();
    rig.demand(rig.next.desired());
    rig.expect_state_refusal("an honest generation is older now", &before, refused(OldGeneration, "was taken over"));
    let stolen = rotate_director(rig);
    // What a key signs that root did not name so far has the device look for a newer root.
    honest_is_heard_and_stolen_is_not(rig, &stolen);
}

/// Root names another director's key, with whatever else changed; gives the one that was stolen.
fn rotate_director(rig: &mut Rig) -> Key {
    let stolen = std::mem::replace(&mut rig.keys.director, key());
    let root = rig.keys.root(rig.next_root());
    rig.roots.push(root);
    rig.publish_honestly();
    stolen
}

fn honest_is_heard_and_stolen_is_not(rig: &mut Rig, stolen: &Key) {
    rig.demand(rig.active.desired());
    wait("the honest director is heard again", || {
        (rig.device.status()["twin"]["generation"] == rig.generation).then_some(())
    });
    let (before, state) = (rig.last_error(), rig.state(rig.next.desired()));
    rig.send(&state, &[stolen]);
    rig.expect_state_refusal("the stolen key after the rotation", &before, refused(Signature, "0 of 1"));
}
