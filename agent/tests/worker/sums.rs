//! What is counted of real requests, against a plain recount; and what is lost when the worker is killed.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tern_agent::supervisor::WorkerEvent;
use tern_protocol::{frames::Slot, refusal::RefusalCode, report::v1::ErrorKind};
use tern_stats::{
    latency::Latency,
    profile::{Kind, Profile},
    window::{Sums, Window},
};

use crate::{
    client::{Client, digits_request},
    fixture::{Bench, Bundle, LIMITS, pixels},
};

/// A row as a client saw it.
struct Row {
    pixels: Vec<f32>,
    label: i64,
    confidence: f32,
}

/// The golden digit `i` at a brightness of its own.
fn image(i: usize) -> Vec<f32> {
    pixels(i % 16).iter().map(|p| p * (0.2 + (i % 9) as f32 / 10.0)).collect()
}

fn rows(images: &[Vec<f32>], outputs: &Value) -> Vec<Row> {
    let labels = outputs[0]["data"].as_array().unwrap();
    let sure: Vec<f32> = outputs[1]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap() as f32).collect();
    let one = |(i, pixels): (usize, &Vec<f32>)| Row {
        pixels: pixels.clone(),
        label: labels[i].as_i64().unwrap(),
        confidence: sure[i * 10..(i + 1) * 10].iter().copied().fold(0.0, f32::max),
    };
    images.iter().enumerate().map(one).collect()
}

fn by_json(client: &mut Client, images: &[Vec<f32>]) -> Vec<Row> {
    let reply = client.infer("meter-digits", &digits_request(&images.concat()));
    assert_eq!(reply.status, 200, "{reply:?}");
    rows(images, &reply.json()["outputs"])
}

fn by_bytes(client: &mut Client, images: &[Vec<f32>]) -> Vec<Row> {
    let raw: Vec<u8> = images.concat().iter().flat_map(|value| value.to_le_bytes()).collect();
    let parameters = json!({"binary_data_size": raw.len()});
    let input = json!({"name": "pixels", "shape": [images.len(), 8, 8], "datatype": "FP32", "parameters": parameters});
    let head = json!({"inputs": [input]}).to_string();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let reply = client.post("/v2/models/meter-digits/infer", &headers, &[head.as_bytes(), &raw].concat());
    assert_eq!(reply.status, 200, "{reply:?}");
    rows(images, &reply.json()["outputs"])
}

/// Mean, contrast and sharpness of 8 by 8 numbers, written out.
fn derived(pixels: &[f32]) -> [f64; 3] {
    let x: Vec<f64> = pixels.iter().map(|p| f64::from(*p)).collect();
    let mean = x.iter().sum::<f64>() / 64.0;
    let contrast = (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 64.0).sqrt();
    let neighbours = (0..64).flat_map(|at| {
        let right = (at % 8 < 7).then_some((at, at + 1));
        let below = (at < 56).then_some((at, at + 8));
        right.into_iter().chain(below)
    });
    let sharpness = neighbours.map(|(a, b): (usize, usize)| (x[a] - x[b]).abs()).sum::<f64>() / 112.0;
    [mean, contrast, sharpness]
}

/// Checks every count and sum that does not depend on the order of rows.
fn recount(window: &Window, profile: &Profile, rows: &[Row]) {
    let total = rows.len() as u64;
    assert_eq!(window.rows, total);
    for (at, (sums, feature)) in window.features.iter().zip(&profile.features).enumerate() {
        let (Sums::Numeric(sums), Kind::Numeric(ruler)) = (sums, &feature.kind) else { panic!("{feature:?}") };
        let mut cells = vec![0u64; ruler.edges.cells()];
        let (mut s1, mut s2, mut out) = (0.0, 0.0, 0);
        for row in rows {
            let x = derived(&row.pixels)[at];
            cells[ruler.edges.as_slice().iter().filter(|edge| **edge <= x).count()] += 1;
            let z = ((x - ruler.median) / ruler.sd).clamp(-8.0, 8.0);
            (s1, s2) = (s1 + z, s2 + z * z);
            let margin = (ruler.max - ruler.min) / 4.0;
            out += u64::from(x < ruler.min - margin || x > ruler.max + margin);
        }
        assert_eq!((&sums.cells, sums.n, sums.out), (&cells, total, out), "{}", feature.name);
        assert_eq!((sums.missing, sums.nan, sums.nd), (0, 0, total - 1), "neighbours go on over increments");
        assert!((sums.s1 - s1).abs() < 1e-6 && (sums.s2 - s2).abs() < 1e-6, "{} {s1}", sums.s1);
    }
    let ([Sums::Categorical(sums)], Kind::Categorical(names)) = (&window.outputs[..], &profile.outputs[0].kind) else {
        panic!("the label is a category")
    };
    for (name, count) in names.names().iter().zip(&sums.counts) {
        assert_eq!(rows.iter().filter(|row| row.label.to_string() == *name).count() as u64, *count, "{name}");
    }
    assert_eq!(sums.rows(), total);
    let edges = profile.confidence.as_ref().unwrap().edges.as_slice();
    let mut bins = vec![0u64; edges.len() + 1];
    rows.iter().for_each(|row| bins[edges.iter().filter(|edge| **edge <= f64::from(row.confidence)).count()] += 1);
    assert_eq!(window.confidence, bins);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_those_of_a_plain_recount() {
    let bundle = Bundle::watched("1.0.0");
    let profile: Profile = serde_json::from_slice(&bundle.reference).unwrap();
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let clients: Vec<_> = (0..4usize)
        .map(|number| {
            let socket = bench.socket.clone();
            std::thread::spawn(move || {
                let mut client = Client::unix(&socket);
                let mut seen = Vec::new();
                for round in 0..12 {
                    let first = number * 31 + round * 7;
                    let images: Vec<_> = (first..=first + round % 5).map(image).collect();
                    let ask = if round % 2 == 0 { by_json } else { by_bytes };
                    seen.extend(ask(&mut client, &images));
                    // Refused requests are no rows.
                    let mut wrong = image(first);
                    wrong[3] = 99.0;
                    assert_eq!(client.infer("meter-digits", &digits_request(&wrong)).status, 400);
                }
                seen
            })
        })
        .collect();
    let seen: Vec<Row> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let total = seen.len() as u64;
    let is_all = |sum: &tern_protocol::frames::Increment| {
        sum.rows >= total && sum.errors.iter().map(|error| error.count).sum::<u64>() >= 48
    };
    let counted = bench.increments(is_all).await;
    assert_eq!((counted.inferences, counted.rows), (48, total));
    assert!(counted.errors.iter().all(|error| error.kind == ErrorKind::Contract));
    assert_eq!(Latency::from_bytes(&counted.latency).unwrap().count(), 48);
    recount(&counted.sums, &profile, &seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_profile_rows_are_counted_and_nothing_else() {
    let mut bench = Bench::start(LIMITS, &[&Bundle::digits("1.0.0")]).await;
    by_json(&mut Client::unix(&bench.socket), &[image(0), image(1)]);
    let counted = bench.increments(|sum| sum.rows >= 2).await;
    assert_eq!(counted.sums, Window { rows: 2, ..Window::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_the_last_and_a_kill_loses_what_was_not_told() {
    let bundle = Bundle::watched("1.0.0");
    // So seldom that only a drain tells anything.
    let limits = tern_protocol::frames::Limits { increment_ms: 3_600_000, ..LIMITS };
    let mut bench = Bench::start(limits, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    by_json(&mut client, &[image(0), image(1)]);
    bench.worker().load(Slot(2), bundle.opened()).await.unwrap();
    bench.worker().swap(Slot(2)).await.unwrap();
    by_json(&mut client, &[image(2)]);
    bench.worker().drain(Slot(1)).await.unwrap();
    let told = bench.increments(|sum| sum.rows >= 2).await;
    assert_eq!((told.slot, told.number, told.rows), (Slot(1), 1, 2));

    // The row of slot 2 is in the increment that is open: that one, and no other, dies with the worker.
    let pid = Pid::from_raw(bench.worker().pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    match bench.started.events.recv().await {
        Some(WorkerEvent::Died { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_at_most_the_open_increment() {
    let bundle = Bundle::watched("1.0.0");
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let mut client = Client::unix(&bench.socket);
    (0..20).for_each(|i| drop(by_json(&mut client, &[image(i)])));
    let told = bench.increments(|sum| sum.rows >= 20).await.rows;
    (0..5).for_each(|i| drop(by_json(&mut client, &[image(i)])));
    let pid = Pid::from_raw(bench.worker().pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let mut rest = 0;
    while let Some(WorkerEvent::Increment(increment)) = bench.started.events.recv().await {
        rest += increment.rows;
    }
    assert_eq!(told, 20);
    assert!(rest <= 5, "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_fit_is_refused_by_the_worker_too() {
    let bench = Bench::start(LIMITS, &[&Bundle::watched("1.0.0")]).await;
    let mut odd = Bundle::watched("1.0.0");
    let mut profile: Profile = serde_json::from_slice(&odd.reference).unwrap();
    profile.outputs[0].name.push('x');
    odd.set_reference(&profile);
    let mut cut = Bundle::watched("1.0.0");
    cut.reference.pop();
    for (slot, bundle, code) in [(2, odd, RefusalCode::ContractMismatch), (3, cut, RefusalCode::BlobLength)] {
        let outcome = bench.worker().load(Slot(slot), bundle.opened()).await;
        assert_eq!(outcome.unwrap_err().code(), code);
    }
}
