//! Publishing and assigning, and every fault in either by its own name.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_served_in_ranges() {
    let rig = Rig::start().await;
    let content: Vec<u8> = (0..700_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    rig.publish(MODEL, &content).await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let (caller, path) = (rig.device(&device), blob_path(&Digest::of(&content)));
    let whole = caller.get(&path).await;
    assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, content.len()));
    assert_eq!(whole.body, content);
    let part = caller.get_with(&path, &[("range", "bytes=300000-")]).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers["content-range"], "bytes 300000-699999/700000");
    assert_eq!(part.body, content[300_000..]);
    let tag = whole.headers["etag"].to_str().unwrap();
    let last = caller.get_with(&path, &[("range", "bytes=-5"), ("if-range", tag)]).await;
    assert_eq!((last.status, last.body.as_ref()), (StatusCode::PARTIAL_CONTENT, &content[699_995..]));
    let other = caller.get_with(&path, &[("range", "bytes=-5"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.len()), (StatusCode::OK, content.len()));
    let beyond = caller.get_with(&path, &[("range", "bytes=700000-")]).await;
    assert_eq!(beyond.headers["content-range"], "bytes */700000");
    assert_eq!(beyond.problem(), (416, "range-not-satisfiable".into()));
    let head = caller.send(Method::HEAD, &path, &[], vec![]).await;
    assert_eq!((head.status, &head.headers["content-length"]), (StatusCode::OK, &"700000".parse().unwrap()));
    assert_eq!(caller.get("/blobs/sha256/xyz").await.problem(), (400, "bad-name".into()));
    // Lost on the server's disk.
    std::fs::remove_file(rig.folder.path().join(format!("data/blobs/sha256/{}", Digest::of(&content)))).unwrap();
    assert_eq!(caller.get(&path).await.problem(), (404, "not-found".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_publishing_is_refused_by_its_own_name() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    let (manifest, _) = bundle(MODEL, b"weights");
    let put = async |path: &str, body: &[u8]| admin.put(path, body.to_vec()).await.problem().1;
    // Manifests.
    assert_eq!(put(&manifest_path(MODEL), b"{").await, "manifest-invalid");
    assert_eq!(put(&manifest_path("demo/m@1.0.1"), &manifest).await, "manifest-invalid");
    assert_eq!(put(&manifest_path("nobody/m@1.0.0"), &manifest).await, "unknown-team");
    assert_eq!(put("/api/v1/manifests/demo/m/one", &manifest).await, "bad-name");
    assert_eq!(put(&manifest_path(MODEL), &vec![b' '; (1 << 20) + 1]).await, "too-large");
    let stored: ManifestStored = admin.put(&manifest_path(MODEL), manifest.clone()).await.ok();
    assert_eq!(stored.missing_blobs.len(), 3);
    let again: ManifestStored = admin.put(&manifest_path(MODEL), manifest.clone()).await.ok();
    assert_eq!(again.manifest, stored.manifest);
    // What nobody has signed gives way, and back.
    for (content, missing) in [(&b"other"[..], 3), (b"weights", 3)] {
        let (offered, _) = bundle(MODEL, content);
        let stored: ManifestStored = admin.put(&manifest_path(MODEL), offered.clone()).await.ok();
        assert_eq!((stored.manifest, stored.missing_blobs.len()), (Digest::of(&offered), missing));
    }
    rig.event("manifest-replaced", "").await;
    // Blobs.
    let blob = |bytes: &[u8]| format!("/api/v1/blobs/sha256/{}", Digest::of(bytes));
    assert_eq!(put(&blob(b"nobody's"), b"nobody's").await, "unknown-blob");
    assert_eq!(put(&blob(b"other"), b"other").await, "unknown-blob");
    assert_eq!(put(&blob(b"weights"), b"weighty").await, "blob-digest");
    assert_eq!(put(&blob(b"weights"), b"weight").await, "blob-digest");
    assert_eq!(put(&blob(b"weights"), b"weights!").await, "blob-length");
    assert_eq!(put("/api/v1/blobs/sha256/XY", b"").await, "bad-name");
    // Team metadata before the blobs are there.
    let team = "/api/v1/teams/demo/metadata";
    let good = rig.team_metadata("demo", &[(MODEL, &manifest)]).await;
    assert_eq!(put(team, &good).await, "blobs-missing");
    for bytes in [&b"weights"[..], b"in", b"out"] {
        admin.put(&blob(bytes), bytes.to_vec()).await.empty();
        admin.put(&blob(bytes), bytes.to_vec()).await.empty();
    }
    assert_eq!(assign(&rig, MODEL, "*").await.problem(), (409, "version-unsigned".into()));
    let role = rig.team_role("demo", &[(MODEL, &manifest)]).await;
    let signed = |role: &Value, team: &str| sign_value(role.clone(), &[&rig.release_key(team)]).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut role = role.clone();
        change(&mut role);
        signed(&role, "demo")
    };
    assert_eq!(put(team, b"{").await, "metadata-malformed");
    assert_eq!(put(team, &signed(&role, "other")).await, "under-threshold");
    let mut flipped = good.clone();
    let at = flipped.windows(7).position(|w| w == b"\"sig\":\"").unwrap() + 8;
    flipped[at] = if flipped[at] == b'0' { b'1' } else { b'0' };
    assert_eq!(put(team, &flipped).await, "under-threshold");
    assert_eq!(put(team, &with(&|r| r["version"] = json!(7))).await, "metadata-moved");
    assert_eq!(put(team, &with(&|r| r["expires"] = json!("2020-01-01T00:00:00Z"))).await, "metadata-expired");
    assert_eq!(put(team, &with(&|r| r["delegations"] = json!({"keys": {}, "roles": []}))).await, "metadata-delegates");
    let file = role["targets"]["models/demo/m/1.0.0/manifest.json"].clone();
    let foreign = with(&|r| r["targets"]["models/other/m/1.0.0/manifest.json"] = file.clone());
    assert_eq!(put(team, &foreign).await, "foreign-target");
    let missing = with(&|r| r["targets"]["models/demo/m/9.0.0/manifest.json"] = file.clone());
    assert_eq!(put(team, &missing).await, "manifest-missing");
    let other_bytes = rig.team_metadata("demo", &[(MODEL, b"other manifest")]).await;
    assert_eq!(put(team, &other_bytes).await, "manifest-missing");
    assert_eq!(put("/api/v1/teams/nobody/metadata", &good).await, "unknown-team");
    assert_eq!(admin.get("/api/v1/teams/nobody/metadata").await.problem().1, "unknown-team");
    // The good one, once; then it has moved.
    admin.put(team, good.clone()).await.empty();
    assert_eq!(put(team, &good).await, "metadata-moved");
    assert_eq!(put(&manifest_path(MODEL), &bundle(MODEL, b"other").0).await, "version-exists");
    rig.event("front-refused", "under-threshold").await;
    rig.event("front-refused", "foreign-target").await;
    let rows: Page<VersionRow> = admin.get("/api/v1/models").await.ok();
    assert!(rows.items.len() == 1 && rows.items[0].signed);
    assert_eq!(admin.get("/api/v1/models/demo/m/2.0.0").await.problem(), (404, "unknown-version".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_assigning_is_refused_by_its_own_name() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let code = async |model: &str, selector: &str| assign(&rig, model, selector).await.problem();
    assert_eq!(code(MODEL, "*").await, (422, "no-device-matched".into()));
    rig.enrol("cam-1").await;
    assert_eq!(code(MODEL, "site=nowhere").await, (422, "no-device-matched".into()));
    assert_eq!(code(MODEL, "a b c").await, (400, "bad-selector".into()));
    assert_eq!(code("demo/m@9.9.9", "*").await, (404, "unknown-version".into()));
    rig.publish("other/m@1.0.0", b"weights").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    assert_eq!(code("other/m@1.0.0", "*").await, (409, "model-name-taken".into()));
    let admin = rig.admin();
    let post = async |path: &str, body: &str| admin.send(Method::POST, path, &[], body.into()).await.problem().1;
    let form = |reason: &str| json!({"model": MODEL, "selector": "*", "reason": reason}).to_string();
    assert_eq!(post("/api/v1/assignments", &form("")).await, "bad-order");
    assert_eq!(post("/api/v1/assignments", &form(&"x".repeat(2000))).await, "bad-order");
    for body in ["", "{", "[]", "{\"model\": \"x\"}"] {
        assert_eq!(post("/api/v1/assignments", body).await, "malformed-json", "{body}");
    }
    assert_eq!(post("/api/v1/assignments", &" ".repeat((256 << 10) + 1)).await, "too-large");
    // A refused upload is answered, not cut off, and the connection stays good.
    let blob = format!("/api/v1/blobs/sha256/{}", Digest::of(b""));
    let big = rig.stranger().put(&blob, vec![0; 4 << 20]).await;
    assert_eq!(big.problem(), (401, "missing-token".into()));
    assert_eq!(post("/api/v1/nowhere", "").await, "not-found");
    assert_eq!(post("/api/v1/whoami", "").await, "method-not-allowed");
    assert_eq!(admin.get("/api/v1/devices/nobody").await.problem(), (404, "not-found".into()));
    assert_eq!(admin.get("/api/v1/devices?selector=a+b").await.problem(), (400, "bad-selector".into()));
    for query in ["limit=0", "limit=1001", "limit=x"] {
        let reply = admin.get(&format!("/api/v1/devices?{query}")).await;
        assert_eq!(reply.problem(), (400, "bad-query".into()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_counts_whatever_was_uploaded_since() {
    let mut rig = Rig::start().await;
    let manifest = rig.publish(MODEL, b"weights").await;
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    database.busy_timeout(rig::DEADLINE).unwrap();
    // An upload between the signature and its record, and a crash before the record.
    let unsigned = "UPDATE versions SET manifest_sha256 = ?1, manifest = x'7b7d', signed = 0, ever_signed = 0";
    database.execute(unsigned, [Digest::of(b"{}").to_string()]).unwrap();
    drop(database);
    rig.restart().await;
    let rows: Page<VersionRow> = rig.admin().get("/api/v1/models").await.ok();
    assert!(rows.items[0].signed);
    assert_eq!(rows.items[0].manifest, manifest);
    let other = rig.admin().put(&manifest_path(MODEL), bundle(MODEL, b"other").0).await;
    assert_eq!(other.problem(), (409, "version-exists".into()));
}
