//! Hooks against real commands and a real server on loopback: how they end, and that they run at least once.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{
    forms::incident::{Cause, IncidentRow},
    store::{Advance, IncidentChange, Store},
};

fn row() -> IncidentRow {
    let at: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    IncidentRow {
        number: 7,
        model: "vision/digits@1.0.0".parse().unwrap(),
        kind: IncidentKind::ModelBroken,
        severity: Severity::Critical,
        state: "open".into(),
        cause: Cause::Model,
        summary: "x".into(),
        devices: vec![],
        features: vec![],
        since: at,
        opened: at,
        updated: at,
        resolved: None,
        resolution: None,
        evidence: vec![],
        acknowledged_by: None,
        muted_until: None,
        muted_by: None,
        mute_reason: None,
        actions: vec![],
    }
}

fn delivery(attempts: u32) -> Delivery {
    Delivery { id: 41, occasion: "opened".into(), attempts, incident: row() }
}

fn script(folder: &Path, text: &str) -> Command {
    let path = folder.join("hook.sh");
    crate::disk::write(&path, format!("{text}\n").as_bytes(), crate::disk::Access::Private).unwrap();
    Command {
        words: vec!["/bin/sh".into(), path.display().to_string()],
        environment: vec!["CARGO_MANIFEST_DIR".into()],
        limit: Duration::from_secs(20),
        samples: folder.join("samples"),
    }
}

#[tokio::test]
async fn a_command_reads_the_incident_in_a_clean_environment() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(
        folder.path(),
        "grep -c model-broken\necho $TERN_HOOK $TERN_INCIDENT\nls -A $TERN_SAMPLES_DIR | wc -l\nenv | cut -d= -f1 | sort | tr '\\n' ' '",
    );
    let said = command.run("notify", &delivery(1)).await.unwrap();
    assert!(said.starts_with("1 notify 7 0 "), "{said}");
    let names: Vec<_> =
        said.split(' ').skip(4).filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    let expected = ["CARGO_MANIFEST_DIR", "HOME", "PATH", "TERN_HOOK", "TERN_INCIDENT", "TERN_SAMPLES_DIR"];
    assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
    assert!(!folder.path().join("samples/7").exists(), "its folder is gone");
}

#[tokio::test]
async fn a_command_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let failed = script(folder.path(), "echo no disk >&2; exit 3").run("retrain", &delivery(1)).await.unwrap_err();
    assert!(failed.contains("3") && failed.ends_with("no disk"), "{failed}");
    let words = vec!["/nowhere/at/all".to_owned()];
    let missing = Command { words, ..script(folder.path(), "") }.run("retrain", &delivery(1)).await.unwrap_err();
    assert!(missing.contains("/nowhere/at/all"), "{missing}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(folder.path(), "sleep 1000 & echo $! > ../../child; echo begun; wait");
    let killed =
        Command { limit: Duration::from_millis(500), ..command }.run("notify", &delivery(1)).await.unwrap_err();
    assert!(killed.starts_with("killed"), "{killed}");
    let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
    let status = format!("/proc/{}/status", child.trim());
    // A killed process may stay as a zombie until whoever inherited it looks.
    let is_gone = || std::fs::read_to_string(&status).map_or(true, |text| text.contains("State:\tZ"));
    for _ in 0..500 {
        if is_gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{status} is still there");
}

#[tokio::test]
async fn a_flood_of_output_is_read_and_mostly_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let flood = script(
        folder.path(),
        "head -c 30000000 /dev/zero | tr '\\0' 'x'; head -c 3000000 /dev/zero >&2; echo out of memory >&2; exit 1",
    );
    let said = flood.run("notify", &delivery(1)).await.unwrap_err();
    assert!(said.len() < 2000 && said.ends_with("out of memory"), "how it ended is what is kept: {said}");
    // It ends although a process that it left behind holds its output open.
    let left = script(folder.path(), "sleep 1000 & echo done").run("notify", &delivery(1)).await.unwrap();
    assert_eq!(left, "done");
}

/// What a receiver saw: signature, delivery, body.
type Seen = (String, String, Bytes);

/// A receiver that answers with these statuses in turn.
async fn receiver(statuses: Vec<u16>) -> (String, mpsc::Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, seen) = mpsc::channel(16);
    tokio::spawn(async move {
        for status in statuses {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
                    let (signature, delivery) = (header(webhook::SIGNATURE), header(webhook::DELIVERY));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    sender.send((signature, delivery, body)).await.unwrap();
                    Response::builder().status(status).body(Empty::<Bytes>::new())
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (url, seen)
}

fn hooked(folder: &Path, url: String) -> Config {
    let secret = folder.join("secret");
    crate::disk::write(&secret, b"0123456789abcdef0123\n", crate::disk::Access::Private).unwrap();
    let config = Config { webhook_url: Some(url), webhook_secret_file: Some(secret), ..Config::default() };
    config.check().unwrap();
    config
}

#[tokio::test]
async fn a_webhook_is_signed_and_any_2xx_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (url, mut seen) = receiver(vec![204, 500]).await;
    let webhook = Webhook::new(&hooked(folder.path(), url)).unwrap().unwrap();
    assert_eq!(webhook.send(&delivery(1)).await.unwrap(), "answered 204 No Content");
    let (signature, delivered, body) = seen.recv().await.unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef0123");
    let tag = hex::decode(signature.strip_prefix("sha256=").unwrap()).unwrap();
    ring::hmac::verify(&key, &body, &tag).unwrap();
    assert_eq!(delivered, "41");
    assert_eq!(serde_json::from_slice::<IncidentRow>(&body).unwrap(), row());
    assert!(webhook.send(&delivery(2)).await.unwrap_err().contains("500"));
    // Nobody listens any more.
    assert!(webhook.send(&delivery(3)).await.is_err());
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = hooked(folder.path(), "http://127.0.0.1:9/".into());
    crate::disk::write(&folder.path().join("secret"), b"short", crate::disk::Access::Private).unwrap();
    assert!(Webhook::new(&config).is_err());
    assert!(Webhook::new(&Config::default()).unwrap().is_none());
}

#[test]
fn pauses_double_up_to_an_hour_and_tries_end() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let pause = |attempts| match judge(Err("x".into()), &delivery(attempts), SignedDuration::from_secs(600), now) {
        Outcome::Retry(_, due) => due.duration_since(now).as_secs(),
        Outcome::Failed(_) => -1,
        Outcome::Done(_) => 0,
    };
    assert_eq!([1, 2, 3, 4, 5, 6].map(pause), [600, 1200, 2400, 3600, 3600, -1]);
}

/// An incident that opened, and what policy ordered for it.
async fn opened(store: &Store, policy: &Policy, kind: IncidentKind, severity: Severity, from: i64) -> u64 {
    let at: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let incident = Incident {
        severity,
        cause: Cause::Model,
        summary: "x".into(),
        devices: vec![],
        of: 8,
        features: vec![],
        since: at,
        evidence: vec![],
        resolution: None,
    };
    let change = IncidentChange {
        model: "vision/digits@1.0.0".parse().unwrap(),
        hooks: policy(kind, &incident, Change::Opened),
        kind,
        incident,
        change: Change::Opened,
        at,
    };
    let cursor = from + 1;
    let changes = vec![change];
    let step = Advance { from, cursor, versions: vec![], devices: vec![], runs: vec![], changes };
    let statements = store.advance(step, "f".parse().unwrap(), at).await.unwrap();
    let row: IncidentRow = serde_json::from_slice(&statements[0].payload).unwrap();
    assert_eq!(statements[0].topic, format!("tern/v1/f/_fleet/incident/{}", row.number));
    row.number
}

#[tokio::test]
async fn an_order_is_made_once_and_run_again_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    let config = Config {
        notify_command: vec!["/bin/true".into()],
        retrain_command: vec!["/bin/true".into()],
        ..hooked(folder.path(), "http://127.0.0.1:9/".into())
    };
    let policy = Hooks::new(&config, folder.path()).unwrap().policy();
    let quiet = opened(&store, &policy, IncidentKind::DeviceFault, Severity::Notice, 0).await;
    let number = opened(&store, &policy, IncidentKind::ModelBroken, Severity::Critical, 1).await;
    assert!(store.incident(quiet).await.unwrap().unwrap().actions.is_empty(), "a notice calls nobody");
    let now = clock::now();
    let due = async |store: &Store, hook| match store.work(hook, now).await.unwrap() {
        Work::Due(delivery) => (delivery.id, delivery.attempts, delivery.incident.number),
        other => panic!("{other:?}"),
    };
    let (id, attempts, of) = due(&store, "retrain").await;
    assert_eq!((attempts, of), (1, number));
    // The server is killed while the hook runs: nothing was written since.
    store.close().await;
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    assert_eq!(due(&store, "retrain").await, (id, 2, number));
    let later = now.saturating_add(SignedDuration::from_secs(60)).unwrap();
    let fleet = || "f".parse().unwrap();
    store.settle_delivery(id, Outcome::Retry("busy".into(), later), fleet(), now).await.unwrap();
    assert!(matches!(store.work("retrain", now).await.unwrap(), Work::Later(_)));
    let Work::Due(again) = store.work("retrain", later).await.unwrap() else { panic!("it is due") };
    assert_eq!((again.id, again.attempts), (id, 3));
    let statement = store.settle_delivery(id, Outcome::Done("ok".into()), fleet(), later).await.unwrap();
    assert_eq!(store.work("retrain", later).await.unwrap(), Work::None);
    let row: IncidentRow = serde_json::from_slice(&statement.payload).unwrap();
    let states: Vec<_> = row.actions.iter().map(|action| (action.hook.as_str(), action.state.as_str())).collect();
    assert_eq!(states, [("notify", "waiting"), ("retrain", "done"), ("webhook", "waiting")]);
    let events = store.newest_events(10).await.unwrap();
    assert!(events.iter().any(|event| event.kind == "hook-ran" && event.message.contains("try 3")));
}

#[tokio::test]
async fn an_incident_of_a_whole_fleet_fits_into_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    let policy: Policy = Arc::new(|_, _, _| vec![]);
    let number = opened(&store, &policy, IncidentKind::ModelBroken, Severity::Critical, 0).await;
    let mut open = store.detector().await.unwrap().open.remove(0);
    open.incident.devices = (0..20_000).map(|i| format!("camera-on-the-north-side-{i:05}").parse().unwrap()).collect();
    let (at, change) = ("2026-06-01T01:00:00Z".parse().unwrap(), Change::Refreshed);
    let changes =
        vec![IncidentChange { model: open.model, kind: open.kind, incident: open.incident, change, at, hooks: vec![] }];
    let step = Advance { from: 1, cursor: 2, versions: vec![], devices: vec![], runs: vec![], changes };
    let said = store.advance(step, "f".parse().unwrap(), at).await.unwrap();
    assert!(said[0].payload.len() < 16 << 10, "{} bytes", said[0].payload.len());
    assert_eq!(store.incident(number).await.unwrap().unwrap().devices.len(), 20_000, "the interface names all");
}

#[tokio::test]
async fn a_step_from_elsewhere_is_not_taken_and_a_mute_outlives_its_incident() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    let policy: Policy = Arc::new(|_, _, _| vec![("notify", "opened")]);
    let number = opened(&store, &policy, IncidentKind::ModelBroken, Severity::Critical, 0).await;
    let step = || Advance { from: 0, cursor: 9, versions: vec![], devices: vec![], runs: vec![], changes: vec![] };
    let at: Timestamp = "2026-06-01T01:00:00Z".parse().unwrap();
    assert!(store.advance(step(), "f".parse().unwrap(), at).await.is_err());
    assert_eq!(store.detector().await.unwrap().cursor, 1);

    let until: Timestamp = "2026-06-02T00:00:00Z".parse().unwrap();
    let by = || ("ann".to_owned(), "known".to_owned());
    let response = crate::store::Response::Mute(until);
    store.respond(number, response, by(), "f".parse().unwrap(), at).await.unwrap().unwrap();
    let open = store.detector().await.unwrap().open.remove(0);
    let change = Change::Resolved(crate::forms::incident::Resolution::Quiet);
    let ended =
        IncidentChange { model: open.model, kind: open.kind, incident: open.incident, change, at, hooks: vec![] };
    let step = Advance { from: 1, cursor: 2, changes: vec![ended], ..step() };
    store.advance(step, "f".parse().unwrap(), at).await.unwrap();
    assert!(store.open_incidents().await.unwrap().is_empty());
    let again = opened(&store, &policy, IncidentKind::ModelBroken, Severity::Critical, 2).await;
    let row = store.incident(again).await.unwrap().unwrap();
    assert_eq!((row.muted_by.as_deref(), row.actions[0].state.as_str()), (Some("ann"), "muted"));
    // The first one's topic is cleared a day after it ended, the open one's stays.
    let topics = async |hours| {
        let now = at.saturating_add(SignedDuration::from_hours(hours)).unwrap();
        store.clear_incidents("f".parse().unwrap(), now).await.unwrap().len()
    };
    assert_eq!((topics(23).await, topics(25).await, topics(25).await), (0, 1, 0));
    assert_eq!(store.retained().await.unwrap().len(), 1);
}
