//! Hooks: what policy calls when an incident opens: a command that tells somebody, one that trains anew, a webhook.
//!
//! An order is a durable record, one for each incident, hook and occasion; its try is recorded before it is made, and it is
//! tried again with growing pauses, a bounded number of times. So a hook runs at least once: a server killed in the middle
//! runs it again after its start, under the same number (`TERN_INCIDENT`, `X-Tern-Delivery`). Hooks of one kind run one
//! after the other, different kinds side by side. They talk back through the CLI only.

pub mod command;
pub mod config;
pub mod webhook;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::{
    clock,
    decay::{
        incidents::{Change, Incident},
        keeping::Policy,
        task::say,
    },
    fleet::Fleet,
    forms::incident::{IncidentKind, Severity},
    store::{Delivery, Outcome, Work},
};
use command::Command;
use config::Config;
use webhook::Webhook;

/// Tries of one order.
const TRIES: u32 = 6;
/// Longest pause between tries.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// How long it waits for a bell before it looks by itself.
const LOOK: Duration = Duration::from_secs(5);
/// Time for a command that tells somebody.
const NOTIFY: Duration = Duration::from_secs(60);

/// A hook that is configured.
enum Hook {
    /// `notify_command` or `retrain_command`.
    Command(Command),
    /// `webhook_url`.
    Webhook(Box<Webhook>),
}

/// Hooks by name.
pub struct Hooks {
    hooks: Vec<(&'static str, Hook)>,
    first_pause: SignedDuration,
    policy: Policy,
}

impl Hooks {
    /// The hooks of a configuration; folders for samples are made below `folder`.
    ///
    /// # Errors
    /// Where the secret or the certificates of the webhook cannot be read.
    pub fn new(config: &Config, folder: &std::path::Path) -> anyhow::Result<Self> {
        let mut hooks = Vec::new();
        let command = |name: &'static str, words: &[String], limit: Duration| {
            let samples: PathBuf = folder.join("hooks").join(name);
            Hook::Command(Command { words: words.to_vec(), environment: config.environment.clone(), limit, samples })
        };
        if !config.notify_command.is_empty() {
            hooks.push(("notify", command("notify", &config.notify_command, NOTIFY)));
        }
        if !config.retrain_command.is_empty() {
            let limit = Duration::from_secs(u64::from(config.retrain_timeout_seconds));
            hooks.push(("retrain", command("retrain", &config.retrain_command, limit)));
        }
        if let Some(webhook) = Webhook::new(config).context("prepare the webhook")? {
            hooks.push(("webhook", Hook::Webhook(Box::new(webhook))));
        }
        let first_pause = SignedDuration::from_secs(i64::from(config.retry_seconds));
        let names = hooks.iter().map(|(name, _)| *name).collect();
        Ok(Self { hooks, first_pause, policy: policy(config, names) })
    }

    /// What an incident's change calls.
    pub fn policy(&self) -> Policy {
        self.policy.clone()
    }

    /// A task for each hook, which runs for ever.
    pub fn tasks(self, fleet: &Arc<Fleet>) -> Vec<impl Future<Output = ()> + Send + 'static> {
        let pause = self.first_pause;
        self.hooks.into_iter().map(|(name, hook)| run(fleet.clone(), name, hook, pause)).collect()
    }
}

fn policy(config: &Config, hooks: Vec<&'static str>) -> Policy {
    let (from, retrain_on) = (config.notify_from, config.retrain_on.clone());
    Arc::new(move |kind: IncidentKind, incident: &Incident, change: Change| {
        let occasion = match change {
            Change::Opened | Change::Updated { louder: true } => "opened",
            Change::Resolved(_) => "resolved",
            Change::Updated { louder: false } | Change::Refreshed => return Vec::new(),
        };
        let calls = |hook: &&'static str| match *hook {
            // A notice asks nobody for anything.
            "retrain" => occasion == "opened" && retrain_on.contains(&kind) && incident.severity > Severity::Notice,
            "notify" => occasion == "opened" && incident.severity >= from,
            _ => incident.severity >= from,
        };
        hooks.iter().copied().filter(calls).map(|hook| (hook, occasion)).collect()
    })
}

async fn run(fleet: Arc<Fleet>, name: &'static str, hook: Hook, pause: SignedDuration) {
    loop {
        let wait = match turn(&fleet, name, &hook, pause).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(hook = name, error = format!("{error:#}"), "a hook's order was not carried out");
                LOOK
            }
        };
        if !wait.is_zero() {
            // Elapsed or rung, it looks.
            let _ = timeout(wait.min(LOOK), fleet.bells.hooks.notified()).await;
        }
    }
}

/// Carries out what is due; returns how long there is nothing to do.
async fn turn(fleet: &Arc<Fleet>, name: &'static str, hook: &Hook, pause: SignedDuration) -> anyhow::Result<Duration> {
    let now = clock::now();
    let delivery = match fleet.store.work(name, now).await.context("ask for work")? {
        Work::Due(delivery) => delivery,
        Work::Later(due) => return Ok(Duration::try_from(due.duration_since(now)).unwrap_or_default()),
        Work::None => return Ok(LOOK),
    };
    let number = delivery.incident.number;
    let fleet_id = fleet.settings.fleet.clone();
    if delivery.attempts > TRIES {
        // Nobody ever wrote down how the last try ended: it may be what ends the server.
        let outcome = Outcome::Failed("the server ended while it ran, too often".into());
        let statement = fleet.store.settle_delivery(delivery.id, outcome, fleet_id, now).await;
        say(fleet, statement.context("give up a hook")?).await;
        return Ok(Duration::ZERO);
    }
    tracing::info!(hook = name, incident = number, attempt = delivery.attempts, "running a hook");
    let ended = match hook {
        Hook::Command(command) => command.run(name, &delivery).await,
        Hook::Webhook(webhook) => webhook.send(&delivery).await,
    };
    let outcome = judge(ended, &delivery, pause, clock::now());
    tracing::info!(hook = name, incident = number, ?outcome, "a hook ended");
    let statement = fleet.store.settle_delivery(delivery.id, outcome, fleet_id, clock::now()).await;
    say(fleet, statement.context("record how a hook ended")?).await;
    Ok(Duration::ZERO)
}

fn judge(ended: Result<String, String>, delivery: &Delivery, pause: SignedDuration, now: Timestamp) -> Outcome {
    match ended {
        Ok(detail) => Outcome::Done(detail),
        Err(detail) if delivery.attempts >= TRIES => Outcome::Failed(detail),
        Err(detail) => {
            let doublings = delivery.attempts.saturating_sub(1).min(20);
            let pause = pause.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
            Outcome::Retry(detail, now.saturating_add(pause).unwrap_or(Timestamp::MAX))
        }
    }
}

#[cfg(test)]
mod tests;
