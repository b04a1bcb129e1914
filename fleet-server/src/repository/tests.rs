//! The repository against the real client: what it publishes verifies, and a cut at any write leaves the old set or the
//! new one, whole.

use std::{fs, sync::Arc};

use serde_json::json;
use sigstore_tuf::{Updater, UpdaterConfig};
use tern_protocol::{
    keys::{PublicKey, SigningKey},
    signed::sign_value,
};

use super::{writing::KEPT, *};
use crate::disk::Access;

mod counters;
mod keyring;

const NOW: &str = "2026-06-01T00:00:00Z";

struct Scratch {
    folder: tempfile::TempDir,
    keys: Arc<Keys>,
}

struct Keys {
    root: SigningKey,
    director: SigningKey,
    snapshot: SigningKey,
    timestamp: SigningKey,
    team: SigningKey,
    candidate: SigningKey,
    targets: SigningKey,
}

fn copy(key: &SigningKey) -> SigningKey {
    SigningKey::from_pkcs8(key.to_pkcs8()).unwrap()
}

impl Keys {
    fn online(&self) -> Keyring {
        Keyring::of([copy(&self.snapshot), copy(&self.timestamp)])
    }
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn later(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn team() -> TeamId {
    "demo".parse().unwrap()
}

fn releases() -> TeamRole {
    TeamRole::release(team())
}

fn of_team(team: TeamId, release: PublicKey, candidate: PublicKey) -> solo::TeamKeys {
    solo::TeamKeys { team, release: vec![release], threshold: 1, candidate }
}

fn scratch() -> Scratch {
    let key = || SigningKey::generate().unwrap();
    let [root, director, snapshot, timestamp, team_key, candidate, targets] = [(); 7].map(|()| key());
    let keys = Arc::new(Keys { root, director, snapshot, timestamp, team: team_key, candidate, targets });
    let folder = tempfile::tempdir().unwrap();
    let solo = solo::SoloKeys {
        root: copy(&keys.root),
        targets: copy(&keys.targets),
        online: OnlineKeys::new(copy(&keys.snapshot), copy(&keys.timestamp)),
        director: keys.director.public(),
        teams: vec![
            of_team(team(), keys.team.public(), keys.candidate.public()),
            of_team("other".parse().unwrap(), key().public(), key().public()),
        ],
    };
    solo::create(folder.path(), &solo, now()).unwrap();
    Scratch { folder, keys }
}

impl Scratch {
    fn open(&self, at: Timestamp) -> Repository {
        Repository::open(self.folder.path(), self.keys.online(), at).unwrap()
    }

    fn metadata(&self, version: u64, targets: &[&str]) -> Vec<u8> {
        self.signed(version, targets, &[&self.keys.team])
    }

    fn signed(&self, version: u64, targets: &[&str], keys: &[&SigningKey]) -> Vec<u8> {
        let target = |model: &&str| {
            let bytes = manifest(model);
            let path = model.parse::<ModelVersion>().map_or_else(|_| (*model).to_owned(), |m| m.target_path());
            (path, json!({"length": bytes.len(), "hashes": {"sha256": Digest::of(&bytes)}}))
        };
        let targets: serde_json::Map<_, _> = targets.iter().map(target).collect();
        sign_value(role(version, json!(targets)), keys).unwrap()
    }
}

fn role(version: u64, targets: Value) -> Value {
    json!({
        "_type": "targets", "spec_version": "1.0.31", "version": version,
        "expires": whole_seconds(now() + TEAM_LIFE), "targets": targets,
    })
}

fn manifest(model: &str) -> Vec<u8> {
    format!("manifest of {model}").into_bytes()
}

fn with_manifests(models: &[&str]) -> Vec<(SignedVersion, Vec<u8>)> {
    let one = |model: &&str| {
        let bytes = manifest(model);
        (SignedVersion { model: model.parse().unwrap(), manifest: Digest::of(&bytes) }, bytes)
    };
    models.iter().map(one).collect()
}

/// The files of a repository as a client sees them.
struct Files(PathBuf);

impl sigstore_tuf::Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(async move { Ok(fs::read(self.0.join("metadata").join(name)).ok()) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(async move { Ok(fs::read(self.0.join("targets").join(path)).ok()) })
    }
}

/// What a client that starts from the first root gets of a version's manifest.
async fn client(folder: &Path, model: &str, at: Timestamp) -> Result<Vec<u8>, sigstore_tuf::Error> {
    tuf::install_provider();
    let root = fs::read(folder.join("metadata/1.root.json")).unwrap();
    let mut updater = Updater::new(Files(folder.to_owned()), &root)?.with_config(UpdaterConfig::default());
    updater.refresh(at).await?;
    updater.get_target(&model.parse::<ModelVersion>().unwrap().target_path(), at).await
}

#[tokio::test]
async fn a_published_version_reaches_a_client_and_no_other_does() {
    let scratch = scratch();
    let repository = scratch.open(now());
    let path = scratch.folder.path();
    assert!(client(path, "demo/m@1.0.0", now()).await.is_err());
    let listed = repository
        .publish(&releases(), &scratch.metadata(1, &["demo/m@1.0.0"]), &with_manifests(&["demo/m@1.0.0"]), now())
        .unwrap();
    assert_eq!(listed.versions.len(), 1);
    assert_eq!(client(path, "demo/m@1.0.0", now()).await.unwrap(), manifest("demo/m@1.0.0"));
    assert!(client(path, "demo/m@1.0.1", now()).await.is_err());
    let both = ["demo/m@1.0.0", "demo/m@1.0.1"];
    repository.publish(&releases(), &scratch.metadata(2, &both), &with_manifests(&both), now()).unwrap();
    assert_eq!(client(path, "demo/m@1.0.1", now()).await.unwrap(), manifest("demo/m@1.0.1"));
    let shown = repository.team(&releases(), now()).unwrap();
    assert_eq!((shown.next_version, shown.signatures.len()), (3, 1));
    assert_eq!(scratch.open(now()).listing(&releases()).versions.len(), 2);
}

#[test]
fn every_refusal_has_its_own_variant_and_publishes_nothing() {
    let scratch = scratch();
    let repository = scratch.open(now());
    let before = fs::read(scratch.folder.path().join("metadata/timestamp.json")).unwrap();
    let refused = |bytes: &[u8]| repository.publish(&releases(), bytes, &[], now()).unwrap_err();
    let one = ["demo/m@1.0.0"];
    let stranger = SigningKey::generate().unwrap();
    assert!(matches!(refused(b"{"), PublishRefusal::Malformed(_)));
    assert!(matches!(refused(&vec![b' '; MAX_TEAM_BYTES + 1]), PublishRefusal::Malformed(_)));
    assert!(matches!(refused(&scratch.metadata(2, &one)), PublishRefusal::Moved { found: 2, next: 1 }));
    assert!(matches!(refused(&scratch.metadata(0, &one)), PublishRefusal::Moved { found: 0, next: 1 }));
    let threshold = PublishRefusal::UnderThreshold { found: 0, threshold: 1 };
    assert_eq!(refused(&scratch.signed(1, &one, &[&stranger])).to_string(), threshold.to_string());
    assert_eq!(refused(&scratch.signed(1, &one, &[])).to_string(), threshold.to_string());
    for foreign in ["other/m@1.0.0", "models/demo/m/manifest.json", "../x", "models/demo/m/1.0.0/model.onnx"] {
        let refusal = refused(&scratch.metadata(1, &[foreign]));
        assert!(matches!(refusal, PublishRefusal::ForeignTarget(..)), "{foreign}: {refusal}");
    }
    let mut delegating = role(1, json!({}));
    delegating["delegations"] = json!({"keys": {}, "roles": []});
    let delegating = sign_value(delegating, &[&scratch.keys.team]).unwrap();
    assert!(matches!(refused(&delegating), PublishRefusal::Delegates));
    let mut expired = role(1, json!({}));
    expired["expires"] = json!("2026-05-01T00:00:00Z");
    let expired = sign_value(expired, &[&scratch.keys.team]).unwrap();
    assert!(matches!(refused(&expired), PublishRefusal::Expired(_)));
    let twice = scratch.signed(1, &one, &[&scratch.keys.team, &scratch.keys.team]);
    assert!(matches!(refused(&twice), PublishRefusal::Unacceptable(_)));
    let nobody =
        repository.publish(&TeamRole::release("nobody".parse().unwrap()), &scratch.metadata(1, &one), &[], now());
    assert!(matches!(nobody, Err(PublishRefusal::UnknownTeam(_))));
    assert_eq!(fs::read(scratch.folder.path().join("metadata/timestamp.json")).unwrap(), before);
    assert_eq!(load::versions_on_disk(scratch.folder.path(), "demo").unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn a_cut_at_any_write_leaves_the_old_set_or_the_new_one() {
    let both = ["demo/m@1.0.0", "demo/m@1.0.1"];
    // 2 manifests less the one that is there, team, snapshot, timestamp: 4 writes, so 5 places to cut.
    for done in 0..=4 {
        let scratch = scratch();
        let path = scratch.folder.path();
        let first = scratch.metadata(1, &both[..1]);
        scratch.open(now()).publish(&releases(), &first, &with_manifests(&both[..1]), now()).unwrap();
        let second = scratch.metadata(2, &both);
        let repository = scratch.open(now());
        let published = repository.lock().clone();
        let keys = repository.online(&published).unwrap();
        let (_, mut writes) = published.with_team(path, &keys, &releases(), &second, now()).unwrap();
        let (version, bytes) = with_manifests(&both).remove(1);
        let manifest_path = repository.manifest_path(&version.model, &version.manifest, RoleKind::Release);
        writes.insert(0, Write { path: manifest_path, bytes });
        assert_eq!(writes.len(), 4);
        carry_out(&writes[..done]).unwrap();
        if let Some(torn) = writes.get(done) {
            let mut partial = torn.path.clone().into_os_string();
            partial.push(".partial");
            fs::create_dir_all(torn.path.parent().unwrap()).unwrap();
            fs::File::create(&partial).unwrap();
        }
        drop(repository);
        let is_new = done == writes.len();
        // What a client sees before the server is back, and after.
        assert_eq!(client(path, both[0], now()).await.unwrap(), manifest(both[0]), "cut after {done}");
        assert_eq!(client(path, both[1], now()).await.is_ok(), is_new, "cut after {done}");
        let repository = scratch.open(now());
        assert_eq!(repository.listing(&releases()).versions.len(), if is_new { 2 } else { 1 });
        if !is_new {
            repository.publish(&releases(), &second, &with_manifests(&both), now()).unwrap();
        }
        assert_eq!(client(path, both[1], now()).await.unwrap(), manifest(both[1]), "cut after {done}");
        let names: Vec<_> = fs::read_dir(path.join("metadata")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".partial")), "{names:?}");
    }
}

#[tokio::test]
async fn a_lost_or_torn_timestamp_is_mended() {
    for damage in [None, Some(&b"{\"signed\":"[..])] {
        let scratch = scratch();
        let path = scratch.folder.path();
        let one = ["demo/m@1.0.0"];
        scratch.open(now()).publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), now()).unwrap();
        let timestamp = path.join("metadata/timestamp.json");
        match damage {
            None => fs::remove_file(&timestamp).unwrap(),
            Some(bytes) => disk::write(&timestamp, bytes, Access::Public).unwrap(),
        }
        let repository = scratch.open(later(1));
        assert_eq!(repository.listing(&releases()).versions.len(), 1);
        assert_eq!(client(path, one[0], later(1)).await.unwrap(), manifest(one[0]));
    }
}

#[tokio::test]
async fn freshness_is_signed_anew_at_half_life_and_versions_grow_with_time() {
    let scratch = scratch();
    let repository = scratch.open(now());
    let path = scratch.folder.path();
    let one = ["demo/m@1.0.0"];
    repository.publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), now()).unwrap();
    assert!(!repository.freshen(later(3)).unwrap());
    assert!(client(path, one[0], later(8)).await.is_err(), "expired");
    assert!(repository.freshen(later(4)).unwrap());
    assert_eq!(client(path, one[0], later(8)).await.unwrap(), manifest(one[0]));
    let version = repository.lock().trusted.timestamp().unwrap().version;
    assert_eq!(version, u64::try_from(later(4).as_second()).unwrap());
    // A server that was away for long, and one whose clock stepped back.
    assert!(scratch.open(later(60)).freshen(later(60)).unwrap());
    client(path, one[0], later(60)).await.unwrap();
    let repository = scratch.open(later(50));
    repository.publish(&releases(), &scratch.metadata(2, &one), &[], later(50)).unwrap();
    let after = repository.lock().trusted.timestamp().unwrap().version;
    assert_eq!(after, u64::try_from(later(60).as_second()).unwrap() + 1);
}

#[tokio::test]
async fn targets_whose_key_is_here_are_signed_anew_before_and_after_their_end() {
    let scratch = scratch();
    let path = scratch.folder.path();
    let one = ["demo/m@1.0.0"];
    let Keys { snapshot, timestamp, targets, .. } = scratch.keys.as_ref();
    let open = |at| Repository::open(path, Keyring::of([snapshot, timestamp, targets].map(copy)), at).unwrap();
    let repository = open(now());
    repository.publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), now()).unwrap();
    // The first half: only freshness.
    assert!(repository.freshen(later(180)).unwrap());
    assert_eq!(load::versions_on_disk(path, "targets").unwrap(), [1]);
    assert!(repository.freshen(later(183)).unwrap());
    assert_eq!(load::versions_on_disk(path, "targets").unwrap(), [1, 2]);
    assert!(!repository.freshen(later(184)).unwrap());
    assert_eq!(client(path, one[0], later(184)).await.unwrap(), manifest(one[0]));
    assert_eq!(repository.listing(&releases()).versions.len(), 1);
    // A server that was away until they had expired.
    let repository = open(later(600));
    assert!(repository.freshen(later(600)).unwrap());
    assert_eq!(load::versions_on_disk(path, "targets").unwrap(), [1, 2, 3]);
    let mut role = role(2, json!({}));
    role["expires"] = json!(whole_seconds(later(900)));
    repository.publish(&releases(), &sign_value(role, &[&scratch.keys.team]).unwrap(), &[], later(600)).unwrap();
    open(later(601));
}

#[test]
fn what_cannot_be_signed_anew_is_said_and_still_served() {
    let scratch = scratch();
    let repository = scratch.open(later(366));
    let error = format!("{:#}", repository.freshen(later(366)).unwrap_err());
    assert!(error.contains("expired"), "{error}");
    assert!(repository.metadata("timestamp.json").unwrap().is_some());
    // Without the key of targets there is nothing to renew them with, which does not hold up freshness.
    let repository = scratch.open(later(200));
    assert!(repository.freshen(later(200)).unwrap());
    assert!(repository.expires() > later(200));
    assert_eq!(load::versions_on_disk(scratch.folder.path(), "targets").unwrap(), [1]);
}

#[test]
fn old_snapshots_are_removed_but_not_at_once() {
    let scratch = scratch();
    let repository = scratch.open(now());
    for round in 1..=20 {
        assert!(repository.freshen(later(4 * round)).unwrap());
    }
    assert_eq!(load::versions_on_disk(scratch.folder.path(), "snapshot").unwrap().len(), KEPT);
    scratch.open(later(80));
}

#[test]
fn damage_that_cannot_be_mended_is_said() {
    let scratch = scratch();
    let targets = scratch.folder.path().join("metadata/1.targets.json");
    fs::remove_file(targets).unwrap();
    let error = Repository::open(scratch.folder.path(), scratch.keys.online(), now()).unwrap_err();
    assert!(format!("{error:#}").contains("from a backup"), "{error:#}");
}

#[test]
fn only_metadata_can_be_asked_for() {
    for name in
        ["timestamp.json", "1.root.json", "12.snapshot.json", "1.targets.json", "7.demo.json", "7.demo.candidate.json"]
    {
        assert!(is_metadata_name(name), "{name}");
    }
    for name in [
        "root.json",
        "01.root.json",
        "0.root.json",
        "../server.db",
        "1.../x.json",
        "1.root.json.partial",
        "a",
        "1.demo.x.json",
    ] {
        assert!(!is_metadata_name(name), "{name}");
    }
}

fn standing_role(version: u64, targets: &[&str], standings: Value) -> Value {
    let target = |model: &&str| {
        let bytes = manifest(model);
        let path = model.parse::<ModelVersion>().unwrap().target_path();
        (path, json!({"length": bytes.len(), "hashes": {"sha256": Digest::of(&bytes)}}))
    };
    let mut role = role(version, Value::Object(targets.iter().map(target).collect()));
    role[tern_protocol::standing::MODELS] = standings;
    role
}

#[test]
fn a_recall_and_a_floor_are_published_and_never_taken_back_under_the_same_keys() {
    let scratch = scratch();
    let repository = scratch.open(now());
    let publish = |role: Value, models: &[&str]| {
        let bytes = sign_value(role, &[&scratch.keys.team]).unwrap();
        repository.publish(&releases(), &bytes, &with_manifests(models), now())
    };
    let both = ["demo/m@1.0.0", "demo/m@1.0.1"];
    publish(standing_role(1, &both, json!({})), &both).unwrap();
    let refused = publish(standing_role(2, &both, json!({"m": {"recalled": {"1.0.1": "labels"}}})), &both).unwrap_err();
    assert!(matches!(&refused, PublishRefusal::Standing(words) if words.contains("lists demo/m@1.0.1")), "{refused}");
    let malformed = publish(standing_role(2, &both[..1], json!({"m": {"flor": "1.0.0"}})), &both[..1]).unwrap_err();
    assert!(matches!(malformed, PublishRefusal::Standing(_)), "{malformed}");
    let recalled = json!({"m": {"floor": "1.0.0", "recalled": {"1.0.1": "labels"}}});
    let listing = publish(standing_role(2, &both[..1], recalled.clone()), &both[..1]).unwrap();
    assert_eq!(json!(listing.standings), recalled);
    assert_eq!(repository.listing(&releases()), listing);
    for lower in [json!({}), json!({"m": {"floor": "1.0.0"}}), json!({"m": {"recalled": {"1.0.1": "labels"}}})] {
        let refused = publish(standing_role(3, &both[..1], lower), &both[..1]).unwrap_err();
        assert!(matches!(refused, PublishRefusal::StandingLowered(_)), "{refused}");
    }
    let signed = repository.signed_part(&releases());
    assert_eq!((signed.0.unwrap()["version"].as_u64(), signed.1), (Some(2), 2));
    assert_eq!(scratch.open(now()).listing(&releases()), listing, "also after a start");
}

#[tokio::test]
async fn candidates_have_a_list_and_a_key_of_their_own() {
    let scratch = scratch();
    let repository = scratch.open(now());
    let robots = TeamRole::candidate(team());
    let (model, bytes) = ("demo/m@2.0.0", manifest("demo/m@2.0.0"));
    let path = model.parse::<ModelVersion>().unwrap().candidate_path();
    let targets = json!({path.clone(): {"length": bytes.len(), "hashes": {"sha256": Digest::of(&bytes)}}});
    let publish = |role: Value, key: &SigningKey| {
        let bytes = sign_value(role, &[key]).unwrap();
        repository.publish(&robots, &bytes, &with_manifests(&[model]), now())
    };
    let refused = publish(role(1, targets.clone()), &scratch.keys.team).unwrap_err();
    assert!(matches!(refused, PublishRefusal::UnderThreshold { found: 0, threshold: 1 }), "{refused}");
    let release = json!({"models/demo/m/2.0.0/manifest.json": targets[&path]});
    let refused = publish(role(1, release), &scratch.keys.candidate).unwrap_err();
    assert!(matches!(refused, PublishRefusal::ForeignTarget(..)), "{refused}");
    let mut speaking = role(1, targets.clone());
    speaking[tern_protocol::standing::MODELS] = json!({"m": {"floor": "1.0.0"}});
    let refused = publish(speaking, &scratch.keys.candidate).unwrap_err();
    assert!(matches!(refused, PublishRefusal::Standing(_)), "{refused}");

    assert_eq!(publish(role(1, targets), &scratch.keys.candidate).unwrap().versions.len(), 1);
    assert!(repository.listing(&releases()).versions.is_empty(), "a candidate is no release");
    assert!(repository.metadata("1.demo.candidate.json").unwrap().is_some());
    assert_eq!(
        repository.manifest(&model.parse().unwrap(), &Digest::of(&bytes), RoleKind::Candidate).unwrap().unwrap(),
        bytes
    );
    let folder = scratch.folder.path();
    let root = fs::read(folder.join("metadata/1.root.json")).unwrap();
    let mut updater = Updater::new(Files(folder.to_owned()), &root).unwrap();
    updater.refresh(now()).await.unwrap();
    assert_eq!(updater.get_target(&path, now()).await.unwrap(), bytes);
    assert!(updater.get_target("models/demo/m/2.0.0/manifest.json", now()).await.is_err());
    // A publication of it that was cut is swept at the next start, and old ones go in time like others.
    fs::copy(folder.join("metadata/1.demo.candidate.json"), folder.join("metadata/2.demo.candidate.json")).unwrap();
    let again = scratch.open(now());
    assert_eq!(load::versions_on_disk(folder, "demo.candidate").unwrap(), [1]);
    assert_eq!(again.listing(&robots).versions.len(), 1);
    assert_eq!((again.teams().len(), again.roles().len()), (2, 4));
}
