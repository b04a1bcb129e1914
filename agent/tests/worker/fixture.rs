//! Bundles made of the quickstart's models, a model that is slow on purpose, and a worker that serves them.

use std::{
    fs::File,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tern_agent::{
    SelfExec,
    bundle::Opened,
    clock::Moment,
    supervisor::{Listener, Restore, Started, Supervisor, Timing, Worker, WorkerEvent},
};
use tern_protocol::{
    canonical,
    contract::Contract,
    digest::Digest,
    frames::{Increment, Limits, Slot},
    manifest::FileRole,
};
use tern_stats::{latency::Latency, profile::Profile};

use crate::fitting::profile;

pub(crate) const LIMITS: Limits =
    Limits { threads: 2, queue: 16, connections: 32, request_bytes: 1 << 20, deadline_ms: 10_000, increment_ms: 20 };

pub(crate) fn programs() -> SelfExec {
    SelfExec { executable: env!("CARGO_BIN_EXE_tern-agent").into(), prefix: Vec::new() }
}

/// A version: its manifest's members, and where its files are.
pub(crate) struct Bundle {
    pub(crate) manifest: Value,
    pub(crate) folder: PathBuf,
    /// Its reference profile's bytes; empty where it has none.
    pub(crate) reference: Vec<u8>,
    _scratch: Option<tempfile::TempDir>,
}

impl Bundle {
    /// A version of the quickstart's `demo/meter-digits`.
    pub(crate) fn digits(version: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits").join(version);
        let mut files = vec![file(&folder, "model.onnx", "model")];
        for set in 0..16 {
            for tensor in ["input_0", "output_0", "output_1"] {
                files.push(file(&folder, &format!("test_data_set_{set}/{tensor}.pb"), "golden"));
            }
        }
        let manifest = json!({
            "format": 1, "model": format!("demo/meter-digits@{version}"), "minimum_agent": "0.1.0", "files": files,
            "golden_tolerance": {"absolute": 0.0001, "relative": 0.001},
            "contract": {
                "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 8, 8], "nan": "reject",
                    "range": {"min": 0.0, "max": 16.0, "outside": "reject"}}],
                "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1], "nan": "reject"},
                    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10], "nan": "reject"}],
            },
            "budgets": {"*": {"p95_latency_ms": 1000.0, "peak_rss_bytes": 256 << 20, "disk_bytes": 1 << 20}},
        });
        Self { manifest, folder, reference: Vec::new(), _scratch: None }
    }

    /// The same with a prediction and derived features to watch, and a profile to count them by.
    pub(crate) fn watched(version: &str) -> Self {
        let mut bundle = Self::digits(version);
        bundle.manifest["contract"]["inputs"][0]["derive"] = json!(["mean", "contrast", "sharpness"]);
        bundle.manifest["contract"]["prediction"] = json!({"label": "label", "confidence": "probabilities"});
        let contract: Contract = serde_json::from_value(bundle.manifest["contract"].clone()).unwrap();
        bundle.set_reference(&profile(&contract));
        bundle
    }

    /// Puts a profile into the bundle, whatever its contract says.
    pub(crate) fn set_reference(&mut self, profile: &Profile) {
        self.reference = serde_json::to_vec(profile).unwrap();
        let digest = Digest::of(&self.reference).to_string();
        let named =
            json!({"path": "reference.json", "role": "reference", "sha256": digest, "length": self.reference.len()});
        let files = self.manifest["files"].as_array_mut().unwrap();
        files.retain(|file| file["role"] != "reference");
        files.push(named);
    }

    /// One of its files; the profile is in memory only.
    pub(crate) fn find(&self, file: &tern_protocol::manifest::File) -> std::io::Result<File> {
        if file.role != FileRole::Reference {
            return File::open(self.folder.join(&file.path));
        }
        let mut scratch = tempfile::tempfile()?;
        scratch.write_all(&self.reference)?;
        Ok(scratch)
    }

    /// `demo/slow@1.0.0`: `products` products of two `width` by `width` matrices.
    pub(crate) fn slow(width: usize, products: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().to_owned();
        put(&folder.join("model.onnx"), &slow_model(width, products));
        let tensor = [tensor_file(&[1, 1], &[1.0]), tensor_file(&[1, 1], &[0.0])];
        std::fs::create_dir(folder.join("test_data_set_0")).unwrap();
        put(&folder.join("test_data_set_0/input_0.pb"), &tensor[0]);
        put(&folder.join("test_data_set_0/output_0.pb"), &tensor[1]);
        let files = [
            file(&folder, "model.onnx", "model"),
            file(&folder, "test_data_set_0/input_0.pb", "golden"),
            file(&folder, "test_data_set_0/output_0.pb", "golden"),
        ];
        let scalar = |name: &str| json!({"name": name, "datatype": "FP32", "shape": [1, 1], "nan": "reject"});
        let manifest = json!({
            "format": 1, "model": "demo/slow@1.0.0", "minimum_agent": "0.1.0", "files": files,
            "golden_tolerance": {"absolute": 0.0, "relative": 0.0},
            "contract": {"inputs": [scalar("x")], "outputs": [scalar("y")]},
        });
        Self { manifest, folder, reference: Vec::new(), _scratch: Some(scratch) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        canonical::document(&self.manifest).unwrap()
    }

    pub(crate) fn open(&self, path: &str) -> File {
        File::open(self.folder.join(path)).unwrap()
    }

    pub(crate) fn restore(&self, slot: u64) -> Restore {
        Restore { slot: Slot(slot), version: self.opened() }
    }

    /// What control hands to the worker.
    pub(crate) fn opened(&self) -> Opened {
        Opened { manifest: self.bytes(), reference: self.reference.clone(), model: self.open("model.onnx") }
    }

    pub(crate) fn contract_digest(&self) -> String {
        Digest::of(&canonical::document(&self.manifest["contract"]).unwrap()).to_string()
    }
}

fn file(folder: &Path, path: &str, role: &str) -> Value {
    let bytes = std::fs::read(folder.join(path)).unwrap();
    json!({"path": path, "role": role, "sha256": Digest::of(&bytes).to_string(), "length": bytes.len()})
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// The pixels of golden vector `set` of 1.0.0: the tensor's raw bytes are the last of its file.
pub(crate) fn pixels(set: usize) -> Vec<f32> {
    let folder = Bundle::digits("1.0.0").folder;
    let bytes = std::fs::read(folder.join(format!("test_data_set_{set}/input_0.pb"))).unwrap();
    let raw = &bytes[bytes.len() - 64 * 4..];
    raw.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The label of golden vector `set` of 1.0.0.
pub(crate) fn label(set: usize) -> i64 {
    let folder = Bundle::digits("1.0.0").folder;
    let bytes = std::fs::read(folder.join(format!("test_data_set_{set}/output_0.pb"))).unwrap();
    i64::from_le_bytes(bytes[bytes.len() - 8..].try_into().unwrap())
}

/// A worker with its listeners.
pub(crate) struct Bench {
    pub(crate) supervisor: Supervisor,
    pub(crate) started: Started,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: SocketAddr,
    _scratch: tempfile::TempDir,
}

impl Bench {
    /// A worker that serves these bundles in slots 1, 2, ….
    pub(crate) async fn start(limits: Limits, bundles: &[&Bundle]) -> Self {
        Self::start_timed(limits, Timing::default(), bundles).await
    }

    pub(crate) async fn start_timed(limits: Limits, timing: Timing, bundles: &[&Bundle]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("infer.sock");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = listener.local_addr().unwrap();
        let listeners = vec![Listener::from(UnixListener::bind(&socket).unwrap()), Listener::from(listener)];
        let supervisor = Supervisor::new(programs(), limits, timing, listeners);
        let restore = bundles.iter().zip(1..).map(|(bundle, slot)| bundle.restore(slot)).collect();
        let started = supervisor.start(restore).await.unwrap();
        assert!(started.failed.is_empty(), "{:?}", started.failed);
        Self { supervisor, started, socket, tcp, _scratch: scratch }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.started.worker
    }

    /// Takes events until `enough` says so of the increments of slot 1 together.
    pub(crate) async fn increments(&mut self, enough: impl Fn(&Increment) -> bool) -> Increment {
        let mut sum: Option<Increment> = None;
        let deadline = Moment::now().after(Duration::from_secs(20));
        while !sum.as_ref().is_some_and(&enough) {
            let event = tokio::time::timeout(deadline.remaining(), self.started.events.recv()).await;
            let WorkerEvent::Increment(more) = event.expect("increments in time").expect("a live worker") else {
                panic!("the worker died")
            };
            assert_eq!(more.rows, more.sums.rows, "rows of an increment are those of its sums");
            let Some(sum) = &mut sum else {
                sum = Some(*more);
                continue;
            };
            assert!(sum.number < more.number, "{} comes before {}", more.number, sum.number);
            sum.number = more.number;
            sum.inferences += more.inferences;
            sum.rows += more.rows;
            sum.errors.extend(more.errors);
            sum.sums.merge(&more.sums).unwrap();
            sum.labels.extend(more.labels);
            let mut latency = Latency::from_bytes(&sum.latency).unwrap();
            latency.merge(&Latency::from_bytes(&more.latency).unwrap());
            sum.latency = latency.to_bytes();
        }
        sum.unwrap()
    }
}

// The few messages of ONNX that the slow model needs, written by hand: a key and a length before each part.

fn part(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    number(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn count(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    number(value, &mut out);
    out
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|dim| count(1, *dim)).collect();
    [dims, count(2, 1), part(8, name.as_bytes()), part(9, &raw)].concat()
}

fn tensor_file(dims: &[u64], values: &[f32]) -> Vec<u8> {
    tensor("t", dims, values)
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| part(1, input.as_bytes())).collect();
    part(1, &[inputs, part(2, output.as_bytes()), part(4, operator.as_bytes())].concat())
}

fn scalar_info(field: u8, name: &str) -> Vec<u8> {
    let dim = part(1, &count(1, 1));
    let shape = part(2, &[dim.clone(), dim].concat());
    part(field, &[part(1, name.as_bytes()), part(2, &part(1, &[count(1, 1), shape].concat()))].concat())
}

fn slow_model(width: usize, products: usize) -> Vec<u8> {
    let zeros = vec![0.0; width * width];
    let side = width as u64;
    let mut graph = node("Mul", &["x", "w"], "h0");
    for at in 0..products {
        let (from, to) = (format!("h{at}"), format!("h{}", at + 1));
        graph.extend(node("MatMul", &[&from, &from], &to));
    }
    graph.extend(node("MatMul", &["row", &format!("h{products}")], "across"));
    graph.extend(node("MatMul", &["across", "column"], "y"));
    graph.extend(part(2, b"slow"));
    graph.extend(part(5, &tensor("w", &[side, side], &zeros)));
    graph.extend(part(5, &tensor("row", &[1, side], &zeros[..width])));
    graph.extend(part(5, &tensor("column", &[side, 1], &zeros[..width])));
    graph.extend(scalar_info(11, "x"));
    graph.extend(scalar_info(12, "y"));
    let opset = part(8, &count(2, 13));
    [count(1, 8), opset, part(7, &graph)].concat()
}
