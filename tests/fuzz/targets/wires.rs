//! Bytes on the server's own listeners: what only looks like HTTP or MQTT, from whoever gets a connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use super::{
    house::{Enrolled, House},
    telemetry,
};
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, form, make| Kind::new(name, form, Pace::Exchange, make).within(1536);
    vec![
        kind("console-wire", Form::Text, || Box::new(Wire::new(Door::Console))),
        kind("https-wire", Form::Text, || Box::new(Wire::new(Door::Https))),
        kind("mqtt-wire", Form::Binary, || Box::new(Wire::new(Door::Mqtt))),
    ]
}

/// What every connection must end within once nothing more is sent.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for a first answer to what may be waited for by the other side.
const MOMENT: Duration = Duration::from_millis(3);

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Console,
    Https,
    Mqtt,
}

/// Connections through one door, each with one input.
struct Wire {
    door: Door,
    house: House,
    device: Enrolled,
    seeds: Vec<(String, Vec<u8>)>,
}

impl Wire {
    fn new(door: Door) -> Self {
        let mut house = House::start();
        let device = house.enrol();
        let seeds = match door {
            Door::Console => requests("/", &[]),
            Door::Https => requests("/healthz", &["/tuf/metadata/timestamp.json"]),
            Door::Mqtt => packets(&device.name),
        };
        Self { door, house, device, seeds }
    }

    fn address(&self) -> SocketAddr {
        let addresses = self.house.server.addresses();
        match self.door {
            Door::Console => addresses.console.expect("a console"),
            Door::Https => addresses.https,
            Door::Mqtt => addresses.mqtt,
        }
    }

    /// How an answer to what was understood begins.
    fn welcome(&self) -> &'static [u8] {
        match self.door {
            Door::Mqtt => &[0x20, 2, 0, 0],
            Door::Console | Door::Https => b"HTTP/1.1 200",
        }
    }
}

impl Target for Wire {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        self.seeds.clone()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let device = (self.door != Door::Console).then_some(&self.device);
        let mut line = self.house.connect(self.address(), device);
        line.socket().set_nodelay(true).expect("a socket");
        line.socket().set_read_timeout(Some(PATIENCE)).expect("a socket");
        line.socket().set_write_timeout(Some(PATIENCE)).expect("a socket");
        // The other side may close before all was written.
        let _ = line.write_all(input).and_then(|()| line.flush());
        let is_sound = self.seeds.iter().any(|(_, seed)| seed == input);
        line.socket().set_read_timeout(Some(if is_sound { PATIENCE } else { MOMENT })).expect("a socket");
        let mut first = vec![0; self.welcome().len()];
        let answered = line.read_exact(&mut first).is_ok();
        line.finish();
        line.socket().set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut rest = Vec::new();
        let ended = line.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(!matches!(ended, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the connection is not let go");
        let (status, _) = self.house.ask(axum::http::Method::GET, "/readyz", Vec::new());
        assert!(status.is_success(), "the server is no longer well: {status}");
        Verdict::of(answered && first == self.welcome())
    }
}

fn requests(path: &str, more: &[&str]) -> Vec<(String, Vec<u8>)> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n"
    );
    let mut seeds = vec![
        ("get.http".to_owned(), get(path).into_bytes()),
        ("pipelined.http".to_owned(), get(path).repeat(3).into_bytes()),
        ("refused-chunked.http".to_owned(), chunked.into_bytes()),
    ];
    seeds.extend(more.iter().enumerate().map(|(number, path)| (format!("{number}.http"), get(path).into_bytes())));
    seeds
}

/// MQTT 3.1.1 packets of a device.
fn packets(device: &str) -> Vec<(String, Vec<u8>)> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let packet = |kind: u8, body: &[u8]| {
        let mut length = body.len();
        let mut bytes = vec![kind];
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        [&bytes[..], body].concat()
    };
    let topic = |channel: &str| text(&format!("tern/v1/f/{device}/{channel}"));
    let connect = packet(0x10, &[&text("MQTT")[..], &[4, 2, 0, 60], &text(device)].concat());
    let (_, offline) = telemetry::status().remove(0);
    let will = [&topic("status")[..], &text(&String::from_utf8_lossy(&offline))].concat();
    let with_will = packet(0x10, &[&text("MQTT")[..], &[4, 0x2e, 0, 60], &text(device), &will].concat());
    let subscribe = packet(0x82, &[&[0, 1][..], &topic("desired"), &[1], &topic("watermark"), &[1]].concat());
    let (_, twin) = telemetry::twin().remove(0);
    let (_, report) = telemetry::reports().remove(0);
    let publish = packet(0x33, &[&topic("twin")[..], &[0, 2], &twin].concat());
    let publish_report = packet(0x32, &[&topic("report")[..], &[0, 3], &report].concat());
    let (ping, disconnect) = (packet(0xc0, &[]), packet(0xe0, &[]));
    vec![
        ("connect.mqtt".into(), [&connect[..], &ping, &disconnect].concat()),
        ("session.mqtt".into(), [&connect[..], &subscribe, &publish, &publish_report, &ping, &disconnect].concat()),
        ("will.mqtt".into(), [&with_will[..], &ping].concat()),
    ]
}
