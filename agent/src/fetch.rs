//! Brings a blob onto the disk: over HTTPS, resumed across restarts, checked before it counts.
//!
//! Nothing of a blob is held in memory but a chunk. Length and digest are those that were signed; whoever serves the bytes
//! is trusted for nothing. A source that lies, stalls, crawls or never ends costs one attempt. Attempts follow each other
//! after growing, jittered pauses, and go on where the part on disk ends.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Response, StatusCode, body::Incoming, header};
use tern_protocol::{api, digest::Digest, refusal::RefusalCode};

use crate::{
    clock::{self, Moment},
    disk::{self, BlobError, Blobs, Part},
    http::{self, HttpError, Remote},
    install::Refusal,
};

/// What a source must keep to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Longest time without a byte.
    pub idle: Duration,
    /// Over each such stretch of time …
    pub window: Duration,
    /// … at least so many bytes must come.
    pub window_bytes: u64,
    /// Attempts before it is given up for now.
    pub attempts: u32,
    /// The pause after the first failed attempt; it doubles.
    pub pause: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            window: Duration::from_secs(60),
            window_bytes: 60 << 10,
            attempts: 4,
            pause: Duration::from_millis(500),
        }
    }
}

/// Why a blob was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, or refuses.
    #[error("fetch of {digest}: {cause}")]
    Http {
        /// Which blob.
        digest: Digest,
        /// What happened.
        cause: HttpError,
    },
    /// The answer ended before its blob did.
    #[error("fetch of {digest} was cut at {received} of {length} B")]
    Cut {
        /// Which blob.
        digest: Digest,
        /// Bytes on disk.
        received: u64,
        /// Bytes signed.
        length: u64,
    },
    /// The source stalls or crawls.
    #[error("fetch of {0} is too slow")]
    Slow(Digest),
    /// The answer is not the range that was asked for.
    #[error("fetch of {digest}: the answer is {found}, not the range that was asked for")]
    WrongRange {
        /// Which blob.
        digest: Digest,
        /// The answer's range.
        found: String,
    },
    /// The bytes are not the signed ones, or the disk refuses.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl FetchError {
    /// Whether another attempt right now may end otherwise.
    fn is_passing(&self) -> bool {
        match self {
            Self::Cut { .. } | Self::Slow(_) | Self::WrongRange { .. } => true,
            Self::Http { cause: HttpError::Status { status, .. }, .. } => *status >= 500 || *status == 429,
            Self::Http { cause: HttpError::Unreachable(_) | HttpError::Timeout(_), .. } => true,
            Self::Http { .. } | Self::Blob(_) => false,
        }
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        let code = match &error {
            FetchError::Blob(BlobError::Length { .. }) => RefusalCode::BlobLength,
            FetchError::Blob(BlobError::Digest { .. }) => RefusalCode::BlobDigest,
            FetchError::Blob(BlobError::Disk { cause, .. }) if disk::is_full(cause) => RefusalCode::NoSpace,
            _ => RefusalCode::Fetch,
        };
        Self::new(code, &error)
    }
}

/// Makes sure that the blob is on the disk.
///
/// # Errors
/// The last attempt's failure, or the first that no further attempt can mend.
pub async fn blob(
    remote: &Remote,
    blobs: &Blobs,
    digest: &Digest,
    length: u64,
    rules: &Rules,
) -> Result<(), FetchError> {
    if blobs.has(digest, length) {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        let error = match once(remote, blobs, digest, length, rules).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if attempt >= rules.attempts || !error.is_passing() {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "fetch will go on");
        tokio::time::sleep(clock::jittered(rules.pause.saturating_mul(1 << attempt.min(8)), 0.5)).await;
        attempt += 1;
    }
}

async fn once(remote: &Remote, blobs: &Blobs, digest: &Digest, length: u64, rules: &Rules) -> Result<(), FetchError> {
    let mut part = blobs.resume(digest, length)?;
    if part.received() < length {
        let http = |cause| FetchError::Http { digest: *digest, cause };
        let response = remote.get(&api::blob_path(digest), part.received()).await.map_err(http)?;
        let response = accept(response, &mut part, digest, length).await?;
        stream(response, &mut part, digest, length, rules).await?;
    }
    // The whole file is read for its digest.
    Ok(off_runtime(move || part.finish()).await?)
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Checks the head of the answer against what is on disk and what was signed.
async fn accept(
    response: Response<Incoming>,
    part: &mut Part,
    digest: &Digest,
    length: u64,
) -> Result<Response<Incoming>, FetchError> {
    let promised = || {
        let text = response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?;
        text.parse::<u64>().ok()
    };
    match response.status() {
        StatusCode::OK => {
            // The server ignores ranges: it starts at the first byte.
            if let Some(found) = promised().filter(|n| *n != length) {
                return Err(BlobError::Length { digest: *digest, signed: length, found }.into());
            }
            part.restart()?;
            Ok(response)
        }
        StatusCode::PARTIAL_CONTENT => {
            let text = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or("none");
            let wanted = format!("bytes {}-{}/{length}", part.received(), length - 1);
            if text != wanted {
                let found = text.chars().take(80).collect();
                part.restart()?;
                return Err(FetchError::WrongRange { digest: *digest, found });
            }
            Ok(response)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            part.restart()?;
            Err(FetchError::WrongRange { digest: *digest, found: "416".into() })
        }
        _ => Err(FetchError::Http { digest: *digest, cause: http::refusal(response).await }),
    }
}

/// Writes the body to the part. Appending goes to the page cache and so needs no thread of its own; only `finish` waits
/// for the disk.
async fn stream(
    response: Response<Incoming>,
    part: &mut Part,
    digest: &Digest,
    length: u64,
    rules: &Rules,
) -> Result<(), FetchError> {
    let mut body = response.into_body();
    let (mut window, mut in_window) = (Moment::now(), 0);
    loop {
        let frame = match tokio::time::timeout(rules.idle, body.frame()).await {
            Err(_) => return Err(FetchError::Slow(*digest)),
            Ok(None) if part.received() == length => return Ok(()),
            // What is on disk stays there: the next attempt goes on from it.
            Ok(None | Some(Err(_))) => {
                return Err(FetchError::Cut { digest: *digest, received: part.received(), length });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if let Err(error) = part.append(&data) {
            if matches!(error, BlobError::Length { .. }) {
                part.restart()?;
            }
            return Err(error.into());
        }
        in_window += data.len() as u64;
        if window.elapsed() >= rules.window {
            if in_window < rules.window_bytes && part.received() < length {
                return Err(FetchError::Slow(*digest));
            }
            (window, in_window) = (Moment::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests;
