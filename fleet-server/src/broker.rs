//! The embedded MQTT broker: `rmqtt` on a loopback port, behind our own mutual-TLS front.
//!
//! It answers for who may connect (the certificate's common name is the client id), for asking the [`Policy`] before
//! every publish, subscribe and last will, for acknowledging a publish only after [`Policy::on_publish`] returned, and
//! for cutting a connection at revocation, at the certificate's end and when limits are reached.
//!
//! It must never know what a device, a fleet or a topic means, and never opens its front before the self-test has seen
//! foreign requests refused. Ingest is the policy's hook, never a subscription: a saturated broker starves subscribers.
//!
//! Order of operations that has no gap: whoever revokes a client first writes the revocation where
//! [`Policy::authenticate`] reads it, then calls [`BrokerHandle::cut`]; the front registers a connection before it
//! lets the broker authenticate it.

mod certificate;
mod counters;
mod front;
mod gate;
mod links;
mod mqtt;
mod pipes;
mod policy;
mod probe;
mod retained;
mod self_test;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tern_protocol::digest::Digest;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use counters::{Counters, Refusal};
pub use mqtt::{PublishError, Qos};
pub use policy::{Answer, Connection, Denied, End, Identity, Passing, Policy, Publication, Rejected};
pub use self_test::{SelfTest, SelfTestStep};

use front::Front;
use gate::Gate;
use links::Links;
use mqtt::Core;

/// Tells the time; the broker compares it with each live certificate's end once a second.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What the broker is started with.
pub struct BrokerConfig {
    /// Address of the TLS front; port 0 takes any free port, see [`Broker::address`].
    pub listen: SocketAddr,
    /// Server certificate and client verifier. Session resumption and early data are switched off in the broker's own
    /// copy: a resumed session would skip the check of the client certificate's dates.
    pub tls: Arc<rustls::ServerConfig>,
    /// Retained messages as (topic, payload), loaded after the self-test and before the front opens.
    pub initial_retained: Vec<(String, Bytes)>,
    /// What the start-up self-test tries and must see refused.
    pub self_test: SelfTest,
    /// Bounds on connections, sizes, queues and times.
    pub limits: Limits,
    /// The server's clock.
    pub clock: Clock,
}

/// Bounds of the broker; [`Limits::default`] suits a fleet server of up to 10,000 devices.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of the front, handshakes included. One loopback source address carries about 28,000.
    pub connections: usize,
    /// Connections per source: an IPv4 address or an IPv6 /64. Fleets behind one NAT share one.
    pub connections_per_source: usize,
    /// Connections per certificate name; at least 2, or a device that lost its link could not take it over.
    pub connections_per_name: usize,
    /// Time for the TLS handshake, and again for MQTT's CONNECT.
    pub handshake: Duration,
    /// Time that a client may leave the front's writes unread before it is cut.
    pub stall: Duration,
    /// Time for the other direction to finish once one has ended, and for connections at shutdown.
    pub grace: Duration,
    /// Largest MQTT packet in bytes.
    pub packet_bytes: u32,
    /// Messages queued per client; must exceed the number of retained topics that one subscription matches.
    pub queue_messages: usize,
    /// Unacknowledged QoS 1 messages per client and direction.
    pub in_flight: u16,
    /// How long a session that asked to persist outlives its connection.
    pub session_expiry: Duration,
    /// Retained topics; one more is not kept, and counted.
    pub retained_topics: usize,
    /// Subscriptions per client.
    pub subscriptions: usize,
    /// Threads of the broker's own runtime.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            connections_per_source: 2_000,
            connections_per_name: 4,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            grace: Duration::from_secs(3),
            packet_bytes: 1024 * 1024,
            queue_messages: 100_000,
            in_flight: 64,
            session_expiry: Duration::from_secs(600),
            retained_topics: 90_000,
            subscriptions: 32,
            threads: 2,
        }
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The broker's threads could not be made.
    #[error("start the broker's threads")]
    Runtime(#[source] std::io::Error),
    /// The front's address could not be bound.
    #[error("bind the MQTT front to {address}; is another server running, or the port below 1024?")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The broker core did not start.
    #[error("start the broker core")]
    Core(#[source] anyhow::Error),
    /// A retained message to load names no usable topic.
    #[error("load retained messages")]
    Retained(#[source] PublishError),
    /// The self-test saw something foreign get through, so the front stays closed.
    #[error("broker self-test failed at \"{which}\"; the front stays closed")]
    SelfTest {
        /// The step that failed.
        which: SelfTestStep,
    },
}

/// A running broker; dropping it ends it at once, [`Broker::shutdown`] lets connections finish.
pub struct Broker {
    handle: BrokerHandle,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    // Last, so that tasks outlive what asks them to stop.
    island: Island,
}

/// Acts on a running broker from any task; cheap to clone.
#[derive(Clone)]
pub struct BrokerHandle {
    core: Core,
    links: Arc<Links>,
    counters: Arc<Counters>,
    tls: TlsSlot,
    runtime: tokio::runtime::Handle,
}

/// The broker's own runtime: `rmqtt` offers no way to stop its tasks, dropping their runtime does.
struct Island(Option<Runtime>);

impl Drop for Island {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The TLS configuration that the next handshake uses.
#[derive(Clone)]
struct TlsSlot(Arc<RwLock<Arc<rustls::ServerConfig>>>);

impl TlsSlot {
    fn new(config: &rustls::ServerConfig) -> TlsSlot {
        TlsSlot(Arc::new(RwLock::new(hardened(config))))
    }

    fn current(&self) -> Arc<rustls::ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, config: &rustls::ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hardened(config);
    }
}

/// Returns a copy of `config` in which no session is resumed: resumption skips the client certificate's dates.
fn hardened(config: &rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
    let mut config = config.clone();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

impl Broker {
    /// Starts the core, proves it with the self-test, loads the retained messages, then opens the front.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: BrokerConfig, policy: Arc<dyn Policy>) -> Result<Broker, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.limits.threads.max(1))
            .thread_name("mqtt")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let runtime_handle = runtime.handle().clone();
        let island = Island(Some(runtime));
        let building = runtime_handle.clone();
        let (handle, front) = runtime_handle
            .spawn(async move { prepare(config, policy, building).await })
            .await
            .map_err(|stopped| StartError::Core(stopped.into()))??;
        let (stop, stopping) = watch::channel(false);
        let address = front.address();
        let accepting = runtime_handle.spawn(front.run(stopping));
        tracing::info!(%address, "MQTT front is open");
        Ok(Broker { handle, address, stop, accepting, island })
    }

    /// Returns the address that the front listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a handle for publishing, cutting and reloading.
    pub fn handle(&self) -> BrokerHandle {
        self.handle.clone()
    }

    /// Closes the front, lets each connection finish what the broker has received within the grace time (wills are
    /// published), then ends the broker's threads.
    pub async fn shutdown(self) {
        let Broker { handle, stop, accepting, island, .. } = self;
        stop.send_replace(true);
        if let Err(failure) = accepting.await {
            tracing::warn!(%failure, "the MQTT front ended badly");
        }
        drop(handle);
        drop(island);
    }
}

async fn prepare(
    config: BrokerConfig,
    policy: Arc<dyn Policy>,
    runtime: tokio::runtime::Handle,
) -> Result<(BrokerHandle, Front), StartError> {
    let counters = Arc::new(Counters::default());
    let links = Arc::new(Links::new(config.limits));
    let gate = Arc::new(Gate::new(policy.clone(), links.clone(), counters.clone()));
    let core = Core::start(&config.limits, gate, counters.clone()).await.map_err(StartError::Core)?;
    self_test::run(&config.self_test, &core, &links).await.map_err(|which| StartError::SelfTest { which })?;
    counters.reset();
    for (topic, payload) in config.initial_retained {
        core.publish(topic, payload, Qos::AtLeastOnce, true).await.map_err(StartError::Retained)?;
    }
    let tls = TlsSlot::new(&config.tls);
    let front = Front::bind(front::Parts {
        listen: config.listen,
        core_address: core.address(),
        tls: tls.clone(),
        links: links.clone(),
        counters: counters.clone(),
        policy,
        limits: config.limits,
        clock: config.clock,
    })
    .await?;
    Ok((BrokerHandle { core, links, counters, tls, runtime }, front))
}

impl BrokerHandle {
    /// Publishes from inside the process, past the policy; returns once the message is handed to every subscriber's
    /// queue and, with `retain`, kept (an empty payload clears).
    ///
    /// # Errors
    /// [`PublishError`]: the topic has wildcards, starts with `$` or is empty, or the broker has stopped.
    pub async fn publish_local(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
        retain: bool,
    ) -> Result<(), PublishError> {
        let (core, topic, payload) = (self.core.clone(), topic.into(), payload.into());
        let publishing = self.runtime.spawn(async move { core.publish(topic, payload, qos, retain).await });
        publishing.await.map_err(|_| PublishError::Stopped)?
    }

    /// Ends every live connection of the certificate name `name`; returns how many there were.
    ///
    /// The policy must already refuse the name, or the client is back at once.
    pub fn cut(&self, name: &str) -> usize {
        self.links.end_all_of(name, End::Cut)
    }

    /// Lets the live connections of `name` whose certificate is of this key go on until `not_after`, the end of a renewed
    /// one.
    pub fn extend(&self, name: &str, key_sha256: &Digest, not_after: SystemTime) {
        self.links.extend(name, key_sha256, not_after);
    }

    /// Returns how many connections the certificate name `name` has now.
    pub fn live(&self, name: &str) -> usize {
        self.links.live(name)
    }

    /// Returns how many connections the front has now, handshakes included.
    pub fn connections(&self) -> usize {
        self.links.occupied()
    }

    /// Uses `config` from the next handshake on; live connections stay.
    pub fn reload(&self, config: &rustls::ServerConfig) {
        self.tls.replace(config);
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
