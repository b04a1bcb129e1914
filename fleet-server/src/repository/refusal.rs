//! Why a list is not published: a closed list.

use jiff::Timestamp;

use super::TeamRole;

/// Why a team's metadata is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishRefusal {
    /// Root's targets delegate nothing to such a team, or it has no such role.
    #[error("no team has a role {0}: teams and their roles are named in the targets that root's keys delegate")]
    UnknownTeam(TeamRole),
    /// It is no TUF targets role.
    #[error("team metadata is malformed: {0}")]
    Malformed(String),
    /// Somebody published in between.
    #[error("team metadata has version {found}, the next one is {next}: fetch it again, sign again")]
    Moved {
        /// Its version.
        found: u64,
        /// The version it must have.
        next: u64,
    },
    /// A target is not a manifest of this team's models.
    #[error("target {0:?} is not of the form {1} of this role")]
    ForeignTarget(String, String),
    /// The team hands its powers on.
    #[error("team metadata must not delegate")]
    Delegates,
    /// Too few of the team's keys signed.
    #[error("{found} of {threshold} needed signatures are valid: sign with the team's release keys")]
    UnderThreshold {
        /// Valid signatures.
        found: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// What it says of its models besides listing versions cannot be, or contradicts the list.
    #[error("team metadata says of its models what cannot be: {0}")]
    Standing(String),
    /// It takes back what the team has said under the same keys.
    #[error("{0}: what a team has recalled or raised stands as long as its keys are the same")]
    StandingLowered(String),
    /// It is already expired.
    #[error("team metadata expires at {0}, which is past: sign it with a later date")]
    Expired(Timestamp),
    /// A client would refuse it for another reason.
    #[error("team metadata would be refused by devices: {0}")]
    Unacceptable(String),
    /// The server's own disk or keys failed.
    #[error("publish")]
    Failed(#[source] anyhow::Error),
}
