//! Rollouts, decided: who gets a version next, who gives it back, and on which grounds.
//!
//! [`plan`] takes the policy, what is known of the fleet, and the time, and says what is to be done; a reconciler carries
//! it out, may be killed at any line, and plans anew. [`RolloutState::order`] takes what people want. Policy, in order:
//!
//! - **Silence counts.** A device that was reached and then gives no sign until the deadline has failed. One that was not
//!   there blocks the finish and nothing else; it is assigned once it is seen, never blindly.
//! - Abort is judged first and always: also while the rollout is paused or held. It is final, and takes back every
//!   device on which this rollout's demand stands, and no other.
//! - Doubt is a hold, never a promotion: too few survivors, too many rejections, a gate that asks for a human.
//! - What failed or was rejected on a device is recorded once and its demand withdrawn, so that no renewed signature
//!   makes the device try again. Failed and silent devices are tried again when a human says so; rejected ones never.
//! - The server's own absence is no device's silence: deadlines begin anew when it begins to hear.
//!
//! Never: I/O, SQL, a clock, chance; but for [`reconciler`], the one task that carries plans out.

mod census;
mod identity;
pub mod order;
pub mod outcome;
mod plan;
mod policy;
pub mod pulse;
pub mod reconciler;
mod share;
mod snapshot;
mod standings;
mod state;
mod verbs;
mod verdict;

pub use census::Tally;
pub use identity::RolloutId;
pub use outcome::Outcome;
pub use plan::{Action, Evidence, MAX_DEVICE_ACTIONS, MAX_TROUBLES, Plan, Trouble, Verdict, VerdictKind, plan};
pub use policy::{
    Advance, Afterwards, ControlGroup, EarlyStop, FailureBudget, HoldTerms, MAX_SECONDS, MAX_STAGES, MAX_WINDOWS,
    Policy, PolicyError, Stage, TakeBackTo, Window,
};
pub use share::{InvalidShare, Percent, Share};
pub use snapshot::{
    Assignment, DeviceView, Eligibility, FleetSnapshot, Gate, RefusalView, Says, Settled, TakeBackCause, TwinView,
};
pub use standings::{Stand, stage_members, standings};
pub use state::{AbortReason, Actor, Change, Entry, HoldKind, HoldReason, Phase, RolloutState, Transition};
pub use verbs::{MAX_REASON_BYTES, Order, Verb, VerbError};

#[cfg(test)]
mod against_store;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
