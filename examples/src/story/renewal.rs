//! The chapters in which a retrained version comes, is tried on two devices, and spreads; and in which two bad ones do not.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use anyhow::{Context, ensure};
use tern_protocol::refusal::RefusalCode;

use super::{
    MODEL, Teller,
    asking::Ended,
    decay::{ALL_FOULED, percent},
    digits::answers,
};
use crate::{facts::RolloutFact, play::Play, processes::Program};

/// Detection windows of each device that are read on the new version.
const RENEWED_WINDOWS: u64 = 6;
/// The scene in which they are.
const RENEWED: &str = "renewed";
/// How often 1.1.0 is rolled out where chaos kills workers on probation.
const MOST_TRIES: u32 = 4;
/// How a version spreads in the story: two devices, then all. A single failure is one too many.
const POLICY: &str = "\
silence_seconds = 60
max_unavailable = \"100%\"

[failures]
most = 0

[[stages]]
size = 2
bake_seconds = 3
probation = { min_inferences = 20, min_seconds = 2 }

[[stages]]
size = \"100%\"
bake_seconds = 2
probation = { min_inferences = 20, min_seconds = 2 }
";

impl Teller {
    /// Writes what the server's retrain hook runs. Training itself took place beforehand, see `quickstart/train.py`: the
    /// script only publishes what it made, and orders the rollout, as a pipeline would when it is done. Hooks run at
    /// least once: the incident's number is the order's key, so that a second run finds the first one's rollout.
    pub(super) fn lay_hook(&self) -> anyhow::Result<()> {
        let tern = self.world.programs.words(Program::Tern).map(|word| format!("'{word}'")).join(" ");
        let text = format!(
            "#!/bin/sh\nset -e\ncat > '{incident}'\nexport TERN_CONFIG='{config}'\n\
             {tern} model publish '{bundle}' --key '{key}'\n\
             {tern} rollout create {MODEL}@1.1.0 --to '*' --policy '{policy}' --start \\\n  \
             --idempotency-key \"incident-$TERN_INCIDENT\" \\\n  \
             --reason \"retrained for incident $TERN_INCIDENT\"\n",
            incident = self.world.scratch.join("run/incident.json").display(),
            config = self.world.operator.config.display(),
            bundle = self.bundle("1.1.0").display(),
            key = self.release_key().display(),
            policy = self.policy_file().display(),
        );
        let hook = self.world.retrain_hook();
        write(&hook, &text)?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).context("making the hook runnable")?;
        write(&self.policy_file(), POLICY)
    }

    pub(super) async fn retrained(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("the retrain hook publishes 1.1.0, trained on fouled images as well");
        self.all_fouled(play, "1.1.0 spreads");
        let rollout = self.rollout_of("1.1.0").await?;
        let mut end = self.await_rollout(&rollout).await?;
        let mut tries = 1;
        while self.options.chaos.is_some() && end.phase == "aborted" && tries < MOST_TRIES {
            // A device cannot tell a worker that was killed on probation from a version that kills its worker. A person can.
            self.order_rollout("1.1.0", tries, "the workers were killed, the version is good").await?;
            let again = self.rollout_of("1.1.0").await?;
            (end, tries) = (self.await_rollout(&again).await?, tries + 1);
        }
        ensure!(end.phase == "finished", "the rollout of 1.1.0 ended as {}: {:?}", end.phase, end.codes);
        self.wait("1.1.0 to answer everywhere", |row| answers(row, "1.1.0")).await?;
        let served = play.score().phase("1.1.0 spreads");
        self.note_rollout("1.1.0", &end);
        let outcome = format!("two devices, then all; {} of {} requests unanswered", served.failed, served.answered);
        self.end(clock, outcome);
        Ok(())
    }

    pub(super) async fn renewed_phase(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("the same fouled lenses, read by 1.1.0");
        let mark = self.scene(play, RENEWED, 0..self.world.devices.len()).await?;
        self.play_on(play, RENEWED, RENEWED_WINDOWS).await?;
        let phase = self.close_phase(RENEWED, "1.1.0", mark, play).await?;
        let before = self.facts.phases.iter().find(|p| p.phase == ALL_FOULED).map_or(1.0, |p| p.accuracy);
        self.end(clock, format!("{} right, {} before", percent(phase), percent(before)));
        if phase < before + 0.1 {
            self.fault(format!("1.1.0 reads {} right where 1.0.0 read {}", percent(phase), percent(before)));
        }
        Ok(())
    }

    pub(super) async fn wrong_golden_vector(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("1.2.0 is published with a wrong golden vector");
        let end = self.bad_version("1.2.0", "a model nobody tried", play).await?;
        let refused = end.codes.values().filter(|code| **code == RefusalCode::GoldenMismatch.to_string()).count();
        self.note_rollout("1.2.0", &end);
        self.end(clock, format!("refused by {} before it served anything; the rollout was aborted", devices(refused)));
        if refused == 0 {
            self.fault(format!("1.2.0 was not refused for its golden vector: {:?}", end.codes));
        }
        Ok(())
    }

    pub(super) async fn nan_version(&mut self, play: &Play) -> anyhow::Result<()> {
        let clock = self.begin("1.3.0 passes every check and answers NaN where contrast is low");
        let end = self.bad_version("1.3.0", "a faster model", play).await?;
        let taken_back = end.codes.values().filter(|code| **code == RefusalCode::ProbationFailed.to_string()).count();
        self.note_rollout("1.3.0", &end);
        self.end(clock, format!("taken back on probation by {}; the rollout was aborted", devices(taken_back)));
        if taken_back == 0 {
            self.fault(format!("1.3.0 was not taken back on probation: {:?}", end.codes));
        }
        Ok(())
    }

    /// Publishes and rolls out a version that must not spread; 1.1.0 must answer everywhere in the end.
    async fn bad_version(&mut self, version: &str, reason: &str, play: &Play) -> anyhow::Result<Ended> {
        let scene = format!("{version} is tried");
        self.all_fouled(play, &scene);
        self.publish(version).await?;
        self.order_rollout(version, 0, reason).await?;
        let rollout = self.rollout_of(version).await?;
        let end = self.await_rollout(&rollout).await?;
        ensure!(end.phase == "aborted", "the rollout of {version} ended as {}", end.phase);
        self.wait("1.1.0 to answer everywhere", |row| answers(row, "1.1.0")).await?;
        let served = play.score().phase(&scene);
        let others: BTreeMap<_, _> = served.versions.iter().filter(|(v, _)| *v != "1.1.0").collect();
        if others.keys().any(|v| *v != version) || (version == "1.2.0" && !others.is_empty()) {
            self.fault(format!("while {version} was tried, versions answered as {:?}", served.versions));
        }
        ensure!(served.versions.contains_key("1.1.0"), "nothing was answered by 1.1.0 while {version} was tried");
        Ok(end)
    }

    /// Orders a rollout. The key keeps a command that is tried again from ordering two.
    async fn order_rollout(&self, version: &str, number: u32, reason: &str) -> anyhow::Result<()> {
        let (model, policy) = (format!("{MODEL}@{version}"), self.policy_file());
        let (policy, key) = (policy.to_str().context("a path")?, format!("story-{version}-{number}"));
        let create = ["rollout", "create", &model, "--to", "*", "--policy", policy, "--start", "--reason", reason];
        self.world.operator.run(&[&create[..], &["--idempotency-key", &key]].concat()).await.map(drop)
    }

    fn all_fouled(&self, play: &Play, scene: &str) {
        play.scene(scene, 0..self.world.devices.len());
    }

    fn note_rollout(&mut self, version: &str, end: &Ended) {
        self.facts.rollouts.push(RolloutFact {
            version: version.into(),
            phase: end.phase.clone(),
            outcomes: end.outcomes.clone(),
            codes: end.codes.clone(),
        });
    }
}

fn devices(count: usize) -> String {
    format!("{count} {}", if count == 1 { "device" } else { "devices" })
}

#[expect(clippy::disallowed_methods, reason = "a scratch folder need not outlive a power cut")]
fn write(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
