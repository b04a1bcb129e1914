//! A device as enrolment and a few installs would have left it, and the agent that runs on it.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tern_agent::{
    clock::Moment,
    disk::Blobs,
    identity::{Enrolment, Files},
    state::{ModelRecord, State, VersionRef},
    store::Store,
};
use tern_protocol::{
    desired::{DesiredModel, Probation, Swap},
    digest::Digest,
    ids::Generation,
    keys::SigningKey,
    manifest::{FileRole, Manifest},
    signed::sign_value,
    standing::Standing,
    tuf,
    twin::ModelState,
};

use crate::{
    client::{Client, digits_request},
    fixture::{Bundle, pixels, put},
};

const PATIENCE: Duration = Duration::from_secs(40);
const MODEL: &str = "meter-digits";

pub(crate) struct Device {
    pub(crate) config: PathBuf,
    pub(crate) program: PathBuf,
    /// Root's only key.
    pub(crate) root: SigningKey,
    folder: tempfile::TempDir,
}

impl Device {
    pub(crate) fn new(state: ModelState, active: &str, previous: Option<&str>) -> Self {
        tuf::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("state")).unwrap();
        std::fs::create_dir(path.join("state/versions")).unwrap();
        let active_ref = install(&path.join("state"), active);
        let previous = previous.map(|version| install(&path.join("state"), version));
        let demand = DesiredModel {
            model: "demo/meter-digits".parse().unwrap(),
            version: active_ref.version.clone(),
            manifest: active_ref.manifest,
            swap: Swap::Beside,
            probation: Probation::default(),
            candidate: false,
        };
        let record = ModelRecord {
            desired: Some(demand.clone()),
            generation: Generation(1),
            active: Some(active_ref),
            proven: state == ModelState::Committed,
            previous,
            state,
            ..ModelRecord::new(Timestamp::UNIX_EPOCH)
        };
        let mut durable = State::new(None, Timestamp::UNIX_EPOCH);
        durable.models.insert(demand.model, record);
        Store::create(&path.join("state"), &durable).unwrap();
        let (files, root) = identity();
        files.install(&path.join("state/identity"), false).unwrap();
        let config = path.join("agent.toml");
        let text = format!(
            "state_dir = {:?}\nruntime_dir = {:?}\nready_file = {:?}\ninfer_tcp = \"127.0.0.1:0\"\nlog = \"debug\"\n\
             checkpoint_interval_seconds = 1\n",
            path.join("state"),
            path.join("run"),
            path.join("ready.json"),
        );
        put(&config, text.as_bytes());
        Self { config, program: env!("CARGO_BIN_EXE_tern-agent").into(), root, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/infer.sock")
    }

    /// Starts the agent and waits until it serves.
    pub(crate) fn start(&self) -> Agent {
        let ready = self.folder.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["run", "--config"]).arg(&self.config).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        self.wait(|| {
            assert!(child.try_wait().unwrap().is_none(), "the agent ended: {}", self.log());
            ready.exists().then_some(())
        });
        Agent { child, device: self.folder.path().to_owned() }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Changes one byte of a version's model on the disk.
    pub(crate) fn rot(&self, version: &str) {
        let bundle = Bundle::watched(version);
        let manifest = Manifest::from_slice(&bundle.bytes()).unwrap();
        let path = self.folder.path().join(format!("state/blobs/sha256/{}", manifest.model_file().sha256));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        put(&path, &bytes);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The team said this while the device was online last.
    pub(crate) fn heard(&self, standing: &Standing) {
        let said = standing.clone();
        let store = Store::open(&self.path("state"));
        let model = "demo/meter-digits".parse().unwrap();
        store.update_blocking(move |s| s.take_standing(&model, Digest::of(b"keys"), &said)).unwrap();
    }

    /// A command of the agent with the device's configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        Command::new(&self.program).args(words).arg("--config").arg(&self.config).output().unwrap()
    }

    pub(crate) fn damage(&self, record: &str) {
        put(&self.folder.path().join("state").join(record), b"what a dying flash returns");
    }

    fn wait<T>(&self, poll: impl FnMut() -> Option<T>) -> T {
        wait(poll, || self.log())
    }
}

fn wait<T>(mut poll: impl FnMut() -> Option<T>, explain: impl Fn() -> String) -> T {
    let deadline = Moment::now().after(PATIENCE);
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(!deadline.remaining().is_zero(), "waited in vain: {}", explain());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub(crate) struct Agent {
    child: Child,
    device: PathBuf,
}

impl Agent {
    /// The version that answers a real digit, once one answers.
    pub(crate) fn answers(&mut self) -> String {
        let socket = self.device.join("run/infer.sock");
        let log = self.device.join("log");
        wait(
            || {
                let reply = Client::unix(&socket).infer(MODEL, &digits_request(&pixels(0)));
                (reply.status == 200).then(|| reply.json()["model_version"].as_str().unwrap().to_owned())
            },
            || std::fs::read_to_string(&log).unwrap_or_default(),
        )
    }

    /// The answer to a request for an inference, once it has this status.
    pub(crate) fn await_status(&self, status: u16) -> Value {
        let reply = || Client::unix(&self.device.join("run/infer.sock")).infer(MODEL, &digits_request(&pixels(0)));
        wait(|| Some(reply()).filter(|r| r.status == status).map(|r| r.json()), || format!("{}", self.status()))
    }

    pub(crate) fn await_version(&mut self, version: &str) {
        let log = self.device.join("log");
        wait(|| (self.answers() == version).then_some(()), || std::fs::read_to_string(&log).unwrap_or_default());
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&tern_agent::status::ask(&self.device.join("run/control.sock")).unwrap()).unwrap()
    }

    /// Waits until so many rows are counted, and no more.
    pub(crate) fn await_counted(&self, rows: u64) {
        let counted = || self.status()["outbox"]["counted"][format!("demo/{MODEL}@1.0.0")]["rows"].as_u64();
        wait(|| (counted() == Some(rows)).then_some(()), || format!("{:?} of {rows}: {}", counted(), self.status()));
    }

    /// Kills the worker as the kernel would, and waits until the agent has noticed.
    pub(crate) fn kill_worker(&self) {
        let pid = self.status()["worker"]["pid"].as_u64().unwrap();
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        wait(|| (self.status()["worker"]["deaths"].as_u64() > Some(0)).then_some(()), String::new);
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn leave(mut self) -> ExitStatus {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        wait(|| self.child.try_wait().unwrap(), String::new)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only where it has left already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a version of the quickstart's model where an install would have put it.
fn install(state_dir: &Path, version: &str) -> VersionRef {
    let bundle = Bundle::watched(version);
    let bytes = bundle.bytes();
    let manifest = Manifest::from_slice(&bytes).unwrap();
    let blobs = Blobs::open(state_dir).unwrap();
    for file in &manifest.files {
        let mut part = blobs.resume(&file.sha256, file.length.0).unwrap();
        if blobs.has(&file.sha256, file.length.0) {
            continue;
        }
        let is_profile = file.role == FileRole::Reference;
        let bytes =
            if is_profile { Ok(bundle.reference.clone()) } else { std::fs::read(bundle.folder.join(&file.path)) };
        part.append(&bytes.unwrap()).unwrap();
        part.finish().unwrap();
    }
    let digest = Digest::of(&bytes);
    File::create(state_dir.join(format!("versions/{digest}.json"))).unwrap().write_all(&bytes).unwrap();
    VersionRef { version: version.parse().unwrap(), manifest: digest, candidate: false }
}

fn identity() -> (Files, SigningKey) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "cam-1");
    let certificate_pem = params.signed_by(&key, &ca).unwrap().pem();
    let signing = SigningKey::generate().unwrap();
    let (id, role) = (signing.public().id(), json!({"keyids": [signing.public().id()], "threshold": 1}));
    let root = json!({
        "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": "2099-01-01T00:00:00Z",
        "consistent_snapshot": true, "keys": {id.0: signing.public()}, tuf::DIRECTOR: role,
        "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role},
    });
    let root = sign_value(root, &[&signing]).unwrap();
    let enrolment = Enrolment {
        format: 1,
        device: "cam-1".parse().unwrap(),
        fleet: "main".parse().unwrap(),
        // Nobody listens there.
        server: "https://127.0.0.1:1".into(),
        mqtt_address: "127.0.0.1:1".into(),
        root_sha256: Digest::of(&root),
        root_base64: BASE64_STANDARD.encode(&root),
    };
    (Files { key_pem: key.serialize_pem(), certificate_pem, ca_pem: ca.pem(), enrolment }, signing)
}
