//! Reports: windows, corrections and events of one device, as they travel on the `report` topic.
//!
//! A payload is `[format version][codec]` and then postcard, plain or in one zstd frame. Each format version has its own
//! frozen types in a module of its own; readers take every version up to [`NEWEST`], writers write the newest that the
//! server announced. postcard has no evolution of its own, so leftover bytes are an error and golden bytes are kept.

mod rows;
mod sums;
pub mod v1;

pub use rows::{Body, OpenedRow};
pub use sums::NotSums;

use v1::Report;

/// The newest format version.
pub const NEWEST: u8 = 1;
/// Longest payload, in bytes; also the packet limit of the broker, less the topic.
pub const MAX_BYTES: usize = 1 << 20;
/// Longest report after decompression, in bytes: writers fill 128 KiB, or send one row alone that may be
/// [`MAX_ROW_BYTES`] long.
pub const MAX_DECODED_BYTES: usize = 4 << 20;
/// Longest row, in bytes: a row must fit into a report of its own that does not compress.
pub const MAX_ROW_BYTES: usize = MAX_BYTES;

/// How the body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Plain,
    /// One zstd frame.
    Zstd,
}

/// Why a payload is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Longer than [`MAX_BYTES`].
    #[error("report of {0} bytes is over the limit")]
    TooLarge(usize),
    /// Shorter than its header.
    #[error("report is cut short")]
    Truncated,
    /// A format version that this reader does not know.
    #[error("report format {0} is not known: update the server")]
    UnknownFormat(u8),
    /// A codec that this reader does not know.
    #[error("report codec {0} is not known: update the server")]
    UnknownCodec(u8),
    /// The zstd frame is broken, or grows beyond [`MAX_DECODED_BYTES`].
    #[error("report cannot be decompressed within its limit")]
    Compression,
    /// The body is not of its format.
    #[error("malformed report")]
    Malformed,
    /// Bytes follow the report.
    #[error("{0} bytes follow the report")]
    LeftoverBytes(usize),
    /// Values inside contradict each other.
    #[error("inconsistent report: {0}")]
    Inconsistent(&'static str),
}

/// The payload of `report`.
///
/// # Errors
/// Where it would be longer than [`MAX_BYTES`]: send fewer rows.
pub fn encode(report: &Report, codec: Codec) -> Result<Vec<u8>, ReportError> {
    let body = postcard::to_stdvec(report).map_err(|_| ReportError::Malformed)?;
    let mut payload = vec![NEWEST, codec as u8];
    match codec {
        Codec::Plain => payload.extend(body),
        Codec::Zstd => payload.extend(zstd::bulk::compress(&body, 3).map_err(|_| ReportError::Compression)?),
    }
    if payload.len() > MAX_BYTES { Err(ReportError::TooLarge(payload.len())) } else { Ok(payload) }
}

/// The report in `payload`.
///
/// # Errors
/// Each cause has its variant of [`ReportError`]; memory stays bounded by [`MAX_DECODED_BYTES`].
pub fn decode(payload: &[u8]) -> Result<Report, ReportError> {
    let report = match body(payload)? {
        (Codec::Plain, body) => decode_body(body)?,
        (Codec::Zstd, body) => {
            decode_body(&zstd::bulk::decompress(body, MAX_DECODED_BYTES).map_err(|_| ReportError::Compression)?)?
        }
    };
    report.check()?;
    Ok(report)
}

/// The body of a payload whose header this reader knows.
fn body(payload: &[u8]) -> Result<(Codec, &[u8]), ReportError> {
    if payload.len() > MAX_BYTES {
        return Err(ReportError::TooLarge(payload.len()));
    }
    let [format, codec, body @ ..] = payload else { return Err(ReportError::Truncated) };
    if *format != NEWEST {
        return Err(ReportError::UnknownFormat(*format));
    }
    match codec {
        0 => Ok((Codec::Plain, body)),
        1 => Ok((Codec::Zstd, body)),
        other => Err(ReportError::UnknownCodec(*other)),
    }
}

fn decode_body(body: &[u8]) -> Result<Report, ReportError> {
    let (report, rest) = postcard::take_from_bytes(body).map_err(|_| ReportError::Malformed)?;
    if rest.is_empty() { Ok(report) } else { Err(ReportError::LeftoverBytes(rest.len())) }
}

#[cfg(test)]
mod tests;
