//! What serves, when the worker dies, power is cut, or files rot and are gone.

use super::{rig::*, *};

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
    let (machine, mut cx) = rig.parts();
    let (slot, _) = machine.restore(&mut cx).unwrap();
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
        let (machine, mut cx) = rig.parts();
        machine.restore(&mut cx);
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
