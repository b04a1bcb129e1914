//! Frames between the agent's processes: a worker that a model has taken over writes what it likes.

use std::{io::Write, os::unix::net::UnixStream};

use serde::{Serialize, de::DeserializeOwned};
use tern_agent::{channel::Channel, clock::Moment};
use tern_protocol::{
    frames::{
        self, FromWorker, HEADER_BYTES, Increment, LateLabels, Limits, ListenerKind, MAX_BYTES, ProbeCase, ProbeFacts,
        ProbeRequest, ProbeResult, Slot, ToWorker,
    },
    manifest::Tolerance,
    refusal::RefusalCode,
    report::v1::{ErrorCount, ErrorKind, Violations},
};
use tern_stats::{
    categorical::Categorical,
    labels::Labels,
    latency::Latency,
    numeric::Numeric,
    window::{Sums, Window},
};

use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("frame-to-worker", Form::Binary, Pace::Slow, || Box::new(Frames::<ToWorker>(to_worker))),
        Kind::new("frame-from-worker", Form::Binary, Pace::Slow, || Box::new(Frames::<FromWorker>(from_worker))),
        Kind::new("frame-to-probe", Form::Binary, Pace::Slow, || Box::new(Frames::<ProbeRequest>(to_probe))),
        Kind::new("frame-from-probe", Form::Binary, Pace::Slow, || Box::new(Frames::<ProbeResult>(from_probe))),
    ]
}

struct Frames<T>(fn() -> Vec<T>);

impl<T: Serialize + DeserializeOwned + std::fmt::Debug> Target for Frames<T> {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let frame = |(number, message)| (format!("{number}.frame"), frames::encode(&message).expect("it fits"));
        (self.0)().into_iter().enumerate().map(frame).collect()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let direct = whole(input).and_then(|body| frames::decode_body::<T>(body).ok());
        // Through a socket, as it comes.
        let (mut ours, theirs) = Channel::pair().expect("a pair of sockets");
        send(theirs, input);
        let received = ours.receive_by::<T>(Some(Moment::now().after(std::time::Duration::from_secs(5))));
        let told = received.ok().map(|(message, descriptors)| {
            assert!(descriptors.is_empty());
            format!("{message:?}")
        });
        if let Some(message) = &direct {
            assert_eq!(told, Some(format!("{message:?}")), "the channel reads what the frame holds");
            let again = frames::encode(message).expect("what was read can be written");
            let again: T = frames::decode_body(&again[HEADER_BYTES..]).expect("and be read again");
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
        Verdict::of(direct.is_some())
    }
}

/// The body of the first frame, where all of it is there.
fn whole(input: &[u8]) -> Option<&[u8]> {
    let header = input.first_chunk::<HEADER_BYTES>()?;
    let length = frames::body_length(*header).ok()?;
    assert!(length < MAX_BYTES);
    input.get(HEADER_BYTES..HEADER_BYTES + length)
}

/// Writes what fits and closes; who reads sees the end.
fn send(mut stream: UnixStream, input: &[u8]) {
    stream.set_nonblocking(true).expect("a socket");
    // The kernel holds some 200 kB; what is longer comes cut short.
    let _ = stream.write(input);
}

fn to_worker() -> Vec<ToWorker> {
    let limits = Limits { threads: 1, queue: 2, connections: 3, request_bytes: 4, deadline_ms: 5, increment_ms: 6 };
    vec![
        ToWorker::Configure(limits),
        ToWorker::Listen(ListenerKind::Tcp),
        ToWorker::Load { slot: Slot(300), manifest: vec![7; 40], reference: vec![] },
        ToWorker::Swap { slot: Slot(1) },
        ToWorker::Heartbeat { nonce: u64::MAX },
        ToWorker::Stop,
    ]
}

fn from_worker() -> Vec<FromWorker> {
    let numeric = Numeric { cells: vec![4, 0, 2], n: 6, s1: 0.5, s2: 2.25, ..Numeric::default() };
    let mut names = Categorical { counts: vec![3, 2], other: 9, ..Categorical::default() };
    (0..9).for_each(|i| names.unseen.insert(&format!("name {i}")));
    let mut latency = Latency::default();
    (0..300).for_each(|i| latency.record(i as f32));
    let sums = Window {
        rows: 6,
        features: vec![Sums::Numeric(numeric), Sums::Categorical(names)],
        outputs: vec![],
        confidence: vec![1, 5],
        labels: vec![Labels { n: 2, errors: 1 }],
    };
    let increment = Increment {
        slot: Slot(1),
        number: 9,
        inferences: 2,
        rows: 6,
        errors: vec![ErrorCount { kind: ErrorKind::Contract, count: 3 }],
        violations: Violations::default(),
        latency_sum_us: 4,
        latency_max_us: 5,
        latency: latency.to_bytes(),
        sums,
        labels: vec![LateLabels { increment: 8, bin: 1, n: 2, errors: 1 }],
    };
    vec![
        FromWorker::Ready { lacking: vec!["landlock".into()] },
        FromWorker::LoadFailed { slot: Slot(2), code: RefusalCode::GoldenMismatch, message: "x".into() },
        FromWorker::Swapped { slot: Slot(1) },
        FromWorker::Heartbeat { nonce: 7 },
        FromWorker::Increment(Box::new(increment)),
    ]
}

fn to_probe() -> Vec<ProbeRequest> {
    vec![ProbeRequest {
        manifest: vec![1; 30],
        reference: vec![2; 20],
        cases: vec![ProbeCase { inputs: vec![100, 200], outputs: vec![300] }],
        tolerance: Tolerance { absolute: 1e-5, relative: 1e-3 },
        repetitions: 10,
        memory_bytes: 1 << 28,
        cpu_seconds: 60,
    }]
}

fn from_probe() -> Vec<ProbeResult> {
    let facts = ProbeFacts {
        cases: 16,
        max_absolute: 1e-7,
        load_us: 1000,
        latency_us: (10, 20),
        peak_rss_bytes: 1 << 20,
        agent_version: "0.1.0".parse().expect("a version"),
        lacking: vec![],
    };
    let failed = ProbeResult::Failed { code: RefusalCode::GoldenMismatch, message: "x".into() };
    vec![ProbeResult::Passed(facts), failed]
}
