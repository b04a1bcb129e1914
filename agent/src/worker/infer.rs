//! The network side of one inference: read the body within its bounds, queue it, wait for the answer or the deadline.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap},
};
use tokio::{sync::oneshot, time::timeout};

use super::{failure::Failure, queue::Job, reply::Answer, service::Service, slots::Loaded};
use crate::clock::Moment;

/// Says how much of the body is JSON; the rest is binary data.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";

/// A body that pauses for longer is given up.
const PAUSE: Duration = Duration::from_secs(5);
/// So is one that takes longer than this as a whole.
const WHOLE: Duration = Duration::from_secs(30);
/// How much of a body that nobody wanted is read away, and for how long.
const LEFT_BYTES: usize = 1 << 20;
const LEFT_TIME: Duration = Duration::from_secs(1);

/// The answer to an inference request, and the version that it was for where one was found.
pub(super) async fn infer(
    service: &Service,
    (model, version): (&str, Option<&str>),
    headers: &HeaderMap,
    body: &mut Incoming,
) -> (Option<Arc<Loaded>>, Result<Answer, Failure>) {
    let asked = match service.slots.find(model, version) {
        Ok(loaded) => loaded,
        Err(failure) => return (None, Err(failure)),
    };
    let result = match admit(service, (model, version), headers, body).await {
        // The thread counts what it answers; only the deadline strikes here.
        Ok((answer, _space)) => wait(answer, service.limits.deadline_ms).await,
        Err(failure) => {
            count(&asked, &failure);
            Err(failure)
        }
    };
    if let Err(failure @ Failure::Deadline(_)) = &result {
        count(&asked, failure);
    }
    (Some(asked), result)
}

fn count(loaded: &Loaded, failure: &Failure) {
    if let Some(kind) = failure.kind() {
        loaded.counters.failed(kind);
    }
}

type Outcome = Result<Answer, Failure>;

/// Reads and queues the request; returns where its answer will come and the room that its body takes up.
async fn admit<'s>(
    service: &'s Service,
    (model, version): (&str, Option<&str>),
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(oneshot::Receiver<Outcome>, Space<'s>), Failure> {
    let json_bytes = json_bytes(headers)?;
    let (body, space) = read(service, headers, body).await?;
    let admitted = Moment::now();
    // Chosen only now, so that a slow body does not hold a version that was replaced meanwhile.
    let held = service.slots.hold(model, version)?;
    let (reply, answer) = oneshot::channel();
    service.queue.push(Job { held, body, json_bytes, admitted, reply })?;
    Ok((answer, space))
}

async fn wait(mut answer: oneshot::Receiver<Outcome>, deadline_ms: u64) -> Outcome {
    let dropped = || Failure::Engine("the inference thread is gone".into());
    match timeout(Duration::from_millis(deadline_ms), &mut answer).await {
        Ok(outcome) => outcome.map_err(|_| dropped())?,
        Err(_) => {
            // An answer that was sent in this very moment is counted as one, so it must be given.
            answer.close();
            answer.try_recv().unwrap_or(Err(Failure::Deadline(deadline_ms)))
        }
    }
}

fn json_bytes(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Failure::Encoded);
    }
    let Some(text) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = text.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Failure::Malformed("Inference-Header-Content-Length is no number".into()))
}

/// Room that a body takes up among all bodies; given back when dropped.
pub(super) struct Space<'s>(&'s Service, u64);

impl Space<'_> {
    fn grow(&mut self, bytes: u64) -> Result<(), Failure> {
        self.0.reserve(bytes)?;
        self.1 += bytes;
        Ok(())
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

/// The body of a request, and the room that it takes up.
pub(super) async fn read<'s>(
    service: &'s Service,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(Bytes, Space<'s>), Failure> {
    let limit = service.limits.request_bytes;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) || body.size_hint().lower() > limit {
        return Err(Failure::TooLarge(limit));
    }
    let end = Moment::now().after(WHOLE);
    let mut space = Space(service, 0);
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 10) as usize);
    loop {
        let pause = PAUSE.min(end.remaining());
        let frame = match timeout(pause, body.frame()).await {
            Err(_) => return Err(Failure::SlowBody),
            Ok(None) => return Ok((bytes.freeze(), space)),
            Ok(Some(Err(_))) => return Err(Failure::Malformed("request body is broken off".into())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(chunk) = frame.into_data() else { continue };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Failure::TooLarge(limit));
        }
        space.grow(chunk.len() as u64)?;
        bytes.extend_from_slice(&chunk);
    }
}

/// Reads what is left of a request that was answered without it, so that its sender gets to the answer; false where that is too much.
pub(super) async fn drain(body: &mut Incoming) -> bool {
    let end = Moment::now().after(LEFT_TIME);
    let mut left = LEFT_BYTES;
    while let Ok(frame) = timeout(end.remaining(), body.frame()).await {
        let chunk = match frame {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => frame.into_data().map_or(0, |chunk| chunk.len()),
        };
        match left.checked_sub(chunk) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    false
}
