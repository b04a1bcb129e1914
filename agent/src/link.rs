//! The MQTT session with the server; this file and its folder are the only ones that know `rumqttc`.
//!
//! Each session: subscribe to `desired` and `watermark`, say that the device is online, and once the subscriptions stand
//! publish the twin, so that a twin which lags brings the desired state. The twin goes out again whenever it changes; only
//! the latest counts, and so it is with figures, which go out once and unacknowledged. Reports are made for one session,
//! [`WINDOW`] of them in flight; a PUBACK frees a place and means nothing else, for a broker's PUBACK is not durable.
//! `rumqttc` keeps packets of a dead session, and a collision for ever, so on any error everything it holds is cleared and
//! the next session starts from what is true then. A session whose subscription is refused is of no use and is ended.
//! Leaving: offline status, wait for its PUBACK, DISCONNECT.
//! Nothing is verified here: a desired state is bytes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use jiff::Timestamp;
use rumqttc::{AsyncClient, Event as Polled, Incoming, Outgoing, QoS, SubscribeFilter};
use rustls::ClientConfig;
use tern_protocol::{
    ids::{DeviceId, FleetId},
    topics::{Channel, DeviceTopic},
    twin::Status,
};
use tokio::sync::{mpsc, watch};

use crate::{notify::Beat, outbox::Ready, renewal::Signs};

mod flight;
mod pauses;
mod session;

use flight::{Flight, Published};
use session::Seen;

/// Reports in flight: enough that the way there and back costs little, few enough that a lost session repeats little.
pub const WINDOW: usize = 4;
/// What the poll loop has seen and the driver has not. Full: the poll loop waits, and with it the server.
const POLLED: usize = 64;
/// Longest time to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// Retained figures for people, by topic; a topic that is gone is cleared.
pub type Figures = BTreeMap<String, Bytes>;

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
    /// Told of what the server makes of the device's certificate.
    pub signs: Signs,
}

/// What the link tells control.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session stands, and its subscriptions. Its number is a new one for each.
    Session(u64),
    /// A desired state came: unverified bytes.
    Desired(Bytes),
    /// A watermark came: bytes as they are.
    Watermark(Bytes),
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
    /// Figures, latest wins.
    pub figures: watch::Receiver<Figures>,
    /// Reports that may be published in the session that they name. Full: whoever makes them waits.
    pub reports: mpsc::Receiver<Ready>,
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
        let (client, event_loop) = session::connect(&self.options)?;
        // Never full for long: see POLLED.
        let (sender, polled) = mpsc::channel(POLLED);
        let poller =
            tokio::spawn(session::poll(event_loop, sender, self.options.reconnect_max, self.options.signs.clone()));
        let Self { options, twin, figures, reports, events, stop, beat } = self;
        let desired = topic(&options, Channel::Desired);
        let watermark = topic(&options, Channel::Watermark);
        let flight = Flight::default();
        let (session, number, stale, held, shown) = (false, 0, true, None, Figures::new());
        let mut driver = Driver {
            options,
            twin,
            figures,
            events,
            stop,
            beat,
            client,
            flight,
            session,
            number,
            stale,
            held,
            shown,
            desired,
            watermark,
        };
        let ended = driver.drive(polled, reports).await;
        poller.abort();
        ended
    }
}

fn topic(options: &Options, channel: Channel) -> String {
    DeviceTopic { fleet: options.fleet.clone(), device: options.device.clone(), channel }.to_string()
}

fn payload(status: &Status) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(status).context("status")
}

struct Driver {
    options: Options,
    twin: watch::Receiver<Bytes>,
    figures: watch::Receiver<Figures>,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
    beat: Beat,
    client: AsyncClient,
    flight: Flight,
    /// The subscriptions stand.
    session: bool,
    /// The number of the session.
    number: u64,
    /// The twin changed since it was last handed over.
    stale: bool,
    /// A report that found no room on its way to the poll loop.
    held: Option<Ready>,
    /// Figures as they were last handed over in this session.
    shown: Figures,
    desired: String,
    watermark: String,
}

impl Driver {
    async fn drive(
        &mut self,
        mut polled: mpsc::Receiver<Seen>,
        mut reports: mpsc::Receiver<Ready>,
    ) -> anyhow::Result<()> {
        let mut turn = tokio::time::interval(Duration::from_secs(1));
        let (mut twin, mut figures, mut stop) = (self.twin.clone(), self.figures.clone(), self.stop.clone());
        loop {
            let has_room = self.session && self.held.is_none() && self.flight.reports() < WINDOW;
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
                changed = figures.changed() => {
                    changed.context("control is gone")?;
                    self.publish_figures();
                }
                Some(report) = reports.recv(), if has_room => self.publish_report(report),
                _ = turn.tick() => {
                    self.publish_twin();
                    if let Some(report) = self.held.take() {
                        self.publish_report(report);
                    }
                    self.publish_figures();
                }
                () = asked_to_leave(&mut stop) => {
                    self.leave(polled).await;
                    return Ok(());
                }
            }
            self.beat.turn();
        }
    }

    async fn take(&mut self, seen: Seen) -> anyhow::Result<()> {
        match seen {
            Seen::Packet(Polled::Incoming(Incoming::ConnAck(_))) => self.open()?,
            Seen::Packet(Polled::Incoming(Incoming::SubAck(_))) => {
                (self.session, self.stale) = (true, true);
                self.number += 1;
                self.tell(Event::Session(self.number)).await?;
                self.publish_twin();
                self.publish_figures();
            }
            Seen::Packet(Polled::Incoming(Incoming::Publish(message))) => {
                if message.topic == self.desired {
                    self.tell(Event::Desired(message.payload)).await?;
                } else if message.topic == self.watermark {
                    self.tell(Event::Watermark(message.payload)).await?;
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
                self.forget();
                self.tell(Event::Lost(why)).await?;
            }
        }
        Ok(())
    }

    fn open(&mut self) -> anyhow::Result<()> {
        self.forget();
        let status = payload(&self.options.status)?;
        // A full queue cannot be: the session is new. If it is, the session is given up by its keep-alive.
        let filters =
            [&self.desired, &self.watermark].map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        if let Err(error) = self.client.try_subscribe_many(filters) {
            tracing::warn!(%error, "cannot subscribe");
        }
        self.publish(Published::Status, status);
        Ok(())
    }

    /// What was of this session is of no other.
    fn forget(&mut self) {
        self.flight.clear();
        (self.session, self.held) = (false, None);
        // Different from every payload: all of them go out again, and what goes meanwhile is cleared.
        self.shown.values_mut().for_each(|payload| *payload = Bytes::new());
    }

    fn publish_twin(&mut self) {
        if !self.session || !self.stale || self.flight.holds(Published::Twin) {
            return;
        }
        let twin = self.twin.borrow().to_vec();
        if !twin.is_empty() && self.publish(Published::Twin, twin) {
            self.stale = false;
        }
    }

    /// Reports of another session come again from the outbox, in order.
    fn publish_report(&mut self, report: Ready) {
        if !self.session || report.session != self.number {
            return;
        }
        if !self.publish(Published::Report, report.payload.to_vec()) {
            self.held = Some(report);
        }
    }

    /// Publishes the figures that are not shown as they are, and clears those that are gone.
    fn publish_figures(&mut self) {
        if !self.session {
            return;
        }
        let figures = self.figures.borrow_and_update().clone();
        let gone = self.shown.keys().filter(|topic| !figures.contains_key(*topic));
        let gone: Vec<_> = gone.map(|topic| (topic.clone(), Bytes::new())).collect();
        for (topic, payload) in gone.into_iter().chain(figures) {
            if !payload.is_empty() && self.shown.get(&topic) == Some(&payload) {
                continue;
            }
            if self.client.try_publish(&topic, QoS::AtMostOnce, true, payload.to_vec()).is_err() {
                // The rest follows at a later turn.
                return;
            }
            if payload.is_empty() {
                self.shown.remove(&topic);
            } else {
                self.shown.insert(topic, payload);
            }
        }
    }

    fn publish(&mut self, what: Published, payload: Vec<u8>) -> bool {
        let channel = match what {
            Published::Status => Channel::Status,
            Published::Twin => Channel::Twin,
            Published::Report => Channel::Report,
        };
        let (topic, retained) = (topic(&self.options, channel.clone()), channel.retained());
        match self.client.try_publish(topic, QoS::AtLeastOnce, retained, payload) {
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
        self.events.send(event).await.map_err(|_| anyhow!("control is gone"))
    }

    /// Says that the device is offline, sees its publications acknowledged, and only then disconnects.
    async fn leave(&mut self, mut polled: mpsc::Receiver<Seen>) {
        if !self.session {
            return;
        }
        let offline = Status { online: false, ..self.options.status.clone() };
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
