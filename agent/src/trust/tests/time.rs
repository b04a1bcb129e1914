//! Expiry and time: no clock, a wrong clock, months away, and who sets clocks back to keep old metadata alive.

use super::{world::World, *};

const BEFORE_ALL: &str = "1970-01-01T00:00:00Z";
const FAR_AHEAD: &str = "2099-01-01T00:00:00Z";

#[tokio::test]
async fn each_role_expires_by_itself() {
    for role in ["root", "timestamp", "snapshot", "targets", world::TEAM] {
        let mut world = World::new();
        world.expires.insert(role, "2026-07-01T00:00:00Z");
        if role == "root" {
            // A root of its own, for the pinned one lives longer.
            world.rotate("root");
        }
        world.publish();
        assert_eq!(world.code_at("2026-06-30T23:59:59Z").await, Ok(()), "{role}");
        assert_eq!(world.code_at("2026-07-01T00:00:01Z").await, Err(RefusalCode::Expired), "{role}");
        // A newer one heals it.
        world.expires.clear();
        match role {
            "root" => world.rotate("root"),
            role => world.bump(&[role]),
        }
        world.bump(&["timestamp", "snapshot"]);
        world.publish();
        assert_eq!(world.code_at("2026-07-01T00:00:01Z").await, Ok(()), "{role}");
    }
}

#[tokio::test]
async fn a_device_without_a_clock_lives_by_signed_time() {
    let mut world = World::new();
    assert_eq!(world.code_at(BEFORE_ALL).await, Ok(()));
    let floor = world.start_at(BEFORE_ALL).2.floor();
    assert_eq!(floor, ISSUED.parse().unwrap());
    // Newer metadata carries time along; what it has outlived is refused from then on.
    world.issued = "2026-09-01T00:00:00Z";
    world.bump(&["timestamp"]);
    world.publish();
    assert_eq!(world.code_at(BEFORE_ALL).await, Ok(()));
    world.expires.insert("snapshot", "2026-08-31T00:00:00Z");
    world.bump(&["timestamp", "snapshot"]);
    world.publish();
    assert_eq!(world.code_at(BEFORE_ALL).await, Err(RefusalCode::Expired));
}

#[tokio::test]
async fn a_clock_far_ahead_locks_nothing_out() {
    let world = World::new();
    let (trust, _, clock) = world.start_at(FAR_AHEAD);
    trust.manifest(&wanted(&world.manifest)).await.unwrap();
    assert_eq!((clock.now(), clock.floor()), (ISSUED.parse().unwrap(), ISSUED.parse().unwrap()));
}

#[tokio::test]
async fn a_clock_set_back_keeps_no_expired_metadata_alive() {
    let mut world = World::new();
    world.expires.insert("timestamp", "2026-06-08T00:00:00Z");
    world.publish();
    assert_eq!(world.code_at("2026-06-07T00:00:00Z").await, Ok(()));
    let frozen = world.files.0.lock().unwrap().clone();
    world.issued = "2026-06-09T00:00:00Z";
    world.expires.insert("timestamp", "2026-06-16T00:00:00Z");
    world.bump(&["timestamp"]);
    world.publish();
    assert_eq!(world.code_at("2026-06-09T00:00:00Z").await, Ok(()));
    // The old set again, without the cache that would know better, at a time at which it was valid.
    *world.files.0.lock().unwrap() = frozen;
    world.wipe_cache();
    assert_eq!(world.code_at("2026-06-07T00:00:00Z").await, Err(RefusalCode::Expired));
    assert_eq!(world.code_at(BEFORE_ALL).await, Err(RefusalCode::Expired));
}

#[tokio::test]
async fn months_away_and_many_rotations_later_it_finds_back() {
    // With a clock that went on, and without one.
    for machine in ["2027-02-01T00:00:00Z", BEFORE_ALL] {
        let mut world = World::new();
        assert_eq!(world.code_at(ISSUED).await, Ok(()));
        for _ in 0..3 {
            for role in ["root", "timestamp", "snapshot", "targets", world::TEAM] {
                world.rotate(role);
            }
        }
        world.issued = "2027-02-01T00:00:00Z";
        world.bump(&["timestamp", "snapshot"]);
        world.publish();
        assert_eq!(world.code_at(machine).await, Ok(()), "{machine}");
        assert_eq!(world.start_at(machine).2.floor(), "2027-02-01T00:00:00Z".parse().unwrap());
    }
}

#[tokio::test]
async fn a_device_that_was_away_for_years_lives_by_what_root_says() {
    const YEARS_LATER: &str = "2028-11-01T00:00:00Z";
    for root_issued in [None, Some("yesterday"), Some("2028-06-01T00:00:00Z")] {
        let mut world = World::new();
        assert_eq!(world.code_at(BEFORE_ALL).await, Ok(()));
        world.root_issued = root_issued;
        // Another key: what the old one vouched for is forgotten, and what root says is not.
        world.rotate("timestamp");
        (world.issued, world.expires) = (YEARS_LATER, ["timestamp", "snapshot"].map(|role| (role, FAR_AHEAD)).into());
        world.bump(&["timestamp", "snapshot"]);
        world.publish();
        let (trust, store, clock) = world.start_at(BEFORE_ALL);
        let outcome = trust.refresh().await;
        if root_issued == Some("2028-06-01T00:00:00Z") {
            outcome.unwrap();
            assert_eq!(store.read(|s| s.time_floor), "2028-06-01T00:00:00Z".parse().unwrap());
            assert_eq!(clock.floor(), YEARS_LATER.parse().unwrap());
        } else {
            assert!(matches!(outcome, Err(TrustError::ImplausibleTime { .. })), "{outcome:?}");
            assert_eq!(clock.floor(), ENROLLED.parse().unwrap());
        }
    }
}
