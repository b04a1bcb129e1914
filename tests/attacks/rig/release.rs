//! Versions of the quickstart's model as publishers make them, and as attackers change them.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tern_fleet_server::bundle;
use tern_protocol::{
    api, canonical,
    desired::{DesiredModel, Probation, Swap},
    digest::Digest,
    ids::ModelVersion,
};

use super::repository::{Files, blob_path};

pub(crate) const TEAM: &str = "demo";
pub(crate) const MODEL: &str = "demo/meter-digits";

/// A manifest and the files that it names.
#[derive(Clone)]
pub(crate) struct Release {
    /// The version that it is demanded and listed as, whatever its manifest says.
    pub(crate) named: ModelVersion,
    manifest: Value,
    blobs: Vec<Vec<u8>>,
}

/// The folder of a version of the quickstart's model.
pub(crate) fn folder(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits").join(version)
}

impl Release {
    /// A version of the quickstart's model.
    pub(crate) fn quickstart(version: &str) -> Self {
        let bundle = bundle::read(&folder(version)).unwrap();
        let blobs = bundle.blobs.values().map(|blob| fs::read(&blob.path).unwrap()).collect();
        let manifest = serde_json::from_slice(&bundle.bytes).unwrap();
        Self { named: bundle.manifest.model, manifest, blobs }
    }

    /// The same files as another version.
    pub(crate) fn renamed(&self, version: &str) -> Self {
        self.named(format!("{MODEL}@{version}").parse().unwrap())
    }

    /// The same files as another model.
    pub(crate) fn named(&self, named: ModelVersion) -> Self {
        let text = named.to_string();
        Self { named, ..self.edited(|manifest| manifest["model"] = text.into()) }
    }

    /// The same with another manifest.
    pub(crate) fn edited(&self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut release = self.clone();
        edit(&mut release.manifest);
        release
    }

    /// The same with another file of this role: the first, where there are several.
    pub(crate) fn with_file(&self, role: &str, bytes: Vec<u8>) -> Self {
        let (digest, length) = (Digest::of(&bytes).to_string(), bytes.len());
        let mut release = self.edited(|manifest| {
            let files = manifest["files"].as_array_mut().unwrap();
            let file = files.iter_mut().find(|file| file["role"] == role).expect("a file of this role");
            (file["sha256"], file["length"]) = (digest.into(), length.into());
        });
        release.blobs.push(bytes);
        release
    }

    /// The same with a model file that no other version has; it is never to be loaded.
    pub(crate) fn unique(&self, text: &str) -> Self {
        self.with_file("model", text.repeat(2000).into_bytes())
    }

    /// The bytes of the first file of this role.
    pub(crate) fn file(&self, role: &str) -> Vec<u8> {
        let files = self.manifest["files"].as_array().unwrap();
        let digest = files.iter().find(|file| file["role"] == role).expect("a file of this role")["sha256"].clone();
        self.blobs.iter().find(|blob| Digest::of(blob).to_string() == digest).unwrap().clone()
    }

    /// The manifest's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        canonical::document(&self.manifest).unwrap()
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// Its TUF path.
    pub(crate) fn path(&self) -> String {
        self.named.target_path()
    }

    /// Its TUF path as a candidate.
    pub(crate) fn candidate_path(&self) -> String {
        self.named.candidate_path()
    }

    /// What a targets role says of it.
    pub(crate) fn target(&self) -> Value {
        json!({"length": self.bytes().len(), "hashes": {"sha256": self.digest()}})
    }

    /// The path that a device asks for its manifest.
    pub(crate) fn manifest_path(&self) -> String {
        api::target_path(&self.path(), &self.digest())
    }

    /// Puts manifest and blobs where a server serves them.
    pub(crate) fn add_to(&self, files: &mut Files) {
        files.insert(self.manifest_path(), self.bytes());
        files.insert(api::target_path(&self.candidate_path(), &self.digest()), self.bytes());
        for blob in &self.blobs {
            files.insert(blob_path(blob), blob.clone());
        }
    }

    /// The demand for it; it is committed at its first answer.
    pub(crate) fn desired(&self) -> DesiredModel {
        DesiredModel {
            model: self.named.name.clone(),
            version: self.named.version.clone(),
            manifest: self.digest(),
            swap: Swap::Beside,
            probation: Probation { min_inferences: 1, min_seconds: 0 },
            candidate: false,
        }
    }
}
