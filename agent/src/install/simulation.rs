//! Thousands of seeded lives of one machine: power cuts before every effect, dying workers, failing servers, fickle
//! operators, teams that recall. The seed of a failure is in its message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tern_protocol::digest::Digest;

use super::{
    rig::{demand, record, version},
    serving::is_proof,
    *,
};
use tern_protocol::standing::OnRecall;

const LIVES: u64 = 4000;
const STEPS: usize = 120;
const QUIET: usize = 2000;

/// 1.x are good; 2.0.0 fails its probe; 3.0.0 kills the worker once it answers; 4.0.0 answers with NaN.
const VERSIONS: [&str; 5] = ["1.0.0", "1.1.0", "2.0.0", "3.0.0", "4.0.0"];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

struct Life {
    dice: Dice,
    machine: Machine,
    durable: ModelRecord,
    whole: BTreeSet<Digest>,
    slots: BTreeMap<Slot, VersionRef>,
    pending: VecDeque<Event>,
    worker: bool,
    uptime: Duration,
    numbers: u64,
    generation: u64,
    stormy: bool,
    /// Whether the team recalls at all in this life: where it does, a device may come to stand without a version.
    speaking: bool,
    /// What the team says, durable before the machine hears of it, and what it heard.
    said: Standing,
    heard: Standing,
}

impl Life {
    fn new(seed: u64) -> Self {
        let durable = record(ModelState::Committed, Some("1.0.0"));
        let durable = ModelRecord { desired: Some(demand("1.0.0")), ..durable };
        Self {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            machine: Machine::new(Standing::default(), Timestamp::UNIX_EPOCH),
            whole: [version("1.0.0").manifest].into(),
            durable,
            slots: BTreeMap::new(),
            pending: VecDeque::new(),
            worker: false,
            uptime: Duration::ZERO,
            numbers: 0,
            generation: 1,
            stormy: true,
            speaking: seed.is_multiple_of(2),
            said: Standing::default(),
            heard: Standing::default(),
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Machine, &mut Context<'_>) -> T) -> T {
        let agent = "0.1.0".parse().unwrap();
        let (uptime, time) = (self.uptime, Timestamp::UNIX_EPOCH);
        act(
            &mut self.machine,
            &mut Context { uptime, time, agent: &agent, candidates: true, numbers: &mut self.numbers },
        )
    }

    /// Power comes back: what is durable is all there is.
    fn boot(&mut self) {
        self.pending.clear();
        self.slots.clear();
        self.worker = false;
        (self.uptime, self.numbers) = (Duration::ZERO, 0);
        let durable = self.durable.clone();
        assert!(durable.active.as_ref().is_none_or(|v| self.whole.contains(&v.manifest)), "an active version is whole");
        let said = self.said.clone();
        self.heard = said.clone();
        let booted = self.with(|_, cx| Machine::boot(durable, said, cx));
        let (machine, effects) = booted.expect("the model is never removed here");
        self.machine = machine;
        self.holds();
        if self.carry_out(effects) {
            self.start_worker();
        }
    }

    fn start_worker(&mut self) {
        let restored = self.with(|machine, cx| machine.restore(cx));
        self.worker = true;
        self.pending.push_back(Event::WorkerUp);
        if let Some((slot, version)) = restored {
            let outcome = self.reading();
            if outcome.is_ok() {
                self.slots.insert(slot, version);
            }
            self.pending.push_back(Event::Swapped(slot, outcome));
        }
    }

    /// The disk fails in passing, or a version rots where there is a way to another one.
    fn reading(&mut self) -> Result<(), Refusal> {
        if !self.stormy {
            return Ok(());
        }
        let passing = [RefusalCode::NoSpace, RefusalCode::Fetch, RefusalCode::SwapFailed];
        // One of two proven versions, one at a time: where the only one rots nothing can answer.
        let rots = |e: &Event| matches!(e, Event::Swapped(_, Err(r)) | Event::Loaded(_, Err(r)) if is_proof(r.code));
        let record = self.machine.record();
        let spare = record.proven && record.previous.is_some() && !self.pending.iter().any(rots);
        match self.dice.roll(8) {
            n @ 0..3 => Err(Refusal::new(passing[n as usize], "passing")),
            3 if spare => Err(Refusal::new(RefusalCode::BlobDigest, "it rotted")),
            _ => Ok(()),
        }
    }

    fn kill_worker(&mut self) {
        self.worker = false;
        self.slots.clear();
        self.pending
            .retain(|e| !matches!(e, Event::Loaded(..) | Event::Swapped(..) | Event::WorkerUp | Event::Counted { .. }));
        if self.deliver(Event::WorkerDied("signal 9".into())) {
            self.start_worker();
        }
    }

    /// False where power was cut on the way.
    fn deliver(&mut self, event: Event) -> bool {
        if let Event::Swapped(slot, Ok(())) = &event {
            self.serve(*slot);
        }
        let passing = matches!(&event, Event::Swapped(_, Err(r)) | Event::Loaded(_, Err(r)) if !is_proof(r.code));
        let before = proven(self.machine.record());
        let effects = self.with(|machine, cx| machine.on(event, cx));
        self.holds();
        let after = proven(self.machine.record());
        assert!(!passing || before.is_subset(&after), "a passing error lost a proven version: {before:?} {after:?}");
        self.carry_out(effects)
    }

    /// Nothing that the machine has heard to be forbidden is recorded, answers, or is on its way to.
    fn holds(&self) {
        let forbidden = |v: &&VersionRef| self.heard.allows(&v.version).is_err();
        let record = self.machine.record();
        let shown = record.versions().chain(self.machine.answering()).find(forbidden);
        assert_eq!(shown, None, "{record:?} under {:?}", self.heard);
    }

    /// The team says something else: mostly recalls, at times a floor, at times all is well again.
    fn speak(&mut self) {
        let mut standing = Standing::default();
        for text in VERSIONS {
            if self.dice.roll(3) == 0 {
                standing.recalled.insert(version(text).version, "x".into());
            }
        }
        if self.dice.roll(4) == 0 {
            standing.floor = Some(version(VERSIONS[self.dice.roll(3) as usize]).version);
        }
        if self.dice.roll(4) == 0 {
            standing = Standing::default();
        }
        standing.on_recall = if self.dice.roll(3) == 0 { OnRecall::Stop } else { OnRecall::Fallback };
        self.said = standing.clone();
        if self.dice.roll(8) == 0 {
            // The power goes before the machine hears of it.
            return self.boot();
        }
        self.heard = standing.clone();
        self.deliver(Event::Standing(standing));
    }

    /// What a version does once it answers.
    fn serve(&mut self, slot: Slot) {
        let Some(version) = self.slots.get(&slot) else { return };
        if version.version.to_string() == "3.0.0" {
            // It kills the worker before it answers anything: see `step`.
            return;
        }
        let failures = u64::from(version.version.to_string() == "4.0.0") * 10;
        self.pending.push_back(Event::Counted { slot, inferences: 20, failures });
    }

    fn carry_out(&mut self, effects: Effects) -> bool {
        for effect in effects {
            if self.stormy && self.dice.roll(40) == 0 {
                self.boot();
                return false;
            }
            match effect {
                Effect::Persist(record) => self.persist(*record),
                Effect::Prepare(number, wanted) => {
                    let failed = self.stormy && self.dice.roll(4) == 0;
                    let outcome = if failed { Err(Refusal::new(RefusalCode::Fetch, "cut")) } else { Ok(()) };
                    if outcome.is_ok() {
                        self.whole.insert(wanted.manifest);
                    }
                    self.pending.push_back(Event::Prepared(number, outcome));
                }
                Effect::Probe(number, tried) => {
                    assert!(self.whole.contains(&tried.manifest), "only whole versions are probed");
                    let bad = tried.version.to_string() == "2.0.0";
                    let outcome = if bad { Err(Refusal::new(RefusalCode::GoldenMismatch, "bad")) } else { Ok(()) };
                    self.pending.push_back(Event::Probed(number, outcome));
                }
                Effect::Load(slot, loaded) => {
                    assert_eq!(self.heard.allows(&loaded.version), Ok(()), "what may not run is not loaded");
                    assert_ne!(loaded.version.to_string(), "2.0.0", "what failed its probe is never loaded");
                    assert!(self.whole.contains(&loaded.manifest));
                    if self.worker {
                        let outcome = self.reading();
                        if outcome.is_ok() {
                            assert!(self.slots.insert(slot, loaded).is_none(), "no slot number comes twice");
                        }
                        self.pending.push_back(Event::Loaded(slot, outcome));
                    }
                }
                Effect::Swap(slot) if self.worker => self.pending.push_back(Event::Swapped(slot, Ok(()))),
                Effect::Drain(slot) => drop(self.slots.remove(&slot)),
                Effect::Swap(_) | Effect::Cancel(_) => {}
            }
        }
        true
    }

    fn persist(&mut self, record: ModelRecord) {
        for named in record.active.iter().chain(&record.previous) {
            assert!(self.whole.contains(&named.manifest) && named.version.to_string() != "2.0.0", "{record:?}");
        }
        if record.proven {
            let active = record.active.as_ref().unwrap().version.to_string();
            assert!(!["3.0.0", "4.0.0"].contains(&active.as_str()), "a harmful version never survives: {record:?}");
        }
        assert!(record.attempts <= MAX_ATTEMPTS + 1, "{record:?}");
        self.durable = record;
    }

    fn step(&mut self) {
        if self.machine.answering().is_some_and(|v| v.version.to_string() == "3.0.0") {
            return self.kill_worker();
        }
        match self.dice.roll(13) {
            12 if self.stormy && self.speaking && self.dice.roll(3) == 0 => self.speak(),
            0 if self.stormy => {
                self.generation += 1;
                let wanted = VERSIONS[self.dice.roll(VERSIONS.len() as u64) as usize];
                self.deliver(Event::Demand(Some(demand(wanted)), Generation(self.generation)));
            }
            1 if self.stormy && self.dice.roll(4) == 0 => self.kill_worker(),
            1 if self.stormy && self.dice.roll(8) == 0 => {
                let effects = self.machine.leave();
                if self.carry_out(effects) {
                    self.boot();
                }
            }
            2 | 3 => {
                self.uptime += Duration::from_secs(self.dice.roll(400));
                self.deliver(Event::Tick);
            }
            _ => {
                if let Some(event) = self.pending.pop_front() {
                    self.deliver(event);
                }
            }
        }
    }
}

/// The versions that survived a probation and are kept.
fn proven(record: &ModelRecord) -> BTreeSet<VersionRef> {
    record.active.iter().filter(|_| record.proven).chain(&record.previous).cloned().collect()
}

#[test]
fn whatever_happens_a_whole_version_answers_and_the_machine_comes_to_rest() {
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 1..=LIVES {
        let end = std::panic::catch_unwind(|| live(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        *ends.entry(format!("{end:?}")).or_default() += 1;
    }
    // Each way to end is met, or the simulation proves nothing.
    for wanted in [ModelState::Committed, ModelState::Rejected, ModelState::RolledBack, ModelState::Stopped] {
        assert!(ends.contains_key(&format!("{wanted:?}")), "{ends:?}");
    }
}

fn live(seed: u64) -> ModelState {
    let mut life = Life::new(seed);
    life.boot();
    for _ in 0..STEPS {
        life.step();
    }
    life.stormy = false;
    for _ in 0..QUIET {
        life.step();
    }
    let record = life.machine.record().clone();
    assert!(same_but_for_counts(&record, &life.durable), "what is believed is durable: {record:?} {:?}", life.durable);
    assert_eq!(life.machine.answering(), record.active.as_ref(), "the active version answers");
    assert!(record.active.is_some() || life.speaking, "the device never goes without a version: {record:?}");
    let at_rest = [ModelState::Committed, ModelState::Rejected, ModelState::RolledBack, ModelState::Stopped];
    assert!(at_rest.contains(&record.state), "it comes to rest: {record:?}");
    assert!(record.state != ModelState::Stopped || record.active.is_none(), "{record:?}");
    let demanded = record.desired.as_ref().map(|d| life.said.allows(&d.version).is_ok());
    assert!(demanded == Some(true) || record.state != ModelState::Committed, "{record:?} under {:?}", life.said);
    if record.state == ModelState::Committed {
        assert_eq!(record.active.as_ref().map(|v| v.manifest), record.desired.as_ref().map(|d| d.manifest));
    }
    record.state
}
