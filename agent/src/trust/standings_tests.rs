//! Recalls, floors and candidates, against a repository that says them.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tern_protocol::{desired::DesiredModel, keys::SigningKey, refusal::RefusalCode};

use super::{
    TrustError,
    tests::{Device, LATER, wanted},
};
use crate::{install::Refusal, state::Rescued, store::Store};

fn say(device: &Device, version: u64, said: Value) {
    *device.publisher.said.lock().unwrap() = Some(said);
    device.publisher.publish(version, LATER, &device.manifest);
}

fn floor(store: &Store) -> Option<String> {
    store.read(|s| s.standing(&"vision/digits".parse().unwrap())).floor.map(|v| v.to_string())
}

#[tokio::test]
async fn a_recalled_version_and_one_below_the_floor_are_refused_and_that_is_durable() {
    for (said, code) in [
        (json!({"digits": {"recalled": {"1.0.0": "wrong labels"}}}), RefusalCode::Recalled),
        (json!({"digits": {"floor": "1.0.1"}}), RefusalCode::BelowFloor),
    ] {
        let device = Device::new();
        say(&device, 8, said);
        assert_eq!(device.code().await, code);
        let (_, store, _) = device.start();
        let known = store.read(|s| s.standing(&"vision/digits".parse().unwrap()));
        assert!(known.allows(&"1.0.0".parse().unwrap()).is_err(), "a restart without the network knows it");
        say(&device, 9, json!({"digits": {"recalled": {"2.0.0": "another"}}}));
        let (trust, ..) = device.start();
        let again = trust.manifest(&wanted(&device.manifest)).await.map(drop);
        match code {
            RefusalCode::Recalled => assert!(again.is_ok(), "a newer list allows it"),
            _ => assert_eq!(Refusal::from(again.unwrap_err()).code, RefusalCode::BelowFloor, "a floor never falls"),
        }
    }
}

#[tokio::test]
async fn other_keys_of_the_team_start_its_floor_afresh() {
    let device = Device::new();
    say(&device, 8, json!({"digits": {"floor": "2.0.0"}}));
    let models = ["vision/digits".parse().unwrap()];
    let (trust, store, _) = device.start();
    trust.ask_standings(&models).await.unwrap();
    assert_eq!(floor(&store).as_deref(), Some("2.0.0"));
    say(&device, 9, json!({"digits": {"floor": "1.0.0"}}));
    trust.ask_standings(&models).await.unwrap();
    assert_eq!(floor(&store).as_deref(), Some("2.0.0"));
    *device.publisher.team_keys.lock().unwrap() = vec![SigningKey::generate().unwrap()];
    say(&device, 10, json!({"digits": {"floor": "1.0.0"}}));
    trust.ask_standings(&models).await.unwrap();
    assert_eq!(floor(&store).as_deref(), Some("1.0.0"));
}

#[tokio::test]
async fn what_a_team_says_in_no_known_form_stops_its_installs() {
    let device = Device::new();
    say(&device, 8, json!({"digits": {"flor": "1.0.0"}}));
    let (trust, ..) = device.start();
    let error = trust.manifest(&wanted(&device.manifest)).await.unwrap_err();
    assert!(matches!(error, TrustError::Standing(_)), "{error}");
    assert_eq!(Refusal::from(error).code, RefusalCode::Metadata);
}

#[tokio::test]
async fn candidate_and_release_never_stand_in_for_one_another() {
    let device = Device::new();
    let candidate = DesiredModel { candidate: true, ..wanted(&device.manifest) };
    let (trust, store, _) = device.start();
    // Listed by the release role alone, and then by the candidate role alone.
    assert!(matches!(trust.manifest(&candidate).await, Err(TrustError::UnknownTarget(_))));
    assert!(trust.manifest(&wanted(&device.manifest)).await.is_ok());
    device.publisher.candidate.store(true, Relaxed);
    device.publisher.publish(8, LATER, &device.manifest);
    assert!(matches!(trust.manifest(&wanted(&device.manifest)).await, Err(TrustError::UnknownTarget(_))));
    assert!(trust.manifest(&candidate).await.is_ok());
    let floors: Vec<_> = store.read(|s| s.floors.iter().map(|f| (f.role.clone(), f.version)).collect());
    assert!(floors.contains(&("vision.candidate".into(), 8)) && floors.contains(&("vision".into(), 8)), "{floors:?}");
}

#[tokio::test]
async fn a_candidate_is_subject_to_the_release_roles_recalls() {
    let device = Device::new();
    device.publisher.candidate.store(true, Relaxed);
    say(&device, 8, json!({"digits": {"recalled": {"1.0.0": "wrong labels"}}}));
    let candidate = DesiredModel { candidate: true, ..wanted(&device.manifest) };
    let (trust, ..) = device.start();
    assert!(matches!(trust.manifest(&candidate).await, Err(TrustError::Disallowed(_))));
}

#[tokio::test]
async fn a_candidate_role_has_a_floor_of_its_own() {
    let device = Device::new();
    device.publisher.candidate.store(true, Relaxed);
    device.publisher.publish(8, LATER, &device.manifest);
    let candidate = DesiredModel { candidate: true, ..wanted(&device.manifest) };
    let (trust, store, _) = device.start();
    trust.manifest(&candidate).await.unwrap();
    let raised = |s: &mut crate::state::State| {
        s.floors.iter_mut().filter(|f| f.role == "vision.candidate").for_each(|f| f.version = 9);
    };
    store.update_blocking(raised).unwrap();
    let error = trust.manifest(&candidate).await.unwrap_err();
    assert!(matches!(&error, TrustError::BelowFloor { role, floor: 9, .. } if role == "vision.candidate"), "{error}");
}

#[tokio::test]
async fn the_floors_of_a_rescue_hold_whoever_signs_and_become_those_of_the_keys_that_did() {
    let device = Device::new();
    let (_, store, _) = device.start();
    let roles = [("timestamp".to_owned(), 8), ("vision".to_owned(), 8)].into();
    store.update_blocking(|s| s.rescued = Some(Rescued { generation: Default::default(), roles })).unwrap();
    drop(store);
    assert_eq!(device.code().await, RefusalCode::Rollback);
    device.publisher.publish(8, LATER, &device.manifest);
    let (trust, store, _) = device.start();
    trust.manifest(&wanted(&device.manifest)).await.unwrap();
    assert!(store.read(|s| s.rescued.as_ref().is_some_and(|r| r.roles.is_empty())));
    device.publisher.publish(7, LATER, &device.manifest);
    assert_eq!(device.code().await, RefusalCode::Rollback);
}

#[tokio::test]
async fn a_team_that_was_heard_cannot_be_hidden_however_often_it_is_tried() {
    for demanded in [true, false] {
        let device = Device::new();
        say(&device, 8, json!({"digits": {"floor": "1.0.0"}}));
        let models = ["vision/digits".parse().unwrap()];
        let (trust, ..) = device.start();
        trust.ask_standings(&models).await.unwrap();
        device.publisher.hidden.store(true, Relaxed);
        device.publisher.publish(9, LATER, &device.manifest);
        let attempt = async || {
            if demanded {
                trust.manifest(&wanted(&device.manifest)).await.map(drop)
            } else {
                trust.ask_standings(&models).await
            }
        };
        // The snapshot in the cache pins the role. It counts until the newer timestamp stands in the cache, and from then on the floor does.
        let first = attempt().await.unwrap_err();
        assert!(matches!(first, TrustError::Tuf(_)), "{first}");
        for _ in 0..2 {
            let error = attempt().await.unwrap_err();
            let is_hidden = |role: &str| role == "vision";
            assert!(
                matches!(&error, TrustError::BelowFloor { role, found: 0, floor: 8 } if is_hidden(role)),
                "{error}"
            );
        }
    }
}
