//! How the agent leaves, in order: systemd is told, what is under way is dropped, the link says goodbye, the worker ends its
//! requests and says what they counted, the outbox records it, sockets go.

use std::{path::PathBuf, time::Duration};

use tokio::signal::unix::Signal;

use super::{Control, Event, Wires, worker::WORKER_GRACE};
use crate::{notify, supervisor::WorkerEvent};

/// Longest time from a signal to the end.
const GRACE: Duration = Duration::from_secs(30);

impl Control {
    pub(super) async fn leave(mut self, wires: Wires, link_ended: bool) {
        notify::stopping();
        tracing::info!("leaving");
        let effects: Vec<_> = self.machines.iter_mut().map(|(name, m)| (name.clone(), m.leave())).collect();
        for (name, effects) in effects {
            // What cannot be recorded any more counts as a cut, which is the safe side.
            let _ = self.carry_out(&name, effects).await;
        }
        let Wires { mut events, link_events, stop_link, link, feeder, socket, keeper } = wires;
        let all = async {
            for task in std::mem::take(&mut self.running).into_values() {
                task.abort();
            }
            socket.abort();
            keeper.abort();
            stop_link.send_replace(true);
            // Events that the link still has are not needed, but it must not wait for somebody to take them.
            drop(link_events);
            if !link_ended && let Err(error) = link.await {
                tracing::warn!(%error, "the link's task");
            }
            feeder.abort();
            if let Some(worker) = self.worker.handle() {
                let stopped = tokio::time::timeout(WORKER_GRACE, worker.stop()).await;
                if stopped.is_err() {
                    tracing::warn!("the worker did not end its requests in time");
                }
            }
            let forwarding = self.worker.forwarding();
            let last_words = async {
                if let Some(forwarding) = forwarding {
                    // Ends with the worker; a panic of it loses words, and nothing else.
                    let _ = forwarding.await;
                }
            };
            tokio::pin!(last_words);
            // The queue is bounded: it is emptied while the last words come.
            loop {
                tokio::select! {
                    Some(event) = events.recv() => self.last_word(event).await,
                    () = &mut last_words => break,
                }
            }
            while let Ok(event) = events.try_recv() {
                self.last_word(event).await;
            }
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("gave up waiting after {} s", GRACE.as_secs());
        }
        self.close_telemetry().await;
        let files: [PathBuf; 2] = [self.config.infer_socket(), self.config.control_socket()];
        for path in files.into_iter().chain(self.config.ready_file.clone()) {
            // Gone already is as good; whoever starts next replaces a socket that is left.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Of what comes after the end only counts still matter.
    async fn last_word(&mut self, event: Event) {
        if let Event::Worker(WorkerEvent::Increment(increment)) = event {
            self.count_only(&increment).await;
        }
    }
}

pub(super) fn link_failure(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the link ended unasked"),
        Ok(Err(error)) => error.context("the link to the server"),
        Err(error) => anyhow::Error::from(error).context("the link's task"),
    }
}

pub(super) async fn told_to_stop(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
