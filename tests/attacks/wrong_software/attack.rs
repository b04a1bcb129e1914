//! The attacker holds the server, its online keys, and versions that were honestly signed for something else: another
//! device class, model or team; or a careless publisher signed paths that leave the bundle. Each must be refused for what
//! it is, and nothing may be written outside the device's own folders, not even through links that lie in them.

use std::{fs, os::unix::fs::symlink};

use serde_json::json;
use tern_protocol::{
    digest::Digest,
    refusal::RefusalCode::{AgentTooOld, LoadFailed, Manifest, ManifestDigest, OverBudget, UnknownTarget, WrongClass},
};

use crate::rig::{Rig, device::put, https::Trick, refused, release::Release, repository::blob_path};

#[test]
fn what_was_signed_for_something_else_is_refused() {
    let mut rig = Rig::new("wrong_software");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    for_others(rig);
    for path in ["../../identity/device.key", "/etc/passwd", "a/../../b", "models\\evil", "", "."] {
        let evil = rig.evil().edited(|manifest| manifest["files"][0]["path"] = path.into());
        let files = rig.publication(&[&evil]).files();
        rig.attempt(
            &format!("a file called {path:?}"),
            files,
            &evil,
            refused(Manifest, "is not a plain relative path"),
        );
    }
    names_in_a_demand(rig);
    links(rig);
    broken(rig);
}

fn for_others(rig: &mut Rig) {
    let evil = rig.evil().edited(|manifest| manifest["device_classes"] = json!(["gateway"]));
    let files = rig.publication(&[&evil]).files();
    rig.attempt("for another class", files, &evil, refused(WrongClass, "does not allow class camera"));
    let evil = rig.evil().edited(|manifest| manifest["minimum_agent"] = "99.0.0".into());
    let files = rig.publication(&[&evil]).files();
    rig.attempt("for a newer agent", files, &evil, refused(AgentTooOld, "needs agent 99.0.0"));
    let evil = rig.evil().edited(|manifest| manifest["budgets"] = json!({"*": {"disk_bytes": 1000}}));
    let files = rig.publication(&[&evil]).files();
    rig.attempt("over its own budget", files, &evil, refused(OverBudget, "its budget is"));
    // A manifest of one model, signed by its team under the path of another.
    let evil = rig.evil().edited(|manifest| manifest["model"] = "demo/other@1.0.0".into());
    let files = rig.publication(&[&evil]).files();
    rig.attempt("another model's manifest", files, &evil, refused(Manifest, "but was signed as"));
    // A team's role lists another team's path: its delegation reaches its own only.
    let foreign = rig.evil().named("other/meter-digits@6.6.0".parse().unwrap());
    let mut publication = rig.publication(&[]);
    let path = foreign.path();
    publication.team.signed["targets"][&path] = foreign.target();
    foreign.add_to(&mut publication.content);
    rig.https.serve(publication.files());
    // It would take the name on the device that the active version has; so the active one stays demanded beside it,
    // as a model of another name.
    let foreign = foreign.named("other/faces@6.6.0".parse().unwrap());
    beside(rig, "another team's path in a team's role", &foreign, refused(UnknownTarget, "signed targets"));
}

/// Demands `release`, a model of another name, beside the active version.
fn beside(rig: &mut Rig, variant: &str, release: &Release, expected: crate::rig::Expected) {
    let mut state = rig.state(release.desired());
    state.models.push(rig.active.desired());
    rig.send(&state, &[&rig.keys.director]);
    rig.expect_refusal_of(variant, &release.named.name.to_string(), &release.named.version.to_string(), expected);
}

/// Names in a desired state are parsed at the door: one that leaves its place makes the whole state malformed.
fn names_in_a_demand(rig: &mut Rig) {
    for name in ["../demo/meter-digits", "demo/../meter-digits", "demo/meter-digits/../../x", "_fleet/x", "Demo/x"] {
        let evil = rig.evil();
        let state = rig.state(evil.desired());
        let mut value = serde_json::to_value(&state).unwrap();
        (value["models"][0]["model"], value["_type"]) = (name.into(), "tern-desired-state".into());
        let before = rig.device.status()["twin"]["last_error"].clone();
        rig.mqtt.send("desired", tern_protocol::signed::sign_value(value, &[&rig.keys.director]).unwrap());
        let expected = refused(tern_protocol::refusal::RefusalCode::Malformed, "is not valid");
        rig.expect_state_refusal(&format!("a model called {name:?}"), &before, expected);
    }
}

/// Links in the state folder are not followed: neither to read a model nor to write one.
fn links(rig: &mut Rig) {
    let outside = rig.device.folder.join("outside");
    for name in ["", ".part"] {
        let evil = rig.evil();
        let (model, files) = (evil.file("model"), rig.publication(&[&evil]).files());
        let there = rig.device.state("blobs/sha256").join(format!("{}{name}", Digest::of(&model)));
        // The right bytes, so that only the link itself can tell.
        put(&outside, &model);
        symlink(&outside, &there).unwrap();
        // It is fetched in place of the link, and turns out to be no model.
        let variant = format!("a link in place of the model{name}");
        rig.https.traffic(&blob_path(&model));
        rig.attempt(&variant, files, &evil, refused(LoadFailed, "malformed model"));
        assert_eq!(rig.https.traffic(&blob_path(&model)).requests, 1, "{variant}");
        assert!(fs::symlink_metadata(&there).map_or(true, |there| !there.is_symlink()), "{variant} is still there");
        assert_eq!(fs::read(&outside).unwrap(), model, "{variant}: nothing is written through it");
    }
}

/// Signed well, but no model.
fn broken(rig: &mut Rig) {
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.attempt("a model file that is none", files, &evil, refused(LoadFailed, ""));
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.https.serve(files);
    rig.https.play(&evil.manifest_path(), Trick::Bytes(b"{}".to_vec()));
    rig.try_demand("a manifest that is none", evil.desired(), refused(ManifestDigest, "signed digest"));
}
