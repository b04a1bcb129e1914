//! Live pages: `GET /live?page=ADDRESS` says `changed` when what that page shows has changed, and nothing else.
//!
//! After a commit the page is rendered again at the time of the stream's start, so that only contents count and not the
//! passing of time; if the text differs, the reader is told and fetches the page. Bounded: [`MOST`] viewers, one rendering
//! at a time, and after each a pause that grows with its cost, so that a large fleet's page cannot take up the store.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Extension, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use tern_protocol::digest::Digest;
use tokio::{
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};

use super::{Desk, Source, pages, place::Place};
use crate::{
    clock::{self, Moment},
    http::sse::{self, Feed, Wire},
};

/// Most live pages at once.
pub(super) const MOST: usize = 16;
/// Shortest pause between two looks at a page.
const PAUSE: Duration = Duration::from_millis(250);
/// The pause in costs of a rendering: with every place taken, the store's readers are busy for others half of the time.
const COSTS: u32 = 32;

/// Who looks at live pages.
#[derive(Clone)]
pub(super) struct Viewers {
    places: Arc<Semaphore>,
    rendering: Arc<Mutex<()>>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), rendering: Arc::default() }
    }
}

#[derive(Deserialize)]
pub(super) struct Wish {
    page: String,
}

/// `GET /live?page=ADDRESS`.
pub(super) async fn follow(
    State(desk): State<Desk>,
    Extension(wire): Extension<Wire>,
    Query(wish): Query<Wish>,
) -> Response {
    let (path, query) = wish.page.split_once('?').unwrap_or((&wish.page, ""));
    let Some(place) = Place::parse(path, query) else { return super::nothing_there() };
    let Ok(seat) = desk.viewers.places.clone().try_acquire_owned() else {
        let words = format!("{MOST} pages are followed already: close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    };
    sse::answer(wire, seat, |feed| watch(desk, place, clock::now(), feed))
}

async fn watch(desk: Desk, place: Place, start: Timestamp, feed: Feed) {
    let mut changes = desk.source.changes();
    let mut known: Option<Digest> = None;
    loop {
        changes.mark_unchanged();
        let begun = Moment::now();
        let found = {
            let _turn = desk.viewers.rendering.lock().await;
            look(&desk.source, &place, start).await
        };
        let is_first = known.is_none();
        if known != Some(found) {
            known = Some(found);
            // The first look is what the page has just been fetched with; whoever connects fetches once more anyway.
            let told = if is_first { feed.keep_alive().await } else { feed.send(changed(found)).await };
            if !told {
                return;
            }
        }
        sleep(PAUSE.max(begun.elapsed() * COSTS)).await;
        match timeout(sse::KEEP_ALIVE, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if feed.keep_alive().await => {}
            Err(_) => return,
        }
    }
}

fn changed(found: Digest) -> axum::body::Bytes {
    sse::frame(Some("changed"), None, &found.to_string())
}

/// The digest of what the page shows; of nothing where it is gone or cannot be read, which is a change as well.
async fn look(source: &Source, place: &Place, at: Timestamp) -> Digest {
    match source.show(place).await {
        Ok(Some(shown)) => Digest::of(pages::content(&shown, place, at).into_string().as_bytes()),
        Ok(None) => Digest::of(b""),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "console: a live page cannot be read");
            Digest::of(b"")
        }
    }
}
