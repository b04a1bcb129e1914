//! `tern key ceremony fetch` and `publish`: no server is believed that shows another root than follows from what is known.

use jiff::Timestamp;

use super::*;
use crate::{
    ceremony::{
        signing::{Papers, Sheets},
        trust::{Edition, ROOT_LIFE},
    },
    repository::{OnlineKeys, solo},
};
use tern_protocol::digest::Digest;

const NOW: &str = "2026-06-01T00:00:00Z";

/// A fleet's first root and targets, and its second root.
struct Trust {
    roots: [Vec<u8>; 2],
    targets: Vec<u8>,
}

impl Trust {
    fn new() -> Self {
        let [root, targets, snapshot, timestamp, director] = [(); 5].map(|()| SigningKey::generate().unwrap());
        let [release, candidate] = [(); 2].map(|()| SigningKey::generate().unwrap().public());
        let keys = solo::SoloKeys {
            root,
            targets,
            online: OnlineKeys::new(snapshot, timestamp),
            director: director.public(),
            teams: vec![solo::TeamKeys {
                team: "demo".parse().unwrap(),
                release: vec![release],
                threshold: 1,
                candidate,
            }],
        };
        let now: Timestamp = NOW.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        solo::create(folder.path(), &keys, now).unwrap();
        let read = |name: &str| fs::read(folder.path().join("metadata").join(name)).unwrap();
        let (first, targets) = (read("1.root.json"), read("1.targets.json"));
        let sheets = Sheets { root: Some(first.clone()), targets: Some(targets.clone()), ..Sheets::default() };
        let (trust, edition) = Papers::read(&sheets).unwrap().root.unwrap().content;
        let second = trust.document(Edition::after(Some(edition), ROOT_LIFE, now));
        let second = tern_protocol::signed::sign_value(second, &[&keys.root]).unwrap();
        Self { roots: [first, second], targets }
    }

    /// What a server of this trust, `roots` long, answers.
    fn shown_by(&self, desk: &Desk, roots: usize) {
        let value = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).unwrap();
        let roots: Vec<_> = self.roots[..roots].iter().map(value).collect();
        let now = json!({
            "fleet": "plant-7", "solo": false, "roots": roots, "targets": value(&self.targets), "roles_to_sign_again": []
        });
        desk.state(|state| state.answer = Some((200, now.to_string())));
    }
}

fn fetch(desk: &Desk, folder: &str, more: &[&str]) -> Outcome {
    let folder = desk.path(folder);
    let mut args = vec!["key", "ceremony", "fetch", folder.to_str().unwrap()];
    args.extend(more);
    desk.tern(&args)
}

#[test]
fn a_first_fetch_wants_a_root_that_is_named_and_later_ones_do_not() {
    let (desk, ours, theirs) = (Desk::new(), Trust::new(), Trust::new());
    let (pin, foreign) = (Digest::of(&ours.roots[0]).to_string(), Digest::of(&theirs.roots[0]).to_string());
    ours.shown_by(&desk, 1);
    let refused = fetch(&desk, "folder", &[]);
    for words in ["no root of fleet plant-7", "--root FILE", "--root-sha256 HEX", "tern-server adopt", "sha256sum"] {
        assert!(refused.refused().contains(words), "{}", refused.err);
    }
    assert!(fetch(&desk, "folder", &["--root-sha256", &foreign]).refused().contains("another fleet's"));
    fs::write(desk.path("theirs.json"), &theirs.roots[0]).unwrap();
    let file = desk.path("theirs.json");
    let refused = fetch(&desk, "folder", &["--root", file.to_str().unwrap()]);
    assert!(refused.err.contains("do not follow"), "{}", refused.err);
    assert!(fetch(&desk, "folder", &["--root", "/nowhere.json"]).refused().contains("--root names a root.json"));
    assert!(!desk.path("folder").exists() && !desk.path("root-plant-7.json").exists(), "nothing was believed");

    let fetched = fetch(&desk, "folder", &["--root-sha256", &pin]);
    assert_eq!(fetched.code, 0, "{}", fetched.err);
    assert_eq!(fs::read(desk.path("folder/root.json")).unwrap(), ours.roots[0]);
    // The pin is a root that was: the newest is reached from it, here into another folder, by memory alone.
    ours.shown_by(&desk, 2);
    let again = fetch(&desk, "another", &[]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(fs::read(desk.path("another/root.json")).unwrap(), ours.roots[1]);
    // The folder says one thing, the memory another: a server cannot choose.
    theirs.shown_by(&desk, 1);
    fs::write(desk.path("folder/root.json"), &theirs.roots[0]).unwrap();
    assert!(fetch(&desk, "folder", &[]).err.contains("do not follow"));
    assert!(fetch(&desk, "folder", &["--root-sha256", &foreign]).err.contains("do not follow"));
    // Nor can it go back.
    ours.shown_by(&desk, 1);
    assert!(fetch(&desk, "third", &[]).err.contains("do not follow"));
}

#[test]
fn a_root_file_that_is_named_is_enough() {
    let (desk, ours) = (Desk::new(), Trust::new());
    ours.shown_by(&desk, 2);
    fs::write(desk.path("mine.json"), &ours.roots[0]).unwrap();
    let file = desk.path("mine.json");
    let fetched = fetch(&desk, "folder", &["--root", file.to_str().unwrap()]);
    assert_eq!(fetched.code, 0, "{}", fetched.err);
    assert_eq!(fs::read(desk.path("root-plant-7.json")).unwrap(), ours.roots[1]);
}

#[test]
fn signatures_that_people_gave_are_not_thrown_away_unasked() {
    let (desk, ours) = (Desk::new(), Trust::new());
    let signed = desk.path("folder/next/root.json");
    fs::create_dir_all(signed.parent().unwrap()).unwrap();
    fs::write(desk.path("folder/root.json"), &ours.roots[0]).unwrap();
    fs::write(&signed, &ours.roots[1]).unwrap();
    ours.shown_by(&desk, 1);
    let refused = fetch(&desk, "folder", &[]);
    assert!(refused.refused().contains("holds 1 signatures") && refused.err.contains("--discard"), "{}", refused.err);
    assert_eq!(fs::read(&signed).unwrap(), ours.roots[1]);
    // What is in force by now is not lost.
    ours.shown_by(&desk, 2);
    assert_eq!(fetch(&desk, "folder", &[]).code, 0);
    assert!(!signed.exists());
    // Who says so loses it.
    fs::create_dir_all(signed.parent().unwrap()).unwrap();
    let mut third: Value = serde_json::from_slice(&ours.roots[1]).unwrap();
    third["signed"]["version"] = 3.into();
    fs::write(&signed, third.to_string()).unwrap();
    assert!(fetch(&desk, "folder", &[]).refused().contains("--discard"));
    assert_eq!(fetch(&desk, "folder", &["--discard"]).code, 0);
    assert!(!signed.exists());
}

#[test]
fn nothing_is_published_to_a_server_of_another_root() {
    let (desk, ours, theirs) = (Desk::new(), Trust::new(), Trust::new());
    fs::create_dir_all(desk.path("folder/next")).unwrap();
    fs::write(desk.path("folder/root.json"), &ours.roots[0]).unwrap();
    fs::write(desk.path("folder/targets.json"), &ours.targets).unwrap();
    fs::write(desk.path("folder/next/root.json"), &ours.roots[1]).unwrap();
    theirs.shown_by(&desk, 1);
    let folder = desk.path("folder");
    let refused = desk.tern(&["key", "ceremony", "publish", folder.to_str().unwrap()]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("do not follow"), "{}", refused.err);
    assert!(desk.state(|state| state.requests.iter().all(|request| !request.starts_with("PUT"))));
    assert!(!desk.path("root-plant-7.json").exists());
}

#[test]
fn a_server_whose_roots_are_no_documents_is_not_believed() {
    let (desk, ours) = (Desk::new(), Trust::new());
    fs::write(desk.path("mine.json"), &ours.roots[0]).unwrap();
    let file = desk.path("mine.json");
    for odd in [json!("text"), json!([]), json!(7), json!({})] {
        let now = json!({"fleet": "plant-7", "solo": false, "roots": [odd], "targets": {}, "roles_to_sign_again": []});
        desk.state(|state| state.answer = Some((200, now.to_string())));
        let refused = fetch(&desk, "folder", &["--root", file.to_str().unwrap()]);
        assert!(refused.refused().contains("without a signed part"), "{odd}: {}", refused.err);
    }
    assert!(!desk.path("folder").exists(), "nothing was believed");
}
