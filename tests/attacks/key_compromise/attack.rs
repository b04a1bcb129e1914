//! The attacker holds every online key (timestamp, snapshot, director), the server and the network; and of the offline roles
//! fewer keys than their threshold: one of root's, one of targets', one of the team's two, or a candidate's. He signs whatever these keys can sign.
//! No new version may come of it.

use tern_protocol::refusal::RefusalCode::{ManifestDigest, Metadata, Rollback, Signature, UnknownTarget};

use crate::rig::{
    Expected, Rig, refused,
    release::TEAM,
    repository::{Key, Keys, candidate_name, key},
};

#[test]
fn fewer_keys_than_the_threshold_release_nothing() {
    let mut rig = Rig::new("key_compromise");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    root(rig);
    offline_roles(rig);
    director(rig);
}

/// What a stolen server has.
fn online(rig: &Rig) -> [Key; 3] {
    [&rig.keys.snapshot, &rig.keys.timestamp, &rig.keys.director].map(Clone::clone)
}

/// A root that hands everything to keys of the attacker's own.
fn root(rig: &mut Rig) {
    let theirs = Keys::new();
    let own: Vec<Key> = theirs.root[..2].to_vec();
    let online = online(rig);
    for (variant, signers) in [
        ("every online key", online.to_vec()),
        ("one root key and every online key", [&[rig.keys.root[0].clone()][..], &online].concat()),
        ("one of three root keys", vec![rig.keys.root[0].clone()]),
        ("one root key and a new one", vec![rig.keys.root[0].clone(), theirs.root[0].clone(), theirs.root[1].clone()]),
        ("new root keys only", own.clone()),
        ("one root key twice, under a new root's own two", [own.clone(), vec![rig.keys.root[1].clone()]].concat()),
    ] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        let mut root = theirs.root(rig.next_root());
        root.signers = signers;
        publication.roots.push(root);
        // The whole repository by the new keys, as if root had been believed.
        publication.timestamp.signers = vec![theirs.timestamp.clone()];
        publication.snapshot.signers = vec![theirs.snapshot.clone()];
        publication.targets.signers = theirs.targets[..2].to_vec();
        let files = publication.files();
        rig.attempt(variant, files.clone(), &evil, refused(Metadata, "role root"));
        // And a desired state by the director that this root would name.
        let before = rig.device.status()["twin"]["last_error"].clone();
        let state = rig.state(evil.desired());
        rig.send(&state, &[&theirs.director]);
        let expected = refused(Signature, "0 of 1 needed signatures are valid");
        rig.expect_state_refusal(&format!("{variant}, and its director"), &before, expected);
    }
    // A quorum of the real root, but a version is left out.
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    let next = rig.next_root();
    publication.roots.push(rig.keys.root(next + 1));
    let mut files = publication.files();
    let path = |version| crate::rig::repository::Publication::path("root", Some(version));
    let skipped = files.remove(&path(next + 1)).expect("a root");
    files.insert(path(next), skipped);
    rig.attempt("a root version left out", files, &evil, refused(Metadata, "root version must increment by one"));
}

/// Snapshot and timestamp are signed well around a role that is not.
fn offline_roles(rig: &mut Rig) {
    let (stranger, online) = (key(), online(rig));
    for (variant, of_targets, of_team) in [
        ("every online key for targets", online.to_vec(), None),
        ("one targets key and every online key", [&[rig.keys.targets[0].clone()][..], &online].concat(), None),
        ("every online key for a release", rig.keys.targets[..2].to_vec(), Some(online.to_vec())),
        ("one targets key", vec![rig.keys.targets[0].clone()], None),
        ("one targets key and a stranger's", vec![rig.keys.targets[0].clone(), stranger.clone()], None),
        ("one release key", rig.keys.targets[..2].to_vec(), Some(vec![rig.keys.team[0].clone()])),
        (
            "one release key and the candidate's",
            rig.keys.targets[..2].to_vec(),
            Some(vec![rig.keys.team[0].clone(), rig.keys.candidate.clone()]),
        ),
        (
            "one release key, and every online key",
            rig.keys.targets[..2].to_vec(),
            Some([&[rig.keys.team[0].clone()][..], &online].concat()),
        ),
        ("the candidate's key for a release", rig.keys.targets[..2].to_vec(), Some(vec![rig.keys.candidate.clone()])),
    ] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        publication.targets.signers = of_targets;
        let role = if let Some(signers) = of_team {
            publication.team.signers = signers;
            "role demo"
        } else {
            "role targets"
        };
        rig.attempt(variant, publication.files(), &evil, refused(Metadata, role));
    }
    // The candidate's role, signed by its key, lists a path of releases: its delegation does not reach it.
    let evil = rig.evil();
    let mut publication = rig.publication(&[]);
    publication.candidate.signed["targets"][evil.path()] = evil.target();
    evil.add_to(&mut publication.content);
    let expected = refused(UnknownTarget, "is not among its team's signed targets");
    rig.attempt("a release in the candidate's role", publication.files(), &evil, expected);
    // The snapshot says nothing of the team's role.
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    for name in [TEAM.to_owned(), candidate_name()] {
        publication.snapshot.signed["meta"].as_object_mut().expect("meta").remove(&format!("{name}.json"));
    }
    publication.team.signers.truncate(1);
    // The device asks twice, for the install and for what the team says. Whichever is first is refused by the cached snapshot,
    // which pins the role; the next one by the role's floor.
    let expected = Expected { again: Rollback, ..refused(Metadata, "") };
    rig.attempt("a snapshot that hides the team's role", publication.files(), &evil, expected);
}

/// The director alone moves a device among versions that its team signed, and nowhere else.
fn director(rig: &mut Rig) {
    rig.publish_honestly();
    let evil = rig.evil();
    rig.try_demand("a version that was never signed", evil.desired(), refused(UnknownTarget, "signed targets"));
    let mut demand = rig.evil().desired();
    demand.version = rig.next.named.version.clone();
    rig.try_demand("another manifest under a signed version", demand, refused(ManifestDigest, "is not the signed one"));
    let before = rig.device.status()["twin"]["last_error"].clone();
    let evil = rig.evil();
    let state = rig.state(evil.desired());
    rig.send(&state, &[&rig.keys.timestamp, &rig.keys.snapshot, &rig.keys.team[0], &rig.keys.root[0]]);
    let expected = refused(Signature, "0 of 1 needed signatures are valid");
    rig.expect_state_refusal("a desired state by every key but the director's", &before, expected);
}
