//! Who is a device: tokens, certificates, and keys that were replaced.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_routes_want_the_certificate_of_an_enrolled_device() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    let target = target_path(&MODEL.parse::<ModelVersion>().unwrap().target_path(), &Digest::of(b"x"));
    let paths = ["/tuf/metadata/timestamp.json".to_owned(), target, blob_path(&Digest::of(b"weights"))];
    for path in &paths {
        assert_eq!(rig.stranger().get(path).await.problem(), (401, "no-certificate".into()), "{path}");
        assert_eq!(rig.admin().get(path).await.problem(), (401, "no-certificate".into()), "{path}");
    }
    // A certificate of our own authority for a name that is not enrolled.
    let authority = Authority::open(&rig.folder.path().join("data/ca")).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = enrolment_request(&device.token, &key).csr_pem;
    let with = |name: &str| {
        let made = authority.certify(&name.parse().unwrap(), &csr, clock::now()).unwrap();
        let key = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        let response = EnrolmentResponse { certificate_pem: made.pem, ..device.response.clone() };
        Enrolled { name: name.into(), token: device.token.clone(), key, response }
    };
    let ghost = rig.device(&with("cam-9")).get(&paths[0]).await.problem();
    assert_eq!(ghost, (403, "unknown-device".into()));
    let replaced = rig.device(&with("cam-1")).get(&paths[0]).await.problem();
    assert_eq!(replaced, (403, "replaced-certificate".into()));
    rig.event("front-refused", "unknown-device").await;
    rig.mqtt(&with("cam-9")).ended().await;
    assert_eq!(rig.metric("tern_ingest_refusals_total{code=\"unknown-device\"}").await, 1);
    // Another fleet's authority does not pass TLS at all.
    let other = tempfile::tempdir().unwrap();
    let foreign = Authority::create(other.path(), "tern f", clock::now()).unwrap();
    let made = foreign.certify(&device.token.device, &csr, clock::now()).unwrap();
    let response = EnrolmentResponse { certificate_pem: made.pem, ..device.response.clone() };
    let forged = Enrolled { response, ..with("cam-1") };
    assert!(rig.device(&forged).try_send(Method::GET, &paths[0], &[], vec![]).await.is_err());
    // The right one sees metadata, and nothing that is not demanded of it.
    let good = rig.device(&device);
    assert_eq!(good.get(&paths[0]).await.status, StatusCode::OK);
    assert_eq!(good.get(&paths[1]).await.problem(), (404, "blob-not-demanded".into()));
    assert_eq!(good.get(&paths[2]).await.problem(), (404, "blob-not-demanded".into()));
    for name in ["root.json", "..%2f..%2fserver.db", "9.demo.json", "%2e%2e"] {
        let reply = good.get(&format!("/tuf/metadata/{name}")).await;
        assert_eq!(reply.problem(), (404, "not-found".into()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_token_counts_once_and_for_its_device() {
    let rig = Rig::start().await;
    let stranger = rig.stranger();
    let device = rig.enrol("cam-1").await;
    assert_eq!(device.token.ca_sha256, Authority::open(&rig.folder.path().join("data/ca")).unwrap().sha256());
    let ask = async |request: &_| stranger.post("/api/v1/enrol", request).await;
    let request = enrolment_request(&device.token, &device.key);
    // An answer that was lost: the same key asks again.
    assert_eq!(ask(&request).await.status, StatusCode::OK);
    let thief = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(ask(&enrolment_request(&device.token, &thief)).await.problem(), (403, "used-enrolment".into()));
    let mut other = request.clone();
    other.device = "cam-2".parse().unwrap();
    assert_eq!(ask(&other).await.problem(), (403, "unknown-enrolment".into()));
    let mut csr = request.clone();
    csr.csr_pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----".into();
    assert_eq!(ask(&csr).await.problem(), (422, "bad-csr".into()));
    // Who has no token is told no more, whatever the request is: nothing of it was read.
    csr.secret = "0".repeat(64);
    assert_eq!(ask(&csr).await.problem(), (403, "unknown-enrolment".into()));
    let mut labels = request.clone();
    labels.labels = (0..65).map(|i| (format!("l{i}").parse().unwrap(), "x".parse().unwrap())).collect();
    assert_eq!(ask(&labels).await.problem(), (422, "bad-labels".into()));
    let expired = "UPDATE enrolments SET expires = 0";
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    database.execute(expired, []).unwrap();
    assert_eq!(ask(&request).await.problem(), (403, "expired-enrolment".into()));
    rig.event("enrolment-refused", "used-enrolment").await;
    // In service, the name is taken until an order says otherwise; then the old key is out.
    agent(&rig, &device, 0).await.acknowledged(device.topic("twin"), true, twin(0, None)).await;
    let order = json!({"device": "cam-1", "valid_seconds": 60});
    let admin = rig.admin();
    assert_eq!(admin.post("/api/v1/enrolments", &order).await.problem(), (409, "device-enrolled".into()));
    assert_eq!(admin.post("/api/v1/enrolments?replace=true", &order).await.status, StatusCode::OK);
    for seconds in [0, 31 * 24 * 3600] {
        let order = json!({"device": "cam-7", "valid_seconds": seconds});
        assert_eq!(admin.post("/api/v1/enrolments", &order).await.problem(), (422, "bad-order".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_key_is_cut_off_and_stays_out() {
    let rig = Rig::start().await;
    let old = rig.enrol("cam-1").await;
    let mut session = agent(&rig, &old, 0).await;
    session.acknowledged(old.topic("m/system"), true, "{}").await;
    let order = json!({"device": "cam-1", "valid_seconds": 60});
    let ticket: EnrolmentTicket = rig.admin().post("/api/v1/enrolments?replace=true", &order).await.ok();
    let token = EnrolmentToken::decode(&ticket.token).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let response = rig.stranger().post("/api/v1/enrol", &enrolment_request(&token, &key)).await.ok();
    let new = Enrolled { name: "cam-1".into(), token, key, response };
    session.ended().await;
    rig.mqtt(&old).ended().await;
    rig.event("front-refused", "replaced-certificate").await;
    assert_eq!(rig.metric("tern_ingest_refusals_total{code=\"replaced-certificate\"}").await, 1);
    let mut session = agent(&rig, &new, 0).await;
    session.acknowledged(new.topic("m/system"), true, "{}").await;
    // The old key's token, still young, neither brings it back nor cuts the new one.
    let again = rig.stranger().post("/api/v1/enrol", &enrolment_request(&old.token, &old.key)).await;
    assert_eq!(again.problem(), (403, "used-enrolment".into()));
    assert_eq!(rig.device(&old).get("/tuf/metadata/timestamp.json").await.problem().1, "replaced-certificate");
    session.acknowledged(new.topic("m/system"), true, "{}").await;
}
