//! Brings a blob onto the disk: over HTTPS, resumed across restarts, checked before it counts.
//!
//! Nothing of a blob is held in memory but a chunk. Length and digest are those that were signed; whoever serves the bytes
//! is trusted for nothing. A source that lies, stalls, crawls or never ends is passed over for the next. Rounds over all
//! sources follow each other after growing, jittered pauses, and go on where the part on disk ends, whoever brought it: where
//! the whole then has another digest, the part is dropped, and the same source is asked once more for all of it.

use std::time::Duration;

use hyper::{Response, StatusCode, body::Incoming, header};
use tern_protocol::{api, digest::Digest, refusal::RefusalCode};

use crate::{
    clock,
    disk::{self, BlobError, Blobs, Part},
    http::{self, Flow, HttpError, Pace, Remote},
    install::Refusal,
    sources::Sources,
};

/// What a source must keep to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The least pace.
    pub pace: Pace,
    /// Rounds over all sources before it is given up for now.
    pub attempts: u32,
    /// The pause after the first failed round; it doubles.
    pub pause: Duration,
}

impl Rules {
    /// Those for sources that keep to the pace which this patience asks for.
    pub fn of_patience(patience: Duration) -> Self {
        Self { pace: Pace::of_blobs(patience), attempts: 4, pause: Duration::from_millis(500) }
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
    /// Whether it is the device's own, which no other source mends.
    fn is_own(&self) -> bool {
        matches!(self, Self::Blob(BlobError::Disk { .. }))
    }

    /// Whether another round right now may end otherwise.
    fn is_passing(&self) -> bool {
        match self {
            Self::Cut { .. } | Self::Slow(_) | Self::WrongRange { .. } => true,
            Self::Http { cause: HttpError::Status { status, .. }, .. } => *status >= 500 || *status == 429,
            Self::Http { cause: HttpError::Unreachable(_) | HttpError::Timeout(_) | HttpError::TooSlow(_), .. } => true,
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
/// What the last round came to, or the first that no further round can mend.
pub async fn blob(
    sources: &Sources<Remote>,
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
        let error = match round(sources, blobs, digest, length, rules).await {
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

/// Asks each source in turn until one has brought it. Of several failures it gives one that may pass, if there is any.
async fn round(
    sources: &Sources<Remote>,
    blobs: &Blobs,
    digest: &Digest,
    length: u64,
    rules: &Rules,
) -> Result<(), FetchError> {
    let (mut kept, mut all_ranges) = (None::<FetchError>, true);
    for source in sources.in_turn() {
        let error = match from(source, blobs, digest, length, rules).await {
            Ok(()) => {
                source.worked();
                return Ok(());
            }
            Err(error) => error,
        };
        if error.is_own() {
            return Err(error);
        }
        source.failed(&error);
        all_ranges &= matches!(error, FetchError::WrongRange { .. });
        if kept.as_ref().is_none_or(|kept| !kept.is_passing() && error.is_passing()) {
            kept = Some(error);
        }
    }
    if all_ranges {
        // Nobody can go on from where it is. One alone may not throw away what others brought.
        blobs.resume(digest, length)?.restart()?;
    }
    Err(kept.expect("invariant: there is at least one source"))
}

/// What this source brings. Bytes that were there already may be another's lie, or torn: they are not held against it.
async fn from(source: &Remote, blobs: &Blobs, digest: &Digest, length: u64, rules: &Rules) -> Result<(), FetchError> {
    let resumed = blobs.resume(digest, length)?.received() > 0;
    match once(source, blobs, digest, length, rules).await {
        Err(FetchError::Blob(BlobError::Digest { .. })) if resumed => once(source, blobs, digest, length, rules).await,
        done => done,
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
    let response = http::plain(response).map_err(|cause| FetchError::Http { digest: *digest, cause })?;
    match response.status() {
        StatusCode::OK => {
            // The server ignores ranges: it starts at the first byte.
            if let Some(found) = http::promised(&response).filter(|n| *n != length) {
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
                return Err(FetchError::WrongRange { digest: *digest, found });
            }
            Ok(response)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Err(FetchError::WrongRange { digest: *digest, found: "416".into() }),
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
    let mut flow = Flow::new(response, rules.pace);
    loop {
        let data = match flow.next().await {
            Err(HttpError::TooSlow(_)) => return Err(FetchError::Slow(*digest)),
            Ok(None) if part.received() == length => return Ok(()),
            // What is on disk stays there: the next attempt goes on from it.
            Ok(None) | Err(_) => {
                return Err(FetchError::Cut { digest: *digest, received: part.received(), length });
            }
            Ok(Some(data)) => data,
        };
        if let Err(error) = part.append(&data) {
            if matches!(error, BlobError::Length { .. }) {
                part.restart()?;
            }
            return Err(error.into());
        }
    }
}

#[cfg(test)]
mod tests;
