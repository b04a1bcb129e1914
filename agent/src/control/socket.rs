//! `control.sock`: one line in, one JSON document out. Its mode lets only the agent's own user ask.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
};

use super::Event;

/// The question that is answered with a [`super::StatusPage`].
pub(crate) const STATUS: &str = "status";
const LONGEST_QUESTION: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(5);
/// Askers at once; one more waits in the kernel's queue.
const ASKERS: usize = 8;

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
    let reply = if question.trim() == STATUS {
        let (asked, told) = oneshot::channel();
        if control.send(Event::Asked(asked)).await.is_err() {
            return;
        }
        told.await.unwrap_or_default()
    } else {
        r#"{"error":"unknown question: ask for status"}"#.into()
    };
    // Who does not stay for the answer misses it.
    let _ = writer.write_all(format!("{reply}\n").as_bytes()).await;
    let _ = writer.shutdown().await;
}
