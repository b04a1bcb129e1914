//! A repository with every key in hand: an honest publication that a test changes before it is signed, with exactly the
//! keys that its attacker holds.
//!
//! Root 2 of 3, targets 2 of 3, the team 2 of 2; candidate, snapshot, timestamp and director one key each.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tern_protocol::{api, digest::Digest, keys::SigningKey, signed::sign_value, tuf};

use super::release::{Release, TEAM};

pub(crate) type Key = Arc<SigningKey>;
/// Files by the path that a device asks for.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

const DAY: u64 = 24 * 3600;

pub(crate) struct Keys {
    pub(crate) root: [Key; 3],
    pub(crate) targets: [Key; 3],
    pub(crate) team: [Key; 2],
    pub(crate) candidate: Key,
    pub(crate) snapshot: Key,
    pub(crate) timestamp: Key,
    pub(crate) director: Key,
}

/// The key in a server's data folder.
pub(crate) fn key_in(data: &Path, name: &str) -> Key {
    Arc::new(tern_fleet_server::keyfile::read(&data.join(name)).unwrap())
}

pub(crate) fn key() -> Key {
    Arc::new(SigningKey::generate().unwrap())
}

/// `days` from now, before now where negative, as metadata says it.
pub(crate) fn in_days(days: i64) -> String {
    let (now, distance) = (tern_fleet_server::clock::now(), Duration::from_secs(days.unsigned_abs() * DAY));
    let then = if days < 0 { now - distance } else { now + distance };
    format!("{}Z", &then.to_string()[..19])
}

/// Key ids and threshold, as root and delegations name them.
fn role(keys: &[&Key], threshold: usize) -> Value {
    json!({"keyids": keys.iter().map(|key| key.public().id()).collect::<Vec<_>>(), "threshold": threshold})
}

fn listed<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Value {
    keys.into_iter().map(|key| (key.public().id().0, serde_json::to_value(key.public()).unwrap())).collect()
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            root: [key(), key(), key()],
            targets: [key(), key(), key()],
            team: [key(), key()],
            candidate: key(),
            snapshot: key(),
            timestamp: key(),
            director: key(),
        }
    }

    /// The root of these keys.
    pub(crate) fn root(&self, version: u64) -> Role {
        let all = self.root.iter().chain(&self.targets).chain([&self.snapshot, &self.timestamp, &self.director]);
        let two_of = |keys: &[Key; 3]| role(&keys.iter().collect::<Vec<_>>(), 2);
        let signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": version, "expires": in_days(1000),
            "consistent_snapshot": true, "keys": listed(all),
            "roles": {
                "root": two_of(&self.root), "targets": two_of(&self.targets),
                "snapshot": role(&[&self.snapshot], 1), "timestamp": role(&[&self.timestamp], 1),
            },
            tuf::DIRECTOR: role(&[&self.director], 1),
        });
        Role { signed, signers: self.root[..2].to_vec() }
    }
}

/// A role before it is signed.
#[derive(Clone)]
pub(crate) struct Role {
    pub(crate) signed: Value,
    pub(crate) signers: Vec<Key>,
}

impl Role {
    fn new(kind: &str, version: u64, expires: i64, rest: Value, signers: &[Key]) -> Self {
        let mut signed =
            json!({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": in_days(expires)});
        signed.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        Self { signed, signers: signers.to_vec() }
    }

    pub(crate) fn version(&self) -> u64 {
        self.signed["version"].as_u64().unwrap()
    }

    pub(crate) fn set(&mut self, member: &str, value: impl Into<Value>) {
        self.signed[member] = value.into();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        sign_value(self.signed.clone(), &self.signers.iter().map(|key| &**key).collect::<Vec<_>>()).unwrap()
    }
}

/// Everything that a server serves of its repository.
pub(crate) struct Publication {
    /// Roots after the pinned one.
    pub(crate) roots: Vec<Role>,
    pub(crate) timestamp: Role,
    pub(crate) snapshot: Role,
    pub(crate) targets: Role,
    pub(crate) team: Role,
    pub(crate) candidate: Role,
    /// Manifests and blobs.
    pub(crate) content: Files,
}

impl Publication {
    /// Every role with this version, `releases` listed by the team and `candidates` as such.
    pub(crate) fn honest(keys: &Keys, version: u64, releases: &[&Release], candidates: &[&Release]) -> Self {
        let listing = |releases: &[&Release], path: fn(&Release) -> String| {
            let listed = releases.iter().map(|release| (path(release), release.target()));
            json!({"targets": listed.collect::<serde_json::Map<_, _>>()})
        };
        let team = Role::new("targets", version, 365, listing(releases, Release::path), &keys.team);
        let robot = [keys.candidate.clone()];
        let candidate = Role::new("targets", version, 365, listing(candidates, Release::candidate_path), &robot);
        let delegation = |name: &str, keys: Value, path: &str| {
            let mut delegation = json!({"name": name, "terminating": true, "paths": [path]});
            delegation.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            delegation
        };
        let (release_path, candidate_path) =
            (format!("models/{TEAM}/*/*/manifest.json"), format!("candidates/{TEAM}/*/*/manifest.json"));
        let candidate_name = candidate_name();
        let delegations = json!({
            "keys": listed(keys.team.iter().chain([&keys.candidate])),
            "roles": [
                delegation(TEAM, role(&keys.team.iter().collect::<Vec<_>>(), 2), &release_path),
                delegation(&candidate_name, role(&[&keys.candidate], 1), &candidate_path),
            ],
        });
        let rest = json!({"targets": {}, "delegations": delegations});
        let targets = Role::new("targets", version, 365, rest, &keys.targets[..2]);
        let at = |version: u64| json!({"version": version});
        let meta = json!({
            "targets.json": at(version), format!("{TEAM}.json"): at(version),
            format!("{candidate_name}.json"): at(version),
        });
        let snapshot = Role::new("snapshot", version, 7, json!({"meta": meta}), std::slice::from_ref(&keys.snapshot));
        let rest = json!({tuf::ISSUED: in_days(0), "meta": {"snapshot.json": at(version)}});
        let timestamp = Role::new("timestamp", version, 7, rest, std::slice::from_ref(&keys.timestamp));
        let mut content = Files::new();
        for release in releases.iter().chain(candidates) {
            release.add_to(&mut content);
        }
        Self { roots: Vec::new(), timestamp, snapshot, targets, team, candidate, content }
    }

    /// The path of a role's file.
    pub(crate) fn path(name: &str, version: Option<u64>) -> String {
        let version = version.map_or_else(String::new, |version| format!("{version}."));
        format!("{}{version}{name}.json", api::TUF_METADATA)
    }

    /// The files, signed, each role under the name of its own version.
    pub(crate) fn files(&self) -> Files {
        let mut files = self.content.clone();
        for root in &self.roots {
            files.insert(Self::path("root", Some(root.version())), root.bytes());
        }
        files.insert(Self::path("timestamp", None), self.timestamp.bytes());
        let candidate = candidate_name();
        for (name, role) in [
            ("snapshot", &self.snapshot),
            ("targets", &self.targets),
            (TEAM, &self.team),
            (&*candidate, &self.candidate),
        ] {
            files.insert(Self::path(name, Some(role.version())), role.bytes());
        }
        files
    }
}

pub(crate) fn candidate_name() -> String {
    tuf::candidate_role(&TEAM.parse().unwrap())
}

/// The path of a blob.
pub(crate) fn blob_path(bytes: &[u8]) -> String {
    api::blob_path(&Digest::of(bytes))
}
