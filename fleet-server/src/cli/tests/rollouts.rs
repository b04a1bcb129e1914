//! `tern rollout` against the fake server: what it sends, what it prints, and how it exits.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::{
    forms::rollouts::{RolloutDetail, RolloutDevice, RolloutHistory, RolloutPlan, RolloutRow},
    rollout::{
        Action, FleetSnapshot, HoldReason, Outcome, Phase, Policy, RolloutState, Share, Stage, plan as make_plan,
    },
    store::RolloutRecord,
};

fn record(phase: Phase) -> RolloutRecord {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let made = RolloutState::create("ann", "better", now).state;
    let held = (phase == Phase::Held).then_some(HoldReason::ByHand);
    RolloutRecord {
        number: 1,
        id: "m-1-1-0".parse().unwrap(),
        target: "demo/m@1.1.0".parse().unwrap(),
        selector: crate::selector::Selector::all(),
        policy: Policy::of(vec![Stage::of(Share::Count(2)), Stage::of(Share::ALL)]),
        state: RolloutState { phase, held, ..made },
        created: now,
        reason: "better".into(),
        closed: phase.is_over().then_some(now),
    }
}

fn snapshot(record: &RolloutRecord) -> FleetSnapshot {
    FleetSnapshot {
        rollout: record.id.clone(),
        target: record.target.clone(),
        state: record.state.clone(),
        hearing_since: record.created,
        gates: BTreeMap::new(),
        devices: BTreeMap::new(),
    }
}

/// A rollout in this phase whose one device stands so.
fn detail(phase: Phase, stands: &str) -> Value {
    let record = record(phase);
    let plan = make_plan(&record.policy, &snapshot(&record), record.created);
    let device = RolloutDevice {
        device: "cam-1".parse().unwrap(),
        class: "pi".parse().unwrap(),
        stands: stands.into(),
        code: None,
        stage: Some(1),
        assigned: Some(record.created),
        settled: None,
        taken_back: None,
        running: None,
        desired: None,
        online: true,
    };
    let (why, evidence) = (plan.verdict.why, plan.verdict.evidence);
    let row = RolloutRow::of(&record);
    let detail = RolloutDetail { row, policy: record.policy, why, evidence, next: None, rows: vec![device] };
    serde_json::to_value(detail).unwrap()
}

pub(super) fn next(answers: &mut Vec<Value>) -> Value {
    if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
}

pub(super) fn plan() -> Value {
    let record = record(Phase::Created);
    let mut plan = make_plan(&record.policy, &snapshot(&record), record.created);
    let device: tern_protocol::ids::DeviceId = "cam-1".parse().unwrap();
    plan.actions.push(Action::Settle { device: device.clone(), outcome: Outcome::Survived, code: None });
    let form = RolloutPlan { as_if_started: true, plan, stages: vec![vec![device.clone()], vec![device; 20]] };
    serde_json::to_value(form).unwrap()
}

pub(super) fn verdicts(query: &str) -> Value {
    let made = RolloutState::create("ann", "better", Timestamp::from_second(1_700_000_000).unwrap());
    let line = RolloutHistory { number: 7, entry: made.entry, verdict: None };
    let items = if query.contains("after=7") { vec![] } else { vec![line] };
    json!({ "items": items })
}

fn desk(answers: Vec<Value>) -> Desk {
    let desk = Desk::new();
    desk.state(|state| state.rollouts = answers);
    desk
}

#[test]
fn create_sends_the_terms_of_flags_and_of_files_alike() {
    let desk = desk(vec![detail(Phase::Created, "waiting")]);
    let create = |more: &[&str]| {
        let mut args = vec!["rollout", "create", "demo/m@1.1.0", "--to", "*", "--reason", "better"];
        args.extend(more);
        let outcome = desk.tern(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        serde_json::from_slice::<Value>(&desk.state(|state| state.last_body.clone())).unwrap()
    };
    let flags = create(&["--canary", "2", "--bake", "10m", "--start"]);
    assert_eq!((&flags["policy"]["stages"][0]["bake_seconds"], &flags["start"]), (&json!(600), &json!(true)));
    let file = "[[stages]]\nsize = 2\nbake_seconds = 600\n[[stages]]\nsize = \"100%\"\n";
    fs::write(desk.path("p.toml"), file).unwrap();
    assert_eq!(create(&["--policy", desk.path("p.toml").to_str().unwrap()])["policy"], flags["policy"]);
}

#[test]
fn an_order_that_may_come_twice_goes_under_its_key() {
    let desk = desk(vec![detail(Phase::Created, "waiting")]);
    let order = ["rollout", "create", "demo/m@1.1.0", "--to", "*", "--reason", "x", "--canary", "2"];
    let create = |key: &str| desk.tern(&[&order[..], &["--idempotency-key", key]].concat());
    let sent = |key: &str| {
        assert_eq!(create(key).code, 0);
        desk.state(|state| (state.last_key.clone(), state.last_body.clone()))
    };
    let first = sent("incident-7");
    assert_eq!(first.0.as_deref(), Some("incident-7"));
    assert_eq!(first, sent("incident-7"), "the same order has the same bytes, or the server would refuse it");
    assert_eq!(desk.tern(&order).code, 0);
    assert_eq!(desk.state(|state| state.last_key.clone()), None);
    let before = desk.state(|state| state.requests.len());
    for bad in ["", " a", "a\nb", "\u{e4}", &"k".repeat(129)] {
        assert_eq!(create(bad).code, 2, "{bad:?}");
    }
    assert_eq!(desk.state(|state| state.requests.len()), before);
}

#[test]
fn terms_that_cannot_be_used_go_nowhere() {
    let desk = desk(vec![detail(Phase::Created, "waiting")]);
    let before = desk.state(|state| state.requests.len());
    for text in ["stages = []", "stage = 1", "[[stages]]\nsize = \"40%\"", "\u{feff}"] {
        fs::write(desk.path("p.toml"), text).unwrap();
        let path = desk.path("p.toml");
        let policy = path.to_str().unwrap();
        let args = ["rollout", "create", "demo/m@1.1.0", "--to", "*", "--reason", "x", "--policy", policy];
        desk.tern(&args).refused();
    }
    assert_eq!(desk.state(|state| state.requests.len()), before);
}

#[test]
fn the_exit_code_says_how_the_rollout_stands() {
    for (phase, code) in [
        (Phase::Created, 0),
        (Phase::Running, 0),
        (Phase::Paused, 0),
        (Phase::Finished, 0),
        (Phase::Held, 4),
        (Phase::Aborted, 3),
        (Phase::Undone, 3),
        (Phase::Denied, 3),
    ] {
        let desk = desk(vec![detail(phase, "pending")]);
        let outcome = desk.tern(&["rollout", "status", "m-1-1-0"]);
        assert_eq!(outcome.code, code, "{phase}: {}", outcome.err);
        assert!(outcome.out.contains("cam-1") && outcome.out.contains(phase.as_str()), "{}", outcome.out);
    }
}

#[test]
fn a_watch_prints_each_change_once_and_ends_with_the_rollout() {
    let running = detail(Phase::Running, "pending");
    let desk = desk(vec![running.clone(), running, detail(Phase::Finished, "survived")]);
    let outcome = desk.tern(&["rollout", "status", "m-1-1-0", "--watch", "--timeout", "30s"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(outcome.out.matches("cam-1: pending").count(), 1, "{}", outcome.out);
    assert_eq!(outcome.out.matches("cam-1: survived").count(), 1, "{}", outcome.out);
    assert_eq!(outcome.out.matches("created: better (ann)").count(), 1, "{}", outcome.out);
    assert!(outcome.out.contains("finished"));
}

#[test]
fn a_watch_that_takes_too_long_ends_as_held_and_one_that_ends_badly_says_so() {
    let slow = desk(vec![detail(Phase::Running, "pending")]);
    let outcome = slow.tern(&["rollout", "status", "m-1-1-0", "-w", "--timeout", "1s"]);
    assert_eq!(outcome.code, 4, "{}", outcome.err);
    assert!(outcome.err.contains("not over yet"));
    let bad = desk(vec![detail(Phase::Aborted, "failed")]);
    assert_eq!(bad.tern(&["rollout", "status", "m-1-1-0", "-w"]).code, 3);
    bad.state(|state| state.answer = Some((500, "x".into())));
    assert_eq!(bad.tern(&["rollout", "status", "m-1-1-0", "-w"]).code, 1);
}

#[test]
fn verbs_lists_and_plans_are_shown() {
    let desk = desk(vec![detail(Phase::Running, "pending")]);
    for verb in ["start", "pause", "resume", "promote", "abort", "undo", "retry", "approve", "deny"] {
        let outcome = desk.tern(&["rollout", verb, "m-1-1-0", "--reason", "because"]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        let last = desk.state(|state| (state.requests.last().cloned().unwrap(), state.last_body.clone()));
        assert_eq!(last.0, format!("POST /api/v1/rollouts/m-1-1-0/{verb}"));
        assert_eq!(serde_json::from_slice::<Value>(&last.1).unwrap(), json!({"reason": "because"}));
    }
    let plan = desk.tern(&["rollout", "plan", "m-1-1-0"]);
    assert!(plan.out.contains("settle") && plan.out.contains("and 8 more") && plan.err.contains("not started"));
    assert!(desk.tern(&["rollout", "list"]).out.contains("demo/m@1.1.0"));
    assert!(desk.tern(&["rollout", "verdicts", "m-1-1-0"]).out.contains("created"));
    let json = desk.tern(&["--output", "json", "rollout", "status", "m-1-1-0"]).json();
    assert_eq!((&json["phase"], &json["rows"][0]["stands"]), (&json!("running"), &json!("pending")));
}
