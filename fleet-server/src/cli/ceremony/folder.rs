//! A ceremony's folder: its files, and nothing that decides.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use jiff::SignedDuration;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tern_protocol::{keys::PublicKey, tuf};

use super::super::{keys::Keys, output::Printer};
use crate::{
    ceremony::{
        signing::{Envelope, Papers, Sheets},
        trust::{CaBundle, RootTrust, TargetsTrust},
        wanted::Wanted,
        words::Names,
    },
    disk::{self, Access},
    keyfile::{self, KeyRotation},
};

/// What expires sooner is made anew.
pub(super) const RENEWAL: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Longest file, in bytes.
const MAX_BYTES: u64 = 5_000_000;

/// The folder that people carry around.
pub(super) struct Folder(pub PathBuf);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        disk::read(&path, MAX_BYTES).with_context(|| format!("read {}", path.display()))
    }

    /// Root and targets, in force and to follow.
    pub(super) fn sheets(&self) -> anyhow::Result<Sheets> {
        Ok(Sheets {
            root: self.read("root.json")?,
            targets: self.read("targets.json")?,
            next_root: self.read("next/root.json")?,
            next_targets: self.read("next/targets.json")?,
        })
    }

    /// Whether the folder says which trust is wanted.
    pub(super) fn is_declared(&self) -> bool {
        self.path("ceremony.toml").is_file()
    }

    /// What is declared.
    pub(super) fn wanted(&self) -> anyhow::Result<Wanted> {
        let path = self.path("ceremony.toml");
        let bytes = self.read("ceremony.toml")?;
        let bytes = bytes.with_context(|| format!("{} is missing: it says which trust is wanted", path.display()))?;
        let text = String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))?;
        Wanted::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// The CA certificates that are declared.
    fn bundle(&self, wanted: &Wanted) -> anyhow::Result<Option<CaBundle>> {
        let Some(name) = &wanted.ca_bundle else { return Ok(None) };
        let bytes = self.read(name)?.with_context(|| format!("the CA bundle {name} is missing"))?;
        let count = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_or(0, |all| all.len());
        ensure!(
            (1..=tuf::MAX_AUTHORITIES).contains(&count) && bytes.len() as u64 <= tuf::MAX_CA_BUNDLE_BYTES,
            "{name} is no CA bundle: take bundle.pem of the server's ca/ folder as `tern-server ca rotate` left it"
        );
        Ok(Some(CaBundle::of(&bytes)))
    }

    /// The trust that is declared; keys that are only in the store here are copied into the folder for the others.
    pub(super) fn trust(
        &self,
        wanted: &Wanted,
        present: &Papers,
        keys: &Keys<'_>,
        printer: &mut Printer<'_>,
    ) -> anyhow::Result<(RootTrust, TargetsTrust)> {
        wanted.trust(self.bundle(wanted)?, |role, called| {
            if called.ends_with(".rotation.json") {
                return self.successor(role, called, present, printer);
            }
            let own = [self.path(called), self.path(&format!("{called}.pub"))].into_iter().find(|file| file.is_file());
            if let Some(file) = own {
                return Ok(keyfile::read_public(&file)?);
            }
            let kept = keys.file(Path::new(called), "pub");
            ensure!(kept.is_file(), "{role} names {called}, but neither the folder nor your keys hold {called}.pub");
            let key = keyfile::read_public(&kept)?;
            if kept != Path::new(called) {
                keyfile::write_public(&self.path(&format!("{called}.pub")), &key)?;
                printer.step(&format!("copied {called}.pub into the folder"))?;
            }
            Ok(key)
        })
    }

    /// The key that follows another in this role, by the word of the one that goes.
    fn successor(
        &self,
        role: &str,
        called: &str,
        present: &Papers,
        printer: &mut Printer<'_>,
    ) -> anyhow::Result<PublicKey> {
        let bytes = self.read(called)?.with_context(|| format!("{role} names {called}, which is missing"))?;
        let rotation = KeyRotation::verify(&bytes).with_context(|| format!("rotation {called}"))?;
        let root = present.root.iter().flat_map(|root| root.content.0.roles());
        let mut roles: BTreeMap<String, _> = root.map(|(name, keys)| (name.to_owned(), keys)).collect();
        roles.extend(present.targets.iter().flat_map(|targets| targets.content.0.roles()));
        let counts = roles.get(role).is_some_and(|keys| keys.keys.contains_key(&rotation.old.id()));
        if !counts {
            bail!("{called} hands over from a key that is not one of {role}'s: take the key's .pub file instead");
        }
        printer.step(&format!("{}'s new key is vouched for by its old one, for {role}", rotation.name))?;
        Ok(rotation.new.clone())
    }

    /// The names of keys: those of the store, and beside them, said to be so, those that the folder's carriers gave.
    pub(super) fn names(&self, keys: &Keys<'_>) -> anyhow::Result<Names> {
        let mut names = Names::default();
        let places = [(keys.store().ok(), ""), (Some(self.0.as_path()), " by the folder")];
        let places = places.into_iter().filter_map(|(place, said)| Some((place.filter(|p| p.is_dir())?, said)));
        for (folder, said) in places {
            for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let Some(name) = name.strip_suffix(".pub") else { continue };
                if let Ok(key) = keyfile::read_public(&path) {
                    names.0.entry(key.id()).or_insert_with(|| format!("{name}{said}"));
                }
            }
        }
        Ok(names)
    }

    /// Whether what was to follow is in force already, or older, by the versions of root and targets that are.
    pub(super) fn is_spent(&self, (root, targets): (u64, u64)) -> anyhow::Result<bool> {
        for (name, in_force) in [("next/root.json", root), ("next/targets.json", targets)] {
            let there = self.read(name)?.and_then(|bytes| serde_json::from_slice::<Envelope>(&bytes).ok());
            if there
                .is_some_and(|envelope| envelope.signed["version"].as_u64().is_none_or(|version| version > in_force))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Refuses to lose signatures that people gave, unless they are to be thrown away.
    pub(super) fn keep_signatures(&self, discard: bool) -> anyhow::Result<()> {
        let mut given = 0;
        for name in ["next/root.json", "next/targets.json"] {
            let there = self.read(name)?.and_then(|bytes| serde_json::from_slice::<Envelope>(&bytes).ok());
            given += there.map_or(0, |envelope| envelope.given());
        }
        ensure!(
            discard || given == 0,
            "{} holds {given} signatures over what was prepared before, which this would throw away: publish it first, or run \
             this again with --discard",
            self.path("next").display()
        );
        Ok(())
    }

    /// Forgets what was to follow.
    pub(super) fn clear_next(&self) -> anyhow::Result<()> {
        disk::remove_tree(&self.path("next")).context("remove next/")
    }

    /// Writes what is to follow, unsigned; says whether the same was there already, which then keeps its signatures.
    pub(super) fn put_next(&self, root: Option<Value>, targets: Option<Value>, discard: bool) -> anyhow::Result<bool> {
        let same = |name: &str, wanted: &Option<Value>| -> anyhow::Result<bool> {
            let there = self.read(name)?.and_then(|bytes| serde_json::from_slice::<Envelope>(&bytes).ok());
            Ok(match (there, wanted) {
                (None, None) => true,
                (Some(mut there), Some(wanted)) => {
                    // Only the second at which it was prepared differs.
                    for member in ["expires", tuf::ISSUED] {
                        if let Some(time) = there.signed.get_mut(member) {
                            *time = wanted[member].clone();
                        }
                    }
                    there.signed == *wanted
                }
                _ => false,
            })
        };
        if same("next/root.json", &root)? && same("next/targets.json", &targets)? {
            return Ok(true);
        }
        self.keep_signatures(discard)?;
        self.clear_next()?;
        disk::create_folder(&self.path("next")).context("make next/")?;
        for (name, document) in [("next/root.json", root), ("next/targets.json", targets)] {
            if let Some(document) = document {
                self.write(name, &Envelope::unsigned(document).to_bytes())?;
            }
        }
        Ok(false)
    }

    /// Writes what was signed.
    pub(super) fn put_signed(&self, papers: &Papers) -> anyhow::Result<()> {
        if let Some(root) = &papers.next_root {
            self.write("next/root.json", &root.envelope.to_bytes())?;
        }
        if let Some(targets) = &papers.next_targets {
            self.write("next/targets.json", &targets.envelope.to_bytes())?;
        }
        Ok(())
    }

    /// What was to follow is in force.
    pub(super) fn settle(&self, root: &[u8], targets: &[u8]) -> anyhow::Result<()> {
        self.write("root.json", root)?;
        self.write("targets.json", targets)?;
        self.clear_next()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        disk::write(&path, bytes, Access::Public).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whoever carries the folder may have put anything there.
    #[test]
    fn what_is_no_document_there_is_written_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder(scratch.path().to_owned());
        let wanted = json!({"expires": "2030-06-01T00:00:00Z", "version": 2});
        for odd in [json!("text"), json!([]), json!(7), json!({"version": 2})] {
            disk::create_folder(&folder.path("next")).unwrap();
            folder.write("next/root.json", &Envelope::unsigned(odd).to_bytes()).unwrap();
            assert!(!folder.put_next(Some(wanted.clone()), None, false).unwrap());
            let there: Envelope = serde_json::from_slice(&folder.read("next/root.json").unwrap().unwrap()).unwrap();
            assert_eq!(there.signed, wanted);
        }
        let mut earlier = wanted.clone();
        earlier["expires"] = "2030-05-31T23:59:59Z".into();
        assert!(folder.put_next(Some(earlier), None, false).unwrap(), "only the second differs");

        let signed = json!({"signed": wanted, "signatures": [{"keyid": "k", "sig": "00"}]});
        folder.write("next/root.json", signed.to_string().as_bytes()).unwrap();
        assert!(folder.put_next(Some(wanted.clone()), None, false).unwrap(), "the same keeps its signatures");
        let other = json!({"expires": "2030-06-01T00:00:00Z", "version": 3});
        let refused = folder.put_next(Some(other.clone()), None, false).unwrap_err().to_string();
        assert!(refused.contains("1 signatures") && refused.contains("--discard"), "{refused}");
        assert!(!folder.put_next(Some(other), None, true).unwrap());
    }
}
