//! The simulated world: devices with characters, an operator with moods, a clock that jumps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tern_protocol::{
    ids::{DeviceId, Generation, Version},
    refusal::RefusalCode,
    twin::ModelState,
};

use super::{super::*, later, policy};

/// Chance by SplitMix64: the same for the same seed on every machine.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What a device does with the version.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Character {
    Good,
    Fails,
    Rejects,
    Dies,
    Idles,
    Hangs,
    Complains,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) policy: Policy,
    pub(super) snapshot: FleetSnapshot,
    pub(super) now: Timestamp,
    pub(super) history: Vec<Entry>,
    characters: BTreeMap<DeviceId, Character>,
    dead: Vec<DeviceId>,
    generation: u64,
    resumed: u32,
    /// One device in so many misbehaves; none where there is no number.
    bad_one_in: Option<usize>,
}

const POLICIES: &[&str] = &[
    "stages = [{ size = 2, bake_seconds = 30 }, { size = \"100%\" }]",
    "max_unavailable = 1\nconcurrency = 1\nstages = [{ size = 1 }, { size = \"30%\", min_survivors = \"60%\" }, { size = \"100%\", bake_seconds = 900 }]",
    "max_unavailable = \"100%\"\nconcurrency = 2\ncontrol = { size = \"20%\" }\nstages = [{ size = \"10%\", bake_seconds = 60 }, { size = 3 }, { size = \"100%\" }]",
    "max_unavailable = 3\ncontrol = { size = 2, afterwards = \"keep\" }\nfailures = { most = \"50%\", early = { percent = \"25%\", judged = 3 } }\nstages = [{ size = 3, advance = \"by-hand\" }, { size = \"100%\" }]",
    "approvals = 1\nsilence_seconds = 300\nfailures = { most = 2 }\ntake_back = { version = \"0.9.0\" }\nhold = { stalled_seconds = 600, rejected = 0, lost = \"10%\" }\nstages = [{ size = \"100%\", min_survivors = 2 }]",
    "silence_seconds = 120\nfailures = { most = \"100%\" }\nhold = { stalled_seconds = 100 }\nmax_unavailable = \"50%\"\nstages = [{ size = 1, bake_seconds = 10 }, { size = \"50%\", bake_seconds = 10 }, { size = \"100%\", bake_seconds = 10 }]",
];

impl World {
    pub(super) fn new(mut chance: Chance) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut policy = policy(chance.pick::<&str>(POLICIES));
        let bad_one_in = [None, Some(60), Some(25), Some(6)][chance.below(4)];
        if bad_one_in.is_some() && chance.one_in(4) {
            let window = |n: i64| Window { start: later(now, n * 4000), end: later(now, n * 4000 + 1500) };
            policy.windows = (0..12).map(window).collect();
        }
        let made = RolloutState::create("ann", "spring lenses", now);
        let snapshot = FleetSnapshot {
            rollout: format!("r{}", chance.below(1000)).parse().unwrap(),
            target: "demo/digits@1.1.0".parse().unwrap(),
            state: made.state,
            hearing_since: now,
            gates: BTreeMap::new(),
            devices: BTreeMap::new(),
        };
        let history = vec![made.entry];
        let (characters, dead) = (BTreeMap::new(), Vec::new());
        let mut world =
            Self { chance, policy, snapshot, now, history, characters, dead, generation: 100, resumed: 0, bad_one_in };
        for _ in 0..world.chance.below(24) + usize::from(world.is_orderly()) {
            world.join();
        }
        if world.is_orderly() || !world.chance.one_in(20) {
            world.command(Verb::Approve);
            world.command(Verb::Start);
        }
        world
    }

    /// Whether nothing goes wrong here: every device is good, and there are no accidents.
    pub(super) fn is_orderly(&self) -> bool {
        self.bad_one_in.is_none()
    }

    fn join(&mut self) {
        use Character::{Complains, Dies, Fails, Good, Hangs, Idles, Rejects};
        let id: DeviceId = format!("d{}", self.snapshot.devices.len()).parse().unwrap();
        let old: Option<Version> =
            [Some("1.0.0"), Some("1.0.0"), None, Some("1.1.0")][self.chance.below(4)].map(|v| v.parse().unwrap());
        let old = if self.chance.one_in(2) { Some("1.0.0".parse().unwrap()) } else { old };
        let view = DeviceView {
            class: ["cam", "cam", "cam", "hub", "eye"][self.chance.below(5)].parse().unwrap(),
            eligible: if !self.is_orderly() && self.chance.one_in(12) {
                Eligibility::Unsuited
            } else {
                Eligibility::Eligible
            },
            online: !self.chance.one_in(4),
            last_seen: Some(self.now),
            running: old.clone(),
            generation: Generation(self.generation),
            desired: old,
            twin: None,
            assignment: None,
        };
        let bad = *self.chance.pick(&[Fails, Rejects, Dies, Idles, Hangs, Complains]);
        let character = if self.bad_one_in.is_some_and(|n| self.chance.one_in(n)) { bad } else { Good };
        self.characters.insert(id.clone(), character);
        self.snapshot.devices.insert(id, view);
    }

    /// Something happens that nobody planned.
    pub(super) fn accident(&mut self) {
        let seconds = self.chance.below(900) as i64;
        match self.chance.below(16) {
            0 => self.join(),
            1 => self.any(|view, _| view.eligible = Eligibility::Barred),
            2 => self.any(|view, _| view.eligible = Eligibility::Eligible),
            3 => self.any(|view, next| (view.desired, view.generation) = (Some("2.0.0".parse().unwrap()), next)),
            // A signature is renewed.
            4 => self.any(|view, next| view.generation = next),
            5 | 6 => self.any(|view, _| view.online = !view.online),
            7 if self.chance.one_in(3) => self.now = later(self.now, -40 * seconds),
            8 if self.chance.one_in(3) => {
                self.now = later(self.now, 40 * seconds);
                self.snapshot.hearing_since = self.now;
            }
            9 if self.chance.one_in(4) => {
                let verb = *self.chance.pick(&Verb::ALL);
                self.command(verb);
            }
            10 if self.chance.one_in(4) => {
                let says = *self.chance.pick(&[Says::Pass, Says::Pass, Says::Undecided, Says::Hold, Says::Abort]);
                self.snapshot.gates.insert("health".to_owned(), Gate { says, detail: "p99".to_owned() });
            }
            11 => self.command(Verb::Resume),
            _ => {
                self.move_devices();
                self.now = later(self.now, seconds);
            }
        }
    }

    fn any(&mut self, change: impl FnOnce(&mut DeviceView, Generation)) {
        self.generation += 1;
        let next = Generation(self.generation);
        let n = self.chance.below(self.snapshot.devices.len());
        let Some((id, view)) = self.snapshot.devices.iter_mut().nth(n) else { return };
        change(view, next);
        if self.dead.contains(id) {
            view.online = false;
        }
    }

    /// Every device that is there takes a step or two.
    pub(super) fn move_devices(&mut self) {
        let target = self.snapshot.target.version.clone();
        for (id, view) in self.snapshot.devices.iter_mut().filter(|(_, view)| view.online) {
            view.last_seen = Some(self.now);
            if self.chance.one_in(4) {
                continue;
            }
            step(view, self.characters[id], &target, self.now);
            if self.characters[id] == Character::Dies
                && view.running.as_ref() == Some(&target)
                && view.desired.as_ref() == Some(&target)
                && view.assignment.is_some()
            {
                view.online = false;
                self.dead.push(id.clone());
            }
        }
    }

    /// From now on nothing happens by accident.
    pub(super) fn calm(&mut self) {
        self.snapshot.hearing_since = self.now;
        self.snapshot.gates.clear();
        for (id, view) in &mut self.snapshot.devices {
            view.online = !self.dead.contains(id);
            // Who died before it was reached was scrapped.
            if !view.online {
                view.eligible = Eligibility::Barred;
            }
        }
    }

    /// What a patient operator does.
    pub(super) fn govern(&mut self) {
        match self.snapshot.state.phase {
            Phase::Created => self.command(Verb::Approve),
            Phase::Paused | Phase::Held => {
                self.resumed += 1;
                match self.resumed {
                    0..=3 => self.command(Verb::Resume),
                    4..=5 => self.command(Verb::Retry),
                    6..=12 => self.command(Verb::Promote),
                    _ => self.command(Verb::Abort),
                }
            }
            _ => {}
        }
        self.command(Verb::Start);
    }

    /// Time passes: to the alarm where nobody is busy, and now and then although somebody is.
    pub(super) fn pass_time(&mut self, next: Option<Timestamp>) {
        let is_busy = |view: &DeviceView| {
            let open = view.assignment.as_ref().is_some_and(|a| a.settled.is_none() && a.taken_back.is_none());
            let ours = view.desired.as_ref() == Some(&self.snapshot.target.version);
            open && ours && view.twin.as_ref().is_none_or(|t| t.state != ModelState::Idle)
        };
        let busy = self.snapshot.devices.values().any(is_busy);
        let jump = if busy { !self.is_orderly() && self.chance.one_in(12) } else { self.chance.one_in(2) };
        let step = later(self.now, 45);
        let then = next.filter(|next| jump && *next > self.now).unwrap_or(step);
        self.now = then.min(later(self.now, 7 * 86_400));
    }

    pub(super) fn command(&mut self, verb: Verb) {
        let order = Order { verb, who: "bob".to_owned(), why: "mood".to_owned(), if_phase: None };
        if let Ok(done) = self.snapshot.state.order(&self.policy, &order, self.now) {
            self.record(done);
        }
    }

    fn record(&mut self, done: Transition) {
        self.snapshot.state = done.state;
        self.history.push(done.entry);
    }

    /// What the reconciler does in one transaction.
    pub(super) fn act(&mut self, action: &Action) {
        if let Some(done) = self.snapshot.state.after(action, self.now) {
            return self.record(done);
        }
        self.generation += 1;
        let (now, target, generation) = (self.now, self.snapshot.target.version.clone(), Generation(self.generation));
        let devices = &mut self.snapshot.devices;
        match action {
            Action::Settle { device, outcome, code } => {
                let assignment = devices.get_mut(device).unwrap().assignment.as_mut().unwrap();
                assignment.settled = Some(Settled { outcome: *outcome, code: *code, at: now });
            }
            Action::TakeBack { device, to, cause, expects } => {
                let view = devices.get_mut(device).unwrap();
                assert_eq!(view.generation, *expects);
                (view.desired, view.generation) = (to.clone(), generation);
                view.assignment.as_mut().unwrap().taken_back = Some(*cause);
            }
            Action::Assign { device, stage, round, previous, expects, .. } => {
                let view = devices.get_mut(device).unwrap();
                assert_eq!(view.generation, *expects);
                (view.desired, view.generation) = (Some(target), generation);
                let (stage, round, previous) = (*stage, *round, previous.clone());
                view.assignment = Some(Assignment {
                    stage,
                    round,
                    at: now,
                    generation,
                    previous,
                    fetched: None,
                    settled: None,
                    taken_back: None,
                });
            }
            _ => unreachable!("it changes the state"),
        }
    }
}

fn step(view: &mut DeviceView, character: Character, target: &Version, now: Timestamp) {
    use ModelState::{Committed, Fetching, Idle, OnProbation, Probing, Rejected, RolledBack, Staged};
    let twin = |state| TwinView {
        generation: view.generation,
        desired: view.desired.clone(),
        state,
        changed: now,
        error: None,
    };
    let known = view.twin.as_ref().filter(|t| t.desired == view.desired);
    if view.desired.as_ref() != Some(target) {
        view.twin = Some(twin(Committed));
        view.running.clone_from(&view.desired);
        return;
    }
    let refusal = |code| Some(RefusalView { code, version: Some(target.clone()), generation: view.generation });
    let next = match (known.map(|t| t.state), character) {
        (None, _) => {
            if let Some(assignment) = &mut view.assignment {
                assignment.fetched.get_or_insert(now);
            }
            twin(Fetching)
        }
        (Some(Fetching), _) => twin(Probing),
        (Some(Probing | Rejected), Character::Complains) => {
            TwinView { error: refusal(RefusalCode::NoSpace), ..twin(Rejected) }
        }
        (Some(Probing | Rejected), Character::Rejects) => {
            TwinView { error: refusal(RefusalCode::WrongClass), ..twin(Rejected) }
        }
        (Some(Probing), Character::Hangs) => twin(Probing),
        (Some(Probing), _) => twin(Staged),
        (Some(Staged), _) => twin(OnProbation),
        (Some(OnProbation | RolledBack), Character::Fails) => {
            TwinView { error: refusal(RefusalCode::ProbationFailed), ..twin(RolledBack) }
        }
        (Some(OnProbation), Character::Idles) => twin(Idle),
        (Some(OnProbation), _) => twin(Committed),
        (Some(state), _) => twin(state),
    };
    let changed = known.filter(|t| t.state == next.state).map_or(now, |t| t.changed);
    if matches!(next.state, OnProbation | Idle | Committed) {
        view.running = Some(target.clone());
    }
    if next.state == RolledBack {
        view.running = view.assignment.as_ref().and_then(|a| a.previous.clone());
    }
    view.twin = Some(TwinView { changed, ..next });
}
