//! The inference API: a worker as devices run it, asked over its socket, in requests whose frame is whole and in bytes that
//! only look like a request.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tern_agent::{
    SelfExec,
    bundle::Opened,
    supervisor::{Listener, Restore, Started, Supervisor, Timing},
};
use tern_fleet_server::bundle;
use tern_protocol::frames::{Limits, Slot};
use tokio::{runtime::Runtime, sync::mpsc::error::TryRecvError};

use crate::{
    mutate::{Form, split},
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, form, make| Kind::new(name, form, Pace::Exchange, make).within(256);
    vec![
        kind("inference", Form::Message, || Box::new(Requests(Bench::start()))),
        kind("inference-wire", Form::Text, || Box::new(Wire(Bench::start()))),
    ]
}

/// Memory that the worker may take, in KiB.
const WORKER_KIB: u64 = 256 << 10;
/// What every answer must come within.
const PATIENCE: Duration = Duration::from_secs(20);
const LIMITS: Limits =
    Limits { threads: 1, queue: 16, connections: 16, request_bytes: 1 << 20, deadline_ms: 10_000, increment_ms: 100 };

/// A worker that serves the quickstart's model.
struct Bench {
    _runtime: Runtime,
    _supervisor: Supervisor,
    started: Started,
    socket: PathBuf,
    connection: Option<UnixStream>,
    _scratch: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let socket = scratch.path().join("infer.sock");
        let listener = Listener::from(UnixListener::bind(&socket).expect("a socket"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits/1.0.0");
        let read = bundle::read(&folder).expect("the quickstart's bundle");
        let file = |file: &tern_protocol::manifest::File| folder.join(&file.path);
        let reference = read.manifest.reference_file().expect("a profile");
        let version = Opened {
            reference: std::fs::read(file(reference)).expect("a readable file"),
            model: File::open(file(read.manifest.model_file())).expect("a readable file"),
            manifest: read.bytes,
        };
        let programs =
            SelfExec { executable: env!("CARGO_BIN_EXE_tern-under-test").into(), prefix: vec!["agent".into()] };
        let (supervisor, started) = runtime.block_on(async {
            let supervisor = Supervisor::new(programs, LIMITS, Timing::default(), vec![listener]);
            let started = supervisor.start(vec![Restore { slot: Slot(1), version }]).await.expect("a worker");
            (supervisor, started)
        });
        assert!(started.failed.is_empty(), "{:?}", started.failed);
        let mut bench =
            Self { _runtime: runtime, _supervisor: supervisor, started, socket, connection: None, _scratch: scratch };
        // What feedback is about.
        let known = bench.exchange(&framed(&infer(), b"").expect("a request"));
        assert!(known.is_some_and(|answer| answer.status == 200));
        bench
    }

    /// Sends a whole request and returns its answer; none where the connection was closed instead.
    fn exchange(&mut self, request: &[u8]) -> Option<Answer> {
        let mut stream = self.connection.take().unwrap_or_else(|| self.connect());
        // Whoever refuses early may close before everything was written; its answer comes all the same.
        let _ = stream.write_all(request);
        let answer = Answer::read(&mut stream)?;
        if !answer.closes {
            self.connection = Some(stream);
        }
        Some(answer)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("the worker's socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// The same worker still answers, is small, and has said nothing of an end.
    fn check(&mut self) {
        while let Ok(event) = self.started.events.try_recv() {
            let words = format!("{event:?}");
            assert!(!words.starts_with("Died"), "the worker died: {words}");
        }
        assert_eq!(self.started.events.try_recv().err(), Some(TryRecvError::Empty), "the worker is gone");
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.started.worker.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
        let peak: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < WORKER_KIB, "the worker took {peak} KiB");
    }
}

/// An answer of HTTP/1.1.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    closes: bool,
}

impl Answer {
    /// The next answer of the stream; none where it ends. An interim answer is passed over.
    fn read(stream: &mut UnixStream) -> Option<Self> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) => head.push(byte[0]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no answer in time")
                }
                Err(_) => return None,
            }
        }
        let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1)?.parse().expect("a status");
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = value("content-length:").map_or(0, |length| length.parse().expect("a length"));
        let closes = value("connection:") == Some("close");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        Some(Self { status, head, body, closes })
    }
}

/// The bytes of a request whose length is right; none where its head has no form.
fn framed(head: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let (text, own) = split(head);
    let body = [own, body].concat();
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    // What no address may hold is refused below our routes, without words.
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/%:@!$&'()*+,;=?".contains(&b));
    if !["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].contains(&method)
        || !is_plain(path)
        || !path.starts_with('/')
    {
        return None;
    }
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: tern\r\ncontent-length: {}\r\n", body.len());
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let frames = ["content-length", "transfer-encoding", "connection", "upgrade", "expect"];
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !name.is_empty();
        if !is_name
            || frames.contains(&name.to_ascii_lowercase().as_str())
            || value.bytes().any(|b| b.is_ascii_control())
        {
            return None;
        }
        request += &format!("{name}: {value}\r\n");
    }
    // The head has a bound of its own, beyond which there is no answer in JSON.
    if request.len() > 16 << 10 || text.lines().count() > 60 {
        return None;
    }
    Some([request.as_bytes(), b"\r\n", &body].concat())
}

fn pixels() -> Vec<f32> {
    (0..64).map(|i| (i * 7 % 17) as f32).collect()
}

fn post(path: &str, header: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST {path}\n{header}\n\n").as_bytes(), body].concat()
}

const MODEL: &str = "/v2/models/meter-digits";
const JSON: &str = "content-type: application/json";

fn infer() -> Vec<u8> {
    let nested: Vec<_> = pixels().chunks(8).map(<[f32]>::to_vec).collect();
    let input = json!({"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "data": [nested]});
    post(&format!("{MODEL}/infer"), JSON, json!({"id": "known", "inputs": [input]}).to_string().as_bytes())
}

fn binary_infer() -> Vec<u8> {
    let input =
        json!({"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "parameters": {"binary_data_size": 256}});
    let json = json!({"inputs": [input], "parameters": {"binary_data_output": true},
        "outputs": [{"name": "label", "parameters": {"binary_data": false}}, {"name": "probabilities"}]})
    .to_string();
    let values: Vec<u8> = pixels().iter().flat_map(|x| x.to_le_bytes()).collect();
    let header = format!("inference-header-content-length: {}", json.len());
    post(&format!("{MODEL}/versions/1.0.0/infer"), &header, &[json.as_bytes(), &values].concat())
}

fn two_rows() -> Vec<u8> {
    let flat = [pixels(), pixels()].concat();
    let input = json!({"name": "pixels", "datatype": "FP32", "shape": [2, 8, 8], "data": flat});
    post(&format!("{MODEL}/infer"), JSON, json!({"inputs": [input], "outputs": []}).to_string().as_bytes())
}

fn feedback() -> Vec<u8> {
    let labels = json!({"feedback": [{"id": "known", "row": 0, "label": 3}, {"id": "known", "label": "7"}, {"id": "x", "label": null}]});
    post(&format!("{MODEL}/feedback"), JSON, labels.to_string().as_bytes())
}

/// Requests whose frame is whole.
struct Requests(Bench);

impl Target for Requests {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let get = |path: &str| format!("GET {path}\naccept: */*\n\n").into_bytes();
        vec![
            ("binary.http".into(), binary_infer()),
            ("feedback.http".into(), feedback()),
            ("infer.http".into(), infer()),
            ("metrics.http".into(), get("/metrics")),
            ("model.http".into(), get(MODEL)),
            ("two-rows.http".into(), two_rows()),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Some(request) = framed(input, b"") else { return Verdict::Refused };
        let what = || String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
        let answer = self.0.exchange(&request);
        self.0.check();
        let Some(answer) = answer else { panic!("a whole request had no answer: {}", what()) };
        assert_ne!(answer.status, 500, "{}: {}", what(), String::from_utf8_lossy(&answer.body));
        let is_json = answer.head.contains("content-type: application/json");
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert!(!is_json || value.is_object(), "{}: {}", what(), String::from_utf8_lossy(&answer.body));
        if answer.status != 200 {
            let told = value["error"].as_str().is_some_and(|why| !why.is_empty()) || value["feedback"].is_array();
            assert!(told, "{} is refused without words", what());
            return Verdict::Refused;
        }
        if let Some(outputs) = value["outputs"].as_array() {
            assert_eq!(value["model_version"], "1.0.0");
            outputs.iter().for_each(hold_output);
        }
        Verdict::Accepted
    }
}

/// As many values as the shape says, each a number.
fn hold_output(output: &Value) {
    let Some(data) = output["data"].as_array() else { return };
    let shape = output["shape"].as_array().expect("a shape");
    let volume: u64 = shape.iter().map(|axis| axis.as_u64().expect("an axis")).product();
    assert_eq!(data.len() as u64, volume, "{output}");
    assert!(data.iter().all(Value::is_number), "{output}");
}

/// Bytes on a connection.
struct Wire(Bench);

impl Target for Wire {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let chunked = |body: &str| {
            format!(
                "POST {MODEL}/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )
        };
        let infer_json = infer();
        let body = String::from_utf8(split(&infer_json).1.to_vec()).expect("text");
        let pipelined = "GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
        vec![
            ("chunked.http".into(), chunked(&body).into()),
            ("get.http".into(), b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n".into()),
            ("infer.http".into(), framed(&infer(), b"").expect("a request")),
            ("pipelined.http".into(), pipelined.into()),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let mut stream = self.0.connect();
        // The peer may close before all was written.
        let _ = stream.write_all(input);
        // What is broken may be waited for by the other side, which sees its end after a moment.
        let is_sound = self.seeds().iter().any(|(_, seed)| seed == input);
        let patience = if is_sound { PATIENCE } else { Duration::from_millis(4) };
        stream.set_read_timeout(Some(patience)).expect("a socket");
        let mut first = [0; 12];
        let answered = stream.read_exact(&mut first).is_ok();
        let _ = stream.shutdown(Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(!matches!(ended, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the connection is not let go");
        self.0.check();
        Verdict::of(answered && &first == b"HTTP/1.1 200")
    }
}
