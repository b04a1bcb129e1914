//! Probation: what an active version must survive, and how it is taken back.

use std::time::Duration;

use tern_protocol::{desired::Probation, frames::Slot, refusal::RefusalCode, twin::ModelState};

use super::{Context, Effects, Machine, Refusal, Step};
use crate::state::Refused;

/// So many failed inferences never are an accident of one request …
const LEAST_FAILURES: u64 = 3;
/// … and one in so many is more than a version may fail.
const FAILURE_SHARE: u64 = 20;

/// A probation under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    began: Duration,
    inferences: u64,
    failures: u64,
    waited: bool,
}

impl Trial {
    pub(super) fn deadline(&self, probation: Probation) -> Option<Duration> {
        (!self.waited).then(|| self.began.saturating_add(Duration::from_secs(probation.min_seconds)))
    }

    fn has_failed(&self) -> bool {
        let total = self.inferences.saturating_add(self.failures);
        self.failures >= LEAST_FAILURES && self.failures.saturating_mul(FAILURE_SHARE) >= total
    }
}

impl Machine {
    pub(super) fn probation(&self) -> Probation {
        self.record.desired.as_ref().map_or_else(Probation::default, |d| d.probation)
    }

    pub(super) fn begin_trial(&mut self, cx: &Context<'_>) {
        let unproven = !self.record.proven && self.record.active.as_ref() == self.serving.answering();
        self.trial = unproven.then_some(Trial { began: cx.uptime, inferences: 0, failures: 0, waited: false });
    }

    pub(super) fn counted(
        &mut self,
        slot: Slot,
        inferences: u64,
        failures: u64,
        cx: &mut Context<'_>,
        fx: &mut Effects,
    ) {
        if self.serving.slot() != Some(slot) {
            return;
        }
        if let Some(trial) = &mut self.trial {
            trial.inferences = trial.inferences.saturating_add(inferences);
            trial.failures = trial.failures.saturating_add(failures);
            self.judge(cx, fx);
        }
    }

    /// Whether the probation has ended, and how.
    pub(super) fn judge(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let probation = self.probation();
        let Some(trial) = &mut self.trial else { return };
        if trial.has_failed() {
            let total = trial.inferences.saturating_add(trial.failures);
            let why = format!("{} of {total} inferences failed on probation", trial.failures);
            return self.take_back(Refusal::new(RefusalCode::ProbationFailed, why), cx, fx);
        }
        if cx.uptime.saturating_sub(trial.began) < Duration::from_secs(probation.min_seconds) {
            return;
        }
        trial.waited = true;
        if trial.inferences >= probation.min_inferences {
            self.trial = None;
            (self.record.proven, self.record.attempts) = (true, 0);
            if matches!(self.record.state, ModelState::OnProbation | ModelState::Idle) {
                self.enter(ModelState::Committed, cx);
            }
            self.persist(fx);
        } else if self.record.state == ModelState::OnProbation {
            self.enter(ModelState::Idle, cx);
            self.persist(fx);
        }
    }

    /// The device went down on each probation of the active version. Where there is nothing to go back to, the version
    /// answers all the same: a device that answers nothing is no safer, and the cuts may have been none of its doing.
    pub(super) fn probations_exhausted(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let why = "the device went down on each of its probations";
        let refusal = Refusal::new(RefusalCode::AttemptsExhausted, why);
        if self.record.previous.is_some() {
            return self.take_back(refusal, cx, fx);
        }
        self.note(&refusal, self.record.active.clone().map(|a| a.version), cx);
        self.record.attempts = 1;
        self.enter(ModelState::Idle, cx);
        self.persist(fx);
    }

    /// The attempts of a version that gave up its place are not those of the candidate on its way.
    pub(super) fn forget_its_attempts(&mut self) {
        self.record.attempts = u32::from(matches!(self.step, Step::Probing(_) | Step::Loading(_) | Step::Swapping(_)));
    }

    /// Returns to the version before, which is on disk. The version that failed is remembered.
    pub(super) fn take_back(&mut self, refusal: Refusal, cx: &mut Context<'_>, fx: &mut Effects) {
        let Some(failed) = self.record.active.take() else { return };
        self.trial = None;
        self.serving.waiting = None;
        self.note(&refusal, Some(failed.version.clone()), cx);
        self.record.active = self.record.previous.take();
        self.record.proven = self.record.active.is_some();
        let demanded = self.record.desired.as_ref().is_some_and(|d| d.manifest == failed.manifest);
        if demanded {
            let (manifest, generation, code) = (failed.manifest, self.record.generation, refusal.code);
            self.record.refused = Some(Refused { manifest, generation, code, agent: cx.agent.clone() });
            (self.record.candidate, self.record.attempts) = (None, 0);
            self.enter(ModelState::RolledBack, cx);
        } else {
            self.forget_its_attempts();
        }
        self.persist(fx);
        self.serve(cx, fx);
        if self.step == Step::None && !demanded {
            self.reconcile(cx, fx);
        }
    }
}
