//! What people may do to a rollout, and when: one pure function over the closed list of verbs.
//!
//! | verb | from | to |
//! |---|---|---|
//! | approve | created, by others than its maker | created |
//! | deny | created | denied |
//! | start | created, with all approvals | running |
//! | pause | running | paused |
//! | resume | paused, held | running; what it was held for is acknowledged for the stage |
//! | promote | running, held | running; the stage is left whatever it lacks but the failure budget |
//! | retry | running, paused, held | the same, held runs; failed and silent devices are tried again |
//! | abort | created, running, paused, held | aborted |
//! | undo | finished | undone |
//!
//! Promoted in its last stage, a rollout waits no more for devices that are away, and ends once all else is good.
//! Everything else is an error. Who may use which verb at all is not decided here.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Policy,
    state::{Actor, Change, Phase, RolloutState, Transition},
};

/// Longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 1000;

/// What people may do to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Agree to the start.
    Approve,
    /// Refuse the start for good.
    Deny,
    /// Begin to assign.
    Start,
    /// Assign nothing new for now.
    Pause,
    /// Go on after a pause or a hold.
    Resume,
    /// Begin the next stage now; of the last, wait no more for devices that are away.
    Promote,
    /// Try failed and silent devices again.
    Retry,
    /// Stop for good and take everything back.
    Abort,
    /// Take a finished rollout back.
    Undo,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 9] = [
        Self::Approve,
        Self::Deny,
        Self::Start,
        Self::Pause,
        Self::Resume,
        Self::Promote,
        Self::Retry,
        Self::Abort,
        Self::Undo,
    ];

    /// The verb as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Retry => "retry",
            Self::Abort => "abort",
            Self::Undo => "undo",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub verb: Verb,
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// The phase that they saw, if that matters to them.
    pub if_phase: Option<Phase>,
}

/// Why an order was not carried out. Nothing was then changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// No reason was given.
    #[error("{0} needs a reason: say why")]
    NoReason(Verb),
    /// The reason is too long.
    #[error("the reason has {0} bytes: use at most {MAX_REASON_BYTES}")]
    ReasonTooLong(usize),
    /// The rollout has moved since they looked.
    #[error("the rollout is {found} and no more {expected}: look again")]
    Moved {
        /// What they saw.
        expected: Phase,
        /// What it is.
        found: Phase,
    },
    /// The verb has no meaning in this phase.
    #[error("a {phase} rollout cannot take {verb}: {hint}")]
    NotNow {
        /// The verb.
        verb: Verb,
        /// The phase.
        phase: Phase,
        /// What to do instead.
        hint: &'static str,
    },
    /// Nobody approves their own rollout.
    #[error("{0} made this rollout: somebody else must approve it")]
    OwnRollout(String),
    /// They have approved before.
    #[error("{0} has approved it before: one approval counts for each person")]
    ApprovedBefore(String),
    /// Approvals are missing.
    #[error("{have} of {need} approvals are there: let others approve it first")]
    NeedsApproval {
        /// How many there are.
        have: usize,
        /// How many there must be.
        need: u32,
    },
}

impl RolloutState {
    /// What `order` makes of the state.
    ///
    /// # Errors
    /// [`VerbError`]; the state is then as it was.
    pub fn order(&self, policy: &Policy, order: &Order, now: Timestamp) -> Result<Transition, VerbError> {
        let Order { verb, who, why, if_phase } = order;
        let why = why.trim();
        if why.is_empty() {
            return Err(VerbError::NoReason(*verb));
        }
        if why.len() > MAX_REASON_BYTES {
            return Err(VerbError::ReasonTooLong(why.len()));
        }
        if let Some(expected) = if_phase.filter(|p| *p != self.phase) {
            return Err(VerbError::Moved { expected, found: self.phase });
        }
        let mut next = self.take(policy, *verb, who)?;
        if *verb == Verb::Start {
            next.stage_since = now;
        }
        Ok(next.entered(Actor::Person(who.clone()), Change::Verb(*verb), why.to_owned(), now))
    }

    fn take(&self, policy: &Policy, verb: Verb, who: &str) -> Result<Self, VerbError> {
        let mut next = self.clone();
        match (verb, self.phase) {
            (Verb::Approve, Phase::Created) => {
                if who == self.created_by {
                    return Err(VerbError::OwnRollout(who.to_owned()));
                }
                if !next.approvals.insert(who.to_owned()) {
                    return Err(VerbError::ApprovedBefore(who.to_owned()));
                }
            }
            (Verb::Deny, Phase::Created) => next.phase = Phase::Denied,
            (Verb::Start, Phase::Created) => {
                let have = self.approvals.len();
                if have < policy.approvals as usize {
                    return Err(VerbError::NeedsApproval { have, need: policy.approvals });
                }
                next.phase = Phase::Running;
            }
            (Verb::Pause, Phase::Running) => next.phase = Phase::Paused,
            (Verb::Resume, Phase::Paused | Phase::Held) => next.go_on(),
            (Verb::Promote, Phase::Running | Phase::Held) => {
                next.go_on();
                next.promoted_by_hand = true;
            }
            (Verb::Retry, Phase::Running | Phase::Paused | Phase::Held) => {
                if self.phase == Phase::Held {
                    next.go_on();
                }
                next.round = next.round.saturating_add(1);
                next.baking = None;
            }
            (Verb::Abort, Phase::Created | Phase::Running | Phase::Paused | Phase::Held) => {
                (next.phase, next.held) = (Phase::Aborted, None);
            }
            (Verb::Undo, Phase::Finished) => next.phase = Phase::Undone,
            (verb, phase) => return Err(VerbError::NotNow { verb, phase, hint: hint(verb, phase) }),
        }
        Ok(next)
    }

    fn go_on(&mut self) {
        self.acknowledged.extend(self.held.take().and_then(|reason| reason.kind()));
        self.phase = Phase::Running;
    }
}

fn hint(verb: Verb, phase: Phase) -> &'static str {
    match (verb, phase) {
        (_, Phase::Denied | Phase::Aborted | Phase::Undone) => "it is over, create another",
        (Verb::Undo, _) => "abort it",
        (_, Phase::Finished) => "undo it, or create another",
        (_, Phase::Created) => "start it first",
        (Verb::Pause, Phase::Held) => "it assigns nothing already",
        (Verb::Promote, Phase::Paused) => "resume it first",
        (Verb::Pause, Phase::Paused) | (Verb::Resume, Phase::Running) => "there is nothing to do",
        _ => "it has been started",
    }
}

#[cfg(test)]
mod tests;
