//! The attacker holds the server and the network and no key of any role. He changes what is signed, signs with keys of his
//! own, counts one signature twice, or calls a key something else. The device must refuse each for its own reason.

use serde_json::{Value, json};
use tern_protocol::refusal::RefusalCode::{BlobDigest, BlobLength, ManifestDigest, Metadata, UnknownTarget};

use crate::rig::{
    Rig, refused,
    release::TEAM,
    repository::{Publication, blob_path, key},
};

/// Changes one bit of the byte after `text`.
fn flip(bytes: &mut [u8], text: &str) {
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(text.as_bytes())).expect("the text is there");
    bytes[at + text.len()] ^= 1;
}

/// The file names of the four roles at this version.
fn names(publication: &Publication) -> [(&'static str, String); 4] {
    let path = |name, version| Publication::path(name, version);
    [
        ("timestamp", path("timestamp", None)),
        ("snapshot", path("snapshot", Some(publication.snapshot.version()))),
        ("targets", path("targets", Some(publication.targets.version()))),
        (TEAM, path(TEAM, Some(publication.team.version()))),
    ]
}

#[test]
fn bytes_that_were_changed_are_refused() {
    let mut rig = Rig::new("arbitrary_install");
    tried(&mut rig);
    if std::env::var_os("TERN_FULL").is_some() {
        every_part(&mut rig);
    }
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    changed_bytes(rig);
    foreign_signatures(rig);
    swapped_algorithms(rig);
    unlisted(rig);
}

fn changed_bytes(rig: &mut Rig) {
    for role in 0..4 {
        let below = refused(Metadata, "signature threshold not met for role");
        for (what, text, expected) in [
            ("the signed part", "\"spec_version\":\"1.0.3", below),
            ("a signature", "\"sig\":\"", below),
            ("a key id", "\"keyid\":\"", below),
            ("the form", "", refused(Metadata, "parse JSON")),
        ] {
            let evil = rig.evil();
            let publication = rig.publication(&[&evil]);
            let (name, path) = names(&publication)[role].clone();
            let mut files = publication.files();
            flip(files.get_mut(&path).expect("a file"), text);
            rig.attempt(&format!("one bit of {what} of {name}"), files, &evil, expected);
        }
    }
    let evil = rig.evil();
    let mut files = rig.publication(&[&evil]).files();
    flip(files.get_mut(&evil.manifest_path()).expect("a manifest"), "\"minimum_agent\":\"0.");
    rig.attempt("one bit of the manifest", files, &evil, refused(ManifestDigest, "does not match its signed digest"));
    let evil = rig.evil();
    let mut files = rig.publication(&[&evil]).files();
    flip(files.get_mut(&blob_path(&evil.file("model"))).expect("a blob"), "evil ");
    rig.attempt("one bit of the model", files, &evil, refused(BlobDigest, "has digest"));
    for (what, by) in [("a byte more", 1), ("a byte less", -1)] {
        let evil = rig.evil();
        let mut files = rig.publication(&[&evil]).files();
        let blob = files.get_mut(&blob_path(&evil.file("model"))).expect("a blob");
        blob.resize(blob.len().saturating_add_signed(by), 0);
        rig.attempt(&format!("{what} of the model"), files, &evil, refused(BlobLength, "signed are"));
    }
}

/// One bit in each of many places of each file that a device reads on its way to a version; of the lower bits, for another
/// makes a small letter of a signature a capital one, and hexadecimal text says the same in both.
fn every_part(rig: &mut Rig) {
    const PLACES: usize = 40;
    for (place, kind) in (0..PLACES).flat_map(|place| (0..6).map(move |kind| (place, kind))) {
        let evil = rig.evil();
        let publication = rig.publication(&[&evil]);
        let (path, code) = match kind {
            4 => (evil.manifest_path(), ManifestDigest),
            5 => (blob_path(&evil.file("model")), BlobDigest),
            role => (names(&publication)[role].1.clone(), Metadata),
        };
        let mut files = publication.files();
        let bytes = files.get_mut(&path).expect("a file");
        let at = place * bytes.len() / PLACES;
        bytes[at] ^= 1 << (place % 5);
        rig.attempt(&format!("bit {} of byte {at} of {path}", place % 5), files, &evil, refused(code, ""));
    }
}

fn foreign_signatures(rig: &mut Rig) {
    let stranger = key();
    for role in ["timestamp", "snapshot", "targets", TEAM] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        let signed = match role {
            "timestamp" => &mut publication.timestamp,
            "snapshot" => &mut publication.snapshot,
            "targets" => &mut publication.targets,
            _ => &mut publication.team,
        };
        signed.signers = vec![stranger.clone()];
        let expected = refused(Metadata, "signature threshold not met for role");
        rig.attempt(&format!("{role} signed by a stranger"), publication.files(), &evil, expected);
    }
    for role in ["targets", TEAM] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        let signed = if role == TEAM { &mut publication.team } else { &mut publication.targets };
        signed.signers.truncate(1);
        let files = publication.files();
        let path = &names(&publication).into_iter().find(|(name, _)| *name == role).expect("a role").1;
        let expected = refused(Metadata, "1/2 valid signatures");
        rig.attempt(&format!("{role} signed by one of two"), files.clone(), &evil, expected);
        // The same files again would be refused again: the next variant changes them.
        let evil = rig.evil();
        let mut files = files;
        let mut envelope: Value = serde_json::from_slice(&files[path]).unwrap();
        let first = envelope["signatures"][0].clone();
        envelope["signatures"].as_array_mut().unwrap().push(first);
        files.insert(path.clone(), envelope.to_string().into_bytes());
        let expected = refused(Metadata, "duplicate signature key id");
        rig.attempt(&format!("{role} with one signature twice"), files, &evil, expected);
    }
}

/// The quorum of targets itself is tricked into listing the team's keys as something else.
fn swapped_algorithms(rig: &mut Rig) {
    for (keytype, scheme) in [("rsa", "rsassa-pss-sha256"), ("ecdsa", "ecdsa-sha2-nistp256"), ("none", "none")] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        for key in publication.targets.signed["delegations"]["keys"].as_object_mut().expect("keys").values_mut() {
            (key["keytype"], key["scheme"]) = (keytype.into(), scheme.into());
        }
        let expected = refused(Metadata, "");
        rig.attempt(&format!("the team's keys called {scheme}"), publication.files(), &evil, expected);
    }
    // One key under two names would count twice.
    let evil = rig.evil();
    let mut publication = rig.publication(&[&evil]);
    let delegations = &mut publication.targets.signed["delegations"];
    let (one, two) = (rig.keys.team[0].public().id().0, rig.keys.team[1].public().id().0);
    delegations["keys"][&two] = delegations["keys"][&one].clone();
    publication.team.signers.truncate(1);
    let mut files = publication.files();
    let path = &names(&publication)[3].1;
    let mut envelope: Value = serde_json::from_slice(&files[path]).unwrap();
    let sig = envelope["signatures"][0]["sig"].clone();
    envelope["signatures"].as_array_mut().unwrap().push(json!({"keyid": two, "sig": sig}));
    files.insert(path.clone(), envelope.to_string().into_bytes());
    rig.attempt("one key under two ids", files, &evil, refused(Metadata, "role demo lists one key twice"));
}

fn unlisted(rig: &mut Rig) {
    let evil = rig.evil();
    let mut publication = rig.publication(&[]);
    evil.add_to(&mut publication.content);
    let expected = refused(UnknownTarget, "is not among its team's signed targets");
    rig.attempt("a version that nobody signed", publication.files(), &evil, expected);
    let evil = rig.evil();
    let honest = evil.edited(|manifest| manifest["minimum_agent"] = "0.0.1".into());
    let mut publication = rig.publication(&[&honest]);
    evil.add_to(&mut publication.content);
    let expected = refused(ManifestDigest, "is not the signed one");
    rig.attempt("another manifest under a signed version", publication.files(), &evil, expected);
}
