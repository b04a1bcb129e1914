//! The embedded broker, by property: who gets in, what is refused and as what, when a publish is acknowledged, and how
//! connections end. Real MQTT clients over real TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a broken rig should fail loudly")]

#[path = "broker/house.rs"]
mod house;
#[path = "broker/pki.rs"]
mod pki;
#[path = "broker/rig.rs"]
mod rig;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use house::{DEADLINE, Event, Holes};
use pki::{Authority, Made};
use rcgen::ExtendedKeyUsagePurpose;
use rig::{Client, Rig, Unusual, eventually, puback, will};
use rumqttc::{ConnectReturnCode, Outgoing, QoS};
use tern_fleet_server::broker::{End, Limits, PublishError, Qos, Refusal, SelfTestStep, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// CONNECT of client `a`: MQTT 3.1.1, clean session, keep-alive 60 s.
const CONNECT_A: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";

fn unusual(limits: Limits) -> Unusual {
    Unusual { limits, ..Unusual::default() }
}

// Who gets in.

#[tokio::test]
async fn a_device_with_its_certificate_connects_and_is_acknowledged() {
    let rig = Rig::start().await;
    for (name, version) in [("a", &rustls::version::TLS13), ("b", &rustls::version::TLS12)] {
        let tls = rig.authority.client(Some(rig.authority.leaf(Made::client(name))), &[version]);
        let mut client = Client::connected(rig.options(name, tls)).await;
        assert!(client.acknowledged(&format!("t/{name}/report"), "1").await);
        let seen = rig.house.message(|seen| seen.client == name).await;
        assert_eq!(
            (seen.topic, seen.payload, seen.retain, seen.will),
            (format!("t/{name}/report"), b"1".to_vec(), false, false)
        );
    }
    assert_eq!(rig.refusals(), []);
    assert_eq!((rig.broker.handle().counters().admitted(), rig.broker.handle().counters().messages()), (2, 2));
}

#[tokio::test]
async fn another_client_id_or_user_name_than_the_certificate_is_refused() {
    let rig = Rig::start().await;
    let refused = Client::start(rig.options("b", rig.tls("a"))).refused().await;
    assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized));
    assert_eq!(rig.refusals(), [(Refusal::WrongClientId, 1)]);

    let mut options = rig.options("a", rig.tls("a"));
    options.set_credentials("b", "");
    assert_eq!(Client::start(options).refused().await, Some(ConnectReturnCode::NotAuthorized));
    assert_eq!(rig.refusals(), [(Refusal::WrongClientId, 1), (Refusal::WrongUserName, 1)]);
}

#[tokio::test]
async fn a_connection_that_could_be_dead_for_hours_is_refused() {
    let rig = Rig::start().await;
    for (count, seconds) in (1..).zip([0, 3_601]) {
        let mut options = rig.options("a", rig.tls("a"));
        options.set_keep_alive(Duration::from_secs(seconds));
        assert_eq!(Client::start(options).refused().await, Some(ConnectReturnCode::NotAuthorized));
        assert_eq!(rig.refusals(), [(Refusal::KeepAlive, count)]);
    }
}

#[tokio::test]
async fn every_wrong_certificate_is_refused_by_its_own_name() {
    let foreign = Authority::new();
    let cases = [
        (Refusal::NoCertificate, None),
        (Refusal::UntrustedCertificate, Some((true, Made::client("a")))),
        (Refusal::ExpiredCertificate, Some((false, Made { last_year: 2021, ..Made::client("a") }))),
        (
            Refusal::WrongPurpose,
            Some((false, Made { purpose: ExtendedKeyUsagePurpose::ServerAuth, ..Made::client("a") })),
        ),
        (Refusal::BadName, Some((false, Made::client("a/b")))),
    ];
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let rig = Rig::start().await;
        for (index, (refusal, made)) in cases.iter().enumerate() {
            let leaf =
                made.clone().map(|(is_foreign, made)| if is_foreign { &foreign } else { &rig.authority }.leaf(made));
            let tls = rig.authority.client(leaf, &[version]);
            assert_eq!(Client::start(rig.options("a", tls)).refused().await, None);
            eventually(|| rig.refused(*refusal) == 1).await;
            assert_eq!(rig.refusals().len(), index + 1, "{:?}", rig.refusals());
        }
        assert_eq!(rig.broker.handle().counters().admitted(), 0);
    }
}

#[tokio::test]
async fn what_is_not_tls_or_does_not_speak_is_refused() {
    let rig =
        Rig::unusual(unusual(Limits { handshake: Duration::from_millis(200), ..Limits::default() })).await.unwrap();
    let mut plain = TcpStream::connect(rig.broker.address()).await.unwrap();
    plain.write_all(CONNECT_A).await.unwrap();
    assert_eq!(rig.refusal().await, Refusal::Handshake);
    let mut silent = TcpStream::connect(rig.broker.address()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    rig.refusals_are(&[(Refusal::HandshakeTimeout, 1), (Refusal::Handshake, 1)]).await;
    eventually(|| rig.broker.handle().connections() == 0).await;
}

#[tokio::test]
async fn connections_are_limited_in_total_per_source_and_per_name() {
    let limits = Limits { connections: 2, connections_per_name: 1, ..Limits::default() };
    let rig = Rig::unusual(unusual(limits)).await.unwrap();
    let first = rig.client("a").await;
    assert_eq!(Client::start(rig.options("a", rig.tls("a"))).refused().await, None);
    rig.refusals_are(&[(Refusal::NameFull, 1)]).await;
    eventually(|| rig.broker.handle().connections() == 1).await;
    let _second = rig.client("b").await;
    assert_eq!(Client::start(rig.options("c", rig.tls("c"))).refused().await, None);
    rig.refusals_are(&[(Refusal::Full, 1), (Refusal::NameFull, 1)]).await;
    drop(first);
    eventually(|| rig.broker.handle().connections() == 1).await;
    rig.client("c").await;

    let rig = Rig::unusual(unusual(Limits { connections_per_source: 1, ..Limits::default() })).await.unwrap();
    let _first = rig.client("a").await;
    assert_eq!(Client::start(rig.options("b", rig.tls("b"))).refused().await, None);
    rig.refusals_are(&[(Refusal::SourceFull, 1)]).await;
}

#[tokio::test]
async fn a_reload_changes_the_next_handshake_and_leaves_live_connections() {
    let rig = Rig::start().await;
    let mut live = rig.client("a").await;
    let newer = Authority::new();
    rig.broker.handle().reload(&newer.server());
    let tls = newer.client(Some(newer.leaf(Made::client("b"))), rustls::ALL_VERSIONS);
    let mut after = Client::connected(rig.options("b", tls)).await;
    assert!(after.acknowledged("t/b/report", "1").await && live.acknowledged("t/a/report", "1").await);
    // Trusts the new server but holds a certificate of the old authority.
    let tls = newer.client(Some(rig.authority.leaf(Made::client("c"))), rustls::ALL_VERSIONS);
    assert_eq!(Client::start(rig.options("c", tls)).refused().await, None);
    assert_eq!(rig.refusal().await, Refusal::UntrustedCertificate);
}

#[tokio::test]
async fn no_tls_session_is_resumed() {
    // A resumed session would skip the dates of the client certificate.
    let rig = Rig::start().await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = Arc::new(rig.authority.client(Some(rig.authority.leaf(Made::client("a"))), &[version]));
        for _ in 0..3 {
            let mut tls = rig.raw_with(config.clone()).await;
            tls.write_all(CONNECT_A).await.unwrap();
            tls.read_exact(&mut [0; 4]).await.unwrap();
            assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

// What a client may do.

#[tokio::test]
async fn foreign_publishes_are_not_acknowledged_nor_routed() {
    let rig = Rig::start().await;
    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("#").await);
    for (count, topic) in (1..).zip(["t/b/report", "t/ab/report", "t/a", "x", "$SYS/x", "$share/g/t/a/x"]) {
        let mut client = rig.client("a").await;
        assert!(!client.acknowledged(topic, "foreign").await, "{topic}");
        assert_eq!(rig.refusals(), [(Refusal::Publish, count)], "{topic}");
    }
    let mut client = rig.client("a").await;
    assert!(client.acknowledged("t/a/report", "own").await);
    assert_eq!(watcher.message().await, ("t/a/report".into(), b"own".to_vec(), false));
    assert_eq!(rig.house.messages().len(), 1);
}

#[tokio::test]
async fn foreign_subscribes_are_refused() {
    let rig = Rig::start().await;
    let mut client = rig.client("a").await;
    let foreign =
        ["t/b/desired", "t/+/desired", "t/#", "#", "+/a/desired", "$SYS/#", "$share/g/t/a/desired", "$share/g/#"];
    for (count, filter) in (1..).zip(foreign) {
        assert!(!client.subscribe(filter).await, "{filter}");
        assert_eq!(rig.refusals(), [(Refusal::Subscribe, count)], "{filter}");
    }
    assert!(client.subscribe("t/a/desired").await);
    let handle = rig.broker.handle();
    handle.publish_local("t/b/desired", "not for a", Qos::AtLeastOnce, false).await.unwrap();
    handle.publish_local("t/a/desired", "for a", Qos::AtLeastOnce, false).await.unwrap();
    assert_eq!(client.message().await, ("t/a/desired".into(), b"for a".to_vec(), false));
}

#[tokio::test]
async fn a_foreign_will_is_refused_and_an_own_one_published() {
    let rig = Rig::start().await;
    for (count, topic) in (1..).zip(["t/b/status", "t/a/report", "$SYS/x", "t/a/status?x=1"]) {
        let mut options = rig.options("a", rig.tls("a"));
        options.set_last_will(will(topic));
        assert_eq!(Client::start(options).refused().await, Some(ConnectReturnCode::NotAuthorized), "{topic}");
        assert_eq!(rig.refusals(), [(Refusal::Will, count)], "{topic}");
    }
    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("t/+/status").await);
    let mut options = rig.options("a", rig.tls("a"));
    options.set_last_will(will("t/a/status"));
    drop(Client::connected(options.clone()).await);
    assert_eq!(watcher.message().await, ("t/a/status".into(), b"offline".to_vec(), false));
    let seen = rig.house.message(|seen| seen.will).await;
    assert_eq!((seen.client.as_str(), seen.topic.as_str(), seen.retain), ("a", "t/a/status", true));

    // A DISCONNECT takes the will back.
    let mut polite = Client::connected(options).await;
    polite.mqtt.disconnect().await.unwrap();
    polite.next(|event| (*event == rumqttc::Event::Outgoing(Outgoing::Disconnect)).then_some(())).await.unwrap();
    drop(polite);
    eventually(|| rig.broker.handle().live("a") == 0).await;
    assert_eq!(rig.house.messages().len(), 1);
}

#[tokio::test]
async fn mqtt_5_is_held_to_the_same_rules() {
    use rumqttc::v5::mqttbytes::QoS as QoS5;
    use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode as Connack5, Packet, SubscribeReasonCode as Suback5};
    use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};

    async fn packet(event_loop: &mut EventLoop) -> Result<Packet, ConnectionError> {
        let polling = async {
            loop {
                match event_loop.poll().await {
                    Ok(Event::Incoming(packet)) => return Ok(packet),
                    Ok(Event::Outgoing(_)) => {}
                    Err(end) => return Err(end),
                }
            }
        };
        tokio::time::timeout(DEADLINE, polling).await.expect("a packet before the deadline")
    }

    let rig = Rig::start().await;
    let options = |id: &str| {
        let mut options = MqttOptions::new(id, "127.0.0.1", rig.broker.address().port());
        options.set_transport(rumqttc::Transport::tls_with_config(rig.tls("a").into()));
        options
    };
    let (_client, mut event_loop) = AsyncClient::new(options("b"), 8);
    let refused = packet(&mut event_loop).await;
    assert!(matches!(refused, Err(ConnectionError::ConnectionRefused(Connack5::NotAuthorized))), "{refused:?}");

    let (client, mut event_loop) = AsyncClient::new(options("a"), 8);
    assert!(matches!(packet(&mut event_loop).await, Ok(Packet::ConnAck(_))));
    client.subscribe("t/b/#", QoS5::AtLeastOnce).await.unwrap();
    let Ok(Packet::SubAck(ack)) = packet(&mut event_loop).await else { panic!("no SUBACK") };
    assert_eq!(ack.return_codes, [Suback5::NotAuthorized]);
    client.publish("t/a/report", QoS5::AtLeastOnce, false, "1").await.unwrap();
    assert!(matches!(packet(&mut event_loop).await, Ok(Packet::PubAck(_))));
    client.publish("t/b/report", QoS5::AtLeastOnce, false, "1").await.unwrap();
    let answer = packet(&mut event_loop).await;
    assert!(!matches!(answer, Ok(Packet::PubAck(_))), "{answer:?}");
    assert_eq!(rig.refusals(), [(Refusal::WrongClientId, 1), (Refusal::Publish, 1), (Refusal::Subscribe, 1)]);
}

// When a publish is acknowledged.

#[tokio::test]
async fn the_acknowledgement_waits_for_the_policy_and_holds_back_nobody_else() {
    let rig = Rig::start().await;
    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("#").await);
    let mut slow = rig.client("a").await;
    slow.publish("t/a/slow", "1", false).await;
    rig.house.slow_arrived().await;
    // A whole round of another client, delivery included, passes while the first one waits.
    let mut quick = rig.client("b").await;
    assert!(quick.acknowledged("t/b/report", "2").await);
    assert_eq!(watcher.message().await.0, "t/b/report");
    while let Ok(event) = slow.events.try_recv() {
        assert_eq!(puback(&event.unwrap()), None, "acknowledged before the commit");
    }
    rig.house.release();
    assert!(slow.next(puback).await.is_some());
    assert_eq!(watcher.message().await.0, "t/a/slow");
}

#[tokio::test]
async fn a_rejected_publish_is_not_acknowledged_and_drops_the_connection() {
    let rig = Rig::start().await;
    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("#").await);
    let mut client = rig.client("a").await;
    assert!(!client.acknowledged("t/a/bad", "1").await);
    assert_eq!(rig.refusals(), [(Refusal::Rejected, 1)]);
    rig.broker.handle().publish_local("t/x", "marker", Qos::AtLeastOnce, false).await.unwrap();
    assert_eq!(watcher.message().await.1, b"marker");
    assert_eq!(rig.broker.handle().counters().messages(), 0);
}

#[tokio::test]
async fn a_message_that_cannot_be_taken_now_is_taken_later_on_the_same_connection() {
    let rig = Rig::start().await;
    let mut client = rig.client("a").await;
    for (topic, arrived) in [("t/a/full", 3), ("t/a/flood", 6)] {
        rig.house.hold();
        client.publish(topic, "1", false).await;
        rig.house.arrived(arrived).await;
        while let Ok(event) = client.events.try_recv() {
            assert_eq!(puback(&event.unwrap()), None, "acknowledged before it was taken");
        }
        rig.house.release();
        assert!(client.next(puback).await.is_some());
    }
    assert_eq!(rig.house.messages().len(), 2);
    assert_eq!(rig.refusals(), []);
}

#[tokio::test]
async fn waiting_to_be_taken_ends_with_the_connection() {
    let rig = Rig::start().await;
    let client = rig.client("a").await;
    client.publish("t/a/full", "1", false).await;
    rig.house.arrived(2).await;
    assert_eq!(rig.broker.handle().cut("a"), 1);
    // Well before the last attempt.
    let given_up = rig.refusals_are(&[(Refusal::Rejected, 1)]);
    tokio::time::timeout(Duration::from_secs(10), given_up).await.expect("given up with the connection");
}

#[tokio::test]
async fn a_packet_above_the_limit_drops_the_connection() {
    let rig = Rig::start().await;
    let mut client = rig.client("a").await;
    assert!(client.acknowledged("t/a/report", vec![7; 1_000_000]).await);
    assert!(!client.acknowledged("t/a/report", vec![7; 1_100_000]).await);
    assert_eq!(rig.refusal().await, Refusal::Oversize);
    assert_eq!((rig.house.messages().len(), rig.broker.handle().counters().bytes()), (1, 1_000_000));
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_drop_the_connection() {
    let rig = Rig::start().await;
    let unknown_protocol = b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x3c\x00\x01a";
    let reserved_packet = [CONNECT_A, &b"\xff\x00"[..]].concat();
    let endless_length = [CONNECT_A, &b"\x30\xff\xff\xff\xff\xff"[..]].concat();
    let topic_is_not_text = [CONNECT_A, &b"\x30\x04\x00\x02\xff\xff"[..]].concat();
    let garbage = [&unknown_protocol[..], &reserved_packet, &endless_length, &topic_is_not_text];
    for (count, bytes) in (1..).zip(garbage) {
        let mut tls = rig.raw("a").await;
        tls.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        _ = tokio::time::timeout(DEADLINE, tls.read_to_end(&mut answer)).await.expect("dropped before the deadline");
        drop(tls);
        eventually(|| rig.refused(Refusal::Malformed) == count).await;
    }
    rig.refusals_are(&[(Refusal::Malformed, 4)]).await;
    assert!(rig.client("b").await.acknowledged("t/b/report", "1").await);
}

// How connections end.

#[tokio::test]
async fn a_cut_ends_the_live_session_at_once_and_a_revoked_client_stays_out() {
    let rig = Rig::start().await;
    let mut options = rig.options("a", rig.tls("a"));
    options.set_last_will(will("t/a/status"));
    let mut client = Client::connected(options.clone()).await;
    let mut other = rig.client("b").await;
    rig.house.revoke("a");
    assert_eq!(rig.broker.handle().cut("a"), 1);
    tokio::time::timeout(Duration::from_secs(1), client.end()).await.expect("cut within a second");
    assert!(matches!(
        rig.house.event(|event| matches!(event, Event::Disconnected(1, _))).await,
        Event::Disconnected(1, End::Cut)
    ));
    rig.house.message(|seen| seen.will && seen.client == "a").await;
    assert_eq!(Client::start(options).refused().await, Some(ConnectReturnCode::NotAuthorized));
    assert_eq!(rig.refusals(), [(Refusal::Denied, 1)]);
    assert!(other.acknowledged("t/b/report", "1").await);
    eventually(|| rig.broker.handle().live("a") == 0).await;
    assert_eq!(rig.broker.handle().cut("a"), 0);
}

#[tokio::test]
async fn a_live_connection_ends_with_its_certificate() {
    let rig = Rig::start().await;
    let leaf = rig.authority.leaf(Made { last_year: 2080, ..Made::client("a") });
    let mut ends = Client::connected(rig.options("a", rig.tls_of(Some(leaf)))).await;
    let mut stays = rig.client("b").await;
    // 2085 by the broker's clock.
    rig.now.store(3_629_000_000, Ordering::Relaxed);
    ends.end().await;
    rig.house.event(|event| *event == Event::Disconnected(1, End::Expired)).await;
    assert!(stays.acknowledged("t/b/report", "1").await);
}

#[tokio::test]
async fn the_newer_connection_of_a_client_takes_over_without_the_older_ones_will() {
    let rig = Rig::start().await;
    let mut options = rig.options("a", rig.tls("a"));
    options.set_last_will(will("t/a/status"));
    let mut older = Client::connected(options.clone()).await;
    let mut newer = Client::connected(options).await;
    older.end().await;
    assert!(newer.acknowledged("t/a/report", "1").await);
    eventually(|| rig.broker.handle().counters().wills_superseded() == 1).await;
    let Event::Connected(first, _) = rig.house.event(|event| matches!(event, Event::Connected(..))).await else {
        unreachable!()
    };
    rig.house.event(|event| *event == Event::Disconnected(first, End::TakenOver)).await;
    assert_eq!(rig.house.messages().iter().filter(|seen| seen.will).count(), 0);
    assert_eq!((rig.broker.handle().live("a"), rig.refusals().len()), (1, 0));
}

#[tokio::test]
async fn a_frozen_client_leaves_nothing_behind() {
    let rig = Rig::unusual(unusual(Limits { grace: Duration::from_millis(100), ..Limits::default() })).await.unwrap();
    let mut frozen = rig.raw("a").await;
    // Keep-alive 1 s, then not a byte more, not even a close.
    frozen.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x01\x00\x01a").await.unwrap();
    rig.house.event(|event| *event == Event::Disconnected(1, End::BrokerClosed)).await;
    eventually(|| rig.broker.handle().connections() == 0).await;
    drop(frozen);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let rig = Rig::unusual(unusual(Limits { stall: Duration::from_millis(200), ..Limits::default() })).await.unwrap();
    let mut deaf = rig.raw("a").await;
    deaf.write_all(CONNECT_A).await.unwrap();
    deaf.write_all(b"\x82\x0a\x00\x01\x00\x05t/a/x\x00").await.unwrap();
    deaf.read_exact(&mut [0; 4 + 5]).await.unwrap();
    for _ in 0..64 {
        rig.broker.handle().publish_local("t/a/x", vec![7; 1 << 19], Qos::AtMostOnce, false).await.unwrap();
    }
    let ended = rig.house.event(|event| matches!(event, Event::Disconnected(..))).await;
    // Both watch: the front's write to the client, and the core's write to the front.
    assert!(matches!(ended, Event::Disconnected(1, End::Stalled | End::BrokerClosed)), "{ended:?}");
    eventually(|| rig.broker.handle().connections() == 0).await;
    drop(deaf);
}

#[tokio::test]
async fn a_shutdown_acknowledges_what_was_committed_and_frees_the_port() {
    let rig = Rig::start().await;
    let port = rig.broker.address().port();
    let handle = rig.broker.handle();
    // Raw, since `rumqttc` drops an acknowledgement that arrives together with the close.
    let mut client = rig.raw("a").await;
    client.write_all(CONNECT_A).await.unwrap();
    client.write_all(b"\x32\x0d\x00\x08t/a/slow\x00\x091").await.unwrap();
    rig.house.slow_arrived().await;
    let house = rig.house.clone();
    let stopping = tokio::spawn(rig.broker.shutdown());
    eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    house.release();
    let mut answers = Vec::new();
    tokio::time::timeout(DEADLINE, client.read_to_end(&mut answers)).await.expect("closed in time").unwrap();
    assert_eq!(answers, b"\x20\x02\x00\x00\x40\x02\x00\x09", "CONNACK, PUBACK, then TLS's own close");
    stopping.await.unwrap();
    house.event(|event| *event == Event::Disconnected(1, End::Stopping)).await;
    let late = handle.publish_local("t/x", "late", Qos::AtLeastOnce, false).await;
    assert!(matches!(late, Err(PublishError::Stopped)), "{late:?}");
    Rig::unusual(Unusual { port, ..Unusual::default() }).await.unwrap();
}

// Retained messages.

#[tokio::test]
async fn a_late_subscriber_gets_every_retained_message() {
    let first = (0..600).map(|n| (format!("t/d{n}/twin"), format!("{n}").into())).collect();
    let rig = Rig::unusual(Unusual { retained: first, ..Unusual::default() }).await.unwrap();
    let handle = rig.broker.handle();
    for n in 600..1_199 {
        handle.publish_local(format!("t/d{n}/twin"), format!("{n}"), Qos::AtLeastOnce, true).await.unwrap();
    }
    // Cleared again by an empty payload, in the process and by a client.
    handle.publish_local("t/d7/twin", "", Qos::AtLeastOnce, true).await.unwrap();
    let mut device = rig.client("d8").await;
    for payload in ["", "by its device"] {
        device.publish("t/d8/twin", payload, true).await;
        assert!(device.next(puback).await.is_some());
    }
    let mut device = rig.client("d1199").await;
    device.publish("t/d1199/twin", "1199", true).await;
    assert!(device.next(puback).await.is_some());

    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("t/+/twin").await);
    let mut topics = HashSet::new();
    while topics.len() < 1_199 {
        let (topic, payload, retain) = watcher.message().await;
        let expected = match topic.as_str() {
            "t/d8/twin" => "by its device".to_owned(),
            other => other.trim_start_matches("t/d").trim_end_matches("/twin").to_owned(),
        };
        assert_eq!((payload, retain), (expected.into_bytes(), true), "{topic}");
        assert!(topics.insert(topic));
    }
    assert!(!topics.contains("t/d7/twin"));
    assert_eq!((handle.counters().dropped(), handle.counters().retained_over_limit()), (0, 0));
}

#[tokio::test]
async fn retained_topics_are_bounded_but_known_ones_still_change() {
    let rig = Rig::unusual(unusual(Limits { retained_topics: 2, ..Limits::default() })).await.unwrap();
    let handle = rig.broker.handle();
    for (topic, payload) in [("t/a", "1"), ("t/b", "1"), ("t/c", "1"), ("t/b", "2")] {
        handle.publish_local(topic, payload, Qos::AtLeastOnce, true).await.unwrap();
    }
    assert_eq!(handle.counters().retained_over_limit(), 1);
    let mut watcher = rig.client("watcher").await;
    assert!(watcher.subscribe("t/+").await);
    let kept: HashSet<_> = [watcher.message().await, watcher.message().await].into();
    assert_eq!(kept, HashSet::from([("t/a".into(), b"1".to_vec(), true), ("t/b".into(), b"2".to_vec(), true)]));
}

#[tokio::test]
async fn a_persistent_session_keeps_what_came_while_its_client_was_away() {
    let rig = Rig::start().await;
    let mut options = rig.options("a", rig.tls("a"));
    options.set_clean_session(false);
    let mut client = Client::connected(options.clone()).await;
    assert!(client.subscribe("t/a/desired").await);
    drop(client);
    eventually(|| rig.broker.handle().live("a") == 0).await;
    rig.broker.handle().publish_local("t/a/desired", "2", Qos::AtLeastOnce, false).await.unwrap();
    let mut client = Client::connected(options).await;
    assert_eq!(client.message().await.1, b"2");
}

#[tokio::test]
async fn a_local_publish_needs_a_topic() {
    let rig = Rig::start().await;
    for topic in ["", "t/+", "#", "$SYS/x"] {
        let refused = rig.broker.handle().publish_local(topic, "x", Qos::AtMostOnce, false).await;
        assert!(matches!(refused, Err(PublishError::Topic(_))), "{topic:?}: {refused:?}");
    }
    let mut client = rig.client("a").await;
    client.mqtt.subscribe("t/a/x", QoS::AtMostOnce).await.unwrap();
    assert!(client.acknowledged("t/a/y", "1").await);
    rig.broker.handle().publish_local("t/a/x", "x", Qos::AtMostOnce, false).await.unwrap();
    assert_eq!(client.message().await.1, b"x");
}

// The self-test.

#[tokio::test]
async fn a_hole_in_the_policy_keeps_the_front_closed() {
    let cases = [
        (Holes { will: true, ..Holes::default() }, SelfTestStep::ForeignWill),
        (Holes { subscribe: true, ..Holes::default() }, SelfTestStep::ForeignSubscribe),
        (Holes { publish: true, ..Holes::default() }, SelfTestStep::ForeignPublish),
    ];
    for (holes, expected) in cases {
        let started = Rig::unusual(Unusual { holes, ..Unusual::default() }).await;
        let Err(StartError::SelfTest { which }) = started.map(|_| ()) else { panic!("{expected:?} was not seen") };
        assert_eq!(which, expected);
    }
}

#[tokio::test]
async fn a_taken_address_is_said() {
    let rig = Rig::start().await;
    let port = rig.broker.address().port();
    let second = Rig::unusual(Unusual { port, ..Unusual::default() }).await;
    assert!(matches!(second.map(|_| ()), Err(StartError::Bind { address, .. }) if address.port() == port));
}
