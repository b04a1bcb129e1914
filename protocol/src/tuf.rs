//! Glue between `sigstore-tuf` and the rest: cryptography on `ring`, and what Tern adds to TUF's roles.
//!
//! Tern's additions: root's member `x-tern-director` (a role: key ids and threshold, keys in root's own list) and the member
//! `x-tern-issued` of root and timestamp (RFC 3339, when it was made). All are covered by the roles' signatures.
//! [`role_floors`] gives what a device must remember so that no role ever goes backwards.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sigstore_tuf::{Metadata, Root, Targets, TrustedMetadataSet};

use crate::{
    digest::Digest,
    ids::TeamId,
    keys::{KeyId, KeySet, PublicKey},
};

/// Root's member that names the director's keys.
pub const DIRECTOR: &str = "x-tern-director";
/// The member of root and timestamp that says when it was made.
pub const ISSUED: &str = "x-tern-issued";
/// Path of the top-level target that holds the CAs which devices are to trust for the server, PEM, the newest last.
pub const CA_BUNDLE: &str = "ca/bundle.pem";
/// Longest CA bundle, in bytes.
pub const MAX_CA_BUNDLE_BYTES: u64 = 64 << 10;
/// Most CAs in a bundle.
pub const MAX_AUTHORITIES: usize = 8;

/// The TUF role of a team's candidates. No team can have this name: names of teams have no dot.
pub fn candidate_role(team: &TeamId) -> String {
    format!("{team}.candidate")
}

mod provider;
pub use provider::install_provider;

/// Why TUF metadata lacks what Tern needs of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TufError {
    /// A member is missing or not of its form.
    #[error("TUF metadata lacks a valid {0}")]
    Missing(&'static str),
    /// One key stands under several ids, so that its holder would count as several.
    #[error("role {0} lists one key twice, under different ids")]
    KeyTwice(String),
}

/// Checks that no role counts one key twice. `teams` are the delegated roles to include.
///
/// `sigstore-tuf` counts key ids, and takes whatever id a delegator gave a key.
///
/// # Errors
/// [`TufError::KeyTwice`] for the first role that does.
pub fn check_keys(trusted: &TrustedMetadataSet, teams: &[&str]) -> Result<(), TufError> {
    let root = trusted.root();
    for name in ["root", "timestamp", "snapshot", "targets"] {
        let keyids = root.role(name).map(|r| &r.keyids[..]).unwrap_or_default();
        check_role(name, keyids, |id| serde_json::to_value(root.keys.get(id)?).ok())?;
    }
    let Some(delegations) = trusted.targets_role("targets").and_then(|t| t.delegations.as_ref()) else { return Ok(()) };
    for role in delegations.roles.iter().filter(|r| teams.contains(&&*r.name)) {
        check_role(&role.name, &role.keyids, |id| serde_json::to_value(delegations.keys.get(id)?).ok())?;
    }
    Ok(())
}

fn check_role(name: &str, keyids: &[String], key: impl Fn(&str) -> Option<serde_json::Value>) -> Result<(), TufError> {
    let ids: std::collections::BTreeSet<_> = keyids.iter().collect();
    let keys: Vec<_> = ids.iter().filter_map(|id| Some(key(id)?["keyval"].to_string())).collect();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    if distinct.len() < keys.len() { Err(TufError::KeyTwice(name.to_owned())) } else { Ok(()) }
}

/// The director's keys that a verified root names.
///
/// # Errors
/// Where root names none, or a key that is not Ed25519: then no desired state can be accepted.
pub fn director_keys(root: &Root) -> Result<KeySet, TufError> {
    let missing = || TufError::Missing(DIRECTOR);
    let role = root.extra.get(DIRECTOR).ok_or_else(missing)?;
    keys_of(root, role).ok_or_else(missing)
}

fn keys_of(root: &Root, role: &serde_json::Value) -> Option<KeySet> {
    let threshold = usize::try_from(role.get("threshold")?.as_u64()?).ok()?;
    let (mut keys, mut distinct) = (BTreeMap::new(), std::collections::BTreeSet::new());
    for id in role.get("keyids")?.as_array()? {
        let id = id.as_str()?;
        let key = serde_json::to_value(root.keys.get(id)?).and_then(serde_json::from_value::<PublicKey>).ok()?;
        distinct.insert(key.bytes().ok()?);
        keys.insert(KeyId(id.into()), key);
    }
    // One key under two ids would count twice.
    (threshold > 0 && keys.len() >= threshold && distinct.len() == keys.len()).then(|| KeySet::new(keys, threshold))
}

/// When a verified root or timestamp was made, by its members that TUF does not know: a lower bound of the present time.
pub fn issued(extra: &BTreeMap<String, serde_json::Value>) -> Option<Timestamp> {
    extra.get(ISSUED)?.as_str()?.parse().ok()
}

/// The keys of a root that sign without a person: the server holds them.
#[derive(Debug, Clone)]
pub struct OnlineKeys {
    /// Who signs desired states.
    pub director: KeySet,
    /// Digest of the keys that sign the timestamp.
    pub timestamp: Digest,
}

impl OnlineKeys {
    /// Those that a verified root names.
    ///
    /// # Errors
    /// As [`director_keys`], and where root has no timestamp role.
    pub fn of(root: &Root) -> Result<Self, TufError> {
        let timestamp = top_key_set(root, "timestamp").ok_or(TufError::Missing("timestamp"))?;
        Ok(Self { director: director_keys(root)?, timestamp })
    }
}

/// A role's floor: its version under one set of keys. A rotation of the keys opens a new floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFloor {
    /// `root`, `timestamp`, `snapshot`, `targets`, or a team's name.
    pub role: String,
    /// Digest of the key ids and threshold that count for the role.
    pub key_set: Digest,
    /// The role's version.
    pub version: u64,
}

/// The floors that verified metadata stands for. `teams` are the delegated roles to include, loaded before: one that targets
/// delegates and that is not there all the same has version 0, so that hiding a role is going backwards.
pub fn role_floors(trusted: &TrustedMetadataSet, teams: &[&str]) -> Vec<RoleFloor> {
    let root = trusted.root();
    let top = |name: &str| top_key_set(root, name);
    let mut floors = Vec::new();
    let mut add = |role: &str, key_set: Option<Digest>, version: Option<u64>| {
        if let (Some(key_set), Some(version)) = (key_set, version) {
            floors.push(RoleFloor { role: role.into(), key_set, version });
        }
    };
    // Root's own chain forbids going backwards under any keys, so its floor must outlive rotations.
    add("root", Some(Digest::of(b"root")), Some(root.version));
    add("timestamp", top("timestamp"), trusted.timestamp().map(|t| t.version));
    add("snapshot", top("snapshot"), trusted.snapshot().map(|s| s.version));
    let targets = trusted.targets_role("targets");
    // Snapshot's keys say which version of targets is the present one: TUF's own recovery rotates them.
    let both = top("targets").zip(top("snapshot")).map(|(a, b)| Digest::of(format!("{a}\n{b}").as_bytes()));
    add("targets", both, targets.map(|t| t.version));
    for team in teams {
        let key_set = targets.and_then(|t| delegated_key_set(t, team));
        add(team, key_set, Some(trusted.targets_role(team).map_or(0, |t| t.version)));
    }
    floors
}

/// The digest of the keys that count for a top-level role.
pub fn top_key_set(root: &Root, role: &str) -> Option<Digest> {
    root.role(role).map(|r| key_set_digest(&r.keyids, r.threshold))
}

/// The digest of the keys that count for a role which `targets` delegates; none where it does not.
pub fn delegated_key_set(targets: &Targets, role: &str) -> Option<Digest> {
    let role = targets.delegations.as_ref()?.roles.iter().find(|r| r.name == role)?;
    Some(key_set_digest(&role.keyids, role.threshold))
}

/// Root's own keys, at their threshold: they sign rescue tickets.
///
/// # Errors
/// Where a key is not Ed25519.
pub fn root_keys(root: &Root) -> Result<KeySet, TufError> {
    let missing = || TufError::Missing("root");
    let role = root.role("root").ok_or_else(missing)?;
    let role = serde_json::json!({"keyids": role.keyids, "threshold": role.threshold});
    keys_of(root, &role).ok_or_else(missing)
}

fn key_set_digest(keyids: &[String], threshold: usize) -> Digest {
    let sorted: std::collections::BTreeSet<_> = keyids.iter().collect();
    let mut text = format!("{threshold}");
    for id in sorted {
        text.push('\n');
        text.push_str(id);
    }
    Digest::of(text.as_bytes())
}

/// The root role in `bytes`, unverified: for a root whose digest is pinned or which a trusted store holds.
///
/// # Errors
/// Where the bytes are no root role.
pub fn parse_root(bytes: &[u8]) -> Result<Root, TufError> {
    Metadata::<Root>::from_slice(bytes).map(Metadata::into_signed).map_err(|_| TufError::Missing("root"))
}

#[cfg(test)]
mod tests;
