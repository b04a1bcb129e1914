//! Floods: whoever asks too often is told to wait, and nobody else notices.

use super::*;

const TIMESTAMP: &str = "/tuf/metadata/timestamp.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_key_that_was_replaced_uses_nothing_up_of_its_device() {
    let mut rig = Rig::start().await;
    let stolen = rig.enrol("cam-1").await;
    let order = json!({"reason": "stolen", "valid_seconds": 60});
    let ticket: EnrolmentTicket = rig.admin().post("/api/v1/devices/cam-1/reidentify", &order).await.ok();
    let token = EnrolmentToken::decode(&ticket.token).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let response = rig.stranger().post("/api/v1/enrol", &rig::enrolment_request(&token, &key)).await.ok();
    let device = Enrolled { name: "cam-1".into(), token, key, response };
    rig.stop().await;
    rig.start_again(tern_fleet_server::config::Config { requests_at_once: 2, ..rig.config() }).await;
    for code in ["replaced-certificate", "replaced-certificate", "too-many-requests"] {
        assert_eq!(rig.device(&stolen).get(TIMESTAMP).await.problem().1, code);
    }
    assert_eq!(rig.device(&device).get(TIMESTAMP).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_is_told_to_wait_and_nobody_else_is() {
    let mut rig = Rig::start().await;
    let (flooder, other) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    rig.stop().await;
    // What is used up comes back over a minute.
    rig.start_again(tern_fleet_server::config::Config { requests_at_once: 2, ..rig.config() }).await;
    let caller = rig.device(&flooder);
    for path in [TIMESTAMP, "/tuf/targets/x"] {
        assert_ne!(caller.get(path).await.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    for path in [TIMESTAMP, "/tuf/metadata/9.root.json", "/tuf/targets/x", &blob_path(&Digest::of(b"x"))] {
        let reply = caller.get(path).await;
        let wait: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=31).contains(&wait), "{wait}");
        assert_eq!(reply.problem(), (429, "too-many-requests".into()), "{path}");
    }
    assert_eq!(caller.post("/api/v1/renew", &json!({"csr_pem": "x"})).await.problem().0, 429);
    rig.event("front-refused", "too-many-requests").await;
    assert_eq!(rig.metric("tern_http_refusals_total{code=\"too-many-requests\"}").await, 5);
    assert_eq!(rig.device(&other).get(TIMESTAMP).await.status, StatusCode::OK);
    agent(&rig, &flooder, 0).await.acknowledged(flooder.topic("m/system"), true, "{}").await;

    // Whoever has no certificate is counted by address, for enrolment and claims together, before the body is read.
    for path in ["/api/v1/enrol", "/api/v1/claim"] {
        assert_eq!(rig.stranger().post(path, &json!({})).await.problem(), (400, "malformed-json".into()));
    }
    for path in ["/api/v1/enrol", "/api/v1/claim"] {
        assert_eq!(rig.stranger().post(path, &json!({})).await.problem(), (429, "too-many-requests".into()));
    }
    assert_eq!(rig.device(&other).get(TIMESTAMP).await.status, StatusCode::OK);
    assert_eq!(rig.admin().get("/api/v1/devices").await.status, StatusCode::OK);
}
