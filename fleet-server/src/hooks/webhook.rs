//! A hook that is an address: the incident as JSON, signed, over HTTPS, or over plain HTTP on this machine.
//!
//! `X-Tern-Signature: sha256=<hex>` is HMAC-SHA256 of the body under the secret; `X-Tern-Delivery` is the same at every try
//! of one delivery, so a receiver can leave out what it has seen. Any status of 200 to 299 counts as taken.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri, header::CONTENT_TYPE};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use ring::hmac;
use tokio::time::timeout;

use super::config::Config;
use crate::{disk, store::Delivery, trusted, wording::plain};

/// Header with the signature of the body.
pub const SIGNATURE: &str = "x-tern-signature";
/// Header with the delivery's number.
pub const DELIVERY: &str = "x-tern-delivery";
/// Header with the occasion: `opened` or `resolved`.
pub const OCCASION: &str = "x-tern-occasion";

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest secret, in bytes.
const MAX_SECRET: u64 = 4096;
/// Fewest bytes of one: a shorter key can be guessed.
const MIN_SECRET: usize = 16;
/// Longest file of certificates, in bytes.
const MAX_CA: u64 = 4 << 20;
/// Longest answer that is read, in bytes; more is not waited for.
const MAX_ANSWER: usize = 64 << 10;

/// An address and how to reach it.
pub struct Webhook {
    uri: Uri,
    key: hmac::Key,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Webhook {
    /// The webhook of a configuration, if it has one.
    ///
    /// # Errors
    /// Where its secret or its certificates cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Option<Self>> {
        let (Some(url), Some(secret)) = (&config.webhook_url, &config.webhook_secret_file) else { return Ok(None) };
        let uri: Uri = url.parse().context("read webhook_url")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &read_secret(secret)?);
        let tls = if uri.scheme_str() == Some("https") {
            let pem = disk::read(&config.webhook_ca_file, MAX_CA).context("read webhook_ca_file")?;
            let pem = pem.with_context(|| format!("{} is missing", config.webhook_ca_file.display()))?;
            trusted::by_pem(&pem).with_context(|| format!("read {}", config.webhook_ca_file.display()))?
        } else {
            trusted::by_nobody()?
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(ANSWER));
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        // Incidents are rare: a kept connection would be stale at the next one.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https);
        Ok(Some(Self { uri, key, client }))
    }

    /// Sends one delivery.
    ///
    /// # Errors
    /// In words for people.
    pub async fn send(&self, delivery: &Delivery) -> Result<String, String> {
        let body = serde_json::to_vec(&delivery.incident).map_err(|error| error.to_string())?;
        let signature = hex::encode(hmac::sign(&self.key, &body).as_ref());
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, format!("sha256={signature}"))
            .header(DELIVERY, delivery.id.to_string())
            .header(OCCASION, &delivery.occasion)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            // Read so that the other side can end in order; what it says is of no interest.
            let _ = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            if status.is_success() { Ok(format!("answered {status}")) } else { Err(format!("answered {status}")) }
        };
        let ended = timeout(ANSWER, exchange).await;
        ended.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER.as_secs())))
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let secret = disk::read(path, MAX_SECRET).context("read webhook_secret_file")?;
    let secret = secret.with_context(|| format!("{} is missing", path.display()))?;
    let secret = secret.trim_ascii();
    ensure!(secret.len() >= MIN_SECRET, "{} holds fewer than {MIN_SECRET} bytes", path.display());
    Ok(secret.to_vec())
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words.push_str(&format!(": {error}"));
        next = error.source();
    }
    plain(&words, 300)
}
