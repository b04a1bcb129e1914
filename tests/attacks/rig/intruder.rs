//! Clients that speak to a real server exactly as badly as a test wants: HTTPS and MQTT by hand over real TLS.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use serde_json::Value;
use tern_protocol::{
    api::Problem,
    enrolment::{EnrolmentRequest, EnrolmentResponse},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A key, and a certificate for it once somebody gave one.
pub(crate) struct Identity {
    pub(crate) name: String,
    key: KeyPair,
    certificate: Option<CertificateDer<'static>>,
}

impl Identity {
    pub(crate) fn make(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { name: name.into(), key, certificate: None }
    }

    /// The same key under another name.
    pub(crate) fn called(&self, name: &str) -> Self {
        let key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        Self { name: name.into(), key, certificate: None }
    }

    /// A certificate request in this name.
    pub(crate) fn csr(&self) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, &self.name);
        params.serialize_request(&self.key).unwrap().pem().unwrap()
    }

    /// The body of an enrolment with this secret.
    pub(crate) fn enrolment(&self, secret: &str) -> Vec<u8> {
        let request = EnrolmentRequest {
            device: self.name.parse().unwrap(),
            secret: secret.into(),
            csr_pem: self.csr(),
            device_class: "camera".parse().unwrap(),
            labels: Default::default(),
            agent_version: "0.1.0".into(),
            root_sha256: None,
        };
        serde_json::to_vec(&request).unwrap()
    }

    /// The same with the certificate in a server's answer.
    pub(crate) fn certified(self, reply: &Reply) -> Self {
        let response: EnrolmentResponse = serde_json::from_slice(&reply.body).unwrap();
        self.with(&response.certificate_pem)
    }

    /// The same with this certificate.
    pub(crate) fn with(mut self, pem: &str) -> Self {
        self.certificate = Some(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        self
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, ca: &CertificateDer<'static>, identity: Option<&Identity>) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
            builder.with_client_auth_cert(vec![identity.certificate.clone().expect("a certificate")], key).unwrap()
        }
    };
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let name = "localhost".try_into().unwrap();
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp))
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        (self.status, problem.map(|problem| problem.code().to_owned()).unwrap_or_default())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request on a connection of its own: method, path, further headers.
pub(crate) fn request(
    address: SocketAddr,
    ca: &CertificateDer<'static>,
    identity: Option<&Identity>,
    (method, path, headers): (&str, &str, &[&str]),
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = connect(address, ca, identity)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    // A server that has seen enough answers and closes.
    let _ = stream.write_all(body).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => answer.extend_from_slice(&piece[..n]),
            Ok(_) => break,
            Err(error) if answer.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    let broken = || std::io::Error::other(format!("no answer: {:?}", String::from_utf8_lossy(&answer)));
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&answer[..at]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok(Reply { status, body: answer[at + 4..].to_vec() })
}

/// A session of MQTT 3.1.1.
pub(crate) struct Session(Tls);

/// How an attempt to open one ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// By this code of CONNACK.
    Refused(u8),
    /// By the end of the connection.
    Closed,
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

impl Session {
    /// Connects as `id`, with a last will on this topic where one is given.
    pub(crate) fn open(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        identity: Option<&Identity>,
        id: &str,
        will: Option<&str>,
    ) -> Result<Self, NoSession> {
        let mut session = Self(connect(address, ca, identity).map_err(|_| NoSession::Closed)?);
        // Clean session; a will is retained, at QoS 1.
        let flags = if will.is_some() { 0b10_1110 } else { 0b10 };
        let mut body = [&text("MQTT")[..], &[4, flags, 0, 60], &text(id)].concat();
        if let Some(topic) = will {
            body.extend([text(topic), text("offline")].concat());
        }
        session.write(0x10, &body).map_err(|_| NoSession::Closed)?;
        match session.read() {
            Some((0x20, answer)) if answer[1] == 0 => Ok(session),
            Some((0x20, answer)) => Err(NoSession::Refused(answer[1])),
            _ => Err(NoSession::Closed),
        }
    }

    /// Publishes at QoS 1; whether it was acknowledged before the connection ended.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> bool {
        let body = [&text(topic)[..], &[0, 7], payload].concat();
        if self.write(0x32 | u8::from(retain), &body).is_err() {
            return false;
        }
        loop {
            match self.read() {
                Some((0x40, _)) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Subscribes; whether it was granted.
    pub(crate) fn subscribe(&mut self, filter: &str) -> bool {
        if self.write(0x82, &[&[0, 9][..], &text(filter), &[1]].concat()).is_err() {
            return false;
        }
        loop {
            match self.read() {
                Some((0x90, codes)) => return codes[2] != 0x80,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Waits for the connection's end.
    pub(crate) fn ends(&mut self) -> bool {
        while self.read().is_some() {}
        true
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).ok()?;
        let (head, mut length, mut shift) = (byte[0], 0, 0);
        loop {
            self.0.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((head, body))
    }

    fn write(&mut self, head: u8, body: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&super::mqtt::packet(head, body))?;
        self.0.flush()
    }
}
