//! What the team says of its versions, enforced: no version that may not run is in the record or answers.
//!
//! - The active one: by the signed policy the version before takes its place, from the disk and without the network, or the
//!   model stops. What may not run is drained at once, also while its successor loads: a gap is better than its answers.
//! - The version before: forgotten, so that no take-back, no boot and no stand-in leads to it.
//! - The candidate: refused. What swaps just now is drained when it has swapped.
//! - The demanded one: refused for as long as the team's list says so, and tried again as soon as it does not.
//!
//! Never: more than the record in one write, so that a power cut leaves the old record, which the next boot judges again.

use tern_protocol::{
    digest::Digest,
    refusal::RefusalCode,
    standing::{Disallowed, OnRecall, Standing},
    twin::ModelState,
};

use super::{Context, Effects, Machine, Refusal};
use crate::state::{Refused, VersionRef};

impl From<Disallowed> for Refusal {
    fn from(why: Disallowed) -> Self {
        let code = match &why {
            Disallowed::Recalled { .. } => RefusalCode::Recalled,
            Disallowed::BelowFloor { .. } => RefusalCode::BelowFloor,
        };
        Self::new(code, why)
    }
}

/// Whether this is judged at every look, and not remembered.
pub(super) fn is_forbidding(code: RefusalCode) -> bool {
    use RefusalCode::{BelowFloor, CandidateNotAllowed, Recalled};
    matches!(code, Recalled | BelowFloor | CandidateNotAllowed)
}

impl Machine {
    /// What the team says, as the machine knows it.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Takes over what the team says now.
    pub(super) fn heed(&mut self, standing: Standing, cx: &mut Context<'_>, fx: &mut Effects) {
        self.standing = standing;
        self.expel(cx, fx);
        self.silence(fx);
        self.serve(cx, fx);
        self.reconcile(cx, fx);
    }

    /// Takes out of the record what may not run, and records that.
    pub(super) fn expel(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        let refused = self.record.candidate.clone().and_then(|c| Some((self.disallowed(&c)?, c)));
        if let Some((refusal, candidate)) = refused {
            self.abandon(fx);
            self.forbid(&refusal, &candidate, cx);
        }
        self.expel_serving(cx);
        self.persist(fx);
    }

    /// The same for what serves or served, unrecorded.
    pub(super) fn expel_serving(&mut self, cx: &Context<'_>) {
        let standing = &self.standing;
        self.record.previous.take_if(|v| standing.allows(&v.version).is_err());
        let why = self.record.active.as_ref().and_then(|active| self.disallowed(active));
        let Some((refusal, lost)) = why.and_then(|why| Some((why, self.record.active.take()?))) else { return };
        (self.trial, self.serving.waiting) = (None, None);
        if self.standing.on_recall == OnRecall::Fallback {
            self.record.active = self.record.previous.take();
        }
        self.record.proven = self.record.active.is_some();
        self.note(&refusal, Some(lost.version), cx);
        let demanded = self.record.desired.as_ref().is_some_and(|d| d.manifest == lost.manifest);
        if demanded {
            self.remember(lost.manifest, &refusal, cx);
            (self.record.candidate, self.record.attempts) = (None, 0);
        } else {
            self.forget_its_attempts();
        }
        match self.record.active {
            Some(_) if demanded => self.enter(ModelState::RolledBack, cx),
            None if self.record.candidate.is_none() => self.enter(ModelState::Stopped, cx),
            _ => {}
        }
    }

    /// Why this version must not come here, if so.
    pub(super) fn forbidden(&self, version: &VersionRef, cx: &Context<'_>) -> Option<Refusal> {
        if version.candidate && !cx.candidates {
            let why = "the demanded version is a candidate, and this device's agent.toml does not allow candidates";
            return Some(Refusal::new(RefusalCode::CandidateNotAllowed, why));
        }
        self.disallowed(version)
    }

    fn disallowed(&self, version: &VersionRef) -> Option<Refusal> {
        self.standing.allows(&version.version).err().map(Refusal::from)
    }

    /// Refuses a demanded version, once for each demand; what answers goes on.
    pub(super) fn forbid(&mut self, refusal: &Refusal, version: &VersionRef, cx: &Context<'_>) {
        let known = self.record.refused.as_ref().filter(|r| r.manifest == version.manifest);
        let again = known.is_some_and(|r| (r.generation, r.code) == (self.record.generation, refusal.code));
        let stays = match self.record.state {
            ModelState::RolledBack => known.is_some(),
            ModelState::Stopped => self.record.active.is_none(),
            _ => false,
        };
        if self.record.candidate.take().is_some() {
            // Else they are those of the active version's probation.
            self.record.attempts = 0;
        }
        if !again {
            self.remember(version.manifest, refusal, cx);
            self.note(refusal, Some(version.version.clone()), cx);
        }
        if !stays {
            self.enter(ModelState::Rejected, cx);
        }
    }

    /// Keeps why the demanded version is refused.
    fn remember(&mut self, manifest: Digest, refusal: &Refusal, cx: &Context<'_>) {
        let (generation, code, agent) = (self.record.generation, refusal.code, cx.agent.clone());
        self.record.refused = Some(Refused { manifest, generation, code, agent });
    }
}
