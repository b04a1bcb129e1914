//! `tern` against a server of our own making over real TLS: the publish flow, refusals, wrong certificates and tokens.
#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]

mod access;
mod cases;
mod ceremony;
mod dashboards;
mod decay;
mod draft;
mod fake;
mod inspect;
mod keys;
mod profile;
mod proposals;
mod rescue;
mod rollouts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tern_protocol::{api::Problem, keys::SigningKey};

use super::*;
use crate::keyfile;
use fake::{Fake, State, TOKEN};

/// A home of an operator who is logged in to a fake server.
struct Desk {
    folder: tempfile::TempDir,
    server: Fake,
}

struct Outcome {
    code: u8,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }

    fn refused(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        self.err.lines().last().unwrap()
    }
}

fn tern(environment: Environment, input: &str, args: &[&str]) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let world = World { environment, input: &mut input.as_bytes(), out: &mut out, err: &mut err, watched: false };
    let code = run(args.iter().map(OsString::from), world);
    Outcome { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), server: Fake::start() };
        fs::write(desk.path("ca.pem"), desk.server.ca_pem()).unwrap();
        let login = desk.login(TOKEN);
        assert_eq!(login.code, 0, "{}", login.err);
        let key = SigningKey::generate().unwrap();
        keyfile::write(&desk.path("release.key"), &key, None).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn environment(&self) -> Environment {
        Environment { config: Some(self.path("config.toml")), ..Environment::default() }
    }

    fn tern(&self, args: &[&str]) -> Outcome {
        tern(self.environment(), "", args)
    }

    fn login(&self, token: &str) -> Outcome {
        let ca = self.path("ca.pem");
        let args = ["login", "--server", self.server.address(), "--ca", ca.to_str().unwrap()];
        tern(self.environment(), &format!("{token}\n"), &args)
    }

    fn publish(&self, version: &str, more: &[&str]) -> Outcome {
        let folder = bundle(version);
        let mut args = vec!["--output", "json", "model", "publish", folder.to_str().unwrap()];
        args.extend(more);
        self.tern(&args)
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.server.state())
    }
}

fn bundle(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits").join(version)
}

#[test]
fn every_command_of_the_help_is_understood() {
    let parses = |line: &str| Cli::try_parse_from(line.split(' ').map(|word| word.replace('_', " "))).map(|_| ());
    for line in [
        "login --server https://s:1 --ca ca.pem --token-file t",
        "model publish folder --key a --key b --accept-existing",
        "model inspect m.onnx --json",
        "model test zoo more --atol 1e-4 --rtol 0 --time-limit 30s --json",
        "model test zoo --tolerance 0.01 --constants",
        "model check m.onnx --reference d.csv --label y --name demo/m --python python3 --atol 1 --rtol 1 --force --json",
        "model check m.onnx --no-onnxruntime",
        "model list",
        "model list demo/m --output json",
        "model show demo/m@1.0.0",
        "model publish folder --candidate --key robot.key",
        "model publish folder --unsigned --reason better",
        "model approve demo/m@1.0.0 --key a --yes",
        "model approve --proposal 7 --override known",
        "model proposals demo",
        "model withdraw --proposal 7 --reason x",
        "model recall demo/m@1.0.0 --reason x --on-recall stop",
        "model floor demo/m 1.1.0 --reason x --trusted-key 0000000000000000000000000000000000000000000000000000000000000000",
        "device enroll cam-1 --label site=hall-2 --label row=3 --valid 2d",
        "device list --selector site=hall-2,class!=old",
        "device show cam-1 --output table",
        "device rescue cam-1 --nonce 00112233445566778899aabbccddeeff --key a --key b --valid 2d --out f",
        "device rescue cam-1 --nonce 00112233445566778899aabbccddeeff --key a --add f",
        "assign demo/m@1.0.0 --to * --reason first_try --probation-inferences 5 --probation-seconds 9",
        "events --after 7 --last 3",
        "rollout create demo/m@1.0.0 --to * --reason x --canary 2 --bake 10m --then 50% --then 100% --start",
        "rollout create demo/m@1.0.0 --to * --reason x --policy p.toml",
        "rollout plan m-1-1-0",
        "rollout status m-1-1-0 -w --timeout 5m",
        "rollout abort m-1-1-0 --reason x",
        "key generate anna --no-passphrase",
        "key export anna --out anna.pub",
        "key rotate anna",
        "completions fish --config x.toml",
        "whoami",
        "token create ann --role publisher --team vision --team audio --expires 90d --out f",
        "token list",
        "token revoke ann --reason left",
        "accesses --device cam-1 --actor - --model demo/m --since 1d --last 3",
        "policy test policy.toml",
    ] {
        assert!(parses(line).is_ok(), "{line}: {:?}", parses(line).err());
    }
}

#[test]
fn wrong_usage_is_two_and_help_is_none() {
    for line in [
        "",
        "model",
        "models",
        "model show demo/m",
        "model list demo",
        "model publish folder --unsigned --key a",
        "model approve",
        "model approve demo/m@1.0.0 --proposal 7",
        "model approve demo/m",
        "model withdraw --proposal 7",
        "model recall demo/m@1.0.0",
        "model recall demo/m@1.0.0 --reason x --on-recall wait",
        "model floor demo --reason x",
        "model test",
        "model test zoo --tolerance 1 --atol 1",
        "model check m.onnx --label y",
        "model check m.onnx --name m",
        "device enroll Cam_1",
        "device rescue cam-1 --nonce 0 --key a",
        "device rescue cam-1 --nonce 00112233445566778899aabbccddeeff",
        "device enroll cam-1 --valid 1y",
        "assign demo/m@1.0.0 --to *",
        "assign demo/m@1.0.0 --to * --reason _",
        "assign demo/m@1.0.0 --to * --reason x --probation-seconds 9",
        "events --last 0",
        "rollout create demo/m@1.0.0 --to * --reason x",
        "rollout create demo/m@1.0.0 --to * --canary 2",
        "rollout create demo/m@1.0.0 --to * --reason x --canary 2 --policy p.toml",
        "rollout create demo/m@1.0.0 --to * --reason x --canary 200%",
        "rollout start m-1-1-0",
        "rollout status m-1-1-0 --timeout 5m",
        "rollout status M_1",
        "completions dos",
        "model list --output yaml",
    ] {
        let args: Vec<_> = line.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('_', " ")).collect();
        let outcome = tern(Environment::default(), "", &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{line}");
        assert!(!outcome.err.is_empty());
    }
    let help = tern(Environment::default(), "", &["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in ["login", "model", "device", "assign", "rollout", "events", "completions"] {
        assert!(help.out.contains(command), "{command}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = tern(Environment::default(), "", &["completions", shell]);
        assert!(outcome.code == 0 && outcome.out.contains("enroll"), "{shell}");
    }
}

#[test]
fn without_a_login_the_way_to_one_is_told() {
    let outcome = tern(Environment::default(), "", &["model", "list"]);
    assert!(outcome.refused().contains("tern login --server URL"));
    let outcome = tern(Environment::default(), "", &["login", "--server", "https://s", "--ca", "x"]);
    assert!(outcome.refused().contains("--config"));
}

#[test]
fn login_writes_only_what_the_server_has_taken() {
    let desk = Desk::new();
    let place = desk.path("config.toml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&place).unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    let good = fs::read(&place).unwrap();
    let refused = desk.login("0bad");
    assert_eq!(refused.refused(), "error: Unauthorized: the token is not known: log in again");
    assert!(desk.login("").refused().contains("no token"));
    assert_eq!(fs::read(&place).unwrap(), good, "a failed login changes nothing");
    let again = desk.login(TOKEN);
    assert!(again.out.contains("logged in to fleet demo") && again.err.contains("unsafe"));
}

#[test]
fn a_certificate_of_another_ca_is_not_trusted() {
    let desk = Desk::new();
    fs::write(desk.path("ca.pem"), Fake::start().ca_pem()).unwrap();
    let requests = desk.state(|s| s.requests.len());
    let outcome = desk.login(TOKEN);
    assert!(outcome.refused().contains("certificate that cannot be trusted"), "{}", outcome.err);
    assert!(outcome.refused().contains("--ca"));
    assert_eq!(desk.state(|s| s.requests.len()), requests, "no token left this machine");
}

#[test]
fn a_name_that_the_certificate_does_not_hold_is_not_trusted() {
    let desk = Desk::new();
    let elsewhere = desk.server.address().replace("localhost", "127.0.0.1");
    let environment = Environment { server: Some(elsewhere), ..desk.environment() };
    let outcome = tern(environment, "", &["model", "list"]);
    assert!(outcome.refused().contains("certificate that cannot be trusted"), "{}", outcome.err);
}

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_refuses() {
    let desk = Desk::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Environment { server: Some(format!("https://localhost:{free}")), ..desk.environment() };
    assert!(tern(nobody, "", &["model", "list"]).refused().contains("cannot be reached"));
    let outcome = desk.tern(&["device", "show", "nobody"]);
    assert_eq!(outcome.refused(), "error: Not found: device nobody is not enrolled");
    desk.state(|s| s.answer = Some((500, "<html>proxy</html>".into())));
    assert!(desk.tern(&["model", "list"]).refused().contains("500"));
    desk.state(|s| s.answer = Some((200, "[1, 2]".into())));
    assert!(desk.tern(&["model", "list"]).refused().contains("not Tern's"));
}

#[test]
fn a_refusal_cannot_steer_the_terminal() {
    let desk = Desk::new();
    let problem = Problem::new(403, "forbidden", "Forbidden", "no\u{1b}[2J\u{202e}way");
    desk.state(|s| s.answer = Some((403, serde_json::to_string(&problem).unwrap())));
    let outcome = desk.tern(&["model", "list"]);
    assert_eq!(outcome.refused(), "error: Forbidden: no\u{fffd}[2J\u{fffd}way");
}

#[test]
fn publish_uploads_signs_and_is_idempotent() {
    let desk = Desk::new();
    let first = desk.publish("1.0.0", &[]).json();
    let read = crate::bundle::read(&bundle("1.0.0")).unwrap();
    assert_eq!(first["manifest"], read.digest().to_string());
    assert_eq!(
        (first["list_version"].as_u64(), first["uploaded_blobs"].as_u64()),
        (Some(1), Some(read.blobs.len() as u64))
    );
    desk.state(|s| {
        for (digest, blob) in &read.blobs {
            assert_eq!(s.blobs[&digest.to_string()], fs::read(&blob.path).unwrap(), "{}", blob.path.display());
        }
    });
    let again = desk.publish("1.0.0", &[]).json();
    assert_eq!((&again["list_version"], again["uploaded_blobs"].as_u64()), (&Value::Null, Some(0)));
    let second = desk.publish("1.0.1", &[]).json();
    assert_eq!(second["list_version"], 2);
    assert!(
        second["uploaded_blobs"].as_u64().unwrap() < first["uploaded_blobs"].as_u64().unwrap(),
        "golden inputs are shared"
    );
    let list = desk.state(|s| s.list.clone().unwrap());
    assert_eq!(list["targets"].as_object().unwrap().len(), 2);
}

#[test]
fn publish_for_people_prints_each_step_and_the_digest() {
    let desk = Desk::new();
    let outcome = desk.tern(&["model", "publish", bundle("1.0.0").to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let digest = crate::bundle::read(&bundle("1.0.0")).unwrap().digest().to_string();
    let starts = ["read demo/meter-digits@1.0.0", "stored the manifest", "uploaded ", "signed version 1", "published "];
    let lines: Vec<_> = outcome.out.lines().collect();
    assert!(lines.len() == starts.len() && lines.iter().zip(starts).all(|(l, s)| l.starts_with(s)), "{lines:?}");
    assert!(lines[4].ends_with(&digest));
    assert_eq!(outcome.err, "");
}

#[test]
fn a_list_is_signed_again_as_it_stands_after_it_was_shown_and_confirmed() {
    let desk = Desk::new();
    let sign = ["model", "sign", "demo", "--reason", "other keys"];
    assert!(desk.tern(&sign).refused().contains("no list yet"));
    desk.publish("1.0.0", &[]).json();
    let before = desk.state(|s| s.list.clone().unwrap());
    let answered = |answer: &str| tern(desk.environment(), answer, &sign);
    for answer in ["", "no\n"] {
        let outcome = answered(answer);
        assert!(outcome.out.contains("lists models/demo/meter-digits/1.0.0/manifest.json: "), "{}", outcome.out);
        assert_eq!(outcome.code, 1);
        assert!(outcome.err.contains("not confirmed"), "{}", outcome.err);
    }
    assert_eq!(desk.state(|s| s.list.clone().unwrap()), before);
    let outcome = answered("yes\n");
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let after = desk.state(|s| s.list.clone().unwrap());
    assert_eq!((&after["targets"], &after["version"]), (&before["targets"], &json!(2)));
}

#[test]
fn a_publish_that_was_cut_short_is_continued() {
    let desk = Desk::new();
    desk.state(|s| s.blobs_until_failure = Some(5));
    assert!(desk.publish("1.0.0", &[]).refused().contains("Unavailable"));
    assert_eq!(desk.state(|s| s.blobs.len()), 5);
    desk.state(|s| s.blobs_until_failure = None);
    let all = crate::bundle::read(&bundle("1.0.0")).unwrap().blobs.len() as u64;
    assert_eq!(desk.publish("1.0.0", &[]).json()["uploaded_blobs"], all - 5);
}

#[test]
fn a_list_that_moved_is_read_and_signed_again_but_not_for_ever() {
    let desk = Desk::new();
    desk.state(|s| s.moved = 2);
    assert_eq!(desk.publish("1.0.0", &[]).json()["list_version"], 1);
    desk.state(|s| s.moved = u32::MAX);
    assert!(desk.publish("1.0.1", &[]).refused().contains("run it again"));
}

#[test]
fn a_server_that_slips_a_version_into_the_list_gets_no_signature() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    let evil = json!({"length": 1, "hashes": {"sha256": "00".repeat(32)}});
    desk.state(|s| s.list.as_mut().unwrap()["targets"]["models/demo/meter-digits/6.6.6/manifest.json"] = evil);
    let signed = desk.state(|s| s.lists_signed);
    assert!(desk.publish("1.0.1", &[]).refused().contains("demo/meter-digits@6.6.6"));
    assert_eq!(desk.state(|s| s.lists_signed), signed);
    assert_eq!(desk.publish("1.0.1", &["--accept-existing"]).json()["list_version"], 2);
}

#[test]
fn a_colleague_continues_only_with_a_key_that_vouches() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    fs::remove_dir_all(desk.path("signed")).unwrap();
    desk.state(|s| s.shows_signatures = false);
    assert!(desk.publish("1.0.1", &[]).refused().contains("--trusted-key"));
    desk.state(|s| s.shows_signatures = true);
    assert_eq!(desk.publish("1.0.1", &[]).json()["list_version"], 2, "the own key signed the list");
}

#[test]
fn without_a_usable_key_nothing_is_sent() {
    let desk = Desk::new();
    let requests = desk.state(|s| s.requests.len());
    crate::disk::write(&desk.path("other.key"), b"no key", crate::disk::Access::Private).unwrap();
    let other = desk.path("other.key");
    assert!(desk.publish("1.0.0", &["--key", other.to_str().unwrap()]).refused().contains("holds no usable key"));
    fs::remove_file(desk.path("release.key")).unwrap();
    assert!(desk.publish("1.0.0", &[]).refused().contains("is missing"));
    assert_eq!(desk.state(|s| s.requests.len()), requests);
}

#[test]
fn lists_follow_their_pages_and_json_is_the_servers_form() {
    let desk = Desk::new();
    let devices = desk.tern(&["device", "list", "--output", "json", "--selector", "site=hall 2"]).json();
    let names: Vec<_> = devices["items"].as_array().unwrap().iter().map(|d| d["device"].as_str().unwrap()).collect();
    assert_eq!(names, ["cam-1", "cam-2"]);
    assert!(desk.state(|s| s.requests.iter().any(|r| r.contains("selector=site%3Dhall%202&cursor=p2"))));
    let table = desk.tern(&["device", "list"]).out;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("DEVICE") && lines[1].starts_with("cam-1") && lines.len() == 3, "{table}");
    assert!(lines[1].contains("meter-digits 1.0.0 rejected (wanted 1.0.2)") && lines[1].ends_with("golden-mismatch"));
    assert!(lines[2].ends_with("golden-mismatch (past)"), "what is not demanded any more is told apart: {table}");
    let shown = desk.tern(&["device", "show", "cam-1"]).out;
    assert!(
        shown.contains("refused 1.0.2 (generation 7, ") && shown.contains("golden-mismatch: answers differ"),
        "{shown}"
    );
}

#[test]
fn figures_and_quarantine_are_told() {
    let desk = Desk::new();
    let figures = desk.tern(&["device", "figures", "cam-1", "--model", "demo/meter-digits"]).out;
    assert!(desk.state(|s| s.requests.iter().any(|r| r.contains("device=cam-1&model=demo%2Fmeter-digits"))));
    for part in ["cam-1", "demo/meter-digits@1.0.0", "900", "90.0 %", "93.4 % ± 1.1", "1.25 ms"] {
        assert!(figures.contains(part), "{part}: {figures}");
        assert!(desk.tern(&["device", "show", "cam-1"]).out.contains(part), "{part}");
    }
    let kept = desk.tern(&["device", "quarantine"]).out;
    assert!(kept.contains("row-shape") && kept.contains("41") && kept.contains("its profile has 2"), "{kept}");
    let json = desk.tern(&["device", "quarantine", "--output", "json"]).json();
    assert_eq!(json["items"][0]["times"], 2);
}

#[test]
fn the_newest_events_are_kept() {
    let desk = Desk::new();
    let events = desk.tern(&["events", "--last", "2", "--output", "json"]).json();
    let ids: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| e["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [2, 3]);
    assert!(desk.tern(&["events"]).out.contains("device-refused"));
}

#[test]
fn enrolment_prints_one_line_and_assignment_says_how_many() {
    let desk = Desk::new();
    let outcome = desk.tern(&["device", "enroll", "cam-9", "--label", "site=hall-2", "--valid", "2h"]);
    assert_eq!(outcome.out, "tern-agent enroll --token tern-enrol-1.x\n");
    let sent: Value = serde_json::from_slice(&desk.state(|s| s.last_body.clone())).unwrap();
    assert_eq!(sent, json!({"device": "cam-9", "labels": {"site": "hall-2"}, "valid_seconds": 7200}));
    let twice = desk.tern(&["device", "enroll", "cam-9", "--label", "a=b", "--label", "a=c"]);
    assert!(twice.refused().contains("label a is given twice"));
    let assigned = desk.tern(&["assign", "demo/meter-digits@1.0.0", "--to", "*", "--reason", "first try"]);
    assert!(assigned.out.ends_with("demo/meter-digits@1.0.0 assigned to 2 devices\n"), "{}", assigned.out);
    let sent: Value = serde_json::from_slice(&desk.state(|s| s.last_body.clone())).unwrap();
    assert_eq!(sent["reason"], "first try");
}
