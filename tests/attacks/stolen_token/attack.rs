//! The attacker has the token of an administrator, who may do everything that a token can; but no key. He uploads a version
//! of his own, and wants it listed: with signatures of strangers, with those of the list before, with none, by a proposal,
//! in the candidates' list, or by demanding it as it is. The server must publish and demand nothing of it.

use serde_json::{Value, json};
use tern_protocol::{keys::SigningKey, signed::sign_value};

use crate::rig::{
    fleet::Fleet,
    intruder::Reply,
    release::{MODEL, Release},
    repository::{Files, key, key_in},
};

const LIST: &str = "/api/v1/teams/demo/metadata";

#[test]
fn a_token_without_a_key_releases_nothing() {
    let mut fleet = Fleet::new("stolen_token");
    let evil = Release::quickstart("1.1.0").renamed("6.6.6").unique("evil ");
    upload(&fleet, &evil);
    let before = fleet.operate("GET", LIST, b"").json();
    let robots = fleet.operate("GET", &format!("{LIST}?role=candidate"), b"").json();
    let listed = |path: &str| {
        let mut signed = before["signed"].clone();
        if path == evil.candidate_path() {
            signed["version"] = robots["next_version"].clone();
            signed["targets"] = json!({});
        } else {
            signed["version"] = before["next_version"].clone();
        }
        signed["targets"][path] = evil.target();
        signed
    };
    let put = |fleet: &Fleet, query: &str, list: Value, keys: &[&SigningKey]| {
        fleet.operate("PUT", &format!("{LIST}{query}"), &sign_value(list, keys).unwrap())
    };
    let (release, candidate) = (evil.path(), evil.candidate_path());
    let online =
        ["snapshot-1", "timestamp-1", "director-1"].map(|name| key_in(&fleet.data, &format!("keys/{name}.key")));
    let online: Vec<_> = online.iter().map(|key| &**key).collect();
    let stranger = key();
    let old = json!({"signed": listed(&release), "signatures": before["signatures"]});
    for (variant, reply, refusal) in [
        ("a list by a stranger", put(&fleet, "", listed(&release), &[&stranger]), (422, "under-threshold")),
        ("a list by every online key", put(&fleet, "", listed(&release), &online), (422, "under-threshold")),
        (
            "a list with the signatures of the one before",
            fleet.operate("PUT", LIST, old.to_string().as_bytes()),
            (422, "under-threshold"),
        ),
        ("a list by nobody", put(&fleet, "", listed(&release), &[]), (422, "under-threshold")),
        (
            "a list of another team's",
            put(&fleet, "", listed("models/other/meter-digits/6.6.6/manifest.json"), &[&stranger]),
            (422, "foreign-target"),
        ),
        (
            "a candidate by a stranger",
            put(&fleet, "?role=candidate", listed(&candidate), &[&stranger]),
            (422, "under-threshold"),
        ),
    ] {
        refused(&mut fleet, variant, &reply, refusal);
    }
    proposals(&mut fleet, listed(&release), &stranger);
    let demand = json!({"model": format!("{MODEL}@6.6.6"), "selector": "*", "reason": "it is good"}).to_string();
    let reply = fleet.operate("POST", "/api/v1/assignments", demand.as_bytes());
    refused(&mut fleet, "a demand for what nobody signed", &reply, (409, "version-unsigned"));
    assert_eq!(fleet.operate("GET", LIST, b"").json()["signed"], before["signed"], "the list is what it was");
    fleet.finish();
}

fn refused(fleet: &mut Fleet, variant: &str, reply: &Reply, (status, code): (u16, &str)) {
    let said = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.refusal(), (status, code.to_owned()), "{variant}: {said}");
    fleet.refused(variant);
}

/// Manifest and blobs lie on the server: whoever may publish may send them, and they are worth nothing unsigned.
fn upload(fleet: &Fleet, evil: &Release) {
    let reply = fleet.operate("PUT", &format!("/api/v1/manifests/{MODEL}/6.6.6"), &evil.bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut files = Files::new();
    evil.add_to(&mut files);
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("/blobs/")) {
        let reply = fleet.operate("PUT", &format!("/api/v1{path}"), bytes);
        // The file that his own took the place of is in no manifest of his.
        assert!((200..300).contains(&reply.status) || reply.refusal().1 == "unknown-blob", "{path}: {reply:?}");
    }
}

/// A proposal may be made by whoever publishes; it waits for signatures that count, and for nothing else.
fn proposals(fleet: &mut Fleet, list: Value, stranger: &SigningKey) {
    let path = "/api/v1/teams/demo/proposals";
    let signed: Value = serde_json::from_slice(&sign_value(list.clone(), &[stranger]).unwrap()).unwrap();
    let order = json!({"reason": "it is good", "envelope": signed}).to_string();
    let reply = fleet.operate("POST", path, order.as_bytes());
    refused(fleet, "a proposal with a stranger's signature", &reply, (422, "unknown-key"));
    let order = json!({"reason": "it is good", "envelope": {"signed": list, "signatures": []}}).to_string();
    let made = fleet.operate("POST", path, order.as_bytes());
    assert_eq!((made.status, made.json()["state"].clone()), (201, "open".into()), "{made:?}");
    let id = made.json()["id"].clone();
    let order = json!({"signatures": signed["signatures"]}).to_string();
    let reply = fleet.operate("POST", &format!("/api/v1/proposals/{id}/signatures"), order.as_bytes());
    refused(fleet, "a stranger's signature for a proposal", &reply, (422, "unknown-key"));
}
