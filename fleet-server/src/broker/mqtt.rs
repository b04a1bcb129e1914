//! The core: `rmqtt` set up for a loopback listener, with every default that is unsafe here replaced.
//!
//! Runs on the broker's own runtime only. It knows nothing of TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use rmqtt::codec::types::Publish as Packet;
use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rmqtt::session::SessionState;
use rmqtt::types::{From as Origin, Id, QoS};

use super::gate::{Gate, HOOKS, Hooked, KEEP_ALIVE_SECONDS, is_topic};
use super::retained::Retained;
use super::{Counters, Limits};

/// The only node of a broker that is never a cluster.
const NODE: u64 = 1;

/// Delivery guarantee of a message from inside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// Why a message from inside the process was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The topic is empty, has wildcards or starts with `$`.
    #[error("\"{0}\" is no topic to publish on")]
    Topic(String),
    /// The broker core refused it.
    #[error("publish")]
    Core(#[source] anyhow::Error),
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

/// The running core.
#[derive(Clone)]
pub(super) struct Core {
    context: ServerContext,
    counters: Arc<Counters>,
    address: SocketAddr,
}

impl Core {
    /// Starts the core on a free loopback port, with `gate` asked for everything from the first connection on.
    pub(super) async fn start(limits: &Limits, gate: Arc<Gate>, counters: Arc<Counters>) -> anyhow::Result<Core> {
        let context = ServerContext::new().node_id(NODE).busy_check_enable(false).build().await;
        *context.extends.retain_mut().await = Box::new(Retained::new(limits.retained_topics, counters.clone()));
        let hooks = context.extends.hook_mgr().register();
        for hook in HOOKS {
            hooks.add(hook, Box::new(Hooked(gate.clone()))).await;
        }
        hooks.start().await;
        let listener = listener(limits)?;
        let address = listener.local_addr()?;
        let server = MqttServer::new(context.clone()).listener(listener).build();
        tokio::spawn(server.run());
        Ok(Core { context, counters, address })
    }

    /// Returns the loopback address for the front.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes past the gate.
    pub(super) async fn publish(
        &self,
        topic: String,
        payload: Bytes,
        qos: Qos,
        retain: bool,
    ) -> Result<(), PublishError> {
        if !is_topic(&topic) {
            return Err(PublishError::Topic(topic));
        }
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let packet =
            Packet { dup: false, retain, qos, topic: topic.into(), packet_id: None, payload, properties: None };
        let origin = Origin::from_system(Id::from(NODE, "$server".into()));
        SessionState::forwards(&self.context, origin, packet.into(), false, None).await.map_err(PublishError::Core)?;
        self.counters.local.fetch_add(1, Relaxed);
        Ok(())
    }
}

fn listener(limits: &Limits) -> anyhow::Result<Listener> {
    // Room for the self-test beside a full front.
    let connections = limits.connections.saturating_add(16);
    Builder::new()
        .name("loopback")
        .laddr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .backlog(1_024)
        .nodelay(true)
        .max_connections(connections)
        .max_handshaking_limit(connections)
        .max_packet_size(limits.packet_bytes)
        .allow_anonymous(false)
        .allow_zero_keepalive(false)
        .max_keepalive(KEEP_ALIVE_SECONDS)
        .max_inflight(NonZeroU16::new(limits.in_flight).unwrap_or(NonZeroU16::MIN))
        .max_mqueue_len(limits.queue_messages)
        .max_clientid_len(64)
        .max_topic_levels(16)
        .max_subscriptions(limits.subscriptions)
        .handshake_timeout(limits.handshake)
        .send_timeout(limits.stall)
        .session_expiry_interval(limits.session_expiry)
        .max_session_expiry_interval(limits.session_expiry)
        // Zero is "never": a device may be away for months, and retained messages are state.
        .message_expiry_interval(Duration::ZERO)
        .bind()?
        .tcp()
}
