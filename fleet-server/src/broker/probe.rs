//! A few packets of MQTT 3.1.1, enough for the self-test to act as a client on the loopback listener.
//!
//! It trusts nothing that it reads: packets above 64 KiB and every unexpected byte are errors.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of the packets that the self-test waits for.
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBACK: u8 = 0x90;

/// Largest packet that a probe reads.
const PACKET_BYTES: usize = 65_536;

pub(super) struct Probe<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Probe<S> {
    pub(super) fn new(stream: S) -> Probe<S> {
        Probe { stream }
    }

    /// Sends CONNECT and returns whether the answer was yes; a closed connection is a no.
    pub(super) async fn connect(&mut self, client: &str, will: Option<&str>) -> io::Result<bool> {
        let mut body = text("MQTT");
        // Level 4; clean session, and a will of QoS 1; keep-alive 60 s.
        body.extend([4, if will.is_some() { 0b0000_1110 } else { 0b0000_0010 }, 0, 60]);
        body.extend(text(client));
        if let Some(topic) = will {
            body.extend(text(topic));
            body.extend(text("self-test"));
        }
        if self.send(0x10, &body).await.is_err() {
            return Ok(false);
        }
        match self.receive().await? {
            None => Ok(false),
            Some((CONNACK, answer)) => Ok(answer.get(1) == Some(&0)),
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Sends SUBSCRIBE and returns whether the filter was granted.
    pub(super) async fn subscribe(&mut self, filter: &str) -> io::Result<bool> {
        let mut body = vec![0, 1];
        body.extend(text(filter));
        body.push(1);
        self.send(0x82, &body).await?;
        match self.receive().await? {
            Some((SUBACK, answer)) => Ok(answer.get(2).is_some_and(|granted| *granted < 0x80)),
            Some(other) => Err(unexpected(&other)),
            None => Ok(false),
        }
    }

    /// Sends PUBLISH with QoS 1 and returns whether anything but a closed connection came back.
    pub(super) async fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<bool> {
        let mut body = text(topic);
        body.extend([0, 2]);
        body.extend(payload);
        self.send(0x32, &body).await?;
        Ok(self.receive().await?.is_some())
    }

    /// Waits for the next PUBLISH of QoS 0 and returns its payload.
    pub(super) async fn delivered(&mut self) -> io::Result<Vec<u8>> {
        match self.receive().await? {
            Some((PUBLISH, body)) if body.len() >= 2 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                body.get(2 + topic..).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Some(other) => Err(unexpected(&other)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![first];
        let mut rest = body.len();
        loop {
            let low = (rest % 128) as u8;
            rest /= 128;
            packet.push(if rest > 0 { low | 0x80 } else { low });
            if rest == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet).await
    }

    /// Reads one packet as (first byte, body); `None` is a closed connection.
    async fn receive(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let first = match self.stream.read_u8().await {
            Ok(first) => first,
            Err(closed) if is_closed(&closed) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        if length > PACKET_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(Some((first, body)))
    }
}

fn is_closed(failure: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(failure.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn unexpected((first, _): &(u8, Vec<u8>)) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected MQTT packet {first:#04x}"))
}

/// A string with its length before it; the self-test's strings are short.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut field = length.to_be_bytes().to_vec();
    field.extend(&text.as_bytes()[..usize::from(length)]);
    field
}
