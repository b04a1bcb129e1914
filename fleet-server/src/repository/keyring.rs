//! The server's own keys: every `*.key` file in the data folder's `keys/`, used for what root names them for and nothing
//! else. Several may lie there for a role, as in a rotation: all that count sign, so that a device which knows only some of
//! them is served too.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use sigstore_tuf::Root;
use tern_protocol::{
    keys::{KeyId, KeySet, SigningKey},
    tuf,
};

use super::chain;
use crate::keyfile;

/// Root names a key of the server's that is not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "root wants {threshold} of its {role} keys to sign, and {found} of them lie in the server's keys/: restore the key file \
     from a backup, or make a key with `tern-server keys new {role}` and name it in a ceremony{}",
    and_unreadable(.unreadable)
)]
pub struct KeyMissing {
    /// The role: `snapshot`, `timestamp`, `director` or, of a solo fleet, `targets`.
    pub role: &'static str,
    /// How many must sign.
    pub threshold: usize,
    /// How many are here.
    pub found: usize,
    /// What is wrong with files that may be those.
    pub unreadable: Vec<String>,
}

fn and_unreadable(files: &[String]) -> String {
    if files.is_empty() { String::new() } else { format!("; not read was: {}", files.join("; ")) }
}

/// The keys that sign freshness now.
#[derive(Debug, Clone)]
pub struct OnlineKeys {
    /// The snapshot role's.
    pub snapshot: Vec<Arc<SigningKey>>,
    /// The timestamp role's.
    pub timestamp: Vec<Arc<SigningKey>>,
}

impl OnlineKeys {
    /// One key each.
    pub fn new(snapshot: SigningKey, timestamp: SigningKey) -> Self {
        Self { snapshot: vec![Arc::new(snapshot)], timestamp: vec![Arc::new(timestamp)] }
    }
}

/// Every key of the server.
#[derive(Debug, Clone)]
pub struct Keyring {
    folder: PathBuf,
    keys: BTreeMap<KeyId, (String, Arc<SigningKey>)>,
    /// Why other files are no keys; they may be of no use anyhow.
    unreadable: Vec<String>,
}

impl Keyring {
    /// The keys in `folder`. A file that cannot be read is said, and told again by [`KeyMissing`] where keys are missing.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let (mut keys, mut unreadable) = (BTreeMap::new(), Vec::new());
        for name in key_files(folder).with_context(|| format!("read {}", folder.display()))? {
            match keyfile::read(&folder.join(&name)) {
                Ok(key) => drop(keys.insert(key.public().id(), (name, Arc::new(key)))),
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(file = name, error, "a key file of the server is not used");
                    unreadable.push(error);
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), keys, unreadable })
    }

    /// These keys, of no folder.
    #[cfg(test)]
    pub(crate) fn of(keys: impl IntoIterator<Item = SigningKey>) -> Self {
        let keys = keys.into_iter().map(|key| (key.public().id(), (String::new(), Arc::new(key)))).collect();
        Self { folder: PathBuf::new(), keys, unreadable: Vec::new() }
    }

    /// The same folder, read again.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn reopened(&self) -> anyhow::Result<Self> {
        Self::open(&self.folder)
    }

    /// The keys here that sign for a role of `root`.
    ///
    /// # Errors
    /// [`KeyMissing`] where they are too few.
    pub fn of_role(&self, root: &Root, role: &'static str) -> Result<Vec<Arc<SigningKey>>, KeyMissing> {
        let director = tuf::director_keys(root).ok();
        let other = root.role(role);
        let counts = |id: &KeyId| match role {
            "director" => director.as_ref().is_some_and(|keys| keys.get(id).is_some()),
            _ => other.is_some_and(|keys| keys.keyids.contains(&id.0)),
        };
        let threshold = match role {
            "director" => director.as_ref().map_or(1, KeySet::threshold),
            _ => other.map_or(1, |keys| keys.threshold),
        };
        let own: Vec<_> = self.keys.iter().filter(|(id, _)| counts(id)).map(|(_, (_, key))| key.clone()).collect();
        if own.is_empty() || own.len() < threshold {
            return Err(KeyMissing { role, threshold, found: own.len(), unreadable: self.unreadable.clone() });
        }
        Ok(own)
    }

    /// The keys that sign freshness under `root`.
    ///
    /// # Errors
    /// [`KeyMissing`].
    pub fn online(&self, root: &Root) -> Result<OnlineKeys, KeyMissing> {
        Ok(OnlineKeys { snapshot: self.of_role(root, "snapshot")?, timestamp: self.of_role(root, "timestamp")? })
    }

    /// Whether the keys here suffice for what people must decide on: whoever takes this machine then takes the fleet.
    pub fn is_solo(&self, root: &Root) -> bool {
        ["root", "targets"].into_iter().any(|role| self.of_role(root, role).is_ok())
    }

    /// The key files here that counted under a root of `before` and do not under `root`, and those that `init` laid for the
    /// operator and that are not among `teams`, the ids of the teams' keys. Paths from the data folder. A key that was made
    /// for a ceremony to come is in neither.
    pub fn useless(&self, before: &[Root], root: &Root, teams: &[String]) -> Vec<String> {
        let gone = |id: &KeyId| before.iter().any(|before| counts(before, id)) && !counts(root, id);
        let own = self.keys.iter().filter(|(id, _)| gone(id)).map(|(_, (name, _))| format!("keys/{name}"));
        let operator = self.folder.with_file_name("operator");
        let laid = key_files(&operator).unwrap_or_default();
        let laid = laid
            .into_iter()
            .filter(|name| keyfile::read(&operator.join(name)).is_ok_and(|key| !teams.contains(&key.public().id().0)));
        own.chain(laid.map(|name| format!("operator/{name}"))).collect()
    }
}

/// Whether `root` names this key for anything.
fn counts(root: &Root, id: &KeyId) -> bool {
    let is_director = tuf::director_keys(root).is_ok_and(|director| director.get(id).is_some());
    is_director || root.roles.values().any(|role| role.keyids.contains(&id.0))
}

fn key_files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| name.ends_with(".key")));
    }
    names.sort();
    Ok(names)
}
