//! Cameras: clients of a device's inference API that read real digits and know the right answers.
//!
//! A camera speaks the Open Inference Protocol over the device's Unix socket or its loopback port, one request after the
//! other on one connection, as a real one would.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};

use crate::clock::Moment;

/// Longest time that a camera waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A picture and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Digit {
    /// The right answer.
    pub label: i64,
    /// 64 grey values from 0 to 16, row by row.
    pub pixels: Vec<f32>,
}

/// The digits in a file as `train.py` writes it: a header, then the label and 64 grey values a line.
///
/// # Errors
/// Where the file cannot be read, or a line is not of that form: the message names it.
pub fn read_digits(file: &Path) -> anyhow::Result<Vec<Digit>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    text.lines()
        .enumerate()
        .skip(1)
        .map(|(index, line)| digit(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

fn digit(line: &str) -> anyhow::Result<Digit> {
    let mut cells = line.split(',');
    let label = cells.next().context("an empty line")?.parse().context("reading a label")?;
    let pixels: Vec<f32> = cells.map(str::parse).collect::<Result<_, _>>().context("reading a grey value")?;
    ensure!(pixels.len() == 64, "{} grey values where 64 are wanted", pixels.len());
    Ok(Digit { label, pixels })
}

/// Where a device answers.
#[derive(Debug, Clone)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback port.
    Tcp(SocketAddr),
}

/// What a device answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The digit that it saw.
    pub label: i64,
    /// The version that answered.
    pub version: String,
    /// How long it took, as the camera sees it.
    pub latency: Duration,
}

/// A camera before one device.
pub struct Camera {
    address: Address,
    connection: Option<SendRequest<Full<Bytes>>>,
}

#[derive(Deserialize)]
struct Reply {
    model_version: String,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    data: serde_json::Value,
}

impl Camera {
    /// A camera that asks the device at `address`.
    pub fn new(address: Address) -> Self {
        Self { address, connection: None }
    }

    /// What the device makes of `digit`.
    ///
    /// # Errors
    /// Where the device cannot be reached in ten seconds or answers anything but 200.
    pub async fn look(&mut self, digit: &Digit) -> anyhow::Result<Answer> {
        let started = Moment::now();
        let asked = tokio::time::timeout(PATIENCE, self.ask(digit)).await.context("waiting for an answer");
        let reply = match asked.and_then(|reply| reply) {
            Ok(reply) => reply,
            Err(error) => {
                self.connection = None;
                return Err(error);
            }
        };
        let label = reply.outputs.iter().find(|o| o.name == "label").context("no output named label")?;
        let label = label.data.get(0).and_then(serde_json::Value::as_i64).context("a label that is no number")?;
        Ok(Answer { label, version: reply.model_version, latency: started.elapsed() })
    }

    async fn ask(&mut self, digit: &Digit) -> anyhow::Result<Reply> {
        let body = serde_json::json!({
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "data": digit.pixels}]
        });
        let request = Request::post("/v2/models/meter-digits/infer")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))?;
        let connection = match &mut self.connection {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connection.insert(connect(&self.address).await?),
        };
        connection.ready().await.context("readying the connection")?;
        let response = connection.send_request(request).await.context("asking")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("reading the answer")?.to_bytes();
        if status != StatusCode::OK {
            bail!("answered {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).context("understanding the answer")
    }
}

async fn connect(address: &Address) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    match address {
        Address::Unix(path) => shake(TokioIo::new(UnixStream::connect(path).await.context("connecting")?)).await,
        Address::Tcp(address) => shake(TokioIo::new(TcpStream::connect(address).await.context("connecting")?)).await,
    }
}

async fn shake<S>(stream: S) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.context("starting HTTP")?;
    // The task ends with the connection; a request in flight then fails with its own error.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_label_and_64_grey_values() {
        let line = format!("7{}", ",16".repeat(64));
        assert_eq!(digit(&line).unwrap(), Digit { label: 7, pixels: vec![16.0; 64] });
        for line in ["", "7", "x,1", &format!("7{}", ",1".repeat(65)), &format!("7{}", ",x".repeat(64))] {
            assert!(digit(line).is_err(), "{line}");
        }
    }
}
