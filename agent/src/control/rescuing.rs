//! A rescue while the agent runs: what serves goes on serving, and from then on desired states are taken over again.

use tokio::sync::oneshot;

use super::Control;
use crate::{
    install,
    rescue::{self, Answer, Request},
};

impl Control {
    /// Answers whoever asks for a nonce or brings a ticket.
    pub(super) async fn rescue(&mut self, request: Request, answer: oneshot::Sender<String>) {
        let (folder, enrolment, store) = (self.config.state_dir.clone(), self.enrolment.clone(), self.store.clone());
        let root = self.installer.trust.pinned_root().to_vec();
        let work = move || rescue::act(&folder, &enrolment, &root, &store, &request);
        let outcome = tokio::task::spawn_blocking(work).await;
        let outcome = match outcome {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Answer::Error(error.to_string()),
            Err(_) => Answer::Error("the rescue panicked: look at the agent's log".into()),
        };
        if let Answer::Rescued(done) = &outcome {
            tracing::info!(generation = %done.generation, time = %done.time, "rescued: the device has floors again");
            self.installer.trust.tell_time();
            self.last_error = None;
            let names: Vec<_> = self.machines.keys().cloned().collect();
            for name in names {
                self.step(&name, install::Event::Recordable).await;
            }
            self.ask_standings();
            self.publish_twin();
        }
        // Who does not stay for the answer misses it; the next question is answered by what is there then.
        let _ = answer.send(serde_json::to_string(&outcome).unwrap_or_default());
    }
}
