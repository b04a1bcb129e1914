//! Reads the repository at start: verifies what `timestamp.json` publishes, removes what a crash left unpublished, and
//! mends a lost timestamp from the newest snapshot that verifies.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use sigstore_tuf::{Error as TufError, TrustedMetadataSet};
use tern_protocol::tuf;

use super::{Keyring, MAX_TEAM_BYTES, Published, TeamRole, carry_out, chain, metadata};
use crate::disk;

/// Before anything expires: what is on our own disk is judged by its signatures, its dates are mended afterwards.
pub(super) const NO_EXPIRY: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn load(folder: &Path, keys: &Keyring, now: Timestamp) -> anyhow::Result<Published> {
    tuf::install_provider();
    let swept = disk::sweep(&folder.join("metadata")).context("sweep the repository")?;
    let root = root(folder)?;
    let published = match published(folder, &root) {
        Ok(published) => published,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the published timestamp does not verify; mending it");
            mend(folder, keys, &root, now).context("mend the repository")?
        }
    };
    let orphans = remove_orphans(folder, &published).context("remove unpublished metadata")?;
    if swept + orphans > 0 {
        tracing::info!(files = swept + orphans, "removed what an interrupted publication left");
    }
    Ok(published)
}

fn root(folder: &Path) -> anyhow::Result<TrustedMetadataSet> {
    let mut trusted = TrustedMetadataSet::from_root(&file(folder, "1.root.json")?)
        .map_err(|e| anyhow::anyhow!(chain(&e)))
        .context("verify 1.root.json")?;
    for version in versions_on_disk(folder, "root")?.into_iter().filter(|version| *version > 1) {
        let bytes = file(folder, &format!("{version}.root.json"))?;
        let updated = trusted.update_root(&bytes).map_err(|e| anyhow::anyhow!(chain(&e)));
        updated.with_context(|| format!("verify {version}.root.json"))?;
    }
    Ok(trusted)
}

fn published(folder: &Path, root: &TrustedMetadataSet) -> anyhow::Result<Published> {
    let timestamp = file(folder, "timestamp.json")?;
    let mut trusted = root.clone();
    trusted.update_timestamp(&timestamp, NO_EXPIRY).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let version = trusted.timestamp().and_then(|t| t.snapshot_meta()).map(|meta| meta.version);
    let version = version.context("timestamp names no snapshot")?;
    below(folder, trusted, &file(folder, &format!("{version}.snapshot.json"))?)
}

/// Verifies everything below a timestamp.
fn below(folder: &Path, mut trusted: TrustedMetadataSet, snapshot: &[u8]) -> anyhow::Result<Published> {
    trusted.update_snapshot(snapshot, NO_EXPIRY).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let meta = trusted.snapshot().map(|s| s.meta.clone()).unwrap_or_default();
    let version_of = |name: &str| meta.get(name).map(|m| m.version);
    let targets = version_of("targets.json").context("snapshot names no targets")?;
    let targets = file(folder, &format!("{targets}.targets.json"))?;
    trusted.update_targets(&targets, NO_EXPIRY).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let mut teams = BTreeMap::new();
    for (name, meta) in &meta {
        let team = name.trim_end_matches(".json");
        if team == "targets" {
            continue;
        }
        let bytes = file(folder, &format!("{}.{name}", meta.version))?;
        match trusted.update_delegated_targets(&bytes, team, "targets", NO_EXPIRY) {
            Ok(_) => {}
            // Its keys are others since a ceremony, or it is no team any more: it counts for nothing until they sign it.
            Err(error @ (TufError::ThresholdNotMet { .. } | TufError::UnknownRole(_))) => {
                tracing::warn!(team, error = chain(&error), "a team's metadata does not count");
            }
            Err(error) => return Err(anyhow::anyhow!(chain(&error)).context(format!("verify {team}"))),
        }
        teams.insert(team.parse::<TeamRole>().with_context(|| format!("team {team}"))?, bytes);
    }
    Ok(Published { trusted, targets, teams })
}

/// Signs a timestamp of the newest snapshot that verifies. A snapshot is written only after its set was proved, so this
/// at most finishes a publication that nobody was told of.
fn mend(folder: &Path, keys: &Keyring, root: &TrustedMetadataSet, now: Timestamp) -> anyhow::Result<Published> {
    let (signers, before) = (keys.online(root.root())?, metadata::Before::of(root));
    for version in versions_on_disk(folder, "snapshot")?.into_iter().rev() {
        let snapshot = file(folder, &format!("{version}.snapshot.json"))?;
        let timestamp = metadata::timestamp(&before, &signers, version, &snapshot, now)?;
        let mut trusted = root.clone();
        trusted.update_timestamp(&timestamp, NO_EXPIRY).map_err(|e| anyhow::anyhow!(chain(&e)))?;
        match below(folder, trusted, &snapshot) {
            Ok(published) => {
                let path = folder.join("metadata/timestamp.json");
                carry_out(&[super::Write { path, bytes: timestamp }])?;
                return Ok(published);
            }
            Err(error) => tracing::warn!(version, error = format!("{error:#}"), "a snapshot does not verify"),
        }
    }
    bail!("no snapshot verifies: restore {} from a backup", folder.display())
}

fn remove_orphans(folder: &Path, published: &Published) -> anyhow::Result<usize> {
    let snapshot = published.trusted.snapshot().map_or(0, |s| s.version);
    let mut removed = 0;
    let teams = published.delegated().into_iter().map(|team| (team.to_string(), published.version_of(&team)));
    for (role, current) in teams.chain([("snapshot".to_owned(), snapshot)]) {
        for version in versions_on_disk(folder, &role)?.into_iter().filter(|version| *version > current) {
            disk::remove(&folder.join(format!("metadata/{version}.{role}.json")))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The versions of a role that are on the disk, in growing order.
pub(super) fn versions_on_disk(folder: &Path, role: &str) -> io::Result<Vec<u64>> {
    let ending = format!(".{role}.json");
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder.join("metadata"))? {
        let name = entry?.file_name();
        versions.extend(name.to_str().and_then(|n| n.strip_suffix(&ending)).and_then(|v| v.parse::<u64>().ok()));
    }
    versions.sort_unstable();
    Ok(versions)
}

pub(super) fn file(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path: PathBuf = folder.join("metadata").join(name);
    let bytes = disk::read(&path, MAX_TEAM_BYTES as u64).with_context(|| format!("read {}", path.display()))?;
    bytes.with_context(|| format!("{} is missing", path.display()))
}
