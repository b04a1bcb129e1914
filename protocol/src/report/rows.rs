//! A report taken apart row by row, so that one bad row costs no good one, and no report unfolds as a whole.
//!
//! postcard frames nothing: behind a row that cannot be read nothing can be. What stands before it counts, the row itself
//! has its number, and what stands behind it has to come again.

use super::{
    Codec, MAX_DECODED_BYTES, MAX_ROW_BYTES, ReportError, body,
    v1::{Item, MAX_ROWS, Report, Row, Stream},
};

/// A report that was decompressed and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Vec<u8>);

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedRow<'a> {
    /// Its number in the stream.
    pub sequence: u64,
    /// What it holds, or why it cannot be used: [`ReportError::Malformed`] or [`ReportError::Inconsistent`].
    pub item: Result<Item, ReportError>,
    /// Its item's bytes; of a row that cannot be read, all that follow its number.
    pub bytes: &'a [u8],
}

impl Body {
    /// The body of `payload`.
    ///
    /// # Errors
    /// Where its header is not known, or it does not decompress within [`MAX_DECODED_BYTES`].
    pub fn of(payload: &[u8]) -> Result<Self, ReportError> {
        let (codec, body) = body(payload)?;
        match codec {
            Codec::Plain => Ok(Self(body.to_vec())),
            Codec::Zstd => {
                let body = zstd::bulk::decompress(body, MAX_DECODED_BYTES).map_err(|_| ReportError::Compression)?;
                Ok(Self(body))
            }
        }
    }

    /// Hands out the rows one by one, in growing sequence, and gives their stream; where a row cannot be read, it is the
    /// last. A row's bytes unfold to twenty times as much, so whoever takes one keeps little of it.
    ///
    /// # Errors
    /// As [`super::decode`], where not even the first row's number can be read, or where the report as a whole lies:
    /// numbers that do not grow, too many rows, bytes behind the last one. Nothing of such a report can be trusted, the
    /// rows that were handed out included.
    pub fn rows(&self, mut take: impl FnMut(OpenedRow<'_>)) -> Result<Stream, ReportError> {
        let malformed = |_| ReportError::Malformed;
        let ((stream, count), mut rest): ((Stream, u64), _) = postcard::take_from_bytes(&self.0).map_err(malformed)?;
        if count > MAX_ROWS as u64 {
            return Err(ReportError::Inconsistent("too many rows"));
        }
        let mut last = 0;
        for index in 0..count {
            let (sequence, behind): (u64, _) = match postcard::take_from_bytes(rest) {
                Ok(read) => read,
                Err(_) if index > 0 => return Ok(stream),
                Err(_) => return Err(ReportError::Malformed),
            };
            if sequence <= last {
                let what = if sequence == 0 { "a sequence of 0" } else { "sequences that do not grow" };
                return Err(ReportError::Inconsistent(what));
            }
            last = sequence;
            // A longer row looks cut short.
            let within = &behind[..behind.len().min(MAX_ROW_BYTES)];
            let Ok((item, after)) = postcard::take_from_bytes::<Item>(within) else {
                take(OpenedRow { sequence, item: Err(ReportError::Malformed), bytes: behind });
                return Ok(stream);
            };
            let (bytes, behind) = behind.split_at(within.len() - after.len());
            take(OpenedRow { sequence, item: checked(stream, sequence, item), bytes });
            rest = behind;
        }
        if rest.is_empty() { Ok(stream) } else { Err(ReportError::LeftoverBytes(rest.len())) }
    }
}

fn checked(stream: Stream, sequence: u64, item: Item) -> Result<Item, ReportError> {
    let mut alone = Report { stream, rows: vec![Row { sequence, item }] };
    alone.check()?;
    alone.rows.pop().map(|row| row.item).ok_or(ReportError::Malformed)
}
