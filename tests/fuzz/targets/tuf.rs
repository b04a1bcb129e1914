//! TUF metadata of every role, through `sigstore-tuf`'s state machine and what Tern reads of it: as a mirror sends it, who
//! has no key, and signed by the role's keys, as a thief of them sends it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use sigstore_tuf::TrustedMetadataSet;
use tern_protocol::{
    digest::Digest,
    ids::ModelVersion,
    keys::SigningKey,
    signed::sign_value,
    standing,
    tuf::{self, DIRECTOR, ISSUED},
};

use super::{NOW, key, signed::signed_anew};
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

const LATER: &str = "2027-06-01T00:00:00Z";
const TEAM: &str = "demo";
const CANDIDATES: &str = "demo.candidate";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("tuf-root", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Root))),
        Kind::new("tuf-timestamp", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Timestamp))),
        Kind::new("tuf-snapshot", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Snapshot))),
        Kind::new("tuf-targets", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Targets))),
        Kind::new("tuf-team", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Team))),
        Kind::new("tuf-candidate", Form::Json, Pace::Slow, || Box::new(Tuf::new(Role::Candidate))),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Team,
    Candidate,
}

struct Tuf {
    role: Role,
    /// Those that sign the role.
    keys: Vec<SigningKey>,
    /// Everything up to the role before.
    base: TrustedMetadataSet,
    now: Timestamp,
    originals: Vec<(String, Vec<u8>)>,
}

fn role(numbers: &[u8], threshold: u64) -> Value {
    let ids: Vec<_> = numbers.iter().map(|number| key(*number).public().id()).collect();
    json!({"keyids": ids, "threshold": threshold})
}

fn key_objects(numbers: &[u8]) -> Value {
    numbers.iter().map(|number| (key(*number).public().id().0, json!(key(*number).public()))).collect()
}

fn signed_by(keys: &[SigningKey], signed: Value) -> Vec<u8> {
    sign_value(signed, &keys.iter().collect::<Vec<_>>()).expect("metadata can be signed")
}

fn root(version: u64) -> Value {
    json!({
        "_type": "root", "spec_version": "1.0.31", "version": version, "expires": LATER, "consistent_snapshot": true,
        "keys": key_objects(&[1, 2, 3, 4, 5, 6, 7]),
        "roles": {"root": role(&[1, 2, 3], 2), "targets": role(&[4], 1), "snapshot": role(&[5], 1), "timestamp": role(&[6], 1)},
        DIRECTOR: role(&[7], 1),
    })
}

fn targets(version: u64, listed: &[(String, &str)]) -> Value {
    let entry = |text: &str| json!({"length": text.len(), "hashes": {"sha256": Digest::of(text.as_bytes())}});
    let listed: Value = listed.iter().map(|(path, text)| (path.clone(), entry(text))).collect();
    json!({"_type": "targets", "spec_version": "1.0.31", "version": version, "expires": LATER, "targets": listed})
}

impl Role {
    fn keys(self) -> Vec<SigningKey> {
        let numbers: &[u8] = match self {
            Self::Root => &[1, 2],
            Self::Targets => &[4],
            Self::Snapshot => &[5],
            Self::Timestamp => &[6],
            Self::Team => &[8, 9],
            Self::Candidate => &[10],
        };
        numbers.iter().map(|number| key(*number)).collect()
    }

    /// Its metadata, small first.
    fn originals(self) -> Vec<Value> {
        let version: ModelVersion = "demo/m@1.0.0".parse().expect("a version");
        match self {
            Self::Root => vec![root(2)],
            Self::Timestamp => {
                let meta = |more: Value| {
                    json!({"_type": "timestamp", "spec_version": "1.0.31", "version": 3,
                    "expires": LATER, ISSUED: NOW, "meta": {"snapshot.json": more}})
                };
                vec![meta(json!({"version": 1})), meta(json!({"version": 1, "length": 99_999}))]
            }
            Self::Snapshot => {
                let meta = json!({"targets.json": {"version": 1}, "demo.json": {"version": 1},
                    "demo.candidate.json": {"version": 1}});
                vec![
                    json!({"_type": "snapshot", "spec_version": "1.0.31", "version": 1, "expires": LATER, "meta": meta}),
                ]
            }
            Self::Targets => {
                let delegated = |name: &str, folder: &str, keys: Value| {
                    let (mut role, path) = (keys, format!("{folder}/{TEAM}/*/*/manifest.json"));
                    role["name"] = name.into();
                    role["terminating"] = true.into();
                    role["paths"] = json!([path]);
                    role
                };
                let mut signed = targets(1, &[("ca/bundle.pem".into(), "pem")]);
                let roles = json!([
                    delegated(TEAM, "models", role(&[8, 9], 2)),
                    delegated(CANDIDATES, "candidates", role(&[10], 1))
                ]);
                signed["delegations"] = json!({"keys": key_objects(&[8, 9, 10]), "roles": roles});
                vec![signed]
            }
            Self::Team => {
                let mut signed = targets(1, &[(version.target_path(), "manifest")]);
                signed[standing::MODELS] = json!({"m": {"floor": "0.9.0", "recalled": {"0.9.1": "wrong labels"}, "on_recall": "stop"}, "n": {}});
                vec![targets(1, &[]), signed]
            }
            Self::Candidate => vec![targets(1, &[(version.candidate_path(), "manifest")])],
        }
    }
}

impl Tuf {
    fn new(role: Role) -> Self {
        tuf::install_provider();
        let now: Timestamp = NOW.parse().expect("a time");
        let mut base = TrustedMetadataSet::from_root(&signed_by(&Role::Root.keys(), root(1))).expect("a root");
        for before in [Role::Timestamp, Role::Snapshot, Role::Targets] {
            let is_before = match role {
                Role::Root | Role::Timestamp => false,
                Role::Snapshot => before == Role::Timestamp,
                Role::Targets => before != Role::Targets,
                Role::Team | Role::Candidate => true,
            };
            if is_before {
                update(&mut base, before, &signed_by(&before.keys(), before.originals()[0].clone()), now)
                    .expect("it is sound");
            }
        }
        let keys = role.keys();
        let named = |(number, signed): (usize, Value)| (format!("{number}.json"), signed_by(&keys, signed));
        let originals = role.originals().into_iter().enumerate().map(named).collect();
        Self { role, keys: role.keys(), base, now, originals }
    }

    /// Whether `bytes` are taken; what was refused leaves everything as it was.
    fn takes(&self, bytes: &[u8]) -> Option<TrustedMetadataSet> {
        let mut set = self.base.clone();
        if update(&mut set, self.role, bytes, self.now).is_ok() {
            // Of a chain of roots only the last may not have expired.
            return set.check_root_expired(self.now).is_ok().then_some(set);
        }
        assert_eq!(versions(&set), versions(&self.base), "what was refused left a trace");
        None
    }

    /// Everything that Tern reads of metadata that counts.
    fn hold(&self, set: &TrustedMetadataSet, bytes: &[u8]) {
        let floors = tuf::role_floors(set, &[TEAM, CANDIDATES]);
        assert!(floors.iter().any(|floor| floor.role == "root" && floor.version == set.root().version));
        match self.role {
            Role::Root => {
                assert_eq!(set.root().version, 2, "roots come one after the other");
                if let Ok(keys) = tuf::director_keys(set.root()) {
                    assert!(keys.threshold() > 0);
                }
                if let Ok(keys) = tuf::root_keys(set.root()) {
                    assert!(keys.threshold() > 0);
                }
                assert!(tuf::parse_root(bytes).is_ok_and(|root| root.version == 2));
            }
            Role::Timestamp => {
                let timestamp = set.timestamp().expect("it was taken");
                let _ = tuf::issued(&timestamp.extra);
            }
            Role::Snapshot => {}
            Role::Targets => {
                let delegations = set.targets_role("targets").and_then(|role| role.delegations.as_ref());
                for role in delegations.iter().flat_map(|delegations| &delegations.roles) {
                    let _ = role.matches_path("models/demo/aaaaaaaaaaaaaaaaaaaaaaaaaaaa/1.0.0/manifest.json");
                }
            }
            Role::Team => {
                let team = set.targets_role(TEAM).expect("it was taken");
                if let Ok(models) = standing::of_role(&team.extra) {
                    let version = "1.0.0".parse().expect("a version");
                    for standing in models.values() {
                        assert_eq!(standing.raised(standing).allows(&version), standing.allows(&version));
                        let recalled = standing.recalled.keys().all(|version| standing.allows(version).is_err());
                        assert!(recalled, "a recalled version may not run");
                    }
                }
                paths(team.targets.keys(), ModelVersion::from_target_path, ModelVersion::target_path);
            }
            Role::Candidate => {
                let role = set.targets_role(CANDIDATES).expect("it was taken");
                paths(role.targets.keys(), ModelVersion::from_candidate_path, ModelVersion::candidate_path);
            }
        }
    }
}

fn paths<'a>(
    listed: impl Iterator<Item = &'a String>,
    parse: fn(&str) -> Option<ModelVersion>,
    write: fn(&ModelVersion) -> String,
) {
    for path in listed {
        assert!(parse(path).is_none_or(|version| write(&version) == *path), "{path} has two forms");
    }
}

fn update(set: &mut TrustedMetadataSet, role: Role, bytes: &[u8], now: Timestamp) -> sigstore_tuf::Result<()> {
    match role {
        Role::Root => set.update_root(bytes),
        Role::Timestamp => set.update_timestamp(bytes, now),
        Role::Snapshot => set.update_snapshot(bytes, now),
        Role::Targets => set.update_targets(bytes, now).map(|_| ()),
        Role::Team => set.update_delegated_targets(bytes, TEAM, "targets", now).map(|_| ()),
        Role::Candidate => set.update_delegated_targets(bytes, CANDIDATES, "targets", now).map(|_| ()),
    }
}

fn versions(set: &TrustedMetadataSet) -> BTreeMap<&'static str, Option<u64>> {
    let targets = |name: &str| set.targets_role(name).map(|role| role.version);
    BTreeMap::from([
        ("root", Some(set.root().version)),
        ("timestamp", set.timestamp().map(|role| role.version)),
        ("snapshot", set.snapshot().map(|role| role.version)),
        ("targets", targets("targets")),
        (TEAM, targets(TEAM)),
        (CANDIDATES, targets(CANDIDATES)),
    ])
}

fn signed_part(bytes: &[u8]) -> Value {
    serde_json::from_slice::<Value>(bytes).map_or(Value::Null, |mut envelope| envelope["signed"].take())
}

impl Target for Tuf {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        self.originals.clone()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        if self.takes(input).is_some() {
            let signed = signed_part(input);
            assert!(self.originals.iter().any(|(_, bytes)| signed_part(bytes) == signed), "nobody signed {signed}");
        }
        let keys: Vec<_> = self.keys.iter().collect();
        let Some(bytes) = signed_anew(input, &keys) else { return Verdict::Refused };
        let Some(set) = self.takes(&bytes) else { return Verdict::Refused };
        self.hold(&set, &bytes);
        if keys.len() > 1 && self.role != Role::Root {
            let alone = signed_anew(input, &keys[..1]).expect("it was signed before");
            assert!(self.takes(&alone).is_none(), "one of two signatures does not count");
        }
        Verdict::Accepted
    }
}
