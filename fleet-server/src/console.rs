//! The console: the fleet on pages, for a browser on this machine.
//!
//! Read-only. It sees what a [`ConsoleSource`](view::ConsoleSource) shows and nothing else, and it answers only to this
//! machine's own names, so that a page elsewhere cannot read it by pointing its name here. Pages are whole without scripts;
//! with ours they follow the fleet (`live`).

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use crate::clock;
use live::Viewers;
use place::Place;
use view::{ConsoleSource, Showing};

pub mod chart;
mod live;
mod pages;
mod parts;
pub mod place;
mod sight;
pub mod view;

pub use sight::Window;

/// Seconds between two loads of a page that refreshes itself.
const REFRESH_SECONDS: u32 = 10;

const STYLE: &str = include_str!("console/style.css");
const SCRIPT: &str = include_str!("console/console.js");
const ICON: &str = include_str!("console/icon.svg");

/// Headers of every answer: the page may load its own files and nothing else, and be framed by nobody.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Source = Arc<dyn ConsoleSource>;

/// What the routes share.
#[derive(Clone)]
struct Desk {
    source: Source,
    viewers: Viewers,
}

/// The console's routes. The listener must be on the loopback interface: there is no login.
pub fn router(source: Source) -> Router {
    let mut router = Router::new().route("/live", get(live::follow));
    for (path, kind, text) in [
        ("/style.css", "text/css; charset=utf-8", STYLE),
        ("/console.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/icon.svg", "image/svg+xml", ICON),
    ] {
        router = router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }));
    }
    let pages = ["/", "/devices/{id}", "/models", "/models/{team}/{model}", "/rollouts", "/rollouts/{id}"];
    for path in pages.into_iter().chain(["/incidents", "/incidents/{number}", "/events"]) {
        router = router.route(path, get(show));
    }
    router
        .with_state(Desk { source, viewers: Viewers::default() })
        .fallback(|| async { nothing_there() })
        .layer(middleware::from_fn(guard))
}

#[derive(Deserialize)]
struct Wish {
    refresh: Option<String>,
}

async fn show(State(desk): State<Desk>, address: Uri, Query(wish): Query<Wish>) -> Response {
    let Some(place) = Place::parse(address.path(), address.query().unwrap_or_default()) else { return nothing_there() };
    let refresh = wish.refresh.is_some().then_some(REFRESH_SECONDS);
    match desk.source.show(&place).await {
        Ok(Some(shown)) => Html(pages::page(&shown, &place, clock::now(), refresh).into_string()).into_response(),
        Ok(None) => nothing_there(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "console: the fleet cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "the fleet cannot be read now: see the server's log\n").into_response()
        }
    }
}

fn nothing_there() -> Response {
    let page = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Not found \u{b7} Tern</title>\
                <link rel=\"stylesheet\" href=\"/style.css\"></head><body><main><h1>Not found</h1>\
                <p>There is no such page, or what it was about is gone. <a href=\"/\">The fleet</a></p></main></body></html>";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
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
