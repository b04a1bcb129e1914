//! Which keys count for what, and root and targets as the documents that say so. One trust has one pair of documents: what
//! else a document holds is refused by `read_exact`, so nothing is ever signed unseen.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_protocol::{
    digest::Digest,
    ids::TeamId,
    keys::{KeyId, KeySet, PublicKey},
    tuf,
};

use crate::{director::whole_seconds, repository::TeamRole};

/// Life of root.
pub const ROOT_LIFE: SignedDuration = SignedDuration::from_hours(3 * 365 * 24);
/// Life of targets.
pub const TARGETS_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The version of the TUF specification that the metadata follows.
pub const SPEC_VERSION: &str = "1.0.31";

/// The keys of a role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// How many must sign.
    pub threshold: usize,
    /// The keys by their names.
    pub keys: BTreeMap<KeyId, PublicKey>,
}

impl RoleKeys {
    /// A role of these keys.
    pub fn new(threshold: usize, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { threshold, keys: keys.into_iter().map(|key| (key.id(), key)).collect() }
    }

    /// A role of one key.
    pub fn one(key: PublicKey) -> Self {
        Self::new(1, [key])
    }

    /// The same as the protocol counts it.
    pub fn set(&self) -> KeySet {
        KeySet::new(self.keys.clone(), self.threshold)
    }

    fn form(&self) -> Value {
        json!({"keyids": self.keys.keys().collect::<Vec<_>>(), "threshold": self.threshold})
    }
}

/// What root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootTrust {
    /// Who may change root.
    pub root: RoleKeys,
    /// Who names the teams.
    pub targets: RoleKeys,
    /// The server's.
    pub snapshot: RoleKeys,
    /// The server's.
    pub timestamp: RoleKeys,
    /// The server's: who signs desired states.
    pub director: RoleKeys,
}

/// A team's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamTrust {
    /// Who releases.
    pub release: RoleKeys,
    /// The robot that signs candidates.
    pub candidate: Option<RoleKeys>,
}

/// The CA certificates that devices are to trust for the server, by their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    /// Its bytes' number.
    pub length: u64,
    /// Its bytes' digest.
    pub sha256: Digest,
}

impl CaBundle {
    /// That of these bytes.
    pub fn of(pem: &[u8]) -> Self {
        Self { length: pem.len() as u64, sha256: Digest::of(pem) }
    }
}

/// What targets says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetsTrust {
    /// The teams.
    pub teams: BTreeMap<TeamId, TeamTrust>,
    /// The CA certificates, where it names any.
    pub ca_bundle: Option<CaBundle>,
}

/// A document's own figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Timestamp,
    /// When it was made, where it says so: root does, for devices that were away.
    pub issued: Option<Timestamp>,
}

impl Edition {
    /// The edition after `before` that lives for `life`; the first where there is none.
    pub fn after(before: Option<Self>, life: SignedDuration, now: Timestamp) -> Self {
        let expires = whole_seconds(now.saturating_add(life).unwrap_or(Timestamp::MAX));
        let version = before.map_or(1, |before| before.version.saturating_add(1));
        Self { version, expires, issued: Some(whole_seconds(now)) }
    }
}

/// A document that is not of the form written here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A member is missing or wrong.
    #[error("{document} is no {document} role of Tern: {what}")]
    Malformed {
        /// `root` or `targets`.
        document: &'static str,
        /// What is wrong.
        what: String,
    },
    /// It holds more than a ceremony writes.
    #[error(
        "{0} holds something that no ceremony of this version writes, so nobody should sign it: prepare it anew, with the \
         newest tern"
    )]
    Foreign(&'static str),
}

#[derive(Deserialize)]
struct RoleForm {
    keyids: Vec<KeyId>,
    threshold: usize,
}

#[derive(Deserialize)]
struct RootForm {
    version: u64,
    expires: Timestamp,
    keys: BTreeMap<KeyId, PublicKey>,
    roles: BTreeMap<String, RoleForm>,
    #[serde(rename = "x-tern-director")]
    director: RoleForm,
    #[serde(rename = "x-tern-issued")]
    issued: Option<Timestamp>,
}

impl RootTrust {
    /// Every role with its name.
    pub fn roles(&self) -> [(&'static str, &RoleKeys); 5] {
        [
            ("root", &self.root),
            ("targets", &self.targets),
            ("snapshot", &self.snapshot),
            ("timestamp", &self.timestamp),
            ("director", &self.director),
        ]
    }

    /// The signed part of root.
    pub fn document(&self, edition: Edition) -> Value {
        let keys: Map<String, Value> =
            self.roles().iter().flat_map(|(_, role)| &role.keys).map(|(id, key)| (id.0.clone(), json!(key))).collect();
        let roles: Map<String, Value> =
            self.roles()[..4].iter().map(|(name, role)| ((*name).to_owned(), role.form())).collect();
        let mut root = json!({
            "_type": "root",
            "spec_version": SPEC_VERSION,
            "version": edition.version,
            "expires": edition.expires,
            "consistent_snapshot": true,
            "keys": keys,
            "roles": roles,
        });
        root[tuf::DIRECTOR] = self.director.form();
        if let Some(issued) = edition.issued {
            root[tuf::ISSUED] = json!(issued);
        }
        root
    }

    /// What a signed part says, of one that holds nothing else.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read_exact(signed: &Value) -> Result<(Self, Edition), Unreadable> {
        let (trust, edition) = Self::read(signed)?;
        let same = trust.document(edition) == *signed;
        same.then_some((trust, edition)).ok_or(Unreadable::Foreign("root"))
    }

    /// What a signed part says.
    ///
    /// # Errors
    /// [`Unreadable::Malformed`].
    pub fn read(signed: &Value) -> Result<(Self, Edition), Unreadable> {
        let malformed = |what: String| Unreadable::Malformed { document: "root", what };
        let form = RootForm::deserialize(signed).map_err(|e| malformed(e.to_string()))?;
        let keys = |role: &RoleForm| of_form(&form.keys, role).map_err(malformed);
        let role = |name: &str| {
            let role = form.roles.get(name).ok_or_else(|| malformed(format!("it has no role {name}")))?;
            keys(role)
        };
        let trust = Self {
            root: role("root")?,
            targets: role("targets")?,
            snapshot: role("snapshot")?,
            timestamp: role("timestamp")?,
            director: keys(&form.director)?,
        };
        Ok((trust, Edition { version: form.version, expires: form.expires, issued: form.issued }))
    }
}

#[derive(Deserialize)]
struct TargetsForm {
    version: u64,
    expires: Timestamp,
    targets: BTreeMap<String, TargetForm>,
    delegations: DelegationsForm,
}

#[derive(Deserialize)]
struct TargetForm {
    length: u64,
    hashes: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
struct DelegationsForm {
    keys: BTreeMap<KeyId, PublicKey>,
    roles: Vec<DelegationForm>,
}

#[derive(Deserialize)]
struct DelegationForm {
    name: String,
    #[serde(flatten)]
    role: RoleForm,
}

impl TargetsTrust {
    /// The delegated roles: name, keys, path.
    fn delegated(&self) -> Vec<(String, &RoleKeys, String)> {
        let mut roles = Vec::new();
        for (team, trust) in &self.teams {
            let role = TeamRole::release(team.clone());
            roles.push((role.to_string(), &trust.release, role.pattern()));
            if let Some(candidate) = &trust.candidate {
                let role = TeamRole::candidate(team.clone());
                roles.push((role.to_string(), candidate, role.pattern()));
            }
        }
        roles
    }

    /// The delegated roles with their names.
    pub fn roles(&self) -> Vec<(String, &RoleKeys)> {
        self.delegated().into_iter().map(|(name, keys, _)| (name, keys)).collect()
    }

    /// The signed part of targets.
    pub fn document(&self, edition: Edition) -> Value {
        let delegated = self.delegated();
        let keys: Map<String, Value> =
            delegated.iter().flat_map(|(_, role, _)| &role.keys).map(|(id, key)| (id.0.clone(), json!(key))).collect();
        let role = |(name, role, path): &(String, &RoleKeys, String)| {
            json!({
                "name": name,
                "keyids": role.keys.keys().collect::<Vec<_>>(),
                "threshold": role.threshold,
                "terminating": true,
                "paths": [path],
            })
        };
        let mut targets = Map::new();
        if let Some(CaBundle { length, sha256 }) = &self.ca_bundle {
            targets.insert(tuf::CA_BUNDLE.into(), json!({"length": length, "hashes": {"sha256": sha256}}));
        }
        json!({
            "_type": "targets",
            "spec_version": SPEC_VERSION,
            "version": edition.version,
            "expires": edition.expires,
            "targets": targets,
            "delegations": {"keys": keys, "roles": delegated.iter().map(role).collect::<Vec<_>>()},
        })
    }

    /// What a signed part says, of one that holds nothing else.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read_exact(signed: &Value) -> Result<(Self, Edition), Unreadable> {
        let (trust, edition) = Self::read(signed)?;
        let same = trust.document(edition) == *signed;
        same.then_some((trust, edition)).ok_or(Unreadable::Foreign("targets"))
    }

    /// What a signed part says.
    ///
    /// # Errors
    /// [`Unreadable`]; [`Unreadable::Foreign`] where it delegates to what is no team.
    pub fn read(signed: &Value) -> Result<(Self, Edition), Unreadable> {
        let malformed = |what: String| Unreadable::Malformed { document: "targets", what };
        let form = TargetsForm::deserialize(signed).map_err(|e| malformed(e.to_string()))?;
        let mut trust = Self::default();
        let (candidates, teams): (Vec<_>, Vec<_>) =
            form.delegations.roles.iter().partition(|role| role.name.contains('.'));
        for delegation in teams {
            let team = delegation.name.parse::<TeamId>().map_err(|e| malformed(e.to_string()))?;
            let release = of_form(&form.delegations.keys, &delegation.role).map_err(malformed)?;
            trust.teams.insert(team, TeamTrust { release, candidate: None });
        }
        for delegation in candidates {
            let of = |team: &&TeamId| tuf::candidate_role(team) == delegation.name;
            let team = trust.teams.keys().find(of).cloned().ok_or(Unreadable::Foreign("targets"))?;
            let keys = of_form(&form.delegations.keys, &delegation.role).map_err(malformed)?;
            if let Some(team) = trust.teams.get_mut(&team) {
                team.candidate = Some(keys);
            }
        }
        let bundle = form.targets.get(tuf::CA_BUNDLE);
        trust.ca_bundle =
            bundle.and_then(|target| Some(CaBundle { length: target.length, sha256: *target.hashes.get("sha256")? }));
        Ok((trust, Edition { version: form.version, expires: form.expires, issued: None }))
    }
}

fn of_form(keys: &BTreeMap<KeyId, PublicKey>, form: &RoleForm) -> Result<RoleKeys, String> {
    let key = |id: &KeyId| {
        let key = keys.get(id).filter(|key| key.id() == *id);
        key.cloned().ok_or_else(|| format!("key {id} is not there, or of another name"))
    };
    let found = form.keyids.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    Ok(RoleKeys::new(form.threshold, found))
}
