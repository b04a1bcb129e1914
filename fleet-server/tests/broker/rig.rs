//! A broker under test and real MQTT clients over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, Incoming, LastWill, MqttOptions, QoS, SubscribeReasonCode,
    Transport,
};
use rustls::ClientConfig;
use tern_fleet_server::broker::{Broker, BrokerConfig, Limits, Refusal, SelfTest, StartError};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::house::{DEADLINE, Holes, House};
use super::pki::{Authority, Leaf, Made};

pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) house: Arc<House>,
    pub(crate) authority: Authority,
    /// Unix seconds of the broker's clock.
    pub(crate) now: Arc<AtomicU64>,
}

/// How a test differs from the usual broker.
#[derive(Default)]
pub(crate) struct Unusual {
    pub(crate) limits: Limits,
    pub(crate) holes: Holes,
    pub(crate) retained: Vec<(String, Bytes)>,
    pub(crate) port: u16,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::unusual(Unusual::default()).await.unwrap()
    }

    pub(crate) async fn unusual(unusual: Unusual) -> Result<Rig, StartError> {
        let authority = Authority::new();
        let house = Arc::new(House::new(unusual.holes));
        // 2026; certificates end in 2090.
        let now = Arc::new(AtomicU64::new(1_780_000_000));
        let clock = now.clone();
        let config = BrokerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], unusual.port)),
            tls: authority.server(),
            initial_retained: unusual.retained,
            self_test: SelfTest { topic: "t/someone/status".into(), filter: "t/someone/#".into() },
            limits: unusual.limits,
            clock: Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))),
        };
        let broker = Broker::start(config, house.clone()).await?;
        Ok(Rig { broker, house, authority, now })
    }

    pub(crate) fn tls(&self, name: &str) -> ClientConfig {
        self.authority.client(Some(self.authority.leaf(Made::client(name))), rustls::ALL_VERSIONS)
    }

    pub(crate) fn tls_of(&self, leaf: Option<Leaf>) -> ClientConfig {
        self.authority.client(leaf, rustls::ALL_VERSIONS)
    }

    /// Options of client `id` with the certificate in `tls`.
    pub(crate) fn options(&self, id: &str, tls: ClientConfig) -> MqttOptions {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.broker.address().port());
        options.set_transport(Transport::tls_with_config(tls.into()));
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(8 << 20, 8 << 20);
        options
    }

    /// Connects client `name` with its own certificate and waits for CONNACK.
    pub(crate) async fn client(&self, name: &str) -> Client {
        Client::connected(self.options(name, self.tls(name))).await
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.broker.handle().counters().refused(refusal)
    }

    /// Waits for the first refusal of any kind and returns it.
    pub(crate) async fn refusal(&self) -> Refusal {
        let mut found = None;
        eventually(|| {
            found = Refusal::ALL.into_iter().find(|refusal| self.refused(*refusal) > 0);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until exactly `expected` was refused; the front counts after it has closed.
    pub(crate) async fn refusals_are(&self, expected: &[(Refusal, u64)]) {
        eventually(|| self.refusals() == expected).await;
    }

    /// Opens a TLS connection as `name` for bytes of the test's own making.
    pub(crate) async fn raw(&self, name: &str) -> TlsStream<TcpStream> {
        self.raw_with(Arc::new(self.tls(name))).await
    }

    pub(crate) async fn raw_with(&self, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.broker.address()).await.unwrap();
        TlsConnector::from(tls).connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap()
    }

    /// Returns every refusal that was counted, with its count.
    pub(crate) fn refusals(&self) -> Vec<(Refusal, u64)> {
        Refusal::ALL
            .into_iter()
            .map(|refusal| (refusal, self.refused(refusal)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Polls until `reached`.
pub(crate) async fn eventually(mut reached: impl FnMut() -> bool) {
    let polling = async {
        let mut poll = tokio::time::interval(Duration::from_millis(5));
        while !reached() {
            poll.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("reached before the deadline");
}

/// A `rumqttc` client whose event loop runs until its first error.
pub(crate) struct Client {
    pub(crate) mqtt: AsyncClient,
    pub(crate) events: mpsc::Receiver<Result<Event, ConnectionError>>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    /// Drops the connection without DISCONNECT.
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Client {
    pub(crate) fn start(options: MqttOptions) -> Client {
        let (mqtt, mut event_loop) = AsyncClient::new(options, 64);
        let (sender, events) = mpsc::channel(4_096);
        let running = tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                let failed = event.is_err();
                if sender.send(event).await.is_err() || failed {
                    return;
                }
            }
        });
        Client { mqtt, events, running }
    }

    pub(crate) async fn connected(options: MqttOptions) -> Client {
        let mut client = Client::start(options);
        assert_eq!(client.next(connack).await, Some(ConnectReturnCode::Success));
        client
    }

    /// Waits for an event that `wanted` maps to something; `None` is the connection's end.
    pub(crate) async fn next<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let waiting = async {
            loop {
                match self.events.recv().await {
                    Some(Ok(event)) => {
                        if let Some(found) = wanted(&event) {
                            return Some(found);
                        }
                    }
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("an event before the deadline")
    }

    /// Waits for the refusal of CONNECT, or for the connection's end before it.
    pub(crate) async fn refused(mut self) -> Option<ConnectReturnCode> {
        let waiting = async {
            loop {
                match self.events.recv().await {
                    Some(Err(ConnectionError::ConnectionRefused(code))) => return Some(code),
                    Some(Err(_)) | None => return None,
                    Some(Ok(event)) => assert_eq!(connack(&event), None, "the client was let in"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("refused before the deadline")
    }

    pub(crate) async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        self.mqtt.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
    }

    /// Publishes and returns whether it was acknowledged; `false` is the connection's end.
    pub(crate) async fn acknowledged(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> bool {
        self.publish(topic, payload, false).await;
        self.next(puback).await.is_some()
    }

    /// Subscribes and returns whether it was granted.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> bool {
        self.mqtt.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let codes = self.next(|event| match event {
            Event::Incoming(Incoming::SubAck(ack)) => Some(ack.return_codes.clone()),
            _ => None,
        });
        matches!(codes.await.expect("SUBACK")[..], [SubscribeReasonCode::Success(_)])
    }

    /// Waits for the next message and returns (topic, payload, retain).
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>, bool) {
        let message = self.next(|event| match event {
            Event::Incoming(Incoming::Publish(publish)) => {
                Some((publish.topic.clone(), publish.payload.to_vec(), publish.retain))
            }
            _ => None,
        });
        message.await.expect("a message before the connection's end")
    }

    /// Waits for the connection's end.
    pub(crate) async fn end(&mut self) {
        assert_eq!(self.next(|_| None::<()>).await, None);
    }
}

pub(crate) fn connack(event: &Event) -> Option<ConnectReturnCode> {
    match event {
        Event::Incoming(Incoming::ConnAck(ack)) => Some(ack.code),
        _ => None,
    }
}

pub(crate) fn puback(event: &Event) -> Option<u16> {
    match event {
        Event::Incoming(Incoming::PubAck(ack)) => Some(ack.pkid),
        _ => None,
    }
}

pub(crate) fn will(topic: &str) -> LastWill {
    LastWill::new(topic, "offline", QoS::AtLeastOnce, true)
}
