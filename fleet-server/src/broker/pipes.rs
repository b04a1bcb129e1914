//! Carries bytes between a TLS client and the core until one of them, or the table of links, ends it.
//!
//! Two separate pipes, not one bidirectional copy: that one waits for both sides, so a frozen client would keep its
//! task and socket for as long as it pleases. A slow core is waited for (it is withholding acknowledgements), a slow
//! client is not.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::links::Loopback;
use super::policy::End;

/// Bytes per direction and connection.
const BUFFER_BYTES: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Closed,
    Stalled,
}

/// Carries until the end and returns its reason. `stall` bounds each write to the client; `grace` bounds how long the
/// other direction may go on once one has ended.
pub(super) async fn splice(
    client: impl AsyncRead + AsyncWrite,
    core: Loopback,
    mut ending: watch::Receiver<Option<End>>,
    stall: Duration,
    grace: Duration,
) -> End {
    let (client_read, client_write) = tokio::io::split(client);
    let (core_read, core_write) = core.stream.into_split();
    let mut up = Box::pin(carry(client_read, core_write, None));
    let mut down = Box::pin(carry(core_read, client_write, Some(stall)));
    // Declared last and dropped while one direction still holds the port.
    let ticket = core.ticket;
    let asked_to_end = async {
        let reason = ending.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| *reason).unwrap_or(End::Stopping)
    };
    let end = tokio::select! {
        _ = &mut up => End::ClientClosed,
        stop = &mut down => match stop {
            Stop::Closed => End::BrokerClosed,
            Stop::Stalled => End::Stalled,
        },
        reason = asked_to_end => reason,
    };
    drop(ticket);
    match end {
        // Dropping `up` closes its writing side, so that the core finishes what it has received and then closes.
        End::ClientClosed | End::Stopping => {
            drop(up);
            _ = timeout(grace, down).await;
        }
        End::BrokerClosed => {
            drop(down);
            _ = timeout(grace, up).await;
        }
        End::TakenOver | End::Cut | End::Expired | End::Stalled => {}
    }
    end
}

/// Copies until the reader ends or the writer fails, then closes the writer's side.
///
/// Any read error is an end: clients that close without TLS's own close are common and not an alarm.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, stall: Option<Duration>) -> Stop {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let step = async {
            if read == 0 {
                _ = to.shutdown().await;
                return false;
            }
            to.write_all(&buffer[..read]).await.is_ok() && to.flush().await.is_ok()
        };
        let going_on = match stall {
            None => step.await,
            Some(stall) => match timeout(stall, step).await {
                Ok(going_on) => going_on,
                Err(_) => return Stop::Stalled,
            },
        };
        if !going_on {
            return Stop::Closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_stalls_ends_the_pipe() {
        let (mut source, from) = tokio::io::duplex(64);
        let (to, _never_read) = tokio::io::duplex(8);
        let carrying = tokio::spawn(carry(from, to, Some(Duration::from_millis(20))));
        source.write_all(&[7; 32]).await.unwrap();
        assert_eq!(carrying.await.unwrap(), Stop::Stalled);
    }

    #[tokio::test]
    async fn everything_is_carried_before_the_end() {
        let (mut source, from) = tokio::io::duplex(64);
        let (to, mut sink) = tokio::io::duplex(64);
        let carrying = tokio::spawn(carry(from, to, None));
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move { source.write_all(&copy).await.map(|()| drop(source)) });
        let mut received = Vec::new();
        sink.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(carrying.await.unwrap(), Stop::Closed);
        assert_eq!(received, sent);
    }
}
