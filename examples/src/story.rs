//! The quickstart's story: eight devices serve a signed model on real digits and refuse what must be refused.
//!
//! 1. a server with its broker, an operator, eight enrolled devices;
//! 2. 1.0.0 is published, assigned, and reads real handwritten digits on every device;
//! 3. 1.0.1 is tampered with on the server's disk, 1.0.2 carries a wrong golden vector, and each device's signed orders
//!    are replayed to its neighbour: every device refuses each, and 1.0.0 answers throughout;
//! 4. a new order from the server puts everything right.
//!
//! A fault in the story is noted in the facts and the story goes on where it can; an error ends it.

mod digits;
mod refusals;

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tern_fleet_server::forms::DeviceRow;

use crate::{
    cameras::{Digit, read_digits},
    chaos::Chaos,
    clock::Moment,
    facts::{Facts, StepFact},
    footprint::measure,
    processes::Programs,
    witness::Witness,
    world::World,
};

/// How many devices there are.
pub const DEVICES: usize = 8;
/// The model of the story.
pub const MODEL: &str = "demo/meter-digits";

/// How to tell the story.
#[derive(Debug, Clone)]
pub struct Options {
    /// The programs.
    pub programs: Programs,
    /// An empty folder for everything that the story makes. Its path must be short: sockets lie in it.
    pub scratch: PathBuf,
    /// The folder with the models and the digits.
    pub assets: PathBuf,
    /// Kill processes at random while the story runs.
    pub chaos: Option<u64>,
    /// Print a line a step.
    pub aloud: bool,
}

/// A story that has been told; its processes still run.
pub struct Told {
    /// What it found out.
    pub facts: Facts,
    /// Its world, to look around in or to stop.
    pub world: World,
}

/// Tells the story.
///
/// # Errors
/// Where it cannot go on: a program does not start, or a device does not reach the told state in time. Processes are then
/// killed with the world.
pub async fn tell(options: Options) -> anyhow::Result<Told> {
    let started = Moment::now();
    let patience = Duration::from_secs(if options.chaos.is_some() { 60 } else { 0 });
    let world = World::new(options.programs.clone(), &options.scratch, DEVICES, patience)?;
    let digits = read_digits(&options.assets.join("data/played.csv"))?;
    let chaos = options.chaos.map(|seed| Chaos::new(seed, world.processes.clone()));
    let limit = Duration::from_secs(if options.chaos.is_some() { 180 } else { 60 });
    let mut teller = Teller { options, world, facts: Facts::default(), chaos, limit };
    teller.chapters(&digits).await?;
    let Teller { mut facts, world, chaos, .. } = teller;
    if let Some(chaos) = chaos {
        facts.kills = Some(chaos.end().await);
    }
    facts.seconds = started.elapsed().as_secs_f64();
    facts.ended_as_told = facts.faults.is_empty();
    Ok(Told { facts, world })
}

struct Teller {
    options: Options,
    world: World,
    facts: Facts,
    chaos: Option<Chaos>,
    limit: Duration,
}

impl Teller {
    async fn chapters(&mut self, digits: &[Digit]) -> anyhow::Result<()> {
        let clock = self.begin("a server, its broker and an operator");
        self.world.init_server().await?;
        self.world.start_server().await?;
        self.world.log_in().await?;
        self.end(clock, "keys on one machine (--solo: for trying out only)".into());

        let clock = self.begin("eight devices enrol and start");
        let bar = self.bar(DEVICES as u64, "devices");
        for (index, device) in self.world.devices.iter().enumerate() {
            self.world.start_device(device, index).await?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.facts.idle = measure(&self.world.processes.lock().await.agents);
        self.end(clock, "each with a key of its own that never left it".into());

        let clock = self.begin("1.0.0 is published and assigned to all");
        self.publish("1.0.0").await?;
        self.assign("1.0.0", "first version").await?;
        self.wait("1.0.0 to answer everywhere", |row| digits::answers(row, "1.0.0")).await?;
        self.end(clock, "verified, probed against its golden vectors, swapped in".into());

        let addresses = self.world.devices.iter().map(|d| (d.name.clone(), d.address.clone()));
        let witness = Witness::start(addresses, digits);
        self.read_digits(digits).await?;
        self.tampered_version().await?;
        self.wrong_golden_vector().await?;
        self.replayed_orders().await?;
        self.recovery().await?;
        self.facts.serving = measure(&self.world.processes.lock().await.agents);
        self.facts.witness = witness.dismiss().await;
        self.judge_witness();
        Ok(())
    }

    fn begin(&mut self, what: &str) -> (Moment, String) {
        if let Some(chaos) = &mut self.chaos {
            chaos.step();
        }
        (Moment::now(), what.into())
    }

    fn end(&mut self, (started, step): (Moment, String), outcome: String) {
        let seconds = started.elapsed().as_secs_f64();
        self.say(&format!("{:2}. {step}: {outcome} ({seconds:.1} s)", self.facts.steps.len() + 1));
        self.facts.steps.push(StepFact { step, outcome, seconds });
    }

    fn say(&self, line: &str) {
        if self.options.aloud {
            // Nobody reads any more where this fails; the story is told all the same.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    fn fault(&mut self, what: String) {
        self.say(&format!("    NOT AS TOLD: {what}"));
        self.facts.faults.push(what);
    }

    fn bar(&self, length: u64, unit: &str) -> ProgressBar {
        if !self.options.aloud {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template("    {bar:32} {pos}/{len} {msg}").expect("invariant: the template is valid");
        ProgressBar::new(length).with_style(style).with_message(unit.to_owned())
    }

    async fn publish(&self, version: &str) -> anyhow::Result<()> {
        let folder = self.options.assets.join("models/meter-digits").join(version);
        let key = self.world.server_folder().join("operator/release-demo.key");
        let (folder, key) = (folder.to_str().context("a path")?, key.to_str().context("a path")?);
        self.world.operator.run(&["model", "publish", folder, "--key", key]).await.map(drop)
    }

    async fn assign(&self, version: &str, reason: &str) -> anyhow::Result<()> {
        let model = format!("{MODEL}@{version}");
        let probation = ["--probation-inferences", "5", "--probation-seconds", "1"];
        let args = [&["assign", &model, "--to", "*", "--reason", reason][..], &probation].concat();
        self.world.operator.run(&args).await.map(drop)
    }

    async fn devices(&self) -> anyhow::Result<Vec<DeviceRow>> {
        #[derive(serde::Deserialize)]
        struct List {
            items: Vec<DeviceRow>,
        }
        Ok(self.world.operator.tern::<List>(&["device", "list"]).await?.items)
    }

    /// Waits until every device is as wanted.
    async fn wait(&self, what: &str, wanted: impl Fn(&DeviceRow) -> bool) -> anyhow::Result<Vec<DeviceRow>> {
        let started = Moment::now();
        let bar = self.bar(DEVICES as u64, what);
        loop {
            let rows = self.devices().await?;
            let done = rows.iter().filter(|row| wanted(row)).count();
            bar.set_position(done as u64);
            if done == DEVICES {
                bar.finish_and_clear();
                return Ok(rows);
            }
            if started.elapsed() > self.limit {
                let late: Vec<_> = rows.iter().filter(|row| !wanted(row)).collect();
                anyhow::bail!(
                    "waited {:?} for {what}; {done} of {DEVICES} devices are there; the others say {late:#?}",
                    self.limit
                );
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn judge_witness(&mut self) {
        let seen = &self.facts.witness;
        let others: Vec<_> = seen.answers.keys().filter(|version| *version != "1.0.0").cloned().collect();
        let answered = seen.answers.get("1.0.0").copied().unwrap_or_default();
        let failed = (seen.failed, seen.first_failure.clone());
        self.say(&format!("    meanwhile 1.0.0 answered {answered} questions, {} went unanswered", failed.0));
        if answered == 0 || !others.is_empty() {
            self.fault(format!("versions {others:?} answered, 1.0.0 answered {answered} questions"));
        }
        if self.options.chaos.is_none() && failed.0 > 0 {
            self.fault(format!("{} questions went unanswered, the first because {:?}", failed.0, failed.1));
        }
    }
}
