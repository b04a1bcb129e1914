//! What the tables of rollouts promise: a history that only grows, keys that stand for one request, and gates.

use super::*;
use crate::{
    rollout::Says,
    store::{ManifestOutcome, NewVersion, SignedVersion},
};

const TARGET: &str = "demo/m@1.1.0";

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

async fn scratch() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    let model: ModelVersion = TARGET.parse().unwrap();
    let manifest = Digest::of(b"m");
    let new = NewVersion {
        model: model.clone(),
        manifest,
        bytes: b"{}".to_vec(),
        total: Default::default(),
        blobs: vec![],
        published_by: "admin".into(),
    };
    assert_eq!(store.put_manifest(new, now()).await.unwrap(), ManifestOutcome::Stored);
    let listed = vec![SignedVersion { model: model.clone(), manifest }];
    store
        .set_signed(crate::repository::TeamRole::release(model.name.team), listed, "admin".into(), now())
        .await
        .unwrap();
    (store, folder)
}

fn new(key: Option<(&str, &[u8])>) -> NewRollout {
    NewRollout {
        model: TARGET.parse().unwrap(),
        selector: Selector::all(),
        policy: toml::from_str("stages = [{ size = \"100%\" }]").unwrap(),
        reason: "better".into(),
        who: "ann".into(),
        start: false,
        request: key.map(|(key, body)| (key.to_owned(), Digest::of(body))),
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_person() {
    let (store, _folder) = scratch().await;
    let first = store.create_rollout(new(Some(("k", b"one"))), now()).await.unwrap().unwrap();
    let again = store.create_rollout(new(Some(("k", b"one"))), now()).await.unwrap().unwrap();
    assert_eq!(first, again);
    let other = store.create_rollout(new(Some(("k", b"two"))), now()).await.unwrap();
    assert_eq!(other, Err(CreateRefusal::KeyReused));
    let bob = NewRollout { who: "bob".into(), ..new(Some(("k", b"two"))) };
    assert_eq!(store.create_rollout(bob, now()).await.unwrap(), Err(CreateRefusal::Active(first.id)));
}

#[tokio::test]
async fn what_cannot_be_rolled_out_is_not_made() {
    let (store, _folder) = scratch().await;
    let unknown = NewRollout { model: "demo/m@9.0.0".parse().unwrap(), ..new(None) };
    let refused = store.create_rollout(unknown.clone(), now()).await.unwrap();
    assert_eq!(refused, Err(CreateRefusal::UnknownVersion(unknown.model)));
    let back = "take_back = { version = \"9.0.0\" }\nstages = [{ size = \"100%\" }]";
    let lost = NewRollout { policy: toml::from_str(back).unwrap(), ..new(None) };
    assert!(matches!(store.create_rollout(lost, now()).await.unwrap(), Err(CreateRefusal::UnknownVersion(_))));
    let nobody = NewRollout { policy: toml::from_str("stages = []").unwrap(), ..new(None) };
    assert_eq!(store.create_rollout(nobody, now()).await.unwrap(), Err(CreateRefusal::Policy(PolicyError::NoStage)));
    store.set_signed("demo".parse().unwrap(), vec![], "admin".into(), now()).await.unwrap();
    let withdrawn = store.create_rollout(new(None), now()).await.unwrap();
    assert_eq!(withdrawn, Err(CreateRefusal::Unsigned(TARGET.parse().unwrap())));
}

#[tokio::test]
async fn history_cannot_be_changed_or_removed() {
    let (store, _folder) = scratch().await;
    store.create_rollout(new(None), now()).await.unwrap().unwrap();
    for sql in ["UPDATE rollout_history SET at = 1", "DELETE FROM rollout_history"] {
        assert!(store.write(move |c| Ok(c.execute(sql, [])?)).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn only_open_incidents_of_the_version_itself_are_gates() {
    let (store, _folder) = scratch().await;
    let id = store.create_rollout(new(None), now()).await.unwrap().unwrap().id;
    let gates = async || {
        let (_, snapshot) = store.rollout_snapshot(id.clone(), now()).await.unwrap().unwrap();
        snapshot.gates.into_iter().map(|(name, gate)| (name, gate.says)).collect::<Vec<_>>()
    };
    assert_eq!(gates().await, []);
    let rows = [
        (1, "1.1.0", "model-broken", "critical", "open"),
        (2, "1.1.0", "population-change", "alarm", "open"),
        (3, "1.1.0", "latency-or-errors", "alarm", "open"),
        (4, "1.1.0", "objective-breached", "critical", "resolved"),
        (5, "1.0.0", "model-broken", "critical", "open"),
        (6, "1.1.0", "device-fault", "notice", "open"),
        (7, "1.1.0", "data-quality", "critical", "open"),
        (8, "1.1.0", "objective-breached", "critical", "open"),
        (9, "1.1.0", "of-the-future", "alarm", "open"),
    ];
    for (number, version, kind, severity, state) in rows {
        let sql =
            "INSERT INTO incidents (number, team, model_id, version, kind, severity, state, opened, updated, body)
                   VALUES (?1, 'demo', 'm', ?2, ?3, ?4, ?5, 1, 1, '{}')";
        let row = move |c: &Connection| Ok(c.execute(sql, params![number, version, kind, severity, state])?);
        store.write(row).await.unwrap();
    }
    let wanted = [
        ("1", Says::Abort),
        ("2", Says::Hold),
        ("3", Says::Hold),
        ("6", Says::Pass),
        ("7", Says::Hold),
        ("8", Says::Abort),
        ("9", Says::Hold),
    ];
    let wanted: Vec<_> = wanted.map(|(number, says)| (format!("incident-{number}"), says)).into();
    assert_eq!(gates().await, wanted);
    store.set_signed("demo".parse().unwrap(), vec![], "admin".into(), now()).await.unwrap();
    assert!(gates().await.contains(&("listed".into(), Says::Hold)), "a version that was withdrawn waits for a human");
}
