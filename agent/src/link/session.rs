//! A session as `rumqttc` has it: connected, polled, and forgotten whole when it dies.

use std::time::Duration;

use anyhow::{Context, anyhow};
use rumqttc::{
    AsyncClient, Event as Polled, EventLoop, Incoming, LastWill, MqttOptions, NetworkOptions, QoS, Transport,
};
use tern_protocol::{topics::Channel, twin::Status};
use tokio::sync::mpsc;

use super::{Options, pauses::Pauses, payload, topic};
use crate::{
    clock::{Moment, jittered},
    renewal::{Signs, says_expired},
};

/// Longest time to an MQTT session: TLS with a key in a slow TPM.
const CONNECT_SECONDS: u64 = 60;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Packets above are a broken session, so it lies far above any desired state and any report.
const MAX_PACKET: usize = 8 << 20;
/// Far above what is ever in flight, for SUBSCRIBE takes packet ids from the same ring without looking.
const INFLIGHT: u16 = 50;
/// Requests that wait for the poll loop: a subscription, a status, a twin, a farewell, the reports in flight, and figures of
/// every model. Full, as on a link that stalls: figures and reports wait for a later turn.
const REQUESTS: usize = 128;

pub(super) fn connect(options: &Options) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let (host, port) = options.address.rsplit_once(':').ok_or_else(|| anyhow!("the MQTT address has no port"))?;
    let port = port.parse().context("the MQTT address's port")?;
    let mut mqtt = MqttOptions::new(options.device.as_str(), host, port);
    let offline = Status { online: false, ..options.status.clone() };
    mqtt.set_last_will(LastWill::new(topic(options, Channel::Status), payload(&offline)?, QoS::AtLeastOnce, true))
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_inflight(INFLIGHT)
        .set_max_packet_size(MAX_PACKET, MAX_PACKET);
    if let Some(config) = &options.tls {
        mqtt.set_transport(Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config.clone())));
    }
    let (client, mut event_loop) = AsyncClient::new(mqtt, REQUESTS);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_SECONDS).set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    Ok((client, event_loop))
}

/// What the poll loop passes on.
pub(super) enum Seen {
    Packet(Polled),
    Lost(String),
}

/// Polls without ever doing anything else, so that pings go out in time.
pub(super) async fn poll(mut event_loop: EventLoop, sender: mpsc::Sender<Seen>, longest: Duration, signs: Signs) {
    let (mut pauses, mut since) = (Pauses::default(), None);
    loop {
        let seen = match event_loop.poll().await {
            Ok(packet) if is_refused(&packet) => {
                Seen::Lost("the server refuses the subscription to `desired` or `watermark`".into())
            }
            Ok(packet) => Seen::Packet(packet),
            Err(error) => {
                if says_expired(&error) {
                    signs.expired();
                }
                Seen::Lost(crate::http::chain(&error))
            }
        };
        if matches!(seen, Seen::Packet(Polled::Incoming(Incoming::ConnAck(_)))) {
            since = Some(Moment::now());
        }
        let lost = matches!(seen, Seen::Lost(_));
        if lost {
            signs.lost();
            // Also hangs up, without a DISCONNECT, so that the last will goes out.
            reset(&mut event_loop);
        }
        if sender.send(seen).await.is_err() {
            return;
        }
        if lost {
            let stood = since.take().map_or(Duration::ZERO, Moment::elapsed);
            tokio::time::sleep(jittered(pauses.next(stood, longest), 0.5)).await;
        }
    }
}

fn is_refused(packet: &Polled) -> bool {
    let Polled::Incoming(Incoming::SubAck(granted)) = packet else { return false };
    granted.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure)
}

/// Forgets everything of the session that died: requests not yet sent, packets not yet acknowledged, events not yet seen,
/// and the collision that `clean` leaves behind.
pub(super) fn reset(event_loop: &mut EventLoop) {
    event_loop.clean();
    event_loop.pending.clear();
    event_loop.state.collision = None;
    event_loop.state.events.clear();
}
