//! What the team says of its versions, held against every place where one may stand.

use tern_protocol::standing::OnRecall;

use super::{
    rig::{Rig, demand, load_slot, prepare_number, record, success, version},
    *,
};

pub(super) fn recalled(texts: &[&str]) -> Standing {
    let recalled = texts.iter().map(|text| (version(text).version, "wrong labels".to_owned())).collect();
    Standing { recalled, ..Standing::default() }
}

fn floor(text: &str) -> Standing {
    Standing { floor: Some(version(text).version), ..Standing::default() }
}

fn stop(standing: Standing) -> Standing {
    Standing { on_recall: OnRecall::Stop, ..standing }
}

/// 1.1.0 answers, proven, and 1.0.0 lies before it.
fn second() -> Rig {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.prove();
    rig
}

fn is_silent(rig: &Rig) -> bool {
    rig.machine.answering().is_none() && rig.active().is_none() && rig.state() == ModelState::Stopped
}

#[test]
fn a_recalled_version_is_drained_at_once_and_the_one_before_takes_over_from_the_disk() {
    let mut rig = second();
    let slot = rig.slot();
    let effects = rig.on(Event::Standing(recalled(&["1.1.0"])));
    let [Effect::Persist(durable), Effect::Drain(drained), Effect::Load(_, loaded)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((durable.active.as_ref(), durable.proven), (Some(&version("1.0.0")), true));
    assert_eq!((*drained, loaded), (slot, &version("1.0.0")));
    assert_eq!(rig.machine.answering(), None, "a gap is better than its answers");
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    assert_eq!((rig.state(), rig.error()), (ModelState::RolledBack, RefusalCode::Recalled));
}

#[test]
fn with_no_allowed_version_on_the_disk_or_by_policy_the_model_stops() {
    for standing in [recalled(&["1.0.0", "1.1.0"]), stop(recalled(&["1.1.0"]))] {
        let mut rig = second();
        let slot = rig.slot();
        let effects = rig.on(Event::Standing(standing));
        assert!(matches!(&effects[..], [Effect::Persist(_), Effect::Drain(s)] if *s == slot), "{effects:?}");
        assert!(is_silent(&rig));
        assert_eq!(rig.error(), RefusalCode::Recalled);
    }
    let mut rig = second();
    rig.on(Event::Standing(floor("2.0.0")));
    assert!(is_silent(&rig));
    assert_eq!(rig.error(), RefusalCode::BelowFloor);
}

#[test]
fn a_stopped_model_comes_back_with_an_allowed_version() {
    let mut rig = second();
    rig.on(Event::Standing(floor("1.2.0")));
    assert_eq!(prepare_number(&rig.demand("1.1.0", 3)), None);
    assert!(is_silent(&rig), "asking again for what may not run changes nothing");
    let effects = rig.demand("1.2.0", 4);
    assert!(prepare_number(&effects).is_some());
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.2.0")));
    assert_eq!(rig.state(), ModelState::OnProbation);
}

#[test]
fn under_the_policy_to_stop_the_version_before_is_kept_for_a_demand_without_the_network() {
    let mut rig = second();
    rig.on(Event::Standing(stop(recalled(&["1.1.0"]))));
    let effects = rig.demand("1.0.0", 3);
    assert_eq!(prepare_number(&effects), None);
    assert!(load_slot(&effects, "1.0.0").is_some(), "{effects:?}");
    rig.run(effects);
    assert_eq!((rig.active().as_deref(), rig.state()), (Some("1.0.0"), ModelState::Committed));
}

#[test]
fn what_is_recalled_is_not_fetched_and_tried_again_when_a_newer_list_allows_it() {
    let mut rig = Rig::committed("1.0.0");
    rig.on(Event::Standing(recalled(&["1.1.0"])));
    let effects = rig.demand("1.1.0", 2);
    assert!(matches!(&effects[..], [Effect::Persist(_), Effect::Persist(r)] if r.state == ModelState::Rejected));
    assert_eq!((rig.error(), rig.machine.answering()), (RefusalCode::Recalled, Some(&version("1.0.0"))));
    assert_eq!(rig.on(Event::WorkerUp), [], "nor is it judged again for nothing");
    let effects = rig.on(Event::Standing(Standing::default()));
    assert!(prepare_number(&effects).is_some(), "{effects:?}");
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.1.0")));
}

#[test]
fn a_version_is_given_up_wherever_on_its_way_it_is_recalled() {
    // Before the answer to each of: prepare, probe, load, swap.
    for answered in 0..4 {
        let mut rig = Rig::committed("1.0.0");
        let old = rig.slot();
        let mut effects = rig.demand("1.1.0", 2);
        for _ in 0..answered {
            effects = effects.iter().filter_map(success).flat_map(|event| rig.on(event)).collect();
        }
        let late: Vec<Event> = effects.iter().filter_map(success).collect();
        let given_up = rig.on(Event::Standing(recalled(&["1.1.0"])));
        assert_eq!(given_up.iter().any(|e| matches!(e, Effect::Cancel(_))), answered < 2, "{given_up:?}");
        assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::Recalled));
        let after: Effects = late.into_iter().flat_map(|event| rig.on(event)).collect();
        let drained = after.iter().any(|e| matches!(e, Effect::Drain(slot) if *slot != old));
        assert_eq!(drained, answered >= 2, "{answered}: {after:?}");
        assert_eq!((rig.machine.answering(), rig.slot()), (Some(&version("1.0.0")), old));
        assert_eq!(rig.machine.record.candidate, None);
    }
}

#[test]
fn no_take_back_leads_to_a_version_that_may_not_run() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.demand("1.1.0", 2);
    rig.run(effects);
    rig.on(Event::Standing(recalled(&["1.0.0"])));
    assert_eq!((rig.machine.record.previous.as_ref(), rig.active().as_deref()), (None, Some("1.1.0")));
    let slot = rig.slot();
    let effects = rig.on(Event::Counted { slot, inferences: 0, failures: 5 });
    rig.run(effects);
    assert_eq!((rig.machine.answering(), rig.active()), (None, None));
}

#[test]
fn a_stand_in_that_is_recalled_stands_in_no_more() {
    let mut rig = Rig::committed("1.1.0");
    rig.machine.record.previous = Some(version("1.0.0"));
    rig.on(Event::WorkerDied("x".into()));
    let passing = Refusal::new(RefusalCode::Fetch, "in passing");
    let effects = rig.up_with(Err(passing));
    assert!(load_slot(&effects, "1.0.0").is_some(), "{effects:?}");
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    let effects = rig.on(Event::Standing(recalled(&["1.0.0"])));
    assert!(effects.iter().any(|e| matches!(e, Effect::Drain(_))), "{effects:?}");
    assert_eq!((rig.machine.answering(), rig.active().as_deref()), (None, Some("1.1.0")));
}

#[test]
fn a_recall_that_cannot_be_recorded_counts_all_the_same() {
    for standing in [recalled(&["1.1.0"]), stop(recalled(&["1.1.0"]))] {
        let mut rig = second();
        let durable = rig.machine.record.clone();
        let effects = rig.on(Event::Standing(standing.clone()));
        assert!(effects.iter().any(|e| matches!(e, Effect::Drain(_)) && e.frees()), "{effects:?}");
        let effects = rig.on(Event::Unrecordable(Box::new(durable), "disk full".into()));
        assert!(load_slot(&effects, "1.1.0").is_none());
        rig.run(effects);
        let wanted = (standing.on_recall == OnRecall::Fallback).then(|| version("1.0.0"));
        assert_eq!((rig.machine.answering(), &rig.machine.record.active), (wanted.as_ref(), &wanted));
    }
}

/// The boot table with the active version recalled: in each row the version before serves, or nothing, without any network.
#[test]
fn each_row_of_the_boot_table_honours_a_recall() {
    use ModelState::{Committed, Fetching, Idle, OnProbation, Probing, Rejected, RolledBack, Staged, Stopped};
    for state in [Fetching, Probing, Staged, OnProbation, Idle, Committed, Rejected, RolledBack, Stopped] {
        for demanded in ["1.1.0", "1.2.0"] {
            for with_previous in [true, false] {
                let under_way = demanded == "1.2.0" && matches!(state, Fetching | Probing | Staged);
                let left = ModelRecord {
                    desired: Some(demand(demanded)),
                    previous: with_previous.then(|| version("1.0.0")),
                    candidate: under_way.then(|| version("1.2.0")),
                    ..record(state, (state != Stopped).then_some("1.1.0"))
                };
                let (mut rig, effects) = Rig::boot_under(left, recalled(&["1.1.0"])).unwrap();
                let row = format!("{state:?} {demanded} {with_previous}: {effects:?}");
                let wanted = (with_previous && state != Stopped).then(|| version("1.0.0"));
                assert_eq!(rig.machine.record.active, wanted, "{row}");
                let forbidden = |v: &VersionRef| *v == version("1.1.0");
                assert!(!rig.machine.record.versions().any(forbidden), "{row}");
                let wants = |e: &Effect| matches!(e, Effect::Prepare(_, d) if d.version == version("1.1.0").version);
                assert!(!effects.iter().any(wants), "{row}");
                if demanded == "1.1.0" {
                    let state = if wanted.is_some() { RolledBack } else { Stopped };
                    assert_eq!((rig.state(), rig.error()), (state, RefusalCode::Recalled), "{row}");
                }
                rig.up();
                assert_ne!(rig.machine.answering(), Some(&version("1.1.0")), "{row}");
            }
        }
    }
}

fn candidate(text: &str) -> DesiredModel {
    DesiredModel { candidate: true, ..demand(text) }
}

#[test]
fn a_candidate_is_refused_unless_the_device_allows_candidates() {
    let mut rig = Rig::committed("1.0.0");
    rig.candidates = false;
    let effects = rig.on(Event::Demand(Some(candidate("1.1.0")), Generation(2)));
    assert_eq!(prepare_number(&effects), None, "nothing of it is fetched");
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::CandidateNotAllowed));
    assert_eq!(rig.machine.answering(), Some(&version("1.0.0")));
    // Allowed since, and started again.
    let (mut rig, effects) = Rig::boot(rig.machine.record.clone()).unwrap();
    assert!(prepare_number(&effects).is_some());
    rig.up();
    rig.run(effects);
    assert_eq!(rig.machine.answering(), Some(&VersionRef { candidate: true, ..version("1.1.0") }));
}

#[test]
fn a_candidate_is_no_release_before_the_release_keys_say_so() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.on(Event::Demand(Some(candidate("1.1.0")), Generation(2)));
    rig.run(effects);
    rig.prove();
    let effects = rig.demand("1.1.0", 3);
    let number = prepare_number(&effects).expect("the same bytes are verified anew");
    let effects = rig.on(Event::Prepared(number, Err(Refusal::new(RefusalCode::UnknownTarget, "not a release"))));
    rig.run(effects);
    assert_eq!((rig.state(), rig.error()), (ModelState::Rejected, RefusalCode::UnknownTarget));
    let effects = rig.demand("1.1.0", 4);
    rig.run(effects);
    let record = &rig.machine.record;
    assert_eq!((record.active.as_ref(), record.previous.as_ref()), (Some(&version("1.1.0")), Some(&version("1.0.0"))));
    assert_eq!((record.proven, record.state), (true, ModelState::Committed), "its probation is over");
}

#[test]
fn a_candidate_falls_under_the_teams_recalls() {
    let mut rig = Rig::committed("1.0.0");
    let effects = rig.on(Event::Demand(Some(candidate("1.1.0")), Generation(2)));
    rig.run(effects);
    let effects = rig.on(Event::Standing(recalled(&["1.1.0"])));
    rig.run(effects);
    assert_eq!((rig.machine.answering(), rig.error()), (Some(&version("1.0.0")), RefusalCode::Recalled));
}
