//! Cameras before devices of our own making: they answer every digit with 3, fail when told to, and remember labels.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::*;

#[derive(Default)]
struct Device {
    is_failing: AtomicBool,
    asked: Mutex<Vec<(String, Vec<f64>)>>,
    labels: Mutex<Vec<(String, i64)>>,
}

impl Device {
    fn start(path: &Path) -> Arc<Self> {
        let (device, listener) = (Arc::new(Self::default()), UnixListener::bind(path).unwrap());
        let server = device.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let device = server.clone();
                let answer = move |request| {
                    let device = device.clone();
                    async move { Ok::<_, Infallible>(device.answer(request).await) }
                };
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        device
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let reply = |status: StatusCode, body: Value| {
            Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
        };
        if self.is_failing.load(Ordering::Relaxed) {
            return reply(StatusCode::SERVICE_UNAVAILABLE, json!({}));
        }
        if path.ends_with("/infer") {
            let pixels = body["inputs"][0]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert_eq!(body["inputs"][0]["shape"], json!([1, 8, 8]));
            self.asked.lock().unwrap().push((body["id"].as_str().unwrap().into(), pixels));
            let outputs = json!([{"name": "label", "data": [3]}, {"name": "probabilities", "data": [null, 0.5]}]);
            return reply(StatusCode::OK, json!({"model_version": "1.0.0", "outputs": outputs}));
        }
        let items = body["feedback"].as_array().unwrap();
        let fates = items.iter().map(|item| {
            let id = item["id"].as_str().unwrap();
            // As a device that forgot its first request.
            let is_known = !id.ends_with("-0");
            if is_known {
                self.labels.lock().unwrap().push((id.into(), item["label"].as_i64().unwrap()));
            }
            json!({"status": if is_known { "accepted" } else { "unknown-id" }})
        });
        reply(StatusCode::OK, json!({"feedback": fates.collect::<Vec<_>>()}))
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn digits() -> Arc<[Digit]> {
    let digit = |label| Digit { label, pixels: vec![if label == 3 { 8.0 } else { 0.0 }; 64] };
    [3, 3, 3, 5].map(digit).into()
}

fn pace() -> Pace {
    let script = Script { seed: 9, labelled_per_mille: 1000 };
    Pace { script, every: Duration::from_millis(1), label_after: Duration::from_millis(5) }
}

fn scene(phase: &str) -> Scene {
    Scene { phase: phase.into(), ..Scene::default() }
}

/// Waits until `is` so; a minute at most.
async fn until(what: &str, is: impl Fn() -> bool) {
    let started = Moment::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    devices: Vec<Arc<Device>>,
    play: Play,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let devices = ["a", "b"].map(|name| Device::start(&path(name))).into();
    let addresses = ["a", "b"].map(|name| (name.to_owned(), Address::Unix(path(name))));
    let play = Play::start(&addresses, digits(), pace(), scene("clean"));
    Stage { _folder: folder, devices, play }
}

#[tokio::test]
async fn lenses_foul_at_the_scene_and_accuracy_is_kept_by_phase() {
    let stage = stage();
    until("clean images", || stage.devices.iter().all(|device| device.asked() > 20)).await;
    stage.play.scene("one fouled", [1]);
    let before = stage.devices[1].asked();
    until("fouled images", || stage.devices[1].asked() > before + 20).await;
    let score = stage.play.stop().await.unwrap();

    let is_fouled = |pixels: &Vec<f64>| pixels.iter().any(|pixel| *pixel != pixels[0]);
    assert!(!stage.devices[0].asked.lock().unwrap().iter().any(|(_, pixels)| is_fouled(pixels)));
    assert!(stage.devices[1].asked.lock().unwrap()[before + 2..].iter().all(|(_, pixels)| is_fouled(pixels)));
    let (clean, fouled) = (score.phase("clean"), score.phase("one fouled"));
    assert!(clean.answered > 40 && fouled.answered > 20);
    assert_eq!((clean.failed, clean.unsure), (0, clean.answered));
    let asked = stage.devices.iter().map(|device| device.asked() as u64).sum::<u64>();
    assert_eq!(score.total().answered, asked);
    let accuracy = clean.accuracy().unwrap();
    assert!((0.4..1.0).contains(&accuracy), "three of four digits are a 3: {accuracy}");
}

#[tokio::test]
async fn labels_come_late_and_a_forgotten_request_costs_only_its_own() {
    let stage = stage();
    until("labels", || stage.devices.iter().all(|device| device.labels.lock().unwrap().len() > 20)).await;
    let score = stage.play.stop().await.unwrap();
    let total = score.total();
    let taken = stage.devices.iter().map(|device| device.labels.lock().unwrap().len() as u64).sum::<u64>();
    assert_eq!((total.labels, total.refused_labels), (taken, 2));
    assert_eq!(total.answered, total.labels + total.refused_labels + total.lost_labels, "every row was to be labelled");
    let script = pace().script;
    let labels = stage.devices[1].labels.lock().unwrap();
    for (id, label) in labels.iter() {
        let number = id.strip_prefix("b-").unwrap().parse().unwrap();
        assert_eq!(*label, script.image(1, number, &digits(), false).label);
    }
}

#[tokio::test]
async fn failures_are_counted_and_labels_wait_them_out() {
    let stage = stage();
    until("answers", || stage.devices[0].asked() > 20).await;
    stage.devices[0].is_failing.store(true, Ordering::Relaxed);
    let before = stage.devices[1].asked();
    until("time to pass", || stage.devices[1].asked() > before + 20).await;
    stage.devices[0].is_failing.store(false, Ordering::Relaxed);
    let before = stage.devices[0].asked();
    until("answers again", || stage.devices[0].asked() > before + 20).await;
    let mut score = stage.play.stop().await.unwrap();
    let tally = score.at("clean", "a");
    assert!(tally.failed > 0 && tally.answered > 40, "{tally:?}");
    assert_eq!(tally.answered, tally.labels + tally.refused_labels + tally.lost_labels, "no label vanished");
    assert_eq!(score.at("clean", "b").failed, 0);
}
