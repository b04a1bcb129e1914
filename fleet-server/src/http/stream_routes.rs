//! The event log as it grows, for programs: `GET /api/v1/stream`.
//!
//! The log itself is the queue: a reader has a cursor in it and nothing is kept for it, so a slow one costs no memory and
//! misses nothing; one that comes back says with `Last-Event-ID` where it stopped.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Extension, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use tokio::time::{sleep, timeout};

use super::{
    caller::operator_on,
    fleet_routes::sees,
    problem::{Answer, Refusal, Refused},
    query::ListQuery,
    sse::{self, Feed, Wire},
};
use crate::{
    clock::Moment,
    fleet::{Fleet, MAX_STREAMS},
    identity::{Operator, Permission, policy::Resource},
};

/// Events that are read in one go.
const BATCH: u32 = 100;
/// Pause after a look at the log: many commits in a row cost a reader one query.
const PAUSE: Duration = Duration::from_millis(100);

/// `GET /api/v1/stream` (`?after=`): each event as one message, with its number as the id. Without `after` and without
/// `Last-Event-ID` it begins with what happens next.
pub(super) async fn events(
    State(fleet): State<Arc<Fleet>>,
    Extension(wire): Extension<Wire>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::DEVICES).await?;
    let after = match last_seen(&headers)?.or(ListQuery::of(query)?.after) {
        Some(after) => after,
        None => fleet.store.newest_events(1).await?.first().map_or(0, |event| event.id),
    };
    let Ok(place) = fleet.streams.clone().try_acquire_owned() else {
        let words =
            format!("{MAX_STREAMS} readers follow the events: end one, or ask /api/v1/events from time to time");
        return Err(Refused::new(Refusal::TooManyStreams, words));
    };
    Ok(sse::answer(wire, place, |feed| follow(fleet, reader, headers, after, feed)))
}

fn last_seen(headers: &HeaderMap) -> Answer<Option<i64>> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    id.map(Some).ok_or_else(|| Refused::new(Refusal::BadQuery, "Last-Event-ID is the number of an event"))
}

async fn follow(fleet: Arc<Fleet>, reader: Operator, headers: HeaderMap, mut after: i64, feed: Feed) {
    let (mut changes, mut checked) = (fleet.store.changes(), Moment::now());
    let (mut revocations, mut asks) = (fleet.revocations.subscribe(), false);
    // The head leaves with the first bytes, and a reader wants to know that it is connected.
    if !feed.keep_alive().await {
        return;
    }
    loop {
        changes.mark_unchanged();
        let Ok(rows) = fleet.store.events_after(after, BATCH).await else { return };
        let is_full = rows.len() >= BATCH as usize;
        for row in rows {
            after = row.id;
            if !sees(&reader, &row) {
                continue;
            }
            let Ok(json) = serde_json::to_string(&row) else { return };
            if !feed.send(sse::frame(None, Some(&after.to_string()), &json)).await {
                return;
            }
        }
        // A token that was revoked in between ends the stream at once, one that has expired soon, also where it still reads
        // what is long past.
        if asks || checked.elapsed() >= sse::KEEP_ALIVE {
            if operator_on(&fleet, &headers, Permission::Read, &Resource::DEVICES).await.is_err() {
                return;
            }
            checked = Moment::now();
        }
        asks = false;
        if is_full {
            continue;
        }
        sleep(PAUSE).await;
        let woken = async {
            tokio::select! {
                changed = changes.changed() => changed,
                revoked = revocations.changed() => {
                    asks = true;
                    revoked
                }
            }
        };
        match timeout(sse::KEEP_ALIVE, woken).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if feed.keep_alive().await => {}
            Err(_) => return,
        }
    }
}
