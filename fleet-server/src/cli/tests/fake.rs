//! A server that keeps what it is given in memory, over real TLS on a port of its own.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

use crate::forms::proposals::ProposalDetail;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tern_protocol::{
    api::{PROBLEM_TYPE, Problem},
    digest::Digest,
    keys::KeyId,
    manifest::Manifest,
};
use tokio::{net::TcpListener, sync::oneshot};

pub(super) const TOKEN: &str = "70cc";

/// What the server knows and how it misbehaves.
#[derive(Default)]
pub(super) struct State {
    pub requests: Vec<String>,
    pub last_body: Vec<u8>,
    /// The key of the newest request.
    pub last_key: Option<String>,
    pub manifests: BTreeMap<String, Vec<u8>>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub list: Option<Value>,
    /// The list of candidates.
    pub candidates: Option<Value>,
    pub signatures: Value,
    pub proposals: Vec<ProposalDetail>,
    /// Signatures that a list of releases needs; 0 stands for one.
    pub needed: usize,
    /// The keys that are said to count for a list; none where that is not said.
    pub counting: Vec<KeyId>,
    /// The role of who asks [an admin].
    pub role: Option<&'static str>,
    /// How published versions stand: what the catalog says of them besides their manifest.
    pub standing: BTreeMap<String, Value>,
    pub lists_signed: u32,
    /// Whether the signatures of the list are shown.
    pub shows_signatures: bool,
    /// So many lists are refused because another publisher was faster.
    pub moved: u32,
    /// Blobs are refused after so many.
    pub blobs_until_failure: Option<usize>,
    /// What a rollout looks like, one answer after the other; the last stays.
    pub rollouts: Vec<Value>,
    /// What to answer whatever is asked.
    pub answer: Option<(u16, String)>,
}

pub(super) struct Fake {
    address: String,
    ca_pem: String,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let (config, ca_pem) = identity();
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! { () = serve(listener, config, shared) => {}, _ = stopped => {} }
            });
        });
        Self { address, ca_pem, state, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

fn identity() -> (ServerConfig, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (config, ca_pem)
}

async fn serve(listener: std::net::TcpListener, config: ServerConfig, state: Arc<Mutex<State>>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // Clients that trust another CA hang up here.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub(super) type Answer = Result<Value, Problem>;

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let mut state = state.lock().unwrap();
    let uri = head.uri.to_string();
    state.requests.push(format!("{} {uri}", head.method));
    state.last_key = head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let known = head.headers.get(header::AUTHORIZATION).is_some_and(|h| h == format!("Bearer {TOKEN}").as_str());
    let (status, kind, text) = match (state.answer.clone(), known) {
        (Some((status, text)), _) => (status, if status == 403 { PROBLEM_TYPE } else { "text/html" }, text),
        (None, false) => {
            problem(&Problem::new(401, "bad-token", "Unauthorized", "the token is not known: log in again"))
        }
        (None, true) if head.method == Method::GET && uri.contains("/blobs/") => {
            let digest = uri.rsplit('/').next().unwrap();
            let bytes = state.blobs.get(digest).cloned().unwrap_or_default();
            let response = Response::builder().header(header::CONTENT_TYPE, "application/octet-stream");
            return Ok(response.body(Full::new(bytes.into())).unwrap());
        }
        (None, true) => match state.route(&head.method, &uri, body) {
            Ok(value) => (200, "application/json", value.to_string()),
            Err(refusal) => problem(&refusal),
        },
    };
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    Ok(response.body(Full::new(text.into())).unwrap())
}

fn problem(problem: &Problem) -> (u16, &'static str, String) {
    (problem.status, PROBLEM_TYPE, serde_json::to_string(problem).unwrap())
}

impl State {
    fn route(&mut self, method: &Method, uri: &str, body: Vec<u8>) -> Answer {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let parts: Vec<_> = path.trim_start_matches("/api/v1/").split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["whoami"]) => {
                let role = self.role.unwrap_or("admin");
                Ok(json!({"name": "ann", "role": role, "fleet": "demo", "server_version": "0.1.0", "solo": true}))
            }
            ("GET", ["trust"]) => Ok(super::rescue::published()),
            ("GET", ["figures"]) => Ok(json!({"items": [{
                "device": "cam-1", "model": "demo/meter-digits@1.0.0", "rows": 900, "inferences": 450, "errors": 3,
                "violations": 0, "windows": 9, "labels": 40, "label_errors": 4, "accuracy": 0.9,
                "estimated": {"accuracy": 0.934, "sd": 0.011, "rows": 900}, "p50_ms": 0.8, "p95_ms": 1.25,
                "updated": "2026-06-01T00:00:00Z"
            }]})),
            ("GET", ["quarantine"]) => Ok(json!({"items": [{
                "id": 7, "device": "cam-2", "code": "row-shape", "received": "2026-06-01T00:00:00Z", "times": 2,
                "stream": "07", "sequence": 41, "message": "3 input features, its profile has 2",
                "sha256": "00".repeat(32), "bytes": 310
            }]})),
            ("PUT", ["manifests", ..]) => self.manifest(path, body),
            ("PUT", ["blobs", "sha256", digest]) => self.blob(digest, body),
            ("GET", ["teams", "demo", "metadata"]) => Ok(self.metadata(query.contains("candidate"))),
            ("POST", ["teams", "demo", "proposals"]) => self.propose(&body),
            ("GET", ["proposals"]) => Ok(json!({"items": self.proposals})),
            ("GET", ["proposals", id]) => self.proposal(id).map(|proposal| json!(proposal)),
            ("POST", ["proposals", id, "signatures"]) => self.sign_proposal(id, &body),
            ("POST", ["proposals", id, "withdraw"]) => self.withdraw(id, body),
            ("GET", ["models", team, model, version]) => self.version(&format!("{team}/{model}"), version),
            ("GET", ["devices"]) if query.contains("cursor=p2") => Ok(json!({"items": [device("cam-2")]})),
            ("GET", ["devices"]) => Ok(json!({"items": [device("cam-1")], "next": "p2"})),
            ("GET", ["devices", "cam-1"]) => Ok(device("cam-1")),
            ("GET", ["events"]) if query.contains("after=2&") => Ok(json!({"items": [event(3)]})),
            ("GET", ["events"]) => Ok(json!({"items": [event(1), event(2)], "next": "2"})),
            ("POST", ["enrolments"]) => {
                self.last_body = body;
                let command = "tern-agent enroll --token tern-enrol-1.x";
                Ok(json!({"token": "tern-enrol-1.x", "command": command, "expires": "2030-01-01T00:00:00Z"}))
            }
            ("POST", ["assignments"]) => {
                self.last_body = body;
                Ok(json!({"devices": {"cam-1": 8, "cam-2": 9}}))
            }
            ("POST", ["readers"]) => {
                self.last_body = body;
                Ok(super::dashboards::issued())
            }
            ("POST", ["tokens"]) => {
                self.last_body = body;
                Ok(super::access::issued())
            }
            ("GET", ["tokens"]) => Ok(super::access::tokens()),
            ("GET", ["accesses"]) => Ok(super::access::accesses()),
            ("GET", ["rollouts"]) => Ok(json!({"items": self.rollouts})),
            ("GET", ["rollouts", _]) => Ok(super::rollouts::next(&mut self.rollouts)),
            ("GET", ["rollouts", _, "plan"]) => Ok(super::rollouts::plan()),
            ("GET", ["rollouts", _, "verdicts"]) => Ok(super::rollouts::verdicts(query)),
            ("POST", ["rollouts", ..]) => {
                self.last_body = body;
                Ok(self.rollouts[0].clone())
            }
            _ => Err(Problem::new(404, "not-found", "Not found", "device nobody is not enrolled")),
        }
    }

    fn manifest(&mut self, path: &str, body: Vec<u8>) -> Answer {
        let manifest = Manifest::from_slice(&body).unwrap();
        let version = &manifest.model;
        assert_eq!(path, format!("/api/v1/manifests/{}/{}", version.name, version.version));
        let stored = self.manifests.entry(path.into()).or_insert_with(|| body.clone());
        if *stored != body {
            return Err(Problem::new(409, "version-exists", "Version exists", "give it a new number"));
        }
        let lacks = |digest: &String| !self.blobs.contains_key(digest);
        let missing: Vec<_> = manifest.files.iter().map(|f| f.sha256.to_string()).filter(lacks).collect();
        Ok(json!({"manifest": Digest::of(&body), "missing_blobs": missing}))
    }

    fn blob(&mut self, digest: &str, body: Vec<u8>) -> Answer {
        if self.blobs_until_failure.is_some_and(|most| self.blobs.len() >= most) {
            return Err(Problem::new(503, "unavailable", "Unavailable", "try again"));
        }
        assert_eq!(Digest::of(&body).to_string(), digest);
        self.blobs.insert(digest.into(), body);
        Ok(Value::Null)
    }

    fn metadata(&self, candidates: bool) -> Value {
        let list = if candidates { &self.candidates } else { &self.list };
        let present = list.as_ref().map_or(0, |list| list["version"].as_u64().unwrap());
        let expires = crate::clock::now() + jiff::SignedDuration::from_hours(24 * 365);
        let mut form = json!({"next_version": present + 1, "signed": list, "keys": self.counting, "expires": expires});
        if self.shows_signatures && !candidates {
            form["signatures"] = self.signatures.clone();
        }
        form
    }
}

fn device(name: &str) -> Value {
    let refusal = json!({
        "code": "golden-mismatch", "message": "answers differ", "version": "1.0.2", "generation": 7,
        "at": "2026-01-01T00:00:00Z", "count": 1
    });
    // The second was told to go back.
    let desired = if name == "cam-2" { "1.0.0" } else { "1.0.2" };
    let model = json!({
        "model": "demo/meter-digits", "version": "1.0.0", "digest": null, "state": "rejected", "desired": desired,
        "generation": 7, "since": "2026-01-01T00:00:00Z", "last_error": refusal
    });
    json!({
        "device": name, "online": true, "last_seen": "2026-01-01T00:00:00Z", "device_class": "rpi4",
        "labels": {"site": "hall-2"}, "agent_version": "0.1.0", "desired_generation": 8,
        "desired": ["demo/meter-digits@1.0.2"], "generation": 7, "models": [model],
        "certificate_expires": "2030-01-01T00:00:00Z"
    })
}

fn event(id: i64) -> Value {
    json!({
        "id": id, "at": "2026-01-01T00:00:00Z", "kind": "device-refused", "actor": "cam-1", "device": "cam-1",
        "model": "demo/meter-digits", "version": "1.0.2", "code": "golden-mismatch", "message": "answers differ"
    })
}
