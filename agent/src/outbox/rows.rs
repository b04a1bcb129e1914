//! Rows as bytes: each is kept as a report of one row in the wire's own plain form, so that a row which waited through an
//! update of the agent is read by the rules of the format version that it was written in.

use tern_protocol::{
    digest::Digest,
    report::{
        self, Codec, MAX_BYTES, ReportError,
        v1::{Event, EventKind, Item, Report, Row, Stream, Window},
    },
};

use crate::telemetry::change::loss;

/// What a row's own bytes may be, so that a report of this row alone fits: its stream and sequence take a few more.
const MOST: usize = MAX_BYTES - 64;
/// Longest text of an event.
const MOST_TEXT: usize = 500;

/// The bytes of an item, and their seal. A window that fits in no report, or that no reader would take, gives up its sums,
/// never its counts.
pub(super) fn encode(item: Item) -> Result<(Vec<u8>, [u8; 8]), ReportError> {
    let fits = |item: &Item| plain(item).ok().filter(|bytes| bytes.len() <= MOST && report::decode(bytes).is_ok());
    let item = short(item);
    let bytes = match fits(&item) {
        Some(bytes) => bytes,
        None => match item {
            Item::Window(window) => {
                tracing::error!(model = %window.model, "a window fits in no report: its sums are left out");
                let bare = Window { features: vec![], outputs: vec![], confidence: vec![], latency: vec![], ..*window };
                plain(&Item::Window(Box::new(bare)))?
            }
            other => plain(&other)?,
        },
    };
    let seal = seal(&bytes);
    Ok((bytes, seal))
}

/// The item in bytes whose seal holds, and that are what was written.
pub(super) fn decode(bytes: &[u8], sealed: &[u8]) -> Option<Item> {
    if seal(bytes) != sealed {
        return None;
    }
    let mut rows = report::decode(bytes).ok()?.rows;
    rows.pop().filter(|_| rows.is_empty()).map(|row| row.item)
}

/// What stands in for an offered row that is lost, so that the sequence has no hole.
pub(super) fn stand_in(sequence: u64, why: &str, at_ms: i64, generation: tern_protocol::ids::Generation) -> Item {
    Item::Event(loss(format!("row {sequence} of the outbox {why} and is lost"), at_ms, generation))
}

/// The first eight bytes of the SHA-256: enough against rot, and nobody else writes here.
pub(super) fn seal(bytes: &[u8]) -> [u8; 8] {
    let digest = Digest::of(bytes);
    std::array::from_fn(|i| digest.as_bytes()[i])
}

/// The payload of these rows of `stream`.
pub(super) fn payload(stream: Stream, rows: Vec<Row>) -> Result<Vec<u8>, ReportError> {
    let report = Report { stream, rows };
    match report::encode(&report, Codec::Zstd) {
        // Only what cannot be compressed and fits exactly gets longer.
        Err(ReportError::TooLarge(_)) => report::encode(&report, Codec::Plain),
        other => other,
    }
}

fn plain(item: &Item) -> Result<Vec<u8>, ReportError> {
    let rows = vec![Row { sequence: 1, item: item.clone() }];
    report::encode(&Report { stream: Stream([0; 16]), rows }, Codec::Plain)
}

fn short(item: Item) -> Item {
    let cut = |text: String| if text.len() > MOST_TEXT { text.chars().take(MOST_TEXT).collect() } else { text };
    let Item::Event(Event { at_ms, generation, kind }) = item else { return item };
    let kind = match kind {
        EventKind::WorkerRestarted { cause } => EventKind::WorkerRestarted { cause: cut(cause) },
        EventKind::Refused { model, version, code, message } => {
            EventKind::Refused { model, version, code, message: cut(message) }
        }
        other => other,
    };
    Item::Event(Event { at_ms, generation, kind })
}
