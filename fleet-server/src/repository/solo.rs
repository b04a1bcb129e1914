//! Makes a repository whose every key lies on this machine: for trials, never for production.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use sigstore_tuf::TrustedMetadataSet;
use tern_protocol::{
    ids::TeamId,
    keys::{PublicKey, SigningKey},
    signed::sign_value,
    tuf,
};

use super::{
    OnlineKeys, Write, carry_out, chain,
    metadata::{Before, online},
};
use crate::{
    ceremony::trust::{Edition, ROOT_LIFE, RoleKeys, RootTrust, TARGETS_LIFE, TargetsTrust, TeamTrust},
    disk,
};

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
    let root = root(keys).document(Edition::after(None, ROOT_LIFE, now));
    let root = sign_value(root, &[&keys.root])?;
    let targets = targets(&keys.teams).document(Edition::after(None, TARGETS_LIFE, now));
    let targets = sign_value(targets, &[&keys.targets])?;
    let trusted = TrustedMetadataSet::from_root(&root).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let files = online(&Before::of(&trusted), &keys.online, &targets, &Default::default(), &Default::default(), now)?;
    let metadata = folder.join("metadata");
    let mut writes = vec![
        Write { path: metadata.join("1.root.json"), bytes: root },
        Write { path: metadata.join("1.targets.json"), bytes: targets },
    ];
    writes.extend(files.writes(folder));
    carry_out(&writes)?;
    Ok(())
}

fn root(keys: &SoloKeys) -> RootTrust {
    let any = |keys: &[Arc<SigningKey>]| RoleKeys::new(1, keys.iter().map(|key| key.public()));
    RootTrust {
        root: RoleKeys::one(keys.root.public()),
        targets: RoleKeys::one(keys.targets.public()),
        snapshot: any(&keys.online.snapshot),
        timestamp: any(&keys.online.timestamp),
        director: RoleKeys::one(keys.director.clone()),
    }
}

fn targets(teams: &[TeamKeys]) -> TargetsTrust {
    let trust = |keys: &TeamKeys| TeamTrust {
        release: RoleKeys::new(keys.threshold, keys.release.iter().cloned()),
        candidate: Some(RoleKeys::one(keys.candidate.clone())),
    };
    TargetsTrust { teams: teams.iter().map(|keys| (keys.team.clone(), trust(keys))).collect(), ca_bundle: None }
}
