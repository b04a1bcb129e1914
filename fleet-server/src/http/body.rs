//! Bodies that fit into memory: bounded in size and time, then JSON.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::{Answer, Refusal, Refused};

/// Largest JSON body, in bytes.
pub(super) const MAX_JSON: usize = 256 << 10;
/// Time for a body to come in whole.
const WHOLE: Duration = Duration::from_secs(30);

/// The whole body of at most `limit` bytes.
pub(super) async fn whole(body: Body, limit: usize) -> Answer<Bytes> {
    let too_large = || Refused::new(Refusal::TooLarge, format!("at most {limit} bytes are taken here"));
    if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(too_large());
    }
    match timeout(WHOLE, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Refused::new(Refusal::SlowBody, format!("it must come within {} s", WHOLE.as_secs()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refused::new(Refusal::CutBody, "send it again")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// The body as a form.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Answer<T> {
    let bytes = whole(body, MAX_JSON).await?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::new(Refusal::MalformedJson, error.to_string()))
}
