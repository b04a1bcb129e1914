//! The server as a whole, by property: what an operator and a device can do over real TLS, and what is refused as what.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "http/access.rs"]
mod access;
#[path = "http/accesses.rs"]
mod accesses;
#[path = "http/claims.rs"]
mod claims;
#[path = "http/clones.rs"]
mod clones;
#[path = "http/decay.rs"]
mod decay;
#[path = "http/detection_killed.rs"]
mod detection_killed;
#[path = "http/devices.rs"]
mod devices;
#[path = "http/identity.rs"]
mod identity;
#[path = "http/ingest.rs"]
mod ingest;
#[path = "http/models.rs"]
mod models;
#[path = "http/people.rs"]
mod people;
#[path = "http/proposals.rs"]
mod proposals;
#[path = "http/publishing.rs"]
mod publishing;
#[path = "http/rates.rs"]
mod rates;
#[path = "http/readers.rs"]
mod readers;
#[path = "http/rig.rs"]
mod rig;
#[path = "http/rollouts.rs"]
mod rollouts;
#[path = "http/rotation.rs"]
mod rotation;
#[path = "http/scopes.rs"]
mod scopes;
#[path = "http/streams.rs"]
mod streams;
#[path = "http/tokens.rs"]
mod tokens;
#[path = "http/trust.rs"]
mod trust;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rig::{Caller, Enrolled, Mqtt, Rig, bundle, enrolment_request, eventually, manifest_path};
use serde_json::{Value, json};
use sigstore_tuf::{Updater, transport::FetchFuture};
use tern_fleet_server::{
    ca::Authority,
    clock,
    forms::{Assigned, Assignment, DeviceRow, EnrolmentTicket, ManifestStored, Page, VersionRow},
    identity::{Operator, Role, Secret},
    ready::Ready,
    server::Server,
};
use tern_protocol::{
    api::{TUF_METADATA, TUF_TARGETS, blob_path, target_path},
    desired::{Admission, Admitted, DesiredState, GenerationFloor, admit},
    digest::Digest,
    enrolment::{EnrolmentResponse, EnrolmentToken},
    ids::{Generation, ModelVersion},
    signed::{Verified, sign_value},
    tuf,
    twin::{LastError, Twin},
};

const MODEL: &str = "demo/m@1.0.0";

async fn assign(rig: &Rig, model: &str, selector: &str) -> rig::Reply {
    let form =
        Assignment { model: model.parse().unwrap(), selector: selector.into(), reason: "test".into(), probation: None };
    rig.admin().post("/api/v1/assignments", &form).await
}

/// A TUF client that asks the server as a device does.
struct Remote(Caller);

impl sigstore_tuf::Repository for Remote {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(fetch(&self.0, &format!("{TUF_METADATA}{name}")).await) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(fetch(&self.0, &format!("{TUF_TARGETS}{path}")).await) })
    }
}

async fn fetch(caller: &Caller, path: &str) -> Option<Vec<u8>> {
    let reply = caller.get(path).await;
    (reply.status == StatusCode::OK).then(|| reply.body.to_vec())
}

async fn updater(rig: &Rig, device: &Enrolled) -> Updater {
    tuf::install_provider();
    let root = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &device.response.root_base64).unwrap();
    assert_eq!(Digest::of(&root), device.token.root_sha256);
    let mut updater = Updater::new(Remote(rig.device(device)), &root).unwrap();
    updater.refresh(clock::now()).await.unwrap();
    updater
}

/// Takes a desired state over as the device would.
async fn admitted(rig: &Rig, device: &Enrolled, bytes: &[u8]) -> Verified<DesiredState> {
    let updater = updater(rig, device).await;
    let director = tuf::director_keys(updater.trusted().root()).unwrap();
    let admission = Admission {
        device: &device.token.device,
        fleet: &device.response.fleet,
        director: &director,
        floor: GenerationFloor::default(),
        now: clock::now(),
    };
    match admit(bytes, &admission).unwrap() {
        Admitted::New { state, .. } => state,
        Admitted::Same(_) => panic!("nothing was taken over before"),
    }
}

fn twin(generation: u64, error: Option<LastError>) -> Vec<u8> {
    let twin = Twin {
        generation: Generation(generation),
        models: vec![],
        device_class: "pi".parse().unwrap(),
        labels: Default::default(),
        agent_version: "0.1.0".into(),
        last_error: error,
    };
    serde_json::to_vec(&twin).unwrap()
}

fn status(online: bool) -> String {
    json!({"online": online, "boot": "b", "agent_version": "0.1.0", "since": "2026-06-01T00:00:00Z"}).to_string()
}

/// Connects as an agent does: subscribes before it shows its twin.
async fn agent(rig: &Rig, device: &Enrolled, generation: u64) -> Mqtt {
    let mut mqtt = rig.mqtt(device);
    mqtt.subscribed(device.topic("desired")).await;
    mqtt.acknowledged(device.topic("status"), true, status(true)).await;
    mqtt.client.publish(device.topic("twin"), rumqttc::QoS::AtLeastOnce, true, twin(generation, None)).await.unwrap();
    mqtt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_goes_from_the_publisher_to_the_device() {
    let rig = Rig::start().await;
    let manifest = rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    let assigned: Assigned = assign(&rig, MODEL, "device=cam-1").await.ok();
    let generation = assigned.devices[&device.token.device];

    let mut mqtt = agent(&rig, &device, 0).await;
    let state = admitted(&rig, &device, &mqtt.message().await).await;
    assert_eq!((state.generation, state.models[0].manifest), (generation, manifest));

    let mut updater = updater(&rig, &device).await;
    let path = MODEL.parse::<ModelVersion>().unwrap().target_path();
    let bytes = updater.get_target(&path, clock::now()).await.unwrap();
    assert_eq!(Digest::of(&bytes), manifest);
    let blob = rig.device(&device).get(&blob_path(&Digest::of(b"weights"))).await;
    assert_eq!((blob.status, blob.body.as_ref()), (StatusCode::OK, &b"weights"[..]));

    mqtt.acknowledged(device.topic("twin"), true, twin(generation.0, None)).await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert!(row.online);
    assert_eq!((row.generation, row.desired_generation), (generation, generation));
    assert_eq!(row.desired, [MODEL.parse().unwrap()]);
    rig.event("version-published", "").await;
    rig.event("assigned", "").await;
    // The will tells of the end.
    drop(mqtt);
    rig.event("device-offline", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_that_are_sent_are_those_of_the_row() {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let (one, two) = (rig.enrol("cam-1").await, rig.enrol("cam-2").await);
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    let tamper =
        "UPDATE devices SET desired = (SELECT desired FROM devices WHERE device = 'cam-2') WHERE device = 'cam-1'";
    assert_eq!(database.execute(tamper, []).unwrap(), 1);
    let mut mqtt = agent(&rig, &one, 0).await;
    let replayed = mqtt.message().await;
    admitted(&rig, &two, &replayed).await;
    // The device refuses it and says so; the server counts, records once, and tries again later.
    let error = LastError {
        code: tern_protocol::refusal::RefusalCode::WrongDevice,
        message: "desired state is for device cam-2".into(),
        version: None,
        generation: Generation(0),
        at: clock::now(),
        count: 1,
    };
    mqtt.client
        .publish(one.topic("twin"), rumqttc::QoS::AtLeastOnce, true, twin(0, Some(error.clone())))
        .await
        .unwrap();
    assert_eq!(rig.event("device-refused", "wrong-device").await, "desired state is for device cam-2");
    assert_eq!(mqtt.message().await, replayed, "sent again after the delay");
    mqtt.client.publish(one.topic("twin"), rumqttc::QoS::AtLeastOnce, true, twin(0, Some(error))).await.unwrap();
    mqtt.message().await;
    assert_eq!(rig.metric("tern_refusals_total{code=\"wrong-device\"}").await, 1);
    assert!(rig.metric("tern_desired_sent_total").await >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_routes_want_a_token_that_allows_it() {
    let rig = Rig::start().await;
    let viewer = Secret::generate().unwrap();
    let operator = Operator::new("eye", Role::Viewer);
    rig.server().fleet().store.add_token(viewer.hash(), operator, clock::now()).await.unwrap();
    let reads = ["whoami", "models", "models/demo/m", "models/demo/m/1.0.0", "devices", "devices/x", "events"];
    for path in reads {
        let path = format!("/api/v1/{path}");
        assert_eq!(rig.stranger().get(&path).await.problem(), (401, "missing-token".into()), "{path}");
        assert_eq!(rig.bearer("nonsense").get(&path).await.problem(), (401, "bad-token".into()), "{path}");
        let reply = rig.bearer(viewer.reveal()).get(&path).await;
        assert_ne!(reply.status.as_u16() / 100 * 100 + reply.status.as_u16() % 100, 401, "{path}");
    }
    let blob = format!("/api/v1/blobs/sha256/{}", Digest::of(b""));
    let writes = [
        (Method::PUT, manifest_path(MODEL)),
        (Method::PUT, blob),
        (Method::PUT, "/api/v1/teams/demo/metadata".into()),
        (Method::POST, "/api/v1/enrolments".into()),
        (Method::POST, "/api/v1/assignments".into()),
    ];
    for (method, path) in writes {
        let asks = async |caller: Caller| caller.send(method.clone(), &path, &[], vec![]).await.problem();
        assert_eq!(asks(rig.stranger()).await, (401, "missing-token".into()), "{path}");
        assert_eq!(asks(rig.bearer(&"a".repeat(999))).await, (401, "bad-token".into()), "{path}");
        assert_eq!(asks(rig.bearer(viewer.reveal())).await, (403, "wrong-role".into()), "{path}");
    }
    assert_eq!(rig.stranger().get("/metrics").await.problem(), (401, "missing-token".into()));
    assert_eq!(rig.metric("tern_http_refusals_total{code=\"wrong-role\"}").await, 5);
    rig.event("front-refused", "wrong-role").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_store_withholds_the_acknowledgement_and_the_connection_stays() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let mut mqtt = rig.mqtt(&device);
    mqtt.acknowledged(device.topic("m/system"), true, "{}").await;
    let database = rusqlite::Connection::open(rig.folder.path().join("data/server.db")).unwrap();
    database.busy_timeout(rig::DEADLINE).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON retained BEGIN SELECT RAISE(ABORT, 'disk is full'); END";
    database.execute_batch(full).unwrap();
    mqtt.client.publish(device.topic("m/digits"), rumqttc::QoS::AtLeastOnce, true, "{}").await.unwrap();
    let refused = "tern_ingest_refusals_total{code=\"store\"}";
    eventually(async || (rig.metric(refused).await >= 2).then_some(())).await;
    database.execute_batch("DROP TRIGGER full").unwrap();
    // Panics where the connection has ended.
    mqtt.find(|incoming| matches!(incoming, rumqttc::Incoming::PubAck(_)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_may_not_say_is_not_acknowledged() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    let cases: [(&str, bool, Vec<u8>, &str); 9] = [
        ("twin", true, b"{".to_vec(), "twin-malformed"),
        ("twin", true, vec![], "twin-malformed"),
        ("twin", true, vec![b' '; 70_000], "twin-malformed"),
        ("status", true, b"online".to_vec(), "status-malformed"),
        ("m/system", true, b"[1]".to_vec(), "figures-malformed"),
        ("m/digits", true, vec![b' '; 20_000], "figures-malformed"),
        ("report", false, vec![9, 0], "report-format"),
        ("report", false, vec![1, 9], "report-codec"),
        ("twin", false, twin(0, None), "topic-retain"),
    ];
    for (channel, retain, payload, code) in cases {
        rig.mqtt(&device).refused(device.topic(channel), retain, payload).await;
        let name = format!("tern_ingest_refusals_total{{code=\"{code}\"}}");
        eventually(async || (rig.metric(&name).await > 0).then_some(())).await;
    }
    for (topic, code) in [
        ("tern/v1/f/cam-2/twin", "topic-foreign"),
        ("tern/v1/g/cam-1/twin", "topic-foreign"),
        ("tern/v1/f/cam-1/desired", "topic-direction"),
        ("elsewhere", "topic-unknown"),
    ] {
        rig.mqtt(&device).refused(topic.into(), true, "{}").await;
        rig.event("topic-refused", code).await;
    }
    rig.event("report-refused", "report-format").await;
    rig.event("payload-refused", "twin-malformed").await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(row.generation, Generation(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_knows_everything_and_nobody_is_online() {
    let mut rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    let before: Assigned = assign(&rig, MODEL, "*").await.ok();
    let mut mqtt = agent(&rig, &device, 0).await;
    let sent = mqtt.message().await;
    rig.restart().await;
    mqtt.ended().await;
    let row: DeviceRow = rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert!(!row.online);
    let mut mqtt = agent(&rig, &device, 0).await;
    assert_eq!(mqtt.message().await, sent);
    let after: Assigned = assign(&rig, MODEL, "*").await.ok();
    assert!(after.devices[&device.token.device] > before.devices[&device.token.device]);
    let state = admitted(&rig, &device, &mqtt.message().await).await;
    assert_eq!(state.generation, after.devices[&device.token.device]);
    rig.publish("demo/m@1.0.1", b"weights two").await;
    let rows: Page<VersionRow> = rig.admin().get("/api/v1/models/demo/m").await.ok();
    assert_eq!(rows.items.iter().filter(|row| row.signed).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_has_one_server_and_must_be_whole() {
    let mut rig = Rig::start().await;
    let refused = async |config| format!("{:#}", Server::start(config).await.err().unwrap());
    assert!(refused(rig.config()).await.contains("another server"));
    let config = rig.config();
    let ready: Ready = serde_json::from_slice(&std::fs::read(config.ready_file.as_ref().unwrap()).unwrap()).unwrap();
    assert_eq!((ready.pid, ready.addresses), (std::process::id(), rig.server().addresses()));
    rig.stop().await;
    // Everything was let go: the store was closed, which leaves one file of the three.
    assert!(!config.data_dir.join("server.db-wal").exists());
    let empty = tern_fleet_server::config::Config { data_dir: rig.folder.path().join("none"), ..config.clone() };
    assert!(refused(empty).await.contains("tern-server init"));
    // A key file that nobody needs does not hold it up; one that is needed is named.
    std::fs::File::create(config.data_dir.join("keys/left.key")).unwrap();
    rig.start_again(rig.config()).await;
    rig.stop().await;
    std::fs::File::create(config.data_dir.join("keys/director-1.key")).unwrap();
    let told = refused(config.clone()).await;
    assert!(told.contains("1 of its director keys to sign, and 0 of them"), "{told}");
    assert!(told.contains("keys/director-1.key holds no usable key") && told.contains("backup"), "{told}");
    std::fs::remove_file(config.data_dir.join("keys/director-1.key")).unwrap();
    assert!(refused(config).await.contains("1 of its director keys to sign, and 0 of them"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_page_by_page() {
    let rig = Rig::start().await;
    for name in ["cam-1", "cam-2", "cam-3"] {
        rig.enrol(name).await;
    }
    let admin = rig.admin();
    let first: Page<DeviceRow> = admin.get("/api/v1/devices?limit=2").await.ok();
    assert_eq!((first.items.len(), first.next.as_deref()), (2, Some("cam-2")));
    let second: Page<DeviceRow> = admin.get("/api/v1/devices?limit=2&cursor=cam-2").await.ok();
    assert_eq!((second.items.len(), second.next), (1, None));
    let picked: Page<DeviceRow> = admin.get("/api/v1/devices?selector=device%3Dcam-3%2Cclass%3Dpi").await.ok();
    assert_eq!(picked.items[0].device.as_str(), "cam-3");
    let mut after = 0;
    let mut kinds = Vec::new();
    loop {
        let page: Value = admin.get(&format!("/api/v1/events?limit=3&after={after}")).await.ok();
        kinds.extend(page["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.parse().unwrap();
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "device-enrolled").count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_open_and_the_console_is_plain_and_local() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(rig.stranger().get(path).await.status, StatusCode::OK, "{path}");
    }
    let console = rig.server().addresses().console.unwrap();
    let ask = async |path: &str, host: &str| {
        let mut stream = tokio::net::TcpStream::connect(console).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("/", &console.to_string()).await.starts_with("HTTP/1.1 200"));
    assert!(ask("/metrics", "localhost").await.contains("tern_refusals_total"));
    assert!(ask("/", "evil.example").await.starts_with("HTTP/1.1 421"));
    for role in ["timestamp.json", "1.root.json"] {
        let bytes = rig.server().fleet().repository.metadata(role).unwrap().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert!(document["signed"][tuf::ISSUED].as_str().unwrap().parse::<Timestamp>().is_ok(), "{role}");
    }
}
