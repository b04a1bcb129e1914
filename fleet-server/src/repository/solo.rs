//! Makes a repository whose every key lies on this machine: for trials, never for production.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sigstore_tuf::TrustedMetadataSet;
use tern_protocol::{
    ids::TeamId,
    keys::{PublicKey, SigningKey},
    signed::sign_value,
    tuf,
};

use super::{
    OnlineKeys, TARGETS_LIFE, TeamRole, Write, carry_out, chain,
    metadata::{SPEC_VERSION, online},
};
use crate::{director::whole_seconds, disk};

/// Life of root.
const ROOT_LIFE: SignedDuration = SignedDuration::from_hours(3 * 365 * 24);

/// The public keys of one team.
pub struct TeamKeys {
    /// Which.
    pub team: TeamId,
    /// Who signs its releases.
    pub release: Vec<PublicKey>,
    /// How many of them must.
    pub threshold: usize,
    /// What signs its candidates.
    pub candidate: PublicKey,
}

/// The keys that a repository is made with.
pub struct SoloKeys {
    /// Root's.
    pub root: SigningKey,
    /// Those of targets.
    pub targets: SigningKey,
    /// Those of freshness.
    pub online: OnlineKeys,
    /// The director's public half.
    pub director: PublicKey,
    /// Each team with the public halves of its keys.
    pub teams: Vec<TeamKeys>,
}

/// Writes the first root, targets, snapshot and timestamp into `folder`.
///
/// # Errors
/// Where the disk refuses, or the result would not verify.
pub fn create(folder: &Path, keys: &SoloKeys, now: Timestamp) -> anyhow::Result<()> {
    tuf::install_provider();
    disk::create_folder(&folder.join("metadata"))?;
    disk::create_folder(&folder.join("targets"))?;
    let root = sign_value(root(keys, now), &[&keys.root])?;
    let targets = sign_value(targets(&keys.teams, now), &[&keys.targets])?;
    let trusted = TrustedMetadataSet::from_root(&root).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let files = online(&trusted, &keys.online, &targets, &Default::default(), &Default::default(), now)?;
    let metadata = folder.join("metadata");
    let mut writes = vec![
        Write { path: metadata.join("1.root.json"), bytes: root },
        Write { path: metadata.join("1.targets.json"), bytes: targets },
    ];
    writes.extend(files.writes(folder));
    carry_out(&writes)?;
    Ok(())
}

fn root(keys: &SoloKeys, now: Timestamp) -> Value {
    let public = [
        keys.root.public(),
        keys.targets.public(),
        keys.online.snapshot.public(),
        keys.online.timestamp.public(),
        keys.director.clone(),
    ];
    let role = |key: &PublicKey| json!({"keyids": [key.id()], "threshold": 1});
    let all: serde_json::Map<String, Value> = public.iter().map(|key| (key.id().0, json!(key))).collect();
    let mut root = json!({
        "_type": "root",
        "spec_version": SPEC_VERSION,
        "version": 1,
        "expires": whole_seconds(now.saturating_add(ROOT_LIFE).unwrap_or(Timestamp::MAX)),
        "consistent_snapshot": true,
        "keys": all,
        "roles": {
            "root": role(&public[0]),
            "targets": role(&public[1]),
            "snapshot": role(&public[2]),
            "timestamp": role(&public[3]),
        },
    });
    root[tuf::DIRECTOR] = role(&public[4]);
    root
}

fn targets(teams: &[TeamKeys], now: Timestamp) -> Value {
    let all = teams.iter().flat_map(|team| team.release.iter().chain([&team.candidate]));
    let keys: serde_json::Map<String, Value> = all.map(|key| (key.id().0, json!(key))).collect();
    let role = |role: TeamRole, keys: &[PublicKey], threshold: usize| {
        json!({
            "name": role.to_string(),
            "keyids": keys.iter().map(PublicKey::id).collect::<Vec<_>>(),
            "threshold": threshold,
            "terminating": true,
            "paths": [role.pattern()],
        })
    };
    let roles = teams.iter().flat_map(|TeamKeys { team, release, threshold, candidate }| {
        let releases = role(TeamRole::release(team.clone()), release, *threshold);
        [releases, role(TeamRole::candidate(team.clone()), std::slice::from_ref(candidate), 1)]
    });
    let roles: Vec<_> = roles.collect();
    json!({
        "_type": "targets",
        "spec_version": SPEC_VERSION,
        "version": 1,
        "expires": whole_seconds(now.saturating_add(TARGETS_LIFE).unwrap_or(Timestamp::MAX)),
        "targets": {},
        "delegations": {"keys": keys, "roles": roles},
    })
}
