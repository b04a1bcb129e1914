//! The store against a real file: group commit, atomic jobs, and what each table promises.

use std::{collections::BTreeMap, sync::Arc};

use tern_protocol::{
    desired::DesiredModel,
    digest::Digest,
    ids::{DeviceId, Generation, ModelVersion},
    refusal::RefusalCode,
    report::v1::Stream,
    twin::{LastError, ModelState, ModelTwin, Status, Twin},
};

use super::*;
use crate::{director::SignedState, events::EventKind, selector::Selector};

const NOW: &str = "2026-06-01T00:00:00Z";

pub(super) struct Scratch {
    pub(super) store: Store,
    pub(super) folder: tempfile::TempDir,
}

pub(super) fn scratch() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).unwrap();
    Scratch { store, folder }
}

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(super) fn later(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

pub(super) fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn order(name: &str, secret: &str) -> NewEnrolment {
    NewEnrolment {
        secret_hash: Digest::of(secret.as_bytes()),
        device: device(name),
        labels: BTreeMap::from([("site".parse().unwrap(), "operator".parse().unwrap())]),
        ordered_by: "admin".into(),
        expires: later(60),
        replaces: false,
    }
}

fn token(name: &str, secret: &str, key: &str) -> UsedToken {
    UsedToken {
        secret_hash: Digest::of(secret.as_bytes()),
        device: device(name),
        key_sha256: Digest::of(key.as_bytes()),
        device_class: "pi".parse().unwrap(),
        labels: BTreeMap::from([
            ("site".parse().unwrap(), "own".parse().unwrap()),
            ("line".parse().unwrap(), "a".parse().unwrap()),
        ]),
        agent_version: "1.0.0".into(),
        certificate_expires: later(1000),
    }
}

pub(super) async fn enrolled(store: &Store, name: &str) {
    store.order_enrolment(order(name, name), now()).await.unwrap().unwrap();
    store.enrol(token(name, name, name), now()).await.unwrap().unwrap();
}

pub(super) fn version(text: &str) -> ModelVersion {
    text.parse().unwrap()
}

pub(super) async fn signed(store: &Store, text: &str) {
    let model = version(text);
    let manifest = Digest::of(text.as_bytes());
    let new = NewVersion {
        model: model.clone(),
        manifest,
        bytes: b"{}".to_vec(),
        total: Default::default(),
        blobs: vec![(Digest::of(b"blob"), 4)],
        published_by: "admin".into(),
    };
    assert_eq!(store.put_manifest(new, now()).await.unwrap(), ManifestOutcome::Stored);
    let team = model.name.team.clone();
    let mut listed: Vec<_> = store.versions(None, Paging { after: String::new(), limit: 100 }).await.unwrap();
    listed.retain(|row| row.model.name.team == team && (row.signed || row.model == model));
    let listed = listed.into_iter().map(|r| SignedVersion { model: r.model, manifest: r.manifest }).collect();
    store.set_signed(crate::repository::TeamRole::release(team), listed, "admin".into(), now()).await.unwrap();
}

/// Signs with nothing: the bytes say what was asked for.
pub(super) fn sign() -> SignState {
    Arc::new(|device: &DeviceId, generation, models: Vec<DesiredModel>, now| {
        let names: Vec<_> = models.iter().map(|m| m.model_version().to_string()).collect();
        let bytes = format!("{device} {generation} {}", names.join(" ")).into_bytes();
        Ok(SignedState { bytes, expires: now + jiff::SignedDuration::from_hours(1) })
    })
}

pub(super) fn assignment(model: &str, selector: &str) -> AssignmentOrder {
    AssignmentOrder {
        model: version(model),
        selector: selector.parse().unwrap(),
        probation: Default::default(),
        reason: "test".into(),
        actor: "admin".into(),
    }
}

pub(super) async fn kinds(store: &Store) -> Vec<String> {
    store.events_after(0, 1000).await.unwrap().into_iter().map(|event| event.kind).collect()
}

fn twin(generation: u64, version: Option<&str>, error: Option<RefusalCode>) -> Twin {
    let last_error = error.map(|code| LastError {
        code,
        message: "no".into(),
        version: None,
        generation: Generation(generation),
        at: now(),
        count: 1,
    });
    let model = ModelTwin {
        model: "demo/m".parse().unwrap(),
        version: version.map(|v| v.parse().unwrap()),
        digest: None,
        state: ModelState::Committed,
        desired: None,
        generation: Generation(generation),
        since: now(),
        last_error: None,
    };
    Twin {
        generation: Generation(generation),
        models: vec![model],
        device_class: "pi".parse().unwrap(),
        labels: BTreeMap::new(),
        agent_version: "1.0.1".into(),
        last_error,
    }
}

fn heard(name: &str, channel: &str, value: &impl serde::Serialize) -> Heard {
    let payload = serde_json::to_vec(value).unwrap();
    Heard { device: device(name), topic: format!("tern/v1/f/{name}/{channel}"), payload }
}

async fn say(store: &Store, name: &str, twin: Twin) -> Option<TwinKept> {
    store.keep_twin(heard(name, "twin", &twin), twin, later(1)).await.unwrap()
}

#[tokio::test]
async fn a_report_is_a_sign_of_life() {
    let Scratch { store, folder: _folder } = scratch();
    enrolled(&store, "cam-1").await;
    let seen = async || store.device(device("cam-1")).await.unwrap().unwrap().last_seen;
    let report = async |sequence, at| {
        let row = NewRow { sequence, content: Content::Silent };
        let batch = Batch { device: device("cam-1"), stream: Stream([1; 16]), rows: vec![row] };
        store.commit_report(batch, at).await.unwrap().unwrap();
    };
    report(1, later(5)).await;
    assert_eq!(seen().await, None, "it has not said that it is there");
    say(&store, "cam-1", twin(1, None, None)).await;
    report(2, later(480)).await;
    assert_eq!(seen().await, Some(later(480)));
    report(3, later(400)).await;
    assert_eq!(seen().await, Some(later(480)), "a clock that was set back takes nothing away");
}

#[tokio::test]
async fn only_refusals_that_stand_are_counted() {
    let Scratch { store, folder: _folder } = scratch();
    let refused = |desired: &str| {
        let mut twin = twin(1, Some("1.0.0"), None);
        let error = LastError {
            code: RefusalCode::GoldenMismatch,
            message: "no".into(),
            version: Some("1.1.0".parse().unwrap()),
            generation: Generation(1),
            at: now(),
            count: 1,
        };
        (twin.models[0].desired, twin.models[0].last_error) = (Some(desired.parse().unwrap()), Some(error));
        twin
    };
    for name in ["cam-1", "cam-2", "cam-3"] {
        enrolled(&store, name).await;
    }
    say(&store, "cam-1", refused("1.1.0")).await;
    say(&store, "cam-2", refused("1.0.0")).await;
    say(&store, "cam-3", twin(1, Some("1.0.0"), None)).await;
    assert_eq!(store.counts().await.unwrap().refusing, 1);
    say(&store, "cam-1", refused("1.0.0")).await;
    assert_eq!(store.counts().await.unwrap().refusing, 0, "it was taken back");
}

#[tokio::test]
async fn jobs_that_wait_share_a_commit() {
    let Scratch { store, folder: _folder } = scratch();
    enrolled(&store, "cam-1").await;
    let before = store.commits();
    let writes = (0..200u64)
        .map(|sequence| NewRow { sequence: sequence + 1, content: Content::Silent })
        .map(|row| Batch { device: device("cam-1"), stream: Stream([1; 16]), rows: vec![row] })
        .map(|batch| store.commit_report(batch, now()));
    let mut tasks = Vec::new();
    for write in writes {
        tasks.push(Box::pin(write));
    }
    let mut done = 0;
    std::future::poll_fn(|cx| {
        tasks.retain_mut(|task| match task.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                assert_eq!(result.unwrap().unwrap().new, 1);
                done += 1;
                false
            }
            std::task::Poll::Pending => true,
        });
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(done, 200);
    let commits = store.commits() - before;
    assert!(commits < 100, "{commits} commits for 200 jobs");
}

#[tokio::test]
async fn a_job_that_fails_undoes_itself_alone() {
    let Scratch { store, folder: _folder } = scratch();
    let bad = store.write(|connection| {
        connection.execute("INSERT INTO settings (key, value) VALUES ('half', 'x')", [])?;
        connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
        Ok(())
    });
    let good = store.record(NewEvent::new(EventKind::Renewed, "kept"), now());
    let (bad, good) = tokio::join!(bad, good);
    assert!(matches!(bad, Err(StoreError::Sqlite(_))), "{bad:?}");
    good.unwrap();
    let half = store.read(|c| Ok(c.prepare("SELECT 1 FROM settings WHERE key = 'half'")?.exists([])?)).await.unwrap();
    assert!(!half);
    assert_eq!(kinds(&store).await, ["renewed"]);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_a_second_store_cannot_be_newer() {
    let Scratch { store, folder } = scratch();
    enrolled(&store, "cam-1").await;
    store.close().await;
    let stopped = store.record(NewEvent::new(EventKind::Renewed, "late"), now()).await;
    assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
    assert!(!store.is_running());
    let path = folder.path().join("server.db");
    assert!(!folder.path().join("server.db-wal").exists(), "close leaves one file");
    let store = Store::open(&path).unwrap();
    assert!(store.device(device("cam-1")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_is_good_for_one_key_until_it_expires() {
    let Scratch { store, folder: _folder } = scratch();
    let enrol = |token: UsedToken, at: Timestamp| store.enrol(token, at);
    assert_eq!(enrol(token("cam-1", "s", "k"), now()).await.unwrap(), Err(EnrolmentRefusal::Unknown));
    store.order_enrolment(order("cam-1", "s"), now()).await.unwrap().unwrap();
    assert_eq!(enrol(token("cam-2", "s", "k"), now()).await.unwrap(), Err(EnrolmentRefusal::Unknown));
    assert_eq!(enrol(token("cam-1", "s", "k"), later(60)).await.unwrap(), Err(EnrolmentRefusal::Expired));
    assert_eq!(enrol(token("cam-1", "s", "k"), now()).await.unwrap(), Ok(Enrolled { replaced: false }));
    // The answer was lost on the way: the same key asks again.
    assert_eq!(enrol(token("cam-1", "s", "k"), now()).await.unwrap(), Ok(Enrolled { replaced: false }));
    assert_eq!(enrol(token("cam-1", "s", "other"), now()).await.unwrap(), Err(EnrolmentRefusal::Used));
    assert_eq!(enrol(token("cam-1", "s", "k"), later(61)).await.unwrap(), Err(EnrolmentRefusal::Expired));
    assert_eq!(kinds(&store).await, ["enrolment-ordered", "device-enrolled"]);
    let row = store.device(device("cam-1")).await.unwrap().unwrap();
    let labels: Vec<_> = row.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["line=a", "site=operator"], "the operator's labels go over the device's own");
}

#[tokio::test]
async fn a_device_in_service_is_replaced_only_by_order() {
    let Scratch { store, folder: _folder } = scratch();
    enrolled(&store, "cam-1").await;
    // It never spoke, so its machine may never have learnt of its enrolment.
    store.order_enrolment(order("cam-1", "again"), now()).await.unwrap().unwrap();
    say(&store, "cam-1", twin(0, None, None)).await.unwrap();
    let late = store.enrol(token("cam-1", "again", "other"), now()).await.unwrap();
    assert_eq!(late, Err(EnrolmentRefusal::AlreadyEnrolled));
    let refused = store.order_enrolment(order("cam-1", "third"), now()).await.unwrap();
    assert_eq!(refused, Err(OrderRefusal::AlreadyEnrolled));
    let replacing = NewEnrolment { replaces: true, ..order("cam-1", "fourth") };
    store.order_enrolment(replacing, now()).await.unwrap().unwrap();
    // A newer order ends the older one.
    assert_eq!(store.enrol(token("cam-1", "again", "other"), now()).await.unwrap(), Err(EnrolmentRefusal::Unknown));
    let enrolled = store.enrol(token("cam-1", "fourth", "new-key"), now()).await.unwrap();
    assert_eq!(enrolled, Ok(Enrolled { replaced: true }));
    let admittance = store.admittance(device("cam-1")).await.unwrap();
    assert_eq!(admittance, Admittance::Enrolled { key_sha256: Digest::of(b"new-key"), issuer: None });
    assert_eq!(store.admittance(device("cam-2")).await.unwrap(), Admittance::Unknown);
}

#[tokio::test]
async fn an_assignment_keeps_other_models_and_generations_only_grow() {
    let Scratch { store, folder: _folder } = scratch();
    for name in ["cam-1", "cam-2"] {
        enrolled(&store, name).await;
    }
    for name in ["demo/m@1.0.0", "demo/m@1.1.0", "demo/n@1.0.0"] {
        signed(&store, name).await;
    }
    let assign =
        |model: &'static str, selector: &'static str, at| store.assign(assignment(model, selector), sign(), at);
    let first = assign("demo/m@1.0.0", "*", now()).await.unwrap().unwrap();
    let seconds = u64::try_from(now().as_second()).unwrap();
    assert_eq!(first.values().collect::<Vec<_>>(), [&Generation(seconds); 2]);
    // In the same second, and with a clock that stepped back, the number still grows.
    let second = assign("demo/n@1.0.0", "device=cam-1", later(-100)).await.unwrap().unwrap();
    assert_eq!(second, BTreeMap::from([(device("cam-1"), Generation(seconds + 1))]));
    assign("demo/m@1.1.0", "device=cam-1", later(0)).await.unwrap().unwrap();
    let demand = store.demand(device("cam-1")).await.unwrap().unwrap();
    let text = format!("cam-1 {} demo/m@1.1.0 demo/n@1.0.0", seconds + 2);
    assert_eq!((String::from_utf8(demand.bytes).unwrap(), demand.lags), (text, true));
    let of_version = |name: &str| store.demand_of_version(device(name), version("demo/n@1.0.0"));
    assert_eq!(of_version("cam-1").await.unwrap(), Some(demand.generation));
    assert_eq!(of_version("cam-2").await.unwrap(), None);
    let of_blob = |blob: &'static [u8]| store.demand_of_blob(device("cam-2"), Digest::of(blob));
    let second = store.demand(device("cam-2")).await.unwrap().unwrap();
    assert_eq!(of_blob(b"blob").await.unwrap(), Some((version("demo/m@1.0.0"), second.generation)));
    assert_eq!(of_blob(b"other").await.unwrap(), None);
}

#[tokio::test]
async fn an_assignment_happens_as_a_whole_or_not_at_all() {
    let Scratch { store, folder: _folder } = scratch();
    for name in ["cam-1", "cam-2"] {
        enrolled(&store, name).await;
    }
    for name in ["demo/m@1.0.0", "other/m@1.0.0"] {
        signed(&store, name).await;
    }
    store.assign(assignment("other/m@1.0.0", "device=cam-2"), sign(), now()).await.unwrap().unwrap();
    let refused = store.assign(assignment("demo/m@1.0.0", "*"), sign(), now()).await.unwrap().unwrap_err();
    assert_eq!(refused, AssignRefusal::NameTaken { device: device("cam-2"), by: "other/m".parse().unwrap() });
    assert!(store.demand(device("cam-1")).await.unwrap().is_none(), "cam-1 comes first and is untouched");
    let failing: SignState = Arc::new(|device: &DeviceId, generation, models, now| {
        anyhow::ensure!(device.as_str() != "cam-2", "the key is gone");
        sign()(device, generation, models, now)
    });
    assert!(store.assign(assignment("other/m@1.0.0", "*"), failing, now()).await.is_err());
    assert!(store.demand(device("cam-1")).await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_assigned_has_its_own_refusal() {
    let Scratch { store, folder: _folder } = scratch();
    let assign = |model: &'static str, selector: &'static str| store.assign(assignment(model, selector), sign(), now());
    assert_eq!(assign("demo/m@1.0.0", "*").await.unwrap(), Err(AssignRefusal::UnknownVersion));
    signed(&store, "demo/m@1.0.0").await;
    assert_eq!(assign("demo/m@1.0.0", "*").await.unwrap(), Err(AssignRefusal::NoDevice));
    store.set_signed("demo".parse().unwrap(), vec![], "admin".into(), now()).await.unwrap();
    assert_eq!(assign("demo/m@1.0.0", "*").await.unwrap(), Err(AssignRefusal::Unsigned));
    enrolled(&store, "cam-1").await;
    for index in 0..tern_protocol::desired::MAX_MODELS {
        let name: &'static str = format!("demo/m{index}@1.0.0").leak();
        signed(&store, name).await;
        assign(name, "*").await.unwrap().unwrap();
    }
    signed(&store, "demo/more@1.0.0").await;
    let refused = assign("demo/more@1.0.0", "*").await.unwrap().unwrap_err();
    assert_eq!(refused, AssignRefusal::TooMany { device: device("cam-1") });
}

#[tokio::test]
async fn a_twin_brings_each_refusal_once_and_says_whether_it_lags() {
    let Scratch { store, folder: _folder } = scratch();
    assert_eq!(say(&store, "cam-1", twin(0, None, None)).await, None, "not enrolled");
    enrolled(&store, "cam-1").await;
    signed(&store, "demo/m@1.0.0").await;
    let demanded = store.assign(assignment("demo/m@1.0.0", "*"), sign(), now()).await.unwrap().unwrap();
    let generation = demanded[&device("cam-1")];
    let kept = say(&store, "cam-1", twin(0, None, Some(RefusalCode::WrongDevice))).await.unwrap();
    assert_eq!(kept, TwinKept { behind: Some(generation), refusals: vec![RefusalCode::WrongDevice] });
    let kept = say(&store, "cam-1", twin(0, None, Some(RefusalCode::WrongDevice))).await.unwrap();
    assert_eq!(kept.refusals, []);
    let kept = say(&store, "cam-1", twin(generation.0, Some("1.0.0"), None)).await.unwrap();
    assert_eq!(kept, TwinKept { behind: None, refusals: vec![] });
    let events = store.events_after(0, 100).await.unwrap();
    let refusal = events.iter().find(|event| event.kind == "device-refused").unwrap();
    assert_eq!((refusal.code.as_str(), &refusal.device), ("wrong-device", &Some(device("cam-1"))));
    assert_eq!(kinds(&store).await.iter().filter(|kind| *kind == "device-refused").count(), 1);
    assert_eq!(kinds(&store).await.iter().filter(|kind| *kind == "device-running").count(), 1);
    let row = &store.versions(None, Paging { after: String::new(), limit: 9 }).await.unwrap()[0];
    assert_eq!((row.devices, row.signed), (1, true));
    let row = store.device(device("cam-1")).await.unwrap().unwrap();
    assert_eq!((row.generation, row.agent_version.as_str()), (generation, "1.0.1"));
    let kept = say(&store, "cam-1", twin(generation.0 + 9, Some("1.0.0"), None)).await.unwrap();
    assert_eq!(kept.behind, Some(generation), "a thief's generation is no reason to be silent");
}

#[tokio::test]
async fn status_tells_who_is_online_and_a_restart_of_the_server_makes_all_offline() {
    let Scratch { store, folder: _folder } = scratch();
    enrolled(&store, "cam-1").await;
    let status = |online, boot: &str| Status { online, boot: boot.into(), agent_version: "1".into(), since: now() };
    let keep = |status: Status| store.keep_status(heard("cam-1", "status", &status), status, now());
    assert_eq!(keep(status(true, "a")).await.unwrap(), StatusKept::Kept);
    assert_eq!(keep(status(true, "a")).await.unwrap(), StatusKept::Kept);
    assert_eq!(keep(status(true, "b")).await.unwrap(), StatusKept::Kept);
    assert_eq!(keep(status(false, "b")).await.unwrap(), StatusKept::Kept);
    let online = kinds(&store).await;
    assert_eq!(online[2..], ["device-online", "device-online", "device-offline"]);
    assert_eq!(keep(status(true, "c")).await.unwrap(), StatusKept::Kept);
    assert_eq!(store.offline(None, Gone::ServerStarted, now()).await.unwrap(), 1);
    assert!(!store.device(device("cam-1")).await.unwrap().unwrap().online);
    let unknown = Heard { device: device("cam-9"), ..heard("cam-9", "status", &status(true, "a")) };
    assert_eq!(store.keep_status(unknown, status(true, "a"), now()).await.unwrap(), StatusKept::Refused);
}

#[tokio::test]
async fn the_last_retained_payload_of_each_topic_is_kept_and_bounded() {
    let Scratch { store, folder: _folder } = scratch();
    enrolled(&store, "cam-1").await;
    let figures = |name: &str, payload: &[u8]| Heard {
        device: device("cam-1"),
        topic: format!("tern/v1/f/cam-1/m/{name}"),
        payload: payload.to_vec(),
    };
    assert!(store.keep_figures(figures("a", b"{}")).await.unwrap());
    assert!(store.keep_figures(figures("a", b"{\"n\":1}")).await.unwrap());
    assert_eq!(store.retained().await.unwrap(), [("tern/v1/f/cam-1/m/a".into(), b"{\"n\":1}".to_vec())]);
    assert!(store.keep_figures(figures("a", b"")).await.unwrap());
    assert_eq!(store.retained().await.unwrap(), []);
    for index in 0..160 {
        assert!(store.keep_figures(figures(&format!("x{index}"), b"{}")).await.unwrap(), "{index}");
    }
    assert!(!store.keep_figures(figures("one-more", b"{}")).await.unwrap());
    assert!(store.keep_figures(figures("x7", b"{\"n\":2}")).await.unwrap(), "a known topic is no new one");
}

#[tokio::test]
async fn a_version_never_changes_its_bytes_and_is_listed_page_by_page() {
    let Scratch { store, folder: _folder } = scratch();
    for name in ["demo/a@1.0.0", "demo/b@1.0.0", "demo/b@2.0.0"] {
        signed(&store, name).await;
    }
    let again = |text: &str| NewVersion {
        model: version("demo/a@1.0.0"),
        manifest: Digest::of(text.as_bytes()),
        bytes: vec![],
        total: Default::default(),
        blobs: vec![],
        published_by: "admin".into(),
    };
    assert_eq!(store.put_manifest(again("demo/a@1.0.0"), now()).await.unwrap(), ManifestOutcome::Same);
    let exists = ManifestOutcome::Exists { manifest: Digest::of(b"demo/a@1.0.0") };
    assert_eq!(store.put_manifest(again("other"), now()).await.unwrap(), exists);
    // Withdrawn is not unsigned: devices may run it.
    store.set_signed("demo".parse().unwrap(), vec![], "admin".into(), now()).await.unwrap();
    assert_eq!(store.put_manifest(again("other"), now()).await.unwrap(), exists);
    let offer = |text: &str| NewVersion { model: version("demo/b@3.0.0"), ..again(text) };
    assert_eq!(store.put_manifest(offer("one"), now()).await.unwrap(), ManifestOutcome::Stored);
    assert_eq!(store.put_manifest(offer("two"), now()).await.unwrap(), ManifestOutcome::Stored);
    let replaced = SignedVersion { model: version("demo/b@3.0.0"), manifest: Digest::of(b"one") };
    let listed = vec![replaced.clone()];
    assert_eq!(store.set_signed("demo".parse().unwrap(), listed, "admin".into(), now()).await.unwrap(), [replaced]);
    store.restore_manifest(offer("one"), now()).await.unwrap();
    let exists = ManifestOutcome::Exists { manifest: Digest::of(b"one") };
    assert_eq!(store.put_manifest(offer("two"), now()).await.unwrap(), exists);
    let page = |after: &str, limit| store.versions(None, Paging { after: after.into(), limit });
    let names = |rows: Vec<crate::forms::VersionRow>| rows.iter().map(|r| r.model.to_string()).collect::<Vec<_>>();
    assert_eq!(names(page("", 2).await.unwrap()), ["demo/a@1.0.0", "demo/b@1.0.0"]);
    assert_eq!(names(page("demo/b@1.0.0", 1).await.unwrap()), ["demo/b@2.0.0"]);
    let of = store.versions(Some("demo/b".parse().unwrap()), Paging { after: String::new(), limit: 9 }).await.unwrap();
    assert_eq!(names(of), ["demo/b@1.0.0", "demo/b@2.0.0", "demo/b@3.0.0"]);
    assert_eq!(store.blob_limit(Digest::of(b"blob")).await.unwrap(), Some(4));
    assert_eq!(store.blob_limit(Digest::of(b"none")).await.unwrap(), None);
}

#[tokio::test]
async fn states_are_renewed_before_they_expire_under_a_new_generation() {
    let Scratch { store, folder: _folder } = scratch();
    for name in ["cam-1", "cam-2", "cam-3"] {
        enrolled(&store, name).await;
    }
    signed(&store, "demo/m@1.0.0").await;
    store.assign(assignment("demo/m@1.0.0", "device!=cam-3"), sign(), now()).await.unwrap().unwrap();
    let before = store.demand(device("cam-1")).await.unwrap().unwrap();
    assert_eq!(store.renew(sign(), later(10), 9, now()).await.unwrap(), []);
    assert_eq!(store.renew(sign(), later(7200), 1, now()).await.unwrap().len(), 1);
    assert_eq!(store.renew(sign(), later(7200), 9, later(7000)).await.unwrap().len(), 2);
    let after = store.demand(device("cam-1")).await.unwrap().unwrap();
    assert!(after.generation > before.generation);
    assert!(String::from_utf8(after.bytes).unwrap().ends_with("demo/m@1.0.0"));
    assert!(store.demand(device("cam-3")).await.unwrap().is_none());
}

#[tokio::test]
async fn devices_are_picked_by_selector_page_by_page() {
    let Scratch { store, folder: _folder } = scratch();
    for name in ["cam-1", "cam-2", "cam-3"] {
        enrolled(&store, name).await;
    }
    let list = |selector: &str, after: &str, limit| {
        let selector: Selector = selector.parse().unwrap();
        store.devices(selector, Paging { after: after.into(), limit })
    };
    let names = |rows: Vec<crate::forms::DeviceRow>| rows.iter().map(|r| r.device.to_string()).collect::<Vec<_>>();
    assert_eq!(names(list("line=a,device!=cam-1", "", 9).await.unwrap()), ["cam-2", "cam-3"]);
    assert_eq!(names(list("*", "cam-1", 1).await.unwrap()), ["cam-2"]);
    assert_eq!(names(list("site=own", "", 9).await.unwrap()), Vec::<String>::new());
}

#[tokio::test]
async fn a_round_of_a_large_fleet_keeps_nobody_waiting_for_long() {
    let Scratch { store, folder: _folder } = scratch();
    let model: ModelVersion = "demo/m@1.0.0".parse().unwrap();
    // 1,000 devices with 10 features, each state as large as it grows.
    let states = |at: u8| {
        let state = |i: usize| DeviceState {
            model: model.clone(),
            device: device(&format!("cam-{i}")),
            state: Some((1, vec![at; 34_000])),
        };
        (0..1000).map(state).collect::<Vec<_>>()
    };
    for at in 0..3u8 {
        let step = Advance {
            from: at.into(),
            cursor: i64::from(at) + 1,
            versions: vec![],
            devices: states(at),
            runs: vec![],
            changes: vec![],
        };
        let start = crate::clock::Moment::now();
        let round = store.advance(step, "f".parse().unwrap(), now());
        let report = async {
            store.retain("t".into(), vec![at + 1]).await.unwrap();
            start.elapsed()
        };
        let (round, waited) = tokio::join!(round, report);
        round.unwrap();
        println!("a round: {:?}, a write behind it: {waited:?}", start.elapsed());
        assert!(waited.as_secs() < 10, "{waited:?}");
    }
}
