//! Refusals: what is remembered of them, and how long a passing one waits for the next try.

use tern_protocol::{
    ids::Version,
    refusal::RefusalCode,
    twin::{LastError, ModelState},
};

use super::{
    Context, Effects, FIRST_PAUSE, LONGEST_FETCH_PAUSE, LONGEST_PAUSE, Machine, Refusal, Step, recall::is_forbidding,
};
use crate::state::{ModelRecord, Refused, VersionRef};

impl Machine {
    pub(super) fn is_refused(&self, wanted: &VersionRef, agent: &Version) -> bool {
        self.record.refused.as_ref().is_some_and(|r| {
            // What is judged anew each time: see `forbidden`.
            if is_forbidding(r.code) {
                return false;
            }
            let for_good = r.code == RefusalCode::ProbationFailed;
            r.manifest == wanted.manifest && r.agent == *agent && (for_good || r.generation == self.record.generation)
        })
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, cx: &mut Context<'_>, fx: &mut Effects) {
        let code = refusal.code;
        self.note(&refusal, self.record.candidate.clone().map(|c| c.version), cx);
        if code.is_retryable() {
            let longest = if code == RefusalCode::Fetch { LONGEST_FETCH_PAUSE } else { LONGEST_PAUSE };
            let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(12)).min(longest);
            self.pauses += 1;
            // A fleet that lost its server must not come back in step: up to half as much again, by chance of numbering.
            let jitter =
                pause.mul_f64((cx.number().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 25) as f64);
            self.step = Step::Pausing(cx.uptime + pause + jitter);
            let state = if code == RefusalCode::Fetch { ModelState::Fetching } else { ModelState::Rejected };
            self.enter(state, cx);
        } else {
            self.step = Step::None;
            if let Some(candidate) = self.record.candidate.take() {
                let (manifest, generation) = (candidate.manifest, self.record.generation);
                self.record.refused = Some(Refused { manifest, generation, code, agent: cx.agent.clone() });
            }
            self.record.attempts = 0;
            self.enter(ModelState::Rejected, cx);
        }
        self.persist(fx);
        self.serve(cx, fx);
    }

    /// Remembers a refusal for people.
    pub(super) fn note(&mut self, refusal: &Refusal, version: Option<Version>, cx: &Context<'_>) {
        let generation = self.record.generation;
        let known = self.record.last_error.as_ref();
        let again = known.filter(|e| e.code == refusal.code && e.version == version && e.generation == generation);
        let count = again.map_or(0, |e| e.count) + 1;
        let message = refusal.message.clone();
        self.record.last_error =
            Some(LastError { code: refusal.code, message, version, generation, at: cx.time, count });
    }

    /// Nothing can be recorded any more: no install goes on. What serves, serves; a take-back stands, unrecorded.
    pub(super) fn unrecordable(&mut self, durable: ModelRecord, why: &str, cx: &mut Context<'_>, fx: &mut Effects) {
        self.abandon(fx);
        (self.halted, self.recorded) = (true, durable.clone());
        // Its load may be what was not carried out any more; if it was, it is drained when it answers.
        self.serving.coming = None;
        if !matches!(self.record.state, ModelState::RolledBack | ModelState::Stopped) {
            let demand = (self.record.desired.take(), self.record.generation);
            self.record = durable;
            (self.record.desired, self.record.generation) = demand;
            let standing = &self.standing;
            self.record.candidate.take_if(|v| standing.allows(&v.version).is_err());
            self.expel_serving(cx);
        }
        let version = self.record.desired.as_ref().map(|d| d.version.clone());
        self.note(&Refusal::new(RefusalCode::FloorUnreadable, why), version, cx);
        self.serve(cx, fx);
    }
}
