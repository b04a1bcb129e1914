//! The machine's side of the worker: which version is to answer, and how it gets there.
//!
//! Whatever else is under way, the record's active version is what the worker is brought to; the candidate passes through
//! the same two steps, load and swap, but counts as active only once it has swapped.

use tern_protocol::{frames::Slot, refusal::RefusalCode, twin::ModelState};

use super::{Context, Effect, Effects, MAX_ATTEMPTS, Machine, Refusal, Step};
use crate::state::VersionRef;

/// What the worker does for this model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Serving {
    worker: bool,
    /// The slot that answers.
    up: Option<(Slot, VersionRef)>,
    /// The active version's slot on its way up: loading, and then swapping.
    coming: Option<(Slot, VersionRef, bool)>,
}

impl Serving {
    pub(super) fn is_worker_up(&self) -> bool {
        self.worker
    }

    pub(super) fn answering(&self) -> Option<&VersionRef> {
        self.up.as_ref().map(|(_, version)| version)
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        self.up.as_ref().map(|(slot, _)| *slot)
    }

    /// Gives up the slot that answers, to make room.
    pub(super) fn suspend(&mut self) -> Option<Slot> {
        self.up.take().map(|(slot, _)| slot)
    }
}

impl Machine {
    /// Brings the worker to the active version, unless it is there or on its way.
    pub(super) fn serve(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        if !self.serving.worker || matches!(self.step, Step::Swapping(_)) || self.is_replacing() {
            return;
        }
        let Some(active) = self.record.active.clone() else {
            self.serving.coming = None;
            fx.extend(self.serving.suspend().map(Effect::Drain));
            return;
        };
        let there = self.serving.answering() == Some(&active);
        let coming = self.serving.coming.as_ref().is_some_and(|(_, version, _)| *version == active);
        if there || coming {
            return;
        }
        let slot = Slot(cx.number());
        self.serving.coming = Some((slot, active.clone(), false));
        fx.push(Effect::Load(slot, active));
    }

    /// Whether the old version was dropped on purpose and the candidate is about to take its place.
    fn is_replacing(&self) -> bool {
        let replace = self.record.desired.as_ref().is_some_and(|d| d.swap == tern_protocol::desired::Swap::Replace);
        replace && matches!(self.step, Step::Loading(_))
    }

    pub(super) fn loaded(&mut self, slot: Slot, outcome: Result<(), Refusal>, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.step == Step::Loading(slot) {
            match outcome {
                Ok(()) => {
                    self.step = Step::Swapping(slot);
                    self.swapping = self.record.candidate.clone();
                    fx.push(Effect::Swap(slot));
                }
                Err(refusal) => {
                    if refusal.code.is_retryable() && self.record.previous == self.record.candidate {
                        // What was to be on disk is not whole any more: it comes over the network again.
                        self.record.previous = None;
                    }
                    self.refuse(refusal, cx, fx);
                }
            }
        } else if self.serving.coming.as_ref().is_some_and(|(s, _, swapping)| *s == slot && !swapping) {
            match outcome {
                Ok(()) => {
                    if let Some((_, _, swapping)) = &mut self.serving.coming {
                        *swapping = true;
                    }
                    fx.push(Effect::Swap(slot));
                }
                Err(refusal) => self.active_failed(refusal, cx, fx),
            }
        } else if outcome.is_ok() {
            // It was superseded while it loaded.
            fx.push(Effect::Drain(slot));
        }
    }

    pub(super) fn swapped(&mut self, slot: Slot, outcome: Result<(), Refusal>, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.step == Step::Swapping(slot) {
            self.step = Step::None;
            match outcome {
                Ok(()) => self.take_over(slot, cx, fx),
                Err(refusal) => {
                    fx.push(Effect::Drain(slot));
                    self.refuse(refusal, cx, fx);
                }
            }
        } else if self.serving.coming.as_ref().is_some_and(|(s, ..)| *s == slot) {
            let (_, version, _) = self.serving.coming.take().expect("invariant: checked above");
            match outcome {
                Ok(()) => {
                    fx.extend(self.serving.suspend().map(Effect::Drain));
                    self.serving.up = Some((slot, version));
                    self.begin_trial(cx);
                    self.judge(cx, fx);
                    self.serve(cx, fx);
                }
                Err(refusal) => self.active_failed(refusal, cx, fx),
            }
        } else if outcome.is_ok() && self.serving.slot() != Some(slot) {
            fx.push(Effect::Drain(slot));
        }
    }

    /// The candidate answers: it becomes the active version.
    fn take_over(&mut self, slot: Slot, cx: &mut Context<'_>, fx: &mut Effects) {
        let old = self.serving.suspend();
        self.serving.coming = None;
        let Some(candidate) = self.record.candidate.take_if(|c| self.swapping.as_ref() == Some(c)) else {
            // Another version was demanded while it swapped: it goes again, and the active one comes back.
            fx.extend(old.map(Effect::Drain));
            self.serving.up = self.swapping.take().map(|version| (slot, version));
            self.serve(cx, fx);
            return self.reconcile(cx, fx);
        };
        let before = self.record.active.replace(candidate.clone());
        let returned = self.record.previous.as_ref() == Some(&candidate);
        if self.record.proven {
            self.record.previous = before;
        } else if returned {
            self.record.previous = None;
        }
        self.record.proven = returned;
        self.record.attempts = 1;
        self.pauses = 0;
        self.record.refused = None;
        self.serving.up = Some((slot, candidate));
        self.enter(if returned { ModelState::Committed } else { ModelState::OnProbation }, cx);
        self.persist(fx);
        fx.extend(old.map(Effect::Drain));
        self.begin_trial(cx);
        self.judge(cx, fx);
        self.reconcile(cx, fx);
    }

    /// The active version cannot be brought up: the one before takes its place, and the demand is begun anew.
    fn active_failed(&mut self, refusal: Refusal, cx: &mut Context<'_>, fx: &mut Effects) {
        self.serving.coming = None;
        if !self.record.proven {
            return self.take_back(refusal, cx, fx);
        }
        let failed = self.record.active.take();
        self.note(&refusal, failed.map(|v| v.version), cx);
        self.record.active = self.record.previous.take();
        self.record.proven = self.record.active.is_some();
        if self.step == Step::None {
            self.enter(ModelState::Rejected, cx);
        }
        self.persist(fx);
        self.serve(cx, fx);
        self.reconcile(cx, fx);
    }

    /// What a worker that is being started shall serve from the first request on; [`super::Event::WorkerUp`] and then
    /// [`super::Event::Swapped`] of this slot follow, or [`super::Event::WorkerDied`].
    pub fn restore(&mut self, cx: &mut Context<'_>) -> Option<(Slot, VersionRef)> {
        let active = self.record.active.clone()?;
        let slot = Slot(cx.number());
        self.serving = Serving { worker: false, up: None, coming: Some((slot, active.clone(), true)) };
        Some((slot, active))
    }

    pub(super) fn worker_up(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        self.serving.worker = true;
        self.serve(cx, fx);
        self.reconcile(cx, fx);
    }

    pub(super) fn worker_died(&mut self, cause: &str, cx: &mut Context<'_>, fx: &mut Effects) {
        let held = self.serving.up.is_some() || self.serving.coming.is_some();
        self.serving = Serving::default();
        self.trial = None;
        if matches!(self.step, Step::Loading(_) | Step::Swapping(_)) {
            // The attempt was counted when it began; `worker_up` makes the next.
            self.step = Step::None;
            let refusal = Refusal::new(RefusalCode::SwapFailed, format!("the worker died loading it: {cause}"));
            self.note(&refusal, self.record.candidate.clone().map(|c| c.version), cx);
        }
        if held && self.record.active.is_some() && !self.record.proven {
            let why = format!("the worker died with it on probation: {cause}");
            let refusal = Refusal::new(RefusalCode::ProbationFailed, why);
            self.record.attempts += 1;
            if self.record.previous.is_some() || self.record.attempts > MAX_ATTEMPTS {
                return self.take_back(refusal, cx, fx);
            }
            // There is nothing to go back to: one death, which may have been none of its doing, must not silence the
            // device. `worker_up` starts the probation anew.
            self.note(&refusal, self.record.active.clone().map(|a| a.version), cx);
            self.persist(fx);
        }
    }
}
