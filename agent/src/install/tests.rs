//! The machine, event by event.

use tern_protocol::{
    desired::{Probation, Swap},
    digest::Digest,
};

use super::*;

pub(super) fn version(text: &str) -> VersionRef {
    VersionRef { version: text.parse().unwrap(), manifest: Digest::of(text.as_bytes()) }
}

pub(super) fn demand(text: &str) -> DesiredModel {
    let VersionRef { version, manifest } = version(text);
    let probation = Probation { min_inferences: 10, min_seconds: 60 };
    DesiredModel { model: "vision/digits".parse().unwrap(), version, manifest, swap: Swap::Beside, probation }
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
    numbers: u64,
    agent: Version,
}

impl Rig {
    pub(super) fn new() -> Self {
        let machine = Machine::new(Timestamp::UNIX_EPOCH);
        Self { machine, uptime: Duration::ZERO, numbers: 0, agent: "0.1.0".parse().unwrap() }
    }

    pub(super) fn boot(record: ModelRecord) -> Option<(Self, Effects)> {
        let (mut numbers, agent) = (0, "0.1.0".parse().unwrap());
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context { uptime: Duration::ZERO, time, agent: &agent, numbers: &mut numbers };
        let (machine, effects) = Machine::boot(record, &mut cx)?;
        Some((Self { machine, uptime: Duration::ZERO, numbers, agent }, effects))
    }

    pub(super) fn on(&mut self, event: Event) -> Effects {
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context { uptime: self.uptime, time, agent: &self.agent, numbers: &mut self.numbers };
        self.machine.on(event, &mut cx)
    }

    /// Starts the worker with what is to be restored.
    fn up(&mut self) {
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context { uptime: self.uptime, time, agent: &self.agent, numbers: &mut self.numbers };
        let restored = self.machine.restore(&mut cx);
        self.on(Event::WorkerUp);
        if let Some((slot, _)) = restored {
            self.on(Event::Swapped(slot, Ok(())));
        }
    }

    fn demand(&mut self, text: &str, generation: u64) -> Effects {
        self.on(Event::Demand(Some(demand(text)), Generation(generation)))
    }

    /// Answers every effect with success until nothing follows.
    fn run(&mut self, mut effects: Effects) {
        while !effects.is_empty() {
            let answers: Vec<Event> = effects.iter().filter_map(success).collect();
            effects = answers.into_iter().flat_map(|event| self.on(event)).collect();
        }
    }

    fn committed(text: &str) -> Self {
        let mut rig = Self::new();
        rig.up();
        let effects = rig.demand(text, 1);
        rig.run(effects);
        rig.prove();
        rig
    }

    fn prove(&mut self) {
        let slot = self.slot();
        self.on(Event::Counted { slot, inferences: 10, failures: 0 });
        self.uptime += Duration::from_secs(60);
        self.on(Event::Tick);
    }

    fn slot(&self) -> Slot {
        self.machine.serving.slot().unwrap()
    }

    fn state(&self) -> ModelState {
        self.machine.record.state
    }

    fn active(&self) -> Option<String> {
        self.machine.record.active.as_ref().map(|v| v.version.to_string())
    }

    fn error(&self) -> RefusalCode {
        self.machine.record.last_error.as_ref().unwrap().code
    }
}

fn success(effect: &Effect) -> Option<Event> {
    match effect {
        Effect::Prepare(number, _) => Some(Event::Prepared(*number, Ok(()))),
        Effect::Probe(number, _) => Some(Event::Probed(*number, Ok(()))),
        Effect::Load(slot, _) => Some(Event::Loaded(*slot, Ok(()))),
        Effect::Swap(slot) => Some(Event::Swapped(*slot, Ok(()))),
        Effect::Persist(_) | Effect::Cancel(_) | Effect::Drain(_) => None,
    }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, "x")
}

fn prepare_number(effects: &Effects) -> Option<u64> {
    effects.iter().find_map(|e| if let Effect::Prepare(number, _) = e { Some(*number) } else { None })
}

#[test]
fn a_version_goes_all_the_way_and_each_intention_is_recorded_first() {
    let mut rig = Rig::new();
    rig.up();
    let effects = rig.demand("1.0.0", 1);
    let number = prepare_number(&effects).unwrap();
    assert!(matches!(effects.last(), Some(Effect::Prepare(..))));
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let [Effect::Persist(record), Effect::Probe(number, tried)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.state, record.attempts, tried), (ModelState::Probing, 1, &version("1.0.0")));
    let effects = rig.on(Event::Probed(*number, Ok(())));
    let [Effect::Persist(record), Effect::Load(slot, _)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.state, record.active.is_none()), (ModelState::Staged, true));
    assert_eq!(rig.on(Event::Loaded(*slot, Ok(()))), [Effect::Swap(*slot)]);
    let effects = rig.on(Event::Swapped(*slot, Ok(())));
    assert!(matches!(&effects[..], [Effect::Persist(record)] if record.state == ModelState::OnProbation));
    rig.prove();
    assert_eq!((rig.state(), rig.machine.record.proven), (ModelState::Committed, true));
    assert_eq!(rig.machine.deadline(), None);
}

#[test]
fn the_old_version_answers_until_the_new_one_has_swapped() {
    let mut rig = Rig::committed("1.0.0");
    let old = rig.slot();
    let mut effects = rig.demand("1.1.0", 2);
    loop {
        let next: Vec<Event> = effects.iter().filter_map(success).collect();
        let swapped = matches!(next[..], [Event::Swapped(..)]);
        if !swapped {
            assert_eq!((rig.slot(), rig.active()), (old, Some("1.0.0".into())));
        }
        effects = next.into_iter().flat_map(|event| rig.on(event)).collect();
        if swapped {
            break;
        }
    }
    assert_eq!(effects.last(), Some(&Effect::Drain(old)));
    assert_eq!(rig.active().as_deref(), Some("1.1.0"));
    assert_eq!(rig.machine.record.previous, Some(version("1.0.0")));
}

#[test]
fn too_few_inferences_are_idle_and_more_of_them_commit() {
    let mut rig = Rig::new();
    rig.up();
    let effects = rig.demand("1.0.0", 1);
    rig.run(effects);
    rig.uptime += Duration::from_secs(60);
    rig.on(Event::Tick);
    assert_eq!(rig.state(), ModelState::Idle);
    let slot = rig.slot();
    rig.on(Event::Counted { slot, inferences: 10, failures: 0 });
    assert_eq!(rig.state(), ModelState::Committed);
}

#[test]
fn failures_on_probation_take_the_version_back_to_the_one_before() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    let slot = rig.slot();
    assert_eq!(rig.on(Event::Counted { slot, inferences: 30, failures: 2 }), []);
    let effects = rig.on(Event::Counted { slot, inferences: 0, failures: 1 });
    let [Effect::Persist(record), Effect::Load(_, loaded)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.state, loaded), (ModelState::RolledBack, &version("1.0.0")));
    rig.run(effects);
    assert_eq!((rig.active().as_deref(), rig.error()), (Some("1.0.0"), RefusalCode::ProbationFailed));
    assert_ne!(rig.slot(), slot);
}

#[test]
fn failures_below_one_in_twenty_are_survived() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    let slot = rig.slot();
    rig.on(Event::Counted { slot, inferences: 97, failures: 3 });
    assert_eq!(rig.state(), ModelState::OnProbation);
}

#[test]
fn a_death_of_the_worker_takes_back_what_is_on_probation_and_nothing_else() {
    let mut rig = Rig::committed("1.0.0");
    rig.on(Event::WorkerDied("signal 9".into()));
    assert_eq!((rig.state(), rig.active().as_deref()), (ModelState::Committed, Some("1.0.0")));
    rig.up();
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.on(Event::WorkerDied("signal 11".into()));
    assert_eq!((rig.state(), rig.active().as_deref()), (ModelState::RolledBack, Some("1.0.0")));
    rig.up();
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    // Named again, even by a newer state, it is not tried again; after another version it is.
    assert_eq!(prepare_number(&rig.demand("1.1.0", 3)), None);
    let effects = rig.demand("1.0.0", 4);
    rig.run(effects);
    assert!(prepare_number(&rig.demand("1.1.0", 5)).is_some());
}

#[test]
fn a_first_version_outlives_a_death_of_the_worker_but_not_every_one() {
    let mut rig = Rig::new();
    rig.up();
    let effects = rig.demand("1.0.0", 1);
    rig.run(effects);
    let mut deaths = 0;
    while rig.active().is_some() {
        assert_eq!((rig.state(), rig.machine.answering()), (ModelState::OnProbation, Some(&version("1.0.0"))));
        deaths += 1;
        assert!(deaths <= MAX_ATTEMPTS, "it is never given up");
        rig.on(Event::WorkerDied("signal 9".into()));
        rig.up();
    }
    assert!(deaths >= 2, "one death silenced the device");
    assert_eq!((rig.state(), rig.error()), (ModelState::RolledBack, RefusalCode::ProbationFailed));
}

#[test]
fn a_refused_version_is_tried_again_for_a_newer_generation_only() {
    let mut rig = Rig::committed("1.0.0");
    let number = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let Some(Effect::Probe(number, _)) = effects.last() else { panic!("{effects:?}") };
    rig.on(Event::Probed(*number, Err(refusal(RefusalCode::GoldenMismatch))));
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::GoldenMismatch));
    assert_eq!((rig.active().as_deref(), &rig.machine.record.candidate), (Some("1.0.0"), &None));
    assert_eq!(prepare_number(&rig.demand("1.1.0", 2)), None);
    assert!(prepare_number(&rig.demand("1.1.0", 3)).is_some());
}

#[test]
fn a_passing_failure_is_tried_again_after_growing_pauses_without_wearing_the_flash() {
    let mut rig = Rig::committed("1.0.0");
    let mut number = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    let (mut last, mut writes) = (Duration::ZERO, 0);
    for _ in 0..20 {
        let effects = rig.on(Event::Prepared(number, Err(refusal(RefusalCode::Fetch))));
        writes += effects.iter().filter(|e| matches!(e, Effect::Persist(_))).count();
        let until = rig.machine.deadline().unwrap();
        let pause = until - rig.uptime;
        assert!(pause >= last.min(LONGEST_FETCH_PAUSE) / 2 && pause <= LONGEST_FETCH_PAUSE * 3 / 2, "{pause:?}");
        last = pause;
        rig.uptime = until - Duration::from_millis(1);
        assert_eq!(rig.on(Event::Tick), []);
        rig.uptime = until;
        number = prepare_number(&rig.on(Event::Tick)).unwrap();
    }
    assert_eq!(writes, 1);
    assert_eq!(rig.machine.record.last_error.as_ref().unwrap().count, 20);
    assert_eq!(rig.state(), ModelState::Fetching);
}

#[test]
fn a_newer_demand_supersedes_and_late_answers_are_ignored() {
    let mut rig = Rig::committed("1.0.0");
    let first = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    let effects = rig.demand("1.2.0", 3);
    assert_eq!(effects[0], Effect::Cancel(first));
    let second = prepare_number(&effects).unwrap();
    assert_eq!(rig.on(Event::Prepared(first, Ok(()))), []);
    let effects = rig.on(Event::Prepared(second, Ok(())));
    rig.run(effects);
    assert_eq!(rig.active().as_deref(), Some("1.2.0"));
}

#[test]
fn a_version_superseded_while_it_loads_is_drained() {
    let mut rig = Rig::committed("1.0.0");
    let number = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let Some(Effect::Probe(number, _)) = effects.last() else { panic!("{effects:?}") };
    let effects = rig.on(Event::Probed(*number, Ok(())));
    let Some(Effect::Load(slot, _)) = effects.last() else { panic!("{effects:?}") };
    rig.demand("1.0.0", 3);
    assert_eq!(rig.on(Event::Loaded(*slot, Ok(()))), [Effect::Drain(*slot)]);
    assert_eq!((rig.state(), rig.active().as_deref()), (ModelState::Committed, Some("1.0.0")));
}

#[test]
fn a_staged_candidate_vouches_for_no_other() {
    let mut rig = Rig::new();
    let number = prepare_number(&rig.demand("1.0.0", 1)).unwrap();
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let Some(Effect::Probe(number, _)) = effects.last() else { panic!("{effects:?}") };
    rig.on(Event::Probed(*number, Ok(())));
    assert_eq!(rig.state(), ModelState::Staged, "no worker yet");
    assert!(prepare_number(&rig.demand("1.1.0", 2)).is_some(), "another version goes the whole way");
}

#[test]
fn an_undo_needs_neither_network_nor_probation() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.prove();
    let effects = rig.demand("1.0.0", 3);
    assert!(effects.iter().all(|e| !matches!(e, Effect::Prepare(..) | Effect::Probe(..))), "{effects:?}");
    rig.run(effects);
    assert_eq!((rig.state(), rig.active().as_deref()), (ModelState::Committed, Some("1.0.0")));
    assert_eq!(rig.machine.record.previous, Some(version("1.1.0")));
}

#[test]
fn replace_drops_the_old_version_first_and_brings_it_back_where_the_new_one_fails() {
    let mut rig = Rig::committed("1.0.0");
    let old = rig.slot();
    let replace = DesiredModel { swap: Swap::Replace, ..demand("1.1.0") };
    let effects = rig.on(Event::Demand(Some(replace), Generation(2)));
    let number = prepare_number(&effects).unwrap();
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let Some(Effect::Probe(number, _)) = effects.last() else { panic!("{effects:?}") };
    let effects = rig.on(Event::Probed(*number, Ok(())));
    let [Effect::Persist(_), Effect::Drain(drained), Effect::Load(slot, _)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*drained, old);
    let effects = rig.on(Event::Loaded(*slot, Err(refusal(RefusalCode::LoadFailed))));
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::LoadFailed));
}

#[test]
fn a_worker_that_dies_loading_it_three_times_refuses_the_version() {
    let mut rig = Rig::committed("1.0.0");
    let mut effects = rig.demand("1.1.0", 2);
    loop {
        let loading = effects.iter().any(|e| matches!(e, Effect::Load(_, v) if *v == version("1.1.0")));
        if loading {
            break;
        }
        effects = effects.iter().filter_map(success).collect::<Vec<_>>().into_iter().flat_map(|e| rig.on(e)).collect();
    }
    for _ in 0..MAX_ATTEMPTS {
        assert_ne!(rig.state(), ModelState::Rejected);
        rig.on(Event::WorkerDied("signal 9".into()));
        rig.up();
    }
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::AttemptsExhausted));
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
}

#[test]
fn an_active_version_that_rotted_gives_way_and_is_fetched_again() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.prove();
    rig.on(Event::WorkerDied("signal 9".into()));
    let time = Timestamp::UNIX_EPOCH;
    let mut cx = Context { uptime: rig.uptime, time, agent: &rig.agent, numbers: &mut rig.numbers };
    let (slot, _) = rig.machine.restore(&mut cx).unwrap();
    rig.on(Event::WorkerUp);
    let effects = rig.on(Event::Swapped(slot, Err(refusal(RefusalCode::BlobDigest))));
    assert!(prepare_number(&effects).is_some());
    assert!(effects.iter().any(|e| matches!(e, Effect::Load(_, v) if *v == version("1.0.0"))));
    rig.run(effects);
    assert_eq!(rig.active().as_deref(), Some("1.1.0"));
}

#[test]
fn a_removed_model_is_drained() {
    let mut rig = Rig::committed("1.0.0");
    let slot = rig.slot();
    let effects = rig.on(Event::Demand(None, Generation(2)));
    assert_eq!(effects.last(), Some(&Effect::Drain(slot)));
    assert_eq!((rig.state(), rig.active()), (ModelState::Removed, None));
    assert_eq!(rig.machine.answering(), None);
}

#[test]
fn where_nothing_can_be_recorded_nothing_is_installed_and_what_serves_serves() {
    let mut rig = Rig::committed("1.0.0");
    let durable = rig.machine.record.clone();
    let effects = rig.demand("1.1.0", 2);
    assert!(matches!(effects[0], Effect::Persist(_)));
    let effects = rig.on(Event::Unrecordable(Box::new(durable), "disk full".into()));
    assert!(matches!(effects[..], [Effect::Cancel(_)]), "{effects:?}");
    assert_eq!(rig.error(), RefusalCode::FloorUnreadable);
    assert_eq!((rig.active().as_deref(), rig.machine.answering()), (Some("1.0.0"), Some(&version("1.0.0"))));
    assert_eq!(prepare_number(&rig.demand("1.2.0", 3)), None);
}

#[test]
fn an_agent_of_another_version_judges_anew() {
    let refused = Refused {
        manifest: version("2.0.0").manifest,
        generation: Generation(1),
        code: RefusalCode::AgentTooOld,
        agent: "0.0.9".parse().unwrap(),
    };
    let mut old = record(ModelState::Rejected, Some("1.0.0"));
    (old.desired, old.refused) = (Some(demand("2.0.0")), Some(refused.clone()));
    let (_, effects) = Rig::boot(old.clone()).unwrap();
    assert!(prepare_number(&effects).is_some());
    old.refused = Some(Refused { agent: "0.1.0".parse().unwrap(), ..refused });
    assert_eq!(Rig::boot(old).unwrap().1, []);
}
