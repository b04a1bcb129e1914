//! The access log: reads of models by devices and operators, and every refusal; merged, bounded, and for auditors only.

use tern_fleet_server::forms::AccessRow;

use super::{tokens::holder, *};

async fn log(rig: &Rig, query: &str) -> Vec<AccessRow> {
    let page: Page<AccessRow> = rig.admin().get(&format!("/api/v1/accesses?{query}")).await.ok();
    page.items
}

/// What, of what, how it ended and how often.
fn brief(row: &AccessRow) -> (String, String, String, u64) {
    let ended = if row.code.is_empty() { row.outcome.clone() } else { row.code.clone() };
    (row.action.clone(), row.resource.clone(), ended, row.times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_fetches_in_parts_is_one_row_for_each_reason() {
    let mut rig = Rig::start().await;
    let content = vec![7; 4096];
    rig.publish(MODEL, &content).await;
    let device = rig.enrol("cam-1").await;
    let generation = assign(&rig, MODEL, "*").await.ok::<Assigned>().devices[&"cam-1".parse().unwrap()];
    let digest = Digest::of(&content);
    let fetch = async |rig: &Rig| {
        for part in ["bytes=0-9", "bytes=10-", "bytes=0-"] {
            let reply = rig.device(&device).get_with(&blob_path(&digest), &[("range", part)]).await;
            assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT);
        }
    };
    fetch(&rig).await;
    rig.restart().await;
    fetch(&rig).await;
    let rows = log(&rig, "device=cam-1").await;
    assert_eq!(
        rows.iter().map(brief).collect::<Vec<_>>(),
        [("read-blob".to_owned(), digest.to_string(), "granted".to_owned(), 1)]
    );
    assert_eq!(rows[0].reason, format!("generation {generation}"));
    assert_eq!((rows[0].kind.as_str(), rows[0].actor.as_str()), ("device", "cam-1"));
    assert_eq!((&rows[0].model, &rows[0].version), (&Some("demo/m".parse().unwrap()), &Some("1.0.0".parse().unwrap())));

    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let again = rig.server().fleet().store.demand("cam-1".parse().unwrap()).await.unwrap().unwrap().generation;
    fetch(&rig).await;
    let reasons: Vec<_> = log(&rig, "device=cam-1").await.into_iter().map(|row| row.reason).collect();
    let mut expected = vec![format!("generation {generation}"), format!("generation {again}")];
    expected.dedup();
    assert_eq!(reasons, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_may_not_read_is_recorded_with_its_name() {
    let rig = Rig::start().await;
    let manifest = rig.publish(MODEL, b"model").await;
    let device = rig.enrol("cam-1").await;
    let blob = blob_path(&Digest::of(b"model"));
    assert_eq!(rig.device(&device).get(&blob).await.problem().1, "blob-not-demanded");
    let target = target_path("models/demo/m/1.0.0/manifest.json", &manifest);
    assert_eq!(rig.device(&device).get(&target).await.problem().1, "blob-not-demanded");
    // What a client looks for and does not find is nothing that anybody was refused.
    assert_eq!(rig.device(&device).get("/tuf/metadata/9.root.json").await.status, StatusCode::NOT_FOUND);
    let rows: Vec<_> = log(&rig, "device=cam-1").await.iter().map(brief).collect();
    let refused = |action: &str, path: &str| (action.to_owned(), path.to_owned(), "blob-not-demanded".to_owned(), 1);
    assert_eq!(rows, [refused("read-blob", &blob), refused("read-manifest", &target)]);
    assert_eq!(rig.stranger().get(&blob).await.problem().1, "no-certificate");
    let strangers = log(&rig, "actor=-").await;
    assert_eq!((strangers.len(), strangers[0].kind.as_str()), (1, "stranger"));
    assert_eq!((strangers[0].address.as_str(), strangers[0].code.as_str()), ("127.0.0.1", "no-certificate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_read_and_what_is_refused_to_them_is_recorded() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"model").await;
    let (ann, eve) = (holder(&rig, "ann", "approver", json!({})).await, holder(&rig, "eve", "viewer", json!({})).await);
    let blob = format!("/api/v1/blobs/sha256/{}", Digest::of(b"model"));
    assert_eq!(ann.get(&blob).await.body.as_ref(), b"model");
    assert!(ann.get("/api/v1/models/demo/m/1.0.0").await.status.is_success());
    assert_eq!(eve.get(&blob).await.problem().1, "wrong-role");
    assert_eq!(eve.post("/api/v1/assignments", &json!({})).await.problem().1, "wrong-role");
    assert_eq!(ann.get("/api/v1/models/demo/m/9.9.9").await.problem().1, "unknown-version");
    let of = async |actor: &str| log(&rig, &format!("actor={actor}")).await.iter().map(brief).collect::<Vec<_>>();
    let row = |action: &str, resource: &str, ended: &str| (action.to_owned(), resource.to_owned(), ended.to_owned(), 1);
    assert_eq!(
        of("ann").await,
        [
            row("read-blob", &Digest::of(b"model").to_string(), "granted"),
            row("read-manifest", MODEL, "granted"),
            row("read-manifest", "/api/v1/models/demo/m/9.9.9", "unknown-version"),
        ]
    );
    assert_eq!(
        of("eve").await,
        [row("read-blob", &blob, "wrong-role"), row("request", "/api/v1/assignments", "wrong-role"),]
    );
    let by_model: Vec<_> = log(&rig, "model=demo/m").await.into_iter().map(|row| row.actor).collect();
    assert_eq!(by_model, ["ann", "ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_is_few_rows_and_every_one_is_counted() {
    let mut rig = Rig::start().await;
    for index in 0..120 {
        assert_eq!(rig.bearer(&format!("guess-{index}")).get("/api/v1/models").await.problem().1, "bad-token");
    }
    for index in 0..60 {
        assert_eq!(rig.stranger().get(&format!("/api/v1/devices/x-{index}")).await.problem().1, "missing-token");
    }
    // The counts are written at the end too.
    rig.restart().await;
    let rows = log(&rig, "actor=-").await;
    assert!(rows.len() <= 2 * 33 + 2, "{}", rows.len());
    let times = |code: &str| rows.iter().filter(|row| row.code == code).map(|row| row.times).sum::<u64>();
    assert_eq!((times("bad-token"), times("missing-token")), (120, 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_for_auditors_goes_on_page_by_page_and_is_cut_to_their_teams() {
    let rig = Rig::start().await;
    for (model, content) in [("demo/m@1.0.0", b"one"), ("other/n@1.0.0", b"two")] {
        rig.publish(model, content).await;
        let path = format!("/api/v1/models/{}", model.replace('@', "/"));
        assert!(rig.admin().get(&path).await.status.is_success());
    }
    for role in ["viewer", "publisher", "approver", "operator"] {
        let caller = holder(&rig, role, role, json!({})).await;
        assert_eq!(caller.get("/api/v1/accesses").await.problem(), (403, "wrong-role".into()), "{role}");
    }
    let auditor = holder(&rig, "auditor", "auditor", json!({})).await;
    let (mut seen, mut path) = (Vec::new(), "/api/v1/accesses?limit=1".to_owned());
    loop {
        let page: Page<AccessRow> = auditor.get(&path).await.ok();
        seen.extend(page.items.into_iter().map(|row| row.id));
        let Some(next) = page.next else { break };
        path = format!("/api/v1/accesses?limit=1&after={next}");
    }
    assert!(seen.len() >= 6 && seen.is_sorted(), "{seen:?}");
    let page: Page<AccessRow> = auditor.get(&format!("/api/v1/accesses?limit=2&before={}", i64::MAX)).await.ok();
    let newest: Vec<_> = page.items.iter().map(|row| row.id).collect();
    assert_eq!(newest, seen.iter().rev().take(2).copied().collect::<Vec<_>>());
    let page: Page<AccessRow> = auditor.get(&format!("/api/v1/accesses?before={}", newest[1])).await.ok();
    assert_eq!((page.items[0].id, page.next), (seen[seen.len() - 3], None));
    let of_team = holder(&rig, "demo-auditor", "auditor", json!({"teams": ["demo"]})).await;
    let page: Page<AccessRow> = of_team.get("/api/v1/accesses").await.ok();
    assert_eq!(page.items.iter().map(|row| row.resource.as_str()).collect::<Vec<_>>(), ["demo/m@1.0.0"]);
    let of_site = holder(&rig, "hall-auditor", "auditor", json!({"devices": "site=hall-2"})).await;
    assert_eq!(of_site.get("/api/v1/accesses").await.problem(), (403, "out-of-scope".into()));
    let future = log(&rig, "since=2100-01-01T00:00:00Z").await;
    assert_eq!(future, []);
    assert_eq!(auditor.get("/api/v1/accesses?since=yesterday").await.problem(), (400, "bad-query".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_not_read() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"model").await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    database.execute("ALTER TABLE accesses RENAME TO elsewhere", []).unwrap();
    let digest = Digest::of(b"model");
    let (caller, admin) = (rig.device(&device), rig.admin());
    let own = format!("/api/v1/blobs/sha256/{digest}");
    for (caller, path) in [(&caller, blob_path(&digest)), (&admin, own), (&admin, "/api/v1/models/demo/m/1.0.0".into())]
    {
        assert_eq!(caller.get(&path).await.problem(), (500, "internal".into()), "{path}");
    }
    database.execute("ALTER TABLE elsewhere RENAME TO accesses", []).unwrap();
    assert_eq!(caller.get(&blob_path(&digest)).await.body.as_ref(), b"model");
}
