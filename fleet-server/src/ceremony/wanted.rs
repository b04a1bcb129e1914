//! `ceremony.toml`: the trust that is wanted, as people write it down.

use std::collections::BTreeMap;

use serde::Deserialize;
use tern_protocol::{ids::TeamId, keys::PublicKey};

use super::{
    faults,
    trust::{CaBundle, RoleKeys, RootTrust, TargetsTrust, TeamTrust},
};

/// What is declared.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    root: Group,
    targets: Group,
    online: Online,
    teams: BTreeMap<TeamId, Team>,
    /// The file of the CA certificates which devices are to trust for the server.
    pub ca_bundle: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    threshold: usize,
    keys: Vec<String>,
}

/// A role of the server: one key mostly; several in a rotation.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "write it as \"key.pub\", [\"a.pub\", \"b.pub\"], or { threshold = 2, keys = [..] }")]
enum OnlineGroup {
    One(String),
    Any(Vec<String>),
    Group(Group),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Online {
    snapshot: OnlineGroup,
    timestamp: OnlineGroup,
    director: OnlineGroup,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Team {
    threshold: usize,
    keys: Vec<String>,
    candidate: Option<String>,
}

impl OnlineGroup {
    fn group(&self) -> Group {
        match self {
            Self::One(key) => Group { threshold: 1, keys: vec![key.clone()] },
            Self::Any(keys) => Group { threshold: 1, keys: keys.clone() },
            Self::Group(group) => group.clone(),
        }
    }
}

impl Wanted {
    /// What `text` declares.
    ///
    /// # Errors
    /// The parser's words, with the place.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The trust that is declared; `key` finds a key by what the declaration calls it, for the role named first.
    ///
    /// # Errors
    /// What `key` says, and every fault.
    pub fn trust(
        &self,
        ca_bundle: Option<CaBundle>,
        mut key: impl FnMut(&str, &str) -> anyhow::Result<PublicKey>,
    ) -> anyhow::Result<(RootTrust, TargetsTrust)> {
        let mut role = |name: &str, group: &Group| -> anyhow::Result<RoleKeys> {
            let keys = group.keys.iter().map(|called| key(name, called)).collect::<anyhow::Result<Vec<_>>>()?;
            faults::role(name, group.threshold, &keys)?;
            Ok(RoleKeys::new(group.threshold, keys))
        };
        let root = RootTrust {
            root: role("root", &self.root)?,
            targets: role("targets", &self.targets)?,
            snapshot: role("snapshot", &self.online.snapshot.group())?,
            timestamp: role("timestamp", &self.online.timestamp.group())?,
            director: role("director", &self.online.director.group())?,
        };
        let mut targets = TargetsTrust { ca_bundle, ..TargetsTrust::default() };
        for (team, wanted) in &self.teams {
            let group = Group { threshold: wanted.threshold, keys: wanted.keys.clone() };
            let release = role(team.as_str(), &group)?;
            let robot = wanted.candidate.as_ref().map(|key| Group { threshold: 1, keys: vec![key.clone()] });
            let name = tern_protocol::tuf::candidate_role(team);
            let candidate = robot.map(|group| role(&name, &group)).transpose()?;
            targets.teams.insert(team.clone(), TeamTrust { release, candidate });
        }
        faults::check(&root, &targets)?;
        Ok((root, targets))
    }
}
