//! The table of outcomes, row by row.

use super::*;
use crate::rollout::{Eligibility, Settled};
use tern_protocol::ids::Generation;

const GENERATION: Generation = Generation(7);
const SILENCE: u64 = 3600;
const PROBATION: u64 = 600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// A device to which 1.1.0 was assigned at second 0, online, of which nothing was heard since.
fn device() -> DeviceView {
    DeviceView {
        class: "cam".parse().unwrap(),
        eligible: Eligibility::Eligible,
        online: true,
        last_seen: Some(at(0)),
        running: Some(version("1.0.0")),
        generation: GENERATION,
        desired: Some(version("1.1.0")),
        twin: None,
        assignment: Some(Assignment {
            stage: 0,
            round: 0,
            at: at(0),
            generation: GENERATION,
            previous: Some(version("1.0.0")),
            fetched: None,
            settled: None,
            taken_back: None,
        }),
    }
}

fn says(state: ModelState) -> TwinView {
    TwinView { generation: GENERATION, desired: Some(version("1.1.0")), state, changed: at(10), error: None }
}

fn refuses(state: ModelState, code: RefusalCode) -> TwinView {
    let error = RefusalView { code, version: Some(version("1.1.0")), generation: GENERATION };
    TwinView { error: Some(error), ..says(state) }
}

fn judged(device: &DeviceView, second: i64, hearing_since: i64) -> Judged {
    let target = version("1.1.0");
    let terms = Terms {
        target: &target,
        silence: Duration::from_secs(SILENCE),
        probation: Duration::from_secs(PROBATION),
        hearing_since: at(hearing_since),
    };
    judge(device, device.assignment.as_ref().unwrap(), &terms, at(second))
}

struct Case {
    name: &'static str,
    change: fn(&mut DeviceView),
    second: i64,
    is: Outcome,
    until: Option<i64>,
}

fn case(name: &'static str, change: fn(&mut DeviceView), second: i64, is: Outcome, until: Option<i64>) -> Case {
    Case { name, change, second, is, until }
}

fn assignment(device: &mut DeviceView) -> &mut Assignment {
    device.assignment.as_mut().unwrap()
}

fn settle(device: &mut DeviceView, outcome: Outcome) {
    assignment(device).settled = Some(Settled { outcome, code: None, at: at(20) });
}

fn run(cases: &[Case]) {
    for Case { name, change, second, is, until } in cases {
        let mut device = device();
        change(&mut device);
        let judged = judged(&device, *second, -100);
        assert_eq!((judged.outcome, judged.until), (*is, until.map(at)), "{name} at {second}");
    }
}

#[test]
fn without_a_word_the_deadline_decides() {
    use Outcome::{Pending, Silent, Unreached};
    run(&[
        case("just assigned", |_| {}, 0, Pending, Some(3600)),
        case("online, a moment before the deadline", |_| {}, 3599, Pending, Some(3600)),
        case("online and mute", |_| {}, 3600, Silent, None),
        case("gone before it fetched", |d| d.online = false, 3600, Unreached, None),
        case("gone, a moment before", |d| d.online = false, 3599, Pending, Some(3600)),
        case("fetching gives it time", |d| assignment(d).fetched = Some(at(900)), 3600, Pending, Some(4500)),
        case(
            "fetched, then nothing",
            |d| (d.online, assignment(d).fetched) = (false, Some(at(900))),
            4500,
            Silent,
            None,
        ),
        case("the clock went back", |_| {}, -50_000, Pending, Some(3600)),
    ]);
}

#[test]
fn the_devices_word_decides_each_state() {
    use Outcome::{Failed, Idle, Pending, Silent, Survived};
    run(&[
        case("fetching", |d| d.twin = Some(says(ModelState::Fetching)), 20, Pending, Some(3610)),
        case("probing", |d| d.twin = Some(says(ModelState::Probing)), 20, Pending, Some(3610)),
        case("staged", |d| d.twin = Some(says(ModelState::Staged)), 3609, Pending, Some(3610)),
        case("stuck while staged", |d| d.twin = Some(says(ModelState::Staged)), 3610, Silent, None),
        case("probation has its own time", |d| d.twin = Some(says(ModelState::OnProbation)), 3700, Pending, Some(4210)),
        case(
            "lost on probation",
            |d| (d.online, d.twin) = (false, Some(says(ModelState::OnProbation))),
            4210,
            Silent,
            None,
        ),
        case(
            "committed",
            |d| (d.twin, d.running) = (Some(says(ModelState::Committed)), d.desired.clone()),
            20,
            Survived,
            None,
        ),
        case(
            "committed, and another version answers",
            |d| d.twin = Some(says(ModelState::Committed)),
            20,
            Pending,
            Some(3610),
        ),
        case("rolled back", |d| d.twin = Some(says(ModelState::RolledBack)), 20, Failed, None),
        case("removed, which contradicts the demand", |d| d.twin = Some(says(ModelState::Removed)), 3610, Silent, None),
        case("idle", |d| d.twin = Some(says(ModelState::Idle)), 90_000, Idle, None),
        case(
            "idle and offline",
            |d| (d.online, d.last_seen, d.twin) = (false, Some(at(50)), Some(says(ModelState::Idle))),
            3649,
            Idle,
            Some(3650),
        ),
        case(
            "idle and gone",
            |d| (d.online, d.last_seen, d.twin) = (false, Some(at(50)), Some(says(ModelState::Idle))),
            3650,
            Silent,
            None,
        ),
    ]);
}

#[test]
fn a_word_that_is_not_about_this_assignment_is_none() {
    use Outcome::{Pending, Silent, Unreached};
    fn old(d: &mut DeviceView) {
        d.twin = Some(TwinView { generation: Generation(6), ..says(ModelState::RolledBack) });
    }
    fn other(d: &mut DeviceView) {
        d.twin = Some(TwinView { desired: Some(version("1.0.0")), ..says(ModelState::Committed) });
    }
    run(&[
        case("an older generation failed", old, 20, Pending, Some(3600)),
        case("another version survived", other, 20, Pending, Some(3600)),
        case("and the device is mute", old, 3600, Silent, None),
        case("and the device is gone", |d| (old(d), d.online = false).1, 3600, Unreached, None),
        case(
            "a renewed signature is still about it",
            |d| d.twin = Some(TwinView { generation: Generation(9), ..says(ModelState::RolledBack) }),
            20,
            Outcome::Failed,
            None,
        ),
    ]);
}

#[test]
fn refusals_are_failures_rejections_or_passing() {
    use Outcome::{Failed, Pending, Rejected};
    let unsuited =
        ["wrong-class", "agent-too-old", "over-budget", "contract-mismatch", "unknown-format", "candidate-not-allowed"];
    for code in RefusalCode::ALL {
        let mut device = device();
        device.twin = Some(refuses(ModelState::Rejected, *code));
        let is = match code {
            _ if code.is_retryable() => Pending,
            _ if unsuited.contains(&code.as_str()) => Rejected,
            _ => Failed,
        };
        let early = judged(&device, 20, -100);
        assert_eq!((early.outcome, early.code), (is, Some(*code)), "{code}");
        // A passing reason that lasts is a failure with that reason, and no silence: the device talks.
        let late = judged(&device, 3610, -100).outcome;
        assert_eq!(late, if is == Pending { Failed } else { is }, "{code} at the deadline");
    }
}

#[test]
fn a_refusal_of_another_assignment_gives_no_reason() {
    let mut device = device();
    let mut twin = refuses(ModelState::Rejected, RefusalCode::WrongClass);
    twin.error.as_mut().unwrap().generation = Generation(6);
    device.twin = Some(twin);
    let judged = judged(&device, 20, -100);
    assert_eq!((judged.outcome, judged.code), (Outcome::Failed, None));
}

#[test]
fn what_was_recorded_stands_and_silence_heals() {
    use Outcome::{Failed, Idle, Rejected, Silent, Survived};
    fn committed(d: &mut DeviceView) {
        (d.twin, d.running) = (Some(says(ModelState::Committed)), d.desired.clone());
    }
    run(&[
        case("failed stays", |d| (settle(d, Failed), committed(d)).1, 20, Failed, None),
        case("rejected stays", |d| (settle(d, Rejected), committed(d)).1, 20, Rejected, None),
        case(
            "survived stays",
            |d| (settle(d, Survived), d.twin = Some(says(ModelState::RolledBack))).1,
            20,
            Survived,
            None,
        ),
        case("silent stays", |d| settle(d, Silent), 20, Silent, None),
        case(
            "a sign of life heals nothing",
            |d| (settle(d, Silent), d.twin = Some(says(ModelState::Probing))).1,
            20,
            Silent,
            None,
        ),
        case("an ending heals", |d| (settle(d, Silent), committed(d)).1, 20, Survived, None),
        case(
            "a bad ending is its own",
            |d| (settle(d, Silent), d.twin = Some(says(ModelState::RolledBack))).1,
            20,
            Failed,
            None,
        ),
        case("idle heals", |d| (settle(d, Silent), d.twin = Some(says(ModelState::Idle))).1, 20, Idle, None),
    ]);
}

#[test]
fn the_servers_absence_is_no_devices_silence() {
    let mut device = device();
    assignment(&mut device).fetched = Some(at(5));
    assert_eq!(judged(&device, 90_000, 89_000).outcome, Outcome::Pending);
    assert_eq!(judged(&device, 90_000, 89_000).until, Some(at(89_000 + 3600)));
    assert_eq!(judged(&device, 92_600, 89_000).outcome, Outcome::Silent);
}
