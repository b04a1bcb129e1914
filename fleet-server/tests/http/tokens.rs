//! Tokens: made once, shown once, ended at once; nobody makes a mightier one than their own.

use http_body_util::BodyExt;
use tern_fleet_server::forms::{AccessRow, EventRow, TokenIssued, TokenRow, WhoAmI};

use super::*;

/// The answer to an order of a token.
pub(crate) async fn create(by: &Caller, name: &str, role: &str, scope: Value) -> rig::Reply {
    by.post("/api/v1/tokens", &json!({"name": name, "role": role, "scope": scope})).await
}

/// A caller with a new token of this role and scope.
pub(crate) async fn holder(rig: &Rig, name: &str, role: &str, scope: Value) -> Caller {
    let issued: TokenIssued = create(&rig.admin(), name, role, scope).await.ok();
    rig.bearer(&issued.secret)
}

async fn revoke(by: &Caller, name: &str) -> rig::Reply {
    by.send(Method::DELETE, &format!("/api/v1/tokens/{name}?reason=left"), &[], vec![]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_says_who_it_is_and_ends_at_once() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    let scope = json!({"teams": ["demo"], "devices": "site=hall-2"});
    let issued: TokenIssued = create(&admin, "ann", "operator", scope.clone()).await.ok();
    let ann = rig.bearer(&issued.secret);
    let me: WhoAmI = ann.get("/api/v1/whoami").await.ok();
    assert_eq!((me.name.as_str(), me.role.as_str()), ("ann", "operator"));
    assert_eq!(serde_json::to_value(&me.scope).unwrap(), scope);

    let list = admin.get("/api/v1/tokens").await;
    let text = String::from_utf8(list.body.to_vec()).unwrap();
    let hash = Digest::of(issued.secret.as_bytes()).to_string();
    assert!(!text.contains(&issued.secret) && !text.contains(&hash), "{text}");
    let used = eventually(async || {
        let page: Page<TokenRow> = admin.get("/api/v1/tokens").await.ok();
        page.items.into_iter().find(|row| row.name == "ann" && row.last_used.is_some())
    })
    .await;
    assert_eq!((used.created_by.as_deref(), used.expires, used.revoked), (Some("admin"), None, None));

    revoke(&admin, "ann").await.empty();
    assert_eq!(ann.get("/api/v1/whoami").await.problem(), (401, "bad-token".into()));
    let log: Page<AccessRow> = admin.get("/api/v1/accesses?actor=ann").await.ok();
    assert_eq!(log.items.last().unwrap().code, "bad-token", "the log knows whose it was");
    assert_eq!(revoke(&admin, "ann").await.problem(), (404, "not-found".into()));
    let page: Page<TokenRow> = admin.get("/api/v1/tokens").await.ok();
    let row = page.items.iter().find(|row| row.name == "ann").unwrap();
    assert_eq!((row.revoked_by.as_deref(), row.revoke_reason.as_deref()), (Some("admin"), Some("left")));
    assert_eq!(create(&admin, "ann", "viewer", json!({})).await.problem(), (409, "token-exists".into()));

    let events: Page<EventRow> = admin.get("/api/v1/events").await.ok();
    let said = |kind: &str| events.items.iter().find(|event| event.kind == kind).unwrap().message.clone();
    assert_eq!(said("token-created"), "token ann: operator, for team demo, devices site=hall-2, until revoked");
    assert_eq!(said("token-revoked"), "token ann: left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_when_its_time_is_over() {
    let rig = Rig::start().await;
    let order = json!({"name": "brief", "role": "viewer", "valid_seconds": 1});
    let issued: TokenIssued = rig.admin().post("/api/v1/tokens", &order).await.ok();
    let brief = rig.bearer(&issued.secret);
    let over = async || {
        let reply = brief.get("/api/v1/whoami").await;
        (!reply.status.is_success()).then(|| reply.problem())
    };
    assert_eq!(eventually(over).await, (401, "expired-token".into()));
    for seconds in [0, 3651 * 86_400] {
        let order = json!({"name": "long", "role": "viewer", "valid_seconds": seconds});
        assert_eq!(rig.admin().post("/api/v1/tokens", &order).await.problem(), (422, "bad-order".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_no_later_than_who_made_it() {
    let rig = Rig::start().await;
    let order = |name: &str, valid: Value| json!({"name": name, "role": "admin", "valid_seconds": valid});
    let made: TokenIssued = rig.admin().post("/api/v1/tokens", &order("guest", json!(3600))).await.ok();
    let ends = made.row.expires.unwrap();
    let guest = rig.bearer(&made.secret);
    for (name, valid) in [("for-good", json!(null)), ("longer", json!(86_400))] {
        let heir: TokenIssued = guest.post("/api/v1/tokens", &order(name, valid)).await.ok();
        assert_eq!(heir.row.expires, Some(ends), "{name}");
    }
    let brief: TokenIssued = guest.post("/api/v1/tokens", &order("brief", json!(60))).await.ok();
    assert!(brief.row.expires.unwrap() < ends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_is_refused_by_its_own_code() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    let code = async |name: &str, role: &str, scope: Value| create(&admin, name, role, scope).await.problem();
    assert_eq!(code("a", "root", json!({})).await, (422, "bad-order".into()));
    assert_eq!(code("server", "viewer", json!({})).await, (400, "malformed-json".into()));
    assert_eq!(code("a", "viewer", json!({"teams": ["nobody"]})).await, (404, "unknown-team".into()));
    assert_eq!(code("a", "viewer", json!({"teams": []})).await, (422, "bad-order".into()));
    assert_eq!(code("a", "viewer", json!({"devices": "a b"})).await, (400, "bad-selector".into()));
    assert_eq!(code("a", "viewer", json!({"site": "x"})).await, (400, "malformed-json".into()), "a typing mistake");
    let no_reason = admin.send(Method::DELETE, "/api/v1/tokens/admin", &[], vec![]).await;
    assert_eq!(no_reason.problem(), (400, "bad-query".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_a_mightier_token_and_the_last_admin_stays() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    assert_eq!(revoke(&admin, "admin").await.problem(), (409, "last-admin".into()));
    let local = holder(&rig, "local", "admin", json!({"teams": ["demo"]})).await;
    assert_eq!(revoke(&admin, "admin").await.problem(), (409, "last-admin".into()), "another is for a part only");

    let mightier = (403, "mightier-token".to_owned());
    assert_eq!(create(&local, "x", "viewer", json!({})).await.problem(), mightier);
    assert_eq!(create(&local, "x", "viewer", json!({"teams": ["demo", "other"]})).await.problem(), mightier);
    let issued: TokenIssued = create(&local, "x", "publisher", json!({"teams": ["demo"]})).await.ok();
    assert_eq!(issued.row.created_by.as_deref(), Some("local"));
    holder(&rig, "other-team", "viewer", json!({"teams": ["other"]})).await;
    assert_eq!(revoke(&local, "other-team").await.problem(), mightier);
    assert_eq!(revoke(&local, "admin").await.problem(), mightier);
    revoke(&local, "x").await.empty();

    let second = holder(&rig, "second", "admin", json!({})).await;
    revoke(&second, "admin").await.empty();
    assert_eq!(admin.get("/api/v1/whoami").await.problem(), (401, "bad-token".into()));
    assert_eq!(revoke(&second, "second").await.problem(), (409, "last-admin".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_its_open_stream_and_no_other() {
    let rig = Rig::start().await;
    let eve = holder(&rig, "eve", "viewer", json!({})).await;
    let (status, mut stream) = eve.open("/api/v1/stream", &[]).await;
    let (other, mut kept) = rig.admin().open("/api/v1/stream", &[]).await;
    assert_eq!((status, other), (StatusCode::OK, StatusCode::OK));
    revoke(&rig.admin(), "eve").await.empty();
    let end = async { while stream.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(rig::DEADLINE, end).await.expect("the stream ends");
    rig.order("cam-1").await;
    let told = async {
        let mut text = String::new();
        while !text.contains("enrolment-ordered") {
            let bytes = kept.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    tokio::time::timeout(rig::DEADLINE, told).await.expect("the other goes on");
}
