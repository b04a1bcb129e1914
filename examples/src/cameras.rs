//! Cameras: clients of a device's inference API that read real digits, know the right answers and can tell them.
//!
//! A camera speaks the Open Inference Protocol over the device's Unix socket or its loopback port, one request after the
//! other on one connection, as a real one would.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
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
    /// Whether a probability is no number.
    pub is_unsure: bool,
}

/// The truth about one row of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The request.
    pub id: String,
    /// Its row.
    pub row: u32,
    /// The right answer.
    pub label: i64,
}

/// What a device did with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// It counts, now or since it was first told.
    Taken,
    /// The device does not know the request, any more or ever.
    Unknown,
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

#[derive(Deserialize)]
struct Fates {
    feedback: Vec<Fate>,
}

#[derive(Deserialize)]
struct Fate {
    status: String,
}

impl From<&Fate> for Fed {
    fn from(fate: &Fate) -> Self {
        // The second is what a camera hears that tells again because the first answer was lost.
        if ["accepted", "already-labelled"].contains(&&*fate.status) { Self::Taken } else { Self::Unknown }
    }
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
        self.look_as(digit, None).await
    }

    /// The same under an id of the camera's own, by which the truth can be told later.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn look_as(&mut self, digit: &Digit, id: Option<&str>) -> anyhow::Result<Answer> {
        let started = Moment::now();
        let mut body = serde_json::json!({
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "data": digit.pixels}]
        });
        if let Some(id) = id {
            body["id"] = id.into();
        }
        let (status, body) = self.post("/v2/models/meter-digits/infer", body.to_string()).await?;
        ensure!(status == StatusCode::OK, "answered {status}: {}", String::from_utf8_lossy(&body));
        let reply: Reply = serde_json::from_slice(&body).context("understanding the answer")?;
        let output = |name: &str| reply.outputs.iter().find(|o| o.name == name).map(|output| &output.data);
        let label = output("label").context("no output named label")?;
        let label = label.get(0).and_then(serde_json::Value::as_i64).context("a label that is no number")?;
        let odds = output("probabilities").and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_unsure = odds.iter().any(|p| !p.is_number());
        Ok(Answer { label, version: reply.model_version, latency: started.elapsed(), is_unsure })
    }

    /// Tells the device what was true; what it did with each label.
    ///
    /// # Errors
    /// Where it cannot be reached in ten seconds, or answers so that nobody knows what it did.
    pub async fn feed_back(&mut self, labels: &[&Label]) -> anyhow::Result<Vec<Fed>> {
        let body = serde_json::json!({"feedback": labels}).to_string();
        let (status, body) = self.post("/v2/models/meter-digits/feedback", body).await?;
        // A device that knows none of them says so for all at once.
        if status == StatusCode::NOT_FOUND {
            return Ok(vec![Fed::Unknown; labels.len()]);
        }
        ensure!(status == StatusCode::OK, "answered {status}: {}", String::from_utf8_lossy(&body));
        let fates: Fates = serde_json::from_slice(&body).context("understanding the answer")?;
        ensure!(fates.feedback.len() == labels.len(), "{} fates of {} labels", fates.feedback.len(), labels.len());
        Ok(fates.feedback.iter().map(Fed::from).collect())
    }

    async fn post(&mut self, path: &str, body: String) -> anyhow::Result<(StatusCode, Bytes)> {
        let posted = tokio::time::timeout(PATIENCE, self.send(path, body)).await.context("waiting for an answer");
        let posted = posted.and_then(|answer| answer);
        if posted.is_err() {
            self.connection = None;
        }
        posted
    }

    async fn send(&mut self, path: &str, body: String) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let connection = match &mut self.connection {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connection.insert(connect(&self.address).await?),
        };
        connection.ready().await.context("readying the connection")?;
        let response = connection.send_request(request).await.context("asking")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("reading the answer")?.to_bytes();
        Ok((status, body))
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
