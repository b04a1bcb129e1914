//! What a refused request has not been read of: taken in within bounds, so that the client sees the refusal instead of
//! a broken connection, which is what a close with unread bytes looks like from the other side.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::{sync::oneshot, time::timeout};

/// Most bytes that are taken in for nothing.
const MOST: u64 = 8 << 20;
/// Longest time that this may take.
const LONGEST: Duration = Duration::from_secs(5);

/// A body that comes back to the layer when its reader drops it before the end.
struct Returning {
    inner: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl hyper::body::Body for Returning {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(back) = self.back.take().filter(|_| !self.inner.is_end_stream()) {
            // An Err means that the whole request was given up.
            let _ = back.send(std::mem::take(&mut self.inner));
        }
    }
}

/// The layer: answers after the rest was taken in, and closes the connection where that is too much.
pub(super) async fn take_in(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (back, mut leftover) = oneshot::channel();
    let request = request.map(|inner| Body::new(Returning { inner, back: Some(back) }));
    let mut response = next.run(request).await;
    if let Ok(body) = leftover.try_recv() {
        let whole = timeout(LONGEST, drain(body)).await.unwrap_or(false);
        if !whole {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// Takes in the rest; says whether that was all.
async fn drain(mut body: Body) -> bool {
    if body.size_hint().lower() > MOST {
        return false;
    }
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        taken += frame.data_ref().map_or(0, |data| data.len() as u64);
        if taken > MOST {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_dropped_early_comes_back_and_a_finished_one_does_not() {
        let (back, mut leftover) = oneshot::channel();
        drop(Returning { inner: Body::from("rest"), back: Some(back) });
        assert!(drain(leftover.try_recv().unwrap()).await);
        let (back, mut leftover) = oneshot::channel();
        let whole = Body::new(Returning { inner: Body::from("all"), back: Some(back) });
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "all");
        assert!(leftover.try_recv().is_err());
    }

    #[tokio::test]
    async fn too_much_is_not_taken_in() {
        assert!(!drain(Body::from(vec![0; 9 << 20])).await);
        assert!(drain(Body::from(vec![0; 8 << 20])).await);
    }
}
