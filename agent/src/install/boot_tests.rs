//! The boot table, row by row: what a start does with each recorded state.

use super::{
    rig::{Rig, demand, record, version},
    *,
};
use crate::boot::{BootAction, action};

fn with_demand(state: ModelState, active: Option<&str>, wanted: &str, attempts: u32) -> ModelRecord {
    let candidate = (active != Some(wanted)).then(|| version(wanted));
    ModelRecord { desired: Some(demand(wanted)), candidate, attempts, ..record(state, active) }
}

fn booted(record: ModelRecord) -> (Rig, Effects) {
    Rig::boot(record).unwrap()
}

/// Whatever the row, the active version is what a worker is started with.
fn serves(rig: &mut Rig, wanted: &str) {
    let agent = "0.1.0".parse().unwrap();
    let mut numbers = 100;
    let time = Timestamp::UNIX_EPOCH;
    let mut cx = Context { uptime: Duration::ZERO, time, agent: &agent, candidates: true, numbers: &mut numbers };
    assert_eq!(rig.machine.restore(&mut cx).map(|(_, v)| v), Some(version(wanted)));
}

#[test]
fn fetching_begins_again() {
    assert_eq!(action(ModelState::Fetching), BootAction::BeginAgain);
    let (mut rig, effects) = booted(with_demand(ModelState::Fetching, Some("1.0.0"), "1.1.0", 0));
    assert!(matches!(&effects[..], [Effect::Prepare(..)]), "the record says so already: {effects:?}");
    assert_eq!(rig.machine.record.attempts, 0);
    serves(&mut rig, "1.0.0");
}

#[test]
fn probing_begins_again_and_the_cut_stays_counted() {
    assert_eq!(action(ModelState::Probing), BootAction::BeginAgain);
    let (mut rig, effects) = booted(with_demand(ModelState::Probing, Some("1.0.0"), "1.1.0", 1));
    assert!(matches!(&effects[..], [Effect::Persist(r), Effect::Prepare(..)] if r.attempts == 1), "{effects:?}");
    serves(&mut rig, "1.0.0");
    let (mut rig, effects) = booted(with_demand(ModelState::Probing, Some("1.0.0"), "1.1.0", MAX_ATTEMPTS));
    assert!(matches!(&effects[..], [Effect::Persist(r)] if r.state == ModelState::Rejected), "{effects:?}");
    assert_eq!(rig.machine.record.last_error.as_ref().unwrap().code, RefusalCode::AttemptsExhausted);
    serves(&mut rig, "1.0.0");
}

#[test]
fn staged_is_loaded_again_without_the_network() {
    assert_eq!(action(ModelState::Staged), BootAction::LoadAgain);
    let (mut rig, effects) = booted(with_demand(ModelState::Staged, Some("1.0.0"), "1.1.0", 1));
    assert_eq!(effects, []);
    serves(&mut rig, "1.0.0");
    let effects = rig.on(Event::WorkerUp);
    assert!(
        matches!(&effects[..], [Effect::Persist(r), Effect::Load(_, v)] if r.attempts == 2 && *v == version("1.1.0")),
        "{effects:?}"
    );
}

#[test]
fn probation_starts_anew_and_is_taken_back_when_it_always_ends_in_a_cut() {
    assert_eq!(action(ModelState::OnProbation), BootAction::ProbationAgain);
    let mut on = with_demand(ModelState::OnProbation, Some("1.1.0"), "1.1.0", 1);
    (on.proven, on.previous) = (false, Some(version("1.0.0")));
    let (mut rig, effects) = booted(on.clone());
    assert!(matches!(&effects[..], [Effect::Persist(r)] if r.attempts == 2), "{effects:?}");
    serves(&mut rig, "1.1.0");
    let (mut rig, effects) = booted(ModelRecord { attempts: MAX_ATTEMPTS, ..on });
    assert!(matches!(&effects[..], [Effect::Persist(r)] if r.state == ModelState::RolledBack), "{effects:?}");
    serves(&mut rig, "1.0.0");
}

#[test]
fn a_first_version_serves_on_when_its_probations_always_end_in_a_cut() {
    let mut on = with_demand(ModelState::OnProbation, Some("1.1.0"), "1.1.0", MAX_ATTEMPTS);
    on.proven = false;
    let (mut rig, effects) = booted(on);
    assert!(matches!(&effects[..], [Effect::Persist(r)] if r.state == ModelState::Idle), "{effects:?}");
    assert_eq!(rig.machine.record.last_error.as_ref().unwrap().code, RefusalCode::AttemptsExhausted);
    serves(&mut rig, "1.1.0");
}

#[test]
fn idle_waits_on() {
    assert_eq!(action(ModelState::Idle), BootAction::WaitOn);
    let mut idle = with_demand(ModelState::Idle, Some("1.1.0"), "1.1.0", 1);
    idle.proven = false;
    let (mut rig, effects) = booted(idle);
    assert_eq!((effects, rig.machine.record.state), (vec![], ModelState::Idle));
    serves(&mut rig, "1.1.0");
}

#[test]
fn committed_serves() {
    assert_eq!(action(ModelState::Committed), BootAction::Serve);
    let (mut rig, effects) = booted(with_demand(ModelState::Committed, Some("1.0.0"), "1.0.0", 0));
    assert_eq!(effects, []);
    serves(&mut rig, "1.0.0");
}

#[test]
fn rejected_serves_the_version_before_and_tries_again_only_what_failed_in_passing() {
    assert_eq!(action(ModelState::Rejected), BootAction::Serve);
    let mut rejected = with_demand(ModelState::Rejected, Some("1.0.0"), "1.1.0", 0);
    let (_, effects) = booted(rejected.clone());
    assert!(matches!(effects.last(), Some(Effect::Prepare(..))), "{effects:?}");
    let (manifest, agent) = (version("1.1.0").manifest, "0.1.0".parse().unwrap());
    let code = RefusalCode::GoldenMismatch;
    rejected.refused = Some(crate::state::Refused { manifest, generation: Generation(1), code, agent });
    let (mut rig, effects) = booted(rejected);
    assert_eq!(effects, []);
    serves(&mut rig, "1.0.0");
}

#[test]
fn rolled_back_serves_the_version_before() {
    assert_eq!(action(ModelState::RolledBack), BootAction::Serve);
    let mut back = with_demand(ModelState::RolledBack, Some("1.0.0"), "1.1.0", 0);
    let (manifest, agent) = (version("1.1.0").manifest, "0.1.0".parse().unwrap());
    let code = RefusalCode::ProbationFailed;
    back.refused = Some(crate::state::Refused { manifest, generation: Generation(0), code, agent });
    let (mut rig, effects) = booted(back);
    assert_eq!(effects, []);
    serves(&mut rig, "1.0.0");
}

#[test]
fn stopped_stays_silent_until_a_version_is_demanded_that_may_run() {
    assert_eq!(action(ModelState::Stopped), BootAction::StaySilent);
    let stopped = ModelRecord { desired: Some(demand("1.0.0")), ..record(ModelState::Stopped, None) };
    let standing = super::recall_tests::recalled(&["1.0.0"]);
    let (mut rig, effects) = Rig::boot_under(stopped, standing).unwrap();
    assert!(matches!(&effects[..], [Effect::Persist(r)] if r.state == ModelState::Stopped), "{effects:?}");
    assert_eq!(rig.on(Event::WorkerUp), []);
    assert_eq!(rig.machine.answering(), None);
    let effects = rig.on(Event::Demand(Some(demand("1.1.0")), Generation(2)));
    assert!(matches!(effects.last(), Some(Effect::Prepare(..))), "{effects:?}");
}

#[test]
fn removed_is_forgotten() {
    assert_eq!(action(ModelState::Removed), BootAction::Forget);
    assert!(Rig::boot(record(ModelState::Removed, None)).is_none());
}
