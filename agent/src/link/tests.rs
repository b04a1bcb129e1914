//! The link against a broker of three packets, and its reset pattern.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

#[test]
fn a_reset_forgets_everything_of_the_session() {
    let (client, mut event_loop) = AsyncClient::new(MqttOptions::new("d", "localhost", 1), 10);
    client.try_publish("a", QoS::AtLeastOnce, true, "queued").unwrap();
    let publish = Publish::new("a", QoS::AtLeastOnce, "collided");
    event_loop.state.collision = Some(publish.clone());
    event_loop.pending.push_back(rumqttc::Request::Publish(publish));
    event_loop.state.events.push_back(Polled::Outgoing(Outgoing::Publish(3)));
    reset(&mut event_loop);
    assert!(event_loop.pending.is_empty() && event_loop.state.events.is_empty());
    assert_eq!((&event_loop.state.collision, event_loop.state.inflight()), (&None, 0));
    // And nothing of the queue comes back.
    event_loop.clean();
    assert!(event_loop.pending.is_empty());
}

#[test]
fn packets_are_matched_in_order_and_repetitions_are_not_new() {
    let mut flight = Flight::default();
    flight.requested.extend([Published::Status, Published::Twin]);
    flight.sent(0);
    flight.sent(5);
    flight.sent(5);
    assert!(flight.holds(Published::Twin));
    flight.sent(6);
    assert_eq!(flight.acknowledged(6), Some(Published::Twin));
    assert_eq!(flight.acknowledged(6), None);
    assert!(!flight.holds(Published::Twin) && !flight.is_empty());
    flight.clear();
    assert!(flight.is_empty());
}

struct Broker {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Broker {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut broker = Self { stream, buffer: BytesMut::new() };
        let Packet::Connect(connect) = broker.next().await else { panic!("no CONNECT") };
        let will = connect.last_will.unwrap();
        assert_eq!((will.topic.as_str(), will.retain), ("tern/v1/f/d/status", true));
        let offline: Status = serde_json::from_slice(&will.message).unwrap();
        assert!(!offline.online && connect.clean_session);
        broker.send(|b| ConnAck::new(ConnectReturnCode::Success, false).write(b)).await;
        broker
    }

    async fn next(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.buffer, 1 << 20) {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "the device hung up");
        }
    }

    async fn send<E: std::fmt::Debug>(&mut self, write: impl FnOnce(&mut BytesMut) -> Result<usize, E>) {
        let mut bytes = BytesMut::new();
        write(&mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// SUBSCRIBE and the online status, both answered.
    async fn opened(&mut self) {
        self.subscribed(SubscribeReasonCode::Success(rumqttc::mqttbytes::QoS::AtLeastOnce)).await;
    }

    async fn subscribed(&mut self, code: SubscribeReasonCode) {
        let Packet::Subscribe(subscribe) = self.next().await else { panic!("no SUBSCRIBE first") };
        assert_eq!(subscribe.filters[0].path, "tern/v1/f/d/desired");
        let status: Status = serde_json::from_slice(&self.published("status").await).unwrap();
        assert!(status.online);
        self.send(|b| SubAck::new(subscribe.pkid, vec![code]).write(b)).await;
    }

    /// The next PUBLISH, acknowledged.
    async fn published(&mut self, below: &str) -> Bytes {
        let Packet::Publish(publish) = self.next().await else { panic!("no PUBLISH") };
        assert_eq!((publish.topic.as_str(), publish.retain), (format!("tern/v1/f/d/{below}").as_str(), true));
        self.send(|b| PubAck::new(publish.pkid).write(b)).await;
        publish.payload
    }
}

struct Rig {
    listener: TcpListener,
    twin: watch::Sender<Bytes>,
    events: mpsc::Receiver<Event>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn rig() -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (twin, twins) = watch::channel(Bytes::from_static(b"twin 1"));
    let (stop, stopped) = watch::channel(false);
    let (sender, events) = mpsc::channel(8);
    let options = Options {
        fleet: "f".parse().unwrap(),
        device: "d".parse().unwrap(),
        address: format!("127.0.0.1:{}", listener.local_addr().unwrap().port()),
        tls: None,
        reconnect_max: Duration::from_millis(20),
        status: status("boot", "0.1.0", Timestamp::UNIX_EPOCH),
    };
    let link = Link { options, twin: twins, events: sender, stop: stopped, beat: Beat::new() };
    Rig { listener, twin, events, stop, task: tokio::spawn(link.run()) }
}

#[tokio::test]
async fn each_session_subscribes_then_says_online_then_sends_the_twin() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session));
    assert_eq!(broker.published("twin").await, "twin 1");
    rig.twin.send_replace(Bytes::from_static(b"twin 2"));
    assert_eq!(broker.published("twin").await, "twin 2");
    // A session that breaks with a twin unacknowledged: the next one sends what is true then.
    rig.twin.send_replace(Bytes::from_static(b"twin 3"));
    let Packet::Publish(_) = broker.next().await else { panic!("no PUBLISH") };
    drop(broker);
    assert!(matches!(rig.events.recv().await, Some(Event::Lost(_))));
    rig.twin.send_replace(Bytes::from_static(b"twin 4"));
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session));
    assert_eq!(broker.published("twin").await, "twin 4");
}

#[tokio::test]
async fn a_refused_subscription_ends_the_session_and_the_next_begins() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.subscribed(SubscribeReasonCode::Failure).await;
    let event = tokio::time::timeout(Duration::from_secs(10), rig.events.recv()).await.unwrap();
    assert!(matches!(&event, Some(Event::Lost(why)) if why.contains("subscription")), "{event:?}");
    // The device hangs up, and says no goodbye: the last will is to go out.
    assert_eq!(broker.stream.read_buf(&mut broker.buffer).await.unwrap(), 0);
    assert!(Packet::read(&mut broker.buffer, 1 << 20).is_err());
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session));
}

#[tokio::test]
async fn a_desired_state_is_handed_on_and_other_topics_are_not() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session));
    for (topic, payload) in [("tern/v1/f/e/desired", "foreign"), ("tern/v1/f/d/desired", "mine")] {
        let mut publish = Publish::new(topic, rumqttc::mqttbytes::QoS::AtLeastOnce, payload);
        publish.pkid = 9;
        broker.send(|b| publish.write(b)).await;
    }
    assert_eq!(rig.events.recv().await, Some(Event::Desired(Bytes::from_static(b"mine"))));
}

#[tokio::test]
async fn leaving_says_offline_waits_for_the_answer_and_disconnects() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session));
    broker.published("twin").await;
    rig.stop.send_replace(true);
    let status: Status = serde_json::from_slice(&broker.published("status").await).unwrap();
    assert!(!status.online);
    assert!(matches!(broker.next().await, Packet::Disconnect));
    rig.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn leaving_without_a_session_does_not_wait() {
    let rig = rig().await;
    rig.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(2), rig.task).await.unwrap().unwrap().unwrap();
}
