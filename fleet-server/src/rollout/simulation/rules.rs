//! What must hold, counted afresh from the snapshot: nothing here asks the planner's own census.

use tern_protocol::twin::ModelState;

use super::{super::*, World, later};

fn stands(world: &World, view: &DeviceView) -> bool {
    view.assignment.as_ref().is_some_and(|a| a.taken_back.is_none())
        && view.desired.as_ref() == Some(&world.snapshot.target.version)
}

fn is_reached(world: &World, view: &DeviceView) -> bool {
    let known = view.assignment.as_ref().filter(|a| a.taken_back != Some(TakeBackCause::Unreached));
    stands(world, view) || known.is_some_and(|a| a.settled.is_some())
}

fn is_open(world: &World, view: &DeviceView) -> bool {
    let untouched = view.assignment.as_ref().is_none_or(|a| a.taken_back == Some(TakeBackCause::Unreached));
    untouched && view.eligible == Eligibility::Eligible && view.desired.as_ref() != Some(&world.snapshot.target.version)
}

fn word<'a>(world: &World, view: &'a DeviceView) -> Option<&'a TwinView> {
    let generation = view.assignment.as_ref()?.generation;
    view.twin
        .as_ref()
        .filter(|t| t.generation >= generation && t.desired.as_ref() == Some(&world.snapshot.target.version))
}

fn count(world: &World, is: impl Fn(&World, &DeviceView) -> bool) -> usize {
    world.snapshot.devices.values().filter(|view| is(world, view)).count()
}

fn in_flight(world: &World, view: &DeviceView) -> bool {
    let idle = word(world, view).is_some_and(|t| t.state == ModelState::Idle);
    stands(world, view) && !idle && view.assignment.as_ref().is_some_and(|a| a.settled.is_none())
}

fn installing(world: &World, view: &DeviceView) -> bool {
    in_flight(world, view) && !word(world, view).is_some_and(|t| t.state == ModelState::OnProbation)
}

fn control(world: &World, members: usize) -> usize {
    let released = world.snapshot.state.stage as usize >= world.policy.stages.len();
    if released { 0 } else { world.policy.control.size.down(members).min(members.saturating_sub(1)) }
}

fn quota(world: &World, members: usize) -> usize {
    let stage = world.snapshot.state.stage as usize;
    if stage >= world.policy.stages.len() {
        return members;
    }
    let sizes = world.policy.stages[..=stage].iter().map(|s| s.size.up(members));
    sizes.max().unwrap().min(members - control(world, members))
}

pub(super) fn action_is_allowed(world: &World, action: &Action, plan: &Plan) {
    let phase = world.snapshot.state.phase;
    assert_eq!(plan.revision, world.snapshot.state.revision, "a change of state is the last action of its plan");
    match action {
        Action::Assign { device, stage, .. } => {
            assert_eq!((phase, *stage), (Phase::Running, world.snapshot.state.stage));
            assign_is_allowed(world, &world.snapshot.devices[device]);
        }
        Action::TakeBack { device, to, cause, .. } => {
            let view = &world.snapshot.devices[device];
            assert!(stands(world, view), "{device} is not ours to take back");
            let assignment = view.assignment.as_ref().unwrap();
            let settled = assignment.settled.map(|s| s.outcome);
            match cause {
                TakeBackCause::Aborted => assert_eq!(phase, Phase::Aborted),
                TakeBackCause::Undone => assert_eq!(phase, Phase::Undone),
                TakeBackCause::Failed => assert_eq!(settled, Some(Outcome::Failed)),
                TakeBackCause::Rejected => assert_eq!(settled, Some(Outcome::Rejected)),
                TakeBackCause::Unreached => assert!(!view.online && assignment.fetched.is_none()),
            }
            match (&world.policy.take_back, cause) {
                (TakeBackTo::Version(v), TakeBackCause::Aborted | TakeBackCause::Undone) => {
                    assert_eq!(to.as_ref(), Some(v))
                }
                _ => assert_eq!(*to, assignment.previous),
            }
            assert_ne!(to.as_ref(), Some(&world.snapshot.target.version));
        }
        Action::Settle { outcome, .. } => assert!(phase.is_live() && outcome.is_recorded()),
        Action::Abort { .. } => assert!(phase.is_live()),
        Action::Bake { .. } | Action::Hold { .. } => assert_eq!(phase, Phase::Running),
        Action::Promote { stage, .. } => {
            assert_eq!((phase, *stage), (Phase::Running, world.snapshot.state.stage + 1));
            assert!(*stage <= world.policy.last_stage());
        }
        Action::Finish { .. } => finish_is_allowed(world, plan),
    }
}

fn assign_is_allowed(world: &World, view: &DeviceView) {
    assert!(view.online && view.eligible == Eligibility::Eligible);
    let windows = &world.policy.windows;
    assert!(
        windows.is_empty() || windows.iter().any(|w| w.start <= world.now && world.now < w.end),
        "outside its windows"
    );
    let settled = view.assignment.as_ref().and_then(|a| a.settled).map(|s| s.outcome);
    assert_ne!(settled, Some(Outcome::Rejected), "a rejection is never tried again");
    let again = is_reached(world, view);
    assert!(again || is_open(world, view), "it is not the rollout's to assign");
    if again {
        assert!(matches!(settled, Some(Outcome::Failed | Outcome::Silent)), "{settled:?} is not tried again");
        assert!(view.assignment.as_ref().unwrap().round < world.snapshot.state.round, "nobody ordered a retry");
        let heard = settled == Some(Outcome::Silent)
            || view.twin.as_ref().is_some_and(|t| t.desired.as_ref() != Some(&world.snapshot.target.version));
        assert!(heard, "it would refuse the version as long as it has not heard of another demand");
    }
    let reached = count(world, is_reached);
    let members = reached + count(world, is_open);
    if !again {
        assert!(reached < quota(world, members), "past the stage: {reached} of {members} reached");
        assert!(members - reached > control(world, members), "the control group is touched");
    }
    let unavailable = world.policy.max_unavailable.down(members).max(1);
    assert!(count(world, in_flight) < unavailable, "more than {unavailable} in flight");
    assert!(count(world, installing) < world.policy.concurrency as usize, "too many install at once");
}

fn finish_is_allowed(world: &World, plan: &Plan) {
    assert_eq!(world.snapshot.state.phase, Phase::Running);
    assert_eq!(count(world, in_flight), 0, "somebody is pending");
    let open = count(world, is_open);
    let members = open + count(world, is_reached);
    let by_hand = world.snapshot.state.promoted_by_hand;
    assert!(by_hand || open <= control(world, members), "{open} devices were never reached");
    assert!(by_hand || plan.verdict.evidence.tally.unreached == 0);
    let survived = |_: &World, view: &DeviceView| {
        view.assignment.as_ref().and_then(|a| a.settled).is_some_and(|s| s.outcome == Outcome::Survived)
    };
    let already = |world: &World, view: &DeviceView| {
        view.assignment.is_none() && view.desired.as_ref() == Some(&world.snapshot.target.version)
    };
    assert!(count(world, survived) > 0 || (members == 0 && count(world, already) > 0), "nobody has it");
}

/// No demand stands where the version failed, was rejected, or never arrived.
pub(super) fn nothing_hopeless_is_demanded(world: &World) {
    for (device, view) in world.snapshot.devices.iter().filter(|(_, view)| stands(world, view)) {
        let assignment = view.assignment.as_ref().unwrap();
        let settled = assignment.settled.map(|s| s.outcome);
        assert!(!matches!(settled, Some(Outcome::Failed | Outcome::Rejected)), "{device}: {settled:?}");
        let since = later(assignment.at.max(world.snapshot.hearing_since), world.policy.silence_seconds as i64);
        let arrived = view.online || assignment.fetched.is_some() || settled.is_some() || word(world, view).is_some();
        assert!(arrived || world.now < since, "{device} holds a place and was never seen");
    }
}

/// On no device does the rollout's demand stand.
pub(super) fn everything_is_back(world: &World) {
    assert_eq!(count(world, stands), 0);
}

/// The same arguments give the same plan, also when they come from a file.
pub(super) fn plan_is_pure(world: &World, plan: &Plan) {
    let json = serde_json::to_string(&world.snapshot).unwrap();
    let snapshot: FleetSnapshot = serde_json::from_str(&json).unwrap();
    let policy: Policy = serde_json::from_str(&serde_json::to_string(&world.policy).unwrap()).unwrap();
    assert_eq!(*plan, super::plan(&policy, &snapshot, world.now));
    assert_eq!(*plan, serde_json::from_str(&serde_json::to_string(plan).unwrap()).unwrap());
}

/// Where nothing is heard, nothing is to be done before the time that the plan names.
pub(super) fn nothing_more_until_the_alarm(world: &World, plan: &Plan) {
    let before = match plan.next {
        Some(next) => {
            assert!(next > world.now, "an alarm that rings at once and leads to nothing");
            next.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap()
        }
        None => later(world.now, 50 * 365 * 86_400),
    };
    let then = super::plan(&world.policy, &world.snapshot, before);
    assert_eq!((&then.actions, then.next), (&Vec::new(), plan.next), "at {before}, planned at {}", world.now);
}

/// Every change of state has exactly one line.
pub(super) fn history_is_whole(world: &World) {
    let revisions = world.history.iter().map(|e| e.revision);
    assert!(revisions.eq(0..=world.snapshot.state.revision));
}
