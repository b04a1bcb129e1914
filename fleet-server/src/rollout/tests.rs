//! Plans on hand-made fleets: stages, holds, aborts, finishes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tern_protocol::ids::{Generation, Version};

use super::*;

/// The policy of a TOML text, which must be a good one.
pub(super) fn policy(text: &str) -> Policy {
    let policy: Policy = toml::from_str(text).unwrap();
    policy.check(&"1.1.0".parse().unwrap()).unwrap();
    policy
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Cameras `d0`, `d1`, … that run 1.0.0, and a running rollout of 1.1.0.
fn fleet(count: usize) -> FleetSnapshot {
    let camera = DeviceView {
        class: "cam".parse().unwrap(),
        eligible: Eligibility::Eligible,
        online: true,
        last_seen: Some(at(0)),
        running: Some(version("1.0.0")),
        generation: Generation(5),
        desired: Some(version("1.0.0")),
        twin: None,
        assignment: None,
    };
    let devices: BTreeMap<_, _> = (0..count).map(|n| (format!("d{n}").parse().unwrap(), camera.clone())).collect();
    let state = RolloutState { phase: Phase::Running, ..RolloutState::create("ann", "why", at(0)).state };
    let (rollout, target) = ("r".parse().unwrap(), "demo/digits@1.1.0".parse().unwrap());
    FleetSnapshot { rollout, target, state, hearing_since: at(0), gates: BTreeMap::new(), devices }
}

fn assigned(plan: &Plan) -> Vec<String> {
    let device = |a: &Action| if let Action::Assign { device, .. } = a { Some(device.to_string()) } else { None };
    plan.actions.iter().filter_map(device).collect()
}

/// Gives the first `outcomes.len()` devices by name a recorded outcome.
fn settle(snapshot: &mut FleetSnapshot, outcomes: &[Outcome]) {
    for (view, outcome) in snapshot.devices.values_mut().zip(outcomes) {
        (view.desired, view.running, view.generation) = (Some(version("1.1.0")), Some(version("1.1.0")), Generation(6));
        view.assignment = Some(Assignment {
            stage: 0,
            round: 0,
            at: at(0),
            generation: Generation(6),
            previous: Some(version("1.0.0")),
            fetched: Some(at(1)),
            settled: Some(Settled { outcome: *outcome, code: None, at: at(10) }),
            taken_back: None,
        });
    }
}

#[test]
fn a_policy_needs_only_stages() {
    let policy = policy("stages = [{ size = 2 }, { size = \"100%\" }]");
    assert_eq!((policy.silence_seconds, policy.concurrency, policy.last_stage()), (3600, 50, 1));
    assert_eq!(policy.stages[0].min_survivors, Share::Count(1));
    assert!(toml::from_str::<Policy>("stages = []\nstage = 1").is_err(), "a misspelt term is no default");
}

#[test]
fn each_rule_of_a_policy_is_its_own_error() {
    use PolicyError as E;
    let all = "{ size = \"100%\" }";
    let cases = [
        ("stages = []".to_owned(), E::NoStage),
        (format!("stages = [{}]", vec![all; 33].join(",")), E::TooManyStages(33)),
        (format!("stages = [{{ size = 0 }}, {all}]"), E::EmptyStage(0)),
        (format!("stages = [{{ size = 3 }}, {{ size = 2 }}, {all}]"), E::Shrinking(1)),
        (format!("stages = [{{ size = \"20%\" }}, {{ size = \"10%\" }}, {all}]"), E::Shrinking(1)),
        ("stages = [{ size = 3 }]".to_owned(), E::LastStage),
        ("stages = [{ size = \"100%\", min_survivors = 0 }]".to_owned(), E::NoSurvivor(0)),
        (format!("max_unavailable = \"0%\"\nstages = [{all}]"), E::Standstill("max_unavailable")),
        (format!("concurrency = 0\nstages = [{all}]"), E::Standstill("concurrency")),
        (
            "stages = [{ size = \"100%\", probation = { min_inferences = 1, min_seconds = 2592001 } }]".to_owned(),
            E::Probation,
        ),
        (format!("silence_seconds = 400000000\nstages = [{all}]"), E::TooLong("silence_seconds")),
        ("stages = [{ size = \"100%\", bake_seconds = 400000000 }]".to_owned(), E::TooLong("bake_seconds")),
        (
            format!("stages = [{all}]\n[[windows]]\nstart = \"2026-01-02T00:00:00Z\"\nend = \"2026-01-02T00:00:00Z\""),
            E::Windows(0),
        ),
        (format!("control = {{ size = \"100%\" }}\nstages = [{all}]"), E::ControlIsAll),
        (format!("take_back = {{ version = \"1.1.0\" }}\nstages = [{all}]"), E::TakeBackToTarget),
    ];
    for (text, error) in cases {
        let policy: Policy = toml::from_str(&text).unwrap();
        assert_eq!(policy.check(&version("1.1.0")), Err(error), "{text}");
    }
}

#[test]
fn a_canary_of_two_and_then_the_rest() {
    let policy = policy("max_unavailable = \"100%\"\nstages = [{ size = 2, bake_seconds = 60 }, { size = \"100%\" }]");
    let mut snapshot = fleet(8);
    let first = plan(&policy, &snapshot, at(0));
    assert_eq!(assigned(&first).len(), 2);
    snapshot.state.stage = 1;
    let rest = plan(&policy, &snapshot, at(0));
    assert_eq!(assigned(&rest).len(), 8);
    assert_eq!(assigned(&rest)[..2], assigned(&first));
}

#[test]
fn a_stage_never_reaches_fewer_than_the_one_before() {
    let policy = policy("stages = [{ size = \"50%\" }, { size = 3 }, { size = \"100%\" }]");
    let mut snapshot = fleet(20);
    let quota = |snapshot: &FleetSnapshot| plan(&policy, snapshot, at(0)).verdict.evidence.quota;
    assert_eq!(quota(&snapshot), 10);
    snapshot.state.stage = 1;
    assert_eq!(quota(&snapshot), 10);
}

#[test]
fn the_canary_is_watched_and_then_promoted() {
    let policy = policy("stages = [{ size = 2, bake_seconds = 60 }, { size = \"100%\" }]");
    let mut snapshot = fleet(8);
    settle(&mut snapshot, &[Outcome::Survived; 2]);
    assert_eq!(plan(&policy, &snapshot, at(100)).actions, [Action::Bake { stage: 0 }]);
    snapshot.state.baking = Some(at(100));
    let watched = plan(&policy, &snapshot, at(159));
    assert_eq!((watched.actions.len(), watched.next), (0, Some(at(160))));
    let due = plan(&policy, &snapshot, at(160));
    assert!(matches!(due.actions[..], [Action::Promote { stage: 1, .. }]), "{due:?}");
    // News of harm may still be on its way after a restart of the server.
    snapshot.hearing_since = at(150);
    assert_eq!(plan(&policy, &snapshot, at(160)).next, Some(at(210)));
}

#[test]
fn failures_past_the_budget_abort_and_the_abort_names_them() {
    let policy = policy("failures = { most = 1 }\nstages = [{ size = \"100%\" }]");
    let mut snapshot = fleet(8);
    settle(&mut snapshot, &[Outcome::Survived, Outcome::Failed]);
    assert!(!plan(&policy, &snapshot, at(20)).actions.iter().any(Action::changes_state));
    settle(&mut snapshot, &[Outcome::Survived, Outcome::Failed, Outcome::Silent]);
    for phase in [Phase::Running, Phase::Paused, Phase::Held] {
        snapshot.state.phase = phase;
        let plan = plan(&policy, &snapshot, at(20));
        assert_eq!(plan.actions, [Action::Abort { reason: AbortReason::Budget { bad: 2, allowed: 1 } }], "{phase}");
        let named: Vec<_> = plan.verdict.evidence.troubles.iter().map(|t| (t.device.as_str(), t.outcome)).collect();
        assert_eq!(named, [("d1", Outcome::Failed), ("d2", Outcome::Silent)]);
    }
    snapshot.state.phase = Phase::Aborted;
    let back = plan(&policy, &snapshot, at(21));
    assert_eq!(back.actions.len(), 3);
    assert_eq!(back.verdict.kind, VerdictKind::TakeBack);
}

#[test]
fn an_early_stop_spares_a_large_stage() {
    let budget = "{ most = \"10%\", early = { percent = \"30%\", judged = 4 } }";
    let policy = policy(&format!("failures = {budget}\nstages = [{{ size = \"100%\" }}]"));
    let mut snapshot = fleet(100);
    settle(&mut snapshot, &[Outcome::Failed, Outcome::Failed, Outcome::Survived]);
    assert!(!plan(&policy, &snapshot, at(20)).actions.iter().any(Action::changes_state));
    settle(&mut snapshot, &[Outcome::Failed, Outcome::Failed, Outcome::Survived, Outcome::Survived]);
    let plan = plan(&policy, &snapshot, at(20));
    assert!(
        matches!(plan.actions[..], [Action::Abort { reason: AbortReason::Early { bad: 2, judged: 4, .. } }]),
        "{plan:?}"
    );
}

#[test]
fn each_hold_has_its_cause() {
    let text = "hold = { stalled_seconds = 50, rejected = 1, lost = 0 }\nstages = [{ size = 3 }, { size = \"100%\" }]";
    let policy = policy(text);
    let held = |snapshot: &FleetSnapshot, second| match &plan(&policy, snapshot, at(second)).actions[..] {
        [Action::Hold { reason }] => Some(reason.clone()),
        _ => None,
    };
    assert_eq!(held(&fleet(0), 0), Some(HoldReason::NoDevice));
    let mut snapshot = fleet(9);
    settle(&mut snapshot, &[Outcome::Survived, Outcome::Rejected, Outcome::Rejected]);
    assert_eq!(held(&snapshot, 20), Some(HoldReason::Rejected { rejected: 2, allowed: 1 }));
    settle(&mut snapshot, &[Outcome::Survived; 3]);
    snapshot.devices.values_mut().for_each(|view| view.online = false);
    assert_eq!(held(&snapshot, 3599), None);
    assert_eq!(held(&snapshot, 3600), Some(HoldReason::Lost { lost: 3, allowed: 0 }));
    let gate = Gate { says: Says::Hold, detail: "p99 doubled".to_owned() };
    snapshot.gates.insert("latency".to_owned(), gate);
    let reason = HoldReason::Gate { gate: "latency".to_owned(), detail: "p99 doubled".to_owned() };
    assert_eq!(held(&snapshot, 20), Some(reason));
    let mut offline = fleet(9);
    offline.devices.values_mut().for_each(|view| view.online = false);
    assert_eq!((held(&offline, 49), plan(&policy, &offline, at(49)).next), (None, Some(at(50))));
    assert_eq!(held(&offline, 50), Some(HoldReason::Stalled { survived: 0, needed: 1, undecided: vec![] }));
}

#[test]
fn a_restart_of_the_server_settles_no_stage() {
    let policy = policy("stages = [{ size = 2 }, { size = \"50%\" }, { size = \"100%\" }]");
    let mut snapshot = fleet(8);
    settle(&mut snapshot, &[Outcome::Survived; 2]);
    snapshot.state.stage = 1;
    snapshot.hearing_since = at(1000);
    snapshot.devices.values_mut().skip(2).for_each(|view| view.online = false);
    let early = plan(&policy, &snapshot, at(1030));
    assert_eq!((early.verdict.kind, early.next), (VerdictKind::Continue, Some(at(1060))));
    assert_eq!(plan(&policy, &snapshot, at(1060)).verdict.kind, VerdictKind::Bake, "they are away by themselves");
    snapshot.devices.values_mut().for_each(|view| view.online = true);
    assert_eq!(assigned(&plan(&policy, &snapshot, at(1030))).len(), 2, "whoever is back is assigned at once");
}

#[test]
fn windows_delay_assignments_and_no_take_back() {
    let mut policy = policy("stages = [{ size = \"100%\" }]");
    policy.windows = vec![Window { start: at(100), end: at(200) }];
    let mut snapshot = fleet(4);
    let early = plan(&policy, &snapshot, at(50));
    assert_eq!((early.actions.len(), early.next), (0, Some(at(100))));
    assert_eq!(assigned(&plan(&policy, &snapshot, at(100))).len(), 1);
    let over = plan(&policy, &snapshot, at(200));
    assert_eq!(over.actions, [Action::Hold { reason: HoldReason::WindowsOver { waiting: 4 } }]);
    settle(&mut snapshot, &[Outcome::Survived; 2]);
    snapshot.state.phase = Phase::Aborted;
    assert_eq!(plan(&policy, &snapshot, at(300)).actions.len(), 2);
}

#[test]
fn an_offline_device_is_not_assigned_and_blocks_the_finish() {
    let policy = policy("stages = [{ size = \"100%\" }]");
    let mut snapshot = fleet(3);
    settle(&mut snapshot, &[Outcome::Survived; 2]);
    snapshot.state.baking = Some(at(10));
    snapshot.devices.get_mut(&"d2".parse().unwrap()).unwrap().online = false;
    let waits = plan(&policy, &snapshot, at(99_999));
    assert_eq!((waits.actions.len(), waits.verdict.evidence.tally.unreached, waits.next), (0, 1, None));
    snapshot.devices.get_mut(&"d2".parse().unwrap()).unwrap().online = true;
    assert_eq!(assigned(&plan(&policy, &snapshot, at(99_999))), ["d2"]);
    snapshot.devices.remove(&"d2".parse().unwrap());
    assert!(matches!(plan(&policy, &snapshot, at(99_999)).actions[..], [Action::Finish { .. }]));
}

#[test]
fn the_control_group_is_held_back_and_then_released_or_kept() {
    for (afterwards, last) in [("release", true), ("keep", false)] {
        let policy = policy(&format!(
            "control = {{ size = 2, afterwards = \"{afterwards}\" }}\nmax_unavailable = 8\nstages = [{{ size = \"100%\" }}]"
        ));
        let mut snapshot = fleet(8);
        let plan_now = plan(&policy, &snapshot, at(0));
        assert_eq!((assigned(&plan_now).len(), plan_now.verdict.evidence.tally.held_back), (6, 2));
        assert_eq!(plan_now.verdict.evidence.quota, 6);
        let reached: Vec<_> = assigned(&plan_now);
        let mut donor = fleet(1);
        settle(&mut donor, &[Outcome::Survived]);
        for device in &reached {
            snapshot.devices.insert(device.parse().unwrap(), donor.devices[&"d0".parse().unwrap()].clone());
        }
        snapshot.state.baking = Some(at(10));
        let next = plan(&policy, &snapshot, at(99_999)).actions;
        assert_eq!(matches!(next[..], [Action::Promote { stage: 1, .. }]), last, "{next:?}");
        assert_eq!(matches!(next[..], [Action::Finish { .. }]), !last, "{next:?}");
        snapshot.state.stage = policy.last_stage();
        snapshot.state.baking = None;
        let released = assigned(&plan(&policy, &snapshot, at(99_999)));
        assert_eq!(released.len(), if last { 2 } else { 0 });
    }
}
