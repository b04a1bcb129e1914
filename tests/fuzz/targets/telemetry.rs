//! What a device says: reports, the sketches inside them, twin, status; and the watermark that it hears.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tern_protocol::{
    digest::Digest,
    ids::Generation,
    refusal::RefusalCode,
    report::{self, Body, Codec, v1::*},
    twin::{Status, Twin},
    watermark::Watermark,
};
use tern_stats::{latency::Latency, unseen::Unseen};

use super::NOW;
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("report", Form::Report, Pace::Slow, || Box::new(Reports)).within(256),
        Kind::new("latency-sketch", Form::Binary, Pace::Call, || Box::new(Latencies)),
        Kind::new("unseen-sketch", Form::Binary, Pace::Call, || Box::new(Unseens)),
        Kind::new("twin", Form::Json, Pace::Call, || Box::new(Spoken::<Twin>(twin(), |_, _| {}))),
        Kind::new("status", Form::Json, Pace::Call, || Box::new(Spoken::<Status>(status(), |_, _| {}))),
        Kind::new("watermark", Form::Json, Pace::Call, || Box::new(Spoken::<Watermark>(watermark(), |_, _| {}))),
    ]
}

/// A sketch of `count` latencies.
fn latencies(count: u32) -> Vec<u8> {
    let mut latency = Latency::default();
    (0..count).for_each(|i| latency.record((i * 7919 % 10_007) as f32));
    latency.to_bytes()
}

/// A sketch of `count` names.
fn unseen(count: u32) -> Vec<u8> {
    let mut unseen = Unseen::default();
    (0..count).for_each(|i| unseen.insert(&format!("name {i}")));
    unseen.to_bytes()
}

fn window(number: u64) -> Window {
    let numeric = Numeric {
        cells: vec![4, 0, 2],
        n: 6,
        missing: 1,
        nan: 1,
        out: 1,
        s1: 0.5,
        s2: 2.25,
        sd_sum: 1.5,
        nd: 5,
        flat: 2,
    };
    let names = Categorical { counts: vec![3, 2], other: 40, missing: 0, unseen: unseen(40) };
    Window {
        number,
        model: "demo/m".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        contract: Digest::of(b"contract"),
        boot: 3,
        start_ms: 1_780_000_000_000,
        end_ms: 1_780_000_060_000,
        clock: Clock::Trusted,
        inferences: 5,
        rows: 6,
        errors: vec![ErrorCount { kind: ErrorKind::Deadline, count: 1 }],
        violations: Violations { rejected: 1, clamped: 2, flagged: 3 },
        latency: latencies(1000),
        features: vec![Feature::Numeric(numeric), Feature::Categorical(names)],
        outputs: vec![],
        confidence: vec![1, 5],
        feedback: vec![Feedback { n: 2, errors: 1 }],
        system: System { cpu_ms: 1, rss_bytes: 2, disk_free_bytes: 3, written_bytes: 4, temperature: Some(36.5) },
    }
}

fn events() -> Vec<Item> {
    let (model, version) = (window(1).model, window(1).version);
    let kinds = [
        EventKind::Activated { model: model.clone(), version: version.clone(), previous: None },
        EventKind::TakenBack {
            model: model.clone(),
            version: version.clone(),
            to: None,
            code: RefusalCode::ProbationFailed,
        },
        EventKind::Refused {
            model: Some(model),
            version: None,
            code: RefusalCode::GoldenMismatch,
            message: "x".into(),
        },
        EventKind::WorkerRestarted { cause: "signal 9".into() },
        EventKind::NewStream { previous: Some(Stream([2; 16])) },
    ];
    kinds.into_iter().map(|kind| Item::Event(Event { at_ms: 1, generation: Generation(4), kind })).collect()
}

/// A report of these items.
pub(super) fn report_of(items: Vec<Item>, codec: Codec) -> Vec<u8> {
    let rows = items.into_iter().zip(1..).map(|(item, sequence)| Row { sequence, item }).collect();
    report::encode(&Report { stream: Stream([1; 16]), rows }, codec).expect("a report")
}

/// Reports that a server takes.
pub(super) fn reports() -> Vec<(String, Vec<u8>)> {
    let correction =
        Correction { model: window(1).model, version: window(1).version, window: 6, bin: 1, n: 3, errors: 1 };
    let windows = |count: u64| (0..count).map(|number| Item::Window(Box::new(window(number)))).collect::<Vec<_>>();
    let mixed = [windows(1), vec![Item::Correction(correction)], events()].concat();
    vec![
        ("window.report".into(), report_of(windows(1), Codec::Plain)),
        ("mixed.report".into(), report_of(mixed, Codec::Plain)),
        ("twenty.report".into(), report_of(windows(20), Codec::Zstd)),
        ("empty.report".into(), report_of(vec![], Codec::Zstd)),
    ]
}

struct Reports;

impl Target for Reports {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        reports()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let decoded = report::decode(input);
        // Row by row, as the server takes it. What is good as a whole is good in its parts.
        let mut rows = Vec::new();
        let opened = Body::of(input).and_then(|body| body.rows(|row| rows.push((row.sequence, row.item))));
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0) && rows.iter().all(|(sequence, _)| *sequence > 0));
        for (_, item) in &rows {
            if let Ok(Item::Window(window)) = item {
                use_window(window);
            }
        }
        let Ok(report) = decoded else { return Verdict::Refused };
        assert_eq!(opened, Ok(report.stream));
        let whole: Vec<_> = report.rows.iter().map(|row| (row.sequence, Ok(row.item.clone()))).collect();
        assert!(same(&rows, &whole), "rows by themselves are those of the whole");
        let again = report::encode(&report, Codec::Zstd).expect("a report that was read can be written");
        let again = report::decode(&again).expect("and be read again");
        assert!(same_rows(&again, &report));
        Verdict::Accepted
    }
}

/// Equal, where a NaN temperature is equal to itself.
fn same(a: &[(u64, Result<Item, report::ReportError>)], b: &[(u64, Result<Item, report::ReportError>)]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn same_rows(a: &Report, b: &Report) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// What the server and the detectors do with a window.
fn use_window(window: &Window) {
    if let Ok(latency) = window.latencies() {
        use_latency(&latency);
    }
    let Ok(mut sums) = window.sums() else { return };
    let twice = sums.clone();
    sums.merge(&twice).expect("of one shape");
    assert!(sums.rows >= twice.rows);
    sums.watched().for_each(|sums| {
        let _ = (sums.rows(), sums.absent());
    });
}

fn use_latency(latency: &Latency) {
    let quantiles: Vec<_> =
        [-1.0, 0.0, 0.5, 0.95, 1.0, 2.0].iter().filter_map(|rank| latency.quantile(*rank)).collect();
    assert!(quantiles.iter().all(|x| x.is_finite() && *x >= 0.0), "{quantiles:?}");
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    let mut both = latency.clone();
    both.merge(latency);
    assert!(both.count() >= latency.count());
    let over = Latency::quantile_over(&[latency.clone(), both], 0.95);
    assert!(over.is_none_or(f32::is_finite));
    let again = Latency::from_bytes(&latency.to_bytes()).expect("what was written can be read");
    assert_eq!(again.count(), latency.count());
}

struct Latencies;

impl Target for Latencies {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        [1, 2, 150, 1000, 20_000].map(|count| (format!("{count}.kll"), latencies(count))).into()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(latency) = Latency::from_bytes(input) else { return Verdict::Refused };
        use_latency(&latency);
        Verdict::Accepted
    }
}

struct Unseens;

impl Target for Unseens {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        [1, 7, 40, 5000].map(|count| (format!("{count}.hll"), unseen(count))).into()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(mut unseen) = Unseen::from_bytes(input) else { return Verdict::Refused };
        assert!(unseen.estimate().is_finite() && unseen.estimate() >= 0.0);
        let again = Unseen::from_bytes(&unseen.to_bytes()).expect("what was written can be read");
        unseen.merge(&again);
        unseen.insert("one more");
        assert!(unseen.estimate().is_finite());
        assert!(Unseen::from_bytes(&unseen.to_bytes()).is_ok());
        Verdict::Accepted
    }
}

/// JSON that is read into a type, and what else must hold of it.
pub(super) struct Spoken<T>(pub(super) Vec<(String, Vec<u8>)>, pub(super) fn(&T, &[u8]));

impl<T: Serialize + DeserializeOwned> Target for Spoken<T> {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        self.0.clone()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(read) = serde_json::from_slice::<T>(input) else { return Verdict::Refused };
        let written = serde_json::to_value(&read).expect("what was read can be written");
        let again: T = serde_json::from_value(written.clone()).expect("and be read again");
        assert_eq!(serde_json::to_value(&again).expect("it can be written"), written, "and means the same");
        (self.1)(&read, input);
        Verdict::Accepted
    }
}

/// Twins.
pub(super) fn twin() -> Vec<(String, Vec<u8>)> {
    let error =
        json!({"code": "golden-mismatch", "message": "x", "version": "1.0.1", "generation": 4, "at": NOW, "count": 2});
    let model = |state: &str| {
        json!({"model": "demo/m", "version": "1.0.0", "digest": Digest::of(b"m"), "state": state, "desired": "1.0.1",
            "generation": 4, "since": NOW, "last_error": error})
    };
    let twin = |models: serde_json::Value, error: serde_json::Value| {
        let twin = json!({"generation": 4, "models": models, "device_class": "pi", "labels": {"site": "hall-2"},
            "agent_version": "0.1.0", "last_error": error});
        let read: Twin = serde_json::from_value(twin).expect("a twin");
        serde_json::to_vec(&read).expect("a twin can be written")
    };
    let full = twin(json!([model("committed"), model("rolled-back")]), error.clone());
    vec![("empty.json".into(), twin(json!([]), json!(null))), ("full.json".into(), full)]
}

/// Statuses.
pub(super) fn status() -> Vec<(String, Vec<u8>)> {
    let status = |online: bool| {
        let status = json!({"online": online, "boot": "b00b", "agent_version": "0.1.0", "since": NOW});
        let read: Status = serde_json::from_value(status).expect("a status");
        serde_json::to_vec(&read).expect("a status can be written")
    };
    vec![("offline.json".into(), status(false)), ("online.json".into(), status(true))]
}

fn watermark() -> Vec<(String, Vec<u8>)> {
    let watermark = Watermark { stream: Stream([0xab; 16]), sequence: 7, reads: report::NEWEST };
    vec![("seven.json".into(), serde_json::to_vec(&watermark).expect("a watermark can be written"))]
}
