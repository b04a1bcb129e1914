//! HTTPS to servers: bounded bodies, a deadline and a least pace on everything.
//!
//! Redirects are never followed: whoever was asked answers, or does not. Nothing is ever decompressed: bodies are asked for
//! as they are, and an encoded one is refused, so a few bytes never become many. Errors say what the server said. Who may be asked for what, and what the answers mean, is for `trust`, `fetch` and
//! `enroll`.

use std::{fmt::Write as _, sync::Arc, time::Duration};

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

use crate::clock::Moment;

/// Longest time to a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest time from a request to the head of its answer.
pub const HEAD: Duration = Duration::from_secs(30);
/// Longest error body that is looked into.
const MAX_PROBLEM_BYTES: u64 = 64 << 10;

/// The pace that a server must keep while it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest time without a byte.
    pub idle: Duration,
    /// Over each such stretch of time …
    pub window: Duration,
    /// … at least so many bytes must come.
    pub window_bytes: u64,
}

impl Pace {
    /// What metadata keeps to: 1 KiB in a quarter of the patience.
    pub fn of_metadata(patience: Duration) -> Self {
        Self { idle: patience / 4, window: patience / 4, window_bytes: 1 << 10 }
    }

    /// What blobs keep to: 60 KiB in all of it.
    pub fn of_blobs(patience: Duration) -> Self {
        Self { idle: patience / 2, window: patience, window_bytes: 60 << 10 }
    }
}

impl Default for Pace {
    /// What metadata keeps to on the slowest radio that is worth the name.
    fn default() -> Self {
        Self::of_metadata(Duration::from_secs(60))
    }
}

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
    /// It came, but slower than any use.
    #[error("too slow: fewer than {} B in {} s", .0.window_bytes, .0.window.as_secs_f32())]
    TooSlow(Pace),
    /// The body is compressed, or otherwise not as it is.
    #[error("the answer is encoded as {0:?}, which was not asked for")]
    Encoded(String),
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
        if !is_address(base) {
            return Err(HttpError::BadAddress(base.to_owned()));
        }
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config.clone()).https_only();
        Ok(Self::over(base, https.enable_http1().wrap_connector(connector())))
    }

    /// A server without TLS. Never for the daemon, whose every server has a certificate.
    ///
    /// # Errors
    /// [`HttpError::BadAddress`], also for an address with TLS.
    pub(crate) fn without_tls(base: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::BadAddress(base.to_owned());
        let uri: Uri = base.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(bad());
        }
        let clock = crate::clock::DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
        let nobody = crate::tls::Authority::Pin(tern_protocol::digest::Digest::of(b""), Default::default());
        let config = crate::tls::client_config(nobody, None, clock).map_err(|_| bad())?;
        let http = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config((*config).clone()).https_or_http();
        Ok(Self::over(base, http.enable_http1().wrap_connector(connector())))
    }

    /// A server on loopback without TLS.
    #[cfg(test)]
    pub(crate) fn plain(address: std::net::SocketAddr) -> Self {
        Self::without_tls(&format!("http://{address}")).unwrap()
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.base
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
        request = request.header(header::ACCEPT_ENCODING, "identity");
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
        self.get_at(path, limit, deadline, Pace::default()).await
    }

    /// The same at a pace of the caller's.
    ///
    /// # Errors
    /// Each cause has its variant of [`HttpError`].
    pub async fn get_at(
        &self,
        path: &str,
        limit: u64,
        deadline: Duration,
        pace: Pace,
    ) -> Result<Option<Vec<u8>>, HttpError> {
        let whole = async {
            let response = self.get(path, 0).await?;
            match response.status() {
                StatusCode::OK => collect(response, limit, pace).await.map(Some),
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
                StatusCode::OK | StatusCode::CREATED => collect(response, limit, Pace::default()).await,
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

/// Whether this is an address of a server: HTTPS, a host, and at most a port and a path.
pub fn is_address(base: &str) -> bool {
    let Ok(uri) = base.parse::<Uri>() else { return false };
    let is_plain =
        |authority: &hyper::http::uri::Authority| !authority.host().is_empty() && !authority.as_str().contains('@');
    uri.scheme_str() == Some("https") && uri.authority().is_some_and(is_plain) && uri.query().is_none()
}

/// What a refusing answer says.
pub async fn refusal(response: Response<Incoming>) -> HttpError {
    let status = response.status().as_u16();
    if response.status().is_redirection() {
        let detail = "it sends elsewhere, and redirects are never followed: name the right address".into();
        return HttpError::Status { status, code: None, detail };
    }
    let body = tokio::time::timeout(HEAD, collect(response, MAX_PROBLEM_BYTES, Pace::default())).await;
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

async fn collect(response: Response<Incoming>, limit: u64, pace: Pace) -> Result<Vec<u8>, HttpError> {
    let response = plain(response)?;
    if promised(&response).is_some_and(|length| length > limit) {
        return Err(HttpError::TooLong(limit));
    }
    let mut flow = Flow::new(response, pace);
    let mut bytes = Vec::new();
    while let Some(data) = flow.next().await? {
        if bytes.len() as u64 + data.len() as u64 > limit {
            return Err(HttpError::TooLong(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The answer, if its body is as it is.
///
/// # Errors
/// [`HttpError::Encoded`].
pub fn plain(response: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
    let encodings = response.headers().get_all(header::CONTENT_ENCODING);
    match encodings.iter().find(|encoding| *encoding != "identity") {
        None => Ok(response),
        Some(encoding) => {
            Err(HttpError::Encoded(String::from_utf8_lossy(encoding.as_bytes()).chars().take(40).collect()))
        }
    }
}

/// The length that the head of an answer promises.
pub fn promised(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body, chunk by chunk, at no less than its pace.
pub struct Flow {
    body: Incoming,
    pace: Pace,
    window: Moment,
    in_window: u64,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Flow {
    /// The body of this answer.
    pub fn new(response: Response<Incoming>, pace: Pace) -> Self {
        Self { body: response.into_body(), pace, window: Moment::now(), in_window: 0 }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`HttpError::TooSlow`]; [`HttpError::Unreachable`] where the body broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = match tokio::time::timeout(self.pace.idle, self.body.frame()).await {
                Err(_) => return Err(HttpError::TooSlow(self.pace)),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|e| HttpError::Unreachable(chain(&e)))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            self.in_window += data.len() as u64;
            if self.window.elapsed() >= self.pace.window {
                if self.in_window < self.pace.window_bytes {
                    return Err(HttpError::TooSlow(self.pace));
                }
                (self.window, self.in_window) = (Moment::now(), 0);
            }
            return Ok(Some(data));
        }
    }
}

/// A name with every byte percent-encoded that is not plain in addresses and file names, nor in `also`.
pub fn encoded(name: &str, also: &[u8]) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
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

#[cfg(test)]
mod tests;
