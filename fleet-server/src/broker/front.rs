//! The TLS front: accepts, verifies the client certificate, and joins each connection to the core.
//!
//! It decides by certificate and limits only; what a client may do is the gate's part. Everything before the hand-over
//! is bounded in time and number, since here the peer is still anybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{handshake_refusal, holder};
use super::links::{Kind, Links, Loopback, Place, Registered};
use super::pipes::splice;
use super::policy::{End, Identity, Policy};
use super::{Clock, Counters, Limits, Refusal, StartError, TlsSlot};

/// How often live certificates are compared with the clock.
const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// Pause after an accept failed, which is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the front is made of.
pub(super) struct Parts {
    pub(super) listen: SocketAddr,
    pub(super) core_address: SocketAddr,
    pub(super) tls: TlsSlot,
    pub(super) links: Arc<Links>,
    pub(super) counters: Arc<Counters>,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
}

/// A bound front.
pub(super) struct Front {
    listener: TcpListener,
    address: SocketAddr,
    parts: Arc<Parts>,
}

impl Front {
    pub(super) async fn bind(parts: Parts) -> Result<Front, StartError> {
        let bind_error = |source| StartError::Bind { address: parts.listen, source };
        let listener = TcpListener::bind(parts.listen).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Front { listener, address, parts: Arc::new(parts) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopping` turns true, then closes the listener and waits for the connections to finish.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let Front { listener, parts, .. } = self;
        let mut connections = JoinSet::new();
        let mut expiry = interval(EXPIRY_CHECK);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => break,
                _ = expiry.tick() => parts.links.end_expired((parts.clock)()),
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Err(failure) = ended {
                        tracing::error!(%failure, "an MQTT connection's task died");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => parts.accept(stream, peer, &stopping, &mut connections),
                    Err(failure) => {
                        tracing::warn!(%failure, "accept on the MQTT front failed");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        parts.links.stop();
        // Twice the grace: one for the core to answer, one for a client that does not close.
        let finishing = async { while connections.join_next().await.is_some() {} };
        _ = timeout(parts.limits.grace * 2, finishing).await;
    }
}

/// Waits until the front is asked to stop, or nobody is left who could ask.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    _ = stopping.wait_for(|stop| *stop).await;
}

impl Parts {
    fn accept(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        stopping: &watch::Receiver<bool>,
        connections: &mut JoinSet<()>,
    ) {
        match self.links.occupy(peer) {
            Ok(place) => {
                connections.spawn(self.clone().serve(stream, peer, place, stopping.clone()));
            }
            Err(refusal) => self.refuse(refusal, peer),
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _place: Place,
        mut stopping: watch::Receiver<bool>,
    ) {
        let admitted = tokio::select! {
            admitted = self.admit(stream, peer) => admitted,
            () = stopped(&mut stopping) => Err(Refusal::Stopping),
        };
        match admitted {
            Ok((client, core, registered)) => self.join(client, core, registered).await,
            Err(refusal) => self.refuse(refusal, peer),
        }
    }

    async fn join(&self, client: TlsStream<TcpStream>, core: Loopback, mut registered: Registered) {
        self.counters.admitted.fetch_add(1, Relaxed);
        let ending = registered.link.ending();
        let end = splice(client, core, ending, self.limits.stall, self.limits.grace).await;
        registered.end = match end {
            End::BrokerClosed if self.links.unseated(&registered.link) => End::TakenOver,
            end => end,
        };
        let identity = &registered.link.connection.identity;
        if end == End::BrokerClosed && !registered.link.is_redeemed() {
            self.refuse(Refusal::Malformed, identity.peer);
        }
        tracing::debug!(client = identity.name, peer = %identity.peer, end = ?registered.end, "MQTT connection ended");
    }

    async fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Loopback, Registered), Refusal> {
        stream.set_nodelay(true).map_err(|_| Refusal::Handshake)?;
        let handshake = TlsAcceptor::from(self.tls.current()).accept(stream);
        let client = timeout(self.limits.handshake, handshake)
            .await
            .map_err(|_| Refusal::HandshakeTimeout)?
            .map_err(|failure| handshake_refusal(&failure))?;
        let certificate = client.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let holder = holder(certificate.ok_or(Refusal::NoCertificate)?)?;
        tracing::debug!(client = holder.name, %peer, "TLS client verified");
        let identity = Identity { name: holder.name, key_sha256: holder.key_sha256, peer, not_after: holder.not_after };
        let registered = self.links.register(identity, Some(self.policy.clone()), Kind::Certificate)?;
        let core = self.links.connect(&registered.link, self.core_address).await.map_err(|failure| {
            tracing::error!(%failure, "no loopback connection to the broker core");
            Refusal::Loopback
        })?;
        Ok((client, core, registered))
    }

    fn refuse(&self, refusal: Refusal, peer: SocketAddr) {
        self.counters.refuse(refusal);
        tracing::info!(%peer, refusal = refusal.name(), "MQTT connection refused");
    }
}
