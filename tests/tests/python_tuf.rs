//! The agent's TUF client against a repository that python-tuf makes and serves: first refresh, downloads from the top-level
//! and a delegated role, rotated keys, a stolen key that was rotated away, changed bytes, a role that goes back.
//!
//! python-tuf comes from PyPI into a folder below `target/`, at the version named here; without it the test fails.

#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]
#![expect(clippy::unwrap_used, reason = "a broken peer should fail loudly")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

const PACKAGES: [&str; 2] = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];

/// A Python that has python-tuf; made once.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-tuf-7.0.0");
    let python = folder.join("bin/python");
    if !python.exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        // One that was cut short is made again.
        let begun = folder.with_extension("begun");
        let _ = fs::remove_dir_all(&begun);
        run(Command::new("python3").args(["-m", "venv"]).arg(&begun));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(begun.join("bin/python")).args(pip).args(PACKAGES));
        fs::rename(&begun, &folder).unwrap();
    }
    python
}

/// The repository's process; it ends with its standard input.
struct Peer {
    child: Child,
    steps: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    address: String,
    root: String,
}

impl Peer {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python-tuf/repository.py");
        let mut command = Command::new(python());
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (steps, said) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut peer = Self { child, steps, said, address: String::new(), root: String::new() };
        let first = peer.line();
        peer.address = first["address"].as_str().unwrap().to_owned();
        peer.root = first["root"].as_str().unwrap().to_owned();
        peer
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    fn step(&mut self, step: &str) -> Value {
        writeln!(self.steps.as_ref().unwrap(), "{step}").unwrap();
        self.line()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.steps = None;
        let _ = self.child.wait();
    }
}

/// A client with a folder of its own.
struct Client {
    folder: tempfile::TempDir,
    address: String,
}

impl Client {
    fn begin(peer: &Peer) -> Self {
        let client = Self { folder: tempfile::tempdir().unwrap(), address: peer.address.clone() };
        let root = client.folder.path().join("trusted.json");
        fs::write(&root, &peer.root).unwrap();
        succeeded(client.run(&["init", root.to_str().unwrap()]));
        client
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
        command.arg("tern-tuf-client").arg("--metadata-dir").arg(self.folder.path().join("metadata"));
        command.args(["--metadata-url", &format!("{}/metadata", self.address)]).args(args).output().unwrap()
    }

    fn download(&self, name: &str) -> Output {
        let (targets, base) = (self.folder.path().join("targets"), format!("{}/targets", self.address));
        let more = ["--target-name", name, "--target-dir", targets.to_str().unwrap(), "--target-base-url", &base];
        self.run(&[&more[..], &["download"]].concat())
    }

    fn target(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.folder.path().join("targets").join(name.replace('/', "%2F"))).ok()
    }

    /// What is trusted lies there byte for byte as it came.
    fn holds_what_is_served(&self, peer: &mut Peer, roles: &[&str]) {
        let served = peer.step("served");
        for role in roles {
            let held = fs::read_to_string(self.folder.path().join(format!("metadata/{role}.json"))).unwrap();
            assert_eq!(held, served[role].as_str().unwrap(), "{role}");
        }
    }
}

fn succeeded(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The client refused, for this reason.
fn refused(output: Output, why: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_repository_of_python_tuf_is_followed_and_its_attackers_are_not() {
    let mut peer = Peer::start();
    let client = Client::begin(&peer);
    assert_eq!(peer.step("taken"), serde_json::json!([]), "init asks nobody");
    let top = ["root", "timestamp", "snapshot", "targets"];
    succeeded(client.run(&["refresh"]));
    client.holds_what_is_served(&mut peer, &top);

    succeeded(client.download("models/first.bin"));
    assert_eq!(client.target("models/first.bin").unwrap(), b"the first target");
    succeeded(client.download("team/second.bin"));
    assert_eq!(client.target("team/second.bin").unwrap(), b"a target of the team".repeat(10_000));
    client.holds_what_is_served(&mut peer, &["team"]);
    refused(client.download("models/none.bin"), "no trusted role lists it");

    peer.step("change");
    succeeded(client.download("models/first.bin"));
    assert_eq!(client.target("models/first.bin").unwrap(), b"the first target, changed");

    // One root key of two and timestamp's are replaced; whoever has the old one signs a newer timestamp.
    peer.step("rotate");
    succeeded(client.run(&["refresh"]));
    client.holds_what_is_served(&mut peer, &top);
    peer.step("steal");
    refused(client.run(&["refresh"]), "threshold");
    peer.step("heal");
    succeeded(client.run(&["refresh"]));
    client.holds_what_is_served(&mut peer, &top);

    // Nothing of a target that was changed stays, for a client that has it not and for one that has.
    peer.step("tamper");
    let other = Client::begin(&peer);
    refused(other.download("team/second.bin"), "bytes");
    assert_eq!(other.target("team/second.bin"), None);
    assert_eq!(client.target("team/second.bin").unwrap(), b"a target of the team".repeat(10_000));

    peer.step("go_back");
    refused(client.run(&["refresh"]), "rollback");
}
