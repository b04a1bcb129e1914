//! A report taken apart row by row, so that one bad row costs no good one.
//!
//! postcard frames nothing: behind a row that cannot be read nothing can be. What stands before it counts, the row itself
//! has its number, and what stands behind it has to come again.

use super::{
    Codec, MAX_DECODED_BYTES, ReportError, body,
    v1::{Item, MAX_ROWS, Report, Row, Stream},
};

/// What could be read of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The outbox that the rows come from.
    pub stream: Stream,
    /// The rows, in growing sequence; where one cannot be read, it is the last.
    pub rows: Vec<OpenedRow>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedRow {
    /// Its number in the stream.
    pub sequence: u64,
    /// What it holds, or why it cannot be used: [`ReportError::Malformed`] or [`ReportError::Inconsistent`].
    pub item: Result<Item, ReportError>,
    /// Its item's bytes; of a row that cannot be read, all that follow its number.
    pub bytes: Vec<u8>,
}

/// The rows in `payload`.
///
/// # Errors
/// As [`super::decode`], where not even the first row's number can be read, or where the report as a whole lies: numbers
/// that do not grow, too many rows, bytes behind the last one. Nothing of such a report can be trusted.
pub fn open(payload: &[u8]) -> Result<Opened, ReportError> {
    let (codec, body) = body(payload)?;
    match codec {
        Codec::Plain => open_body(body),
        Codec::Zstd => {
            open_body(&zstd::bulk::decompress(body, MAX_DECODED_BYTES).map_err(|_| ReportError::Compression)?)
        }
    }
}

fn open_body(body: &[u8]) -> Result<Opened, ReportError> {
    let malformed = |_| ReportError::Malformed;
    let ((stream, count), mut rest): ((Stream, u64), _) = postcard::take_from_bytes(body).map_err(malformed)?;
    if count > MAX_ROWS as u64 {
        return Err(ReportError::Inconsistent("too many rows"));
    }
    let (mut rows, mut last) = (Vec::new(), 0);
    for index in 0..count {
        let (sequence, behind): (u64, _) = match postcard::take_from_bytes(rest) {
            Ok(read) => read,
            Err(_) if index > 0 => return Ok(Opened { stream, rows }),
            Err(_) => return Err(ReportError::Malformed),
        };
        if sequence <= last {
            let what = if sequence == 0 { "a sequence of 0" } else { "sequences that do not grow" };
            return Err(ReportError::Inconsistent(what));
        }
        last = sequence;
        match postcard::take_from_bytes::<Item>(behind) {
            Err(_) => {
                rows.push(OpenedRow { sequence, item: Err(ReportError::Malformed), bytes: behind.to_vec() });
                return Ok(Opened { stream, rows });
            }
            Ok((item, after)) => {
                let bytes = behind[..behind.len() - after.len()].to_vec();
                rows.push(OpenedRow { sequence, item: checked(stream, sequence, item), bytes });
                rest = after;
            }
        }
    }
    if rest.is_empty() { Ok(Opened { stream, rows }) } else { Err(ReportError::LeftoverBytes(rest.len())) }
}

fn checked(stream: Stream, sequence: u64, item: Item) -> Result<Item, ReportError> {
    let mut alone = Report { stream, rows: vec![Row { sequence, item }] };
    alone.check()?;
    alone.rows.pop().map(|row| row.item).ok_or(ReportError::Malformed)
}
