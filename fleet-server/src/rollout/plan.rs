//! From a snapshot to what is to be done: pure, and the same for the same arguments.
//!
//! Actions stand in the order in which they are to be carried out, each in one transaction that also checks what the
//! action expects. Whoever carries them out may stop after any of them and plan anew. A change of the rollout's own state
//! is the last action of its plan: what follows from it comes with the next plan, which is due at once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    desired::Probation,
    ids::{DeviceId, Generation, Version},
    refusal::RefusalCode,
};

use super::{
    AbortReason, Assignment, DeviceView, FleetSnapshot, Gate, HoldReason, Outcome, Phase, Policy, TakeBackCause,
    TakeBackTo, Tally,
    census::{Census, Row, earlier},
    verdict::{Bench, Decision},
};

/// Most devices that evidence names; the counts are always whole.
pub const MAX_TROUBLES: usize = 32;
/// Most devices that one plan changes: a plan is carried out between two looks at the fleet.
pub const MAX_DEVICE_ACTIONS: usize = 4096;

/// What is to be done, why, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The state's revision that it was made from: void for any other.
    pub revision: u64,
    /// What is to be done, in order.
    pub actions: Vec<Action>,
    /// What was decided, and on which grounds.
    pub verdict: Verdict,
    /// When time alone changes the plan; anything heard may change it before.
    pub next: Option<Timestamp>,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Record how an assignment ended.
    Settle {
        /// On which device.
        device: DeviceId,
        /// How.
        outcome: Outcome,
        /// The device's reason, where it gave one.
        code: Option<RefusalCode>,
    },
    /// Demand of a device what was demanded before.
    TakeBack {
        /// Of which device.
        device: DeviceId,
        /// Which version; the model is removed where there is none.
        to: Option<Version>,
        /// Why.
        cause: TakeBackCause,
        /// The generation demanded of the device right now; any other voids the action.
        expects: Generation,
    },
    /// Demand the version of a device.
    Assign {
        /// Of which device.
        device: DeviceId,
        /// In which stage.
        stage: u32,
        /// In which round of retries.
        round: u32,
        /// What the version must survive.
        probation: Probation,
        /// What a take-back returns to.
        previous: Option<Version>,
        /// The generation demanded of the device right now; any other voids the action.
        expects: Generation,
    },
    /// The stage has settled: watch it.
    Bake {
        /// Which.
        stage: u32,
    },
    /// Begin a stage.
    Promote {
        /// Which.
        stage: u32,
        /// Why.
        why: String,
    },
    /// Ask a human.
    Hold {
        /// Why.
        reason: HoldReason,
    },
    /// Stop for good; the next plans take everything back.
    Abort {
        /// Why.
        reason: AbortReason,
    },
    /// Everybody has the version.
    Finish {
        /// Why.
        why: String,
    },
}

/// What was decided, and on which grounds. Kept with every change that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What.
    pub kind: VerdictKind,
    /// The same for people.
    pub why: String,
    /// The grounds.
    pub evidence: Evidence,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// Nothing is to be decided: not started, or over.
    Rest,
    /// The stage goes on.
    Continue,
    /// The stage has settled and is watched.
    Bake,
    /// The next stage begins.
    Promote,
    /// A human is asked.
    Hold,
    /// Everything is taken back.
    Abort,
    /// What was aborted or undone is on its way back.
    TakeBack,
    /// Everybody has the version.
    Finish,
}

/// The grounds of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// In which phase.
    pub phase: Phase,
    /// In which stage.
    pub stage: u32,
    /// Devices that the rollout has reached or may reach.
    pub members: usize,
    /// How many of them the stage reaches.
    pub quota: usize,
    /// How many are reached.
    pub reached: usize,
    /// Where they stand.
    pub tally: Tally,
    /// Survivors that went silent afterwards, where the policy asks.
    pub lost: usize,
    /// How many may fail or fall silent.
    pub bad_allowed: usize,
    /// How many must survive.
    pub survivors_needed: usize,
    /// Since when the stage is watched.
    pub baking: Option<Timestamp>,
    /// When it has been watched for its time.
    pub baked: Option<Timestamp>,
    /// What the gates said.
    pub gates: std::collections::BTreeMap<String, Gate>,
    /// Failed, rejected and silent devices, the first [`MAX_TROUBLES`] by name.
    pub troubles: Vec<Trouble>,
}

/// A device on which the version did not do well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which.
    pub device: DeviceId,
    /// How it stands.
    pub outcome: Outcome,
    /// Its reason, where it gave one.
    pub code: Option<RefusalCode>,
}

/// What is to be done for this rollout now. The policy has passed [`Policy::check`].
pub fn plan(policy: &Policy, snapshot: &FleetSnapshot, now: Timestamp) -> Plan {
    let census = Census::take(policy, snapshot, now);
    let bench = Bench { policy, snapshot, census: &census, now };
    let planner = Planner { policy, snapshot, census: &census };
    let mut actions = Vec::new();
    let phase = snapshot.state.phase;
    let (kind, why, until) = match phase {
        Phase::Created | Phase::Denied | Phase::Finished => (VerdictKind::Rest, phase.to_string(), None),
        Phase::Aborted | Phase::Undone => planner.return_all(&mut actions),
        Phase::Running | Phase::Paused | Phase::Held => planner.go_on(&bench, &mut actions),
    };
    // More than one plan's worth is left: the rest is due as soon as this is done.
    let more = actions.len() > MAX_DEVICE_ACTIONS;
    actions.truncate(MAX_DEVICE_ACTIONS);
    let changes = more || actions.last().is_some_and(Action::changes_state);
    let next = if changes { Some(now) } else { until };
    let verdict = Verdict { kind, why, evidence: planner.evidence(&bench) };
    Plan { revision: snapshot.state.revision, actions, verdict, next }
}

impl Action {
    /// Whether it changes the rollout's state rather than a device.
    pub fn changes_state(&self) -> bool {
        !matches!(self, Self::Settle { .. } | Self::TakeBack { .. } | Self::Assign { .. })
    }
}

struct Planner<'a> {
    policy: &'a Policy,
    snapshot: &'a FleetSnapshot,
    census: &'a Census<'a>,
}

type Decided = (VerdictKind, String, Option<Timestamp>);

impl Planner<'_> {
    fn go_on(&self, bench: &Bench<'_>, actions: &mut Vec<Action>) -> Decided {
        self.settle(actions);
        let stage = self.snapshot.state.stage;
        let (kind, why, action) = match bench.decide() {
            Decision::Continue(until) => return self.work(bench, until, actions),
            Decision::Bake => (VerdictKind::Bake, "the stage has settled".to_owned(), Action::Bake { stage }),
            Decision::Promote { stage, why } => (VerdictKind::Promote, why.clone(), Action::Promote { stage, why }),
            Decision::Hold(reason) => (VerdictKind::Hold, reason.to_string(), Action::Hold { reason }),
            Decision::Abort(reason) => (VerdictKind::Abort, reason.to_string(), Action::Abort { reason }),
            Decision::Finish { why } => {
                self.give_up(actions);
                // No plan comes after the end: whatever is to be withdrawn goes first.
                if actions.iter().any(|action| matches!(action, Action::TakeBack { .. })) {
                    let why = "the version is withdrawn where it has no future".to_owned();
                    return (VerdictKind::Continue, why, Some(bench.now));
                }
                (VerdictKind::Finish, why.clone(), Action::Finish { why })
            }
        };
        actions.push(action);
        (kind, why, None)
    }

    fn settle(&self, actions: &mut Vec<Action>) {
        for row in &self.census.rows {
            let Some((assignment, judged)) = row.reached() else { continue };
            if judged.outcome.is_recorded() && assignment.settled.map(|s| s.outcome) != Some(judged.outcome) {
                let (device, outcome) = (row.device.clone(), judged.outcome);
                actions.push(Action::Settle { device, outcome, code: judged.code });
            }
        }
    }

    /// Withdraws the version where it has no future.
    fn give_up(&self, actions: &mut Vec<Action>) {
        for row in &self.census.rows {
            let cause = match row.reached().map(|(_, judged)| judged.outcome) {
                Some(Outcome::Failed) => TakeBackCause::Failed,
                Some(Outcome::Rejected) => TakeBackCause::Rejected,
                Some(Outcome::Unreached) => TakeBackCause::Unreached,
                _ => continue,
            };
            actions.extend(self.take_back(row, cause));
        }
    }

    /// The stage goes on: give up where the version has no future, assign where there is room.
    fn work(&self, bench: &Bench<'_>, until: Option<Timestamp>, actions: &mut Vec<Action>) -> Decided {
        self.give_up(actions);
        let mut until = earlier(until, self.census.until);
        if self.snapshot.state.phase == Phase::Running {
            let (open, edge) = bench.window();
            if open {
                let room = self.room();
                actions.extend(self.census.candidates.iter().take(room).filter_map(|device| self.assign(device)));
            }
            until = earlier(until, edge.filter(|_| !self.census.candidates.is_empty()));
        }
        let tally = &self.census.tally;
        let phase = self.snapshot.state.phase;
        let why = format!("{phase}: {} pending, {} waiting, {} survived", tally.pending, tally.waiting, tally.survived);
        (VerdictKind::Continue, why, until)
    }

    /// How many more may be in flight.
    fn room(&self) -> usize {
        let unavailable = self.policy.max_unavailable.down(self.census.members).max(1);
        let flying = unavailable.saturating_sub(self.census.in_flight);
        flying.min((self.policy.concurrency as usize).saturating_sub(self.census.installing))
    }

    fn assign(&self, device: &DeviceId) -> Option<Action> {
        let view = self.snapshot.devices.get(device)?;
        let probation = self.policy.terms(self.snapshot.state.stage)?.probation;
        Some(Action::Assign {
            device: device.clone(),
            stage: self.snapshot.state.stage,
            round: self.snapshot.state.round,
            probation,
            previous: self.before(view),
            expects: view.generation,
        })
    }

    /// What was demanded before this rollout came.
    fn before(&self, view: &DeviceView) -> Option<Version> {
        let known = view.assignment.as_ref().filter(|a| a.taken_back.is_none());
        known.map_or_else(|| view.desired.clone(), |a: &Assignment| a.previous.clone())
    }

    fn take_back(&self, row: &Row<'_>, cause: TakeBackCause) -> Option<Action> {
        let assignment = row.view.assignment.as_ref().filter(|_| row.holds(&self.snapshot.target.version))?;
        let to = match (&self.policy.take_back, cause) {
            // Where the version never arrived, or the device went back by itself, there is nothing to choose.
            (TakeBackTo::Version(version), TakeBackCause::Aborted | TakeBackCause::Undone) => Some(version.clone()),
            _ => assignment.previous.clone(),
        };
        Some(Action::TakeBack { device: row.device.clone(), to, cause, expects: row.view.generation })
    }

    fn return_all(&self, actions: &mut Vec<Action>) -> Decided {
        let undone = self.snapshot.state.phase == Phase::Undone;
        let cause = if undone { TakeBackCause::Undone } else { TakeBackCause::Aborted };
        actions.extend(self.census.rows.iter().filter_map(|row| self.take_back(row, cause)));
        let left = actions.len() + self.census.tally.outstanding;
        if left == 0 {
            return (VerdictKind::Rest, self.snapshot.state.phase.to_string(), None);
        }
        (VerdictKind::TakeBack, format!("{left} devices are on their way back"), None)
    }

    fn evidence(&self, bench: &Bench<'_>) -> Evidence {
        let troubles = self.census.rows.iter().filter_map(|row| {
            let (_, judged) = row.reached()?;
            let trouble = judged.outcome.is_bad() || judged.outcome == Outcome::Rejected;
            trouble.then(|| Trouble { device: row.device.clone(), outcome: judged.outcome, code: judged.code })
        });
        let state = &self.snapshot.state;
        Evidence {
            phase: state.phase,
            stage: state.stage,
            members: self.census.members,
            quota: self.census.quota,
            reached: self.census.reached,
            tally: self.census.tally,
            lost: self.census.lost,
            bad_allowed: bench.allowed(),
            survivors_needed: bench.needed(),
            baking: state.baking,
            baked: bench.baked_at(),
            gates: self.snapshot.gates.clone(),
            troubles: troubles.take(MAX_TROUBLES).collect(),
        }
    }
}
