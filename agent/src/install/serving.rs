//! The machine's side of the worker: which version is to answer, and how it gets there.
//!
//! Whatever else is under way, the record's active version is what the worker is brought to; the candidate passes through
//! the same two steps, load and swap, but counts as active only once it has swapped. While the active version cannot be
//! loaded in passing, the version before stands in for it, if there is one.

use std::time::Duration;

use tern_protocol::{frames::Slot, refusal::RefusalCode, twin::ModelState};

use super::{Context, Effect, Effects, FIRST_PAUSE, LONGEST_FETCH_PAUSE, MAX_ATTEMPTS, Machine, Refusal, Step};
use crate::state::VersionRef;

/// What the worker does for this model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Serving {
    worker: bool,
    /// The slot that answers.
    up: Option<(Slot, VersionRef)>,
    /// The active version's slot on its way up: loading, and then swapping.
    pub(super) coming: Option<(Slot, VersionRef, bool)>,
    /// The active version could not be loaded, in passing.
    pub(super) waiting: Option<Wait>,
}

/// A pause before the active version is loaded again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wait {
    until: Duration,
    tries: u32,
}

impl Serving {
    pub(super) fn is_worker_up(&self) -> bool {
        self.worker
    }

    /// Whether the worker does nothing for this model.
    pub(super) fn is_idle(&self) -> bool {
        self.up.is_none() && self.coming.is_none()
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
            (self.serving.coming, self.serving.waiting) = (None, None);
            fx.extend(self.serving.suspend().map(Effect::Drain));
            return;
        };
        let there = self.serving.answering() == Some(&active);
        let coming = self.serving.coming.as_ref().is_some_and(|(_, version, _)| *version == active);
        if there || coming {
            return;
        }
        let is_waiting = self.serving.waiting.is_some_and(|wait| wait.until > cx.uptime);
        let wanted = if is_waiting { self.record.previous.clone() } else { Some(active) };
        let Some(wanted) = wanted else { return };
        let known = self.serving.coming.as_ref().is_some_and(|(_, version, _)| *version == wanted);
        if known || self.serving.answering() == Some(&wanted) {
            return;
        }
        let slot = Slot(cx.number());
        self.serving.coming = Some((slot, wanted.clone(), false));
        fx.push(Effect::Load(slot, wanted));
    }

    /// When the active version is loaded again, if that is waited for.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        let coming = self.serving.coming.as_ref().map(|(_, version, _)| version);
        let is_coming = coming.is_some() && coming == self.record.active.as_ref();
        self.serving.waiting.filter(|_| !is_coming).map(|wait| wait.until)
    }

    /// Loads the active version again, and asks the network for what of it may be missing.
    pub(super) fn retry(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.retry_at().is_none_or(|at| at > cx.uptime) {
            return;
        }
        self.serve(cx, fx);
        let demand = self.record.desired.clone();
        let demanded = demand.filter(|d| self.record.active.as_ref().is_some_and(|a| a.manifest == d.manifest));
        if let Some(demand) = demanded.filter(|_| self.step == Step::None && !self.halted) {
            let number = cx.number();
            self.step = Step::Preparing(number);
            fx.push(Effect::Prepare(number, demand));
        }
    }

    /// The files of the active version were fetched again where they were missing, or not.
    pub(super) fn mended(&mut self, whole: bool, cx: &mut Context<'_>, fx: &mut Effects) {
        self.step = Step::None;
        if let Some(wait) = self.serving.waiting.as_mut().filter(|_| whole) {
            wait.until = cx.uptime;
        }
        self.serve(cx, fx);
        self.reconcile(cx, fx);
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
                    if self.record.previous == self.record.candidate {
                        // What was to be on disk may not be whole any more: it comes over the network again.
                        self.refetch = refusal.code.is_retryable();
                        self.record.previous.take_if(|_| is_proof(refusal.code));
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
                Err(refusal) => {
                    let coming = self.serving.coming.take();
                    let (_, version, _) = coming.expect("invariant: checked above");
                    self.serving_failed(version, refusal, cx, fx);
                }
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
                    if self.swapping.take() == self.record.candidate {
                        return self.refuse(refusal, cx, fx);
                    }
                    // It was superseded or recalled meanwhile.
                    self.serve(cx, fx);
                    self.reconcile(cx, fx);
                }
            }
        } else if self.serving.coming.as_ref().is_some_and(|(s, ..)| *s == slot) {
            let (_, version, _) = self.serving.coming.take().expect("invariant: checked above");
            match outcome {
                Ok(()) => {
                    fx.extend(self.serving.suspend().map(Effect::Drain));
                    if self.record.active.as_ref() == Some(&version) {
                        self.serving.waiting = None;
                    }
                    self.serving.up = Some((slot, version));
                    self.begin_trial(cx);
                    self.judge(cx, fx);
                    self.serve(cx, fx);
                }
                Err(refusal) => {
                    // It may be loaded all the same, and nobody would ever drop it.
                    fx.push(Effect::Drain(slot));
                    self.serving_failed(version, refusal, cx, fx);
                }
            }
        } else if outcome.is_ok() && self.serving.slot() != Some(slot) {
            fx.push(Effect::Drain(slot));
        }
    }

    /// The candidate answers: it becomes the active version.
    fn take_over(&mut self, slot: Slot, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.swapping.as_ref().is_some_and(|version| self.standing.allows(&version.version).is_err()) {
            // It was recalled while it swapped: without it, what answered before answers again.
            self.swapping = None;
            fx.push(Effect::Drain(slot));
            self.serve(cx, fx);
            return self.reconcile(cx, fx);
        }
        let old = self.serving.suspend();
        (self.serving.coming, self.serving.waiting, self.refetch) = (None, None, false);
        let Some(candidate) = self.record.candidate.take_if(|c| self.swapping.as_ref() == Some(c)) else {
            // Another version was demanded while it swapped: it goes again, and the active one comes back.
            fx.extend(old.map(Effect::Drain));
            self.serving.up = self.swapping.take().map(|version| (slot, version));
            self.serve(cx, fx);
            return self.reconcile(cx, fx);
        };
        let before = self.record.active.replace(candidate.clone());
        let returned = self.record.previous.as_ref() == Some(&candidate);
        let promoted = before.as_ref().is_some_and(|b| b.manifest == candidate.manifest);
        if promoted {
            // The same bytes under the release keys: what they have survived, and what lies before them, stays.
            return self.promote(slot, candidate, old, cx, fx);
        }
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

    fn promote(&mut self, slot: Slot, version: VersionRef, old: Option<Slot>, cx: &mut Context<'_>, fx: &mut Effects) {
        (self.pauses, self.record.refused) = (0, None);
        self.record.attempts = u32::from(!self.record.proven);
        self.serving.up = Some((slot, version));
        self.enter(if self.record.proven { ModelState::Committed } else { ModelState::OnProbation }, cx);
        self.persist(fx);
        fx.extend(old.map(Effect::Drain));
        self.begin_trial(cx);
        self.judge(cx, fx);
        self.reconcile(cx, fx);
    }

    /// Makes everything in the worker go that may not answer any more, also what is on its way there.
    pub(super) fn silence(&mut self, fx: &mut Effects) {
        let standing = &self.standing;
        let forbidden = |version: &VersionRef| standing.allows(&version.version).is_err();
        // What is coming is drained when it answers: see `loaded` and `swapped`.
        self.serving.coming.take_if(|(_, version, _)| forbidden(version));
        let up = self.serving.up.take_if(|(_, version)| forbidden(version));
        fx.extend(up.map(|(slot, _)| Effect::Drain(slot)));
    }

    /// A version that was to answer cannot be brought up. On proof the one before takes the active one's place, and the
    /// demand is begun anew; else it is loaded again after a pause.
    fn serving_failed(&mut self, version: VersionRef, refusal: Refusal, cx: &mut Context<'_>, fx: &mut Effects) {
        if self.record.active.as_ref() != Some(&version) {
            // A stand-in, or superseded; the next try of the active version finds out what is to be.
            return if self.serving.waiting.is_some() { self.retry(cx, fx) } else { self.serve(cx, fx) };
        }
        let proof = is_proof(refusal.code);
        if !self.record.proven && (proof || self.record.previous.is_some()) {
            return self.take_back(refusal, cx, fx);
        }
        if !proof {
            return self.wait(version, &refusal, cx, fx);
        }
        self.serving.waiting = None;
        self.record.active = None;
        self.note(&refusal, Some(version.version), cx);
        self.record.active = self.record.previous.take();
        self.record.proven = self.record.active.is_some();
        if self.step == Step::None {
            self.enter(ModelState::Rejected, cx);
        }
        self.persist(fx);
        self.serve(cx, fx);
        self.reconcile(cx, fx);
    }

    fn wait(&mut self, version: VersionRef, refusal: &Refusal, cx: &mut Context<'_>, fx: &mut Effects) {
        let tries = self.serving.waiting.map_or(0, |wait| wait.tries);
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(12)).min(LONGEST_FETCH_PAUSE);
        self.serving.waiting = Some(Wait { until: cx.uptime + pause, tries: tries.saturating_add(1) });
        self.note(refusal, Some(version.version), cx);
        self.persist(fx);
        self.serve(cx, fx);
    }

    /// What a worker that is being started shall serve from the first request on; [`super::Event::WorkerUp`] and then
    /// [`super::Event::Swapped`] of this slot follow, or [`super::Event::WorkerDied`].
    pub fn restore(&mut self, cx: &mut Context<'_>) -> Option<(Slot, VersionRef)> {
        let active = self.record.active.clone()?;
        let slot = Slot(cx.number());
        self.serving = Serving { coming: Some((slot, active.clone(), true)), ..Serving::default() };
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
            // It is charged with this death, and what is on probation beside it is not.
            return self.note(&refusal, self.record.candidate.clone().map(|c| c.version), cx);
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

/// Whether this says that the version itself is not loadable as it lies there, and will not be the next time either.
pub(super) fn is_proof(code: RefusalCode) -> bool {
    use RefusalCode::{BlobDigest, BlobLength, ContractMismatch, LoadFailed, Manifest, ManifestDigest};
    matches!(code, BlobDigest | BlobLength | ManifestDigest | Manifest | LoadFailed | ContractMismatch)
}
