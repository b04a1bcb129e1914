//! Answers with a blob or a part of it, read piece by piece only as fast as the client takes it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tern_protocol::digest::Digest;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    problem::{Answer, Refusal, Refused},
    range::{Wanted, wanted},
};
use crate::disk::blobs::{Blobs, Piece};

/// Bytes that are read at once.
const PIECE: u64 = 128 << 10;

/// The answer to a request for a blob that the caller may have.
pub(super) async fn answer(blobs: &Arc<Blobs>, digest: Digest, headers: &HeaderMap) -> Answer<Response> {
    let gone = || Refused::new(Refusal::NotFound, "the blob is not here yet; try again later");
    let length = on_disk(blobs, move |blobs| blobs.length(&digest)).await?.ok_or_else(gone)?;
    let tag = format!("\"{digest}\"");
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A blob never changes under its name, so a condition on another name wants all of it.
    let same = text(header::IF_RANGE).is_none_or(|condition| condition == tag);
    let (status, first, last) = match wanted(text(header::RANGE).filter(|_| same), length) {
        Wanted::Whole => (StatusCode::OK, 0, length),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Wanted::Nothing => return Ok(not_satisfiable(length)),
    };
    let piece = on_disk(blobs, move |blobs| blobs.read(&digest, first)).await?.ok_or_else(gone)?;
    let mut response = Response::new(Body::new(BlobBody { remaining: last - first, state: State::Idle(piece) }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, immutable, max-age=31536000"));
    set(headers, header::ETAG, tag);
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, header::CONTENT_RANGE, format!("bytes {first}-{}/{length}", last - 1));
    }
    Ok(response)
}

fn not_satisfiable(length: u64) -> Response {
    use axum::response::IntoResponse;
    let words = format!("the blob has {length} bytes");
    let mut response = Refused::new(Refusal::RangeNotSatisfiable, words).into_response();
    set(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{length}"));
    response
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    headers.insert(name, HeaderValue::try_from(value).expect("invariant: digits and hexadecimal are visible ASCII"));
}

async fn on_disk<T: Send + 'static>(
    blobs: &Arc<Blobs>,
    work: impl FnOnce(&Blobs) -> io::Result<T> + Send + 'static,
) -> Answer<T> {
    let blobs = blobs.clone();
    let done = spawn_blocking(move || work(&blobs)).await.map_err(|e| Refused::internal(&e.into()))?;
    Ok(done?)
}

/// A blob on its way out. No thread waits for the client: a piece is read when the connection asks for one.
struct BlobBody {
    remaining: u64,
    state: State,
}

enum State {
    Idle(Piece),
    Reading(JoinHandle<(Piece, io::Result<Vec<u8>>)>),
    Done,
}

impl hyper::body::Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(_) if self.remaining == 0 => return Poll::Ready(None),
                State::Idle(mut piece) => {
                    let limit = self.remaining.min(PIECE);
                    self.state = State::Reading(spawn_blocking(move || {
                        let bytes = piece.next(limit);
                        (piece, bytes)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(done) = Pin::new(&mut reading).poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (piece, bytes) = done.map_err(io::Error::other)?;
                    let bytes = bytes?;
                    if bytes.is_empty() {
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
                    self.state = State::Idle(piece);
                    return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
