//! The chapters in which the fleet's eyes grow dim: nothing happens, two lenses foul, all foul.
//!
//! What must be said is judged by what is known here and nowhere in the fleet: which lenses were fouled, and when.

use std::collections::BTreeSet;

use anyhow::Context;
use tern_fleet_server::forms::incident::{IncidentKind, IncidentRow};

use super::Teller;
use crate::{
    clock::Moment,
    facts::{IncidentFact, LoadFact, PhaseFact},
    footprint::{measure, processor_seconds},
    play::Play,
};

/// Rows of a detection window; the reference profiles say so too.
pub(super) const WINDOW_ROWS: u64 = 200;
/// Detection windows of each device in which nothing happens.
const CLEAN_WINDOWS: u64 = 10;
/// Detection windows of each device that are read through fouled lenses, at least.
const FOULED_WINDOWS: u64 = 6;
/// Rows of a device that take longer than labels take to reach the server: they come late and travel with a report.
const LATE_ROWS: u64 = 350;
/// The two lenses that foul first, by index.
const FIRST_FOULED: [usize; 2] = [2, 5];
/// The scenes.
const CLEAN: &str = "clean";
const TWO_FOULED: &str = "two lenses fouled";
pub(super) const ALL_FOULED: &str = "all lenses fouled";
/// What fouling does to an image, as the contract's derived features see it.
const FOULED_FEATURES: [&str; 3] = ["mean(pixels)", "contrast(pixels)", "sharpness(pixels)"];

impl Teller {
    pub(super) async fn clean_phase(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("cameras look at digits all the time; nothing is wrong");
        let mark = self.scene(play, CLEAN, []).await?;
        self.measured_load(play).await?;
        let phase = self.close_phase(CLEAN, "1.0.0", mark, play).await?;
        let incidents = self.incidents().await?;
        self.facts.false_incidents = incidents.len();
        self.end(clock, format!("{} right, {} incidents", percent(phase), incidents.len()));
        if !incidents.is_empty() {
            self.fault(format!("incidents while nothing was wrong: {incidents:#?}"));
        }
        Ok(())
    }

    pub(super) async fn two_lenses(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("two lenses foul");
        let fouled = Moment::now();
        let mark = self.scene(play, TWO_FOULED, FIRST_FOULED).await?;
        let names: BTreeSet<String> = FIRST_FOULED.iter().map(|i| self.world.devices[*i].name.clone()).collect();
        let is_told = |incident: &IncidentRow| {
            incident.kind == IncidentKind::DeviceFault && incident.state == "open" && devices(incident) == names
        };
        let incident = self.incident("an incident that names both devices", is_told).await?;
        let fact = self.note_incident(&incident, fouled, play.fewest(TWO_FOULED));
        self.play_on(play, TWO_FOULED, FOULED_WINDOWS).await?;
        let phase = self.close_phase(TWO_FOULED, "1.0.0", mark, play).await?;
        self.end(clock, format!("{fact}; fleet {} right", percent(phase)));
        if !incident.features.iter().any(|f| FOULED_FEATURES.contains(&f.as_str())) {
            self.fault(format!("the incident names {:?}, none of which fouling changes", incident.features));
        }
        Ok(())
    }

    pub(super) async fn all_lenses(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("all lenses foul");
        let fouled = Moment::now();
        let mark = self.scene(play, ALL_FOULED, 0..self.world.devices.len()).await?;
        let open = |kind| move |incident: &IncidentRow| incident.kind == kind && incident.state == "open";
        let population = self.incident("an incident of all devices", open(IncidentKind::PopulationChange)).await?;
        let first = self.note_incident(&population, fouled, play.fewest(ALL_FOULED));
        let is_broken = |incident: &IncidentRow| incident.kind == IncidentKind::ModelBroken;
        let broken = self.incident("labels to say that the model is broken", is_broken).await?;
        let second = self.note_incident(&broken, fouled, play.fewest(ALL_FOULED));
        self.play_on(play, ALL_FOULED, FOULED_WINDOWS).await?;
        let phase = self.close_phase(ALL_FOULED, "1.0.0", mark, play).await?;
        self.end(clock, format!("{first}; {second}; {} right", percent(phase)));
        Ok(())
    }

    /// Plays the clean scene to its end and measures how much the agents work meanwhile.
    async fn measured_load(&mut self, play: &Play) -> anyhow::Result<()> {
        let worked = async |teller: &Self| processor_seconds(&teller.world.processes.lock().await.agents);
        let (before, answered, started) = (worked(self).await, play.score().phase(CLEAN).answered, Moment::now());
        self.play_on(play, CLEAN, CLEAN_WINDOWS).await?;
        let (after, devices) = (worked(self).await, self.world.devices.len() as f64);
        let device_seconds = started.elapsed().as_secs_f64() * devices;
        let agents = &self.world.processes.lock().await.agents;
        self.facts.load = LoadFact {
            requests_per_second: (play.score().phase(CLEAN).answered - answered) as f64 / device_seconds,
            control_cpu: (after.0 - before.0) / device_seconds,
            worker_cpu: (after.1 - before.1) / device_seconds,
            memory: measure(agents),
        };
        Ok(())
    }

    /// Begins a scene; returns what the server knew of labels once those of the scene before are in.
    pub(super) async fn scene(
        &mut self,
        play: &Play,
        phase: &str,
        fouled: impl IntoIterator<Item = usize>,
    ) -> anyhow::Result<Mark> {
        play.scene(phase, fouled);
        self.until("the labels of the scene before", async |_| Ok(play.fewest(phase) >= LATE_ROWS)).await?;
        self.mark().await
    }

    /// Lets the scene go on until every device that is there has read so many detection windows of it.
    pub(super) async fn play_on(&self, play: &Play, phase: &str, windows: u64) -> anyhow::Result<()> {
        self.until(&format!("{windows} detection windows on every device"), async |_| {
            Ok(play.fewest(phase) >= windows * WINDOW_ROWS)
        })
        .await
    }

    /// The incidents so far, of every state.
    pub(super) async fn incidents(&self) -> anyhow::Result<Vec<IncidentRow>> {
        self.list(&["incident", "list", "--all"]).await
    }

    async fn incident(&self, what: &str, wanted: impl Fn(&IncidentRow) -> bool) -> anyhow::Result<IncidentRow> {
        let mut found = None;
        let waited = self
            .until(what, async |teller: &Self| {
                found = teller.incidents().await?.into_iter().find(&wanted);
                Ok(found.is_some())
            })
            .await;
        if let Err(error) = waited {
            return Err(error.context(format!("incidents so far: {:#?}", self.incidents().await?)));
        }
        found.context("an incident that was there a moment ago")
    }

    fn note_incident(&mut self, incident: &IncidentRow, since: Moment, rows: u64) -> String {
        let windows = rows as f64 / WINDOW_ROWS as f64;
        let fact = IncidentFact {
            number: incident.number,
            kind: incident.kind.as_str().into(),
            severity: incident.severity.as_str().into(),
            cause: incident.cause.as_str().into(),
            devices: incident.devices.iter().map(ToString::to_string).collect(),
            features: incident.features.clone(),
            windows,
            seconds: since.elapsed().as_secs_f64(),
        };
        let who = match fact.devices.len() {
            0 => String::new(),
            count if count == self.world.devices.len() => " on all devices".into(),
            _ => format!(" on {}", fact.devices.join(", ")),
        };
        let text = format!("{}{who} after {windows:.0} windows", fact.kind);
        self.facts.incidents.push(fact);
        text
    }

    /// What the server says so far, all devices together.
    pub(super) async fn mark(&self) -> anyhow::Result<Mark> {
        let mut mark = Mark::default();
        for row in self.figures().await? {
            mark.labels += row.labels;
            mark.label_errors += row.label_errors;
            if let Some(estimated) = row.estimated {
                mark.estimated_rows += estimated.rows as f64;
                mark.estimated_right += estimated.rows as f64 * estimated.accuracy;
            }
        }
        Ok(mark)
    }

    /// Notes what a phase was like, by all labels and as the server sees it.
    pub(super) async fn close_phase(
        &mut self,
        phase: &str,
        version: &str,
        since: Mark,
        play: &Play,
    ) -> anyhow::Result<f64> {
        let (truth, now) = (play.score().phase(phase), self.mark().await?);
        let labels = now.labels.saturating_sub(since.labels);
        let errors = now.label_errors.saturating_sub(since.label_errors);
        let rows = now.estimated_rows - since.estimated_rows;
        let accuracy = truth.accuracy().unwrap_or(0.0);
        self.facts.phases.push(PhaseFact {
            phase: phase.into(),
            version: version.into(),
            rows: truth.answered,
            failed: truth.failed,
            accuracy,
            labels,
            labelled_accuracy: (labels > 0).then(|| 1.0 - errors as f64 / labels as f64),
            estimated_accuracy: (rows > 0.0).then(|| (now.estimated_right - since.estimated_right) / rows),
        });
        Ok(accuracy)
    }
}

/// What the server knew at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    labels: u64,
    label_errors: u64,
    estimated_rows: f64,
    estimated_right: f64,
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn devices(incident: &IncidentRow) -> BTreeSet<String> {
    incident.devices.iter().map(ToString::to_string).collect()
}
