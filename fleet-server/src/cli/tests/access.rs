//! `tern token`, `tern accesses`, `tern policy test` and `tern whoami`.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// What the fake server answers to an order of a token.
pub(super) fn issued() -> Value {
    json!({
        "secret": "5ec2e7", "name": "ann", "role": "publisher", "scope": {"teams": ["vision"]},
        "created": "2026-06-01T00:00:00Z", "created_by": "admin", "expires": "2030-01-01T00:00:00Z",
        "last_used": null, "revoked": null, "revoked_by": null, "revoke_reason": null
    })
}

/// Two tokens, one of them revoked.
pub(super) fn tokens() -> Value {
    let mut ann = issued();
    ann.as_object_mut().unwrap().remove("secret");
    let mut bob = ann.clone();
    bob["name"] = json!("bob");
    bob["scope"] = json!({});
    bob["revoked"] = json!("2026-06-02T00:00:00Z");
    json!({"items": [ann, bob]})
}

/// Two accesses, newest first.
pub(super) fn accesses() -> Value {
    json!({"items": [
        {"id": 2, "at": "2026-06-01T00:00:00Z", "kind": "stranger", "actor": "-", "address": "10.0.0.1",
         "action": "request", "resource": "/api/v1/models", "model": null, "version": null,
         "reason": "GET /api/v1/models", "outcome": "refused", "code": "bad-token", "times": 41},
        {"id": 1, "at": "2026-06-01T00:00:00Z", "kind": "device", "actor": "cam-1", "action": "read-blob",
         "resource": "0123456789", "model": "demo/m", "version": "1.0.0", "reason": "generation 7",
         "outcome": "granted", "code": "", "times": 1}
    ]})
}

#[test]
fn a_token_is_printed_once_or_kept_in_a_file_for_its_owner() {
    let desk = Desk::new();
    let printed = desk.tern(&["token", "create", "ann", "--role", "publisher", "--team", "vision"]);
    assert_eq!((printed.code, printed.out.as_str()), (0, "5ec2e7\n"), "{}", printed.err);
    assert!(printed.err.contains("ann (publisher, team vision, ends in"), "{}", printed.err);
    let sent: Value = serde_json::from_slice(&desk.state(|s| s.last_body.clone())).unwrap();
    assert_eq!(sent, json!({"name": "ann", "role": "publisher", "scope": {"teams": ["vision"]}}));

    let file = desk.path("ann.token");
    let shown = file.to_str().unwrap();
    let args =
        ["token", "create", "ann", "--role", "operator", "--devices", "site=hall-2", "--expires", "30d", "--out"];
    let kept = desk.tern(&[&args[..], &[shown]].concat());
    assert_eq!(kept.code, 0, "{}", kept.err);
    assert!(!kept.out.contains("5ec2e7") && !kept.err.contains("5ec2e7"), "{}{}", kept.out, kept.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), "5ec2e7\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let sent: Value = serde_json::from_slice(&desk.state(|s| s.last_body.clone())).unwrap();
    assert_eq!((&sent["scope"]["devices"], &sent["valid_seconds"]), (&json!("site=hall-2"), &json!(30 * 86_400)));

    let again = desk.tern(&[&args[..], &[shown]].concat());
    assert!(again.refused().contains("is there already"), "{}", again.err);
}

#[test]
fn a_refused_token_leaves_no_file() {
    let desk = Desk::new();
    let problem = Problem::new(409, "token-exists", "The name was given before", "take another name");
    desk.state(|s| s.answer = Some((409, serde_json::to_string(&problem).unwrap())));
    let file = desk.path("ann.token");
    let refused = desk.tern(&["token", "create", "ann", "--role", "viewer", "--out", file.to_str().unwrap()]);
    assert!(refused.code == 1 && !file.exists(), "{}", refused.err);
}

#[test]
fn tokens_are_listed_without_secrets_and_revoked_with_a_reason() {
    let desk = Desk::new();
    let listed = desk.tern(&["token", "list"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let lines: Vec<_> = listed.out.lines().collect();
    assert!(
        lines[1].contains("ann") && lines[1].contains("team vision") && lines[1].contains("counts"),
        "{}",
        lines[1]
    );
    assert!(lines[2].contains("bob") && lines[2].contains("the whole fleet") && lines[2].contains("revoked"));
    for usage in [
        &["token", "revoke", "ann"][..],
        &["token", "create", "Ann", "--role", "viewer"],
        &["token", "create", "ann", "--role", "root"],
    ] {
        assert_eq!(desk.tern(usage).code, 2, "{usage:?}");
    }
    desk.state(|s| s.answer = Some((204, String::new())));
    let revoked = desk.tern(&["token", "revoke", "ann", "--reason", "left us"]);
    assert_eq!((revoked.code, revoked.out.as_str()), (0, "token ann counts no more\n"), "{}", revoked.err);
    let asked = desk.state(|s| s.requests.last().unwrap().clone());
    assert_eq!(asked, "DELETE /api/v1/tokens/ann?reason=left%20us");
}

#[test]
fn accesses_are_shown_with_who_what_and_why() {
    let desk = Desk::new();
    let args = ["accesses", "--device", "cam-1", "--actor", "ann", "--model", "demo/m", "--since", "1d", "--last", "5"];
    let shown = desk.tern(&args);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let asked = desk.state(|s| s.requests.last().unwrap().clone());
    for part in ["device=cam-1", "actor=ann", "model=demo%2Fm", "since=2", "limit=5"] {
        assert!(asked.contains(part), "{asked}");
    }
    let lines: Vec<_> = shown.out.lines().collect();
    for (line, parts) in [
        (lines[1], ["device cam-1", "0123456789 (demo/m@1.0.0)", "generation 7", "granted"]),
        (lines[2], ["stranger - 10.0.0.1", "/api/v1/models", "refused: bad-token", "41"]),
    ] {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let last = desk.tern(&["--output", "json", "accesses", "--last", "1"]).json();
    assert_eq!(last["items"].as_array().unwrap().len(), 1);
    assert_eq!(last["items"][0]["id"], 2);
}

#[test]
fn whoami_says_role_and_scope() {
    let desk = Desk::new();
    let me = desk.tern(&["whoami"]);
    assert_eq!((me.code, me.out.as_str()), (0, "ann (admin) on fleet demo\n"), "{}", me.err);
    let scoped = json!({
        "name": "bob", "role": "operator", "scope": {"devices": "site=hall-2"}, "fleet": "demo",
        "server_version": "0.1.0", "solo": false
    });
    desk.state(|s| s.answer = Some((200, scoped.to_string())));
    assert_eq!(desk.tern(&["whoami"]).out, "bob (operator, for devices site=hall-2) on fleet demo\n");
}

fn policy(text: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    fs::write(&file, text).unwrap();
    tern(Environment::default(), "", &["policy", "test", file.to_str().unwrap()])
}

#[test]
fn the_example_of_policies_holds() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy.toml");
    let tested = tern(Environment::default(), "", &["policy", "test", file.to_str().unwrap()]);
    assert_eq!(tested.code, 0, "{}{}", tested.out, tested.err);
    assert!(!tested.out.contains("WRONG"), "{}", tested.out);
    let text = fs::read_to_string(file).unwrap();
    let cases = text.lines().filter(|line| line.trim() == "[[case]]").count();
    assert_eq!(tested.out.lines().count(), cases + 1);
    assert_eq!(tested.out.lines().last(), Some(format!("{cases} cases, {cases} as expected").as_str()));
}

#[test]
fn a_case_that_is_decided_otherwise_is_one() {
    let case = |expect: &str| {
        format!(
            "[[case]]\nrole = \"viewer\"\naction = \"read-model\"\nresource = {{ team = \"vision\" }}\nexpect = \"{expect}\"\n"
        )
    };
    let wrong = policy(&format!("{}{}", case("deny"), case("allow")));
    assert_eq!(wrong.code, 1);
    let lines: Vec<_> = wrong.out.lines().collect();
    assert!(lines[0].starts_with("ok     1: a token (viewer) may not read-model models of vision"), "{}", lines[0]);
    assert!(lines[1].starts_with("WRONG  2: "), "{}", lines[1]);
    assert_eq!(lines[2], "2 cases, 1 as expected");
    assert!(wrong.err.contains("1 case decided otherwise"), "{}", wrong.err);
}

#[test]
fn a_file_that_cannot_be_read_is_two_and_says_where() {
    let case = "[[case]]\nrole = \"viewer\"\naction = \"read\"\nresource = \"fleet\"\nexpect = \"allow\"\n";
    assert_eq!(policy(case).code, 0);
    for (from, to, says) in [
        (case, "", "case"),
        ("viewer", "king", "no role is called"),
        ("\"read\"", "\"write\"", "no action is called"),
        ("\"fleet\"", "\"all\"", "no resource is called"),
        ("\"fleet\"", "{}", "the resource is empty"),
        ("\"fleet\"", "{ device = \"cam-1\" }", "a device has a class"),
        ("\"fleet\"", "{ to = \"a b\" }", "cannot read"),
        ("allow", "perhaps", "perhaps"),
        ("role = \"viewer\"", "token = \"ann\"", "there is no [token.ann]"),
        ("role = \"viewer\"\n", "", "say who"),
        ("role", "site = \"x\"\nrole", "site"),
    ] {
        let bad = policy(&case.replace(from, to));
        assert_eq!(bad.code, 2, "{to}: {}", bad.err);
        assert!(bad.err.contains(says), "{to}: {}", bad.err);
    }
    let missing = tern(Environment::default(), "", &["policy", "test", "/nowhere/policy.toml"]);
    assert!(missing.code == 2 && missing.err.contains("missing"), "{}", missing.err);
}
