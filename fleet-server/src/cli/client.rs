//! The HTTPS client of `tern`: one server, one CA, every call bounded in time and size.

use std::{error::Error, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};
use tern_protocol::{
    api::{PROBLEM_TYPE, Problem, blob_path},
    digest::Digest,
};

use super::{config::Settings, upload::Outgoing};
use crate::trusted;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// An upload that is slower than this is given up.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 32 << 20;
/// Room for a refusal, in bytes.
const MAX_PROBLEM: usize = 64 << 10;
/// Rows of one page.
const PAGE_ROWS: &str = "500";
/// Most pages of one list.
const MAX_PAGES: usize = 1_000;

/// A line of a request's head.
type Header<'a> = (HeaderName, &'a str);

const JSON: Header<'static> = (CONTENT_TYPE, "application/json");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why a call did not give its answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The server refused and says why.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Problem),
    /// The server's certificate is not of the configured CA, or not of this name.
    #[error(
        "{server} shows a certificate that cannot be trusted ({reason}): check the address, and that the CA file \
         (`tern login --ca`, TERN_CA) is that of this server"
    )]
    Untrusted {
        /// The address.
        server: String,
        /// What TLS says.
        reason: String,
    },
    /// There is no connection.
    #[error("{server} cannot be reached ({reason}): check the address and that the server runs")]
    Unreachable {
        /// The address.
        server: String,
        /// What the network says.
        reason: String,
    },
    /// No answer in time.
    #[error("{server} gave no answer within {seconds} s: try again")]
    TimedOut {
        /// The address.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer that no Tern server gives.
    #[error("{server} answered {status} in a form that is not Tern's: check the address")]
    Foreign {
        /// The address.
        server: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// An answer of more than [`MAX_ANSWER`] bytes, or one that broke off.
    #[error("the answer of {server} broke off or is over the limit: try again")]
    Cut {
        /// The address.
        server: String,
    },
}

impl CallError {
    /// Whether the server refused with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(problem) if problem.code() == code)
    }
}

/// One server, spoken to with one token.
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Outgoing>,
    server: String,
    token: HeaderValue,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let server = base(&settings.server)?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", settings.token))
            .ok()
            .context("the token holds characters that no token has: run `tern login` again")?;
        token.set_sensitive(true);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(trusted::by_pem(settings.ca_pem.as_bytes())?)
            .https_only()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https);
        Ok(Self { pool, server, token })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(Method::GET, path, &[], Outgoing::empty(), ANSWER).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, form: &impl Serialize) -> anyhow::Result<T> {
        self.post_once(path, form, None).await
    }

    /// The same under a key, by which the server knows the same request when it comes again.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &impl Serialize,
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        let body = Outgoing::bytes(serde_json::to_vec(form)?);
        let headers: Vec<Header<'_>> = std::iter::once(JSON).chain(key.map(|key| (IDEMPOTENCY_KEY, key))).collect();
        self.send(Method::POST, path, &headers, body, ANSWER).await
    }

    /// Puts JSON bytes as they are; the answer's body is of no interest where `T` is [`serde::de::IgnoredAny`].
    pub(super) async fn put<T: DeserializeOwned>(&self, path: &str, json: Vec<u8>) -> anyhow::Result<T> {
        self.send(Method::PUT, path, &[JSON], Outgoing::bytes(json), ANSWER).await
    }

    /// Removes what the address names.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.answer(Method::DELETE, path, &[], Outgoing::empty(), ANSWER).await?;
        Ok(())
    }

    /// Puts a body of `length` bytes that is streamed.
    pub(super) async fn upload(&self, path: &str, body: Outgoing, length: u64) -> anyhow::Result<()> {
        let deadline = ANSWER + Duration::from_secs(length / SLOWEST_BYTES_PER_SECOND);
        self.answer(Method::PUT, path, &[(CONTENT_TYPE, "application/octet-stream")], body, deadline).await?;
        Ok(())
    }

    /// Every row of a list, page by page.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        self.pages(path, query, "cursor", |page: Vec<T>| rows.extend(page)).await?;
        Ok(rows)
    }

    /// Hands each page of a list to `take`. The next page is asked for with the query member `cursor_name`.
    pub(super) async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        cursor_name: &str,
        mut take: impl FnMut(Vec<T>),
    ) -> anyhow::Result<()> {
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query: Vec<_> =
                query.iter().copied().filter(|(n, _)| *n != cursor_name || cursor.is_none()).collect();
            query.extend(cursor.as_deref().map(|c| (cursor_name, c)));
            query.push(("limit", PAGE_ROWS));
            let page: crate::forms::Page<T> = self.get(&with_query(path, &query)).await?;
            take(page.items);
            if page.next.is_none() || page.next == cursor {
                return Ok(());
            }
            cursor = page.next;
        }
        anyhow::bail!("the list has more than {MAX_PAGES} pages: ask for a part of it")
    }

    /// The blob of this digest and length, checked.
    pub(super) async fn blob(&self, digest: &Digest, length: u64) -> anyhow::Result<Vec<u8>> {
        let path = format!("/api/v1{}", blob_path(digest));
        let request = Request::get(format!("{}{path}", self.server))
            .header(AUTHORIZATION, self.token.clone())
            .header(ACCEPT, "application/octet-stream, application/problem+json");
        let request = request.body(Outgoing::empty()).context("request")?;
        let deadline = ANSWER + Duration::from_secs(length / SLOWEST_BYTES_PER_SECOND);
        let limit = usize::try_from(length)?.max(MAX_PROBLEM);
        match tokio::time::timeout(deadline, self.exchange(request, limit)).await {
            Ok(answer) => {
                let bytes = answer?.1;
                anyhow::ensure!(
                    Digest::of(&bytes) == *digest,
                    "the server sent other bytes than those of blob {digest}"
                );
                Ok(bytes.to_vec())
            }
            Err(_) => Err(CallError::TimedOut { server: self.server.clone(), seconds: deadline.as_secs() }.into()),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[Header<'_>],
        body: Outgoing,
        deadline: Duration,
    ) -> anyhow::Result<T> {
        let (status, bytes) = self.answer(method, path, headers, body, deadline).await?;
        // An answer without a body stands for null.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
        serde_json::from_slice(&bytes).map_err(|_| CallError::Foreign { server: self.server.clone(), status }.into())
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        headers: &[Header<'_>],
        body: Outgoing,
        deadline: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(AUTHORIZATION, self.token.clone())
            .header(ACCEPT, "application/json, application/problem+json");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(body).context("request")?;
        match tokio::time::timeout(deadline, self.exchange(request, MAX_ANSWER)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(CallError::TimedOut { server: self.server.clone(), seconds: deadline.as_secs() }.into()),
        }
    }

    async fn exchange(&self, request: Request<Outgoing>, limit: usize) -> Result<(StatusCode, Bytes), CallError> {
        let server = || self.server.clone();
        let response = self.pool.request(request).await.map_err(|e| unanswered(server(), &e))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|_| CallError::Cut { server: server() })?;
        let bytes = body.to_bytes();
        if head.status.is_success() {
            return Ok((head.status, bytes));
        }
        let is_problem =
            head.headers.get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(PROBLEM_TYPE.as_bytes()));
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if is_problem => Err(CallError::Refused(problem)),
            _ => Err(CallError::Foreign { server: server(), status: head.status }),
        }
    }
}

/// The address without a trailing slash, if it is one that can be used.
fn base(address: &str) -> anyhow::Result<String> {
    let address = address.trim().trim_end_matches('/');
    let parsed = address.parse::<Uri>().ok().filter(|uri| {
        let authority = uri.authority().map_or("", |a| a.as_str());
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && !authority.contains('@')
            && uri.path_and_query().is_none_or(|rest| rest.as_str() == "/")
    });
    parsed
        .map(|_| address.to_owned())
        .with_context(|| format!("{address:?} is no server address: write it as https://host:port, without a path"))
}

/// Looks through the layers of an error for TLS's own word.
fn unanswered(server: String, error: &(dyn Error + 'static)) -> CallError {
    let mut innermost = error;
    while let Some(next) = within(innermost) {
        innermost = next;
    }
    let reason = innermost.to_string();
    match innermost.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            CallError::Untrusted { server, reason }
        }
        _ => CallError::Unreachable { server, reason },
    }
}

/// The next layer. An `io::Error` names as its source that of what it holds, so the thing itself is asked for first.
fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

/// `path` with its query, percent-encoded.
pub(super) fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let members: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if members.is_empty() { path.into() } else { format!("{path}?{}", members.join("&")) }
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_addresses_are_used() {
        assert_eq!(base(" https://fleet.example:8443/\n").unwrap(), "https://fleet.example:8443");
        assert_eq!(base("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for address in
            ["", "fleet:8443", "http://fleet", "https://", "https://u:p@fleet", "https://fleet/api", "https://f?x"]
        {
            assert!(base(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_query_survives_what_selectors_are_made_of() {
        let path = with_query("/api/v1/devices", &[("selector", "site=hall 2,class!=old&x=ä"), ("cursor", "a")]);
        assert_eq!(path, "/api/v1/devices?selector=site%3Dhall%202%2Cclass%21%3Dold%26x%3D%C3%A4&cursor=a");
    }
}
