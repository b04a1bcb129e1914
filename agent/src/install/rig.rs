//! Tests only: the machine with whatever answers it, and what it is asked.

use tern_protocol::{
    desired::{Probation, Swap},
    digest::Digest,
};

use super::*;

pub(super) fn version(text: &str) -> VersionRef {
    VersionRef { version: text.parse().unwrap(), manifest: Digest::of(text.as_bytes()), candidate: false }
}

pub(super) fn demand(text: &str) -> DesiredModel {
    let VersionRef { version, manifest, .. } = version(text);
    let probation = Probation { min_inferences: 10, min_seconds: 60 };
    DesiredModel {
        model: "vision/digits".parse().unwrap(),
        version,
        manifest,
        swap: Swap::Beside,
        probation,
        candidate: false,
    }
}

pub(super) fn record(state: ModelState, active: Option<&str>) -> ModelRecord {
    ModelRecord {
        active: active.map(version),
        proven: active.is_some(),
        generation: Generation(1),
        state,
        ..ModelRecord::new(Timestamp::UNIX_EPOCH)
    }
}

pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) uptime: Duration,
    pub(super) candidates: bool,
    numbers: u64,
    agent: tern_protocol::ids::Version,
}

impl Rig {
    pub(super) fn new() -> Self {
        let machine = Machine::new(Standing::default(), Timestamp::UNIX_EPOCH);
        Self { machine, uptime: Duration::ZERO, candidates: true, numbers: 0, agent: "0.1.0".parse().unwrap() }
    }

    pub(super) fn boot(record: ModelRecord) -> Option<(Self, Effects)> {
        Self::boot_under(record, Standing::default())
    }

    pub(super) fn boot_under(record: ModelRecord, standing: Standing) -> Option<(Self, Effects)> {
        let (mut numbers, agent) = (0, "0.1.0".parse().unwrap());
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context { uptime: Duration::ZERO, time, agent: &agent, candidates: true, numbers: &mut numbers };
        let (machine, effects) = Machine::boot(record, standing, &mut cx)?;
        Some((Self { machine, uptime: Duration::ZERO, candidates: true, numbers, agent }, effects))
    }

    /// The machine, and the context that it is asked in.
    pub(super) fn parts(&mut self) -> (&mut Machine, Context<'_>) {
        let Self { machine, uptime, candidates, numbers, agent } = self;
        (machine, Context { uptime: *uptime, time: Timestamp::UNIX_EPOCH, agent, candidates: *candidates, numbers })
    }

    pub(super) fn on(&mut self, event: Event) -> Effects {
        let (machine, mut cx) = self.parts();
        machine.on(event, &mut cx)
    }

    /// Starts the worker with what is to be restored.
    pub(super) fn up(&mut self) {
        self.up_with(Ok(()));
    }

    /// The same, where bringing the active version back ends so.
    pub(super) fn up_with(&mut self, outcome: Result<(), Refusal>) -> Effects {
        let (machine, mut cx) = self.parts();
        let restored = machine.restore(&mut cx);
        let mut effects = self.on(Event::WorkerUp);
        if let Some((slot, _)) = restored {
            effects.extend(self.on(Event::Swapped(slot, outcome)));
        }
        effects
    }

    /// The clock goes on to what the machine waits for.
    pub(super) fn wait(&mut self) -> Effects {
        self.uptime = self.machine.deadline().expect("it waits");
        self.on(Event::Tick)
    }

    /// On probation with a first version.
    pub(super) fn first(text: &str) -> Self {
        let mut rig = Self::new();
        rig.up();
        let effects = rig.demand(text, 1);
        rig.run(effects);
        rig
    }

    /// The agent ends and starts again with this record.
    pub(super) fn again(&self) -> Self {
        let (mut rig, _) = Self::boot(self.machine.record.clone()).unwrap();
        rig.up();
        rig
    }

    pub(super) fn demand(&mut self, text: &str, generation: u64) -> Effects {
        self.on(Event::Demand(Some(demand(text)), Generation(generation)))
    }

    /// Answers every effect with success until nothing follows.
    pub(super) fn run(&mut self, mut effects: Effects) {
        while !effects.is_empty() {
            let answers: Vec<Event> = effects.iter().filter_map(success).collect();
            effects = answers.into_iter().flat_map(|event| self.on(event)).collect();
        }
    }

    pub(super) fn committed(text: &str) -> Self {
        let mut rig = Self::new();
        rig.up();
        let effects = rig.demand(text, 1);
        rig.run(effects);
        rig.prove();
        rig
    }

    pub(super) fn prove(&mut self) {
        let slot = self.slot();
        self.on(Event::Counted { slot, inferences: 10, failures: 0 });
        self.uptime += Duration::from_secs(60);
        self.on(Event::Tick);
    }

    pub(super) fn slot(&self) -> Slot {
        self.machine.serving.slot().unwrap()
    }

    pub(super) fn state(&self) -> ModelState {
        self.machine.record.state
    }

    pub(super) fn active(&self) -> Option<String> {
        self.machine.record.active.as_ref().map(|v| v.version.to_string())
    }

    pub(super) fn error(&self) -> RefusalCode {
        self.machine.record.last_error.as_ref().unwrap().code
    }
}

pub(super) fn success(effect: &Effect) -> Option<Event> {
    match effect {
        Effect::Prepare(number, _) => Some(Event::Prepared(*number, Ok(()))),
        Effect::Probe(number, _) => Some(Event::Probed(*number, Ok(()))),
        Effect::Load(slot, _) => Some(Event::Loaded(*slot, Ok(()))),
        Effect::Swap(slot) => Some(Event::Swapped(*slot, Ok(()))),
        Effect::Persist(_) | Effect::Cancel(_) | Effect::Drain(_) => None,
    }
}

pub(super) fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, "x")
}

pub(super) fn persists(effects: &Effects) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Persist(_))).count()
}

pub(super) fn prepare_number(effects: &Effects) -> Option<u64> {
    effects.iter().find_map(|e| if let Effect::Prepare(number, _) = e { Some(*number) } else { None })
}

pub(super) fn load_slot(effects: &Effects, text: &str) -> Option<Slot> {
    effects.iter().find_map(|e| if let Effect::Load(s, v) = e { (*v == version(text)).then_some(*s) } else { None })
}
