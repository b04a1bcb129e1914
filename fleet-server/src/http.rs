//! The HTTPS interface: device routes by client certificate, operator routes by bearer token, and nothing else.
//!
//! Every body has a limit, every wait a deadline, every refusal a code. Handlers turn bytes into types and call one
//! module; decisions are made there.

mod body;
mod caller;
mod device_routes;
mod fleet_routes;
mod identity_routes;
mod incident_routes;
mod leftover;
pub mod listener;
pub mod problem;
pub(crate) mod proposal_routes;
mod publish_routes;
mod publishing;
mod query;
mod range;
pub mod rates;
mod reader_routes;
mod refusals;
mod rollout_routes;
mod serve_blob;
pub mod sse;
mod stream_routes;
mod telemetry_routes;
mod token_routes;
mod trust_routes;
pub mod wires;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use tokio::time::timeout;

use crate::fleet::Fleet;
use problem::{Refusal, Refused};

pub use caller::Peer;

/// Time for an answer that streams nothing.
const ANSWER: Duration = Duration::from_secs(60);

/// Every route of the HTTPS listener.
pub fn router(fleet: Arc<Fleet>) -> Router {
    let quick = Router::new()
        .route("/api/v1/enrol", post(device_routes::enrol))
        .route("/api/v1/claim", post(device_routes::claim))
        .route("/api/v1/renew", post(identity_routes::renew))
        .route("/tuf/metadata/{name}", get(device_routes::metadata))
        .route("/tuf/targets/{*path}", get(device_routes::target))
        .route("/api/v1/whoami", get(fleet_routes::whoami))
        .route("/api/v1/models", get(publish_routes::versions))
        .route("/api/v1/models/{team}/{model}", get(publish_routes::versions_of))
        .route("/api/v1/models/{team}/{model}/{version}", get(publish_routes::version))
        .route("/api/v1/manifests/{team}/{model}/{version}", put(publish_routes::put_manifest))
        .route("/api/v1/teams/{team}/metadata", get(publish_routes::team).put(publish_routes::put_team))
        .route("/api/v1/enrolments", post(fleet_routes::order_enrolment))
        .route("/api/v1/claims", post(identity_routes::order_claim))
        .route("/api/v1/devices", get(fleet_routes::devices))
        .route("/api/v1/devices/{id}", get(fleet_routes::device))
        .route("/api/v1/devices/{id}/revoke", post(identity_routes::revoke))
        .route("/api/v1/devices/{id}/reidentify", post(identity_routes::reidentify))
        .route("/api/v1/devices/{id}/windows", get(telemetry_routes::windows))
        .route("/api/v1/figures", get(telemetry_routes::figures))
        .route("/api/v1/quarantine", get(telemetry_routes::quarantine))
        .route("/api/v1/assignments", post(fleet_routes::assign))
        .merge(proposal_routes::router())
        .merge(rollout_routes::router())
        .route("/api/v1/events", get(fleet_routes::events))
        .route("/api/v1/trust", get(fleet_routes::trust))
        .route("/api/v1/trust/metadata", get(trust_routes::metadata).put(trust_routes::publish))
        .route("/api/v1/readers", get(reader_routes::list).post(reader_routes::add))
        .route("/api/v1/readers/{name}", delete(reader_routes::remove))
        .route("/api/v1/tokens", get(token_routes::list).post(token_routes::create))
        .route("/api/v1/tokens/{name}", delete(token_routes::revoke))
        .route("/api/v1/accesses", get(token_routes::accesses))
        .route("/api/v1/stream", get(stream_routes::events))
        .route("/api/v1/incidents", get(incident_routes::incidents))
        .route("/api/v1/incidents/{number}", get(incident_routes::incident))
        .route("/api/v1/incidents/{number}/acknowledge", post(incident_routes::acknowledge))
        .route("/api/v1/incidents/{number}/mute", post(incident_routes::mute))
        .route("/healthz", get(fleet_routes::healthz))
        .route("/readyz", get(fleet_routes::readyz))
        .route("/metrics", get(fleet_routes::metrics))
        .layer(middleware::from_fn(in_time));
    let streams = Router::new()
        .route("/blobs/sha256/{digest}", get(device_routes::blob))
        .route("/api/v1/blobs/sha256/{digest}", get(publish_routes::read_blob).put(publish_routes::put_blob));
    quick
        .merge(streams)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(readable))
        .layer(middleware::from_fn(leftover::take_in))
        .layer(middleware::from_fn_with_state(fleet.clone(), count))
        .layer(middleware::from_fn_with_state(fleet.clone(), refusals::note))
        .with_state(fleet)
}

/// What the plain loopback listener serves beside the console: health and figures, no secrets, no changes.
pub fn local_router(fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route("/healthz", get(fleet_routes::healthz))
        .route("/readyz", get(fleet_routes::readyz))
        .route("/metrics", get(fleet_routes::local_metrics))
        .with_state(fleet)
}

async fn in_time(request: Request, next: Next) -> Response {
    let answer = timeout(ANSWER, next.run(request)).await;
    answer.unwrap_or_else(|_| Refused::new(Refusal::TimedOut, "the server is overloaded; try again").into_response())
}

/// An address that is no text once it is unescaped is nobody's; the handlers' own door would say so without a code.
async fn readable(request: Request, next: Next) -> Response {
    if is_text(request.uri().path()) { next.run(request).await } else { not_found().await.into_response() }
}

fn is_text(path: &str) -> bool {
    let (mut plain, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [byte, behind @ ..] = rest {
        let escaped = behind.first_chunk::<2>().filter(|_| *byte == b'%');
        let decoded = escaped.and_then(|digits| hex::decode(digits).ok());
        rest = &behind[decoded.as_ref().map_or(0, |_| 2)..];
        plain.push(decoded.map_or(*byte, |decoded| decoded[0]));
    }
    std::str::from_utf8(&plain).is_ok()
}

async fn count(State(fleet): State<Arc<Fleet>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    fleet.metrics.responded(response.status().as_u16(), response.extensions().get::<Refusal>().copied());
    response
}

async fn not_found() -> Refused {
    Refused::new(Refusal::NotFound, "the address is none of this server's")
}

async fn method_not_allowed() -> Refused {
    Refused::new(Refusal::MethodNotAllowed, "see the Allow header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_text_once_unescaped() {
        for path in ["/", "/a%20b", "/%C3%A4", "/%", "/%4", "/%zz", "/100%"] {
            assert!(is_text(path), "{path}");
        }
        for path in ["/%8a", "/a/%FF/b", "/%C3", "/%C3/%A4"] {
            assert!(!is_text(path), "{path}");
        }
    }
}
