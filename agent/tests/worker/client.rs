//! A client of HTTP/1.1 that says exactly what a test wants it to say.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use tern_agent::clock::Moment;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Client(BufReader<Box<dyn Stream>>);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Client {
    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next reply; none where the server closed the connection.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        reply.body = vec![0; length];
        self.0.read_exact(&mut reply.body).ok()?;
        Some(reply)
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: tern\r\n\r\n").as_bytes());
        self.reply().unwrap()
    }

    /// Reads the figures until this text is among them: they follow the answers.
    pub(crate) fn await_figure(&mut self, text: &str) {
        let deadline = Moment::now().after(PATIENCE);
        loop {
            let metrics = String::from_utf8(self.get("/metrics").body).unwrap();
            if metrics.contains(text) {
                return;
            }
            assert!(!deadline.remaining().is_zero(), "no {text} in {metrics}");
        }
    }

    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.start(path, headers, body);
        self.reply().unwrap()
    }

    /// Announces a body, sends none of it, and takes the reply.
    pub(crate) fn post_head(&mut self, path: &str, length: u64) -> Reply {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: tern\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        self.reply().unwrap()
    }

    /// Sends a whole request and does not wait.
    pub(crate) fn start(&mut self, path: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        self.send(
            format!("POST {path} HTTP/1.1\r\nHost: tern\r\nContent-Length: {length}\r\n{headers}\r\n").as_bytes(),
        );
        self.send(body);
    }

    pub(crate) fn infer(&mut self, model: &str, body: &Value) -> Reply {
        self.post(&format!("/v2/models/{model}/infer"), "", body.to_string().as_bytes())
    }
}

/// A request for `meter-digits` with one input of this type, shape and data.
pub(crate) fn request(datatype: &str, shape: &Value, data: &Value) -> Value {
    json!({"id": "r-1", "inputs": [{"name": "pixels", "datatype": datatype, "shape": shape, "data": data}]})
}

pub(crate) fn digits_request(pixels: &[f32]) -> Value {
    request("FP32", &json!([pixels.len() / 64, 8, 8]), &json!(pixels))
}

pub(crate) fn slow_request() -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]})
}
