//! The machine, event by event.

use tern_protocol::desired::Swap;

use super::{rig::*, *};

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
