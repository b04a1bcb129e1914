//! What each verb does in each phase, and what it refuses.

use super::*;
use crate::rollout::{Action, HoldKind, HoldReason, tests::policy};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn in_phase(phase: Phase) -> RolloutState {
    RolloutState { phase, ..RolloutState::create("ann", "better at night", at(0)).state }
}

fn order(verb: Verb) -> Order {
    Order { verb, who: "bob".to_owned(), why: "because".to_owned(), if_phase: None }
}

#[test]
fn every_verb_in_every_phase_is_allowed_or_a_closed_error() {
    use Phase::{Aborted, Created, Denied, Finished, Held, Paused, Running, Undone};
    let policy = policy("stages = [{ size = 1 }, { size = \"100%\" }]");
    let phases = [Created, Denied, Running, Paused, Held, Aborted, Undone, Finished];
    // Rows: verbs in the order of `ALL`; columns: phases as above; `-` is refused.
    let table = [
        (Verb::Approve, "c - - - - - - -"),
        (Verb::Deny, "d - - - - - - -"),
        (Verb::Start, "r - - - - - - -"),
        (Verb::Pause, "- - p - - - - -"),
        (Verb::Resume, "- - - r r - - -"),
        (Verb::Promote, "- - r - r - - -"),
        (Verb::Retry, "- - r p r - - -"),
        (Verb::Abort, "a - a a a - - -"),
        (Verb::Undo, "- - - - - - - u"),
    ];
    assert!(table.iter().map(|row| row.0).eq(Verb::ALL));
    for (verb, row) in table {
        for (phase, cell) in phases.into_iter().zip(row.split(' ')) {
            let before = in_phase(phase);
            match (before.order(&policy, &order(verb), at(9)), cell) {
                (Ok(Transition { state, entry }), cell) => {
                    assert_eq!(&state.phase.as_str()[..1], cell, "{verb} from {phase}");
                    assert_eq!((state.revision, state.moved), (1, at(9)));
                    assert_eq!((entry.revision, entry.at, entry.why.as_str()), (1, at(9), "because"));
                    assert_eq!((entry.who, entry.what), (Actor::Person("bob".to_owned()), Change::Verb(verb)));
                }
                (Err(VerbError::NotNow { .. }), "-") => {}
                (other, cell) => panic!("{verb} from {phase}: {other:?}, not {cell}"),
            }
        }
    }
}

#[test]
fn a_reason_is_wanted_and_bounded() {
    let policy = policy("stages = [{ size = \"100%\" }]");
    let say = |why: &str| {
        in_phase(Phase::Running).order(&policy, &Order { why: why.to_owned(), ..order(Verb::Abort) }, at(1))
    };
    assert_eq!(say(" \n"), Err(VerbError::NoReason(Verb::Abort)));
    assert_eq!(say(&"x".repeat(1001)), Err(VerbError::ReasonTooLong(1001)));
    assert_eq!(say("  it hurts ").unwrap().entry.why, "it hurts");
}

#[test]
fn an_order_for_another_phase_than_the_present_is_refused() {
    let policy = policy("stages = [{ size = \"100%\" }]");
    let seen = Order { if_phase: Some(Phase::Running), ..order(Verb::Abort) };
    let moved = VerbError::Moved { expected: Phase::Running, found: Phase::Paused };
    assert_eq!(in_phase(Phase::Paused).order(&policy, &seen, at(1)), Err(moved));
    assert!(in_phase(Phase::Running).order(&policy, &seen, at(1)).is_ok());
}

#[test]
fn four_eyes_start_a_rollout() {
    let policy = policy("approvals = 2\nstages = [{ size = \"100%\" }]");
    let by = |who: &str, verb| Order { who: who.to_owned(), ..order(verb) };
    let made = in_phase(Phase::Created);
    assert_eq!(made.order(&policy, &by("ann", Verb::Approve), at(1)), Err(VerbError::OwnRollout("ann".to_owned())));
    let once = made.order(&policy, &by("bob", Verb::Approve), at(1)).unwrap().state;
    assert_eq!(once.order(&policy, &by("bob", Verb::Approve), at(2)), Err(VerbError::ApprovedBefore("bob".to_owned())));
    let early = once.order(&policy, &by("ann", Verb::Start), at(2));
    assert_eq!(early, Err(VerbError::NeedsApproval { have: 1, need: 2 }));
    let twice = once.order(&policy, &by("cid", Verb::Approve), at(2)).unwrap().state;
    let started = twice.order(&policy, &by("ann", Verb::Start), at(3)).unwrap().state;
    assert_eq!((started.phase, started.stage_since), (Phase::Running, at(3)));
}

#[test]
fn resuming_acknowledges_what_it_was_held_for_until_the_next_stage() {
    let policy = policy("stages = [{ size = 1 }, { size = \"100%\" }]");
    let hold = |state: &RolloutState, reason| state.after(&Action::Hold { reason }, at(1)).unwrap().state;
    let promote = Action::Promote { stage: 1, why: "good".to_owned() };
    let held = hold(&in_phase(Phase::Running), HoldReason::NoDevice);
    assert_eq!((held.phase, &held.held), (Phase::Held, &Some(HoldReason::NoDevice)));
    let resumed = held.order(&policy, &order(Verb::Resume), at(2)).unwrap().state;
    assert_eq!((resumed.held.as_ref(), resumed.acknowledged.contains(&HoldKind::NoDevice)), (None, true));
    assert!(resumed.after(&promote, at(3)).unwrap().state.acknowledged.is_empty());
    // A promotion by hand goes on in spite of a gate, and the next stage still asks for its own hand.
    let held = hold(&hold(&in_phase(Phase::Running), HoldReason::ByHand), HoldReason::ByHand);
    let gate = HoldReason::Gate { gate: "health".to_owned(), detail: "p99".to_owned() };
    let twice = hold(&held.order(&policy, &order(Verb::Resume), at(2)).unwrap().state, gate);
    let promoted = twice.order(&policy, &order(Verb::Promote), at(3)).unwrap().state;
    assert!(promoted.promoted_by_hand);
    let next = promoted.after(&promote, at(4)).unwrap().state;
    assert_eq!(next.acknowledged.into_iter().collect::<Vec<_>>(), [HoldKind::Gate("health".to_owned())]);
    assert!(!next.promoted_by_hand && next.stage == 1 && next.baking.is_none());
}
