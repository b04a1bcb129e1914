//! What a ceremony refuses: thresholds that cannot be met or mean nothing, and keys in hands that defeat the split of
//! powers. The same rules hold for whoever prepares and for everyone who signs.

use std::collections::BTreeSet;

use tern_protocol::{
    ids::TeamId,
    keys::{KeyId, PublicKey},
};

use super::trust::{RoleKeys, RootTrust, TargetsTrust};

/// Names that TUF keeps for its own roles.
const TUF_ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
/// Most roles of teams: what a TUF client looks through.
pub const MAX_ROLES: usize = 30;

/// Why a trust is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody would have to sign.
    #[error("{0} has threshold 0: whatever comes would count")]
    NoThreshold(String),
    /// It could never be met.
    #[error("{role} wants {threshold} signatures of {keys} keys: it could never be met")]
    Unreachable {
        /// The role.
        role: String,
        /// Its threshold.
        threshold: usize,
        /// How many keys it has.
        keys: usize,
    },
    /// One person would count for two.
    #[error("{role} names key {key} twice: one key is one signature")]
    DuplicateKey {
        /// The role.
        role: String,
        /// The key.
        key: KeyId,
    },
    /// It is not written as its name says.
    #[error("{role} names a key that is not in its canonical form")]
    NotCanonical {
        /// The role.
        role: String,
    },
    /// A key that must stay offline lies on the server, or on a robot.
    #[error("key {key} is named by {online} and by {offline}: whoever takes {holder} would hold both; make two keys")]
    SharedKey {
        /// The key.
        key: KeyId,
        /// The role whose key is at hand.
        online: String,
        /// The role that people must decide on.
        offline: String,
        /// What would have to be stolen.
        holder: &'static str,
    },
    /// TUF has a role of this name.
    #[error("a team cannot be called {0}: TUF keeps that name")]
    ReservedName(TeamId),
    /// There is nothing to release, or more than a client looks through.
    #[error("a fleet has 1 to {MAX_ROLES} teams and candidate roles together, not {0}")]
    RoleCount(usize),
}

/// Holds team names, and the number of their roles, against the rules of TUF and its clients.
///
/// # Errors
/// [`Fault::ReservedName`], [`Fault::RoleCount`].
pub fn teams<'a>(teams: impl IntoIterator<Item = &'a TeamId>, roles: usize) -> Result<(), Fault> {
    if let Some(team) = teams.into_iter().find(|team| TUF_ROLES.contains(&team.as_str())) {
        return Err(Fault::ReservedName(team.clone()));
    }
    if (1..=MAX_ROLES).contains(&roles) { Ok(()) } else { Err(Fault::RoleCount(roles)) }
}

/// Holds a role's declared keys against the rules, before they become a set.
///
/// # Errors
/// The first fault.
pub fn role(name: &str, threshold: usize, keys: &[PublicKey]) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for key in keys {
        let canonical = key.bytes().ok().filter(|bytes| PublicKey::ed25519(bytes) == *key);
        let bytes = canonical.ok_or_else(|| Fault::NotCanonical { role: name.into() })?;
        if !seen.insert(bytes) {
            return Err(Fault::DuplicateKey { role: name.into(), key: key.id() });
        }
    }
    if threshold == 0 {
        return Err(Fault::NoThreshold(name.into()));
    }
    if threshold > keys.len() {
        return Err(Fault::Unreachable { role: name.into(), threshold, keys: keys.len() });
    }
    Ok(())
}

/// Holds a whole trust against the rules.
///
/// # Errors
/// The first fault.
pub fn check(root: &RootTrust, targets: &TargetsTrust) -> Result<(), Fault> {
    let delegated = targets.roles();
    let mut all: Vec<(String, &RoleKeys)> = root.roles().map(|(name, keys)| (name.to_owned(), keys)).into();
    all.extend(delegated.iter().map(|(name, keys)| (format!("team {name}"), *keys)));
    for (name, keys) in &all {
        role(name, keys.threshold, &keys.keys.values().cloned().collect::<Vec<_>>())?;
    }
    teams(targets.teams.keys(), delegated.len())?;
    let kind = |name: &str| match name {
        "snapshot" | "timestamp" | "director" => Some("the server"),
        name if name.ends_with(".candidate") => Some("the robot"),
        _ => None,
    };
    for (online, near) in &all {
        let Some(holder) = kind(online) else { continue };
        for (offline, far) in &all {
            // A key of the server may be several of its roles', and nobody else's; so may a robot's of several teams.
            if kind(offline) == Some(holder) {
                continue;
            }
            if let Some(key) = near.keys.keys().find(|key| far.keys.contains_key(key)) {
                let (online, offline) = (online.clone(), offline.clone());
                return Err(Fault::SharedKey { key: key.clone(), online, offline, holder });
            }
        }
    }
    Ok(())
}
