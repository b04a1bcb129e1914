//! `control.sock`: one line in, one JSON document out. Its mode lets only the agent's own user ask.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
};

use super::Event;
use crate::rescue::{Answer, Request};

/// The question that is answered with a [`super::StatusPage`].
pub(crate) const STATUS: &str = "status";
/// The question for a rescue: alone for the nonce, or followed by a blank and the ticket in base64.
const RESCUE: &str = "rescue";
/// A ticket of the longest kind, in base64.
const LONGEST_QUESTION: u64 = 96 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
/// Askers at once; one more waits in the kernel's queue.
const ASKERS: usize = 8;

/// The line that asks the running agent.
pub(crate) fn rescue_line(request: &Request) -> String {
    match request {
        Request::Nonce => RESCUE.to_owned(),
        Request::Ticket(bytes) => format!("{RESCUE} {}", BASE64_STANDARD.encode(bytes)),
    }
}

fn rescue_request(line: &str) -> Option<Request> {
    let rest = line.strip_prefix(RESCUE)?;
    if rest.is_empty() {
        return Some(Request::Nonce);
    }
    BASE64_STANDARD.decode(rest.strip_prefix(' ')?).ok().map(Request::Ticket)
}

pub(super) async fn serve(listener: UnixListener, control: mpsc::Sender<Event>) {
    let seats = std::sync::Arc::new(Semaphore::new(ASKERS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for example: others will close theirs.
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let control = control.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(PATIENCE, answer(stream, &control)).await.is_err() {
                tracing::debug!("somebody asked on the control socket and did not listen");
            }
            drop(seat);
        });
    }
}

async fn answer(stream: UnixStream, control: &mpsc::Sender<Event>) {
    let (reader, mut writer) = stream.into_split();
    let mut question = String::new();
    if BufReader::new(reader.take(LONGEST_QUESTION)).read_line(&mut question).await.is_err() {
        return;
    }
    let question = question.trim();
    let (asked, told) = oneshot::channel();
    let event = match rescue_request(question) {
        Some(request) => Some(Event::Rescue(request, asked)),
        None if question == STATUS => Some(Event::Asked(asked)),
        None => None,
    };
    let reply = match event {
        Some(event) => {
            if control.send(event).await.is_err() {
                return;
            }
            told.await.unwrap_or_default()
        }
        None => serde_json::to_string(&Answer::Error("unknown question: ask for status or rescue".into()))
            .unwrap_or_default(),
    };
    // Who does not stay for the answer misses it.
    let _ = writer.write_all(format!("{reply}\n").as_bytes()).await;
    let _ = writer.shutdown().await;
}
