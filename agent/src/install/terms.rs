//! What the install machine is told, what it answers, and what it may know: events, effects, context.

use std::time::Duration;

use jiff::Timestamp;
use tern_protocol::{
    desired::DesiredModel,
    frames::Slot,
    ids::{Generation, Version},
    refusal::RefusalCode,
    standing::Standing,
};

use crate::state::{ModelRecord, VersionRef};

/// Why a version is not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code for twins, events and counters.
    pub code: RefusalCode,
    /// The same for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code and message, which is cut to 500 characters.
    pub fn new(code: RefusalCode, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string().chars().take(500).collect() }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A newer desired state; none where it does not name the model any more.
    Demand(Option<DesiredModel>, Generation),
    /// A `Prepare` ended.
    Prepared(u64, Result<(), Refusal>),
    /// A `Probe` ended.
    Probed(u64, Result<(), Refusal>),
    /// A `Load` ended. If the worker died meanwhile, only [`Event::WorkerDied`] comes.
    Loaded(Slot, Result<(), Refusal>),
    /// A `Swap` ended. If the worker died meanwhile, only [`Event::WorkerDied`] comes.
    Swapped(Slot, Result<(), Refusal>),
    /// The worker is there, with what [`super::Machine::restore`] asked for on its way and nothing else.
    WorkerUp,
    /// A worker that was to be started never came up: no version had a part in it.
    WorkerNotStarted,
    /// The worker is gone, and everything loaded with it.
    WorkerDied(String),
    /// What a slot answered.
    Counted {
        /// Which.
        slot: Slot,
        /// Inferences answered.
        inferences: u64,
        /// Inferences that the engine failed, or whose outputs were not finite.
        failures: u64,
    },
    /// Time has passed.
    Tick,
    /// What the model's team says of its versions, durable by now.
    Standing(Standing),
    /// A `Persist` failed; of the effects after it only those that [`Effect::frees`] were carried out. The durable record
    /// comes along.
    Unrecordable(Box<ModelRecord>, String),
    /// Records can be made durable again.
    Recordable,
}

/// What is to be done, in order. After a failed `Persist` only what [`Effect::frees`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make the record durable before anything that follows.
    Persist(Box<ModelRecord>),
    /// Verify and fetch; answered by [`Event::Prepared`].
    Prepare(u64, DesiredModel),
    /// Try in a throw-away process; answered by [`Event::Probed`].
    Probe(u64, VersionRef),
    /// Give up a `Prepare` or `Probe`; an answer may still come and is ignored.
    Cancel(u64),
    /// Load into the worker; answered by [`Event::Loaded`].
    Load(Slot, VersionRef),
    /// Let a loaded slot answer; answered by [`Event::Swapped`].
    Swap(Slot),
    /// Drop a slot.
    Drain(Slot),
}

impl Effect {
    /// Whether this only gives something up: the machine has forgotten it already, and nobody else would ever free it.
    pub fn frees(&self) -> bool {
        matches!(self, Self::Drain(_) | Self::Cancel(_))
    }
}

/// What a step may know of the world.
#[derive(Debug)]
pub struct Context<'a> {
    /// Time since the agent started.
    pub uptime: Duration,
    /// The device's time.
    pub time: Timestamp,
    /// This agent's version.
    pub agent: &'a Version,
    /// Whether the device's own configuration takes candidates.
    pub candidates: bool,
    /// The last number given to a slot or an operation; shared by all machines, so that none comes twice.
    pub numbers: &'a mut u64,
}

impl Context<'_> {
    pub(super) fn number(&mut self) -> u64 {
        *self.numbers += 1;
        *self.numbers
    }
}
