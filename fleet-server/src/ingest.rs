//! From the bytes of a report to figures, telemetry and events, each row exactly once.
//!
//! The way: the sender is verified (its certificate names the topic) → its [`meter`] is asked → opened row by row on a
//! blocking thread → each row judged against its version → one transaction dedupes by [`Ledger`], adds the new rows to the
//! figures and to telemetry, and moves the watermark → PUBACK → the watermark goes to the device. Where the commit fails,
//! or the device has sent too much, there is no PUBACK.
//! Transactions of many devices share one commit by themselves: while one is synced the next ones queue up (see
//! [`crate::store`]): 64 devices with one report in flight each gave groups of 40 and 6,400 rows/s on two busy cores, 1,000
//! gave groups of 240. A timer of 10 to 50 ms on top would only add its delay to a lone device, whose commit takes 4.
//!
//! What cannot be used:
//! - A *row* that cannot be true (its code is a [`Poison`] `row-…`) is committed as far as the watermark goes and kept in
//!   quarantine in place of the figures: refused, it would hold back all rows behind it for ever.
//! - A row that cannot be *read* ends its report, as rows carry no lengths. Those before it count, the row itself is
//!   committed and quarantined by its number, and those behind it come again: they are not covered, so the device offers
//!   them anew, now without that row.
//! - A report of which not even the first row's number can be read is kept, counted and *acknowledged*: it would come
//!   again at once otherwise, and block the connection. It covers nothing. So a device whose acknowledged rows stay
//!   uncovered sends them again later, fewer at a time. It cannot tell a row that no server will ever read from a server
//!   that is away: it keeps that row, goes on until 1,024 rows behind it are uncovered, and then waits.
//! - A report of an unknown format or codec is kept and *refused*: it is from a newer agent, and the device keeps its rows
//!   until this server was updated.
//!
//! A device may lie about itself and no other: everything is kept under the name in its certificate, and only versions
//! that were ever demanded of it count. A hostile report unfolds twenty-fold, so no more than one row of it is parsed at a
//! time, and what waits for the writer is its bytes and an [`Entry`] each.

mod entry;
mod judge;
pub mod ledger;
mod meter;
mod poison;
#[cfg(test)]
pub(crate) mod samples;
mod tally;
mod tell;
mod watermarks;

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

use anyhow::Context;
use bytes::Bytes;
use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, ModelVersion},
    report::{
        self, Body, OpenedRow, ReportError,
        v1::{Item, Stream},
    },
    watermark::Watermark,
};
use tokio::sync::Semaphore;

use crate::{
    clock,
    fleet::Fleet,
    profiles::Known,
    store::{Batch, BatchRefusal, Content, NewRow, Quarantined},
};

pub use entry::Entry;
pub use meter::Cost;
use meter::{Allowance, Meter};
pub use poison::Poison;
pub use tally::{MOST, Tally};
pub use watermarks::Watermarks;

/// Reports that are opened at once: each takes up to 40 MiB meanwhile. The next one waits, unacknowledged.
const OPENINGS: usize = 4;
/// Events of a report that become events of the fleet at most, which are never removed; the rest goes into quarantine.
const MAX_EVENTS: usize = 256;

/// The state of ingest beside the database.
#[derive(Debug)]
pub struct Ingest {
    openings: Semaphore,
    meter: Mutex<Meter>,
    /// Watermarks on their way.
    pub watermarks: Watermarks,
}

impl Default for Ingest {
    fn default() -> Self {
        Self { openings: Semaphore::new(OPENINGS), meter: Mutex::default(), watermarks: Watermarks::default() }
    }
}

impl Ingest {
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a report is not acknowledged.
#[derive(Debug)]
pub enum Refused {
    /// Of a format or codec that this server does not know; it is kept.
    Unknown(ReportError),
    /// The device has sent more than it may for now.
    TooMuch {
        /// Whether this was not said yet.
        is_news: bool,
    },
    /// It cannot be part of its stream.
    Batch(BatchRefusal),
    /// The server failed; the device tries again.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What a report leaves to be told: each code of what went into quarantine, with words.
pub type Remarks = Vec<(Poison, String)>;

/// Takes a report of `device`; it may be acknowledged where this succeeds.
///
/// # Errors
/// [`Refused`].
pub async fn take(fleet: &Arc<Fleet>, device: &DeviceId, payload: Bytes) -> Result<Remarks, Refused> {
    let now = clock::now();
    let events = match fleet.ingest.meter().ask(device, now) {
        Allowance::Taken { events } => events.min(MAX_EVENTS),
        Allowance::Withheld { is_news } => return Err(Refused::TooMuch { is_news }),
    };
    let opened = match open(fleet, payload.clone()).await? {
        Ok(opened) => opened,
        Err(error @ (ReportError::UnknownFormat(_) | ReportError::UnknownCodec(_))) => {
            quarantine(fleet, device, Poison::of(&error), error.to_string(), &payload, now).await?;
            return Err(Refused::Unknown(error));
        }
        Err(error) => {
            let (poison, words) = (Poison::of(&error), error.to_string());
            quarantine(fleet, device, poison, words.clone(), &payload, now).await?;
            return Ok(vec![(poison, words)]);
        }
    };
    let stream = opened.stream;
    let versions = known(fleet, opened.models).await?;
    let sorter = Sorter { device: device.clone(), versions, now, room: events, events };
    let rows = sorted(fleet, opened.body, sorter).await?;
    let committed = fleet.store.commit_report(Batch { device: device.clone(), stream, rows }, now).await;
    let committed = committed.context("commit a report")?.map_err(Refused::Batch)?;
    fleet.ingest.meter().charge(device, committed.cost, now);
    fleet.metrics.report_rows.fetch_add(committed.new, Relaxed);
    fleet.metrics.report_rows_again.fetch_add(committed.known, Relaxed);
    fleet.metrics.streams_begun.fetch_add(committed.began.into(), Relaxed);
    committed.quarantined.iter().for_each(|(poison, _)| fleet.metrics.quarantined(*poison));
    let watermark = Watermark { stream, sequence: committed.watermark, reads: report::NEWEST };
    fleet.ingest.watermarks.moved(device, watermark);
    fleet.bells.telemetry.notify_one();
    Ok(committed.quarantined)
}

/// A report that can be read, and the versions that it names.
struct Opened {
    body: Body,
    stream: Stream,
    models: HashSet<ModelVersion>,
}

/// Decompressing and reading up to 4 MiB is no work for the broker's two threads.
async fn open(fleet: &Arc<Fleet>, payload: Bytes) -> anyhow::Result<Result<Opened, ReportError>> {
    let _permit = fleet.ingest.openings.acquire().await.context("ingest has ended")?;
    let open = move || {
        let (body, mut models) = (Body::of(&payload)?, HashSet::new());
        let stream = body.rows(|row| models.extend(row.item.ok().as_ref().and_then(judge::version)))?;
        Ok(Opened { body, stream, models })
    };
    // A decoder that panics on these bytes will do so again: they are malformed. Work that was cut off is not.
    fleet.blocking(|_| catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(ReportError::Malformed))).await
}

async fn quarantine(
    fleet: &Fleet,
    device: &DeviceId,
    poison: Poison,
    words: String,
    payload: &Bytes,
    now: Timestamp,
) -> anyhow::Result<()> {
    let kept = Quarantined { poison, words, place: None, bytes: payload.to_vec() };
    fleet.store.quarantine(device.clone(), kept, now).await.context("keep a report in quarantine")?;
    fleet.ingest.meter().charge(device, Cost { bytes: payload.len(), events: 0 }, now);
    fleet.metrics.quarantined(poison);
    Ok(())
}

type Versions = HashMap<ModelVersion, Option<Arc<Known>>>;

/// What is known of these versions.
async fn known(fleet: &Arc<Fleet>, models: HashSet<ModelVersion>) -> anyhow::Result<Versions> {
    let mut versions = Versions::new();
    for model in models {
        let known = fleet.profiles.of(fleet, &model).await.context("look up a version")?;
        versions.insert(model, known);
    }
    Ok(versions)
}

/// Reading up to 4,096 windows' sketches is no work for the broker's two threads either. The rows are read a second time:
/// kept parsed since the first, they would be the largest thing in the server.
async fn sorted(fleet: &Arc<Fleet>, body: Body, mut sorter: Sorter) -> anyhow::Result<Vec<NewRow>> {
    let _permit = fleet.ingest.openings.acquire().await.context("ingest has ended")?;
    let sort = move |_: &Fleet| {
        let mut rows = Vec::new();
        body.rows(|row| rows.push(sorter.sort(row)))?;
        Ok::<_, ReportError>(rows)
    };
    fleet.blocking(sort).await.context("judge a report")?.context("read a report again")
}

/// Says of each row where it belongs.
struct Sorter {
    device: DeviceId,
    versions: Versions,
    now: Timestamp,
    /// Events that may still be told.
    room: usize,
    /// How many there were at first.
    events: usize,
}

impl Sorter {
    fn sort(&mut self, row: OpenedRow<'_>) -> NewRow {
        let OpenedRow { sequence, item, bytes } = row;
        let judged = item.map_err(|error| (Poison::of_row(&error), error.to_string())).and_then(|item| {
            let model = judge::version(&item);
            let known = model.as_ref().and_then(|model| self.versions.get(model)?.as_deref());
            // Sketches are decoded by a library: a row that it panics on must not come again for ever.
            let judge = || judge::judge(&item, known, self.now);
            let judged = catch_unwind(AssertUnwindSafe(judge));
            judged.unwrap_or_else(|_| Err((Poison::RowSketch, "its sketches cannot be read".into()))).map(|()| item)
        });
        let counted = |entry| Content::Counted { entry: Box::new(entry), bytes: bytes.to_vec() };
        let content = match judged {
            Err((poison, words)) => Content::Poisoned { poison, words, bytes: bytes.to_vec() },
            Ok(Item::Event(event)) => match (tell::event(&self.device, &event), self.room.checked_sub(1)) {
                (None, _) => Content::Silent,
                (Some(event), Some(room)) => {
                    self.room = room;
                    Content::Told(Box::new(event))
                }
                (Some(_), None) => {
                    let words = format!("more than the {} events that the device may tell of now", self.events);
                    Content::Poisoned { poison: Poison::RowEvents, words, bytes: bytes.to_vec() }
                }
            },
            Ok(Item::Window(window)) => counted(Entry::from(&*window)),
            Ok(Item::Correction(correction)) => counted(Entry::from(&correction)),
        };
        NewRow { sequence, content }
    }
}
