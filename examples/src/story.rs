//! The quickstart's story: from a signed model on real digits to decay, a retrained version, and back from bad ones.
//!
//! 1. a server with its broker, an operator, eight enrolled devices;
//! 2. 1.0.0 is published, assigned, and reads real handwritten digits on every device;
//! 3. 1.0.1 is tampered with on the server's disk, and each device's signed orders are replayed to its neighbour: every
//!    device refuses both, and 1.0.0 answers throughout;
//! 4. cameras look all the time and nothing is wrong; two lenses foul, then all: the server says which, and why;
//! 5. the retrain hook publishes 1.1.0; it is tried on two devices, spreads, and reads the fouled digits;
//! 6. 1.2.0 carries a wrong golden vector and never serves; 1.3.0 answers NaN and is taken back; 1.1.0 answers throughout;
//! 7. what the devices counted is what the server counted.
//!
//! A fault in the story is noted in the facts and the story goes on where it can; an error ends it.

mod accounts;
mod asking;
mod decay;
mod digits;
mod refusals;
mod renewal;

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    cameras::{Digit, read_digits},
    chaos::Chaos,
    clock::Moment,
    facts::{Facts, StepFact},
    footprint::measure,
    hardships::Hardships,
    play::{Pace, Play, Scene, script::Script},
    processes::Programs,
    witness::Witness,
    world::World,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

/// How many devices there are, at least: the fewest that can be one another's control.
pub const DEVICES: usize = 8;
/// Time between two images before one camera: a detection window takes a little over two seconds.
const BETWEEN_IMAGES: Duration = Duration::from_millis(10);
/// Somebody looks at so many of a thousand images …
const LABELLED_PER_MILLE: u64 = 300;
/// … and tells what they were so long after they were read.
const LABEL_AFTER: Duration = Duration::from_secs(2);
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
    /// What else befalls the devices.
    pub hardships: Hardships,
    /// Which images the cameras see, in which order.
    pub seed: u64,
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
    let mut hardships = options.hardships;
    hardships.cables |= options.chaos.is_some() || hardships.offline.is_some();
    // While one is away the others are still enough to control one another.
    let count = DEVICES + usize::from(hardships.offline.is_some());
    let world = World::new(options.programs.clone(), &options.scratch, count, patience, hardships).await?;
    let digits = read_digits(&options.assets.join("data/played.csv"))?;
    let chaos = options.chaos.map(|seed| Chaos::new(seed, world.processes.clone(), world.cables.clone()));
    let limit = Duration::from_secs(if options.chaos.is_some() { 180 } else { 60 });
    let mut teller = Teller { options, world, facts: Facts::default(), chaos, limit };
    teller.chapters(&digits).await?;
    let Teller { mut facts, world, .. } = teller;
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
        self.lay_hook()?;
        self.world.start_server().await?;
        self.world.log_in().await?;
        self.end(clock, "keys on one machine (--solo: for trying out only)".into());

        let clock = self.begin("eight devices enrol and start");
        let bar = self.bar(self.world.devices.len() as u64, "devices");
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
        self.replayed_orders().await?;
        self.recovery().await?;
        self.facts.witness = witness.dismiss().await;
        self.judge_witness();
        self.watch(digits).await
    }

    /// The second half: cameras look all the time.
    async fn watch(&mut self, digits: &[Digit]) -> anyhow::Result<()> {
        let addresses: Vec<_> = self.world.devices.iter().map(|d| (d.name.clone(), d.address.clone())).collect();
        let script = Script { seed: self.options.seed, labelled_per_mille: LABELLED_PER_MILLE };
        let pace = Pace { script, every: BETWEEN_IMAGES, label_after: LABEL_AFTER };
        let play = Play::start(&addresses, Arc::from(digits), pace, Scene::default());
        self.clean_phase(&play).await?;
        self.hardships(true)?;
        self.two_lenses(&play).await?;
        self.all_lenses(&play).await?;
        self.hardships(false)?;
        self.retrained(&play).await?;
        self.renewed_phase(&play).await?;
        self.wrong_golden_vector(&play).await?;
        self.nan_version(&play).await?;
        self.facts.serving = measure(&self.world.processes.lock().await.agents);
        play.stop().await?;
        if let Some(chaos) = self.chaos.take() {
            self.facts.kills = Some(chaos.end().await);
        }
        self.accounts().await
    }

    /// Lets what the options say befall the devices, or ends it.
    fn hardships(&self, begin: bool) -> anyhow::Result<()> {
        for cable in self.options.hardships.offline.and_then(|index| self.world.cables.get(index)).into_iter().flatten()
        {
            cable.plug(!begin);
        }
        match &self.world.small_disk {
            Some(disk) if begin => disk.fill(),
            Some(disk) => disk.free(),
            None => Ok(()),
        }
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
