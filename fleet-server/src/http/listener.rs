//! The accept loops: HTTPS with an optional client certificate, and plain HTTP on loopback for the console.
//!
//! Bounded: connections in total and per address, the handshake, the time to send a request's head, and the life of a
//! connection, so that nobody who stands still keeps a place for long (blobs resume by Range).

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::{Peer, sse::Wire};
use crate::{ca::Holder, fleet::Fleet};

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections, handshakes included.
    pub connections: usize,
    /// Connections per address; a fleet behind one NAT shares one.
    pub per_address: usize,
    /// Time for TLS, and again for the head of each request.
    pub handshake: Duration,
    /// Time that a connection lives.
    pub life: Duration,
    /// Time for connections to finish at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 1024,
            handshake: Duration::from_secs(10),
            life: Duration::from_secs(3600),
            grace: Duration::from_secs(5),
        }
    }
}

/// The TLS configuration that the next handshake uses.
#[derive(Debug, Clone)]
pub struct TlsSlot(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsSlot {
    /// A slot with this configuration.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Uses `config` from the next handshake on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn current(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsSlot>,
    limits: Limits,
}

impl Listener {
    /// Binds an address; with `tls` it speaks HTTPS, without it plain HTTP that only loopback names may ask for.
    ///
    /// # Errors
    /// Where the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, tls: Option<TlsSlot>, limits: Limits) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await;
        let tcp = tcp.with_context(|| format!("listen on {address}; is another server running?"))?;
        Ok(Self { tcp, tls, limits })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.tcp.local_addr().context("read the listener's address")
    }

    /// Serves until `stopping` turns true, then lets connections finish within the grace time.
    pub async fn run(self, router: Router, fleet: Arc<Fleet>, mut stopping: watch::Receiver<bool>) {
        let places = Arc::new(Places::new(self.limits));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, address)) => match places.clone().take(address.ip()) {
                        Some(place) => {
                            let connection = Connection {
                                address, limits: self.limits, tls: self.tls.clone(), router: router.clone(),
                                fleet: fleet.clone(), stopping: stopping.clone(),
                            };
                            connections.spawn(async move {
                                connection.serve(stream).await;
                                drop(place);
                            });
                        }
                        None => {
                            fleet.metrics.connections_over_limit.fetch_add(1, Relaxed);
                        }
                    },
                    Err(error) => {
                        // Nearly always a lack of descriptors; trying again at once would spin.
                        tracing::warn!(%error, "accept failed");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        drop(self.tcp);
        let finished = timeout(self.limits.grace, async { while connections.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            tracing::warn!(connections = connections.len(), "connections were cut at shutdown");
        }
    }
}

struct Connection {
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsSlot>,
    router: Router,
    fleet: Arc<Fleet>,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Answers are small and whole; waiting to join them only costs time.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.speak(stream, None).await };
        let accepted = timeout(self.limits.handshake, TlsAcceptor::from(tls.current()).accept(stream)).await;
        let Ok(Ok(stream)) = accepted else {
            self.fleet.metrics.handshakes_failed.fetch_add(1, Relaxed);
            let reason =
                accepted.map_or_else(|_| "too slow".into(), |r| r.err().map(|e| e.to_string()).unwrap_or_default());
            tracing::debug!(address = %self.address, reason, "TLS handshake failed");
            return;
        };
        self.fleet.metrics.connections.fetch_add(1, Relaxed);
        let holder = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(Holder::of);
        self.speak(stream, holder).await;
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, holder: Option<Holder>) {
        let peer = Peer { address: self.address, holder };
        let wire = Wire::new(self.stopping.clone());
        let device = peer.holder.as_ref().map(|holder| holder.device.clone());
        let _held = device.map(|device| self.fleet.wires.hold(device, wire.clone()));
        let cut = wire.clone();
        let is_plain = self.tls.is_none();
        let router = self.router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let mut router = router.clone();
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(wire.clone());
            async move {
                let request: Request = request.map(Body::new);
                if is_plain && !names_loopback(&request) {
                    let words = "this listener answers to loopback names only\n";
                    return Ok((StatusCode::MISDIRECTED_REQUEST, words).into_response());
                }
                // A router is always ready.
                let answer: Result<_, Infallible> = router.call(request).await;
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.handshake)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.clone();
        let ended = tokio::select! {
            ended = timeout(self.limits.life, connection.as_mut()) => ended,
            () = cut.is_cut() => return,
            () = stopped(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                timeout(self.limits.grace, connection.as_mut()).await
            }
        };
        if let Ok(Err(error)) = ended {
            tracing::debug!(address = %self.address, %error, "connection ended badly");
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An Err means that the server is gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A page elsewhere that has its name resolve to loopback must not read the console through the operator's browser.
fn names_loopback(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Who holds how many connections.
struct Places {
    limits: Limits,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn new(limits: Limits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    fn take(self: Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = taken.values().sum();
        let of_address = taken.entry(address).or_default();
        let free = total < self.limits.connections && *of_address < self.limits.per_address;
        *of_address += usize::from(free);
        if *of_address == 0 {
            taken.remove(&address);
        }
        drop(taken);
        free.then(|| Place { places: self, address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_total_and_per_address_and_given_back() {
        let limits = Limits { connections: 3, per_address: 2, ..Limits::default() };
        let places = Arc::new(Places::new(limits));
        let (a, b, c): (IpAddr, IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let first = places.clone().take(a).unwrap();
        let _second = places.clone().take(a).unwrap();
        assert!(places.clone().take(a).is_none(), "per address");
        let _third = places.clone().take(b).unwrap();
        assert!(places.clone().take(c).is_none(), "in total");
        drop(first);
        assert!(places.clone().take(c).is_some());
        assert_eq!(places.taken.lock().unwrap().len(), 2, "who holds none is forgotten");
    }

    #[test]
    fn only_loopback_names_reach_the_plain_listener() {
        let asks =
            |host: &str| names_loopback(&Request::builder().header(header::HOST, host).body(Body::empty()).unwrap());
        for host in ["localhost", "localhost:80", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
            assert!(asks(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:80", "10.0.0.1", "localhost.evil.example"] {
            assert!(!asks(host), "{host}");
        }
    }
}
