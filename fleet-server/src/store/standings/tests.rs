//! What may run no more is demanded of nobody.

use serde_json::{Value, json};
use tern_protocol::standing::Disallowed;

use super::*;
use crate::store::{
    AssignRefusal, SignedVersion,
    tests::{Scratch, assignment, device, enrolled, kinds, later, now, scratch, sign, signed, version},
};

async fn say(store: &Store, standings: Value) -> bool {
    let standings = serde_json::from_value(standings).unwrap();
    store.set_standings("demo".parse().unwrap(), standings, "ann".into(), now()).await.unwrap()
}

async fn settle(store: &Store) -> Settled {
    store.settle_demands("demo".parse().unwrap(), String::new(), sign(), later(9)).await.unwrap()
}

async fn demanded(store: &Store, name: &str) -> String {
    let bytes = store.demand(device(name)).await.unwrap().unwrap().bytes;
    String::from_utf8(bytes).unwrap().split_once(' ').unwrap().1.split_once(' ').unwrap().1.to_owned()
}

async fn assign(store: &Store, model: &str, selector: &str) -> Result<(), AssignRefusal> {
    store.assign(assignment(model, selector), sign(), now()).await.unwrap().map(|_| ())
}

#[tokio::test]
async fn a_recalled_version_gives_way_to_the_newest_that_the_device_had() {
    let Scratch { store, folder: _folder } = scratch();
    for model in ["demo/m@1.0.0", "demo/m@1.1.0", "demo/m@1.2.0", "demo/m@1.3.0", "demo/n@1.0.0"] {
        signed(&store, model).await;
    }
    for name in ["cam-1", "cam-2", "cam-3"] {
        enrolled(&store, name).await;
    }
    for model in ["demo/m@1.0.0", "demo/m@1.1.0", "demo/m@1.2.0"] {
        assign(&store, model, "device=cam-1").await.unwrap();
    }
    assign(&store, "demo/n@1.0.0", "device=cam-2").await.unwrap();
    assign(&store, "demo/m@1.2.0", "device=cam-2").await.unwrap();
    assign(&store, "demo/m@1.3.0", "device=cam-3").await.unwrap();
    assert!(say(&store, json!({"m": {"recalled": {"1.2.0": "labels", "1.1.0": "too"}}})).await);
    assert!(!say(&store, json!({"m": {"recalled": {"1.2.0": "labels", "1.1.0": "too"}}})).await, "nothing new");
    let settled = settle(&store).await;
    let names: Vec<_> = settled.devices.keys().map(ToString::to_string).collect();
    assert_eq!((names, settled.next), (vec!["cam-1".to_owned(), "cam-2".into()], None));
    assert_eq!(demanded(&store, "cam-1").await, "demo/m@1.0.0", "1.1.0 is recalled as well");
    assert_eq!(demanded(&store, "cam-2").await, "demo/n@1.0.0", "no other version of m was ever demanded of it");
    assert_eq!(demanded(&store, "cam-3").await, "demo/m@1.3.0");
    assert_eq!(settle(&store).await, Settled::default(), "once");
    let told = kinds(&store).await;
    assert_eq!(told.iter().filter(|kind| *kind == "version-recalled").count(), 2);
    assert_eq!(told.iter().filter(|kind| *kind == "demands-settled").count(), 1);

    let recalled = Disallowed::Recalled { version: "1.2.0".parse().unwrap(), reason: "labels".into() };
    assert_eq!(assign(&store, "demo/m@1.2.0", "*").await, Err(AssignRefusal::Disallowed(recalled)));
    let row = store.version(version("demo/m@1.2.0")).await.unwrap().unwrap().row;
    assert_eq!((row.recalled.as_deref(), row.floor), (Some("labels"), None));
    assert!(store.standing("demo/m".parse().unwrap()).await.unwrap().recalled.len() == 2);
}

#[tokio::test]
async fn no_demand_of_what_may_not_run_is_ever_signed_anew() {
    let Scratch { store, folder: _folder } = scratch();
    for model in ["demo/m@1.0.0", "demo/m@1.1.0"] {
        signed(&store, model).await;
    }
    enrolled(&store, "cam-1").await;
    for model in ["demo/m@1.1.0", "demo/m@1.0.0"] {
        assign(&store, model, "*").await.unwrap();
    }
    say(&store, json!({"m": {"floor": "1.1.0"}})).await;
    // Before anything was settled: the renewal itself does not sign what lies below the floor.
    let renewed = store.renew(sign(), later(100_000), 10, later(9)).await.unwrap();
    assert_eq!(renewed.len(), 1);
    assert_eq!(demanded(&store, "cam-1").await, "demo/m@1.1.0");
    let below = Disallowed::BelowFloor { version: "1.0.0".parse().unwrap(), floor: "1.1.0".parse().unwrap() };
    assert_eq!(assign(&store, "demo/m@1.0.0", "*").await, Err(AssignRefusal::Disallowed(below)));
    assert!(kinds(&store).await.contains(&"floor-raised".to_owned()));
}

#[tokio::test]
async fn a_candidate_is_demanded_as_one_until_it_is_a_release() {
    let Scratch { store, folder: _folder } = scratch();
    signed(&store, "demo/m@1.0.0").await;
    enrolled(&store, "cam-1").await;
    let (model, manifest) = (version("demo/m@2.0.0"), tern_protocol::digest::Digest::of(b"m"));
    let new = crate::store::NewVersion {
        model: model.clone(),
        manifest,
        bytes: b"{}".to_vec(),
        total: Default::default(),
        blobs: vec![],
        published_by: "robot".into(),
    };
    store.put_manifest(new, now()).await.unwrap();
    assert_eq!(assign(&store, "demo/m@2.0.0", "*").await, Err(AssignRefusal::Unsigned));
    let listed = vec![SignedVersion { model: model.clone(), manifest }];
    let robots = "demo.candidate".parse().unwrap();
    assert!(store.set_signed(robots, listed.clone(), "robot".into(), now()).await.unwrap().is_empty());
    let candidate: crate::store::SignState = std::sync::Arc::new(|_, _, models, _| {
        let text = models.iter().map(|model| format!("{} {}", model.version, model.candidate)).collect::<String>();
        Ok(crate::director::SignedState { bytes: text.into_bytes(), expires: later(100) })
    });
    let assign = async |model: &str| {
        store.assign(assignment(model, "*"), candidate.clone(), now()).await.unwrap().unwrap();
        String::from_utf8(store.demand(device("cam-1")).await.unwrap().unwrap().bytes).unwrap()
    };
    assert_eq!(assign("demo/m@2.0.0").await, "2.0.0 true");
    let row = store.version(model).await.unwrap().unwrap().row;
    assert_eq!((row.candidate, row.signed), (true, false));
    let manifest = tern_protocol::digest::Digest::of(b"demo/m@1.0.0");
    let both = listed.into_iter().chain([SignedVersion { model: version("demo/m@1.0.0"), manifest }]).collect();
    store.set_signed("demo".parse().unwrap(), both, "ann".into(), now()).await.unwrap();
    assert_eq!(assign("demo/m@2.0.0").await, "2.0.0 false");
    assert!(kinds(&store).await.contains(&"candidate-published".to_owned()));
}
