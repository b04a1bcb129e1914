//! Counters of snapshot and timestamp: what is mended lies above what devices have seen, and one that was run to its end ends
//! with the stolen key. And what a ceremony's upload leaves where the disk refuses in the middle of it.

use super::{metadata::END, *};
use crate::{
    ceremony::{
        signing::{Papers, Sheets},
        trust::{Edition, ROOT_LIFE, RoleKeys, RootTrust},
    },
    keyfile,
};

/// The versions of snapshot and timestamp that are published.
fn published(repository: &Repository) -> (u64, u64) {
    let published = repository.lock();
    (published.trusted.snapshot().unwrap().version, published.trusted.timestamp().unwrap().version)
}

/// A client that has seen everything so far.
struct Seen(Updater);

impl Seen {
    async fn now(folder: &Path, at: Timestamp) -> Self {
        let root = fs::read(folder.join("metadata/1.root.json")).unwrap();
        let mut updater = Updater::new(Files(folder.to_owned()), &root).unwrap();
        updater.refresh(at).await.unwrap();
        Self(updater)
    }

    async fn goes_on(&mut self, at: Timestamp) {
        self.0.refresh(at).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_mended_lies_above_what_devices_have_seen() {
    let one = ["demo/m@1.0.0"];
    // What is lost; the clock has been set back by forty days meanwhile, so that it is of no help.
    for lost in ["timestamp", "snapshot", "torn timestamp"] {
        let scratch = scratch();
        let path = scratch.folder.path();
        let repository = scratch.open(later(50));
        repository.publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), later(50)).unwrap();
        repository.freshen(later(55)).unwrap();
        let two = ["demo/m@1.0.0", "demo/m@1.0.1"];
        repository.publish(&releases(), &scratch.metadata(2, &two), &with_manifests(&two), later(55)).unwrap();
        let before = published(&repository);
        assert_eq!(before.0, before.1, "one counter");
        let mut device = Seen::now(path, later(55)).await;
        drop(repository);
        let name = if lost == "snapshot" { &format!("{}.snapshot.json", before.0) } else { "timestamp.json" };
        let file = path.join("metadata").join(name);
        match lost {
            "torn timestamp" => disk::write(&file, b"{\"signed\":", Access::Public).unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
        let repository = scratch.open(later(15));
        let after = published(&repository);
        assert!(after.0 > before.0 && after.1 > before.1, "{lost}: {before:?} {after:?}");
        assert_eq!(repository.listing(&releases()).versions.len(), 2, "{lost}: no list goes back");
        device.goes_on(later(15)).await;
        assert_eq!(device.0.trusted().timestamp().unwrap().version, after.1);
        // The same again finds nothing to mend.
        assert_eq!(published(&scratch.open(later(15))), after);
    }
}

impl Scratch {
    /// The repository with its keys in a folder, these beside them.
    fn open_with(&self, more: &[&SigningKey], at: Timestamp) -> Repository {
        let folder = self.folder.path().join("keys");
        let Keys { snapshot, timestamp, director, .. } = self.keys.as_ref();
        for (n, key) in [snapshot, timestamp, director].into_iter().chain(more.iter().copied()).enumerate() {
            disk::create_folder(&folder).unwrap();
            keyfile::write(&folder.join(format!("{n}.key")), key, None).unwrap();
        }
        Repository::open(self.folder.path(), Keyring::open(&folder).unwrap(), at).unwrap()
    }

    /// The next root, changed so.
    fn next_root(&self, change: impl FnOnce(&mut RootTrust)) -> TrustChange {
        let read = |name| Some(load::file(self.folder.path(), name).unwrap());
        let sheets = Sheets { root: read("1.root.json"), targets: read("1.targets.json"), ..Sheets::default() };
        let (mut trust, edition) = Papers::read(&sheets).unwrap().root.unwrap().content;
        change(&mut trust);
        let root = trust.document(Edition::after(Some(edition), ROOT_LIFE, now()));
        TrustChange { root: Some(sign_value(root, &[&self.keys.root]).unwrap()), targets: None }
    }

    /// Somebody with both online keys publishes these counters, as good as any.
    fn run_to(&self, snapshot: u64, timestamp: u64) {
        let read =
            |name: &str| serde_json::from_slice::<Value>(&load::file(self.folder.path(), name).unwrap()).unwrap();
        let mut fresh = read("timestamp.json")["signed"].take();
        let mut list = read(&format!("{}.snapshot.json", fresh["meta"]["snapshot.json"]["version"]))["signed"].take();
        list["version"] = json!(snapshot);
        let list = sign_value(list, &[&self.keys.snapshot]).unwrap();
        fresh["version"] = json!(timestamp);
        fresh["meta"]["snapshot.json"] =
            json!({"version": snapshot, "length": list.len(), "hashes": {"sha256": Digest::of(&list)}});
        let fresh = sign_value(fresh, &[&self.keys.timestamp]).unwrap();
        for (name, bytes) in [(format!("{snapshot}.snapshot.json"), list), ("timestamp.json".into(), fresh)] {
            disk::write(&self.folder.path().join("metadata").join(name), &bytes, Access::Public).unwrap();
        }
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap()
}

#[tokio::test]
async fn counters_run_to_their_end_start_anew_under_new_keys() {
    for end in [END, u64::MAX] {
        let scratch = scratch();
        let (snapshot, timestamp) = (key(), key());
        let path = scratch.folder.path();
        let one = ["demo/m@1.0.0"];
        scratch.open(now()).publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), now()).unwrap();
        for last in (0..KEPT as u64).rev() {
            scratch.run_to(end - last, end - last);
        }
        let repository = scratch.open_with(&[&snapshot, &timestamp], now());
        // It still serves, signs nothing further, and says what to do.
        for refused in [
            repository.freshen(later(5)).unwrap_err(),
            repository.publish(&releases(), &scratch.metadata(2, &one), &[], now()).unwrap_err().into(),
        ] {
            let words = format!("{refused:#}");
            assert!(words.contains("at its end") && words.contains("tern-server keys new timestamp"), "{words}");
        }
        // New keys for one role leave the other's counter where it is.
        let half = scratch.next_root(|root| root.timestamp = RoleKeys::one(timestamp.public()));
        let refused = format!("{:#}", anyhow::Error::new(repository.publish_trust(&half, later(5)).unwrap_err()));
        assert!(refused.contains("at its end"), "{refused}");

        let both = scratch.next_root(|root| {
            root.timestamp = RoleKeys::one(timestamp.public());
            root.snapshot = RoleKeys::one(snapshot.public());
        });
        repository.publish_trust(&both, later(5)).unwrap();
        assert_eq!(published(&repository), (seconds(later(5)), seconds(later(5))));
        // What is left of the thief's pushes nothing out that counts.
        assert!(repository.freshen(later(9)).unwrap());
        assert_eq!(client(path, one[0], later(9)).await.unwrap(), manifest(one[0]));
        drop(repository);
        let again = scratch.open_with(&[&snapshot, &timestamp], later(9));
        assert_eq!(published(&again), (seconds(later(9)), seconds(later(9))));
        assert!(load::versions_on_disk(path, "snapshot").unwrap().iter().all(|version| *version <= seconds(later(9))));
    }
}

#[tokio::test]
async fn a_timestamp_run_to_its_end_starts_anew_above_the_snapshot_that_goes_on() {
    let (scratch, timestamp) = (scratch(), key());
    scratch.run_to(seconds(later(30)), END);
    let repository = scratch.open_with(&[&timestamp], now());
    let rotated = scratch.next_root(|root| root.timestamp = RoleKeys::one(timestamp.public()));
    repository.publish_trust(&rotated, now()).unwrap();
    assert_eq!(published(&repository), (seconds(later(30)) + 1, seconds(later(30)) + 1));
    Seen::now(scratch.folder.path(), now()).await;
}

#[test]
fn a_list_at_its_last_version_is_refused_its_next() {
    let scratch = scratch();
    let repository = scratch.open(now());
    for last in [END, u64::MAX] {
        let mut published = repository.lock().clone();
        let list = scratch.metadata(last, &[]);
        published.teams.insert(releases(), list.clone());
        let versions = BTreeMap::from([(releases(), last)]);
        let keys = repository.online(&published).unwrap();
        let before = metadata::Before::of(&published.trusted);
        let files = metadata::online(&before, &keys, &published.targets, &published.teams, &versions, now()).unwrap();
        let proved =
            Published::prove(published.trusted.clone(), &files, &published.targets, &published.teams, None, now());
        published.trusted = proved.unwrap();
        for refused in [
            published.inspect(&releases(), &list).unwrap_err(),
            published.with_team(Path::new(""), &keys, &releases(), &list, now()).unwrap_err(),
        ] {
            assert!(matches!(&refused, PublishRefusal::Unacceptable(why) if why.contains("none after")), "{refused}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_between_root_and_timestamp_is_finished_by_whatever_writes_next() {
    let one = ["demo/m@1.0.0"];
    let new_keys = [true, false];
    let uploads_again = [true, false];
    for (rotates, again) in new_keys.into_iter().flat_map(|r| uploads_again.map(|a| (r, a))) {
        let (scratch, timestamp) = (scratch(), key());
        let path = scratch.folder.path();
        let repository = scratch.open_with(&[&timestamp], now());
        repository.publish(&releases(), &scratch.metadata(1, &one), &with_manifests(&one), now()).unwrap();
        let change = scratch.next_root(|root| {
            if rotates {
                root.timestamp = RoleKeys::one(timestamp.public());
            }
        });
        // The disk refuses the last write: a folder lies in the timestamp's place.
        let place = path.join("metadata/timestamp.json");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let refused = repository.publish_trust(&change, later(1)).unwrap_err();
        assert!(matches!(refused, TrustRefusal::Failed(_)), "{refused}");
        assert_eq!(load::versions_on_disk(path, "root").unwrap(), [1, 2], "devices see this root already");
        // As long as the disk refuses nothing is signed under the root that was.
        assert!(repository.freshen(later(4)).is_err());
        assert!(repository.publish_trust(&change, later(4)).is_err());

        fs::remove_dir(&place).unwrap();
        if again {
            repository.publish_trust(&change, later(4)).unwrap();
        } else {
            repository.freshen(later(4)).unwrap();
        }
        assert_eq!(repository.trust().unwrap().root_version, 2);
        assert_eq!(client(path, one[0], later(4)).await.unwrap(), manifest(one[0]), "{rotates} {again}");
        assert_eq!(repository.listing(&releases()).versions.len(), 1);
        assert_eq!(Seen::now(path, later(4)).await.0.trusted().root().version, 2);
    }
}

#[test]
fn an_upload_that_fails_before_root_changes_nothing() {
    let scratch = scratch();
    let path = scratch.folder.path();
    let repository = scratch.open_with(&[], now());
    let before = published(&repository);
    let change = scratch.next_root(|_| {});
    let place = path.join(format!("metadata/{}.snapshot.json", seconds(later(1))));
    fs::create_dir(&place).unwrap();
    let refused = repository.publish_trust(&change, later(1)).unwrap_err();
    assert!(matches!(refused, TrustRefusal::Failed(_)), "{refused}");
    assert_eq!((repository.trust().unwrap().root_version, published(&repository)), (1, before));
    assert_eq!(load::versions_on_disk(path, "root").unwrap(), [1]);
    fs::remove_dir(&place).unwrap();
    repository.publish_trust(&change, later(1)).unwrap();
    assert_eq!(repository.trust().unwrap().root_version, 2);
}
