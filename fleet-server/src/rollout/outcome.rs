//! How an assignment stands on one device: the one place where that is decided.
//!
//! Precedence: an ending that was recorded; the device's own word on this assignment; the silence deadline. A word
//! counts only if it is about this version and not older than the assignment. The deadline runs from the newest sign of
//! progress, and from when the server began to hear: its own absence is no device's silence. On probation the probation
//! itself comes on top. Silence that was recorded is healed by an ending, not by a mere sign of life.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tern_protocol::{ids::Version, refusal::RefusalCode, twin::ModelState};

use super::{Assignment, DeviceView, RefusalView, TwinView};

/// How an assignment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is under way.
    Pending,
    /// It survived probation.
    Survived,
    /// It was tried and taken back, or could not be installed.
    Failed,
    /// The device is not one for this version: never tried again.
    Rejected,
    /// It answers and too few inferences came: neither good nor bad.
    Idle,
    /// The device was reached, and then nothing: bad.
    Silent,
    /// The device was not seen since: neither good nor bad.
    Unreached,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Survived, Self::Failed, Self::Rejected, Self::Idle, Self::Silent, Self::Unreached];

    /// The outcome as text, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Survived => "survived",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::Unreached => "unreached",
        }
    }

    /// Whether it counts against the failure budget.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Silent)
    }

    /// Whether it is recorded: it stands whatever the device's next twin says, but for silence, which may heal.
    pub fn is_recorded(self) -> bool {
        matches!(self, Self::Survived | Self::Failed | Self::Rejected | Self::Silent)
    }
}

/// What an assignment is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The version that is rolled out.
    pub target: &'a Version,
    /// The silence deadline.
    pub silence: Duration,
    /// The least time of probation.
    pub probation: Duration,
    /// Since when the server hears without a gap.
    pub hearing_since: Timestamp,
}

/// How an assignment stands, and until when that holds if nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// How it stands.
    pub outcome: Outcome,
    /// The device's reason, where it gave one.
    pub code: Option<RefusalCode>,
    /// When time alone changes it.
    pub until: Option<Timestamp>,
}

impl Judged {
    fn of(outcome: Outcome) -> Self {
        Self { outcome, code: None, until: None }
    }
}

/// How `assignment` stands on `device`.
pub fn judge(device: &DeviceView, assignment: &Assignment, terms: &Terms<'_>, now: Timestamp) -> Judged {
    let recorded = assignment.settled;
    if let Some(settled) = recorded.filter(|s| s.outcome != Outcome::Silent) {
        return Judged { outcome: settled.outcome, code: settled.code, until: None };
    }
    let word = device
        .twin
        .as_ref()
        .filter(|t| t.generation >= assignment.generation && t.desired.as_ref() == Some(terms.target));
    let error = word.and_then(|t| t.error.as_ref()).filter(|e| concerns(e, assignment, terms)).map(|e| e.code);
    if let Some(judged) = word.and_then(|twin| ending(device, twin, error, terms, now)) {
        return judged;
    }
    if recorded.is_some() {
        return Judged::of(Outcome::Silent);
    }
    let deadline = deadline(assignment, word, terms);
    if now < deadline {
        return Judged { outcome: Outcome::Pending, code: error, until: Some(deadline) };
    }
    let reached = word.is_some() || assignment.fetched.is_some();
    match error {
        // It talks, and what it says is that it cannot.
        Some(code) if device.online => Judged { outcome: Outcome::Failed, code: Some(code), until: None },
        _ if reached || device.online => Judged { outcome: Outcome::Silent, code: error, until: None },
        _ => Judged::of(Outcome::Unreached),
    }
}

fn concerns(error: &RefusalView, assignment: &Assignment, terms: &Terms<'_>) -> bool {
    error.generation >= assignment.generation && error.version.as_ref().is_none_or(|v| v == terms.target)
}

/// What the device's word settles, if it settles anything.
fn ending(
    device: &DeviceView,
    twin: &TwinView,
    error: Option<RefusalCode>,
    terms: &Terms<'_>,
    now: Timestamp,
) -> Option<Judged> {
    let outcome = match twin.state {
        ModelState::Committed if device.running.as_ref() == Some(terms.target) => Outcome::Survived,
        ModelState::RolledBack | ModelState::Stopped => Outcome::Failed,
        ModelState::Rejected => match error {
            Some(code) if code.is_retryable() => return None,
            Some(code) if is_unsuited(code) => Outcome::Rejected,
            _ => Outcome::Failed,
        },
        ModelState::Idle => return Some(idle(device, terms, now)),
        // A word that contradicts itself settles nothing: the deadline does.
        ModelState::Committed | ModelState::Removed => return None,
        ModelState::Fetching | ModelState::Probing | ModelState::Staged | ModelState::OnProbation => return None,
    };
    Some(Judged { outcome, code: error.filter(|_| outcome != Outcome::Survived), until: None })
}

fn idle(device: &DeviceView, terms: &Terms<'_>, now: Timestamp) -> Judged {
    if device.online {
        return Judged::of(Outcome::Idle);
    }
    let gone = gone_at(device, terms.silence, terms.hearing_since);
    if now < gone {
        return Judged { outcome: Outcome::Idle, code: None, until: Some(gone) };
    }
    Judged::of(Outcome::Silent)
}

fn deadline(assignment: &Assignment, word: Option<&TwinView>, terms: &Terms<'_>) -> Timestamp {
    let signs = [Some(assignment.at), assignment.fetched, word.map(|t| t.changed), Some(terms.hearing_since)];
    let newest = signs.into_iter().flatten().max().unwrap_or(assignment.at);
    let tried = word.is_some_and(|t| t.state == ModelState::OnProbation);
    later(newest, if tried { terms.silence.saturating_add(terms.probation) } else { terms.silence })
}

/// When a device that is offline counts as gone.
pub(super) fn gone_at(device: &DeviceView, silence: Duration, hearing_since: Timestamp) -> Timestamp {
    later(device.last_seen.map_or(hearing_since, |seen| seen.max(hearing_since)), silence)
}

/// The time after a span, at most the last that there is.
pub(super) fn later(at: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Whether a refusal says that this device is none for this version, rather than that the version is broken.
fn is_unsuited(code: RefusalCode) -> bool {
    use RefusalCode as C;
    match code {
        C::WrongClass | C::AgentTooOld | C::OverBudget | C::ContractMismatch | C::UnknownFormat => true,
        C::CandidateNotAllowed => true,
        C::Signature | C::WrongDevice | C::WrongFleet | C::OldGeneration | C::Equivocation | C::Expired => false,
        C::Malformed | C::Metadata | C::Rollback | C::FloorUnreadable | C::UnknownTarget | C::ManifestDigest => false,
        C::Manifest | C::NoSpace | C::BlobDigest | C::BlobLength | C::Fetch | C::LoadFailed | C::GoldenMismatch => {
            false
        }
        C::ProbeDied | C::SwapFailed | C::ProbationFailed | C::AttemptsExhausted | C::Other => false,
        C::Recalled | C::BelowFloor => false,
    }
}

#[cfg(test)]
mod tests;
