//! Reads the repository at start: verifies what `timestamp.json` publishes, removes what a crash left unpublished, and
//! mends a lost timestamp or snapshot from the newest lists that verify.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use jiff::Timestamp;
use sigstore_tuf::{
    Error as TufError, Metadata, Role, Root, Snapshot, Targets, TrustedMetadataSet,
    metadata::{Delegations, Timestamp as Freshness},
};
use tern_protocol::tuf;

use super::{
    Keyring, MAX_TEAM_BYTES, Published, TeamRole, carry_out, chain,
    metadata::{self, Before},
};
use crate::{ceremony::signing::verify_targets, disk};

/// Before anything expires: what is on our own disk is judged by its signatures, its dates are mended afterwards.
pub(super) const NO_EXPIRY: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn load(folder: &Path, keys: &Keyring, now: Timestamp) -> anyhow::Result<Published> {
    tuf::install_provider();
    let swept = disk::sweep(&folder.join("metadata")).context("sweep the repository")?;
    let root = root(folder)?;
    let published = match published(folder, &root) {
        Ok(published) => published,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "what is published does not verify; mending it");
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

/// Publishes anew the newest targets and lists on the disk that count. Each was proved before it was written, so this at most
/// finishes a publication that nobody was told of, and takes none back that devices have seen. Above every counter that
/// still verifies: the lost timestamp's was that of its snapshot.
fn mend(folder: &Path, keys: &Keyring, root: &TrustedMetadataSet, now: Timestamp) -> anyhow::Result<Published> {
    let signers = keys.online(root.root())?;
    let targets = newest(folder, "targets", |bytes| verify_targets(root, bytes, NO_EXPIRY).is_ok())?;
    let lost = || format!("no targets verify: restore {} from a backup", folder.display());
    let (_, targets) = targets.with_context(lost)?;
    let delegations = Metadata::<Targets>::from_slice(&targets).map_err(|e| anyhow::anyhow!(chain(&e)))?;
    let delegations = delegations.into_signed().delegations;
    let (mut teams, mut versions) = (BTreeMap::new(), BTreeMap::new());
    for role in roles_on_disk(folder)? {
        let name = role.to_string();
        // A list whose keys are others since a ceremony stays listed until they sign it, so that it never goes back.
        let counting = newest(folder, &name, |bytes| counts(delegations.as_ref(), &name, bytes))?;
        let Some((version, bytes)) =
            counting.map_or_else(|| newest(folder, &name, |_| true), |found| Ok(Some(found)))?
        else {
            continue;
        };
        teams.insert(role.clone(), bytes);
        versions.insert(role, version);
    }
    let files = metadata::online(&counter(folder, root)?, &signers, &targets, &teams, &versions, now)?;
    let trusted = Published::prove(root.clone(), &files, &targets, &teams, None, NO_EXPIRY)?;
    carry_out(&files.writes(folder))?;
    Ok(Published { trusted, targets, teams })
}

/// Whether a list carries enough signatures of the keys that targets name for it.
fn counts(delegations: Option<&Delegations>, role: &str, bytes: &[u8]) -> bool {
    let Ok(list) = Metadata::<Targets>::from_slice(bytes) else { return false };
    let delegated = delegations.and_then(|all| Some((all, all.roles.iter().find(|delegated| delegated.name == role)?)));
    delegated.is_some_and(|(all, delegated)| list.verify_threshold(&all.keys, &delegated.role_keys(), role).is_ok())
}

/// The highest version of snapshot or timestamp on the disk that verifies.
fn counter(folder: &Path, root: &TrustedMetadataSet) -> anyhow::Result<Before> {
    let root = root.root();
    let snapshot = |bytes: &[u8]| verifies::<Snapshot>(root, "snapshot", bytes).is_some();
    let snapshot = newest(folder, "snapshot", snapshot)?.map(|(version, _)| version);
    let timestamp = file(folder, "timestamp.json").ok();
    let timestamp = timestamp.and_then(|bytes| verifies::<Freshness>(root, "timestamp", &bytes));
    Ok(Before::highest(snapshot.into_iter().chain(timestamp.map(|timestamp| timestamp.version))))
}

fn verifies<T: Role>(root: &Root, role: &str, bytes: &[u8]) -> Option<T> {
    let metadata = Metadata::<T>::from_slice(bytes).ok()?;
    metadata.verify_threshold(&root.keys, root.role(role)?, role).ok()?;
    Some(metadata.into_signed())
}

/// The newest file of a role that says the version of its name and that `fits`.
fn newest(folder: &Path, role: &str, fits: impl Fn(&[u8]) -> bool) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
    for version in versions_on_disk(folder, role)?.into_iter().rev() {
        let bytes = file(folder, &format!("{version}.{role}.json"))?;
        if metadata::version_in(&bytes).is_ok_and(|found| found == version) && fits(&bytes) {
            return Ok(Some((version, bytes)));
        }
        tracing::warn!(version, role, "a file of the repository does not verify");
    }
    Ok(None)
}

/// The roles of teams that have a file on the disk.
fn roles_on_disk(folder: &Path) -> io::Result<BTreeSet<TeamRole>> {
    let mut roles = BTreeSet::new();
    for entry in fs::read_dir(folder.join("metadata"))? {
        let name = entry?.file_name();
        let role = name.to_str().and_then(|name| name.strip_suffix(".json")?.split_once('.'));
        let role = role.filter(|(_, role)| !["root", "targets", "snapshot"].contains(role));
        roles.extend(role.and_then(|(_, role)| role.parse::<TeamRole>().ok()));
    }
    Ok(roles)
}

fn remove_orphans(folder: &Path, published: &Published) -> anyhow::Result<usize> {
    let snapshot = published.trusted.snapshot().map_or(0, |s| s.version);
    let mut removed = 0;
    let teams = published.delegated().into_iter().map(|team| (team.to_string(), published.version_of(&team)));
    let targets = metadata::version_in(&published.targets)?;
    for (role, current) in teams.chain([("snapshot".to_owned(), snapshot), ("targets".to_owned(), targets)]) {
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
