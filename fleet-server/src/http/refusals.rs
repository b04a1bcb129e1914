//! Notes what is refused in the access log: every operator's request, and reads by devices that are not theirs.
//!
//! Who asked is found out again here, after the refusal, so that no handler can forget to say it.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};

use super::{Peer, caller::bearer, problem::Refusal};
use crate::{
    accesses::{Access, Action, Who},
    clock,
    fleet::Fleet,
    identity::{Operator, secret_hash},
    store::Presented,
};

/// What is known of a request once it is gone.
struct Asked {
    method: Method,
    route: String,
    path: String,
    token: Option<String>,
    peer: Peer,
}

/// The layer: answers after a refusal is noted.
pub(super) async fn note(State(fleet): State<Arc<Fleet>>, request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    let response = next.run(request).await;
    if let Some((asked, refusal)) = asked.zip(response.extensions().get::<Refusal>().copied())
        && concerns(&asked.route, refusal)
    {
        let access = asked.access(&fleet, refusal).await;
        if let Err(error) = fleet.accesses.note(access).await {
            tracing::error!(%error, "a refused request was not recorded");
        }
    }
    response
}

/// Whether a refusal on this route is one of the log's. What devices look for and may not find in the TUF repository is no
/// refusal, and what the server failed to do is none either.
fn concerns(route: &str, refusal: Refusal) -> bool {
    let is_operators = route.starts_with("/api/v1/") && route != "/api/v1/enrol" || route == "/metrics";
    let is_foreign = matches!(refusal.status(), 401 | 403) || refusal == Refusal::BlobNotDemanded;
    is_foreign || is_operators && (400..500).contains(&refusal.status())
}

/// What a request on this route reads.
fn action(method: &Method, route: &str) -> Action {
    match (method.as_str(), route) {
        ("GET", "/blobs/sha256/{digest}" | "/api/v1/blobs/sha256/{digest}") => Action::ReadBlob,
        ("GET", "/tuf/targets/{*path}" | "/api/v1/models/{team}/{model}/{version}") => Action::ReadManifest,
        _ => Action::Request,
    }
}

impl Asked {
    /// None where the address is no route's, or the listener named no peer.
    fn of(request: &Request) -> Option<Self> {
        Some(Self {
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>()?.as_str().to_owned(),
            path: request.uri().path().to_owned(),
            token: bearer(request.headers()).map(str::to_owned),
            peer: request.extensions().get::<Peer>()?.clone(),
        })
    }

    async fn access(self, fleet: &Arc<Fleet>, refusal: Refusal) -> Access {
        let who = self.who(fleet).await;
        let reason = format!("{} {}", self.method, self.route);
        Access::refused(who, action(&self.method, &self.route), self.path, reason, refusal.code())
    }

    async fn who(&self, fleet: &Arc<Fleet>) -> Who {
        if let Some(token) = &self.token {
            // A store that does not answer leaves the address, which is better than nothing.
            match fleet.store.presented(secret_hash(token), clock::now()).await {
                Ok(Presented::Counts(Operator { name, .. }) | Presented::Expired(name) | Presented::Revoked(name)) => {
                    return Who::Operator(name);
                }
                Ok(Presented::Unknown) | Err(_) => {}
            }
        }
        let holder = self.peer.holder.clone();
        holder.map_or_else(|| Who::Stranger(self.peer.address.ip()), |holder| Who::Device(holder.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_that_concern_the_log_are_in_it() {
        assert!(concerns("/api/v1/models", Refusal::MissingToken));
        assert!(concerns("/api/v1/assignments", Refusal::BadSelector));
        assert!(concerns("/metrics", Refusal::WrongRole));
        assert!(concerns("/blobs/sha256/{digest}", Refusal::BlobNotDemanded));
        assert!(concerns("/tuf/metadata/{name}", Refusal::NoCertificate));
        assert!(concerns("/api/v1/enrol", Refusal::UsedEnrolment));
        assert!(!concerns("/api/v1/enrol", Refusal::MalformedJson));
        assert!(!concerns("/tuf/metadata/{name}", Refusal::NotFound));
        assert!(!concerns("/blobs/sha256/{digest}", Refusal::RangeNotSatisfiable));
        assert!(!concerns("/api/v1/models", Refusal::Internal));
    }

    #[test]
    fn reads_of_models_are_called_so() {
        let of = |method: Method, route| action(&method, route);
        assert_eq!(of(Method::GET, "/blobs/sha256/{digest}"), Action::ReadBlob);
        assert_eq!(of(Method::GET, "/api/v1/blobs/sha256/{digest}"), Action::ReadBlob);
        assert_eq!(of(Method::PUT, "/api/v1/blobs/sha256/{digest}"), Action::Request);
        assert_eq!(of(Method::GET, "/tuf/targets/{*path}"), Action::ReadManifest);
        assert_eq!(of(Method::GET, "/api/v1/models/{team}/{model}/{version}"), Action::ReadManifest);
    }
}
