//! One source lies, lacks or fails: another one serves, and trust does not change.

use std::collections::BTreeMap;

use super::{
    world::{Files, World},
    *,
};

type Repositories = Sources<Arc<dyn Repository>>;

fn two(bad: Arc<Files>, good: Arc<Files>) -> (Repositories, Repositories) {
    let as_repository = |files: &Arc<Files>| -> Arc<dyn Repository> { files.clone() };
    // Manifests are asked of the first, metadata of the last: each evil is tried in both places.
    let bad_first = Sources::of([("bad", as_repository(&bad)), ("good", as_repository(&good))]);
    let bad_last = Sources::of([("good", as_repository(&good)), ("bad", as_repository(&bad))]);
    (bad_first, bad_last)
}

type Evil = fn(&World, &mut BTreeMap<String, Vec<u8>>);

const EVILS: [(&str, Evil); 7] = [
    ("nothing is there", |_, files| files.clear()),
    ("no timestamp", |_, files| drop(files.remove("timestamp.json"))),
    ("no snapshot", |_, files| drop(files.remove("7.snapshot.json"))),
    ("no team role", |_, files| drop(files.remove("7.vision.json"))),
    ("garbage", |_, files| files.values_mut().for_each(|bytes| *bytes = b"{}".to_vec())),
    ("flipped", |_, files| {
        for bytes in files.values_mut() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }),
    ("another's", |_, files| *files = World::new().files.0.lock().unwrap().clone()),
];

#[tokio::test]
async fn whatever_one_source_does_another_one_serves() {
    for (name, evil) in EVILS {
        for first in [true, false] {
            let world = World::new();
            let bad = Arc::new(Files::default());
            let mut files = world.files.0.lock().unwrap().clone();
            evil(&world, &mut files);
            *bad.0.lock().unwrap() = files;
            let (bad_first, bad_last) = two(bad, world.files.clone());
            let sources = if first { bad_first } else { bad_last };
            let (trust, store, _) = world.start_with(ISSUED, sources.clone());
            let (_, bytes) = trust.manifest(&wanted(&world.manifest)).await.unwrap();
            assert_eq!(bytes, world.manifest, "{name}");
            let failures = |address| sources.pages().into_iter().find(|p| p.address == address).unwrap().failures;
            assert_eq!(failures("good"), 0, "{name}");
            // Metadata of a source that comes first is not needed where the server, which comes last, is well.
            let has_manifest = matches!(name, "no timestamp" | "no snapshot" | "no team role" | "another's");
            assert_eq!(failures("bad"), u64::from(!(first && has_manifest)), "{name}, first: {first}");
            assert!(store.read(|s| s.floors.iter().all(|f| f.version == 7 || f.role == "root")), "{name}");
        }
    }
}

#[tokio::test]
async fn where_all_fail_it_is_tried_again_later() {
    let world = World::new();
    let (bad, worse) = (Arc::new(Files::default()), Arc::new(Files::default()));
    // One does not know the version, which alone would be final; the other cannot be reached.
    *bad.0.lock().unwrap() = world.files.0.lock().unwrap().clone();
    let unknown = DesiredModel { version: "9.9.9".parse().unwrap(), ..wanted(&world.manifest) };
    for sources in [two(bad.clone(), worse.clone()).0, two(bad.clone(), worse).1] {
        let (trust, ..) = world.start_with(ISSUED, sources);
        assert!(trust.manifest(&unknown).await.unwrap_err().code().is_retryable());
    }
    let (trust, ..) = world.start_with(ISSUED, Sources::only("server", bad as Arc<dyn Repository>));
    assert_eq!(trust.manifest(&unknown).await.unwrap_err().code(), RefusalCode::UnknownTarget);
}

#[tokio::test]
async fn a_source_that_is_behind_takes_nothing_back() {
    let mut world = World::new();
    let behind = Arc::new(Files::default());
    *behind.0.lock().unwrap() = world.files.0.lock().unwrap().clone();
    world.bump(&["timestamp", "snapshot", "targets", world::TEAM]);
    world.publish();
    assert_eq!(world.code().await, Ok(()));
    let (behind_first, behind_last) = two(behind.clone(), world.files.clone());
    for sources in [behind_first, behind_last] {
        let (trust, store, _) = world.start_with(ISSUED, sources);
        trust.manifest(&wanted(&world.manifest)).await.unwrap();
        let timestamps =
            store.read(|s| s.floors.iter().filter(|f| f.role == "timestamp").map(|f| f.version).collect::<Vec<_>>());
        assert_eq!(timestamps, [8]);
    }
    let (trust, ..) = world.start_with(ISSUED, Sources::only("server", behind as Arc<dyn Repository>));
    assert_eq!(trust.manifest(&wanted(&world.manifest)).await.unwrap_err().code(), RefusalCode::Rollback);
}
