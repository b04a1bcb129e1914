//! The play: a camera before each device shows images at a steady pace, its lens clean or fouled as the scene says, and
//! tells some of the right answers late. The cameras keep the true accuracy, which the server only estimates.
//!
//! A question that fails is counted and not asked again: a real camera has the next image by then. Labels that cannot be
//! sent are tried again; what waits is bounded.

pub mod script;
mod tally;
mod waiting;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use crate::{
    cameras::{Address, Camera, Digit, Fed, Label},
    clock::Moment,
};
use script::Script;
pub use tally::{Score, Tally};
use waiting::{Late, Waiting};

/// How to play.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// What is seen and labelled.
    pub script: Script,
    /// Time between two images before one device.
    pub every: Duration,
    /// Time from an answer to its label.
    pub label_after: Duration,
}

/// What goes on now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// Its name: answers and their labels are counted under it.
    pub phase: String,
    /// The devices, by number, whose lenses are fouled.
    pub fouled: BTreeSet<usize>,
}

/// Cameras that play until they are stopped.
pub struct Play {
    scene: watch::Sender<Scene>,
    stopped: watch::Sender<bool>,
    cameras: JoinSet<()>,
    devices: Vec<String>,
    score: Arc<Mutex<Score>>,
}

impl Play {
    /// Starts a camera before each device, on `scene`. `digits` are not empty.
    pub fn start(devices: &[(String, Address)], digits: Arc<[Digit]>, pace: Pace, scene: Scene) -> Self {
        let (scene, scene_receiver) = watch::channel(scene);
        let (stopped, stopped_receiver) = watch::channel(false);
        let score = Arc::<Mutex<Score>>::default();
        let mut cameras = JoinSet::new();
        for (number, (device, address)) in devices.iter().enumerate() {
            let player = Player {
                device: device.clone(),
                number,
                camera: Camera::new(address.clone()),
                digits: digits.clone(),
                pace,
                started: Moment::now(),
                score: score.clone(),
                waiting: Waiting::default(),
            };
            cameras.spawn(player.run(scene_receiver.clone(), stopped_receiver.clone()));
        }
        let devices = devices.iter().map(|(device, _)| device.clone()).collect();
        Self { scene, stopped, cameras, devices, score }
    }

    /// Changes the scene for the images to come.
    pub fn scene(&self, phase: &str, fouled: impl IntoIterator<Item = usize>) {
        self.scene.send_replace(Scene { phase: phase.into(), fouled: fouled.into_iter().collect() });
    }

    /// What was counted so far.
    pub fn score(&self) -> Score {
        lock(&self.score).clone()
    }

    /// How many images the device which answered fewest has answered in `phase`.
    pub fn fewest(&self, phase: &str) -> u64 {
        let mut score = lock(&self.score);
        self.devices.iter().map(|device| score.at(phase, device).answered).min().unwrap_or(0)
    }

    /// Stops all cameras; what they counted. Labels that still wait are lost.
    ///
    /// # Errors
    /// Where a camera panicked.
    pub async fn stop(mut self) -> anyhow::Result<Score> {
        self.stopped.send_replace(true);
        while let Some(joined) = self.cameras.join_next().await {
            joined.context("joining a camera")?;
        }
        Ok(self.score())
    }
}

fn lock(score: &Mutex<Score>) -> MutexGuard<'_, Score> {
    score.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One camera.
struct Player {
    device: String,
    number: usize,
    camera: Camera,
    digits: Arc<[Digit]>,
    pace: Pace,
    started: Moment,
    score: Arc<Mutex<Score>>,
    waiting: Waiting,
}

impl Player {
    async fn run(mut self, scene: watch::Receiver<Scene>, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.pace.every);
        // A device that was away for a minute is not asked a minute's images at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for image in 0.. {
            tokio::select! {
                _ = ticks.tick() => {}
                // The sender gone means the same: nobody wants more.
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            let now = scene.borrow().clone();
            self.show(image, &now).await;
            self.tell().await;
        }
        for late in self.waiting.into_rest() {
            lock(&self.score).at(&late.phase, &self.device).lost_labels += 1;
        }
    }

    async fn show(&mut self, image: u64, scene: &Scene) {
        let script = self.pace.script;
        let digit = script.image(self.number, image, &self.digits, scene.fouled.contains(&self.number));
        let id = format!("{}-{image}", self.device);
        let answer = self.camera.look_as(&digit, Some(&id)).await;
        let mut score = lock(&self.score);
        let tally = score.at(&scene.phase, &self.device);
        match answer {
            Ok(answer) => {
                tally.answered += 1;
                tally.correct += u64::from(answer.label == digit.label);
                tally.unsure += u64::from(answer.is_unsure);
                *tally.versions.entry(answer.version).or_default() += 1;
            }
            Err(error) => {
                tracing::debug!(device = self.device, error = format!("{error:#}"), "no answer");
                tally.failed += 1;
                return;
            }
        }
        drop(score);
        if script.is_labelled(self.number, image) {
            let due = self.started.elapsed() + self.pace.label_after;
            let late = Late { phase: scene.phase.clone(), label: Label { id, row: 0, label: digit.label } };
            if let Some(given_up) = self.waiting.push(due, late) {
                lock(&self.score).at(&given_up.phase, &self.device).lost_labels += 1;
            }
        }
    }

    /// Sends the labels whose time has come.
    async fn tell(&mut self) {
        let due = self.waiting.due(self.started.elapsed());
        if due.is_empty() {
            return;
        }
        let labels: Vec<_> = due.iter().map(|late| &late.label).collect();
        match self.camera.feed_back(&labels).await {
            Ok(fates) => due.iter().zip(fates).for_each(|(late, fed)| self.count(late, fed)),
            Err(error) => {
                tracing::debug!(device = self.device, error = format!("{error:#}"), "labels wait on");
                return;
            }
        }
        self.waiting.drop_first(due.len());
    }

    fn count(&mut self, late: &Late, fed: Fed) {
        let mut score = lock(&self.score);
        let tally = score.at(&late.phase, &self.device);
        *if fed == Fed::Taken { &mut tally.labels } else { &mut tally.refused_labels } += 1;
    }
}

#[cfg(test)]
mod tests;
