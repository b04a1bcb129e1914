//! Reports over real MQTT: what is counted, what is acknowledged, and which watermark follows, whatever goes wrong between.

use serde_json::json;
use tern_fleet_server::{
    config::Config,
    forms::{Assigned, DeviceRow, FiguresRow, Page, QuarantineRow, WindowRow},
};
use tern_protocol::{
    canonical,
    digest::Digest,
    ids::ByteCount,
    manifest::{File, FileRole, Manifest},
    report::{
        self, Codec,
        v1::{Clock, Correction, Feature, Feedback, Item, Numeric, Report, Row, Stream, System, Violations, Window},
    },
    watermark::Watermark,
};
use tern_stats::{
    categorical,
    cells::Edges,
    latency::Latency,
    numeric,
    profile::{Baseline, Bin, Confidence, Kind, Profile, Spec, fit},
    window,
};

use super::{
    MODEL, agent, assign,
    rig::{Enrolled, Mqtt, Rig, Uploads, bundle, eventually},
    twin,
};

const STREAM: Stream = Stream([7; 16]);

pub(super) fn contract(uploads: &Uploads) -> Digest {
    let manifest = Manifest::from_slice(&uploads.0).unwrap();
    Digest::of(&canonical::document(&manifest.contract).unwrap())
}

/// A window of ten rows of `demo/m@1.0.0` that watches nothing.
pub(super) fn window(number: u64) -> Window {
    let start_ms = 1_780_000_000_000 + i64::try_from(number).unwrap() * 1000;
    Window {
        number,
        model: "demo/m".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        contract: contract(&bundle(MODEL, b"weights")),
        boot: 1,
        start_ms,
        end_ms: start_ms + 1000,
        clock: Clock::Trusted,
        inferences: 10,
        rows: 10,
        errors: vec![],
        violations: Violations::default(),
        latency: vec![],
        features: vec![],
        outputs: vec![],
        confidence: vec![],
        feedback: vec![],
        system: System::default(),
    }
}

pub(super) fn report(items: impl IntoIterator<Item = (u64, Item)>) -> Vec<u8> {
    let rows = items.into_iter().map(|(sequence, item)| Row { sequence, item }).collect();
    report::encode(&Report { stream: STREAM, rows }, Codec::Zstd).unwrap()
}

fn windows(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
    report(sequences.into_iter().map(|sequence| (sequence, Item::Window(Box::new(window(sequence))))))
}

/// A fleet of one device and one version that it reports of.
async fn world() -> (Rig, Enrolled) {
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    (rig, device)
}

pub(super) async fn reporter(rig: &Rig, device: &Enrolled) -> Mqtt {
    let mut mqtt = rig.mqtt(device);
    mqtt.subscribed(device.topic("watermark")).await;
    mqtt
}

/// Sends a report; gives the watermark that follows, whose acknowledgement may come before or after it.
pub(super) async fn told(mqtt: &mut Mqtt, device: &Enrolled, payload: Vec<u8>) -> u64 {
    mqtt.client.publish(device.topic("report"), rumqttc::QoS::AtLeastOnce, false, payload).await.unwrap();
    let watermark: Watermark = serde_json::from_slice(&mqtt.message().await).unwrap();
    assert_eq!((watermark.stream, watermark.reads), (STREAM, report::NEWEST));
    watermark.sequence
}

async fn figures(rig: &Rig) -> Vec<FiguresRow> {
    rig.admin().get("/api/v1/figures?device=cam-1").await.ok::<Page<FiguresRow>>().items
}

async fn rows(rig: &Rig) -> u64 {
    figures(rig).await.iter().map(|figures| figures.rows).sum()
}

async fn kept(rig: &Rig) -> Vec<QuarantineRow> {
    rig.admin().get("/api/v1/quarantine").await.ok::<Page<QuarantineRow>>().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_count_once_and_the_watermark_follows_duplicates_and_disorder() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows(1..=3)).await, 3);
    assert_eq!(told(&mut mqtt, &device, windows(1..=5)).await, 5);
    assert_eq!(told(&mut mqtt, &device, windows([8])).await, 5, "a hole stays open");
    assert_eq!(told(&mut mqtt, &device, windows(6..=7)).await, 8);
    // A watermark that was lost is told again for rows that are known.
    assert_eq!(told(&mut mqtt, &device, windows(1..=2)).await, 8);
    assert_eq!(rows(&rig).await, 80);
    assert_eq!(rig.metric("tern_report_rows_total").await, 8);
    assert_eq!(rig.metric("tern_report_rows_again_total").await, 5);
    assert_eq!(rig.metric("tern_streams_begun_total").await, 1);
    assert_eq!(rig.metric("tern_watermarks_sent_total").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_before_the_connection_died_counts_once() {
    let (mut rig, device) = world().await;
    let mqtt = reporter(&rig, &device).await;
    mqtt.client.publish(device.topic("report"), rumqttc::QoS::AtLeastOnce, false, windows(1..=4)).await.unwrap();
    eventually(async || (rig.metric("tern_report_rows_total").await == 4).then_some(())).await;
    // Neither acknowledgement nor watermark is known to have come.
    drop(mqtt);
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows(1..=4)).await, 4);
    drop(mqtt);
    rig.restart().await;
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows(1..=5)).await, 5);
    assert_eq!((rows(&rig).await, rig.metric("tern_report_rows_total").await), (50, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_restored_from_a_backup_asks_again_for_what_it_lost() {
    let (mut rig, device) = world().await;
    let database = rig.folder.path().join("data/server.db");
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows(1..=3)).await, 3);
    drop(mqtt);
    rig.stop().await;
    std::fs::copy(&database, rig.folder.path().join("backup.db")).unwrap();
    rig.start_again(rig.config()).await;
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows(4..=6)).await, 6);
    drop(mqtt);
    rig.stop().await;
    std::fs::copy(rig.folder.path().join("backup.db"), &database).unwrap();
    rig.start_again(rig.config()).await;
    let mut mqtt = reporter(&rig, &device).await;
    assert_eq!(told(&mut mqtt, &device, windows([7])).await, 3, "lower than before, and the truth");
    assert_eq!(told(&mut mqtt, &device, windows(4..=7)).await, 7);
    assert_eq!(rows(&rig).await, 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_true_holds_nothing_back() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    let item = |number, edit: fn(&mut Window)| {
        let mut window = window(number);
        edit(&mut window);
        (number, Item::Window(Box::new(window)))
    };
    let items = [
        item(1, |_| {}),
        item(2, |w| w.version = "9.0.0".parse().unwrap()),
        item(3, |w| w.end_ms = i64::MAX),
        item(4, |w| w.end_ms = w.start_ms - 1),
        item(5, |w| w.latency = vec![1, 2, 3]),
        item(6, |w| {
            w.contract = Digest::of(b"another");
            w.features = vec![Feature::Numeric(Numeric::default())];
        }),
        item(7, |_| {}),
    ];
    assert_eq!(told(&mut mqtt, &device, report(items)).await, 7);
    assert_eq!(rows(&rig).await, 20);
    let codes: Vec<_> = kept(&rig).await.into_iter().map(|row| (row.sequence.unwrap(), row.code)).collect();
    let expected = [(2, "row-version"), (3, "row-time"), (4, "row-inconsistent"), (5, "row-sketch"), (6, "row-shape")];
    assert_eq!(codes, expected.map(|(sequence, code)| (sequence, code.to_owned())));
    assert_eq!(rig.metric("tern_quarantined_total{code=\"row-version\"}").await, 1);
    rig.event("report-quarantined", "row-version").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_speaks_of_what_was_ever_demanded_of_it_and_of_nothing_else() {
    const OLD: &str = "demo/m@0.9.0";
    let rig = Rig::start().await;
    rig.publish(MODEL, b"weights").await;
    rig.publish(OLD, b"weights").await;
    let device = rig.enrol("cam-1").await;
    assign(&rig, OLD, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;
    let of = |number, version: &str| {
        (number, Item::Window(Box::new(Window { version: version.parse().unwrap(), ..window(number) })))
    };
    assert_eq!(told(&mut mqtt, &device, report([of(1, "0.9.0"), of(2, "1.0.0")])).await, 2);
    assert_eq!((rows(&rig).await, kept(&rig).await[0].code.clone()), (10, "row-demand".into()));
    rig.event("report-quarantined", "row-demand").await;
    assert_eq!(rig.metric("tern_quarantined_total{code=\"row-demand\"}").await, 1);
    // Demanded, and given up again before the device says anything of it.
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    assign(&rig, OLD, "*").await.ok::<Assigned>();
    assert_eq!(told(&mut mqtt, &device, report([of(3, "1.0.0")])).await, 3);
    assert_eq!((rows(&rig).await, kept(&rig).await.len()), (20, 1));
}

/// A report of one event with a text of so many bytes: little to send, much to keep.
fn lengthy(sequence: u64, length: usize) -> Vec<u8> {
    let kind = report::v1::EventKind::WorkerRestarted { cause: "x".repeat(length) };
    report([(sequence, Item::Event(report::v1::Event { at_ms: 1, generation: Default::default(), kind }))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_held_told_of_once_and_taken_at_a_steady_rate() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    let withheld = "tern_ingest_refusals_total{code=\"report-rate\"}";
    for sequence in 1..=23 {
        assert_eq!(told(&mut mqtt, &device, lengthy(sequence, 4_190_000)).await, sequence);
    }
    assert_eq!(rig.metric(withheld).await, 0, "92 MiB at once pass");
    let mut sequence = 23;
    // Until one was held; its watermark follows all the same, on the same connection.
    while rig.metric(withheld).await == 0 {
        sequence += 1;
        assert!(sequence < 200, "96 MiB are the most");
        assert_eq!(told(&mut mqtt, &device, lengthy(sequence, 64 << 10)).await, sequence);
    }
    rig.event("report-refused", "report-rate").await;
    let events: serde_json::Value = rig.admin().get("/api/v1/events?limit=1000").await.ok();
    let events = events["items"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["code"] == "report-rate").count(), 1);
    assert!(!events.iter().any(|event| event["kind"] == "device-offline"), "it was never cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_cannot_be_read_is_kept_and_acknowledged_and_covers_nothing() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    for (payload, code) in [
        (vec![], "report-truncated"),
        (vec![1], "report-truncated"),
        (vec![1, 1, 7], "report-compression"),
        (vec![1, 0, 1], "report-malformed"),
        ([windows_plain(1).as_slice(), &[0]].concat(), "report-leftover"),
    ] {
        mqtt.acknowledged(device.topic("report"), false, payload).await;
        let name = format!("tern_quarantined_total{{code=\"{code}\"}}");
        assert!(rig.metric(&name).await > 0, "{code}");
        rig.event("report-quarantined", code).await;
    }
    // The same bytes again are one entry.
    mqtt.acknowledged(device.topic("report"), false, vec![1, 0, 1]).await;
    let kept = kept(&rig).await;
    assert_eq!((kept.len(), kept[3].times, kept[3].sequence), (5, 2, None));
    // The first watermark is of a report that could be read.
    assert_eq!(told(&mut mqtt, &device, windows([1])).await, 1);
}

fn windows_plain(sequence: u64) -> Vec<u8> {
    let row = Row { sequence, item: Item::Window(Box::new(window(sequence))) };
    report::encode(&Report { stream: STREAM, rows: vec![row] }, Codec::Plain).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_before_and_behind_one_that_cannot_be_read_count() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    let rows_of = |range: std::ops::RangeInclusive<u64>| {
        range.map(|sequence| Row { sequence, item: Item::Window(Box::new(window(sequence))) }).collect::<Vec<_>>()
    };
    let mut payload = report::encode(&Report { stream: STREAM, rows: rows_of(1..=3) }, Codec::Plain).unwrap();
    let tail = report::encode(&Report { stream: STREAM, rows: rows_of(2..=3) }, Codec::Plain).unwrap();
    // Header 2, stream 16, count 1: what follows are the rows. Behind its number of one byte stands the row's kind.
    let second = payload.len() - (tail.len() - 19);
    payload[second + 1] = 9;
    assert_eq!(told(&mut mqtt, &device, payload).await, 2);
    assert_eq!(told(&mut mqtt, &device, windows([3])).await, 3, "as a device sends again what is not covered");
    assert_eq!(rows(&rig).await, 20);
    assert_eq!(kept(&rig).await[0].code, "row-malformed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_kept_and_refused_and_so_is_a_row_far_ahead() {
    let (rig, device) = world().await;
    rig.mqtt(&device).refused(device.topic("report"), false, vec![9, 0, 1]).await;
    rig.event("report-refused", "report-format").await;
    assert_eq!(kept(&rig).await[0].code, "report-format");
    rig.mqtt(&device).refused(device.topic("report"), false, windows([1, 1 << 21])).await;
    rig.event("report-refused", "report-too-far").await;
    assert!(figures(&rig).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devices_own_events_become_the_fleets_once() {
    let (rig, device) = world().await;
    let mut mqtt = reporter(&rig, &device).await;
    let kind = report::v1::EventKind::WorkerRestarted { cause: "signal 9".into() };
    let event = Item::Event(report::v1::Event { at_ms: 1, generation: Default::default(), kind });
    for _ in 0..2 {
        assert_eq!(told(&mut mqtt, &device, report([(1, event.clone())])).await, 1);
    }
    assert_eq!(rig.event("worker-restarted", "").await, "signal 9");
    let page: serde_json::Value = rig.admin().get("/api/v1/events?limit=1000").await.ok();
    let restarts = page["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "worker-restarted");
    assert_eq!(restarts.count(), 1);
}

/// A version that watches the mean of its input and its label, with two bins of confidence.
pub(super) fn watching(profile: &[u8]) -> Uploads {
    let (bytes, mut files) = bundle(MODEL, b"weights");
    let mut manifest = Manifest::from_slice(&bytes).unwrap();
    let contract = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "derive": ["mean"]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "p", "datatype": "FP32", "shape": [-1]}
        ],
        "prediction": {"label": "label", "confidence": "p"}
    });
    manifest.contract = serde_json::from_value(contract).unwrap();
    let (sha256, length) = (Digest::of(profile), ByteCount(profile.len() as u64));
    manifest.files.push(File { path: "reference.json".into(), role: FileRole::Reference, sha256, length });
    files.push((sha256, profile.to_vec()));
    (manifest.to_bytes().unwrap(), files)
}

pub(super) fn profile() -> Profile {
    let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
    let number = Spec::numeric("mean(x)", &values).unwrap();
    let label = Spec::categorical("label", ["0", "1"]);
    let (Kind::Numeric(ruler), Kind::Categorical(dictionary)) = (&number.kind, &label.kind) else { panic!("kinds") };
    let mut numbers = numeric::Accumulator::new(ruler.clone());
    let mut labels = categorical::Accumulator::new(dictionary.clone());
    let one = |chunk: &[f64]| {
        chunk.iter().for_each(|x| numbers.update(Some(*x)));
        chunk.iter().for_each(|x| labels.update(Some(if *x > 50.0 { "1" } else { "0" })));
        let (features, outputs) =
            (vec![window::Sums::Numeric(numbers.take())], vec![window::Sums::Categorical(labels.take())]);
        window::Window { rows: 10, features, outputs, ..Default::default() }
    };
    let windows: Vec<_> = values.chunks(10).map(one).collect();
    let (numbers, labels) = ([number], [label]);
    let baseline = Baseline { outputs: &labels, ..Baseline::new(&numbers, &windows) };
    let mut profile = fit(&baseline).unwrap();
    let bins = vec![Bin { n: 999, errors: 499 }, Bin { n: 999, errors: 9 }];
    profile.confidence = Some(Confidence { edges: Edges::new(vec![0.8]).unwrap(), bins });
    profile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_and_windows_join_sums_with_the_versions_profile() {
    let rig = Rig::start().await;
    let profile = profile();
    let uploads = watching(&serde_json::to_vec(&profile).unwrap());
    let contract = contract(&uploads);
    rig.publish_bundle(MODEL, uploads).await.reply.empty();
    let device = rig.enrol("cam-1").await;
    assign(&rig, MODEL, "*").await.ok::<Assigned>();
    let mut mqtt = reporter(&rig, &device).await;
    let mut latency = Latency::default();
    (0..10).for_each(|_| latency.record(2_000.0));
    let mut cells = vec![0; profile.features[0].kind.cells()];
    cells[0] = 10;
    let counts = vec![0; profile.outputs[0].kind.cells()];
    let watched = Window {
        contract,
        latency: latency.to_bytes(),
        features: vec![Feature::Numeric(Numeric { cells, n: 10, s1: 5.0, ..Numeric::default() })],
        outputs: vec![Feature::Categorical(report::v1::Categorical { counts, other: 10, ..Default::default() })],
        confidence: vec![4, 6],
        feedback: vec![Feedback { n: 2, errors: 1 }, Feedback::default()],
        ..window(1)
    };
    let odd = Window { number: 2, confidence: vec![10], ..watched.clone() };
    let (model, version) = (watched.model.clone(), watched.version.clone());
    let late = Correction { model, version, window: 1, bin: 1, n: 2, errors: 0 };
    let items = [(1, Item::Window(Box::new(watched))), (2, Item::Window(Box::new(odd))), (3, Item::Correction(late))];
    assert_eq!(told(&mut mqtt, &device, report(items)).await, 3);
    assert_eq!(kept(&rig).await[0].code, "row-shape");

    let figures = figures(&rig).await.remove(0);
    assert_eq!((figures.rows, figures.labels, figures.label_errors, figures.windows), (10, 4, 1, 1));
    assert_eq!(figures.accuracy, Some(0.75));
    let estimated = figures.estimated.unwrap();
    assert!((estimated.accuracy - (1.0 - (0.4 * 0.4995 + 0.6 * 0.0095))).abs() < 1e-9 && estimated.rows == 10);
    assert_eq!((figures.p50_ms, figures.p95_ms), (Some(2.0), Some(2.0)));

    let path = "/api/v1/devices/cam-1/windows?model=demo/m";
    let page: Page<WindowRow> = rig.admin().get(path).await.ok();
    let row = &page.items[0];
    assert_eq!((page.items.len(), row.rows, row.labels, row.label_errors), (1, 10, 4, 1));
    let Kind::Numeric(ruler) = &profile.features[0].kind else { panic!("a number") };
    let mean = row.features[0].mean.unwrap();
    assert!((mean - (ruler.median + 0.5 * ruler.sd)).abs() < 1e-9, "{mean}");
    assert_eq!((row.features[1].name.as_str(), row.features[1].counts.last()), ("label", Some(&10)));
    let after: Page<WindowRow> = rig.admin().get(&format!("{path}&after={}", row.id)).await.ok();
    assert!(after.items.is_empty() && after.next.is_none());
    let refused = rig.admin().get("/api/v1/devices/cam-1/windows").await;
    assert_eq!(refused.problem(), (400, "bad-query".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_whose_reference_profile_does_not_fit_is_not_published() {
    let rig = Rig::start().await;
    let mut other = profile();
    other.features[0].name = "contrast(x)".into();
    let published = rig.publish_bundle(MODEL, watching(&serde_json::to_vec(&other).unwrap())).await;
    assert_eq!(published.reply.problem(), (422, "reference-unfit".into()));
    let good = rig.publish_bundle(MODEL, watching(&serde_json::to_vec(&profile()).unwrap())).await;
    good.reply.empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_settings_signs_states_anew_once() {
    let (mut rig, device) = world().await;
    let assigned: Assigned = assign(&rig, MODEL, "*").await.ok();
    let before = assigned.devices[&device.token.device];
    let generation =
        async |rig: &Rig| rig.admin().get("/api/v1/devices/cam-1").await.ok::<DeviceRow>().desired_generation;
    rig.restart().await;
    assert_eq!(generation(&rig).await, before, "nothing has changed");
    let faster = Config { report_interval_seconds: 1, window_seconds: 1, ..rig.config() };
    for _ in 0..2 {
        rig.stop().await;
        rig.start_again(faster.clone()).await;
    }
    let after = generation(&rig).await;
    assert!(after > before);
    let mut mqtt = agent(&rig, &device, before.0).await;
    let envelope: serde_json::Value = serde_json::from_slice(&mqtt.message().await).unwrap();
    let expected = json!({"report_interval_seconds": 1, "window_seconds": 1});
    assert_eq!(envelope["signed"]["settings"], expected);
    assert_eq!(envelope["signed"]["generation"], json!(after));
    mqtt.acknowledged(device.topic("twin"), true, twin(after.0, None)).await;
    let renewed: serde_json::Value = rig.admin().get("/api/v1/events?limit=1000").await.ok();
    let renewed = renewed["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "renewed").count();
    assert_eq!(renewed, 1);
}
