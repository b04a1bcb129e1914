//! What the device remembers over a restart: floors, the desired state, a commit record per model.
//!
//! Plain data. Floors only rise, by the methods here; who writes it durably is `store`, who decides is `install`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    desired::{DesiredModel, GenerationFloor},
    digest::Digest,
    ids::{Generation, ModelName, Version},
    keys::{KeyId, KeySet},
    refusal::RefusalCode,
    standing::Standing,
    tuf::{OnlineKeys, RoleFloor},
    twin::{LastError, ModelState},
};

/// Everything durable but blobs, manifests and the identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Grows with every durable change; tells which of two copies is newer.
    pub sequence: u64,
    /// SHA-256 of the root that enrolment pinned. Another pin starts other floors.
    pub root_pin: Option<Digest>,
    /// When root was made known to the device, or the newest root was made: what no online key can carry ahead.
    pub time_floor: Timestamp,
    /// The newest signed time of those that each of the director's keys signed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub director_times: BTreeMap<KeyId, Timestamp>,
    /// The newest signed time of the timestamps under each set of keys, by its digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timestamp_times: BTreeMap<Digest, Timestamp>,
    /// Role floors, one per role and set of keys.
    pub floors: Vec<Floor>,
    /// The newest desired state that was taken over.
    pub desired: Option<DesiredRecord>,
    /// The newest generation that each of the director's keys signed, of those taken over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<KeyId, Generation>,
    /// Commit records.
    pub models: BTreeMap<ModelName, ModelRecord>,
    /// The newest refusal that concerns no single model.
    pub last_error: Option<LastError>,
    /// How often the agent has started. Left out while 0, so that a record without it keeps its seal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boots: u64,
    /// The last of these starts that opened the outbox: one that is older is a copy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outbox_boot: u64,
    /// What the teams say of models that are or were here: floors and recalls.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub standings: BTreeMap<ModelName, KnownStanding>,
    /// The floors of a rescue ticket, as long as they are not recorded under the keys that sign now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescued: Option<Rescued>,
}

/// What a team said of a model, under which keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownStanding {
    /// Digest of the team's keys: under others its word counts afresh.
    pub key_set: Digest,
    /// What counts.
    pub standing: Standing,
}

/// Floors that came with a rescue ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rescued {
    /// The oldest desired state that may be taken over.
    pub generation: Generation,
    /// The least acceptable versions of roles, under whatever keys they are seen first.
    pub roles: BTreeMap<String, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Who says what time it is at least, apart from the director.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// Root's quorum: it is believed for good.
    Root,
    /// The timestamp's keys, by the digest of their set.
    Timestamp(Digest),
}

/// A role's least acceptable version under one set of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// `root`, `timestamp`, `snapshot`, `targets` or a team.
    pub role: String,
    /// Digest of the keys that count.
    pub key_set: Digest,
    /// The version.
    pub version: u64,
}

/// A desired state as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredRecord {
    /// Its generation.
    pub generation: Generation,
    /// SHA-256 of the envelope.
    pub digest: Digest,
    /// The envelope, which is JSON.
    pub envelope: String,
}

/// One version by its manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRef {
    /// The version.
    pub version: Version,
    /// SHA-256 of its manifest, which names every byte of it.
    pub manifest: Digest,
    /// Whether the team's candidate role vouched for it, and no more than that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub candidate: bool,
}

/// The commit record of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// What is demanded; none once the model is to go.
    pub desired: Option<DesiredModel>,
    /// The generation that demanded it.
    pub generation: Generation,
    /// What answers after a start.
    pub active: Option<VersionRef>,
    /// Whether `active` has survived its probation.
    pub proven: bool,
    /// What a take-back returns to: the version that last survived probation before `active`.
    pub previous: Option<VersionRef>,
    /// What is on its way to become active.
    pub candidate: Option<VersionRef>,
    /// How often the way of this candidate was cut short by a death.
    pub attempts: u32,
    /// Where the newest demanded version stands.
    pub state: ModelState,
    /// Since when.
    pub since: Timestamp,
    /// The refusal that keeps the demanded version from being tried again.
    pub refused: Option<Refused>,
    /// The newest refusal, for people.
    pub last_error: Option<LastError>,
}

/// A version that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Its manifest.
    pub manifest: Digest,
    /// The generation that demanded it then.
    pub generation: Generation,
    /// Why.
    pub code: RefusalCode,
    /// The agent that refused it: a newer one may judge otherwise.
    pub agent: Version,
}

impl State {
    /// The state of a device that knows nothing yet but the time at which its root was made known to it.
    pub fn new(root_pin: Option<Digest>, time_floor: Timestamp) -> Self {
        Self {
            sequence: 0,
            root_pin,
            time_floor,
            director_times: BTreeMap::new(),
            timestamp_times: BTreeMap::new(),
            floors: Vec::new(),
            desired: None,
            generations: BTreeMap::new(),
            models: BTreeMap::new(),
            last_error: None,
            boots: 0,
            outbox_boot: 0,
            standings: BTreeMap::new(),
            rescued: None,
        }
    }

    /// The floor for the next desired state, where root names these keys for the director: no key that it still names goes
    /// back. What a key signed counts no more once root names it no more, so a thief who ran the counter to its end has gained
    /// nothing then.
    pub fn generation_floor(&self, director: &KeySet) -> GenerationFloor {
        let signed = director.ids().filter_map(|id| self.generations.get(id)).copied().max();
        let rescued = self.rescued.as_ref().filter(|_| self.desired.is_none()).map(|r| r.generation);
        let generation = signed.or(rescued).unwrap_or(Generation(0));
        let same = self.desired.as_ref().filter(|known| signed == Some(known.generation));
        GenerationFloor { generation, digest: same.map(|known| known.digest) }
    }

    /// Takes a desired state over that these keys signed, at the time `issued` as they say.
    pub fn take_desired(&mut self, record: DesiredRecord, signers: &[KeyId], issued: Timestamp) {
        for key in signers {
            let known = self.generations.entry(key.clone()).or_insert(record.generation);
            *known = (*known).max(record.generation);
            let known = self.director_times.entry(key.clone()).or_insert(issued);
            *known = (*known).max(issued);
        }
        self.desired = Some(record);
    }

    /// The floor of time where root names these online keys. What a key signed counts no more once root names it no more,
    /// so a thief who carried time ahead has gained nothing then.
    pub fn time(&self, online: &OnlineKeys) -> Timestamp {
        let director = online.director.ids().filter_map(|id| self.director_times.get(id));
        director.chain(self.timestamp_times.get(&online.timestamp)).copied().fold(self.time_floor, Timestamp::max)
    }

    /// The generation of the newest desired state that was taken over; 0 where there was none.
    pub fn generation(&self) -> Generation {
        self.desired.as_ref().map_or(Generation(0), |d| d.generation)
    }

    /// The least acceptable version of a role under a set of keys; 0 where none is recorded.
    pub fn floor(&self, role: &str, key_set: &Digest) -> u64 {
        let known = self.floors.iter().find(|f| f.role == role && f.key_set == *key_set).map(|f| f.version);
        let rescued = self.rescued.as_ref().and_then(|r| r.roles.get(role)).copied();
        known.max(rescued).unwrap_or(0)
    }

    /// What a model's team says of it.
    pub fn standing(&self, model: &ModelName) -> Standing {
        self.standings.get(model).map(|known| known.standing.clone()).unwrap_or_default()
    }

    /// Takes over what a model's team says of it under these keys. Under the same keys a floor never falls.
    pub fn take_standing(&mut self, model: &ModelName, key_set: Digest, said: &Standing) {
        let known = self.standings.get(model).filter(|known| known.key_set == key_set);
        let standing = known.map_or_else(|| said.clone(), |known| known.standing.raised(said));
        if standing != Standing::default() || self.standings.contains_key(model) {
            self.standings.insert(model.clone(), KnownStanding { key_set, standing });
        }
    }

    /// The first of `seen` that lies below its recorded floor.
    pub fn below_floor<'a>(&self, seen: &'a [RoleFloor]) -> Option<(&'a RoleFloor, u64)> {
        let floor = |f: &RoleFloor| self.floor(&f.role, &f.key_set);
        seen.iter().map(|f| (f, floor(f))).find(|(f, floor)| f.version < *floor)
    }

    /// Raises the floors to what was verified. Nothing is ever lowered.
    pub fn raise_floors(&mut self, seen: &[RoleFloor]) {
        // A role that is not there has version 0 and says nothing.
        for new in seen.iter().filter(|new| new.version > 0) {
            if let Some(rescued) = &mut self.rescued {
                // Whoever raises has checked that it is not below.
                rescued.roles.remove(&new.role);
            }
            match self.floors.iter_mut().find(|f| f.role == new.role && f.key_set == new.key_set) {
                Some(floor) => floor.version = floor.version.max(new.version),
                None => {
                    let RoleFloor { role, key_set, version } = new.clone();
                    self.floors.push(Floor { role, key_set, version });
                }
            }
        }
    }

    /// Raises the floor of time to what `voucher` says. Nothing is ever lowered.
    pub fn raise_time(&mut self, voucher: Voucher, issued: Timestamp) {
        let floor = match voucher {
            Voucher::Root => &mut self.time_floor,
            Voucher::Timestamp(key_set) => self.timestamp_times.entry(key_set).or_insert(issued),
        };
        *floor = (*floor).max(issued);
    }

    /// The manifests of every version that some record still needs.
    pub fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.models.values().flat_map(ModelRecord::versions).map(|v| &v.manifest)
    }
}

impl ModelRecord {
    /// The record of a model that was never here.
    pub fn new(now: Timestamp) -> Self {
        Self {
            desired: None,
            generation: Generation(0),
            active: None,
            proven: false,
            previous: None,
            candidate: None,
            attempts: 0,
            state: ModelState::Removed,
            since: now,
            refused: None,
            last_error: None,
        }
    }

    /// Every version that the record names.
    pub fn versions(&self) -> impl Iterator<Item = &VersionRef> {
        self.active.iter().chain(&self.previous).chain(&self.candidate)
    }
}

#[cfg(test)]
mod tests {
    use tern_protocol::keys::PublicKey;

    use super::*;

    #[test]
    fn garbage_is_nothing_that_a_fallback_or_an_install_needs() {
        let (mut state, model) = (State::new(None, Timestamp::UNIX_EPOCH), "vision/digits".parse().unwrap());
        let version = |text: &str| {
            let manifest = Digest::of(text.as_bytes());
            Some(VersionRef { version: text.parse().unwrap(), manifest, candidate: false })
        };
        let (active, previous, candidate) = (version("1.1.0"), version("1.0.0"), version("1.2.0"));
        let record = ModelRecord { active, previous, candidate, ..ModelRecord::new(Timestamp::UNIX_EPOCH) };
        state.models.insert(model, record);
        let kept: Vec<_> = state.manifests().copied().collect();
        assert_eq!(kept, ["1.1.0", "1.0.0", "1.2.0"].map(|text| Digest::of(text.as_bytes())));
    }

    #[test]
    fn a_standing_counts_afresh_under_new_keys_and_its_floor_only_rises_under_the_same() {
        let (mut state, model) = (State::new(None, Timestamp::UNIX_EPOCH), "vision/digits".parse().unwrap());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let floor = |text: &str| Standing { floor: Some(text.parse().unwrap()), ..Standing::default() };
        state.take_standing(&model, old, &Standing::default());
        assert!(state.standings.is_empty(), "nothing said is nothing kept");
        state.take_standing(&model, old, &floor("2.0.0"));
        state.take_standing(&model, old, &floor("1.0.0"));
        assert_eq!(state.standing(&model), floor("2.0.0"));
        state.take_standing(&model, new, &floor("1.0.0"));
        assert_eq!(state.standing(&model), floor("1.0.0"));
    }

    #[test]
    fn a_rescued_floor_holds_under_whatever_keys_sign_first_and_is_theirs_then() {
        let mut state = State::new(None, Timestamp::UNIX_EPOCH);
        let roles = BTreeMap::from([("timestamp".to_owned(), 7)]);
        state.rescued = Some(Rescued { generation: Generation(4), roles });
        let seen =
            |keys: &str, version| RoleFloor { role: "timestamp".into(), key_set: Digest::of(keys.as_bytes()), version };
        assert_eq!(state.below_floor(&[seen("a", 6)]).map(|(_, floor)| floor), Some(7));
        assert_eq!(state.below_floor(&[seen("b", 7)]), None);
        state.raise_floors(&[seen("b", 8)]);
        assert_eq!((state.floor("timestamp", &Digest::of(b"b")), state.floor("timestamp", &Digest::of(b"a"))), (8, 0));
        let floor = GenerationFloor { generation: Generation(4), digest: None };
        assert_eq!((state.generation_floor(&director(&["a"])), state.generation()), (floor, Generation(0)));
    }

    fn key(name: &str) -> KeyId {
        KeyId(name.to_owned())
    }

    fn director(names: &[&str]) -> KeySet {
        KeySet::new(names.iter().map(|name| (key(name), PublicKey::ed25519(&[0; 32]))), 1)
    }

    #[test]
    fn a_generation_counts_as_long_as_root_names_a_key_that_signed_it() {
        let mut state = State::new(None, Timestamp::UNIX_EPOCH);
        state.rescued = Some(Rescued { generation: Generation(4), roles: BTreeMap::new() });
        let of = |state: &State, keys: &[&str]| state.generation_floor(&director(keys));
        let floor = |n, digest: Option<&str>| GenerationFloor {
            generation: Generation(n),
            digest: digest.map(|text| Digest::of(text.as_bytes())),
        };
        let record = |n, text: &str| DesiredRecord {
            generation: Generation(n),
            digest: Digest::of(text.as_bytes()),
            envelope: text.to_owned(),
        };
        let issued = Timestamp::UNIX_EPOCH;
        state.take_desired(record(5, "honest"), &[key("a"), key("b")], issued);
        assert_eq!(of(&state, &["b", "c"]), floor(5, Some("honest")));
        state.take_desired(record(u64::MAX, "stolen"), &[key("a")], issued);
        assert_eq!(of(&state, &["a", "b"]), floor(u64::MAX, Some("stolen")));
        assert_eq!(
            of(&state, &["b"]),
            floor(5, None),
            "what the stolen key signed is forgotten, what the other signed is not"
        );
        assert_eq!(of(&state, &["c"]), floor(0, None));
        state.take_desired(record(6, "mended"), &[key("c")], issued);
        assert_eq!(of(&state, &["c"]), floor(6, Some("mended")));
        assert_eq!(of(&state, &["b", "c"]), floor(6, Some("mended")));
        assert_eq!(of(&state, &["a", "c"]), floor(u64::MAX, None), "named again, it counts again");
    }

    #[test]
    fn floors_only_rise_and_each_set_of_keys_has_its_own() {
        let mut state = State::new(None, Timestamp::UNIX_EPOCH);
        let seen =
            |keys: &str, version| RoleFloor { role: "timestamp".into(), key_set: Digest::of(keys.as_bytes()), version };
        state.raise_floors(&[seen("a", 7)]);
        state.raise_floors(&[seen("a", 5)]);
        assert_eq!(state.below_floor(&[seen("a", 6)]).map(|(_, floor)| floor), Some(7));
        assert_eq!(state.below_floor(&[seen("a", 7), seen("b", 1)]), None);
    }

    #[test]
    fn a_signed_time_counts_as_long_as_root_names_who_vouched_for_it() {
        let day = |n: i64| Timestamp::from_second(n * 86_400).unwrap();
        let online = |keys: &[&str], timestamp: &str| OnlineKeys {
            director: director(keys),
            timestamp: Digest::of(timestamp.as_bytes()),
        };
        let mut state = State::new(None, day(10));
        assert_eq!(state.time(&online(&["a"], "t")), day(10));
        for n in [20, 15] {
            state.raise_time(Voucher::Timestamp(Digest::of(b"t")), day(n));
        }
        assert_eq!(state.time(&online(&["a"], "t")), day(20));
        let record = DesiredRecord { generation: Generation(1), digest: Digest::of(b"x"), envelope: String::new() };
        for (n, signers) in [(30, &[key("a"), key("b")][..]), (400, &[key("a")])] {
            state.take_desired(record.clone(), signers, day(n));
        }
        assert_eq!(state.time(&online(&["a", "b"], "t")), day(400));
        assert_eq!(state.time(&online(&["b"], "t")), day(30), "what the stolen key said is forgotten");
        assert_eq!(state.time(&online(&["c"], "t")), day(20));
        assert_eq!(state.time(&online(&["c"], "u")), day(10));
        for n in [25, 5] {
            state.raise_time(Voucher::Root, day(n));
        }
        assert_eq!(state.time(&online(&["c"], "u")), day(25), "what root says stays");
    }
}
