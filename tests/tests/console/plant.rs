//! A server process with a fleet to look at: versions are published and a rollout is made by the real command line;
//! devices, windows and incidents are written where the server keeps them, because no agent runs here.
#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tern_fleet_server::clock;
use tern_protocol::{
    canonical,
    contract::Contract,
    digest::Digest,
    report::v1::{Clock, Feature, Feedback, Item, Numeric, System, Window},
};
use tern_stats::{
    latency::Latency,
    numeric::Accumulator,
    profile::{Baseline, Kind, Spec, fit},
    window::{self, Sums},
};

/// Longest wait for the server.
const DEADLINE: Duration = Duration::from_secs(60);
/// The features that the model's input is watched by.
const FEATURES: [&str; 2] = ["mean(pixels)", "contrast(pixels)"];
/// Devices of the fleet.
pub(crate) const DEVICES: usize = 8;

pub(crate) struct Plant {
    server: Child,
    pub(crate) scratch: tempfile::TempDir,
    /// The console's address, without a path.
    pub(crate) console: String,
}

impl Drop for Plant {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
    command.arg(name).stdin(Stdio::null());
    command
}

fn succeed(mut command: Command) -> String {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Plant {
    pub(crate) fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folder = scratch.path().join("server");
        let mut init = program("server");
        init.args(["init", "--solo", "--fleet", "demo", "--team", "demo", "--name", "localhost", "--data-dir"]);
        init.arg(&folder);
        succeed(init);
        let ready = scratch.path().join("ready.json");
        let mut run = program("server");
        run.args(["run", "--https-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
        run.args(["--console-listen", "127.0.0.1:0", "--data-dir"]).arg(&folder).arg("--ready-file").arg(&ready);
        let log = File::create(scratch.path().join("server.log")).expect("a log");
        let server = run.stderr(log).spawn().expect("the server starts");
        let mut plant = Self { server, scratch, console: String::new() };
        let addresses = plant.wait_for(&ready);
        plant.console = format!("http://{}", addresses["console"].as_str().expect("an address"));
        let https = addresses["https"].as_str().and_then(|a| a.rsplit(':').next()).expect("a port").to_owned();
        let operator = |name: &str| folder.join("operator").join(name).display().to_string();
        let server = format!("https://localhost:{https}");
        plant.tern(&["login", "--server", &server, "--ca", &operator("ca.pem"), "--token-file", &operator("token")]);
        let key = operator("release-demo.key");
        for version in ["1.0.0", "1.1.0"] {
            let bundle = plant.bundle(version);
            plant.tern(&["model", "publish", &bundle.display().to_string(), "--key", &key]);
        }
        plant.populate(&folder.join("server.db"));
        plant.tern(&[
            "rollout",
            "create",
            "demo/meter-digits@1.1.0",
            "--to",
            "*",
            "--canary",
            "2",
            "--start",
            "--reason",
            "new lens",
        ]);
        plant
    }

    /// Runs `tern`.
    pub(crate) fn tern(&self, args: &[&str]) -> String {
        let mut command = program("tern");
        command.args(args).env("TERN_CONFIG", self.scratch.path().join("tern.toml"));
        succeed(command)
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("server.log")).unwrap_or_default()
    }

    fn wait_for(&mut self, ready: &Path) -> Value {
        for _ in 0..DEADLINE.as_millis() / 20 {
            if let Some(addresses) = fs::read(ready).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                return addresses;
            }
            let ended = self.server.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the server ended: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the server is not ready");
    }

    /// The quickstart's model, its input watched by two features alone, with a reference profile of them.
    fn bundle(&self, version: &str) -> PathBuf {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits/1.0.0");
        let folder = self.scratch.path().join(version);
        copy(&model, &folder);
        let text = fs::read_to_string(model.join("tern.toml")).expect("the quickstart's bundle");
        let watched = text
            .replace("version = \"1.0.0\"", &format!("version = \"{version}\""))
            .replace("derive = [\"mean\", \"contrast\", \"sharpness\"]", "derive = [\"mean\", \"contrast\"]")
            .replace("[contract.prediction]\nlabel = \"label\"\nconfidence = \"probabilities\"\n", "");
        fs::write(folder.join("tern.toml"), watched).expect("a bundle");
        fs::write(folder.join("reference.json"), profile()).expect("a profile");
        folder
    }

    fn populate(&self, database: &Path) {
        let connection = Connection::open(database).expect("the server's database");
        connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
        let now = clock::now().as_millisecond();
        let contract = contract(&connection);
        for number in 1..=DEVICES {
            insert_device(&connection, number, now);
            let is_fouled = number <= 2;
            for step in 0..60 {
                let item = windows(contract, step, is_fouled, now);
                insert_window(&connection, number, step, &item, now);
            }
        }
        insert_incidents(&connection, now);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Numbers between 0 and 1 that are the same on every run.
fn chance(seed: u64) -> f64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

fn profile() -> Vec<u8> {
    let sample: Vec<f64> = (0..2000).map(chance).collect();
    let specs = FEATURES.map(|name| Spec::numeric(name, &sample).expect("numbers"));
    let windows: Vec<window::Window> = (0..60u64)
        .map(|n| {
            let features = specs.iter().enumerate().map(|(index, spec)| {
                let Kind::Numeric(ruler) = &spec.kind else { panic!("a number") };
                let mut sums = Accumulator::new(ruler.clone());
                (0..200).for_each(|row| sums.update(Some(chance(n * 1000 + row + index as u64 * 77_777))));
                Sums::Numeric(sums.take())
            });
            window::Window {
                rows: 200,
                features: features.collect(),
                outputs: vec![],
                confidence: vec![],
                labels: vec![],
            }
        })
        .collect();
    let baseline =
        Baseline { features: &specs, outputs: &[], confidence: None, windows: &windows, times: None, arl: 1000.0 };
    serde_json::to_vec(&fit(&baseline).expect("a profile")).expect("JSON")
}

/// The digest that windows name their contract by.
fn contract(connection: &Connection) -> Digest {
    let sql = "SELECT manifest FROM versions WHERE version = '1.0.0'";
    let manifest: Vec<u8> = connection.query_row(sql, [], |row| row.get(0)).expect("a published version");
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
    let contract: Contract = serde_json::from_value(manifest["contract"].clone()).expect("a contract");
    Digest::of(&canonical::document(&contract).expect("canonical JSON"))
}

fn insert_device(connection: &Connection, number: usize, now: i64) {
    let refusal = json!({"code": "golden-mismatch", "message": "output probabilities differs by 0.4", "version": "1.0.2",
        "generation": 1, "at": "2026-06-01T00:00:00Z", "count": 1});
    let mut model = json!({"model": "demo/meter-digits", "version": "1.0.0", "digest": null, "state": "committed",
        "desired": "1.0.0", "generation": 1, "since": "2026-06-01T00:00:00Z"});
    if number == 3 {
        model["last_error"] = refusal;
    }
    let twin = json!({"generation": 1, "models": [model], "device_class": "rpi4", "labels": {"site": "hall-2"},
        "agent_version": "0.1.0"});
    let sql =
        "INSERT INTO devices (device, enrolled, device_class, own_labels, operator_labels, agent_version, key_sha256,
                   certificate_expires, online, last_seen, twin, twin_generation, generation)
               VALUES (?1, ?2, 'rpi4', '{\"site\":\"hall-2\"}', '{}', '0.1.0', ?3, ?4, ?5, ?2, ?6, 1, 1)";
    let (name, year) = (format!("cam-{number}"), 365 * 86_400_000);
    let key = Digest::of(name.as_bytes()).to_string();
    let row = params![name, now, key, now + year, number != 8, twin.to_string().into_bytes()];
    connection.execute(sql, row).expect("a device");
    let sql =
        "INSERT INTO running_models (device, team, model_id, version) VALUES (?1, 'demo', 'meter-digits', '1.0.0')";
    connection.execute(sql, [&name]).expect("a running model");
    let sql =
        "INSERT INTO figures (device, team, model_id, version, rows, inferences, errors, violations, windows, labels,
                   label_errors, confidence, newest_end, updated)
               VALUES (?1, 'demo', 'meter-digits', '1.0.0', 12000, 12000, 3, 0, 60, 1200, ?2, '[]', ?3, ?3)";
    connection.execute(sql, params![name, if number <= 2 { 420 } else { 31 }, now]).expect("figures");
}

/// A window of a device; those of a fouled lens lie off from the 40th on.
fn windows(contract: Digest, step: u64, is_fouled: bool, now: i64) -> Item {
    let shift = if is_fouled && step >= 40 { -1.8 } else { 0.0 };
    let numeric = |salt: u64| {
        let s1 = (chance(step + salt) - 0.5 + shift) * 200.0;
        Feature::Numeric(Numeric { n: 200, s1, s2: 200.0, ..Numeric::default() })
    };
    let mut latency = Latency::default();
    (0..200).for_each(|row| latency.record(800.0 + 400.0 * chance(step * 999 + row) as f32));
    let end_ms = now - i64::try_from(60 - step).expect("small") * 10_000;
    let wrong = if shift < 0.0 { 9 } else { step % 2 };
    Item::Window(Box::new(Window {
        number: step + 1,
        model: "demo/meter-digits".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        contract,
        boot: 1,
        start_ms: end_ms - 10_000,
        end_ms,
        clock: Clock::Trusted,
        inferences: 200,
        rows: 200,
        errors: vec![],
        violations: Default::default(),
        latency: latency.to_bytes(),
        features: vec![numeric(11), numeric(500)],
        outputs: vec![],
        confidence: vec![200],
        feedback: vec![Feedback { n: 20, errors: wrong }],
        system: System::default(),
    }))
}

fn insert_window(connection: &Connection, number: usize, step: u64, item: &Item, now: i64) {
    let received = now - i64::try_from(60 - step).expect("small") * 10_000;
    let sql = "INSERT INTO telemetry (device, team, model_id, version, received, start, end, rows, kind, number, item)
               VALUES (?1, 'demo', 'meter-digits', '1.0.0', ?2, ?3, ?2, 200, 'window', ?4, ?5)";
    let bytes = postcard::to_stdvec(item).expect("a window");
    let row =
        params![format!("cam-{number}"), received, received - 10_000, i64::try_from(step + 1).expect("small"), bytes];
    connection.execute(sql, row).expect("a window");
}

fn insert_incidents(connection: &Connection, now: i64) {
    let time = |ago: i64| jiff_text(now - ago);
    let piece = |device: &str, feature: &str| {
        json!({"layer": "concurrent", "device": device, "feature": feature, "measure": "location", "direction": "down",
            "strength": 2.4, "share": null, "limit": null, "of": null, "at": time(20_000)})
    };
    let body = json!({
        "severity": "alarm", "cause": "device", "summary": "2 of 8 devices see something that the others do not",
        "devices": ["cam-1", "cam-2"], "of": 8, "features": [FEATURES[1], FEATURES[0]], "since": time(180_000),
        "evidence": [piece("cam-1", FEATURES[1]), piece("cam-2", FEATURES[0])],
    });
    let sql = "INSERT INTO incidents (team, model_id, version, kind, severity, state, opened, updated, resolved, body)
               VALUES ('demo', 'meter-digits', '1.0.0', ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let resolved = Some(now - 3_000_000);
    let (hour, minutes) = (now - 3_600_000, now - 160_000);
    let mut old = body.clone();
    old["severity"] = json!("notice");
    old["resolution"] = json!("quiet");
    let first = params!["data-quality", "notice", "resolved", hour, hour, resolved, old.to_string()];
    connection.execute(sql, first).expect("an incident");
    let second = params!["device-fault", "alarm", "open", minutes, minutes, None::<i64>, body.to_string()];
    connection.execute(sql, second).expect("an incident");
}

fn jiff_text(millis: i64) -> String {
    let connection = Connection::open_in_memory().expect("SQLite");
    let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?1 / 1000, 'unixepoch')";
    connection.query_row(sql, [millis], |row| row.get(0)).expect("a time")
}
