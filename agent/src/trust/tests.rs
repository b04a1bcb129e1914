//! Trust against repositories of our own making: honest ones and all the others.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the door's back")]

use std::{collections::BTreeMap, fs, pin::Pin, sync::Mutex};

use serde_json::{Value, json};
use tern_protocol::{
    contract::{Contract, DataType, TensorContract},
    desired::{Probation, Swap},
    ids::{ByteCount, ModelVersion},
    keys::SigningKey,
    manifest::{File, FileRole, Tolerance},
    signed::sign_value,
    standing,
};

use super::*;
use crate::state::State;

mod falling_over;
mod recovery;
mod time;
mod world;

const ENROLLED: &str = "2026-05-01T00:00:00Z";
const ISSUED: &str = "2026-06-01T00:00:00Z";
pub(super) const LATER: &str = "2027-06-01T00:00:00Z";

/// A repository in memory, signed by one key for every role.
pub(super) struct Publisher {
    key: SigningKey,
    pub(super) files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What the team says of its models.
    pub(super) said: Mutex<Option<Value>>,
    /// Whether the version is a candidate, and not a release.
    pub(super) candidate: std::sync::atomic::AtomicBool,
    /// Whether the snapshot is silent about the team's roles.
    pub(super) hidden: std::sync::atomic::AtomicBool,
    /// The team's keys; none for the one that signs everything else.
    pub(super) team_keys: Mutex<Vec<SigningKey>>,
}

impl Repository for Publisher {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> Fetched<'a> {
        self.fetch(name, limit)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> Fetched<'a> {
        self.fetch(path, limit)
    }
}

type Fetched<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

impl Publisher {
    fn new() -> Self {
        let (files, said, candidate, hidden, team_keys) = Default::default();
        Self { key: SigningKey::generate().unwrap(), files, said, candidate, hidden, team_keys }
    }

    fn fetch(&self, name: &str, limit: u64) -> Fetched<'_> {
        let found = self.files.lock().unwrap().get(name).cloned();
        assert!(found.as_ref().is_none_or(|bytes| bytes.len() as u64 <= limit));
        Box::pin(async move { Ok(found) })
    }

    fn role(&self) -> Value {
        json!({"keyids": [self.key.public().id()], "threshold": 1})
    }

    pub(super) fn root(&self) -> Vec<u8> {
        let (id, role) = (self.key.public().id(), self.role());
        let signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": LATER, "consistent_snapshot": true,
            "keys": {id.0: self.key.public()},
            "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role},
            tuf::DIRECTOR: role,
        });
        sign_value(signed, &[&self.key]).unwrap()
    }

    /// Publishes every role with this version, and the manifest.
    pub(super) fn publish(&self, version: u64, expires: &str, manifest: &[u8]) {
        self.publish_at(ISSUED, version, expires, manifest);
    }

    /// The same with another signed time.
    fn publish_at(&self, issued: &str, version: u64, expires: &str, manifest: &[u8]) {
        let key = &self.key;
        let (id, path) = (key.public().id(), wanted(manifest).model_version().target_path());
        let hash = Digest::of(manifest).to_string();
        let head = |kind: &str, rest: Value| {
            let mut role = json!({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires});
            role.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            sign_value(role, &[key]).unwrap()
        };
        let of = |path: &str| json!({path: {"length": manifest.len(), "hashes": {"sha256": hash}}});
        let is_candidate = self.candidate.load(std::sync::atomic::Ordering::Relaxed);
        let candidate_path = DesiredModel { candidate: true, ..wanted(manifest) }.target_path();
        let candidates =
            head("targets", json!({"targets": if is_candidate { of(&candidate_path) } else { json!({}) }}));
        let mut team = json!({"targets": if is_candidate { json!({}) } else { of(&path) }});
        if let Some(said) = self.said.lock().unwrap().clone() {
            team[standing::MODELS] = said;
        }
        let others = self.team_keys.lock().unwrap();
        let signers: Vec<&SigningKey> = if others.is_empty() { vec![key] } else { others.iter().collect() };
        let mut role = json!({"_type": "targets", "spec_version": "1.0.31", "version": version, "expires": expires});
        role.as_object_mut().unwrap().extend(team.as_object().unwrap().clone());
        let team = sign_value(role, &signers).unwrap();
        let ids: Vec<_> = signers.iter().map(|k| k.public().id()).collect();
        let delegation = |name: &str, ids: &[tern_protocol::keys::KeyId], path: &str| json!({"name": name, "keyids": ids, "threshold": 1, "terminating": true, "paths": [path]});
        let roles = [
            delegation("vision", &ids, "models/vision/*/*/manifest.json"),
            delegation("vision.candidate", &[id], "candidates/vision/*/*/manifest.json"),
        ];
        let keys: BTreeMap<_, _> = signers.iter().chain([&key]).map(|k| (k.public().id().0, k.public())).collect();
        let targets = head("targets", json!({"targets": {}, "delegations": {"keys": keys, "roles": roles}}));
        let at = json!({"version": version});
        let meta = match self.hidden.load(std::sync::atomic::Ordering::Relaxed) {
            true => json!({"targets.json": at}),
            false => json!({"targets.json": at, "vision.json": at, "vision.candidate.json": at}),
        };
        let snapshot = head("snapshot", json!({"meta": meta}));
        let timestamp =
            head("timestamp", json!({tuf::ISSUED: issued, "meta": {"snapshot.json": {"version": version}}}));
        let mut files = self.files.lock().unwrap();
        files.clear();
        files.insert("timestamp.json".into(), timestamp);
        files.insert(format!("{version}.snapshot.json"), snapshot);
        files.insert(format!("{version}.targets.json"), targets);
        files.insert(format!("{version}.vision.json"), team);
        files.insert(format!("{version}.vision.candidate.json"), candidates);
        files.insert(path_of(&candidate_path, &Digest::of(manifest)), manifest.to_vec());
        files.insert(path_of(&path, &Digest::of(manifest)), manifest.to_vec());
    }
}

fn manifest() -> Vec<u8> {
    let file = |path: &str, role| File { path: path.into(), role, sha256: Digest::of(b"x"), length: ByteCount(1) };
    let tensor = |name: &str| TensorContract {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: vec![-1, 4],
        range: None,
        nan: Default::default(),
        features: Vec::new(),
        derive: Vec::new(),
    };
    Manifest {
        format: 1,
        model: "vision/digits@1.0.0".parse::<ModelVersion>().unwrap(),
        files: vec![
            file("model.onnx", FileRole::Model),
            file("test_data_set_0/input_0.pb", FileRole::Golden),
            file("test_data_set_0/output_0.pb", FileRole::Golden),
        ],
        contract: Contract { inputs: vec![tensor("x")], outputs: vec![tensor("y")], prediction: None },
        budgets: BTreeMap::new(),
        device_classes: Vec::new(),
        minimum_agent: "0.1.0".parse().unwrap(),
        golden_tolerance: Tolerance { absolute: 0.0, relative: 0.0 },
        training: Default::default(),
        parent: None,
    }
    .to_bytes()
    .unwrap()
}

pub(super) fn wanted(manifest: &[u8]) -> DesiredModel {
    DesiredModel {
        model: "vision/digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        manifest: Digest::of(manifest),
        swap: Swap::Beside,
        probation: Probation::default(),
        candidate: false,
    }
}

pub(super) struct Device {
    pub(super) publisher: Arc<Publisher>,
    pub(super) folder: tempfile::TempDir,
    pub(super) manifest: Vec<u8>,
}

impl Device {
    pub(super) fn new() -> Self {
        tuf::install_provider();
        let publisher = Publisher::new();
        let folder = tempfile::tempdir().unwrap();
        Store::create(folder.path(), &State::new(None, ENROLLED.parse().unwrap())).unwrap();
        let device = Self { publisher: Arc::new(publisher), folder, manifest: manifest() };
        device.publisher.publish(7, LATER, &device.manifest);
        device
    }

    /// A start of the agent.
    pub(super) fn start(&self) -> (Trust, Store, DeviceClock) {
        let store = Store::open(self.folder.path());
        let clock = DeviceClock::new(store.read(|s| s.time_floor));
        let (sources, root) =
            (Sources::only("server", self.publisher.clone() as Arc<dyn Repository>), self.publisher.root());
        let trust = Trust::open(sources, self.folder.path(), root, store.clone(), clock.clone()).unwrap();
        (trust, store, clock)
    }

    pub(super) async fn code(&self) -> RefusalCode {
        let (trust, ..) = self.start();
        Refusal::from(trust.manifest(&wanted(&self.manifest)).await.unwrap_err()).code
    }
}

#[tokio::test]
async fn an_honest_manifest_is_believed_and_floors_and_time_are_durable() {
    let device = Device::new();
    let (trust, store, clock) = device.start();
    assert!(trust.director().get(&device.publisher.key.public().id()).is_some());
    let (manifest, bytes) = trust.manifest(&wanted(&device.manifest)).await.unwrap();
    assert_eq!((manifest.model.to_string().as_str(), &bytes), ("vision/digits@1.0.0", &device.manifest));
    drop((trust, store));
    let (_, store, again) = device.start();
    let state = store.state();
    let roles: std::collections::BTreeSet<_> = state.floors.iter().map(|f| (f.role.as_str(), f.version)).collect();
    let floors = [("root", 1), ("timestamp", 7), ("snapshot", 7), ("targets", 7), ("vision", 7)];
    assert_eq!(roles, floors.into());
    assert_eq!((clock.floor(), again.floor()), (ISSUED.parse().unwrap(), ISSUED.parse().unwrap()));
}

#[tokio::test]
async fn a_rollback_is_refused_with_the_cache_and_without_it() {
    let device = Device::new();
    device.start().0.refresh().await.unwrap();
    device.publisher.publish(6, LATER, &device.manifest);
    assert_eq!(device.code().await, RefusalCode::Rollback);
    fs::remove_dir_all(device.folder.path().join("tuf")).unwrap();
    assert_eq!(device.code().await, RefusalCode::Rollback);
    // Twice: what the wiped cache took in meanwhile lowers nothing.
    assert_eq!(device.code().await, RefusalCode::Rollback);
    device.publisher.publish(7, LATER, &device.manifest);
    assert!(device.start().0.manifest(&wanted(&device.manifest)).await.is_ok());
}

#[tokio::test]
async fn expired_metadata_is_refused_by_signed_time_whatever_the_clock_says() {
    let device = Device::new();
    device.start().0.refresh().await.unwrap();
    device.publisher.publish(8, ISSUED, &device.manifest);
    assert_eq!(device.code().await, RefusalCode::Expired);
}

#[tokio::test]
async fn a_signed_time_that_cannot_be_true_raises_nothing() {
    let device = Device::new();
    // One second more than 400 days after enrolment, and the end of time.
    for (version, issued) in [(8, "2027-06-05T00:00:01Z"), (9, "9999-12-30T00:00:00Z")] {
        device.publisher.publish_at(issued, version, "9999-12-30T20:00:00Z", &device.manifest);
        for _ in 0..2 {
            let (trust, store, clock) = device.start();
            let error = trust.refresh().await.unwrap_err();
            assert!(matches!(error, TrustError::ImplausibleTime { .. }), "{error}");
            assert_eq!(Refusal::from(error).code, RefusalCode::Metadata);
            let floors = (store.read(|s| s.time_floor), clock.floor());
            assert_eq!(floors, (ENROLLED.parse().unwrap(), ENROLLED.parse().unwrap()));
            assert_eq!(store.read(|s| s.floors.iter().filter(|f| f.role != "root").count()), 0);
        }
    }
    device.publisher.publish_at("2027-06-05T00:00:00Z", 10, "9999-12-30T20:00:00Z", &device.manifest);
    device.start().0.refresh().await.unwrap();
    assert_eq!(device.start().2.floor().to_string(), "2027-06-05T00:00:00Z");
}

#[tokio::test]
async fn a_foreign_key_is_refused() {
    let device = Device::new();
    let stranger = Publisher::new();
    stranger.publish(9, LATER, &device.manifest);
    *device.publisher.files.lock().unwrap() = stranger.files.into_inner().unwrap();
    assert_eq!(device.code().await, RefusalCode::Metadata);
}

#[tokio::test]
async fn a_missing_timestamp_is_a_failed_fetch() {
    let device = Device::new();
    device.publisher.files.lock().unwrap().remove("timestamp.json");
    assert_eq!(device.code().await, RefusalCode::Fetch);
}

#[tokio::test]
async fn a_version_that_no_team_signed_is_unknown() {
    let device = Device::new();
    let (trust, ..) = device.start();
    for model in ["vision/faces", "audio/digits"] {
        let other = DesiredModel { model: model.parse().unwrap(), ..wanted(&device.manifest) };
        assert!(matches!(trust.manifest(&other).await, Err(TrustError::UnknownTarget(_))), "{model}");
    }
}

#[tokio::test]
async fn director_and_publisher_must_name_the_same_manifest() {
    let device = Device::new();
    let (trust, ..) = device.start();
    let other = DesiredModel { manifest: Digest::of(b"other"), ..wanted(&device.manifest) };
    let error = trust.manifest(&other).await.unwrap_err();
    assert!(matches!(error, TrustError::OtherManifest { .. }));
    assert_eq!(Refusal::from(error).code, RefusalCode::ManifestDigest);
}

#[tokio::test]
async fn a_manifest_changed_on_the_server_is_refused() {
    let device = Device::new();
    let mut changed = device.manifest.clone();
    *changed.last_mut().unwrap() ^= 1;
    let path = path_of(&wanted(&device.manifest).model_version().target_path(), &Digest::of(&device.manifest));
    device.publisher.files.lock().unwrap().insert(path, changed);
    assert_eq!(device.code().await, RefusalCode::ManifestDigest);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_stops_the_install() {
    let device = Device::new();
    let tuf = device.folder.path().join("tuf");
    // A file where the folder should be: works as root too, unlike a mode.
    fs::write(&tuf, b"").unwrap();
    assert_eq!(device.code().await, RefusalCode::FloorUnreadable);
    fs::remove_file(&tuf).unwrap();
    assert!(device.start().0.manifest(&wanted(&device.manifest)).await.is_ok());
}

#[tokio::test]
async fn a_floor_that_cannot_be_written_stops_the_install() {
    let device = Device::new();
    let (trust, ..) = device.start();
    let other = rusqlite::Connection::open(device.folder.path().join("state.db")).unwrap();
    other.execute_batch("DROP TABLE floor").unwrap();
    for _ in 0..2 {
        let error = trust.manifest(&wanted(&device.manifest)).await.unwrap_err();
        assert_eq!(Refusal::from(error).code, RefusalCode::FloorUnreadable);
    }
}

#[tokio::test]
async fn unreadable_floors_stop_the_install() {
    let device = Device::new();
    for name in ["state.db", "state.copy"] {
        fs::write(device.folder.path().join(name), b"rot").unwrap();
    }
    assert_eq!(device.code().await, RefusalCode::FloorUnreadable);
}
