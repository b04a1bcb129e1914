//! What this machine has signed, by role and key: the reason to sign it once more when the next version joins the list,
//! and not to sign a list that has forgotten a recall or a floor.
//!
//! Without it a server that lies about the present list could have anything signed. One file a team and key beside the
//! configuration, since what a trial's key signed says nothing about what another may sign. Format 1, JSON; a reader
//! refuses other formats, and `--accept-existing` starts a lost record anew.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tern_protocol::{ids::ModelId, keys::KeyId, standing::Standing};

use crate::{
    disk::{self, Access},
    repository::TeamRole,
};

const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    targets: BTreeMap<String, Value>,
    #[serde(default)]
    standings: BTreeMap<ModelId, Standing>,
}

/// What was signed of one role: TUF's target objects by path. And what its published lists say of models besides: not
/// what was merely signed, for a proposal may come to nothing.
pub(super) struct Record {
    place: Option<PathBuf>,
    targets: BTreeMap<String, Value>,
    standings: BTreeMap<ModelId, Standing>,
}

impl Record {
    /// What `key` signed for `role`, by the folder of the configuration; an empty record where there is none yet.
    pub(super) fn load(folder: Option<&std::path::Path>, role: &TeamRole, key: &KeyId) -> anyhow::Result<Self> {
        let empty = || File { format: FORMAT, targets: BTreeMap::new(), standings: BTreeMap::new() };
        let Some(folder) = folder else {
            let File { targets, standings, .. } = empty();
            return Ok(Self { place: None, targets, standings });
        };
        let place = folder.join("signed").join(format!("{role}-{key}.json"));
        let read = || -> anyhow::Result<File> {
            let Some(bytes) = disk::read(&place, MAX_BYTES)? else { return Ok(empty()) };
            let file: File = serde_json::from_slice(&bytes).context("it is damaged: move it away")?;
            if file.format != FORMAT {
                bail!("format {} is not known: update tern", file.format);
            }
            Ok(file)
        };
        let file = read().with_context(|| format!("record of signed versions {}", place.display()))?;
        Ok(Self { place: Some(place), targets: file.targets, standings: file.standings })
    }

    /// Gives `new` what `old` has signed, role by role: they are one person's, one key after the other.
    pub(super) fn hand_over(folder: &std::path::Path, old: &KeyId, new: &KeyId) -> anyhow::Result<()> {
        let signed = folder.join("signed");
        if !signed.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&signed).with_context(|| format!("read {}", signed.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(role) = name.strip_suffix(&format!("-{old}.json")) else { continue };
            let role: TeamRole = role.parse().with_context(|| format!("the role of record {name}"))?;
            let before = Self::load(Some(folder), &role, old)?;
            Self { place: Some(signed.join(format!("{role}-{new}.json"))), ..before }.write()?;
        }
        Ok(())
    }

    /// What the newest published list that was seen says of models.
    pub(super) fn standings(&self) -> &BTreeMap<ModelId, Standing> {
        &self.standings
    }

    /// Whether exactly this was signed here.
    pub(super) fn holds(&self, path: &str, target: &Value) -> bool {
        self.targets.get(path) == Some(target)
    }

    /// Remembers all of `targets`, durably: to be called before they leave this machine signed.
    pub(super) fn add(&mut self, targets: &BTreeMap<String, Value>) -> anyhow::Result<()> {
        self.targets.extend(targets.iter().map(|(path, target)| (path.clone(), target.clone())));
        self.write()
    }

    /// Remembers what a published list says of models, durably; only of one that was found good to sign on.
    pub(super) fn saw(&mut self, standings: BTreeMap<ModelId, Standing>) -> anyhow::Result<()> {
        if self.standings == standings {
            return Ok(());
        }
        self.standings = standings;
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let folder = place.parent().context("folder of the record")?;
        let file = File { format: FORMAT, targets: self.targets.clone(), standings: self.standings.clone() };
        let written = || -> anyhow::Result<()> {
            if !folder.is_dir() {
                disk::create_folder(folder)?;
            }
            Ok(disk::write(place, &serde_json::to_vec(&file)?, Access::Private)?)
        };
        written().with_context(|| format!("writing {}", place.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_signed_is_remembered_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let (team, key) = ("demo".parse().unwrap(), KeyId("aa".into()));
        let target = json!({"length": 3, "hashes": {"sha256": "aa"}});
        let mut record = Record::load(Some(folder.path()), &team, &key).unwrap();
        assert!(!record.holds("p", &target));
        let standings: BTreeMap<ModelId, Standing> =
            serde_json::from_value(json!({"m": {"floor": "1.0.0", "recalled": {"1.1.0": "x"}}})).unwrap();
        record.add(&BTreeMap::from([("p".into(), target.clone())])).unwrap();
        record.saw(standings.clone()).unwrap();
        let again = Record::load(Some(folder.path()), &team, &key).unwrap();
        assert!(again.holds("p", &target));
        assert_eq!(again.standings(), &standings);
        assert!(!again.holds("p", &json!({"length": 4, "hashes": {"sha256": "aa"}})));
        for (team, key) in [("other", "aa"), ("demo", "bb"), ("demo.candidate", "aa")] {
            let record = Record::load(Some(folder.path()), &team.parse().unwrap(), &KeyId(key.into())).unwrap();
            assert!(!record.holds("p", &target), "{team} {key}");
        }
    }

    #[test]
    fn a_successor_has_what_its_predecessor_signed_of_every_role_and_no_stranger_has() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, other] = ["aa", "bb", "cc"].map(|id| KeyId(id.into()));
        Record::hand_over(folder.path(), &old, &new).unwrap();
        let target = json!({"length": 3, "hashes": {"sha256": "aa"}});
        let standings: BTreeMap<ModelId, Standing> =
            serde_json::from_value(json!({"m": {"recalled": {"1.1.0": "x"}}})).unwrap();
        let roles = ["demo", "demo.candidate"].map(|role| role.parse::<TeamRole>().unwrap());
        for role in &roles {
            let mut record = Record::load(Some(folder.path()), role, &old).unwrap();
            record.add(&BTreeMap::from([("p".into(), target.clone())])).unwrap();
            record.saw(standings.clone()).unwrap();
        }
        Record::hand_over(folder.path(), &old, &new).unwrap();
        for (role, key) in roles.iter().flat_map(|role| [(role, &old), (role, &new)]) {
            let record = Record::load(Some(folder.path()), role, key).unwrap();
            assert!(record.holds("p", &target), "{role} {key}");
            assert_eq!(record.standings(), &standings, "{role} {key}");
        }
        let stranger = Record::load(Some(folder.path()), &roles[0], &other).unwrap();
        assert!(!stranger.holds("p", &target) && stranger.standings().is_empty());
    }

    #[test]
    fn a_damaged_record_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        disk::create_folder(&folder.path().join("signed")).unwrap();
        for text in ["", "{", r#"{"format":2,"targets":{}}"#] {
            disk::write(&folder.path().join("signed/demo-aa.json"), text.as_bytes(), Access::Private).unwrap();
            assert!(
                Record::load(Some(folder.path()), &"demo".parse().unwrap(), &KeyId("aa".into())).is_err(),
                "{text}"
            );
        }
    }
}
