//! A repository in memory whose roles have keys and versions of their own, and the device that asks it.

use std::{collections::BTreeMap, pin::Pin, sync::Mutex};

use serde_json::{Value, json};
use tern_protocol::{keys::SigningKey, signed::sign_value};

use super::*;
use crate::state::State;

pub(super) const TEAM: &str = "vision";
/// The roles that root names.
pub(super) const TOP: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// What is served.
#[derive(Default)]
pub(super) struct Files(pub(super) Mutex<BTreeMap<String, Vec<u8>>>);

type Fetched<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

impl Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> Fetched<'a> {
        let found = self.0.lock().unwrap().get(name).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> Fetched<'a> {
        self.fetch_metadata(path, limit)
    }
}

/// Whoever signs. Changes count from the next [`World::publish`] on; those of root at once.
pub(super) struct World {
    keys: BTreeMap<&'static str, SigningKey>,
    pub(super) versions: BTreeMap<&'static str, u64>,
    pub(super) expires: BTreeMap<&'static str, &'static str>,
    pub(super) issued: &'static str,
    /// When root says that it was made.
    pub(super) root_issued: Option<&'static str>,
    pub(super) manifest: Vec<u8>,
    pub(super) files: Arc<Files>,
    pinned: Vec<u8>,
    folder: tempfile::TempDir,
}

impl World {
    /// A world in which every role is at version 7, and a device that has seen nothing of it.
    pub(super) fn new() -> Self {
        tuf::install_provider();
        let roles = ["root", "timestamp", "snapshot", "targets", TEAM];
        let folder = tempfile::tempdir().unwrap();
        Store::create(folder.path(), &State::new(None, ENROLLED.parse().unwrap())).unwrap();
        let mut world = Self {
            keys: roles.map(|role| (role, SigningKey::generate().unwrap())).into(),
            versions: roles.map(|role| (role, if role == "root" { 1 } else { 7 })).into(),
            expires: BTreeMap::new(),
            issued: ISSUED,
            root_issued: None,
            manifest: manifest(),
            files: Arc::default(),
            pinned: Vec::new(),
            folder,
        };
        world.pinned = sign_value(world.root(), &[&world.keys["root"]]).unwrap();
        world.publish();
        world
    }

    fn role(&self, name: &str) -> Value {
        json!({"keyids": [self.keys[name].public().id()], "threshold": 1})
    }

    fn head(&self, role: &str, rest: Value) -> Value {
        let kind = if TOP.contains(&role) { role } else { "targets" };
        let expires = self.expires.get(role).unwrap_or(&LATER);
        let mut signed =
            json!({"_type": kind, "spec_version": "1.0.31", "version": self.versions[role], "expires": expires});
        signed.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        signed
    }

    fn root(&self) -> Value {
        let keys = TOP.map(|role| (self.keys[role].public().id().0, json!(self.keys[role].public())));
        let roles = TOP.map(|role| (role.to_owned(), self.role(role)));
        let (keys, roles) = (Value::Object(keys.into_iter().collect()), Value::Object(roles.into_iter().collect()));
        let director = self.role("root");
        let mut rest = json!({"consistent_snapshot": true, "keys": keys, "roles": roles, tuf::DIRECTOR: director});
        if let Some(issued) = self.root_issued {
            rest[tuf::ISSUED] = issued.into();
        }
        self.head("root", rest)
    }

    /// Gives a role a new key: in root, or for a team in targets.
    pub(super) fn rotate(&mut self, role: &'static str) {
        let old = std::mem::replace(self.keys.get_mut(role).unwrap(), SigningKey::generate().unwrap());
        if !TOP.contains(&role) {
            *self.versions.get_mut("targets").unwrap() += 1;
            return;
        }
        let old = if role == "root" { &old } else { &self.keys["root"] };
        *self.versions.get_mut("root").unwrap() += 1;
        let signers = if role == "root" { vec![old, &self.keys["root"]] } else { vec![old] };
        let root = sign_value(self.root(), &signers).unwrap();
        self.files.0.lock().unwrap().insert(format!("{}.root.json", self.versions["root"]), root);
    }

    /// Raises versions by one, as an honest server does.
    pub(super) fn bump(&mut self, roles: &[&'static str]) {
        for role in roles {
            *self.versions.get_mut(role).unwrap() += 1;
        }
    }

    /// Signs and serves every role but root.
    pub(super) fn publish(&self) {
        let (path, hash) = (wanted(&self.manifest).model_version().target_path(), Digest::of(&self.manifest));
        let signed = |role: &str, rest| sign_value(self.head(role, rest), &[&self.keys[role]]).unwrap();
        let listed = json!({&path: {"length": self.manifest.len(), "hashes": {"sha256": hash}}});
        let key = self.keys[TEAM].public();
        let delegation = json!({
            "name": TEAM, "keyids": [key.id()], "threshold": 1, "terminating": true,
            "paths": ["models/vision/*/*/manifest.json"],
        });
        let delegations = json!({"keys": {key.id().0: key}, "roles": [delegation]});
        let v = &self.versions;
        let pins = json!({"targets.json": {"version": v["targets"]}, "vision.json": {"version": v[TEAM]}});
        let pin = json!({"snapshot.json": {"version": v["snapshot"]}});
        let mut files = self.files.0.lock().unwrap();
        files.insert("timestamp.json".into(), signed("timestamp", json!({tuf::ISSUED: self.issued, "meta": pin})));
        files.insert(format!("{}.snapshot.json", v["snapshot"]), signed("snapshot", json!({"meta": pins})));
        let targets = signed("targets", json!({"targets": {}, "delegations": delegations}));
        files.insert(format!("{}.targets.json", v["targets"]), targets);
        files.insert(format!("{}.vision.json", v[TEAM]), signed(TEAM, json!({"targets": listed})));
        files.insert(path_of(&path, &hash), self.manifest.clone());
    }

    /// A start of the agent, by this machine's clock.
    pub(super) fn start_at(&self, machine: &str) -> (Trust, Store, DeviceClock) {
        self.start_with(machine, Sources::only("server", self.files.clone() as Arc<dyn Repository>))
    }

    /// The same with these sources.
    pub(super) fn start_with(
        &self,
        machine: &str,
        sources: Sources<Arc<dyn Repository>>,
    ) -> (Trust, Store, DeviceClock) {
        let store = Store::open(self.folder.path());
        let clock = DeviceClock::at(machine.parse().unwrap(), store.read(|s| s.time_floor));
        let root = self.pinned.clone();
        let trust = Trust::open(sources, self.folder.path(), root, store.clone(), clock.clone()).unwrap();
        (trust, store, clock)
    }

    /// What a start of the agent makes of the demanded version.
    pub(super) async fn code(&self) -> Result<(), RefusalCode> {
        self.code_at(ISSUED).await
    }

    pub(super) async fn code_at(&self, machine: &str) -> Result<(), RefusalCode> {
        let asked = self.start_at(machine).0.manifest(&wanted(&self.manifest)).await;
        asked.map(drop).map_err(|error| error.code())
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn wipe_cache(&self) {
        fs::remove_dir_all(self.folder.path().join("tuf")).unwrap();
    }
}
