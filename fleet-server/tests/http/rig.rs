//! A real server on free loopback ports, made with `init --solo`, and clients that speak real TLS to it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rumqttc::{AsyncClient, Event, Incoming, LastWill, MqttOptions, QoS, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tern_fleet_server::{
    clock,
    config::Config,
    forms::{EnrolmentOrder, EnrolmentTicket, ManifestStored, TeamMetadata},
    keyfile,
    ready::Addresses,
    repository::{OnlineKeys, solo},
    server::{InitOrder, Server, init},
};
use tern_protocol::{
    api::{PROBLEM_TYPE, Problem},
    digest::Digest,
    enrolment::{EnrolmentRequest, EnrolmentResponse, EnrolmentToken},
    ids::{ByteCount, ModelVersion},
    keys::{PublicKey, SigningKey},
    manifest::{self, File, FileRole, Manifest, Tolerance},
    signed::sign_value,
};
use tokio::sync::mpsc;

/// Bound on everything that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    server: Option<Server>,
    /// Where it listens, while it runs as a process of its own.
    pub(crate) elsewhere: Option<Addresses>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ca: String,
    token: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let order = InitOrder {
            data_dir: folder.path().join("data"),
            fleet: "f".parse().unwrap(),
            solo: Some(vec!["demo".parse().unwrap(), "other".parse().unwrap()]),
            names: vec!["localhost".into(), "127.0.0.1".into()],
        };
        init(&order).await.unwrap();
        Self::serve(folder, order.data_dir).await
    }

    /// A fleet whose keys lie apart: two people hold release keys of team demo, and both must sign.
    pub(crate) async fn of_two_people() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (demo, other) = ("demo".parse().unwrap(), "other".parse().unwrap());
        let order = InitOrder {
            data_dir: folder.path().join("data"),
            fleet: "f".parse().unwrap(),
            solo: Some(vec![demo, other]),
            names: vec!["localhost".into()],
        };
        init(&order).await.unwrap();
        let keys = order.data_dir.join("keys");
        let key = |name: &str| keyfile::read(&keys.join(format!("{name}-1.key"))).unwrap();
        keyfile::create(&order.data_dir.join("operator/release-demo-2.key"), None).unwrap();
        let public = |name: &str| keyfile::read(&order.data_dir.join("operator").join(name)).unwrap().public();
        let team = |team: &str, release: Vec<PublicKey>| solo::TeamKeys {
            team: team.parse().unwrap(),
            threshold: release.len(),
            release,
            candidate: public(&format!("candidate-{team}.key")),
        };
        let teams = vec![
            team("demo", vec![public("release-demo.key"), public("release-demo-2.key")]),
            team("other", vec![public("release-other.key")]),
        ];
        let online = OnlineKeys::new(key("snapshot"), key("timestamp"));
        let director = key("director").public();
        let keys = solo::SoloKeys { root: key("root"), targets: key("targets"), online, director, teams };
        std::fs::remove_dir_all(order.data_dir.join("tuf")).unwrap();
        solo::create(&order.data_dir.join("tuf"), &keys, clock::now()).unwrap();
        // People keep these.
        for (role, key) in [("root", &keys.root), ("targets", &keys.targets)] {
            keyfile::write(&order.data_dir.join(format!("operator/{role}.key")), key, None).unwrap();
            std::fs::remove_file(order.data_dir.join(format!("keys/{role}-1.key"))).unwrap();
        }
        Self::serve(folder, order.data_dir).await
    }

    async fn serve(folder: tempfile::TempDir, data_dir: std::path::PathBuf) -> Self {
        let text = |name: &str| std::fs::read_to_string(data_dir.join("operator").join(name)).unwrap();
        let (ca, token) = (text("ca.pem"), text("token").trim().to_owned());
        let mut rig = Self { server: None, elsewhere: None, folder, ca, token };
        rig.server = Some(Server::start(rig.config()).await.unwrap());
        rig
    }

    pub(crate) fn config(&self) -> Config {
        let free = "127.0.0.1:0".parse().unwrap();
        Config {
            data_dir: self.folder.path().join("data"),
            https_listen: free,
            mqtt_listen: free,
            console_listen: Some(free),
            ready_file: Some(self.folder.path().join("ready.json")),
            desired_resend_seconds: 1,
            ..Config::default()
        }
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn addresses(&self) -> Addresses {
        self.elsewhere.unwrap_or_else(|| self.server().addresses())
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().shutdown().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again(self.config()).await;
    }

    /// Starts where it was stopped.
    pub(crate) async fn start_again(&mut self, config: Config) {
        // The folder is free once the last user of the store is gone.
        self.server = Some(Server::start(config).await.unwrap());
    }

    fn tls(&self, identity: Option<(&str, &KeyPair)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        }
    }

    pub(crate) fn caller(&self, identity: Option<(&str, &KeyPair)>, token: Option<&str>) -> Caller {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(self.tls(identity)).https_only().enable_http1().build();
        Caller {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: format!("https://localhost:{}", self.addresses().https.port()),
            token: token.map(ToOwned::to_owned),
        }
    }

    pub(crate) fn stranger(&self) -> Caller {
        self.caller(None, None)
    }

    pub(crate) fn admin(&self) -> Caller {
        self.caller(None, Some(&self.token))
    }

    pub(crate) fn bearer(&self, token: &str) -> Caller {
        self.caller(None, Some(token))
    }

    pub(crate) fn device(&self, device: &Enrolled) -> Caller {
        self.caller(Some((&device.response.certificate_pem, &device.key)), None)
    }

    pub(crate) fn release_key(&self, team: &str) -> SigningKey {
        self.operator_key(&format!("release-{team}"))
    }

    pub(crate) fn operator_key(&self, name: &str) -> SigningKey {
        keyfile::read(&self.folder.path().join(format!("data/operator/{name}.key"))).unwrap()
    }

    pub(crate) async fn order(&self, name: &str) -> EnrolmentTicket {
        let order = EnrolmentOrder { device: name.parse().unwrap(), labels: Default::default(), valid_seconds: 600 };
        self.admin().post("/api/v1/enrolments", &order).await.ok()
    }

    pub(crate) async fn enrol(&self, name: &str) -> Enrolled {
        let token = EnrolmentToken::decode(&self.order(name).await.token).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = enrolment_request(&token, &key);
        let response: EnrolmentResponse = self.stranger().post("/api/v1/enrol", &request).await.ok();
        Enrolled { name: name.into(), token, key, response }
    }

    /// Uploads and signs a version of one file; returns its manifest's digest.
    pub(crate) async fn publish(&self, model: &str, content: &[u8]) -> Digest {
        self.publish_bundle(model, bundle(model, content)).await.ok_empty()
    }

    /// Uploads a version as `caller`; gives its manifest's digest.
    pub(crate) async fn upload(&self, caller: &Caller, model: &str, bundle: Uploads) -> Digest {
        let (manifest, files) = bundle;
        let stored: ManifestStored = caller.put(&manifest_path(model), manifest.clone()).await.ok();
        for (digest, bytes) in files {
            if stored.missing_blobs.contains(&digest) {
                caller.put(&format!("/api/v1/blobs/sha256/{digest}"), bytes).await.empty();
            }
        }
        stored.manifest
    }

    /// Uploads and signs a version; gives the answer to the signed list.
    pub(crate) async fn publish_bundle(&self, model: &str, bundle: Uploads) -> Published {
        let manifest = bundle.0.clone();
        let stored = self.upload(&self.admin(), model, bundle).await;
        let team = model.split('/').next().unwrap();
        let signed = self.team_metadata(team, &[(model, &manifest)]).await;
        let reply = self.admin().put(&format!("/api/v1/teams/{team}/metadata"), signed).await;
        Published { manifest: stored, reply }
    }

    /// The team's next metadata with these targets added, signed by its release key.
    pub(crate) async fn team_metadata(&self, team: &str, new: &[(&str, &[u8])]) -> Vec<u8> {
        let role = self.team_role(team, new).await;
        sign_value(role, &[&self.release_key(team)]).unwrap()
    }

    pub(crate) async fn team_role(&self, team: &str, new: &[(&str, &[u8])]) -> Value {
        let now: TeamMetadata = self.admin().get(&format!("/api/v1/teams/{team}/metadata")).await.ok();
        let mut role =
            now.signed.unwrap_or_else(|| json!({"_type": "targets", "spec_version": "1.0.31", "targets": {}}));
        role["version"] = json!(now.next_version);
        role["expires"] = json!(now.expires);
        for (model, manifest) in new {
            let path = model.parse::<ModelVersion>().map_or_else(|_| (*model).to_owned(), |m| m.target_path());
            role["targets"][path] = json!({"length": manifest.len(), "hashes": {"sha256": Digest::of(manifest)}});
        }
        role
    }

    pub(crate) fn mqtt(&self, device: &Enrolled) -> Mqtt {
        Mqtt::start(self, device)
    }

    /// Waits until an event of this kind and code was recorded; returns its message.
    pub(crate) async fn event(&self, kind: &str, code: &str) -> String {
        let admin = self.admin();
        eventually(async || {
            let page: Value = admin.get("/api/v1/events?limit=1000").await.ok();
            let events = page["items"].as_array().unwrap().clone();
            let found = events.iter().find(|event| event["kind"] == kind && event["code"] == code);
            found.map(|event| event["message"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// The value of a line of the metrics page.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let reply = self.admin().get("/metrics").await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().parse().unwrap()
    }
}

/// Polls until there is something.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        let mut poll = tokio::time::interval(Duration::from_millis(10));
        loop {
            if let Some(found) = look().await {
                return found;
            }
            poll.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("found before the deadline")
}

pub(crate) fn manifest_path(model: &str) -> String {
    format!("/api/v1/manifests/{}", model.replace('@', "/"))
}

/// A manifest's bytes, and its blobs.
pub(crate) type Uploads = (Vec<u8>, Vec<(Digest, Vec<u8>)>);

/// What came of a publication.
pub(crate) struct Published {
    pub(crate) manifest: Digest,
    pub(crate) reply: Reply,
}

impl Published {
    fn ok_empty(self) -> Digest {
        self.reply.empty();
        self.manifest
    }
}

/// A manifest and its blobs.
pub(crate) fn bundle(model: &str, content: &[u8]) -> Uploads {
    let file = |path: &str, role, bytes: &[u8]| File {
        path: path.into(),
        role,
        sha256: Digest::of(bytes),
        length: ByteCount(bytes.len() as u64),
    };
    let contract = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]
    });
    let manifest = Manifest {
        format: manifest::FORMAT,
        model: model.parse().unwrap(),
        files: vec![
            file("model.onnx", FileRole::Model, content),
            file("test_data_set_0/input_0.pb", FileRole::Golden, b"in"),
            file("test_data_set_0/output_0.pb", FileRole::Golden, b"out"),
        ],
        contract: serde_json::from_value(contract).unwrap(),
        budgets: Default::default(),
        device_classes: vec![],
        minimum_agent: "0.1.0".parse().unwrap(),
        golden_tolerance: Tolerance { absolute: 1e-5, relative: 1e-3 },
        training: Default::default(),
        parent: None,
    };
    let files = [content, b"in", b"out"].map(|bytes| (Digest::of(bytes), bytes.to_vec()));
    (manifest.to_bytes().unwrap(), files.into())
}

pub(crate) fn enrolment_request(token: &EnrolmentToken, key: &KeyPair) -> EnrolmentRequest {
    EnrolmentRequest {
        device: token.device.clone(),
        secret: token.secret.clone(),
        csr_pem: CertificateParams::default().serialize_request(key).unwrap().pem().unwrap(),
        device_class: "pi".parse().unwrap(),
        labels: Default::default(),
        agent_version: "0.1.0".into(),
        root_sha256: Some(token.root_sha256),
    }
}

pub(crate) struct Enrolled {
    pub(crate) name: String,
    pub(crate) token: EnrolmentToken,
    pub(crate) key: KeyPair,
    pub(crate) response: EnrolmentResponse,
}

impl Enrolled {
    pub(crate) fn topic(&self, channel: &str) -> String {
        format!("tern/v1/f/{}/{channel}", self.name)
    }
}

pub(crate) struct Caller {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: Option<String>,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Caller {
    pub(crate) async fn send(&self, method: Method, path: &str, extra: &[(&str, &str)], body: Vec<u8>) -> Reply {
        self.try_send(method, path, extra, body).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        extra: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let asked = async {
            let response = self.client.request(request).await.map_err(|e| format!("{e:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(DEADLINE, asked).await.expect("an answer before the deadline")
    }

    /// The head and the body of an answer that goes on.
    pub(crate) async fn open(&self, path: &str, extra: &[(&str, &str)]) -> (StatusCode, hyper::body::Incoming) {
        let mut request = Request::get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::default()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status, body)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], vec![]).await
    }

    pub(crate) async fn get_with(&self, path: &str, extra: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, path, extra, vec![]).await
    }

    pub(crate) async fn put(&self, path: &str, body: Vec<u8>) -> Reply {
        self.send(Method::PUT, path, &[], body).await
    }

    pub(crate) async fn post(&self, path: &str, form: &impl Serialize) -> Reply {
        self.send(Method::POST, path, &[], serde_json::to_vec(form).unwrap()).await
    }
}

impl Reply {
    pub(crate) fn ok<T: DeserializeOwned>(self) -> T {
        assert!(self.status.is_success(), "{} {:?}", self.status, self.body);
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn empty(self) {
        assert!(self.status.is_success() && self.body.is_empty(), "{} {:?}", self.status, self.body);
    }

    /// The code of the problem that this is.
    pub(crate) fn problem(self) -> (u16, String) {
        assert_eq!(self.headers[header::CONTENT_TYPE], PROBLEM_TYPE, "{} {:?}", self.status, self.body);
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert!(!problem.detail.is_empty() && !problem.title.is_empty());
        (problem.status, problem.code().to_owned())
    }
}

/// An MQTT client whose event loop runs until its first error.
pub(crate) struct Mqtt {
    pub(crate) client: AsyncClient,
    events: mpsc::Receiver<Result<Event, String>>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Mqtt {
    fn start(rig: &Rig, device: &Enrolled) -> Self {
        let gone = json!({"online": false, "boot": "b", "agent_version": "0.1.0", "since": "2026-06-01T00:00:00Z"});
        let will = LastWill::new(device.topic("status"), gone.to_string(), QoS::AtLeastOnce, true);
        Self::connect(rig, &device.name, (&device.response.certificate_pem, &device.key), Some(will))
    }

    /// Connects a client that leaves no last will.
    pub(crate) fn reader(rig: &Rig, client_id: &str, identity: (&str, &KeyPair)) -> Self {
        Self::connect(rig, client_id, identity, None)
    }

    pub(crate) fn connect(rig: &Rig, client_id: &str, identity: (&str, &KeyPair), will: Option<LastWill>) -> Self {
        let port = rig.addresses().mqtt.port();
        let mut options = MqttOptions::new(client_id, "localhost", port);
        options.set_transport(Transport::tls_with_config(rig.tls(Some(identity)).into()));
        options.set_max_packet_size(8 << 20, 8 << 20);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        let (client, mut looping) = AsyncClient::new(options, 64);
        let (sender, events) = mpsc::channel(256);
        let running = tokio::spawn(async move {
            loop {
                let event = looping.poll().await.map_err(|e| format!("{e:?}"));
                let ended = event.is_err();
                if sender.send(event).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { client, events, running }
    }

    /// The next thing that `look` finds; panics where the connection ends before.
    pub(crate) async fn find<T>(&mut self, look: impl FnMut(&Incoming) -> Option<T>) -> T {
        self.seek(look).await.unwrap_or_else(|error| panic!("the connection ended: {error}"))
    }

    /// The next thing that `look` finds, or how the connection ended before.
    pub(crate) async fn seek<T>(&mut self, mut look: impl FnMut(&Incoming) -> Option<T>) -> Result<T, String> {
        let seeking = async {
            loop {
                match self.events.recv().await.expect("the loop runs")? {
                    Event::Incoming(incoming) => {
                        if let Some(found) = look(&incoming) {
                            return Ok(found);
                        }
                    }
                    Event::Outgoing(_) => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, seeking).await.expect("found before the deadline")
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&mut self) {
        let ending = async { while let Some(Ok(_)) = self.events.recv().await {} };
        tokio::time::timeout(DEADLINE, ending).await.expect("ended before the deadline");
    }

    /// Publishes and waits for the acknowledgement.
    pub(crate) async fn acknowledged(&mut self, topic: String, retain: bool, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload.into()).await.unwrap();
        self.find(|incoming| matches!(incoming, Incoming::PubAck(_)).then_some(())).await;
    }

    /// Publishes and waits for the connection to end without an acknowledgement.
    pub(crate) async fn refused(mut self, topic: String, retain: bool, payload: impl Into<Vec<u8>>) {
        self.find(|incoming| matches!(incoming, Incoming::ConnAck(_)).then_some(())).await;
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload.into()).await.unwrap();
        let ending = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    Ok(Event::Incoming(Incoming::PubAck(_))) => panic!("acknowledged"),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        };
        tokio::time::timeout(DEADLINE, ending).await.expect("ended before the deadline");
    }

    pub(crate) async fn subscribed(&mut self, topic: String) {
        self.client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
        self.find(|incoming| matches!(incoming, Incoming::SubAck(_)).then_some(())).await;
    }

    /// The payload of the next message.
    pub(crate) async fn message(&mut self) -> Bytes {
        self.find(|incoming| match incoming {
            Incoming::Publish(publish) => Some(publish.payload.clone()),
            _ => None,
        })
        .await
    }
}
