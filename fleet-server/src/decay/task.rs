//! The one task that runs the detectors: it wakes on commits, works in batches, and starts over from what is written down
//! where a batch fails.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use tern_protocol::{
    ids::{ModelName, ModelVersion},
    topics::{FleetChannel, fleet_topic},
};
use tokio::time::{sleep, timeout};

use super::{
    detector::{Detector, Standard, Subject},
    keeping::{self, Policy},
};
use crate::{
    clock::{self, Moment},
    fleet::Fleet,
    forms::incident::{IncidentKind, ModelFigures},
    profiles::Reference,
    store::Statement,
};

/// Rows in one transaction: a window of ten features is a few kilobytes.
const BATCH: u32 = 256;
/// How long it waits for a bell before it looks by itself.
const LOOK: Duration = Duration::from_secs(2);
/// How far behind the clock time passes for the detectors where no row says it, in milliseconds: rows that were received
/// before are committed by then.
const ON_THE_WAY_MS: i64 = 60_000;
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often a model's figures are said at most: they are for people.
const FIGURES: Duration = Duration::from_secs(5);
/// Versions of a model that its topic tells of, the newest: all that were ever watched would outgrow a message.
const VERSIONS: usize = 20;
/// How often topics of resolved incidents are looked through.
const CLEARING: Duration = Duration::from_secs(60);

/// Runs the detectors, for ever.
pub async fn run(fleet: Arc<Fleet>, policy: Policy) {
    loop {
        if let Err(error) = watch(&fleet, &policy).await {
            tracing::error!(error = format!("{error:#}"), "the detectors failed; starting over from what is kept");
        }
        sleep(AFTER_FAILURE).await;
    }
}

async fn watch(fleet: &Arc<Fleet>, policy: &Policy) -> anyhow::Result<()> {
    let mut detector = restore(fleet).await?;
    let mut said = Said::default();
    count_open(fleet).await?;
    loop {
        let rows = step(fleet, &mut detector, policy, &mut said).await?;
        said.catch_up(fleet).await?;
        if rows < BATCH as usize {
            // Elapsed or rung, it looks.
            let _ = timeout(LOOK, fleet.bells.telemetry.notified()).await;
        }
    }
}

async fn restore(fleet: &Arc<Fleet>) -> anyhow::Result<Detector> {
    let state = fleet.store.detector().await.context("read the detectors' state")?;
    let mut standards = HashMap::new();
    for version in &state.versions {
        standards.insert(version.model.clone(), standard(fleet, &version.model).await?);
    }
    fleet
        .blocking(move |_| keeping::restore(state, |model| standards.get(model).cloned().unwrap_or(Standard::Absent)))
        .await
}

async fn standard(fleet: &Arc<Fleet>, model: &ModelVersion) -> anyhow::Result<Standard> {
    let known = fleet.profiles.of(fleet, model).await.with_context(|| format!("read the profile of {model}"))?;
    Ok(match known.as_ref().map(|known| &known.reference) {
        Some(Reference::Fits(profile)) => Standard::Profile(Arc::new((**profile).clone())),
        Some(Reference::Unfit(_)) => Standard::Unusable,
        Some(Reference::Absent) | None => Standard::Absent,
    })
}

/// One batch, and what time alone does; returns how many rows it had.
async fn step(fleet: &Arc<Fleet>, detector: &mut Detector, policy: &Policy, said: &mut Said) -> anyhow::Result<usize> {
    let (from, now) = (detector.cursor, clock::now().as_millisecond().saturating_sub(ON_THE_WAY_MS));
    let (rows, behind) = fleet.store.detector_rows(from, BATCH).await.context("read telemetry")?;
    fleet.metrics.decay.behind.store(behind, Relaxed);
    let count = rows.len();
    let unknown: BTreeSet<_> = rows.iter().map(|row| &row.model).filter(|model| !detector.knows(model)).collect();
    for model in unknown.into_iter().cloned().collect::<Vec<_>>() {
        let subject = Subject::new(standard(fleet, &model).await?);
        detector.subjects.insert(model, subject);
    }
    let strangers: BTreeSet<_> = rows.iter().map(|row| &row.device).collect();
    let strangers = strangers.into_iter().filter(|device| !detector.classes.contains_key(*device)).cloned().collect();
    detector.classes.extend(fleet.store.device_classes(strangers).await.context("read classes of devices")?);

    let (mut working, policy) = (std::mem::take(detector), policy.clone());
    let (working, step) = fleet
        .blocking(move |_| {
            let until = (count < BATCH as usize).then_some(now);
            let step = keeping::batch(&mut working, rows, until, &policy);
            (working, step)
        })
        .await?;
    *detector = working;
    if count == 0 && step.versions.is_empty() {
        return Ok(0);
    }
    let has_changes = !step.changes.is_empty();
    let has_hooks = step.changes.iter().any(|change| !change.hooks.is_empty());
    said.due(step.versions.iter().map(|version| version.model.name.clone()));
    let statements = fleet
        .store
        .advance(step, fleet.settings.fleet.clone(), clock::now())
        .await
        .context("write down what the detectors made of a batch")?;
    fleet.metrics.decay.behind.store(behind.saturating_sub(count as u64), Relaxed);
    fleet.metrics.decay.windows.store(detector.subjects.values().map(Subject::windows).sum(), Relaxed);
    if has_hooks {
        fleet.bells.hooks.notify_waiters();
    }
    if has_changes {
        // An incident of the version that is rolled out may stop the rollout.
        fleet.pulse.ring();
        count_open(fleet).await?;
    }
    for statement in statements {
        say(fleet, statement).await;
    }
    Ok(count)
}

async fn count_open(fleet: &Fleet) -> anyhow::Result<()> {
    let open = fleet.store.open_incidents().await.context("count open incidents")?;
    for (kind, gauge) in IncidentKind::ALL.iter().zip(&fleet.metrics.decay.open) {
        gauge.store(open.get(kind).copied().unwrap_or(0), Relaxed);
    }
    Ok(())
}

/// Publishes what is kept already. Where that fails it is published at the next start.
pub async fn say(fleet: &Fleet, statement: Statement) {
    let Statement { topic, payload } = statement;
    if let Err(error) = fleet.state(topic.clone(), payload).await {
        tracing::warn!(topic, error = format!("{error:#}"), "a retained message was not published");
    }
}

/// What is said of models, and when.
#[derive(Default)]
struct Said {
    due: BTreeSet<ModelName>,
    figures: Option<Moment>,
    clearing: Option<Moment>,
}

impl Said {
    fn due(&mut self, models: impl Iterator<Item = ModelName>) {
        self.due.extend(models);
    }

    async fn catch_up(&mut self, fleet: &Arc<Fleet>) -> anyhow::Result<()> {
        if self.figures.is_none_or(|last| last.elapsed() >= FIGURES) && !self.due.is_empty() {
            for model in std::mem::take(&mut self.due) {
                let mut versions = fleet.store.watches(Some(model.clone())).await.context("read figures")?;
                versions.truncate(VERSIONS);
                let json = serde_json::to_vec(&ModelFigures { versions }).context("write figures")?;
                let topic = fleet_topic(&fleet.settings.fleet, &FleetChannel::Model(model));
                if let Err(error) = fleet.publish_retained(topic, Some(json)).await {
                    tracing::warn!(error = format!("{error:#}"), "figures of a model were not published");
                }
            }
            self.figures = Some(Moment::now());
        }
        if self.clearing.is_none_or(|last| last.elapsed() >= CLEARING) {
            let cleared = fleet.store.clear_incidents(fleet.settings.fleet.clone(), clock::now()).await?;
            for statement in cleared {
                say(fleet, statement).await;
            }
            self.clearing = Some(Moment::now());
        }
        Ok(())
    }
}
