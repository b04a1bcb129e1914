//! The attacker held the online keys for a moment and signed counters at their end, so that nothing honest would ever be
//! newer again. Honest metadata is then refused as older, which is right; and root's quorum must be able to mend it, by
//! new keys for the roles that were stolen. The device must not need a visit, nor lose what it serves.

use tern_protocol::refusal::RefusalCode::{Metadata, Rollback, UnknownTarget};

use crate::rig::{Rig, refused, repository::key};

/// The highest number that every reader of JSON agrees on.
const END: u64 = (1 << 53) - 1;

#[test]
fn counters_at_their_end_are_mended_by_root() {
    let mut rig = Rig::new("fast_forward");
    tried(&mut rig);
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
