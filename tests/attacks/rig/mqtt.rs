//! The attacker's MQTT: a peer of one device, the few packets of 3.1.1 that the agent speaks, by hand.
//!
//! It keeps what the device says, acknowledges everything, and sends as `desired` whatever bytes a test wants.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use tern_protocol::{
    report::{self, v1::Item},
    watermark::Watermark,
};

use super::listener::{Stream, accept};

/// How long a read waits before the peer looks whether there is something to send.
const TURN: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    outgoing: Mutex<VecDeque<(String, Vec<u8>)>>,
    twin: Mutex<Vec<u8>>,
    items: Mutex<Vec<Item>>,
    /// Reports that no reader of the protocol can read.
    unreadable: AtomicU64,
    stop: AtomicBool,
}

/// The listener; it ends with the value.
pub(crate) struct Mqtt {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Mqtt {
    pub(crate) fn start(listen: SocketAddr, tls: Arc<ServerConfig>) -> Self {
        let state = Arc::<State>::default();
        let (stop, serving) = (state.clone(), state.clone());
        let is_over = move || stop.stop.load(Ordering::Relaxed);
        // A session that breaks is over; the device makes another.
        let address = accept(listen, tls, is_over, move |stream| drop(Peer::new(stream, serving.clone()).run()));
        Self { address, state }
    }

    /// Sends these bytes on a topic below the device's name.
    pub(crate) fn send(&self, channel: &str, payload: Vec<u8>) {
        self.state.outgoing.lock().unwrap().push_back((channel.to_owned(), payload));
    }

    /// The newest twin, as it came.
    pub(crate) fn twin(&self) -> Vec<u8> {
        self.state.twin.lock().unwrap().clone()
    }

    /// Everything reported so far.
    pub(crate) fn items(&self) -> Vec<Item> {
        assert_eq!(self.state.unreadable.load(Ordering::Relaxed), 0, "a device sends reports that can be read");
        self.state.items.lock().unwrap().clone()
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Wakes the listener; it fails only where that is gone.
        let _ = TcpStream::connect(self.address);
    }
}

struct Peer {
    stream: Stream,
    state: Arc<State>,
    incoming: Vec<u8>,
    /// What stands before the channel in the device's own topics, once it has subscribed.
    prefix: Option<String>,
    packet: u16,
}

impl Peer {
    fn new(stream: Stream, state: Arc<State>) -> Self {
        Self { stream, state, incoming: Vec::new(), prefix: None, packet: 0 }
    }

    fn run(mut self) -> std::io::Result<()> {
        self.stream.sock.set_read_timeout(Some(TURN))?;
        while !self.state.stop.load(Ordering::Relaxed) {
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => self.incoming.extend_from_slice(&bytes[..n]),
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
            while let Some((head, body)) = self.packet() {
                self.take(head, &body)?;
            }
            while let Some(prefix) = self.prefix.clone() {
                let Some((channel, payload)) = self.state.outgoing.lock().unwrap().pop_front() else { break };
                self.publish(&format!("{prefix}{channel}"), &payload)?;
            }
        }
        Ok(())
    }

    /// The next whole packet: its first byte and its body.
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut length, mut at) = (0, 1);
        loop {
            let byte = *self.incoming.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.incoming.len() < at + length {
            return None;
        }
        let body = self.incoming[at..at + length].to_vec();
        let head = self.incoming[0];
        self.incoming.drain(..at + length);
        Some((head, body))
    }

    fn take(&mut self, head: u8, body: &[u8]) -> std::io::Result<()> {
        match head >> 4 {
            // CONNECT, answered by CONNACK: a new session.
            1 => self.write(0x20, &[0, 0]),
            // SUBSCRIBE: every filter is granted at QoS 1.
            8 => {
                let (mut at, mut granted) = (2, body[..2].to_vec());
                while at < body.len() {
                    let filter = text(body, &mut at);
                    at += 1;
                    granted.push(1);
                    self.prefix = filter.strip_suffix("desired").map(str::to_owned).or(self.prefix.take());
                }
                self.write(0x90, &granted)
            }
            // PUBLISH.
            3 => {
                let mut at = 0;
                let topic = text(body, &mut at);
                if head & 0b110 != 0 {
                    let packet = body[at..at + 2].to_vec();
                    at += 2;
                    self.write(0x40, &packet)?;
                }
                self.said(&topic, &body[at..])
            }
            // PINGREQ.
            12 => self.write(0xd0, &[]),
            // DISCONNECT.
            14 => Err(ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn said(&mut self, topic: &str, payload: &[u8]) -> std::io::Result<()> {
        if topic.ends_with("/twin") {
            *self.state.twin.lock().unwrap() = payload.to_vec();
        } else if let Some(device) = topic.strip_suffix("report") {
            let Ok(report) = report::decode(payload) else {
                self.state.unreadable.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            let sequence = report.rows.iter().map(|row| row.sequence).max().unwrap_or(0);
            let mark = Watermark { stream: report.stream, sequence, reads: report::NEWEST };
            self.state.items.lock().unwrap().extend(report.rows.into_iter().map(|row| row.item));
            let mark = serde_json::to_vec(&mark).expect("invariant: a watermark is JSON");
            self.publish(&format!("{device}watermark"), &mark)?;
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) -> std::io::Result<()> {
        self.packet = self.packet.checked_add(1).unwrap_or(1);
        let length = u16::try_from(topic.len()).expect("invariant: topics are short").to_be_bytes();
        let body = [&length[..], topic.as_bytes(), &self.packet.to_be_bytes(), payload].concat();
        self.write(0x32, &body)
    }

    fn write(&mut self, head: u8, body: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&packet(head, body))?;
        self.stream.flush()
    }
}

/// A packet: its first byte, the length of its body, its body.
pub(crate) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(body: &[u8], at: &mut usize) -> String {
    let length = usize::from(u16::from_be_bytes([body[*at], body[*at + 1]]));
    let text = String::from_utf8_lossy(&body[*at + 2..*at + 2 + length]).into_owned();
    *at += 2 + length;
    text
}
