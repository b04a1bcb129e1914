//! Where a rollout stands, and the history of how it got there.
//!
//! The state is one small row that is replaced; the history only grows, one entry for each change, and is the caller's to
//! store in the same transaction. Aborted, undone, finished and denied rollouts never run again.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Action, Verb};

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// In which phase.
    pub phase: Phase,
    /// Counts the changes. A plan made from another revision is void.
    pub revision: u64,
    /// The current stage, from 0.
    pub stage: u32,
    /// Since when.
    pub stage_since: Timestamp,
    /// The newest change of any kind: patience begins anew with it.
    pub moved: Timestamp,
    /// Since when the stage is watched, once it has settled.
    pub baking: Option<Timestamp>,
    /// Whether a human wants the stage left whatever it lacks.
    pub promoted_by_hand: bool,
    /// Why it is held, while it is.
    pub held: Option<HoldReason>,
    /// What a human has seen and goes on in spite of.
    pub acknowledged: BTreeSet<HoldKind>,
    /// How often failed and silent devices are tried again.
    pub round: u32,
    /// Who made it.
    pub created_by: String,
    /// Who approved it.
    pub approvals: BTreeSet<String>,
}

/// The phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for approvals and the start.
    Created,
    /// Somebody denied it.
    Denied,
    /// It assigns.
    Running,
    /// A human stopped it; nothing new is assigned.
    Paused,
    /// The planner stopped it and wants a human; nothing new is assigned.
    Held,
    /// It is taken back.
    Aborted,
    /// It had finished, and is taken back.
    Undone,
    /// Everybody has the version.
    Finished,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Denied,
        Self::Running,
        Self::Paused,
        Self::Held,
        Self::Aborted,
        Self::Undone,
        Self::Finished,
    ];

    /// Whether outcomes are still judged.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Held)
    }

    /// Whether it never runs again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Denied | Self::Aborted | Self::Undone | Self::Finished)
    }

    /// The phase as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Denied => "denied",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Aborted => "aborted",
            Self::Undone => "undone",
            Self::Finished => "finished",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a human is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum HoldReason {
    /// A gate asks for it.
    #[error("gate {gate}: {detail}")]
    Gate {
        /// Which.
        gate: String,
        /// What it says.
        detail: String,
    },
    /// Too many devices rejected the version.
    #[error("{rejected} devices rejected the version, {allowed} are allowed")]
    Rejected {
        /// How many did.
        rejected: usize,
        /// How many may.
        allowed: usize,
    },
    /// Too many survivors went silent.
    #[error("{lost} survivors went silent, {allowed} may")]
    Lost {
        /// How many did.
        lost: usize,
        /// How many may.
        allowed: usize,
    },
    /// The selector picks no device that may have the version.
    #[error("no device may have the version: look at the selector and the device classes")]
    NoDevice,
    /// The last maintenance window is over and devices still wait.
    #[error("the last maintenance window is over and {waiting} devices still wait")]
    WindowsOver {
        /// How many.
        waiting: usize,
    },
    /// Nothing moves and the stage is not good.
    #[error("nothing moves: {survived} devices survived, {needed} are needed; undecided: [{}]", undecided.join(", "))]
    Stalled {
        /// How many survived.
        survived: usize,
        /// How many must.
        needed: usize,
        /// The gates that cannot tell.
        undecided: Vec<String>,
    },
    /// The stage is good and its terms ask for a human.
    #[error("the stage is good and waits to be promoted by hand")]
    ByHand,
}

/// What kind of hold a human has seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// [`HoldReason::Gate`] of this name.
    Gate(String),
    /// [`HoldReason::Rejected`].
    Rejected,
    /// [`HoldReason::Lost`].
    Lost,
    /// [`HoldReason::NoDevice`].
    NoDevice,
    /// [`HoldReason::ByHand`].
    ByHand,
}

impl HoldReason {
    /// What resuming acknowledges; none where resuming only grants new patience.
    pub fn kind(&self) -> Option<HoldKind> {
        match self {
            Self::Gate { gate, .. } => Some(HoldKind::Gate(gate.clone())),
            Self::Rejected { .. } => Some(HoldKind::Rejected),
            Self::Lost { .. } => Some(HoldKind::Lost),
            Self::NoDevice => Some(HoldKind::NoDevice),
            Self::ByHand => Some(HoldKind::ByHand),
            Self::WindowsOver { .. } | Self::Stalled { .. } => None,
        }
    }
}

/// Why everything is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum AbortReason {
    /// The failure budget is spent.
    #[error("{bad} devices failed or fell silent, {allowed} may")]
    Budget {
        /// How many did.
        bad: usize,
        /// How many may.
        allowed: usize,
    },
    /// Too large a part of the judged devices failed.
    #[error("{bad} of {judged} judged devices failed or fell silent, at most {percent} may")]
    Early {
        /// How many did.
        bad: usize,
        /// Of how many.
        judged: usize,
        /// Which part may.
        percent: super::Percent,
    },
    /// A gate found harm.
    #[error("gate {gate}: {detail}")]
    Gate {
        /// Which.
        gate: String,
        /// What it says.
        detail: String,
    },
}

/// Who changed a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A human or a robot with a token.
    Person(String),
    /// The planner, for the reason that the entry gives.
    Planner,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was made.
    Created,
    /// Somebody used a verb.
    Verb(Verb),
    /// The stage settled and is watched.
    Baking,
    /// This stage begins.
    Promoted(u32),
    /// It is held.
    Held,
    /// It is aborted.
    Aborted,
    /// It is finished.
    Finished,
}

/// One line of a rollout's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: Actor,
    /// What.
    pub what: Change,
    /// Why.
    pub why: String,
    /// The state's revision that it led to.
    pub revision: u64,
}

/// A new state and the line that explains it: to be stored together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The new state.
    pub state: RolloutState,
    /// The line.
    pub entry: Entry,
}

impl RolloutState {
    /// A rollout that was just made, and the first line of its history.
    pub fn create(who: &str, why: &str, now: Timestamp) -> Transition {
        let state = Self {
            phase: Phase::Created,
            revision: 0,
            stage: 0,
            stage_since: now,
            moved: now,
            baking: None,
            promoted_by_hand: false,
            held: None,
            acknowledged: BTreeSet::new(),
            round: 0,
            created_by: who.to_owned(),
            approvals: BTreeSet::new(),
        };
        let who = Actor::Person(who.to_owned());
        let entry = Entry { at: now, who, what: Change::Created, why: why.to_owned(), revision: 0 };
        Transition { state, entry }
    }

    /// What an action of a plan makes of the state; nothing where it concerns a device alone.
    pub fn after(&self, action: &Action, now: Timestamp) -> Option<Transition> {
        let mut next = self.clone();
        let (what, why) = match action {
            Action::Settle { .. } | Action::TakeBack { .. } | Action::Assign { .. } => return None,
            Action::Bake { .. } => {
                next.baking = Some(now);
                (Change::Baking, "the stage has settled".to_owned())
            }
            Action::Promote { stage, why } => {
                // Who promotes by hand goes on in spite of what they saw; each stage asks for its own hand.
                let by_hand = next.promoted_by_hand;
                next.acknowledged.retain(|kind| by_hand && *kind != HoldKind::ByHand);
                (next.stage, next.stage_since) = (*stage, now);
                (next.baking, next.promoted_by_hand) = (None, false);
                (Change::Promoted(*stage), why.clone())
            }
            Action::Hold { reason } => {
                (next.phase, next.held) = (Phase::Held, Some(reason.clone()));
                (Change::Held, reason.to_string())
            }
            Action::Abort { reason } => {
                (next.phase, next.held) = (Phase::Aborted, None);
                (Change::Aborted, reason.to_string())
            }
            Action::Finish { why } => {
                next.phase = Phase::Finished;
                (Change::Finished, why.clone())
            }
        };
        Some(next.entered(Actor::Planner, what, why, now))
    }

    /// Counts the change and writes its line.
    pub(super) fn entered(mut self, who: Actor, what: Change, why: String, now: Timestamp) -> Transition {
        self.revision = self.revision.saturating_add(1);
        self.moved = now;
        let entry = Entry { at: now, who, what, why, revision: self.revision };
        Transition { state: self, entry }
    }
}
