//! With what lay there and nothing made up: the thief has the data folder as it was when the server was killed, an older
//! backup of its metadata, and one key each of root (anna's), targets (otto's) and the team (emil's), and the robot's. What he
//! serves is the fleet's own metadata, changed only where these keys can sign. The team has released 1.0.0, 1.0.1 and
//! 1.1.0, and taken the last one back.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tern_protocol::{
    refusal::RefusalCode::{CandidateNotAllowed, Expired, ManifestDigest, Metadata, Recalled, Rollback, UnknownTarget},
    signed::sign_value,
    tuf,
};

use crate::{
    candidate::as_candidate,
    rig::{
        Expected, Rig,
        fleet::{Fleet, copy_folder},
        https::Trick,
        people::{People, online},
        refused,
        release::{Release, TEAM},
        repository::{Files, Key, Keys, Publication, candidate_name, in_days, key},
    },
};

const REASON: &str = "it reads sevens as ones";
/// The highest number that every reader of JSON agrees on.
const END: u64 = (1 << 53) - 1;

/// The metadata of a data folder, as its server served it.
struct Served(Vec<(String, Vec<u8>)>);

impl Served {
    fn read(folder: &Path) -> Self {
        let file = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        Self(fs::read_dir(folder).unwrap().map(file).collect())
    }

    /// As files of a server, with what these versions consist of.
    fn files(&self, releases: &[&Release]) -> Files {
        let path = |name: &String| format!("{}{name}", tern_protocol::api::TUF_METADATA);
        let mut files: Files = self.0.iter().map(|(name, bytes)| (path(name), bytes.clone())).collect();
        releases.iter().for_each(|release| release.add_to(&mut files));
        files
    }

    /// Adds what was signed since.
    fn keep(&mut self, files: &Files) {
        let name = |path: &String| Some(path.strip_prefix(tern_protocol::api::TUF_METADATA)?.to_owned());
        self.0.extend(files.iter().filter_map(|(path, bytes)| Some((name(path)?, bytes.clone()))));
    }

    /// What the newest version of a role says.
    fn newest(&self, role: &str) -> Value {
        let is_of = |name: &str| {
            let version =
                name.strip_suffix(&format!(".{role}.json")).is_some_and(|number| number.parse::<u64>().is_ok());
            version || name == format!("{role}.json")
        };
        let said = self
            .0
            .iter()
            .filter(|(name, _)| is_of(name))
            .map(|(_, bytes)| serde_json::from_slice::<Value>(bytes).unwrap()["signed"].take());
        said.max_by_key(|signed| signed["version"].as_u64()).unwrap_or_else(|| panic!("there is no {role}"))
    }
}

struct Thief {
    now: Served,
    backup: Served,
    online: Keys,
    root: Key,
    targets: Key,
    team: Key,
    robot: Key,
    /// Of the online roles that he signs.
    version: u64,
    released: [Release; 3],
}

impl Thief {
    fn every_online_key(&self) -> Vec<Key> {
        [&self.online.snapshot, &self.online.timestamp, &self.online.director].map(Clone::clone).into()
    }

    fn with(&self, more: &Key) -> Vec<Key> {
        [self.every_online_key(), vec![more.clone()]].concat()
    }

    /// What lay there, and these versions' content.
    fn files(&self, evil: &Release) -> Files {
        let releases: Vec<_> = self.released.iter().chain([evil]).collect();
        self.now.files(&releases)
    }

    /// The same with a role that says this, signed by these, in a snapshot and a timestamp of his own.
    fn around(&mut self, evil: &Release, role: &str, mut says: Value, signers: &[Key]) -> Files {
        let version = says["version"].as_u64().unwrap() + 1;
        says["version"] = version.into();
        let mut files = self.files(evil);
        files.insert(Publication::path(role, Some(version)), signed(says, signers));
        self.fresh(&mut files, |snapshot, _| snapshot["meta"][format!("{role}.json")] = json!({"version": version}));
        files
    }

    /// A snapshot and a timestamp of his own, changed so.
    fn fresh(&mut self, files: &mut Files, change: impl FnOnce(&mut Value, &mut Value)) {
        self.version += 10;
        let (mut snapshot, mut timestamp) = (self.now.newest("snapshot"), self.now.newest("timestamp"));
        snapshot["version"] = self.version.into();
        timestamp["version"] = self.version.into();
        timestamp[tuf::ISSUED] = in_days(0).into();
        change(&mut snapshot, &mut timestamp);
        let version = snapshot["version"].as_u64().unwrap();
        timestamp["meta"]["snapshot.json"] = json!({"version": version});
        let snapshot = signed(snapshot, std::slice::from_ref(&self.online.snapshot));
        files.insert(Publication::path("snapshot", Some(version)), snapshot);
        let timestamp = signed(timestamp, std::slice::from_ref(&self.online.timestamp));
        files.insert(Publication::path("timestamp", None), timestamp);
    }
}

fn signed(says: Value, signers: &[Key]) -> Vec<u8> {
    sign_value(says, &signers.iter().map(|key| &**key).collect::<Vec<_>>()).unwrap()
}

fn unlisted() -> Expected {
    refused(UnknownTarget, "is not among its team's signed targets")
}

fn theft() -> (Rig, Thief) {
    let (mut fleet, people) = Fleet::of_people("stolen_server", "");
    people.release("1.0.1");
    people.release("1.1.0");
    // Nothing is published meanwhile, so the copy is whole.
    let backup = fleet.scratch.path().join("backup");
    copy_folder(&fleet.data.join("tuf/metadata"), &backup);
    people.recall("1.1.0", REASON, "4");
    let data = fleet.stolen();
    let thief = thief(&people, &data, &backup);
    let mut rig = Rig::steal(fleet, &data, online(&data), Vec::new());
    let evil = rig.evil();
    rig.attempt("all that lay there, as it was", thief.files(&evil), &evil, unlisted());
    (rig, thief)
}

fn thief(people: &People, data: &Path, backup: &Path) -> Thief {
    let now = Served::read(&data.join("tuf/metadata"));
    let version =
        now.newest("timestamp")["version"].as_u64().unwrap().max(now.newest("snapshot")["version"].as_u64().unwrap());
    Thief {
        now,
        backup: Served::read(backup),
        online: online(data),
        root: people.key_of("anna"),
        targets: people.key_of("otto"),
        team: people.key_of("emil"),
        robot: people.key_of("robot"),
        version,
        released: ["1.0.0", "1.0.1", "1.1.0"].map(Release::quickstart),
    }
}

/// He signs a snapshot that promises a list nobody believes, and so spoils the counter for himself, too: each of these ends
/// without an install, which is left to root's people.
#[test]
fn one_of_two_keys_adds_nothing_to_the_teams_own_list() {
    let (mut rig, mut thief) = theft();
    team(&mut rig, &mut thief);
    rig.leave();
}

#[test]
fn one_key_of_root_or_targets_hands_nothing_over() {
    let (mut rig, mut thief) = theft();
    root(&mut rig, &thief);
    targets(&mut rig, &mut thief);
    rig.leave();
}

#[test]
fn what_a_stolen_data_folder_holds_releases_nothing() {
    let (mut rig, mut thief) = theft();
    mixed(&mut rig, &thief);
    frozen(&mut rig, &mut thief);
    old(&mut rig, &mut thief);
    robot(&mut rig, &mut thief);
    // He may spoil the counters, which root mends by other keys; it lists nothing new.
    let evil = rig.evil();
    let mut files = thief.files(&evil);
    thief.fresh(&mut files, |snapshot, timestamp| {
        (snapshot["version"], timestamp["version"]) = (END.into(), END.into());
    });
    rig.attempt("counters at their end", files, &evil, unlisted());
    // What is left to him: another version that its team released and did not take back.
    rig.take(&thief.released[1].clone());
}

/// The team's list with a version that it did not release.
fn team(rig: &mut Rig, thief: &mut Thief) {
    let stranger = key();
    for (variant, signers, words) in [
        ("the online keys release", thief.every_online_key(), "role demo: 0/2"),
        ("the online keys and one of the team's two release", thief.with(&thief.team), "role demo: 1/2"),
        ("one of the team's two releases", vec![thief.team.clone()], "role demo: 1/2"),
        ("one of the team's two and a stranger release", vec![thief.team.clone(), stranger], "role demo: 1/2"),
        (
            "one of the team's two and the robot release",
            vec![thief.team.clone(), thief.robot.clone()],
            "role demo: 1/2",
        ),
        (
            "one root key and one of the team's two release",
            vec![thief.root.clone(), thief.team.clone()],
            "role demo: 1/2",
        ),
    ] {
        let evil = rig.evil();
        let mut list = thief.now.newest(TEAM);
        list["targets"][evil.path()] = evil.target();
        let files = thief.around(&evil, TEAM, list, &signers);
        rig.attempt(variant, files, &evil, refused(Metadata, words));
    }
}

/// Targets that hand the team to keys of the thief's own.
fn targets(rig: &mut Rig, thief: &mut Thief) {
    let own = Keys::new();
    for (variant, signers, words) in [
        ("the online keys name the team's keys", thief.every_online_key(), "role targets: 0/2"),
        ("the online keys and one of targets' name the team's keys", thief.with(&thief.targets), "role targets: 1/2"),
        ("one root key and the online keys name the team's keys", thief.with(&thief.root), "role targets: 0/2"),
    ] {
        let evil = rig.evil();
        let mut targets = thief.now.newest("targets");
        targets["delegations"] = Publication::honest(&own, 1, &[], &[]).targets.signed["delegations"].take();
        let files = thief.around(&evil, "targets", targets, &signers);
        rig.attempt(variant, files, &evil, refused(Metadata, words));
    }
}

/// A root that hands everything to keys of the thief's own.
fn root(rig: &mut Rig, thief: &Thief) {
    let own = Keys::new();
    for (variant, signers) in [
        ("the online keys sign a root", thief.every_online_key()),
        ("one root key signs a root", vec![thief.root.clone()]),
        ("one root key and every online key sign a root", thief.with(&thief.root)),
        (
            "one key of each role signs a root",
            [thief.with(&thief.root), vec![thief.targets.clone(), thief.team.clone()]].concat(),
        ),
        ("one root key and those that the root names", [&[thief.root.clone()][..], &own.root[..2]].concat()),
    ] {
        let evil = rig.evil();
        let next = thief.now.newest("root")["version"].as_u64().unwrap() + 1;
        let mut root = own.root(next);
        root.signers = signers;
        // Everything else as his root would have it.
        let mut theirs = Publication::honest(&own, thief.version + 1000, &[&evil], &[]);
        theirs.roots.push(root);
        rig.attempt(variant, theirs.files(), &evil, refused(Metadata, "role root"));
    }
}

/// The robot's key offers candidates, which no device here opted in to, and releases nothing.
fn robot(rig: &mut Rig, thief: &mut Thief) {
    let (evil, role) = (rig.evil(), candidate_name());
    let robot = [thief.robot.clone()];
    let mut listed = serde_json::Map::new();
    for path in [evil.candidate_path(), evil.path()] {
        listed.insert(path, evil.target());
    }
    // It has offered nothing so far.
    let list =
        json!({"_type": "targets", "spec_version": "1.0.31", "version": 0, "expires": in_days(30), "targets": listed});
    let files = thief.around(&evil, &role, list, &robot);
    thief.now.keep(&files);
    rig.https.serve(files);
    let expected = refused(CandidateNotAllowed, "does not allow candidates");
    rig.try_demand("a candidate of the robot's", as_candidate(&evil), expected);
    rig.try_demand("a release of the robot's", evil.desired(), unlisted());
}

/// What was so once: before the recall.
fn old(rig: &mut Rig, thief: &mut Thief) {
    let taken_back = thief.released[2].clone();
    let recalled = refused(Recalled, "version 1.1.0 was recalled by its team: it reads sevens as ones");
    let mut files = thief.files(&taken_back);
    thief.fresh(&mut files, |_, _| ());
    rig.attempt("the version that was taken back", files, &taken_back, recalled);
    let evil = rig.evil();
    let backup = thief.backup.files(&[&evil, &taken_back]);
    rig.attempt("the backup", backup.clone(), &evil, refused(Rollback, "timestamp"));
    rig.attempt("the version that was taken back, from the backup", backup, &taken_back, recalled);
    let evil = rig.evil();
    let mut files = thief.files(&evil);
    let before = thief.backup.newest(TEAM)["version"].clone();
    thief.fresh(&mut files, |snapshot, _| snapshot["meta"][format!("{TEAM}.json")] = json!({"version": before}));
    rig.attempt("the team's list of the backup in a new snapshot", files, &evil, refused(Rollback, ""));
}

/// Parts of one released version under another's name.
fn mixed(rig: &mut Rig, thief: &Thief) {
    let [first, second, third] = &thief.released;
    let mut demand = second.desired();
    demand.manifest = third.digest();
    rig.try_demand(
        "one version's digest under another's name",
        demand,
        refused(ManifestDigest, "is not the signed one"),
    );
    // Cut to the length that was signed: what is longer is not even read.
    let mut manifest = first.bytes();
    manifest.resize(second.bytes().len(), b' ');
    rig.https.play(&second.manifest_path(), Trick::Bytes(manifest));
    let expected = refused(ManifestDigest, "does not match its signed digest");
    rig.try_demand("one version's manifest under another's name", second.desired(), expected);
}

/// Metadata past its end, by the keys that could give it another.
fn frozen(rig: &mut Rig, thief: &mut Thief) {
    for role in ["snapshot", "timestamp"] {
        let evil = rig.evil();
        let mut files = thief.files(&evil);
        thief.fresh(&mut files, |snapshot, timestamp| {
            let which = if role == "snapshot" { snapshot } else { timestamp };
            which["expires"] = in_days(-1).into();
        });
        rig.attempt(&format!("{role} expired yesterday"), files, &evil, refused(Expired, "metadata expired at"));
    }
}
