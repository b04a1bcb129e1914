//! The link against a broker of three packets, and its reset pattern.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use rumqttc::MqttOptions;

use super::{session::reset, *};

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
        let filters: Vec<_> = subscribe.filters.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(filters, ["tern/v1/f/d/desired", "tern/v1/f/d/watermark"]);
        let status: Status = serde_json::from_slice(&self.published("status").await).unwrap();
        assert!(status.online);
        self.send(|b| SubAck::new(subscribe.pkid, vec![code, code]).write(b)).await;
    }

    /// The next PUBLISH, acknowledged.
    async fn published(&mut self, below: &str) -> Bytes {
        let publish = self.received(below).await;
        self.acknowledge(publish.pkid).await;
        publish.payload
    }

    /// The next PUBLISH.
    async fn received(&mut self, below: &str) -> Publish {
        let Packet::Publish(publish) = self.next().await else { panic!("no PUBLISH") };
        let retained = below != "report";
        assert_eq!((publish.topic.as_str(), publish.retain), (format!("tern/v1/f/d/{below}").as_str(), retained));
        publish
    }

    async fn acknowledge(&mut self, packet: u16) {
        self.send(|b| PubAck::new(packet).write(b)).await;
    }
}

struct Rig {
    listener: TcpListener,
    twin: watch::Sender<Bytes>,
    figures: watch::Sender<Figures>,
    reports: mpsc::Sender<Ready>,
    events: mpsc::Receiver<Event>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn rig() -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (twin, twins) = watch::channel(Bytes::from_static(b"twin 1"));
    let (figures, shown) = watch::channel(Figures::new());
    let (reports, made) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    let (sender, events) = mpsc::channel(8);
    let options = Options {
        fleet: "f".parse().unwrap(),
        device: "d".parse().unwrap(),
        address: format!("127.0.0.1:{}", listener.local_addr().unwrap().port()),
        tls: None,
        reconnect_max: Duration::from_millis(20),
        status: status("boot", "0.1.0", Timestamp::UNIX_EPOCH),
        signs: Default::default(),
    };
    let link =
        Link { options, twin: twins, figures: shown, reports: made, events: sender, stop: stopped, beat: Beat::new() };
    Rig { listener, twin, figures, reports, events, stop, task: tokio::spawn(link.run()) }
}

#[tokio::test]
async fn each_session_subscribes_then_says_online_then_sends_the_twin() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
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
    assert_eq!(rig.events.recv().await, Some(Event::Session(2)));
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
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
}

#[tokio::test]
async fn desired_states_and_watermarks_are_handed_on_and_other_topics_are_not() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
    for (topic, payload) in [
        ("tern/v1/f/e/desired", "foreign"),
        ("tern/v1/f/d/desired", "mine"),
        ("tern/v1/f/e/watermark", "foreign"),
        ("tern/v1/f/d/watermark", "7"),
    ] {
        let mut publish = Publish::new(topic, rumqttc::mqttbytes::QoS::AtLeastOnce, payload);
        publish.pkid = 9;
        broker.send(|b| publish.write(b)).await;
    }
    assert_eq!(rig.events.recv().await, Some(Event::Desired(Bytes::from_static(b"mine"))));
    assert_eq!(rig.events.recv().await, Some(Event::Watermark(Bytes::from_static(b"7"))));
}

#[tokio::test]
async fn leaving_says_offline_waits_for_the_answer_and_disconnects() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
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

fn ready(session: u64, n: usize) -> Ready {
    Ready { session, payload: Bytes::from(format!("report {n}")) }
}

#[tokio::test]
async fn reports_fill_a_window_and_an_acknowledgement_frees_one_place() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
    broker.published("twin").await;
    let mut waiting = Vec::new();
    for n in 0..WINDOW {
        rig.reports.send(ready(1, n)).await.unwrap();
        let publish = broker.received("report").await;
        assert_eq!(publish.payload, format!("report {n}"));
        waiting.push(publish.pkid);
    }
    // One more lies in the channel, and there it stays: no place is free.
    rig.reports.send(ready(1, WINDOW)).await.unwrap();
    assert!(rig.reports.try_reserve().is_err());
    broker.acknowledge(waiting[2]).await;
    assert_eq!(broker.received("report").await.payload, format!("report {WINDOW}"));
    rig.reports.send(ready(1, WINDOW + 1)).await.unwrap();
    assert!(rig.reports.try_reserve().is_err(), "one acknowledgement is one place");
}

#[tokio::test]
async fn a_session_that_ends_mid_flight_frees_its_window_and_its_reports_are_of_no_other() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
    broker.published("twin").await;
    for n in 0..WINDOW {
        rig.reports.send(ready(1, n)).await.unwrap();
        broker.received("report").await;
    }
    rig.reports.send(ready(1, 99)).await.unwrap();
    drop(broker);
    assert!(matches!(rig.events.recv().await, Some(Event::Lost(_))));
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(2)));
    broker.published("twin").await;
    // What is left of the first session is dropped, and a whole window is free again.
    for n in 0..WINDOW {
        rig.reports.send(ready(2, n)).await.unwrap();
        assert_eq!(broker.received("report").await.payload, format!("report {n}"));
    }
}

#[tokio::test]
async fn a_second_acknowledgement_of_one_packet_ends_the_session_and_frees_nothing() {
    let mut rig = rig().await;
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
    broker.published("twin").await;
    rig.reports.send(ready(1, 0)).await.unwrap();
    let packet = broker.received("report").await.pkid;
    broker.acknowledge(packet).await;
    broker.acknowledge(packet).await;
    assert!(matches!(rig.events.recv().await, Some(Event::Lost(_))), "unsolicited: the client takes it for an error");
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(2)));
    broker.published("twin").await;
    rig.reports.send(ready(2, 1)).await.unwrap();
    assert_eq!(broker.received("report").await.payload, "report 1");
}

#[tokio::test]
async fn figures_go_out_on_change_again_in_each_session_and_are_cleared() {
    let topic = |below: &str| format!("tern/v1/f/d/m/{below}");
    let mut rig = rig().await;
    rig.figures.send_replace([(topic("a"), Bytes::from("1")), (topic("b"), Bytes::from("2"))].into());
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(1)));
    broker.published("twin").await;
    for (below, payload) in [("m/a", "1"), ("m/b", "2")] {
        let publish = broker.received(below).await;
        assert_eq!((publish.payload, publish.qos), (payload.into(), rumqttc::mqttbytes::QoS::AtMostOnce));
    }
    rig.figures.send_replace([(topic("a"), Bytes::from("1")), (topic("b"), Bytes::from("3"))].into());
    assert_eq!(broker.received("m/b").await.payload, "3", "only what changed");
    drop(broker);
    assert!(matches!(rig.events.recv().await, Some(Event::Lost(_))));
    rig.figures.send_replace([(topic("a"), Bytes::from("1"))].into());
    let mut broker = Broker::accept(&rig.listener).await;
    broker.opened().await;
    assert_eq!(rig.events.recv().await, Some(Event::Session(2)));
    broker.published("twin").await;
    assert_eq!(broker.received("m/b").await.payload, "", "gone meanwhile: cleared");
    assert_eq!(broker.received("m/a").await.payload, "1");
}
