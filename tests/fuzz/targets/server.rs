//! A fleet server in this process: the routes behind its HTTPS listener, and what its broker is handed from devices.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, Uri},
};
use serde_json::{Value, json};
use tern_fleet_server::{
    broker::{Passing, Policy, Publication},
    console,
    transport::Transport,
};
use tern_protocol::manifest::MAX_BYTES;

use super::{
    documents,
    house::{Enrolled, House},
    telemetry,
};
use crate::{
    mutate::{Form, split},
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    // Threads and databases reserve more than they take.
    let kind = |name, form, make| Kind::new(name, form, Pace::Exchange, make).within(1536);
    vec![
        kind("http-server", Form::Message, || Box::new(Routes::new())),
        kind("console", Form::Message, || Box::new(Console::new())),
        kind("mqtt-report", Form::Report, || Box::new(Heard::new("report", false, telemetry::reports()))),
        kind("mqtt-twin", Form::Json, || Box::new(Heard::new("twin", true, telemetry::twin()))),
        kind("mqtt-status", Form::Json, || Box::new(Heard::new("status", true, telemetry::status()))),
        kind("mqtt-figures", Form::Json, || Box::new(Heard::new("m/digits", true, figures()))),
    ]
}

/// Requests as bytes: method and path, headers, an empty line, the body. The word TOKEN stands for the operator's, and
/// CERTIFICATE-REQUEST for one of the device, as JSON writes it.
struct Routes {
    house: House,
    device: Enrolled,
    csr: String,
}

impl Routes {
    fn new() -> Self {
        let mut house = House::start();
        let device = house.enrol();
        // Blobs are taken that a manifest names.
        let manifest = documents::manifest("demo/m@1.0.0", &documents::small(), &[]);
        assert!(house.ask(Method::PUT, "/api/v1/manifests/demo/m/1.0.0", manifest).0.is_success());
        let csr = serde_json::to_string(&device.signing_request()).expect("text");
        Self { house, csr: csr.trim_matches('"').to_owned(), device }
    }

    /// The input with what stands for the request for a certificate replaced by that.
    fn filled(&self, input: &[u8]) -> Vec<u8> {
        let text = str::from_utf8(input).ok().filter(|text| text.contains(REQUEST));
        text.map_or_else(|| input.to_vec(), |text| text.replace(REQUEST, &self.csr).into())
    }
}

const CLAIMS: &[u8] = br#"{"devices":[{"serial":"SN-1","device":"cam-700","labels":{"site":"hall-2"}},{"serial":"SN-2","device":"cam-701"}],"valid_seconds":600}"#;
const CLAIM: &[u8] =
    br#"{"serial":"SN-1","secret":"5e","csr_pem":"CERTIFICATE-REQUEST","device_class":"pi","agent_version":"0.1.0"}"#;
const REQUEST: &str = "CERTIFICATE-REQUEST";

impl Target for Routes {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let message = |line: &str, body: &[u8]| {
            [line.as_bytes(), b"\nauthorization: Bearer TOKEN\ncontent-type: application/json\n\n", body].concat()
        };
        let manifest = documents::manifest("demo/m@1.0.0", &documents::small(), &[]);
        let enrolment = json!({"device": "cam-500", "labels": {"site": "hall-2"}, "valid_seconds": 600}).to_string();
        let assignment = json!({"model": "demo/m@1.0.0", "selector": "site=hall-2", "reason": "x",
            "probation": {"min_inferences": 1, "min_seconds": 2}})
        .to_string();
        let rollout =
            json!({"model": "demo/m@1.0.0", "selector": "*", "policy": {"stages": [{"size": "100%"}]}, "reason": "x"})
                .to_string();
        let team = json!({"signatures": [{"keyid": "a", "sig": "00"}], "signed": {"_type": "targets", "version": 1,
            "spec_version": "1.0.31", "expires": "2027-06-01T00:00:00Z", "targets": {}}})
        .to_string();
        let enrol = json!({"device": "cam-1", "secret": "5e".repeat(32), "csr_pem": "", "device_class": "pi", "agent_version": "1"}).to_string();
        let digest = tern_protocol::digest::Digest::of(b"model.onnx");
        [
            ("enrolment.http", message("POST /api/v1/enrolments?replace=true", enrolment.as_bytes())),
            ("manifest.http", message("PUT /api/v1/manifests/demo/m/1.0.0", &manifest)),
            ("upload.http", message(&format!("PUT /api/v1/blobs/sha256/{digest}"), b"model.onnx")),
            ("devices.http", message("GET /api/v1/devices?selector=site%3Dhall-2&limit=10", b"")),
            ("events.http", message("GET /api/v1/events?after=0&limit=3", b"")),
            ("figures.http", message("GET /api/v1/figures?model=demo%2Fm&limit=3", b"")),
            ("incidents.http", message("GET /api/v1/incidents?limit=3", b"")),
            ("team.http", message("GET /api/v1/teams/demo/metadata", b"")),
            ("timestamp.http", message("GET /tuf/metadata/timestamp.json", b"")),
            ("range.http", message("GET /healthz\nrange: bytes=0-1", b"")),
            ("metrics.http", message("GET /metrics", b"")),
            ("device.http", message("GET /api/v1/devices/cam-1", b"")),
            ("windows.http", message("GET /api/v1/devices/cam-1/windows?model=demo%2Fm", b"")),
            ("quarantine.http", message("GET /api/v1/quarantine?device=cam-1&limit=3", b"")),
            ("rollouts.http", message("GET /api/v1/rollouts?limit=3", b"")),
            ("version.http", message("GET /api/v1/models/demo/m/1.0.0", b"")),
            ("proposals.http", message("GET /api/v1/proposals?team=demo&limit=3", b"")),
            ("accesses.http", message("GET /api/v1/accesses?limit=3", b"")),
            ("tokens.http", message("GET /api/v1/tokens", b"")),
            ("claims.http", message("POST /api/v1/claims", CLAIMS)),
            ("refused-claim.http", message("POST /api/v1/claim", CLAIM)),
            ("renew.http", message("POST /api/v1/renew", format!(r#"{{"csr_pem":"{REQUEST}"}}"#).as_bytes())),
            ("refused-revoke.http", message("POST /api/v1/devices/cam-900/revoke", br#"{"reason":"x"}"#)),
            (
                "refused-reidentify.http",
                message("POST /api/v1/devices/cam-900/reidentify", br#"{"reason":"x","valid_seconds":60}"#),
            ),
            ("refused-signature.http", message("POST /api/v1/proposals/9/signatures", br#"{"signatures":[]}"#)),
            ("refused-incident.http", message("GET /api/v1/incidents/1", b"")),
            ("refused-acknowledge.http", message("POST /api/v1/incidents/1/acknowledge", br#"{"reason":"x"}"#)),
            (
                "refused-mute.http",
                message("POST /api/v1/incidents/1/mute", br#"{"reason":"x","until":"2027-01-01T00:00:00Z"}"#),
            ),
            ("refused-reader.http", message("DELETE /api/v1/readers/wall?reason=x", b"")),
            ("refused-pause.http", message("POST /api/v1/rollouts/r-1/pause", br#"{"reason":"x"}"#)),
            ("refused-blob.http", message(&format!("GET /blobs/sha256/{digest}\nrange: bytes=0-1"), b"")),
            ("refused-assignment.http", message("POST /api/v1/assignments", assignment.as_bytes())),
            ("refused-rollout.http", message("POST /api/v1/rollouts", rollout.as_bytes())),
            ("refused-team.http", message("PUT /api/v1/teams/demo/metadata", team.as_bytes())),
            (
                "refused-trust.http",
                message("PUT /api/v1/trust/metadata", format!(r#"{{"targets":{team}}}"#).as_bytes()),
            ),
            ("trust.http", message("GET /api/v1/trust/metadata", b"")),
            ("refused-enrol.http", message("POST /api/v1/enrol", enrol.as_bytes())),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Some(request) = request(&self.filled(input), &self.house.token) else { return Verdict::Refused };
        let what = format!("{} {}", request.method(), request.uri());
        let is_stream = request.uri().path().starts_with("/blobs/");
        // Each time would take longer than all else; which inputs, follows from their bytes.
        let is_watched = input.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(8);
        let before = is_watched.then(|| self.house.published());
        let (status, body) = self.house.answer(request, Some(&self.device));
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{what}: {body:?}");
        if let Some(body) = body.filter(|_| status.is_client_error() && !is_stream) {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let is_told =
                problem["status"] == status.as_u16() && problem["detail"].as_str().is_some_and(|d| !d.is_empty());
            assert!(is_told, "{what} is refused without words: {status} {}", String::from_utf8_lossy(&body));
        }
        if let Some(before) = before.filter(|_| !status.is_success()) {
            assert!(self.house.published() == before, "{what} was refused and left a trace");
        }
        Verdict::of(status.is_success())
    }
}

fn request(input: &[u8], token: &str) -> Option<Request<Body>> {
    let (head, body) = split(input);
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).ok()?).uri(path.parse::<Uri>().ok()?);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        request = request.header(name, value.replace("TOKEN", token));
    }
    // What the server says is its limit, and a little more.
    request.body(Body::from(body[..body.len().min(2 * MAX_BYTES)].to_vec())).ok()
}

/// Pages that people look at.
struct Console(House, Router);

impl Console {
    fn new() -> Self {
        let mut house = House::start();
        house.enrol();
        let router = console::router(Arc::new(console::Window(house.server.fleet().clone())));
        Self(house, router)
    }
}

impl Target for Console {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let get = |path: &str| format!("GET {path}\nhost: localhost\naccept: text/html\n\n").into_bytes();
        let pages = [
            ("fleet", "/?selector=site%3Dhall-2&page=1"),
            ("device", "/devices/cam-1?refresh=5"),
            ("models", "/models"),
            ("events", "/events?after=3&device=cam-1"),
            ("incidents", "/incidents?state=open"),
            ("rollouts", "/rollouts"),
            ("style", "/style.css"),
        ];
        pages.map(|(name, path)| (format!("{name}.http"), get(path))).into()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Some(request) = request(input, &self.0.token) else { return Verdict::Refused };
        let what = format!("{} {}", request.method(), request.uri());
        let (status, _) = self.0.answer_by(&self.1, request);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{what}");
        Verdict::of(status.is_success())
    }
}

fn figures() -> Vec<(String, Vec<u8>)> {
    let figures = json!({"version": "1.0.0", "rows": 12, "errors": 0, "p95_ms": 1.5});
    vec![("digits.json".into(), figures.to_string().into()), ("cleared.json".into(), Vec::new())]
}

/// Payloads of one channel of a device.
struct Heard {
    house: House,
    transport: Transport,
    channel: &'static str,
    retain: bool,
    seeds: Vec<(String, Vec<u8>)>,
    device: Enrolled,
    messages: usize,
}

impl Heard {
    fn new(channel: &'static str, retain: bool, seeds: Vec<(String, Vec<u8>)>) -> Self {
        let mut house = House::start();
        let (device, transport) = (house.enrol(), Transport::new(house.server.fleet().clone()));
        Self { house, transport, channel, retain, seeds, device, messages: 0 }
    }

    fn seen(&self) -> Vec<u8> {
        self.house.ask(Method::GET, &format!("/api/v1/devices/{}", self.device.name), Vec::new()).1
    }
}

impl Target for Heard {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        self.seeds.clone()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        // A device may say so much and no more, and have so many streams.
        self.messages += 1;
        if self.messages.is_multiple_of(100) {
            self.device = self.house.enrol();
        }
        let topic = format!("tern/v1/f/{}/{}", self.device.name, self.channel);
        assert!(self.transport.may_publish(&self.device.name, &topic, self.retain));
        let before = self.seen();
        let payload = input.to_vec().into();
        let message = Publication {
            client: &self.device.name,
            topic: &topic,
            payload: &payload,
            retain: self.retain,
            will: false,
        };
        let taken = self.house.runtime.block_on(self.transport.on_publish(message));
        if let Err(rejected) = taken {
            assert_ne!(rejected.passing, Passing::Perhaps, "the store fails on {}: {rejected}", self.channel);
            assert!(self.seen() == before, "what was refused left a trace");
            return Verdict::Refused;
        }
        let (status, _) = self.house.ask(Method::GET, "/api/v1/devices?limit=5", Vec::new());
        assert_eq!(status, StatusCode::OK, "what was taken can be shown");
        Verdict::Accepted
    }
}
