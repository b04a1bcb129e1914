//! The TUF roles of a team: what people release, and what a pipeline offers as a candidate.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tern_protocol::{
    ids::{InvalidName, ModelVersion, TeamId},
    tuf,
};

/// What a role's list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleKind {
    /// Versions that any device may run, and what the team says of them besides.
    #[default]
    Release,
    /// Versions for devices whose own configuration takes candidates.
    Candidate,
}

impl RoleKind {
    /// The kind as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Candidate => "candidate",
        }
    }
}

impl FromStr for RoleKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Release, Self::Candidate]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("no role is called {text:?}: there are release and candidate"))
    }
}

/// One role of one team; as text its name in TUF.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TeamRole {
    /// Whose.
    pub team: TeamId,
    /// What for.
    pub kind: RoleKind,
}

impl TeamRole {
    /// The team's list of releases.
    pub fn release(team: TeamId) -> Self {
        Self { team, kind: RoleKind::Release }
    }

    /// The team's list of candidates.
    pub fn candidate(team: TeamId) -> Self {
        Self { team, kind: RoleKind::Candidate }
    }

    /// The target path of a version's manifest in this list.
    pub fn path_of(&self, version: &ModelVersion) -> String {
        match self.kind {
            RoleKind::Release => version.target_path(),
            RoleKind::Candidate => version.candidate_path(),
        }
    }

    /// The version of this team whose manifest has this target path in this list.
    pub fn version_at(&self, path: &str) -> Option<ModelVersion> {
        let version = match self.kind {
            RoleKind::Release => ModelVersion::from_target_path(path),
            RoleKind::Candidate => ModelVersion::from_candidate_path(path),
        };
        version.filter(|version| version.name.team == self.team)
    }

    /// The pattern of its target paths.
    pub fn pattern(&self) -> String {
        match self.kind {
            RoleKind::Release => format!("models/{}/*/*/manifest.json", self.team),
            RoleKind::Candidate => format!("candidates/{}/*/*/manifest.json", self.team),
        }
    }
}

impl fmt::Display for TeamRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RoleKind::Release => self.team.fmt(f),
            RoleKind::Candidate => f.write_str(&tuf::candidate_role(&self.team)),
        }
    }
}

impl FromStr for TeamRole {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.strip_suffix(".candidate") {
            Some(team) => Ok(Self::candidate(team.parse()?)),
            None => Ok(Self::release(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_and_its_name_are_inverse_and_paths_tell_roles_apart() {
        let version: ModelVersion = "demo/m@1.0.0".parse().unwrap();
        let (release, candidate) =
            (TeamRole::release(version.name.team.clone()), TeamRole::candidate(version.name.team.clone()));
        for role in [&release, &candidate] {
            assert_eq!(role.to_string().parse::<TeamRole>().as_ref(), Ok(role));
            assert_eq!(role.version_at(&role.path_of(&version)), Some(version.clone()));
            assert_eq!(role.kind.as_str().parse(), Ok(role.kind));
        }
        assert_eq!((release.to_string(), candidate.to_string()), ("demo".into(), "demo.candidate".into()));
        assert_eq!(release.version_at(&candidate.path_of(&version)), None);
        assert_eq!(candidate.version_at("candidates/other/m/1.0.0/manifest.json"), None);
        for text in ["demo.x", ".candidate", "demo.candidate.candidate", "Demo", ""] {
            assert!(text.parse::<TeamRole>().is_err(), "{text}");
        }
        assert!("both".parse::<RoleKind>().is_err());
    }
}
