//! What is decided for the rollout as a whole, and on which grounds.
//!
//! Precedence: abort (failure budget, early stop, gates) before hold before everything else, and only abort is judged
//! while the rollout is paused or held. A stage settles when nobody is pending, nobody within it can be assigned, and
//! enough have survived; it is left after its bake time and once the server has heard devices for a while, for news of
//! harm may still be on its way after a restart. Nor does a stage settle for want of devices that a restart has cut off.
//! The last stage is left, as finished, only when nobody is unreached, or a human has said that those are not waited for.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    AbortReason, Advance, FleetSnapshot, HoldKind, HoldReason, Phase, Policy, RolloutState, Says, Stage,
    census::{Census, earlier},
    outcome::later,
};

/// Agents are back within this time after the server was away; whoever is not, is away by itself.
const BACK: Duration = Duration::from_secs(60);

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing yet, unless time passes that point.
    Continue(Option<Timestamp>),
    Bake,
    Promote {
        stage: u32,
        why: String,
    },
    Hold(HoldReason),
    Abort(AbortReason),
    Finish {
        why: String,
    },
}

/// Everything that a decision looks at.
pub(super) struct Bench<'a> {
    pub(super) policy: &'a Policy,
    pub(super) snapshot: &'a FleetSnapshot,
    pub(super) census: &'a Census<'a>,
    pub(super) now: Timestamp,
}

impl Bench<'_> {
    pub(super) fn decide(&self) -> Decision {
        if let Some(reason) = self.abort() {
            return Decision::Abort(reason);
        }
        if self.state().phase != Phase::Running {
            return Decision::Continue(None);
        }
        if let Some(reason) = self.hold() {
            return Decision::Hold(reason);
        }
        self.advance()
    }

    fn state(&self) -> &RolloutState {
        &self.snapshot.state
    }

    /// How many failed and silent devices the stage bears.
    pub(super) fn allowed(&self) -> usize {
        self.policy.failures.most.down(self.census.quota)
    }

    /// How many survivors the stage needs.
    pub(super) fn needed(&self) -> usize {
        let min = self.policy.terms(self.state().stage).map(|s| s.min_survivors);
        min.map_or(1, |m| m.up(self.census.reached)).max(1)
    }

    /// When the stage has been watched for long enough, once it has settled.
    pub(super) fn baked_at(&self) -> Option<Timestamp> {
        let bake = Duration::from_secs(self.policy.terms(self.state().stage).map_or(0, |s| s.bake_seconds));
        let heard = later(self.snapshot.hearing_since, bake.min(self.policy.silence()));
        self.state().baking.map(|since| later(since, bake).max(heard))
    }

    fn abort(&self) -> Option<AbortReason> {
        let (bad, judged, allowed) = (self.census.tally.bad(), self.census.tally.judged(), self.allowed());
        if bad > allowed {
            return Some(AbortReason::Budget { bad, allowed });
        }
        if let Some(early) = &self.policy.failures.early
            && judged >= early.judged as usize
            && early.percent.is_exceeded_by(bad, judged)
        {
            return Some(AbortReason::Early { bad, judged, percent: early.percent });
        }
        let (gate, said) = self.snapshot.gates.iter().find(|(_, gate)| gate.says == Says::Abort)?;
        Some(AbortReason::Gate { gate: gate.clone(), detail: said.detail.clone() })
    }

    fn is_acknowledged(&self, kind: &HoldKind) -> bool {
        self.state().acknowledged.contains(kind)
    }

    fn hold(&self) -> Option<HoldReason> {
        let (tally, terms) = (&self.census.tally, &self.policy.hold);
        let mut gates = self.snapshot.gates.iter().filter(|(_, gate)| gate.says == Says::Hold);
        if let Some((gate, said)) = gates.find(|(name, _)| !self.is_acknowledged(&HoldKind::Gate((*name).clone()))) {
            return Some(HoldReason::Gate { gate: gate.clone(), detail: said.detail.clone() });
        }
        if let Some(share) = terms.rejected.filter(|_| !self.is_acknowledged(&HoldKind::Rejected)) {
            let (rejected, allowed) = (tally.rejected, share.down(self.census.quota));
            if rejected > allowed {
                return Some(HoldReason::Rejected { rejected, allowed });
            }
        }
        if let Some(share) = terms.lost.filter(|_| !self.is_acknowledged(&HoldKind::Lost)) {
            let (lost, allowed) = (self.census.lost, share.down(tally.survived));
            if lost > allowed {
                return Some(HoldReason::Lost { lost, allowed });
            }
        }
        if self.census.members == 0 && tally.already == 0 && !self.is_acknowledged(&HoldKind::NoDevice) {
            return Some(HoldReason::NoDevice);
        }
        let waiting = self.census.candidates.len();
        let over = self.policy.windows.last().is_some_and(|w| w.end <= self.now);
        (over && waiting > 0).then_some(HoldReason::WindowsOver { waiting })
    }

    fn advance(&self) -> Decision {
        let (state, tally) = (self.state(), &self.census.tally);
        let last = state.stage >= self.policy.last_stage();
        if self.census.members == 0 {
            return match tally.already {
                0 => self.stalled(None),
                n => Decision::Finish { why: format!("{n} devices had the version already") },
            };
        }
        if state.promoted_by_hand && !last {
            return Decision::Promote { stage: state.stage + 1, why: "by hand".to_owned() };
        }
        let settled = tally.pending == 0 && self.census.candidates.is_empty();
        // After a restart everybody is away for a moment: the stage would be left with the survivors of the one before.
        let back = later(self.snapshot.hearing_since, BACK.min(self.policy.silence()));
        let lacks_absent = self.census.reached < self.census.quota && tally.unreached > 0;
        let survived = tally.survived >= self.needed();
        if settled && survived && lacks_absent && self.now < back {
            return Decision::Continue(Some(back));
        }
        let Some(baked) = self.baked_at() else {
            return match (settled, survived) {
                (true, true) => Decision::Bake,
                (true, false) => self.stalled(None),
                (false, _) => Decision::Continue(None),
            };
        };
        if self.now < baked {
            return Decision::Continue(Some(baked));
        }
        if !survived || self.undecided().next().is_some() {
            return if settled { self.stalled(Some(baked)) } else { Decision::Continue(None) };
        }
        if !last {
            return self.leave();
        }
        if settled && tally.unreached == 0 {
            return Decision::Finish { why: format!("{} devices survived, nobody is unreached", tally.survived) };
        }
        if settled && state.promoted_by_hand {
            let (survived, away) = (tally.survived, tally.unreached);
            return Decision::Finish { why: format!("by hand: {survived} survived, {away} away") };
        }
        Decision::Continue(None)
    }

    fn leave(&self) -> Decision {
        let stage = self.policy.terms(self.state().stage);
        let by_hand = stage.is_some_and(|s: &Stage| s.advance == Advance::ByHand);
        if by_hand && !self.is_acknowledged(&HoldKind::ByHand) {
            return Decision::Hold(HoldReason::ByHand);
        }
        let (survived, reached) = (self.census.tally.survived, self.census.reached);
        let why = format!("{survived} of {reached} devices survived and the stage was watched for its time");
        Decision::Promote { stage: self.state().stage + 1, why }
    }

    fn undecided(&self) -> impl Iterator<Item = &String> {
        self.snapshot.gates.iter().filter(|(_, gate)| gate.says == Says::Undecided).map(|(name, _)| name)
    }

    /// Nothing on any device will move by itself: patience runs from whatever moved last.
    fn stalled(&self, baked: Option<Timestamp>) -> Decision {
        let signs = [Some(self.state().moved), self.census.newest, baked, Some(self.snapshot.hearing_since)];
        let newest = signs.into_iter().flatten().max().unwrap_or(self.now);
        let end = later(newest, Duration::from_secs(self.policy.hold.stalled_seconds));
        if self.now < end {
            return Decision::Continue(Some(end));
        }
        let undecided = self.undecided().cloned().collect();
        let (survived, needed) = (self.census.tally.survived, self.needed());
        Decision::Hold(HoldReason::Stalled { survived, needed, undecided })
    }

    /// Whether devices may be assigned now, and when that changes.
    pub(super) fn window(&self) -> (bool, Option<Timestamp>) {
        let windows = &self.policy.windows;
        let open = windows.is_empty() || windows.iter().any(|w| w.start <= self.now && self.now < w.end);
        let edges = windows.iter().flat_map(|w| [w.start, w.end]).filter(|edge| *edge > self.now);
        (open, edges.fold(None, |next, edge| earlier(next, Some(edge))))
    }
}
