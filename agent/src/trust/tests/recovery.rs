//! A thief runs a counter to its end: new keys take it back, and nothing else does.

use super::{
    world::{TEAM, World},
    *,
};

/// The highest number of SQLite, the first beyond it, and a little less than the highest of all.
const ENDS: [u64; 3] = [i64::MAX as u64, 1 << 63, u64::MAX - 1];

/// A world whose thief has brought these roles to `end`, and everything above them to what makes that known; the device
/// believed it.
async fn stolen(roles: &[&'static str], end: u64) -> World {
    let mut world = World::new();
    assert_eq!(world.code().await, Ok(()));
    world.bump(&["timestamp", "snapshot"]);
    for role in roles {
        world.versions.insert(role, end);
    }
    world.publish();
    assert_eq!(world.code().await, Ok(()), "{roles:?} at {end}");
    world
}

/// The honest server's next versions, as if there had been no thief.
fn restore(world: &mut World, roles: &[&'static str]) {
    world.bump(&["timestamp", "snapshot"]);
    for role in roles {
        world.versions.insert(role, 9);
    }
}

#[tokio::test]
async fn new_keys_in_root_or_targets_take_a_counter_back() {
    // What the thief ran, and whose keys are replaced then.
    let cases: [(&[&'static str], &[&'static str]); 6] = [
        (&["timestamp"], &["timestamp"]),
        (&["snapshot", "timestamp"], &["snapshot", "timestamp"]),
        (&["snapshot"], &["snapshot"]),
        (&["targets"], &["targets"]),
        (&["targets"], &["snapshot"]),
        (&[TEAM], &[TEAM]),
    ];
    for (ran, rotated) in cases {
        for end in ENDS {
            let mut world = stolen(ran, end).await;
            restore(&mut world, ran);
            world.publish();
            assert_eq!(world.code().await, Err(RefusalCode::Rollback), "{ran:?} at {end}");
            for role in rotated {
                world.rotate(role);
            }
            world.bump(&["timestamp", "snapshot"]);
            world.publish();
            assert_eq!(world.code().await, Ok(()), "{ran:?} at {end}, new keys for {rotated:?}");
            // It stays so over another start, and from here on nothing goes back again.
            assert_eq!(world.code().await, Ok(()));
            world.versions.insert("timestamp", 1);
            world.publish();
            assert_eq!(world.code().await, Err(RefusalCode::Rollback));
        }
    }
}

#[tokio::test]
async fn under_the_same_keys_nothing_goes_back_with_the_cache_or_without() {
    for role in ["timestamp", "snapshot", "targets", TEAM] {
        for wipe in [false, true] {
            let mut world = World::new();
            assert_eq!(world.code().await, Ok(()));
            world.bump(&["timestamp", "snapshot"]);
            world.versions.insert(role, 6);
            world.publish();
            if wipe {
                world.wipe_cache();
            }
            for _ in 0..2 {
                assert_eq!(world.code().await, Err(RefusalCode::Rollback), "{role}, cache wiped: {wipe}");
            }
        }
    }
}

#[tokio::test]
async fn new_online_keys_do_not_bring_an_older_team_role_back() {
    let mut world = World::new();
    assert_eq!(world.code().await, Ok(()));
    world.rotate("timestamp");
    world.rotate("snapshot");
    world.versions.insert(TEAM, 6);
    world.publish();
    assert_eq!(world.code().await, Err(RefusalCode::Rollback));
}

#[tokio::test]
async fn new_keys_of_one_role_do_not_take_another_one_back() {
    let mut world = stolen(&["targets"], 1 << 63).await;
    restore(&mut world, &["targets"]);
    world.rotate("targets");
    // Under the cover of that, the team's role goes back as well.
    world.versions.insert(TEAM, 6);
    world.publish();
    assert_eq!(world.code().await, Err(RefusalCode::Rollback));
    world.bump(&["timestamp", "snapshot"]);
    world.versions.insert(TEAM, 7);
    world.publish();
    assert_eq!(world.code().await, Ok(()));
}

#[tokio::test]
async fn a_refused_way_back_leaves_the_cache_as_it_was() {
    let mut world = World::new();
    assert_eq!(world.code().await, Ok(()));
    let folder = world.folder().join("tuf");
    let cached =
        || ["timestamp.json", "snapshot.json", "targets.json"].map(|name| fs::read(folder.join(name)).unwrap());
    let before = cached();
    world.bump(&["snapshot"]);
    world.versions.insert("targets", 6);
    world.publish();
    assert_eq!(world.code().await, Ok(()), "timestamp is the same one: nothing new is looked at");
    world.bump(&["timestamp"]);
    world.publish();
    assert_eq!(world.code().await, Err(RefusalCode::Rollback));
    let after = cached();
    // Timestamp had been verified and stands for itself; snapshot and targets are those of before.
    assert_eq!((&after[1], &after[2]), (&before[1], &before[2]));
}

#[tokio::test]
async fn a_timestamp_that_is_signed_twice_is_noticed_and_the_first_one_kept() {
    let mut world = World::new();
    let (trust, _, clock) = world.start_at(ISSUED);
    trust.refresh().await.unwrap();
    assert_eq!(trust.equivocations(), 0);
    // The same bytes again are none.
    trust.refresh().await.unwrap();
    assert_eq!(trust.equivocations(), 0);
    world.issued = "2026-06-02T00:00:00Z";
    world.publish();
    trust.refresh().await.unwrap();
    assert_eq!((trust.equivocations(), clock.floor()), (1, ISSUED.parse().unwrap()));
}
