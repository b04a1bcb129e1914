//! A fleet server in this process, with every listener on a free port, and devices of it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tern_fleet_server::{
    ca::Holder,
    config::Config,
    forms::EnrolmentTicket,
    http::{self, Peer},
    server::{InitOrder, Server, init},
};
use tern_protocol::enrolment::{EnrolmentResponse, EnrolmentToken};
use tokio::runtime::Runtime;
use tower_service::Service;

/// A server, and an operator who may everything.
pub(super) struct House {
    pub(super) runtime: Runtime,
    pub(super) server: Server,
    pub(super) token: String,
    router: Router,
    devices: usize,
    _folder: tempfile::TempDir,
}

/// A device.
pub(super) struct Enrolled {
    pub(super) name: String,
    pub(super) holder: Holder,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Enrolled {
    /// A request for a new certificate, as PEM.
    pub(super) fn signing_request(&self) -> String {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.key.clone())).expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, &self.name);
        params.serialize_request(&key).and_then(|csr| csr.pem()).expect("a request")
    }
}

impl House {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = tempfile::tempdir().expect("a scratch folder");
        let order = InitOrder {
            data_dir: folder.path().join("data"),
            fleet: "f".parse().expect("a name"),
            solo: Some(vec!["demo".parse().expect("a name")]),
            names: vec!["localhost".into()],
        };
        let free = "127.0.0.1:0".parse().expect("an address");
        let config = Config {
            data_dir: order.data_dir.clone(),
            https_listen: free,
            mqtt_listen: free,
            requests_at_once: u32::MAX,
            console_listen: Some(free),
            ..Config::default()
        };
        let server = runtime.block_on(async {
            init(&order).await.expect("a server can be made");
            Server::start(config).await.expect("it starts")
        });
        let token = std::fs::read_to_string(order.data_dir.join("operator/token")).expect("a token").trim().to_owned();
        let router = http::router(server.fleet().clone());
        Self { runtime, router, server, token, devices: 0, _folder: folder }
    }

    /// Answers a request of this operator and of this device's connection; none for the body of an answer that never ends.
    pub(super) fn answer(
        &self,
        mut request: Request<Body>,
        device: Option<&Enrolled>,
    ) -> (StatusCode, Option<Vec<u8>>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer { address, holder: device.map(|device| device.holder.clone()) });
        self.answer_by(&self.router, request)
    }

    /// The answer of a router; none for the body of one that never ends.
    pub(super) fn answer_by(&self, router: &Router, request: Request<Body>) -> (StatusCode, Option<Vec<u8>>) {
        let mut router = router.clone();
        self.runtime.block_on(async {
            let (head, body) = router.call(request).await.expect("a router answers").into_parts();
            let is_endless = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            if is_endless {
                return (head.status, None);
            }
            let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
            (head.status, Some(body.to_vec()))
        })
    }

    pub(super) fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body.into());
        let (status, body) = self.answer(request.expect("a request"), None);
        (status, body.unwrap_or_default())
    }

    /// A device that was never there before.
    pub(super) fn enrol(&mut self) -> Enrolled {
        self.devices += 1;
        let name = format!("cam-{}", self.devices);
        let order = json!({"device": name, "valid_seconds": 600});
        let (_, ticket) = self.ask(Method::POST, "/api/v1/enrolments", order.to_string().into());
        let ticket: EnrolmentTicket = serde_json::from_slice(&ticket).expect("a ticket");
        let token = EnrolmentToken::decode(&ticket.token).expect("a token");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let csr = CertificateParams::default().serialize_request(&key).and_then(|csr| csr.pem()).expect("a request");
        let request = json!({"device": name, "secret": token.secret, "csr_pem": csr, "device_class": "pi", "agent_version": "0.1.0"});
        let (_, answer) = self.ask(Method::POST, "/api/v1/enrol", request.to_string().into());
        let answer: EnrolmentResponse = serde_json::from_slice(&answer).expect("a certificate");
        let der = CertificateDer::from_pem_slice(answer.certificate_pem.as_bytes()).expect("a certificate");
        let holder = Holder::of(&der).expect("a device's");
        Enrolled { name, holder, certificate: der, key: key.serialize_der() }
    }

    /// What operators see of what was published, without what only the clock moves; refused requests change none of it.
    pub(super) fn published(&self) -> Vec<Value> {
        ["/api/v1/models", "/api/v1/teams/demo/metadata", "/api/v1/readers"]
            .iter()
            .map(|path| {
                let (_, body) = self.ask(Method::GET, path, Vec::new());
                let mut page: Value = serde_json::from_slice(&body).expect("a page");
                match page.get_mut("signed") {
                    Some(signed) => signed.take(),
                    None => page,
                }
            })
            .collect()
    }
}

/// A connection, encrypted or not.
pub(super) enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl House {
    /// A connection to one of its listeners; with TLS as this device.
    pub(super) fn connect(&self, address: SocketAddr, device: Option<&Enrolled>) -> Line {
        let stream = TcpStream::connect(address).expect("the server listens");
        let Some(device) = device else { return Line::Plain(stream) };
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.server.fleet().authority.pem().as_bytes()).expect("a certificate");
        roots.add(ca).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(device.key.clone()));
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![device.certificate.clone()], key)
            .expect("a certificate and its key");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a configuration");
        Line::Tls(Box::new(StreamOwned::new(connection, stream)))
    }
}

impl Line {
    /// The socket.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Says that nothing more will be sent; the other side may still.
    pub(super) fn finish(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            // Fails where the other side was faster.
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
