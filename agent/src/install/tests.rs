//! The machine, event by event.

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

    pub(super) fn on(&mut self, event: Event) -> Effects {
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context {
            uptime: self.uptime,
            time,
            agent: &self.agent,
            candidates: self.candidates,
            numbers: &mut self.numbers,
        };
        self.machine.on(event, &mut cx)
    }

    /// Starts the worker with what is to be restored.
    pub(super) fn up(&mut self) {
        self.up_with(Ok(()));
    }

    /// The same, where bringing the active version back ends so.
    pub(super) fn up_with(&mut self, outcome: Result<(), Refusal>) -> Effects {
        let time = Timestamp::UNIX_EPOCH;
        let mut cx = Context {
            uptime: self.uptime,
            time,
            agent: &self.agent,
            candidates: self.candidates,
            numbers: &mut self.numbers,
        };
        let restored = self.machine.restore(&mut cx);
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
    fn again(&self) -> Self {
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

fn persists(effects: &Effects) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Persist(_))).count()
}

pub(super) fn prepare_number(effects: &Effects) -> Option<u64> {
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
    fails_in_passing(RefusalCode::Fetch, LONGEST_FETCH_PAUSE, ModelState::Fetching);
    fails_in_passing(RefusalCode::NoSpace, LONGEST_PAUSE, ModelState::Rejected);
}

fn fails_in_passing(code: RefusalCode, longest: Duration, state: ModelState) {
    let mut rig = Rig::committed("1.0.0");
    let mut number = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    let (mut last, mut writes) = (Duration::ZERO, 0);
    for _ in 0..20 {
        let effects = rig.on(Event::Prepared(number, Err(refusal(code))));
        writes += persists(&effects);
        let until = rig.machine.deadline().unwrap();
        let pause = until - rig.uptime;
        assert!(pause >= last.min(longest) / 2 && pause <= longest * 3 / 2, "{pause:?}");
        last = pause;
        rig.uptime = until - Duration::from_millis(1);
        assert_eq!(rig.on(Event::Tick), []);
        rig.uptime = until;
        let effects = rig.on(Event::Tick);
        writes += persists(&effects);
        number = prepare_number(&effects).unwrap();
    }
    assert_eq!(writes, 1);
    assert_eq!(rig.machine.record.last_error.as_ref().unwrap().count, 20);
    assert_eq!(rig.state(), state);
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
    let mut cx = Context { uptime: rig.uptime, time, agent: &rig.agent, candidates: true, numbers: &mut rig.numbers };
    let (slot, _) = rig.machine.restore(&mut cx).unwrap();
    rig.on(Event::WorkerUp);
    let effects = rig.on(Event::Swapped(slot, Err(refusal(RefusalCode::BlobDigest))));
    assert!(prepare_number(&effects).is_some());
    assert!(effects.iter().any(|e| matches!(e, Effect::Load(_, v) if *v == version("1.0.0"))));
    rig.run(effects);
    assert_eq!(rig.active().as_deref(), Some("1.1.0"));
}

#[test]
fn a_proven_version_that_cannot_be_read_in_passing_is_kept_and_loaded_again() {
    for code in [RefusalCode::NoSpace, RefusalCode::Fetch, RefusalCode::SwapFailed] {
        let mut rig = Rig::committed("1.0.0").again();
        rig.on(Event::WorkerDied("signal 9".into()));
        let effects = rig.up_with(Err(refusal(code)));
        assert!(effects.iter().all(|e| !matches!(e, Effect::Load(..))), "it is not tried in a circle: {effects:?}");
        let mut last = Duration::ZERO;
        for _ in 0..15 {
            assert_eq!((rig.active().as_deref(), rig.machine.record.proven), (Some("1.0.0"), true));
            let asked = rig.uptime;
            let effects = rig.wait();
            let pause = rig.uptime - asked;
            assert!(pause >= last && pause > Duration::ZERO && pause <= LONGEST_FETCH_PAUSE, "{pause:?}");
            last = pause;
            let slot = load_slot(&effects, "1.0.0").unwrap();
            assert_eq!(persists(&rig.on(Event::Loaded(slot, Err(refusal(code))))), 0, "one write says it");
            let number = prepare_number(&effects).unwrap();
            rig.on(Event::Prepared(number, Err(refusal(RefusalCode::Fetch))));
        }
        let effects = rig.wait();
        rig.run(effects);
        assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
        assert_eq!((rig.state(), rig.machine.deadline()), (ModelState::Committed, None));
    }
}

#[test]
fn files_of_the_active_version_that_are_gone_are_fetched_again() {
    let mut rig = Rig::committed("1.0.0").again();
    rig.on(Event::WorkerDied("signal 9".into()));
    rig.up_with(Err(refusal(RefusalCode::Fetch)));
    let effects = rig.wait();
    let (number, slot) = (prepare_number(&effects).unwrap(), load_slot(&effects, "1.0.0").unwrap());
    rig.on(Event::Loaded(slot, Err(refusal(RefusalCode::Fetch))));
    let effects = rig.on(Event::Prepared(number, Ok(())));
    assert!(load_slot(&effects, "1.0.0").is_some(), "at once: {effects:?}");
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
}

#[test]
fn the_version_before_answers_while_the_active_one_cannot_be_read() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.prove();
    rig.on(Event::WorkerDied("signal 9".into()));
    let effects = rig.up_with(Err(refusal(RefusalCode::NoSpace)));
    rig.run(effects);
    assert_eq!((rig.active().as_deref(), rig.machine.answering()), (Some("1.1.0"), Some(&version("1.0.0"))));
    let effects = rig.wait();
    rig.run(effects);
    assert_eq!((rig.active().as_deref(), rig.machine.answering()), (Some("1.1.0"), Some(&version("1.1.0"))));
    assert_eq!(rig.machine.record.previous, Some(version("1.0.0")));
}

#[test]
fn an_undo_that_cannot_be_read_in_passing_keeps_the_version_before_and_asks_disk_and_network_in_turn() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.prove();
    let slot = load_slot(&rig.demand("1.0.0", 3), "1.0.0").unwrap();
    rig.on(Event::Loaded(slot, Err(refusal(RefusalCode::NoSpace))));
    assert_eq!(rig.machine.record.previous, Some(version("1.0.0")));
    let number = prepare_number(&rig.wait()).expect("the network");
    rig.on(Event::Prepared(number, Err(refusal(RefusalCode::Fetch))));
    let effects = rig.wait();
    assert!(load_slot(&effects, "1.0.0").is_some(), "the disk: {effects:?}");
    rig.run(effects);
    assert_eq!((rig.state(), rig.active().as_deref()), (ModelState::Committed, Some("1.0.0")));
}

pub(super) fn load_slot(effects: &Effects, text: &str) -> Option<Slot> {
    effects.iter().find_map(|e| if let Effect::Load(s, v) = e { (*v == version(text)).then_some(*s) } else { None })
}

#[test]
fn clean_restarts_say_nothing_against_a_version() {
    let mut rig = Rig::first("1.0.0");
    for _ in 0..4 * MAX_ATTEMPTS {
        rig.machine.leave();
        rig = rig.again();
        assert_eq!((rig.state(), rig.machine.record.attempts), (ModelState::OnProbation, 1));
    }
    let mut rig = Rig::committed("1.0.0");
    let number = prepare_number(&rig.demand("1.1.0", 2)).unwrap();
    rig.on(Event::Prepared(number, Ok(())));
    for _ in 0..4 * MAX_ATTEMPTS {
        assert_eq!(rig.state(), ModelState::Probing);
        assert_eq!(persists(&rig.machine.leave()), 1);
        let (again, effects) = Rig::boot(rig.machine.record.clone()).unwrap();
        rig = again;
        rig.on(Event::Prepared(prepare_number(&effects).unwrap(), Ok(())));
    }
}

#[test]
fn a_first_version_answers_after_every_cut_and_still_proves_itself() {
    let mut rig = Rig::first("1.0.0");
    for _ in 0..4 * MAX_ATTEMPTS {
        rig = rig.again();
        assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    }
    assert_eq!((rig.state(), rig.error()), (ModelState::Idle, RefusalCode::AttemptsExhausted));
    rig.prove();
    assert_eq!(rig.state(), ModelState::Committed);
}

#[test]
fn what_was_cut_short_too_often_is_tried_again_by_a_newer_generation() {
    let exhausted = ModelRecord {
        desired: Some(demand("1.1.0")),
        candidate: Some(version("1.1.0")),
        attempts: MAX_ATTEMPTS,
        ..record(ModelState::Probing, Some("1.0.0"))
    };
    let (mut rig, _) = Rig::boot(exhausted).unwrap();
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::AttemptsExhausted));
    assert_eq!(prepare_number(&rig.demand("1.1.0", 1)), None);
    assert!(prepare_number(&rig.demand("1.1.0", 2)).is_some());
}

#[test]
fn a_worker_that_never_started_is_charged_to_nobody() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    let (mut rig, _) = Rig::boot(rig.machine.record.clone()).unwrap();
    let before = rig.machine.record.clone();
    for _ in 0..4 * MAX_ATTEMPTS {
        let time = Timestamp::UNIX_EPOCH;
        let mut cx =
            Context { uptime: rig.uptime, time, agent: &rig.agent, candidates: true, numbers: &mut rig.numbers };
        rig.machine.restore(&mut cx);
        assert_eq!(rig.on(Event::WorkerNotStarted), []);
    }
    assert_eq!(rig.machine.record, before);
    rig.up();
    assert_eq!(rig.machine.answering(), Some(&version("1.1.0")));
}

#[test]
fn a_death_while_a_candidate_loads_is_not_charged_to_what_is_on_probation() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    let number = prepare_number(&rig.demand("1.2.0", 3)).unwrap();
    let effects = rig.on(Event::Prepared(number, Ok(())));
    let Some(Effect::Probe(number, _)) = effects.last() else { panic!("{effects:?}") };
    assert!(load_slot(&rig.on(Event::Probed(*number, Ok(()))), "1.2.0").is_some());
    rig.on(Event::WorkerDied("signal 9".into()));
    assert_eq!((rig.active().as_deref(), rig.error()), (Some("1.1.0"), RefusalCode::SwapFailed));
    rig.on(Event::WorkerDied("signal 9".into()));
    assert_eq!(rig.active().as_deref(), Some("1.1.0"), "nothing was held any more");
}

#[test]
fn what_the_machine_gave_up_is_freed_though_it_cannot_be_recorded() {
    let mut rig = Rig::committed("1.0.0");
    let old = rig.slot();
    let mut effects = rig.demand("1.1.0", 2);
    while !effects.iter().any(|e| matches!(e, Effect::Swap(_))) {
        effects = effects.iter().filter_map(success).collect::<Vec<_>>().into_iter().flat_map(|e| rig.on(e)).collect();
    }
    let durable = rig.machine.recorded.clone();
    let effects = rig.on(success(&effects[0]).unwrap());
    let freed: Effects = effects.into_iter().filter(Effect::frees).collect();
    assert_eq!(freed, [Effect::Drain(old)]);
    let effects = rig.on(Event::Unrecordable(Box::new(durable), "disk full".into()));
    assert!(load_slot(&effects, "1.0.0").is_some(), "{effects:?}");
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
}

#[test]
fn installs_go_on_once_records_are_durable_again() {
    let mut rig = Rig::committed("1.0.0");
    let durable = rig.machine.record.clone();
    rig.demand("1.1.0", 2);
    rig.on(Event::Unrecordable(Box::new(durable), "disk full".into()));
    assert!(rig.machine.is_halted());
    let effects = rig.on(Event::Recordable);
    assert!(matches!(effects[..], [Effect::Persist(_), .., Effect::Prepare(..)]), "{effects:?}");
    rig.run(effects);
    assert_eq!((rig.active().as_deref(), rig.machine.is_halted()), (Some("1.1.0"), false));
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
    let refused = crate::state::Refused {
        manifest: version("2.0.0").manifest,
        generation: Generation(1),
        code: RefusalCode::AgentTooOld,
        agent: "0.0.9".parse().unwrap(),
    };
    let mut old = record(ModelState::Rejected, Some("1.0.0"));
    (old.desired, old.refused) = (Some(demand("2.0.0")), Some(refused.clone()));
    let (_, effects) = Rig::boot(old.clone()).unwrap();
    assert!(prepare_number(&effects).is_some());
    old.refused = Some(crate::state::Refused { agent: "0.1.0".parse().unwrap(), ..refused });
    assert_eq!(Rig::boot(old).unwrap().1, []);
}
