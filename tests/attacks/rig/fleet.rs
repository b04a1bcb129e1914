//! A real server, made with `init --solo` or by several people's ceremony, with an honest device on which an honest release
//! answers: for attacks on the server by whoever can reach it, holds one device, or stole the server whole.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tern_protocol::enrolment::EnrolmentToken;

use super::{
    device::{Device, ended, program},
    intruder::{Identity, Reply, request},
    patience::{show_in_vain, wait},
    people::People,
    release::{MODEL, folder},
    score::Score,
    witness::{Witness, ask_once},
};

pub(crate) struct Fleet {
    pub(super) server: Server,
    pub(crate) data: PathBuf,
    pub(crate) https: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    pub(crate) device: Device,
    pub(crate) score: Score,
    pub(crate) witness: Option<Witness>,
    pub(crate) scratch: tempfile::TempDir,
}

pub(super) struct Server(Child);

impl Server {
    fn end(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn succeed(command: Command) -> String {
    let (success, said) = ended(command);
    assert!(success, "{said}");
    said
}

/// Makes a server that does not run yet; its data folder.
fn init(scratch: &Path, more: &[&str]) -> PathBuf {
    let data = scratch.join("data");
    let mut init = program("server");
    init.args(["init", "--fleet", "plant", "--name", "localhost"]).args(more).arg("--data-dir").arg(&data);
    succeed(init);
    data
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

impl Fleet {
    pub(crate) fn new(attack: &'static str) -> Self {
        Self::with(attack, "")
    }

    /// The same with more in the device's configuration.
    pub(crate) fn with(attack: &'static str, config: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("tern-s").tempdir().unwrap();
        init(scratch.path(), &["--solo", "--team", "demo"]);
        let mut fleet = Self::start(attack, scratch, config);
        let key = fleet.data.join("operator/release-demo.key").display().to_string();
        fleet.tern(&["model", "publish", &folder("1.0.0").display().to_string(), "--key", &key]);
        fleet.begin();
        fleet
    }

    /// The same with keys that several people agreed on, two of whom released the version.
    pub(crate) fn of_people(attack: &'static str, config: &str) -> (Self, People) {
        let scratch = tempfile::Builder::new().prefix("tern-s").tempdir().unwrap();
        let data = init(scratch.path(), &[]);
        let people = People::agree(scratch.path(), &data);
        let mut fleet = Self::start(attack, scratch, config);
        for (person, role) in [("dora", "publisher"), ("emil", "approver")] {
            let file = fleet.scratch.path().join(format!("{person}.token")).display().to_string();
            fleet.tern(&["token", "create", person, "--role", role, "--team", "demo", "--out", &file]);
            people.tern(person, &fleet.login(&file).each_ref().map(String::as_str));
        }
        people.release("1.0.0");
        fleet.begin();
        (fleet, people)
    }

    /// Starts the server, with a device that is not enrolled yet, and logs its operator in.
    fn start(attack: &'static str, scratch: tempfile::TempDir, config: &str) -> Self {
        let score = Score::begin(attack);
        let (data, ready) = (scratch.path().join("data"), scratch.path().join("ready.json"));
        let mut run = program("server");
        run.args([
            "run",
            "--https-listen",
            "127.0.0.1:0",
            "--mqtt-listen",
            "127.0.0.1:0",
            "--public-host",
            "localhost",
        ]);
        run.args(["--desired-resend-seconds", "1", "--report-interval-seconds", "1", "--window-seconds", "1"]);
        run.arg("--data-dir").arg(&data).arg("--ready-file").arg(&ready);
        let log = scratch.path().join("server.log");
        show_in_vain(&log);
        let log = fs::File::create(log).unwrap();
        let server = Server(run.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let addresses: Value = wait("the server listens", || serde_json::from_slice(&fs::read(&ready).ok()?).ok());
        let address = |name: &str| addresses[name].as_str().expect("an address").parse().unwrap();
        let (https, mqtt) = (address("https"), address("mqtt"));
        let device = Device::new(scratch.path(), "cam-1", config);
        let fleet = Self { server, data, https, mqtt, device, score, witness: None, scratch };
        let token = fleet.data.join("operator/token").display().to_string();
        fleet.tern(&fleet.login(&token).each_ref().map(String::as_str));
        fleet
    }

    /// The words by which `tern` learns of this server and a token for it.
    fn login(&self, token: &str) -> [String; 7] {
        let (server, ca) = (format!("https://localhost:{}", self.https.port()), self.data.join("operator/ca.pem"));
        ["login", "--server", &server, "--ca", &ca.display().to_string(), "--token-file", token].map(str::to_owned)
    }

    /// Kills the server; the thief's copy of its whole data folder.
    pub(crate) fn stolen(&mut self) -> PathBuf {
        self.server.end();
        let copy = self.scratch.path().join("stolen");
        copy_folder(&self.data, &copy);
        copy
    }

    /// Enrols, assigns, and waits until the device serves.
    fn begin(&mut self) {
        let (enrolled, said) = self.device.enrol(&self.ticket("cam-1"));
        assert!(enrolled, "{said}");
        self.device.start();
        let model = format!("{MODEL}@1.0.0");
        self.assign(&model, "the first");
        let socket = self.device.socket();
        wait("the device serves", || {
            ask_once(&socket, "1.0.0");
            (self.device.model(MODEL)["state"] == "committed").then_some(())
        });
        self.witness = Some(Witness::start(socket, "1.0.0"));
    }

    /// Assigns a version to every device; one inference commits it.
    fn assign(&self, model: &str, reason: &str) {
        let probation = ["--probation-inferences", "1", "--probation-seconds", "0"];
        self.tern(&[&["assign", model, "--to", "*", "--reason", reason][..], &probation].concat());
    }

    /// Runs `tern`; what it prints as JSON.
    pub(crate) fn tern(&self, args: &[&str]) -> String {
        let mut command = program("tern");
        command.args(["--output", "json"]).args(args).env("TERN_CONFIG", self.scratch.path().join("tern.toml"));
        succeed(command)
    }

    /// A one-time token for a device.
    pub(crate) fn ticket(&self, device: &str) -> String {
        let ticket: Value = serde_json::from_str(&self.tern(&["device", "enroll", device])).unwrap();
        ticket["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.data.join("operator/ca.pem")).unwrap()
    }

    /// A device of the attacker's own, honestly enrolled.
    pub(crate) fn insider(&self, name: &str) -> Identity {
        let token = EnrolmentToken::decode(&self.ticket(name)).unwrap();
        let identity = Identity::make(name);
        let reply = self.ask(None, "POST", tern_protocol::api::ENROL, &identity.enrolment(&token.secret));
        assert_eq!(reply.status, 200, "{reply:?}");
        identity.certified(&reply)
    }

    /// One HTTPS request as whoever has this identity, or nobody.
    pub(crate) fn ask(&self, identity: Option<&Identity>, method: &str, path: &str, body: &[u8]) -> Reply {
        request(self.https, &self.ca(), identity, (method, path, &[]), body).expect("an answer")
    }

    /// One request as the operator.
    pub(crate) fn operate(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let token = fs::read_to_string(self.data.join("operator/token")).unwrap();
        let header = format!("authorization: Bearer {}", token.trim());
        request(self.https, &self.ca(), None, (method, path, &[&header]), body).expect("an answer")
    }

    /// The counters of the server's metrics that begin so: the rest of their names, without the closing marks, and values.
    pub(crate) fn metrics(&self, prefix: &str) -> impl Iterator<Item = (String, u64)> {
        let text = String::from_utf8(self.operate("GET", "/metrics", b"").body).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix)?.rsplit_once(' '));
        let values = lines.map(|(name, value)| (name.trim_end_matches("\"}").to_owned(), value.parse().unwrap_or(0)));
        values.collect::<Vec<_>>().into_iter()
    }

    /// One counter, such as `tern_mqtt_refusals_total{code="will"}`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.metrics(name).next().unwrap_or_else(|| panic!("{name} is not among the metrics")).1
    }

    /// Resident memory of the server.
    pub(crate) fn memory(&self) -> u64 {
        super::device::memory(self.server.0.id()).0
    }

    /// One variant was refused as it must be: the device is untouched and answers, the server does its work.
    pub(crate) fn refused(&mut self, variant: &str) {
        let model = self.device.model(MODEL);
        assert_eq!(model["version"], "1.0.0", "{variant}: {model}");
        self.witness.as_ref().expect("a witness").still_answered(variant);
        self.score.refused();
    }

    /// Ends the attack: the server still does what its operator wants, and the device follows.
    pub(crate) fn finish(mut self) {
        let answers = self.witness.take().expect("a witness").end();
        let key = self.data.join("operator/release-demo.key").display().to_string();
        self.tern(&["model", "publish", &folder("1.1.0").display().to_string(), "--key", &key]);
        let model = format!("{MODEL}@1.1.0");
        self.assign(&model, "the next");
        let socket = self.device.socket();
        wait("the next version is committed", || {
            ask_once(&socket, "1.1.0");
            let model = self.device.model(MODEL);
            (model["version"] == "1.1.0" && model["state"] == "committed").then_some(())
        });
        self.score.end(answers);
    }
}
