//! What a start does with what a power cut left: one recorded state, one action.
//!
//! In every row the version that `active` names is loaded at once, whole, without any network; the action says what becomes
//! of the rest. A version that its team recalled is taken out of the record before the table is asked. The rows are tested one by one in `install/boot_tests.rs`.

use tern_protocol::twin::ModelState;

/// What a start does beside serving the active version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootAction {
    /// Begin the demanded version's way again; a fetch goes on where its part ends. A probe that was cut short stays
    /// counted as an attempt.
    BeginAgain,
    /// The candidate is verified, probed and on disk: load it again. The cut stays counted as an attempt.
    LoadAgain,
    /// The active version starts its probation anew, and the cut counts as an attempt: what takes the machine down with
    /// it never survives a probation.
    ProbationAgain,
    /// The active version goes on waiting for inferences; a restart says nothing against it.
    WaitOn,
    /// Nothing else is to do, except to try again what was refused for a passing reason.
    Serve,
    /// Nothing answers until a version is demanded that may run.
    StaySilent,
    /// Forget the record.
    Forget,
}

/// The action for a recorded state.
pub fn action(recorded: ModelState) -> BootAction {
    match recorded {
        ModelState::Fetching | ModelState::Probing => BootAction::BeginAgain,
        ModelState::Staged => BootAction::LoadAgain,
        ModelState::OnProbation => BootAction::ProbationAgain,
        ModelState::Idle => BootAction::WaitOn,
        ModelState::Committed | ModelState::Rejected | ModelState::RolledBack => BootAction::Serve,
        ModelState::Stopped => BootAction::StaySilent,
        ModelState::Removed => BootAction::Forget,
    }
}
