//! Makes the roles that the server signs, and proves each new set with the client's rules before it is written.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use sigstore_tuf::{Error as TufError, Root, TrustedMetadataSet};
use tern_protocol::{digest::Digest, keys::SigningKey, signed::sign_value, tuf};

use super::{ONLINE_LIFE, OnlineKeys, PublishRefusal, Published, TeamRole, Write, chain, load};
use crate::{
    ceremony::trust::{SPEC_VERSION, TARGETS_LIFE},
    director::whole_seconds,
};

impl Published {
    /// This set with another metadata of `team`, and the files to write for it.
    pub(super) fn with_team(
        &self,
        folder: &Path,
        keys: &OnlineKeys,
        team: &TeamRole,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(Self, Vec<Write>), PublishRefusal> {
        let version = self.next_of(team)?;
        let mut teams = self.teams.clone();
        teams.insert(team.clone(), bytes.to_vec());
        let mut versions = self.versions();
        versions.insert(team.clone(), version);
        let files = online(&Before::of(&self.trusted), keys, &self.targets, &teams, &versions, now)
            .map_err(PublishRefusal::Failed)?;
        let trusted = Self::prove(self.trusted.clone(), &files, &self.targets, &teams, Some(team), now)?;
        let path = folder.join(format!("metadata/{version}.{team}.json"));
        let mut writes = vec![Write { path, bytes: bytes.to_vec() }];
        writes.extend(files.writes(folder));
        Ok((Self { trusted, targets: self.targets.clone(), teams }, writes))
    }

    /// This set with younger snapshot and timestamp, and the files to write for it.
    pub(super) fn signed_anew(
        &self,
        folder: &Path,
        keys: &OnlineKeys,
        now: Timestamp,
    ) -> anyhow::Result<(Self, Vec<Write>)> {
        let files = online(&Before::of(&self.trusted), keys, &self.targets, &self.teams, &self.versions(), now)?;
        let trusted = Self::prove(self.trusted.clone(), &files, &self.targets, &self.teams, None, now)?;
        let writes = files.writes(folder).into();
        Ok((Self { trusted, ..self.clone() }, writes))
    }

    /// This set with the same targets under the next version and a later end, and the files to write for it.
    pub(super) fn with_new_targets(
        &self,
        folder: &Path,
        keys: &OnlineKeys,
        own: &[Arc<SigningKey>],
        authorities: Option<(Digest, usize)>,
        now: Timestamp,
    ) -> anyhow::Result<(Self, Vec<Write>)> {
        let mut envelope: Value = serde_json::from_slice(&self.targets).context("read targets")?;
        let version = version_in(&self.targets)?.saturating_add(1);
        let mut signed = envelope["signed"].take();
        signed["version"] = json!(version);
        signed["expires"] = json!(whole_seconds(now.saturating_add(TARGETS_LIFE).unwrap_or(Timestamp::MAX)));
        if let Some((digest, length)) = authorities {
            signed["targets"][tuf::CA_BUNDLE] = json!({"length": length, "hashes": {"sha256": digest}});
        }
        let targets = sign_value(signed, &refs(own)).context("sign targets")?;
        let files = online(&Before::of(&self.trusted), keys, &targets, &self.teams, &self.versions(), now)?;
        let trusted = Self::prove(self.trusted.clone(), &files, &targets, &self.teams, None, now)?;
        let path = folder.join(format!("metadata/{version}.targets.json"));
        let mut writes = vec![Write { path, bytes: targets.clone() }];
        writes.extend(files.writes(folder));
        Ok((Self { trusted, targets, teams: self.teams.clone() }, writes))
    }

    pub(super) fn versions(&self) -> BTreeMap<TeamRole, u64> {
        self.teams.keys().map(|team| (team.clone(), self.version_of(team))).collect()
    }

    /// Walks through the client's update from `start`, what it may have, to the new files.
    pub(super) fn prove(
        start: TrustedMetadataSet,
        files: &Online,
        targets: &[u8],
        teams: &BTreeMap<TeamRole, Vec<u8>>,
        changed: Option<&TeamRole>,
        now: Timestamp,
    ) -> Result<TrustedMetadataSet, PublishRefusal> {
        let own = |e: TufError| PublishRefusal::Failed(anyhow::anyhow!(chain(&e)).context("prove the new metadata"));
        let mut trusted = start;
        trusted.update_timestamp(&files.timestamp, now).map_err(own)?;
        trusted.update_snapshot(&files.snapshot, now).map_err(own)?;
        trusted.update_targets(targets, now).map_err(own)?;
        for (team, bytes) in teams {
            // Another team's may have expired: that is for that team to mend, and what it recalled stays recalled here.
            let at = if changed == Some(team) { now } else { load::NO_EXPIRY };
            match trusted.update_delegated_targets(bytes, &team.to_string(), "targets", at) {
                Err(error) if changed == Some(team) => return Err(refusal(error)),
                // Its keys are others since a ceremony.
                Err(error) => tracing::warn!(%team, error = chain(&error), "a team's metadata does not count"),
                Ok(_) => {}
            }
        }
        Ok(trusted)
    }
}

fn refusal(error: TufError) -> PublishRefusal {
    match error {
        TufError::ThresholdNotMet { found, threshold, .. } => PublishRefusal::UnderThreshold { found, threshold },
        TufError::Expired { expires, .. } => PublishRefusal::Expired(expires),
        other => PublishRefusal::Unacceptable(chain(&other)),
    }
}

/// The last version of a role: the highest number that every reader of JSON agrees on.
pub(super) const END: u64 = (1 << 53) - 1;

/// A snapshot and the timestamp that names it.
pub(super) struct Online {
    version: u64,
    pub(super) snapshot: Vec<u8>,
    pub(super) timestamp: Vec<u8>,
}

impl Online {
    /// The files in the order in which they must be written.
    pub(super) fn writes(&self, folder: &Path) -> [Write; 2] {
        let snapshot = folder.join(format!("metadata/{}.snapshot.json", self.version));
        [
            Write { path: snapshot, bytes: self.snapshot.clone() },
            Write { path: folder.join("metadata/timestamp.json"), bytes: self.timestamp.clone() },
        ]
    }
}

/// The counter above which the next snapshot and timestamp must lie. They share one, so that the snapshot's file name tells
/// what the timestamp's was, should that be lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before(u64);

impl Before {
    /// What was published last.
    pub(super) fn of(trusted: &TrustedMetadataSet) -> Self {
        Self::under(trusted.root(), trusted)
    }

    /// The same where `root` follows: a role starts anew under other keys, as its floor on devices does. So a counter that
    /// a thief ran to its end ends with the stolen key.
    pub(super) fn under(root: &Root, trusted: &TrustedMetadataSet) -> Self {
        let same = |role: &str| tuf::top_key_set(root, role) == tuf::top_key_set(trusted.root(), role);
        let snapshot = trusted.snapshot().map(|s| s.version).filter(|_| same("snapshot"));
        let timestamp = trusted.timestamp().map(|t| t.version).filter(|_| same("timestamp"));
        Self::highest(snapshot.into_iter().chain(timestamp))
    }

    /// The highest of these.
    pub(super) fn highest(versions: impl IntoIterator<Item = u64>) -> Self {
        Self(versions.into_iter().max().unwrap_or(0))
    }

    /// One more, and not less than the seconds of time, so that a server restored from a backup is not behind its devices.
    fn next(self, now: Timestamp) -> anyhow::Result<u64> {
        ensure!(
            self.0 < END,
            "the counter of snapshot and timestamp is at its end, where somebody with the server's keys ran it: make others \
             with `tern-server keys new snapshot` and `tern-server keys new timestamp`, and name them in a ceremony"
        );
        Ok((self.0 + 1).max(u64::try_from(now.as_second()).unwrap_or(0)))
    }
}

/// Signs a snapshot of these roles and its timestamp, with versions above `before`.
pub(super) fn online(
    before: &Before,
    keys: &OnlineKeys,
    targets: &[u8],
    teams: &BTreeMap<TeamRole, Vec<u8>>,
    versions: &BTreeMap<TeamRole, u64>,
    now: Timestamp,
) -> anyhow::Result<Online> {
    let mut meta = BTreeMap::from([("targets.json".to_owned(), meta_file(version_in(targets)?, targets))]);
    for (team, bytes) in teams {
        let version = versions.get(team).copied().context("invariant: every team's metadata has a version")?;
        meta.insert(format!("{team}.json"), meta_file(version, bytes));
    }
    let version = before.next(now)?;
    let snapshot = role("snapshot", version, now, json!(meta));
    let snapshot = sign_value(snapshot, &refs(&keys.snapshot)).context("sign the snapshot")?;
    let mut timestamp = role("timestamp", version, now, json!({"snapshot.json": meta_file(version, &snapshot)}));
    timestamp[tuf::ISSUED] = json!(whole_seconds(now));
    let timestamp = sign_value(timestamp, &refs(&keys.timestamp)).context("sign the timestamp")?;
    Ok(Online { version, snapshot, timestamp })
}

fn refs(keys: &[Arc<SigningKey>]) -> Vec<&SigningKey> {
    keys.iter().map(AsRef::as_ref).collect()
}

fn role(kind: &str, version: u64, now: Timestamp, meta: Value) -> Value {
    let expires = whole_seconds(now.saturating_add(ONLINE_LIFE).unwrap_or(Timestamp::MAX));
    json!({
        "_type": kind, "spec_version": SPEC_VERSION, "version": version, "expires": expires, "meta": meta,
    })
}

fn meta_file(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": Digest::of(bytes)}})
}

pub(super) fn version_in(bytes: &[u8]) -> anyhow::Result<u64> {
    let value: Value = serde_json::from_slice(bytes).context("read metadata")?;
    value["signed"]["version"].as_u64().context("metadata has no version")
}
