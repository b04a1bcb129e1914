//! Server-Sent Events: an answer that goes on, fed by a task of its own.
//!
//! Bounded: [`QUEUE`] frames wait for the reader, and one that takes none for [`STALL`] is cut off, connection and all;
//! how many streams there are is the caller's to bound, with the place that it hands in. A stream ends with its reader,
//! its connection or the server. What is sent, and when, is the caller's.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use hyper::body::Frame;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, watch},
    time::timeout,
};

/// Frames that wait for the reader; when they are full the feeding task waits, at most [`STALL`].
const QUEUE: usize = 8;
/// Time for a reader to take a frame; tests do not wait so long.
const STALL: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(20) };
/// Longest silence on a stream: proxies and readers take a longer one for a dead connection.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The connection that a request came on, put into each of its requests by the listener.
#[derive(Debug, Clone)]
pub struct Wire {
    cut: Arc<Notify>,
    stopping: watch::Receiver<bool>,
}

impl Wire {
    /// A connection of a server that stops when `stopping` turns true.
    pub fn new(stopping: watch::Receiver<bool>) -> Self {
        Self { cut: Arc::default(), stopping }
    }

    /// Cuts the connection off, whatever it is doing.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Whether this is the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cut, &other.cut)
    }

    /// Waits until the connection is to be cut off.
    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// Where the frames of one stream go.
pub(crate) struct Feed(mpsc::Sender<Bytes>, Arc<Notify>);

impl Feed {
    /// Sends a frame; false where the reader is gone, or was cut off because it takes none.
    pub(crate) async fn send(&self, frame: Bytes) -> bool {
        match timeout(STALL, self.0.send(frame)).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.1.notify_one();
                false
            }
        }
    }

    /// Sends what readers ignore, so that a dead connection is noticed.
    pub(crate) async fn keep_alive(&self) -> bool {
        self.send(Bytes::from_static(b":\n\n")).await
    }
}

/// One frame. `data` has no line breaks, as JSON has none.
pub(crate) fn frame(event: Option<&str>, id: Option<&str>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 64);
    for (name, value) in [("event", event), ("id", id), ("data", Some(data))] {
        if let Some(value) = value {
            text.extend([name, ": ", value, "\n"]);
        }
    }
    text.push('\n');
    text.into()
}

/// The answer that `feeding` fills until it ends, the reader goes, or the server stops. `place` is given back then.
pub(crate) fn answer<F>(wire: Wire, place: OwnedSemaphorePermit, feeding: impl FnOnce(Feed) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let closed = sender.clone();
    let mut stopping = wire.stopping;
    let feeding = feeding(Feed(sender, wire.cut));
    tokio::spawn(async move {
        tokio::select! {
            () = feeding => {}
            () = closed.closed() => {}
            // An Err means that the server is gone, which is a stop too.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        drop(place);
    });
    let mut response = Response::new(Body::new(Frames(receiver)));
    for (name, value) in [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The body of a stream.
struct Frames(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    fn open(places: &Arc<Semaphore>) -> (watch::Sender<bool>, Wire, OwnedSemaphorePermit) {
        let (stop, stopping) = watch::channel(false);
        (stop, Wire::new(stopping), places.clone().try_acquire_owned().unwrap())
    }

    #[test]
    fn a_frame_has_its_parts_and_an_empty_line() {
        assert_eq!(frame(Some("a"), Some("7"), "{}"), "event: a\nid: 7\ndata: {}\n\n");
        assert_eq!(frame(None, None, "x"), "data: x\n\n");
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_cut_off_and_its_place_is_free() {
        let places = Arc::new(Semaphore::new(1));
        let (_stop, wire, place) = open(&places);
        let cut = wire.clone();
        let response = answer(wire, place, |feed| async move { while feed.send(Bytes::from_static(b"x")).await {} });
        cut.is_cut().await;
        let _free = places.acquire().await.unwrap();
        drop(response);
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_reader_and_with_the_server() {
        let places = Arc::new(Semaphore::new(1));
        let (stop, wire, place) = open(&places);
        let response = answer(wire, place, |feed| async move {
            feed.keep_alive().await;
            std::future::pending().await
        });
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ":\n\n");
        drop(body);
        drop(places.acquire().await.unwrap());
        drop(stop);

        let (stop, wire, place) = open(&places);
        let mut body = answer(wire, place, |_| std::future::pending()).into_body();
        stop.send_replace(true);
        assert!(body.frame().await.is_none());
    }
}
