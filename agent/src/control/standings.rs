//! When the device asks what the teams say of their models, and how the machines hear of it; and what the worker tells
//! whoever asks for a model that may not answer.
//!
//! Asked at start, after every desired state and every `trust_refresh_seconds`, up to a tenth sooner so that a
//! fleet is not in step; sooner after a failure
//! and when the link comes back. What was heard is durable before a machine hears it, and a machine hears it before anything
//! else that happens to it. Never: judges a version.

use std::time::Duration;

use tern_protocol::{
    ids::{Generation, ModelName},
    refusal::RefusalCode,
    standing::Standing,
};

use super::{Control, Event};
use crate::{
    clock::{Moment, jittered},
    install,
    install::{Machine, Refusal},
};

/// Longest pause after a failure.
const AGAIN: Duration = Duration::from_secs(300);
/// What chance takes off a pause, at most.
const SHARE: f64 = 0.1;

/// What is known of asking.
#[derive(Debug)]
pub(super) struct Standings {
    /// A question is under way.
    asking: bool,
    /// Something came up meanwhile that is to be asked for once more.
    again: bool,
    failed: bool,
    due: Moment,
    /// The change of the store up to which every machine has heard everything.
    heard: u64,
    /// Timestamps that said different things under one version, as far as that was told.
    equivocations: u64,
    /// What the worker was last told of silent models.
    silent: Vec<(String, String)>,
}

impl Default for Standings {
    fn default() -> Self {
        Self {
            asking: false,
            again: false,
            failed: false,
            due: Moment::now(),
            heard: 0,
            equivocations: 0,
            silent: Vec::new(),
        }
    }
}

impl Control {
    /// Asks, where it is time.
    pub(super) fn tend_standings(&mut self) {
        if self.standings.due.remaining().is_zero() {
            self.ask_standings();
        }
    }

    /// The link is back: what failed without it may go now.
    pub(super) fn ask_standings_again(&mut self) {
        if self.standings.failed {
            self.ask_standings();
        }
    }

    /// Asks what the teams of all models here say of them.
    pub(super) fn ask_standings(&mut self) {
        let pause = jittered(Duration::from_secs(self.config.trust_refresh_seconds), SHARE);
        self.standings.due = Moment::now().after(pause);
        if std::mem::replace(&mut self.standings.asking, true) {
            self.standings.again = true;
            return;
        }
        let is_here = |m: &Machine| m.record().desired.is_some() || m.record().versions().next().is_some();
        let models = self.machines.iter().filter(|(_, m)| is_here(m)).map(|(name, _)| name.clone());
        let models: Vec<ModelName> = models.collect();
        if models.is_empty() || self.store.fault().is_some() {
            self.standings.asking = false;
            return;
        }
        let (installer, events) = (self.installer.clone(), self.events_in.clone());
        tokio::spawn(async move {
            let outcome = installer.trust.ask_standings(&models).await;
            // Control is gone where nobody takes it.
            let _ = events.send(Event::Standings(outcome.map_err(|e| crate::http::chain(&e)))).await;
        });
    }

    /// A question was answered.
    pub(super) async fn standings_asked(&mut self, outcome: Result<(), String>) {
        self.standings.asking = false;
        self.standings.failed = outcome.is_err();
        if let Err(why) = outcome {
            let pause = jittered(AGAIN.min(Duration::from_secs(self.config.trust_refresh_seconds)), SHARE);
            self.standings.due = Moment::now().after(pause);
            tracing::warn!(%why, "what the teams say of their models is not known anew");
        }
        self.note_equivocations().await;
        self.heed_standings().await;
        if std::mem::take(&mut self.standings.again) {
            self.ask_standings();
        }
    }

    /// Tells of timestamps that came under the version of another one: the first was kept, and whoever looks after the fleet
    /// has a key to rotate.
    async fn note_equivocations(&mut self) {
        let known = self.installer.trust.equivocations();
        if std::mem::replace(&mut self.standings.equivocations, known) == known {
            return;
        }
        let why = "two timestamps carry one version, and the first is kept: somebody else has the key of timestamp, or the \
                   server was restored; look which, and rotate the key if it was stolen";
        self.note(Refusal::new(RefusalCode::Equivocation, why), Generation(0)).await;
        self.publish_twin();
    }

    /// Lets every machine hear what is new in the store.
    pub(super) async fn heed_standings(&mut self) {
        let sequence = self.store.read(|s| s.sequence);
        if std::mem::replace(&mut self.standings.heard, sequence) == sequence {
            return;
        }
        let news = self.machines.keys().filter_map(|name| Some((name.clone(), self.standing_news(name)?)));
        for (name, standing) in news.collect::<Vec<_>>() {
            self.step(&name, install::Event::Standing(standing)).await;
        }
    }

    /// What a machine has not heard yet.
    pub(super) fn standing_news(&self, name: &ModelName) -> Option<Standing> {
        let machine = self.machines.get(name)?;
        self.store.read(|s| {
            let known = s.standings.get(name).map(|known| &known.standing)?;
            (known != machine.standing()).then(|| known.clone())
        })
    }

    /// Tells the worker which models answer nothing though they were served, where that is news.
    pub(super) fn tell_silent(&mut self) {
        let why = |(name, m): (&ModelName, &Machine)| Some((name.model.to_string(), silence(name, m)?));
        let silent: Vec<_> = self.machines.iter().filter_map(why).collect();
        if silent == self.standings.silent {
            return;
        }
        // Where too many orders wait, the worker says the less precise thing until the next step tries again.
        if self.worker.silence(silent.clone()) {
            self.standings.silent = silent;
        }
    }
}

/// Why a model answers nothing that is to answer or did so before it was recalled.
fn silence(name: &ModelName, machine: &Machine) -> Option<String> {
    let record = machine.record();
    if machine.answering().is_some() || record.desired.is_none() && record.active.is_none() {
        return None;
    }
    if let Some(active) = &record.active {
        return Some(format!("model `{}` is not ready: version {} is being loaded", name.model, active.version));
    }
    let error = record.last_error.as_ref()?;
    let is_stopped = matches!(error.code, RefusalCode::Recalled | RefusalCode::BelowFloor);
    is_stopped.then(|| format!("model `{}` is stopped: {}", name.model, error.message))
}
