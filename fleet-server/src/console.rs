//! The console: one page that shows the fleet, for a browser on this machine.
//!
//! Read-only and without scripts. It sees what an [`Overview`](crate::overview::Overview) holds and nothing else, and it
//! answers only to this machine's own names, so that a page elsewhere cannot read it by pointing its name here.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use crate::{clock, overview::ConsoleSource};

mod page;

/// Seconds between two loads of a page that refreshes itself.
const REFRESH_SECONDS: u32 = 10;

const STYLE: &str = include_str!("console/style.css");

/// Headers of every answer: the page may load its style and nothing else, and be framed by nobody.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Source = Arc<dyn ConsoleSource>;

/// The console's routes. The listener must be on the loopback interface: there is no login.
pub fn router(source: Source) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/style.css", get(style))
        .with_state(source)
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is one page: /\n") })
        .layer(middleware::from_fn(guard))
}

#[derive(Deserialize)]
struct Wish {
    refresh: Option<String>,
}

async fn show(State(source): State<Source>, Query(wish): Query<Wish>) -> Response {
    let refresh = wish.refresh.is_some().then_some(REFRESH_SECONDS);
    match source.overview().await {
        Ok(overview) => Html(page::page(&overview, clock::now(), refresh).into_string()).into_response(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "console: the fleet cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "the fleet cannot be read now: see the server's log\n").into_response()
        }
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let mut response = if host.is_some_and(is_local) {
        next.run(request).await
    } else {
        let advice = "open the console under localhost or a loopback address, through a tunnel if need be\n";
        (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` header names this machine by `localhost` or a loopback address.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
