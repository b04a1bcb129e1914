//! Connections: accept within the limit, speak HTTP/1.1, never wait for a peer without a bound.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{Sleep, sleep},
};

use super::{routes, service::Service};

/// A connection may be silent between requests for this long, and a request's head may take as long.
const HEAD: Duration = Duration::from_secs(75);
/// A peer that takes nothing of an answer for this long is cut off.
const STALL: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEAD_BYTES: usize = 32 << 10;
/// Pause after a failed accept: descriptors may be short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that control handed over.
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A listener's next connection.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Serves the listener until the service stops.
pub(super) async fn serve(service: Arc<Service>, listener: Listener) {
    match listener {
        Listener::Unix(listener) => accept(service, listener).await,
        Listener::Tcp(listener) => accept(service, listener).await,
    }
}

async fn accept<L: Accept>(service: Arc<Service>, listener: L) {
    let mut stopping = service.stopping.subscribe();
    loop {
        let stream = tokio::select! {
            () = stopped(&mut stopping) => return,
            stream = listener.next() => stream,
        };
        let Ok(stream) = stream else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One connection too many is closed by dropping it.
        if let Ok(permit) = Arc::clone(&service.connections).try_acquire_owned() {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                converse(service, Patience { stream, stalled: None }).await;
                drop(permit);
            });
        }
    }
}

/// Returns once the service stops. The flag is not held locked afterwards.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Fails only where the service is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(service: Arc<Service>, stream: Patience<S>) {
    let mut stopping = service.stopping.subscribe();
    let answering = service_fn(|request: hyper::Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&service, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answering);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is the peer's doing and is over with it.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// A stream whose peer must take what is sent to it.
struct Patience<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    fn bound<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bound(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(context, outcome)
    }
}
