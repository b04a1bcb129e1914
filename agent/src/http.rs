//! HTTPS to the server: bounded bodies, a deadline on everything.
//!
//! Errors say what the server said. Who may be asked for what, and what the answers mean, is for `trust`, `fetch` and
//! `enroll`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tern_protocol::api::Problem;

/// Longest time to a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest time from a request to the head of its answer.
pub const HEAD: Duration = Duration::from_secs(30);
/// Longest error body that is looked into.
const MAX_PROBLEM_BYTES: u64 = 64 << 10;

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address is no address.
    #[error("{0:?} is no address: give it as https://host:port")]
    BadAddress(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The server refused.
    #[error("the server answered {status}: {detail}")]
    Status {
        /// The status.
        status: u16,
        /// The problem's code, where the server gave one.
        code: Option<String>,
        /// What it said.
        detail: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} B")]
    TooLong(u64),
}

/// The server, over one pool of connections.
#[derive(Debug, Clone)]
pub struct Remote {
    base: Arc<str>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Remote {
    /// The server at `base`, such as `https://fleet.example:8443`.
    ///
    /// # Errors
    /// [`HttpError::BadAddress`].
    pub fn new(base: &str, config: &ClientConfig) -> Result<Self, HttpError> {
        let bad = || HttpError::BadAddress(base.to_owned());
        let uri: Uri = base.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(bad());
        }
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config.clone()).https_only();
        Ok(Self::over(base, https.enable_http1().wrap_connector(connector())))
    }

    /// A server on loopback without TLS.
    #[cfg(test)]
    pub(crate) fn plain(address: std::net::SocketAddr) -> Self {
        let clock = crate::clock::DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
        let nobody = crate::tls::Authority::Pin(tern_protocol::digest::Digest::of(b""), Default::default());
        let config = crate::tls::client_config(nobody, None, clock).unwrap();
        let http = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config((*config).clone()).https_or_http();
        Self::over(&format!("http://{address}"), http.enable_http1().wrap_connector(connector()))
    }

    fn over(base: &str, connector: HttpsConnector<HttpConnector>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { base: base.trim_end_matches('/').into(), client }
    }

    /// The head of `GET path`, from byte `from` on where that is not 0. Any status is an answer here.
    ///
    /// # Errors
    /// [`HttpError::Unreachable`], [`HttpError::Timeout`].
    pub async fn get(&self, path: &str, from: u64) -> Result<Response<Incoming>, HttpError> {
        let mut request = Request::builder().method(Method::GET).uri(format!("{}{path}", self.base));
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        self.send(request.body(Full::default()), HEAD).await
    }

    /// The body of `GET path`, at most `limit` bytes; none where the server has no such thing.
    ///
    /// # Errors
    /// Each cause has its variant of [`HttpError`].
    pub async fn get_bounded(&self, path: &str, limit: u64, deadline: Duration) -> Result<Option<Vec<u8>>, HttpError> {
        let whole = async {
            let response = self.get(path, 0).await?;
            match response.status() {
                StatusCode::OK => collect(response, limit).await.map(Some),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(refusal(response).await),
            }
        };
        tokio::time::timeout(deadline, whole).await.unwrap_or(Err(HttpError::Timeout(deadline)))
    }

    /// The body that answers `POST path` with this JSON.
    ///
    /// # Errors
    /// Each cause has its variant of [`HttpError`]; any status but 200 and 201 is a refusal.
    pub async fn post_json(&self, path: &str, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, HttpError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body));
        let whole = async {
            let response = self.send(request, HEAD).await?;
            match response.status() {
                StatusCode::OK | StatusCode::CREATED => collect(response, limit).await,
                _ => Err(refusal(response).await),
            }
        };
        tokio::time::timeout(HEAD * 2, whole).await.unwrap_or(Err(HttpError::Timeout(HEAD * 2)))
    }

    async fn send(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
        deadline: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        let request = request.map_err(|e| HttpError::BadAddress(e.to_string()))?;
        match tokio::time::timeout(deadline, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|e| HttpError::Unreachable(chain(&e))),
            Err(_) => Err(HttpError::Timeout(deadline)),
        }
    }
}

/// What a refusing answer says.
pub async fn refusal(response: Response<Incoming>) -> HttpError {
    let status = response.status().as_u16();
    let body = tokio::time::timeout(HEAD, collect(response, MAX_PROBLEM_BYTES)).await;
    let problem: Option<Problem> = body.ok().and_then(Result::ok).and_then(|b| serde_json::from_slice(&b).ok());
    match problem {
        Some(problem) => HttpError::Status { status, code: Some(problem.code().to_owned()), detail: problem.detail },
        None => HttpError::Status { status, code: None, detail: "it gave no reason".into() },
    }
}

fn connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    http
}

async fn collect(response: Response<Incoming>, limit: u64) -> Result<Vec<u8>, HttpError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| HttpError::Unreachable(chain(&e)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > limit {
            return Err(HttpError::TooLong(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
