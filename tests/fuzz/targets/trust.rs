//! What a ceremony agreed on, as it is uploaded: held against the rules of ceremonies and devices by the code behind
//! `PUT /api/v1/trust/metadata`, on a repository of several people whose keys are the same everywhere.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::Value;
use sigstore_tuf::TrustedMetadataSet;
use tern_fleet_server::{
    ceremony::trust::{Edition, ROOT_LIFE, RoleKeys, RootTrust, TARGETS_LIFE, TargetsTrust, TeamTrust},
    forms::trust::TrustUpload,
    keyfile,
    repository::{Keyring, Repository, TrustChange, TrustRefusal, adopt},
};
use tern_protocol::{keys::SigningKey, signed::sign_value, tuf};

use super::{NOW, key};
use crate::target::{Target, Verdict};

/// The numbers of root's and of targets' people, two of whom sign.
const ROOT: [u8; 2] = [1, 2];
const TARGETS: [u8; 2] = [4, 5];

/// A repository that takes an upload, and what it was before.
pub(super) struct Trust {
    keys: PathBuf,
    folder: PathBuf,
    repository: Repository,
    /// Every file of it, and root and targets, as each input finds them.
    before: BTreeMap<PathBuf, Vec<u8>>,
    present: [Value; 2],
    /// Whatever people have signed.
    signed: Vec<Value>,
    now: Timestamp,
    _scratch: tempfile::TempDir,
}

fn role(threshold: usize, numbers: &[u8]) -> RoleKeys {
    RoleKeys::new(threshold, numbers.iter().map(|number| key(*number).public()))
}

fn root(people: &[u8]) -> RootTrust {
    RootTrust {
        root: role(2, people),
        targets: role(2, &TARGETS),
        snapshot: role(1, &[6]),
        timestamp: role(1, &[7]),
        director: role(1, &[8]),
    }
}

fn targets(team: &[u8]) -> TargetsTrust {
    let demo = TeamTrust { release: role(2, team), candidate: Some(role(1, &[11])) };
    TargetsTrust { teams: [("demo".parse().expect("a name"), demo)].into(), ca_bundle: None }
}

fn edition(version: u64, life: jiff::SignedDuration, now: Timestamp) -> Edition {
    Edition { version, ..Edition::after(None, life, now) }
}

fn by(signed: Value, numbers: &[u8]) -> Option<Value> {
    let keys: Vec<SigningKey> = numbers.iter().map(|number| key(*number)).collect();
    serde_json::from_slice(&sign_value(signed, &keys.iter().collect::<Vec<_>>()).ok()?).ok()
}

/// The signed part; written as ceremonies write it where it says what they can say.
fn as_prepared(envelope: &Value, is_root: bool) -> Value {
    let signed = &envelope["signed"];
    let prepared = if is_root {
        RootTrust::read(signed).ok().map(|(trust, edition)| trust.document(edition))
    } else {
        TargetsTrust::read(signed).ok().map(|(trust, edition)| trust.document(edition))
    };
    prepared.unwrap_or_else(|| signed.clone())
}

/// As the route makes it of a body.
fn change(upload: &TrustUpload) -> TrustChange {
    let bytes = |value: &Option<Value>| value.as_ref().map(|value| value.to_string().into_bytes());
    TrustChange { root: bytes(&upload.root), targets: bytes(&upload.targets) }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder.join("metadata")).expect("a folder of metadata");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

impl Trust {
    pub(super) fn new() -> Self {
        tuf::install_provider();
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (keys, folder) = (scratch.path().join("keys"), scratch.path().join("tuf"));
        fs::create_dir_all(&keys).expect("a folder for keys");
        for (role, number) in [("snapshot", 6), ("timestamp", 7), ("director", 8)] {
            keyfile::write(&keys.join(format!("{role}-1.key")), &key(number), None).expect("a key file");
        }
        fs::create_dir_all(folder.join("metadata")).expect("a folder for metadata");
        let now: Timestamp = NOW.parse().expect("a time");
        let present = [
            root(&[1, 2, 3]).document(edition(1, ROOT_LIFE, now)),
            targets(&[9, 10]).document(edition(1, TARGETS_LIFE, now)),
        ];
        let first = TrustUpload { root: by(present[0].clone(), &ROOT), targets: by(present[1].clone(), &TARGETS) };
        let keyring = Keyring::open(&keys).expect("the server's keys");
        adopt(&folder, &keyring, &change(&first), now).expect("a first ceremony");
        let repository = Repository::open(&folder, keyring, now).expect("a repository");
        let mut target = Self {
            before: files(&folder),
            signed: present.to_vec(),
            keys,
            folder,
            repository,
            present,
            now,
            _scratch: scratch,
        };
        for (_, bytes) in target.seeds() {
            let upload: TrustUpload = serde_json::from_slice(&bytes).expect("an upload");
            let envelopes = [upload.root, upload.targets].into_iter().flatten();
            target.signed.extend(envelopes.map(|mut envelope| envelope["signed"].take()));
        }
        target
    }

    /// Whether it is published; what was refused left everything as it was, and what was not is what devices take.
    fn takes(&mut self, upload: &TrustUpload) -> bool {
        match self.repository.publish_trust(&change(upload), self.now) {
            Ok(()) => {
                self.hold();
                self.restore();
                true
            }
            Err(TrustRefusal::Failed(error)) => panic!("the server failed: {error:#}"),
            Err(_) => {
                assert!(files(&self.folder) == self.before, "what was refused left a trace");
                assert_eq!(self.repository.trust().expect("what is in force").root_version, 1);
                false
            }
        }
    }

    /// What a device makes of it that has the first root, and a server that starts again.
    fn hold(&self) {
        let trust = self.repository.trust().expect("what is in force");
        let read = |name: &str| fs::read(self.folder.join("metadata").join(name)).expect("it was published");
        let mut device = TrustedMetadataSet::from_root(&trust.roots[0]).expect("the first root");
        for next in &trust.roots[1..] {
            device.update_root(next).expect("root follows root");
        }
        device.check_root_expired(self.now).expect("root counts today");
        device.update_timestamp(&read("timestamp.json"), self.now).expect("a timestamp under this root");
        let snapshot = device.timestamp().expect("it was taken").snapshot_meta().expect("it names one").version;
        device.update_snapshot(&read(&format!("{snapshot}.snapshot.json")), self.now).expect("its snapshot");
        let name = format!("{}.targets.json", trust.targets_version);
        device.update_targets(&read(&name), self.now).expect("the targets that it promises");
        let named = tuf::director_keys(device.root()).expect("root names a director");
        let own = self.repository.director().expect("the server can sign desired states");
        assert!(own.iter().any(|key| named.get(&key.public().id()).is_some()), "the director's key counts");
        let keyring = Keyring::open(&self.keys).expect("the server's keys");
        let again = Repository::open(&self.folder, keyring, self.now).expect("the server starts again");
        assert_eq!(again.root(), *trust.roots.last().expect("a root"), "it starts with what it published");
    }

    fn restore(&mut self) {
        if files(&self.folder) == self.before {
            return;
        }
        for path in files(&self.folder).into_keys() {
            fs::remove_file(path).expect("it is ours");
        }
        self.before.iter().for_each(|(path, bytes)| crate::corpus::put(path, bytes));
        let keyring = Keyring::open(&self.keys).expect("the server's keys");
        self.repository = Repository::open(&self.folder, keyring, self.now).expect("the repository of before");
    }

    fn changes(&self, upload: &TrustUpload) -> bool {
        let differs =
            |envelope: &Option<Value>, present: &Value| envelope.as_ref().is_some_and(|e| e["signed"] != *present);
        differs(&upload.root, &self.present[0]) || differs(&upload.targets, &self.present[1])
    }
}

impl Target for Trust {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let (of_root, of_targets) = (
            |version, people: &[u8]| root(people).document(edition(version, ROOT_LIFE, self.now)),
            |version, team: &[u8]| targets(team).document(edition(version, TARGETS_LIFE, self.now)),
        );
        let upload = |root: Option<Value>, targets: Option<Value>| {
            let upload = TrustUpload {
                root: root.and_then(|signed| by(signed, &ROOT)),
                targets: targets.and_then(|signed| by(signed, &TARGETS)),
            };
            serde_json::to_vec(&upload).expect("an upload")
        };
        vec![
            ("nothing.json".into(), upload(None, None)),
            ("present.json".into(), upload(Some(self.present[0].clone()), Some(self.present[1].clone()))),
            ("root.json".into(), upload(Some(of_root(2, &[1, 2, 12])), None)),
            ("targets.json".into(), upload(None, Some(of_targets(2, &[9, 13])))),
            ("both.json".into(), upload(Some(of_root(2, &[1, 2, 12])), Some(of_targets(2, &[9, 13])))),
            ("refused-version.json".into(), upload(Some(of_root(3, &[1, 2, 12])), None)),
            ("refused-key-on-the-server.json".into(), upload(Some(of_root(2, &[1, 2, 8])), None)),
            ("refused-key-on-the-robot.json".into(), upload(None, Some(of_targets(2, &[9, 11])))),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(upload) = serde_json::from_slice::<TrustUpload>(input) else { return Verdict::Refused };
        if self.takes(&upload) {
            for envelope in [&upload.root, &upload.targets].into_iter().flatten() {
                assert!(self.signed.contains(&envelope["signed"]), "nobody signed {envelope}");
            }
        }
        // As if people had signed it; and as if one of each two had.
        let anew = |people: &[u8], keepers: &[u8]| {
            let sign = |envelope: &Option<Value>, is_root, keys: &[u8]| match envelope {
                Some(envelope) => by(as_prepared(envelope, is_root), keys).map(Some),
                None => Some(None),
            };
            let (root, targets) = (sign(&upload.root, true, people)?, sign(&upload.targets, false, keepers)?);
            Some(TrustUpload { root, targets })
        };
        let Some(signed) = anew(&[1, 2, 3, 12], &[4, 5]) else { return Verdict::Refused };
        let alone = anew(&ROOT[..1], &TARGETS[..1]).expect("it was signed before");
        if self.changes(&alone) {
            assert!(!self.takes(&alone), "one of two signatures does not count");
        }
        Verdict::of(self.takes(&signed))
    }
}
