//! The MQTT session with the server; the only file that knows `rumqttc`.
//!
//! Each session: subscribe to `desired`, say that the device is online, and once the subscription stands publish the twin,
//! so that a twin which lags brings the desired state. The twin goes out again whenever it changes; only the latest counts.
//! `rumqttc` keeps packets of a dead session, and a collision for ever, so on any error everything it holds is cleared and
//! the next session starts from what is true then. A session whose subscription is refused is of no use and is ended.
//! Leaving: offline status, wait for its PUBACK, DISCONNECT.
//! Nothing is verified here: a desired state is bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use jiff::Timestamp;
use rumqttc::{
    AsyncClient, Event as Polled, EventLoop, Incoming, LastWill, MqttOptions, NetworkOptions, Outgoing, QoS, Transport,
};
use rustls::ClientConfig;
use tern_protocol::{
    ids::{DeviceId, FleetId},
    topics::{Channel, DeviceTopic},
    twin::Status,
};
use tokio::sync::{mpsc, watch};

use crate::{clock::Moment, fetch::jittered, notify::Beat};

mod pauses;
use pauses::Pauses;

/// Longest time to an MQTT session: TLS with a key in a slow TPM.
const CONNECT_SECONDS: u64 = 60;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Packets above are a broken session, so it lies far above any desired state.
const MAX_PACKET: usize = 8 << 20;
/// Far above what is ever in flight, for SUBSCRIBE takes packet ids from the same ring without looking.
const INFLIGHT: u16 = 50;
/// Requests that wait for the poll loop. Never full: at most a status, a twin, a subscription and a farewell wait.
const REQUESTS: usize = 16;
/// What the poll loop has seen and the driver has not. Full: the poll loop waits, and with it the server.
const POLLED: usize = 64;
/// Longest time to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// `host:port`.
    pub address: String,
    /// TLS; none only against a test's own broker on loopback.
    pub tls: Option<Arc<ClientConfig>>,
    /// The longest pause between attempts.
    pub reconnect_max: Duration,
    /// The payload of `status`, online.
    pub status: Status,
}

/// What the link tells control.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session stands, and `desired` is subscribed to.
    Session,
    /// A desired state came: unverified bytes.
    Desired(Bytes),
    /// There is no session.
    Lost(String),
}

/// The link's task.
#[derive(Debug)]
pub struct Link {
    /// Where and as whom.
    pub options: Options,
    /// The twin's payload, latest wins; empty while there is none.
    pub twin: watch::Receiver<Bytes>,
    /// Full: the link waits for control.
    pub events: mpsc::Sender<Event>,
    /// True once the agent leaves.
    pub stop: watch::Receiver<bool>,
    /// Turned by the driver.
    pub beat: Beat,
}

impl Link {
    /// Keeps a session until it is told to stop.
    ///
    /// # Errors
    /// Where the address or the certificates cannot be used at all; a server that is not there is no error.
    pub async fn run(self) -> anyhow::Result<()> {
        let (client, event_loop) = connect(&self.options)?;
        // Never full for long: see POLLED.
        let (sender, polled) = mpsc::channel(POLLED);
        let poller = tokio::spawn(poll(event_loop, sender, self.options.reconnect_max));
        let mut driver = Driver::new(self, client);
        let ended = driver.drive(polled).await;
        poller.abort();
        ended
    }
}

fn connect(options: &Options) -> anyhow::Result<(AsyncClient, EventLoop)> {
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

fn topic(options: &Options, channel: Channel) -> String {
    DeviceTopic { fleet: options.fleet.clone(), device: options.device.clone(), channel }.to_string()
}

fn payload(status: &Status) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(status).context("status")
}

/// What the poll loop passes on.
enum Seen {
    Packet(Polled),
    Lost(String),
}

/// Polls without ever doing anything else, so that pings go out in time.
async fn poll(mut event_loop: EventLoop, sender: mpsc::Sender<Seen>, longest: Duration) {
    let (mut pauses, mut since) = (Pauses::default(), None);
    loop {
        let seen = match event_loop.poll().await {
            Ok(packet) if is_refused(&packet) => Seen::Lost("the server refuses the subscription to `desired`".into()),
            Ok(packet) => Seen::Packet(packet),
            Err(error) => Seen::Lost(crate::http::chain(&error)),
        };
        if matches!(seen, Seen::Packet(Polled::Incoming(Incoming::ConnAck(_)))) {
            since = Some(Moment::now());
        }
        let lost = matches!(seen, Seen::Lost(_));
        if lost {
            // Also hangs up, without a DISCONNECT, so that the last will goes out.
            reset(&mut event_loop);
        }
        if sender.send(seen).await.is_err() {
            return;
        }
        if lost {
            let stood = since.take().map_or(Duration::ZERO, Moment::elapsed);
            tokio::time::sleep(jittered(pauses.next(stood, longest))).await;
        }
    }
}

fn is_refused(packet: &Polled) -> bool {
    let Polled::Incoming(Incoming::SubAck(granted)) = packet else { return false };
    granted.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure)
}

/// Forgets everything of the session that died: requests not yet sent, packets not yet acknowledged, events not yet seen,
/// and the collision that `clean` leaves behind.
fn reset(event_loop: &mut EventLoop) {
    event_loop.clean();
    event_loop.pending.clear();
    event_loop.state.collision = None;
    event_loop.state.events.clear();
}

/// What was published, from the request to its PUBACK.
#[derive(Debug, Default)]
struct Flight {
    requested: VecDeque<Published>,
    sent: BTreeMap<u16, Published>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    Status,
    Twin,
}

impl Flight {
    fn is_empty(&self) -> bool {
        self.requested.is_empty() && self.sent.is_empty()
    }

    fn holds(&self, what: Published) -> bool {
        self.requested.contains(&what) || self.sent.values().any(|p| *p == what)
    }

    /// Packet ids come in the order of the requests; a known one is a repetition.
    fn sent(&mut self, packet: u16) {
        if packet != 0
            && !self.sent.contains_key(&packet)
            && let Some(what) = self.requested.pop_front()
        {
            self.sent.insert(packet, what);
        }
    }

    fn acknowledged(&mut self, packet: u16) -> Option<Published> {
        self.sent.remove(&packet)
    }

    fn clear(&mut self) {
        self.requested.clear();
        self.sent.clear();
    }
}

struct Driver {
    link: Link,
    client: AsyncClient,
    flight: Flight,
    /// The subscription stands.
    session: bool,
    /// The twin changed since it was last handed over.
    stale: bool,
    desired: String,
}

impl Driver {
    fn new(link: Link, client: AsyncClient) -> Self {
        let desired = topic(&link.options, Channel::Desired);
        Self { link, client, flight: Flight::default(), session: false, stale: true, desired }
    }

    async fn drive(&mut self, mut polled: mpsc::Receiver<Seen>) -> anyhow::Result<()> {
        let mut turn = tokio::time::interval(Duration::from_secs(1));
        let (mut twin, mut stop) = (self.link.twin.clone(), self.link.stop.clone());
        loop {
            tokio::select! {
                seen = polled.recv() => match seen {
                    Some(seen) => self.take(seen).await?,
                    None => return Err(anyhow!("the MQTT poll loop ended")),
                },
                changed = twin.changed() => {
                    changed.context("control is gone")?;
                    self.stale = true;
                    self.publish_twin();
                }
                _ = turn.tick() => self.publish_twin(),
                () = asked_to_leave(&mut stop) => {
                    self.leave(polled).await;
                    return Ok(());
                }
            }
            self.link.beat.turn();
        }
    }

    async fn take(&mut self, seen: Seen) -> anyhow::Result<()> {
        match seen {
            Seen::Packet(Polled::Incoming(Incoming::ConnAck(_))) => self.open()?,
            Seen::Packet(Polled::Incoming(Incoming::SubAck(_))) => {
                (self.session, self.stale) = (true, true);
                self.tell(Event::Session).await?;
                self.publish_twin();
            }
            Seen::Packet(Polled::Incoming(Incoming::Publish(message))) => {
                if message.topic == self.desired {
                    self.tell(Event::Desired(message.payload)).await?;
                }
            }
            Seen::Packet(Polled::Incoming(Incoming::PubAck(ack))) => {
                if self.flight.acknowledged(ack.pkid) == Some(Published::Twin) {
                    self.publish_twin();
                }
            }
            Seen::Packet(Polled::Outgoing(Outgoing::Publish(packet))) => self.flight.sent(packet),
            Seen::Packet(_) => {}
            Seen::Lost(why) => {
                self.flight.clear();
                self.session = false;
                self.tell(Event::Lost(why)).await?;
            }
        }
        Ok(())
    }

    fn open(&mut self) -> anyhow::Result<()> {
        self.flight.clear();
        self.session = false;
        let status = payload(&self.link.options.status)?;
        // A full queue cannot be: the session is new. If it is, the session is given up by its keep-alive.
        if let Err(error) = self.client.try_subscribe(&self.desired, QoS::AtLeastOnce) {
            tracing::warn!(%error, "cannot subscribe");
        }
        self.publish(Published::Status, status);
        Ok(())
    }

    fn publish_twin(&mut self) {
        if !self.session || !self.stale || self.flight.holds(Published::Twin) {
            return;
        }
        let twin = self.link.twin.borrow().to_vec();
        if !twin.is_empty() && self.publish(Published::Twin, twin) {
            self.stale = false;
        }
    }

    fn publish(&mut self, what: Published, payload: Vec<u8>) -> bool {
        let channel = match what {
            Published::Status => Channel::Status,
            Published::Twin => Channel::Twin,
        };
        let topic = topic(&self.link.options, channel);
        match self.client.try_publish(topic, QoS::AtLeastOnce, true, payload) {
            Ok(()) => {
                self.flight.requested.push_back(what);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot publish now");
                false
            }
        }
    }

    async fn tell(&self, event: Event) -> anyhow::Result<()> {
        self.link.events.send(event).await.map_err(|_| anyhow!("control is gone"))
    }

    /// Says that the device is offline, sees its publications acknowledged, and only then disconnects.
    async fn leave(&mut self, mut polled: mpsc::Receiver<Seen>) {
        if !self.session {
            return;
        }
        let offline = Status { online: false, ..self.link.options.status.clone() };
        match payload(&offline) {
            Ok(bytes) => drop(self.publish(Published::Status, bytes)),
            Err(error) => tracing::warn!(%error, "cannot say goodbye"),
        }
        let farewell = async {
            let mut leaving = false;
            loop {
                if self.flight.is_empty() && !leaving {
                    leaving = true;
                    if self.client.try_disconnect().is_err() {
                        return;
                    }
                }
                match polled.recv().await {
                    Some(Seen::Packet(Polled::Outgoing(Outgoing::Publish(packet)))) => self.flight.sent(packet),
                    Some(Seen::Packet(Polled::Incoming(Incoming::PubAck(ack)))) => {
                        self.flight.acknowledged(ack.pkid);
                    }
                    Some(Seen::Packet(Polled::Outgoing(Outgoing::Disconnect)) | Seen::Lost(_)) | None => return,
                    Some(Seen::Packet(_)) => {}
                }
            }
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("the server did not acknowledge the goodbye in time");
        }
    }
}

/// Ends once the agent leaves; also where control is gone without a word.
async fn asked_to_leave(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A status of this start.
pub fn status(boot: &str, agent_version: &str, since: Timestamp) -> Status {
    Status { online: true, boot: boot.to_owned(), agent_version: agent_version.to_owned(), since }
}

#[cfg(test)]
mod tests;
