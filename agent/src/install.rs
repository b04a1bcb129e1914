//! The way of a version onto the device, as a pure machine: events and the time in, effects out.
//!
//! One machine per model. The way: prepare (verify, fetch) → probe → staged → load, warm, swap → probation → committed.
//! Precedence and policy:
//! - Every effect that must not be repeated blindly comes after the `Persist` that records its intention.
//! - A newer demand supersedes what is under way; a swap that is under way ends first.
//! - What was refused is not tried again for the same generation, except for passing reasons, after a growing pause. What
//!   failed its probation is not tried again until another version was demanded in between, or the agent is newer.
//! - On probation a death of the worker, or three failed inferences that are 5 % of all, take the version back. Taking
//!   back needs the disk only. A return to the version before needs no probation, for it has survived one. A first
//!   version, with nothing to go back to, is given up only at the last of its attempts.
//! - Risky steps begun and never ended are counted; at [`MAX_ATTEMPTS`] the version is refused. A clean leave is no such
//!   end, nor is a worker that never started. Refused for this alone, a version is tried again by a newer generation.
//! - A proven version is dropped only on proof that it cannot be loaded. While it cannot be read in passing, it is tried
//!   again after growing pauses, and the version before answers meanwhile.
//! - What its team recalled or put below the floor answers nothing from the moment that this is known: see `recall`.
//! - A candidate is taken only where the device allows candidates, and never in a release's place.
//! - A record is written only where it says something else than before: counts, times and messages are not worth the flash.
//!
//! Never: I/O, a clock, SQL, knowledge of how an effect is carried out.

use std::time::Duration;

use jiff::Timestamp;
use tern_protocol::{
    desired::DesiredModel, frames::Slot, ids::Generation, refusal::RefusalCode, standing::Standing, twin::ModelState,
};

use crate::{
    boot::{self, BootAction},
    state::{ModelRecord, VersionRef},
};

mod probation;
mod recall;
mod refusing;
mod serving;
mod terms;
use probation::Trial;
use serving::Serving;
pub use terms::{Context, Effect, Event, Refusal};

/// How often a version may be cut short before it is refused.
pub const MAX_ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_FETCH_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What is under way for the candidate.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    None,
    Preparing(u64),
    Probing(u64),
    Loading(Slot),
    Swapping(Slot),
    /// A pause before the next try, until this uptime.
    Pausing(Duration),
}

/// The machine of one model.
#[derive(Debug, Clone)]
pub struct Machine {
    record: ModelRecord,
    /// The record as it was last written.
    recorded: ModelRecord,
    /// What the model's team says of its versions. No version of the record is one that may not run.
    standing: Standing,
    step: Step,
    serving: Serving,
    trial: Option<Trial>,
    /// What the swap under way brings; the demand may change meanwhile.
    swapping: Option<VersionRef>,
    pauses: u32,
    halted: bool,
    /// The version before could not be read when it was wanted again: the network is asked for it, in turn with the disk.
    refetch: bool,
}

type Effects = Vec<Effect>;

impl Machine {
    /// The machine that goes on from a record, as the boot table says; nothing where the record is to be forgotten.
    /// What is not to run by `standing` is taken out of the record first, so that it never answers again.
    pub fn boot(record: ModelRecord, standing: Standing, cx: &mut Context<'_>) -> Option<(Self, Effects)> {
        let mut machine = Self::with(record, standing);
        let mut fx = Vec::new();
        if machine.record.state != ModelState::Removed {
            machine.expel(cx, &mut fx);
        }
        match boot::action(machine.record.state) {
            BootAction::Forget => return None,
            BootAction::ProbationAgain => {
                machine.record.attempts += 1;
                if machine.record.attempts > MAX_ATTEMPTS {
                    machine.probations_exhausted(cx, &mut fx);
                } else {
                    machine.persist(&mut fx);
                }
            }
            BootAction::BeginAgain
            | BootAction::LoadAgain
            | BootAction::WaitOn
            | BootAction::Serve
            | BootAction::StaySilent => {}
        }
        machine.reconcile(cx, &mut fx);
        Some((machine, fx))
    }

    /// The machine of a model that has no record.
    pub fn new(standing: Standing, now: Timestamp) -> Self {
        Self::with(ModelRecord::new(now), standing)
    }

    fn with(record: ModelRecord, standing: Standing) -> Self {
        Self {
            recorded: record.clone(),
            record,
            standing,
            step: Step::None,
            serving: Serving::default(),
            trial: None,
            swapping: None,
            pauses: 0,
            halted: false,
            refetch: false,
        }
    }

    /// The agent leaves because it was told to: what it ends thereby was not cut short.
    pub fn leave(&mut self) -> Effects {
        let risky = matches!(self.step, Step::Probing(_) | Step::Loading(_) | Step::Swapping(_));
        let mut fx = Vec::new();
        if risky || self.record.state == ModelState::OnProbation {
            self.record.attempts = self.record.attempts.saturating_sub(1);
            self.persist(&mut fx);
        }
        fx
    }

    /// Whether installs stopped because nothing could be recorded; [`Event::Recordable`] ends it.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Whether the model is gone, and nothing of it is under way or unrecorded any more.
    pub fn is_over(&self) -> bool {
        let is_still = self.step == Step::None && self.serving.is_idle() && !self.halted;
        self.record.state == ModelState::Removed && self.record.desired.is_none() && is_still
    }

    /// The record as the machine sees it.
    pub fn record(&self) -> &ModelRecord {
        &self.record
    }

    /// The version that answers right now, if any.
    pub fn answering(&self) -> Option<&VersionRef> {
        self.serving.answering()
    }

    /// Until when [`Event::Tick`] is not needed; none where no time is waited for.
    pub fn deadline(&self) -> Option<Duration> {
        let pause = if let Step::Pausing(until) = self.step { Some(until) } else { None };
        let trial = self.trial.as_ref().and_then(|t| t.deadline(self.probation()));
        pause.into_iter().chain(trial).chain(self.retry_at()).min()
    }

    /// Takes in what happened; returns what is to be done.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) -> Effects {
        let mut fx = Vec::new();
        match event {
            Event::Demand(demand, generation) => self.demand(demand, generation, cx, &mut fx),
            Event::Prepared(number, outcome) if self.step == Step::Preparing(number) => match outcome {
                _ if self.record.candidate.is_none() => self.mended(outcome.is_ok(), cx, &mut fx),
                Ok(()) => self.probe(cx, &mut fx),
                Err(refusal) => {
                    self.refetch = false;
                    self.refuse(refusal, cx, &mut fx);
                }
            },
            Event::Probed(number, outcome) if self.step == Step::Probing(number) => {
                self.record.attempts = self.record.attempts.saturating_sub(1);
                match outcome {
                    Ok(()) => self.stage(cx, &mut fx),
                    Err(refusal) => self.refuse(refusal, cx, &mut fx),
                }
            }
            Event::Loaded(slot, outcome) => self.loaded(slot, outcome, cx, &mut fx),
            Event::Swapped(slot, outcome) => self.swapped(slot, outcome, cx, &mut fx),
            Event::WorkerUp => self.worker_up(cx, &mut fx),
            Event::WorkerDied(cause) => self.worker_died(&cause, cx, &mut fx),
            Event::WorkerNotStarted => self.serving = Serving::default(),
            Event::Counted { slot, inferences, failures } => self.counted(slot, inferences, failures, cx, &mut fx),
            Event::Tick => self.tick(cx, &mut fx),
            Event::Standing(standing) => self.heed(standing, cx, &mut fx),
            Event::Unrecordable(durable, why) => self.unrecordable(*durable, &why, cx, &mut fx),
            Event::Recordable => {
                self.halted = false;
                self.persist(&mut fx);
                self.reconcile(cx, &mut fx);
            }
            // Answers to what was superseded.
            Event::Prepared(..) | Event::Probed(..) => {}
        }
        fx
    }

    fn demand(&mut self, demand: Option<DesiredModel>, generation: Generation, cx: &mut Context<'_>, fx: &mut Effects) {
        let what = |d: &Option<DesiredModel>| d.as_ref().map(|d| (d.manifest, d.candidate));
        let changed = what(&self.record.desired) != what(&demand);
        self.record.desired = demand;
        self.record.generation = generation;
        if changed {
            self.abandon(fx);
            (self.record.refused, self.refetch) = (None, false);
            (self.record.candidate, self.record.attempts, self.pauses) = (None, 0, 0);
        } else if matches!(self.step, Step::Pausing(_)) {
            // Somebody asks again: no reason to wait.
            (self.step, self.pauses) = (Step::None, 0);
        }
        if self.record.desired.is_none() {
            return self.remove(cx, fx);
        }
        self.persist(fx);
        self.serve(cx, fx);
        self.reconcile(cx, fx);
    }

    /// Gives up what is under way, except a swap, which cannot be given up.
    fn abandon(&mut self, fx: &mut Effects) {
        match self.step {
            Step::Preparing(number) | Step::Probing(number) => fx.push(Effect::Cancel(number)),
            // The slot is drained when it answers: see `loaded`.
            Step::Loading(_) | Step::Pausing(_) | Step::None => {}
            Step::Swapping(_) => return,
        }
        self.step = Step::None;
    }

    fn remove(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        (self.record.active, self.record.previous, self.record.candidate) = (None, None, None);
        (self.record.proven, self.trial) = (false, None);
        self.enter(ModelState::Removed, cx);
        self.persist(fx);
        self.serve(cx, fx);
    }

    /// Begins what the demand asks for, unless it is there, under way, or refused.
    fn reconcile(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let Some(demand) = self.record.desired.clone() else { return };
        if self.step != Step::None || self.halted {
            return;
        }
        let wanted = wanted(&demand);
        // A release is as good as a candidate; a candidate is no release before its team's release keys say so.
        let satisfies = |a: &VersionRef| a.manifest == wanted.manifest && (wanted.candidate || !a.candidate);
        if self.record.active.as_ref().is_some_and(satisfies) {
            return self.settle(cx, fx);
        }
        if self.is_refused(&wanted, cx.agent) {
            return;
        }
        if let Some(refusal) = self.forbidden(&wanted, cx) {
            self.forbid(&refusal, &wanted, cx);
            return self.persist(fx);
        }
        if self.record.candidate.as_ref() != Some(&wanted) {
            self.record.attempts = 0;
            self.record.candidate = Some(wanted.clone());
            // What was recorded of another candidate, above all that it is staged, says nothing of this one.
            self.enter(ModelState::Fetching, cx);
        }
        if self.record.attempts >= MAX_ATTEMPTS {
            let why = format!("installing was interrupted {MAX_ATTEMPTS} times");
            return self.refuse(Refusal::new(RefusalCode::AttemptsExhausted, why), cx, fx);
        }
        let is_kept = self.record.previous.as_ref() == Some(&wanted) && !self.refetch;
        if self.record.state == ModelState::Staged || is_kept {
            // Verified before and on disk: no network, and no expiry, stands between it and the worker.
            return self.stage(cx, fx);
        }
        if self.pauses == 0 {
            // A try after a pause says nothing new: there and back would be two writes each time.
            self.enter(ModelState::Fetching, cx);
        }
        self.persist(fx);
        let number = cx.number();
        self.step = Step::Preparing(number);
        fx.push(Effect::Prepare(number, demand));
    }

    /// The demanded version is the active one: nothing else is on its way.
    fn settle(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let state = match self.record.state {
            _ if self.record.proven => ModelState::Committed,
            ModelState::Idle => ModelState::Idle,
            _ => ModelState::OnProbation,
        };
        if state != self.record.state || self.record.candidate.is_some() {
            self.record.candidate = None;
            self.enter(state, cx);
            self.persist(fx);
        }
    }

    fn probe(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let Some(candidate) = self.record.candidate.clone() else { return };
        self.record.attempts += 1;
        self.enter(ModelState::Probing, cx);
        self.persist(fx);
        let number = cx.number();
        self.step = Step::Probing(number);
        fx.push(Effect::Probe(number, candidate));
    }

    /// The candidate is verified, tried and on disk: records it, and loads it where there is a worker.
    fn stage(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let Some(candidate) = self.record.candidate.clone() else { return };
        self.step = Step::None;
        if !self.serving.is_worker_up() {
            // `worker_up` comes back here.
            if self.record.state != ModelState::Staged {
                self.enter(ModelState::Staged, cx);
                self.persist(fx);
            }
            return;
        }
        self.record.attempts += 1;
        self.enter(ModelState::Staged, cx);
        self.persist(fx);
        let replace = self.record.desired.as_ref().is_some_and(|d| d.swap == tern_protocol::desired::Swap::Replace);
        if replace {
            fx.extend(self.serving.suspend().map(Effect::Drain));
        }
        let slot = Slot(cx.number());
        self.step = Step::Loading(slot);
        fx.push(Effect::Load(slot, candidate));
    }

    fn enter(&mut self, state: ModelState, cx: &Context<'_>) {
        if self.record.state != state {
            (self.record.state, self.record.since) = (state, cx.time);
        }
    }

    /// Records what is new; the same failure once more is not worth a write to the flash.
    fn persist(&mut self, fx: &mut Effects) {
        if !same_but_for_counts(&self.recorded, &self.record) {
            self.recorded = self.record.clone();
            fx.push(Effect::Persist(Box::new(self.record.clone())));
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        if matches!(self.step, Step::Pausing(until) if until <= cx.uptime) {
            self.step = Step::None;
            self.reconcile(cx, fx);
        }
        self.retry(cx, fx);
        self.judge(cx, fx);
    }
}

/// The version that a demand names.
fn wanted(demand: &DesiredModel) -> VersionRef {
    VersionRef { version: demand.version.clone(), manifest: demand.manifest, candidate: demand.candidate }
}

fn same_but_for_counts(a: &ModelRecord, b: &ModelRecord) -> bool {
    let plain = |r: &ModelRecord| {
        let mut record = r.clone();
        if let Some(error) = &mut record.last_error {
            (error.at, error.count, error.message) = (Timestamp::UNIX_EPOCH, 0, String::new());
        }
        record
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod boot_tests;
#[cfg(test)]
mod recall_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
