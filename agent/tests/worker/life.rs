//! Swaps under load, deaths, restarts, stops.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tern_agent::{
    bundle::Opened,
    supervisor::{Restore, Timing, WorkerError, WorkerEvent},
};
use tern_protocol::{
    frames::{Limits, Slot},
    refusal::RefusalCode,
};

use crate::{
    client::{Client, digits_request, slow_request},
    fixture::{Bench, Bundle, LIMITS, label, pixels, put},
};

async fn death(bench: &mut Bench) -> String {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), bench.started.events.recv()).await;
        match event.expect("an event in time") {
            Some(WorkerEvent::Died { cause }) => return cause,
            Some(WorkerEvent::Increment(_)) => {}
            None => panic!("no word of its death"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_swap_under_load_without_a_failed_request() {
    let (old, new) = (Bundle::digits("1.0.0"), Bundle::digits("1.0.1"));
    let mut bench = Bench::start(LIMITS, &[&old]).await;
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (done, socket) = (Arc::clone(&done), bench.socket.clone());
            std::thread::spawn(move || {
                let mut client = Client::unix(&socket);
                let (body, mut versions, mut sent) = (digits_request(&pixels(number)), BTreeSet::new(), 0u64);
                while !done.load(Ordering::Relaxed) {
                    let reply = client.infer("meter-digits", &body);
                    assert_eq!(reply.status, 200, "{reply:?}");
                    versions.insert(reply.json()["model_version"].as_str().unwrap().to_owned());
                    sent += 1;
                }
                (versions, sent)
            })
        })
        .collect();
    for slot in 2..22 {
        let next = if slot % 2 == 0 { &new } else { &old };
        let Restore { slot, version } = next.restore(slot);
        bench.worker().load(slot, version).await.unwrap();
        bench.worker().swap(slot).await.unwrap();
        bench.worker().drain(Slot(slot.0 - 1)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for client in clients {
        let (versions, count) = client.join().unwrap();
        assert_eq!(versions.len(), 2, "{versions:?}");
        sent += count;
    }
    bench.worker().stop().await;
    let mut counted = 0;
    while let Some(WorkerEvent::Increment(increment)) = bench.started.events.recv().await {
        counted += increment.inferences;
    }
    assert_eq!(counted, sent, "every answer is counted once, over swaps and the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_replaced_and_a_queued_connection_is_served() {
    let bundle = Bundle::digits("1.0.0");
    let mut bench = Bench::start(LIMITS, &[&bundle]).await;
    let pid = Pid::from_raw(bench.worker().pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(death(&mut bench).await, "ended with signal 9");
    assert!(matches!(bench.worker().swap(Slot(1)).await, Err(WorkerError::Gone)));

    let mut queued = Client::unix(&bench.socket);
    let body = digits_request(&pixels(2)).to_string();
    queued.start("/v2/models/meter-digits/infer", "", body.as_bytes());
    bench.started = bench.supervisor.start(vec![bundle.restore(1)]).await.unwrap();
    let reply = queued.reply().unwrap();
    assert_eq!((reply.status, &reply.json()["outputs"][0]["data"][0]), (200, &label(2).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_holds_its_thread_is_noticed_and_the_worker_killed() {
    let slow = Bundle::slow(512, 1000);
    let timing =
        Timing { heartbeat: Duration::from_millis(50), silence: Duration::from_millis(400), ..Timing::default() };
    // Warming runs the model, but not on the inference thread.
    let limits = Limits { threads: 1, ..LIMITS };
    let mut bench = Bench::start_timed(limits, timing, &[&slow]).await;
    let mut client = Client::unix(&bench.socket);
    client.start("/v2/models/slow/infer", "", slow_request().to_string().as_bytes());
    let cause = death(&mut bench).await;
    assert!(cause.starts_with("it gave no sign of life") && cause.ends_with("signal 9"), "{cause}");
    assert!(client.reply().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_the_running_request_end() {
    let slow = Bundle::slow(384, 150);
    let mut bench = Bench::start(Limits { threads: 1, ..LIMITS }, &[&slow]).await;
    let mut clients = [Client::unix(&bench.socket), Client::unix(&bench.socket)];
    let body = slow_request().to_string();
    clients.iter_mut().for_each(|client| client.start("/v2/models/slow/infer", "", body.as_bytes()));
    // One waits: so the other is running.
    let mut watcher = Client::unix(&bench.socket);
    watcher.await_figure("tern_queue_length 1");
    bench.worker().stop().await;
    clients.iter_mut().for_each(|client| assert_eq!(client.reply().unwrap().status, 200));
    let last = std::iter::from_fn(|| bench.started.events.try_recv().ok()).last();
    assert!(!matches!(last, Some(WorkerEvent::Died { .. })), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_cannot_serve_are_refused_and_the_rest_goes_on() {
    let good = Bundle::digits("1.0.0");
    let bench = Bench::start(LIMITS, &[&good]).await;
    let worker = bench.worker();
    let refusal = |outcome: Result<Duration, WorkerError>| match outcome {
        Err(WorkerError::Refused(refused)) => refused.code,
        other => panic!("{other:?}"),
    };
    let with = |manifest, model| Opened { manifest, reference: Vec::new(), model };
    let other_file = Bundle::digits("1.0.1").open("model.onnx");
    assert_eq!(refusal(worker.load(Slot(2), with(good.bytes(), other_file)).await), RefusalCode::BlobDigest);
    let scratch = tempfile::tempdir().unwrap();
    put(&scratch.path().join("short"), b"too short");
    let short = std::fs::File::open(scratch.path().join("short")).unwrap();
    assert_eq!(refusal(worker.load(Slot(3), with(good.bytes(), short)).await), RefusalCode::BlobLength);
    let garbage = worker.load(Slot(4), with(b"{}".to_vec(), good.open("model.onnx"))).await;
    assert_eq!(refusal(garbage), RefusalCode::Manifest);
    let mut wrong = Bundle::digits("1.0.0");
    wrong.manifest["contract"]["inputs"][0]["shape"][1] = 63.into();
    let mismatch = worker.load(Slot(5), wrong.opened()).await;
    assert_eq!(refusal(mismatch), RefusalCode::ContractMismatch);
    let absent = worker.swap(Slot(99)).await.map(|()| Duration::ZERO);
    assert_eq!(refusal(absent), RefusalCode::SwapFailed);
    worker.drain(Slot(99)).await.unwrap();
    assert_eq!(Client::tcp(bench.tcp).infer("meter-digits", &digits_request(&pixels(0))).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_control_is_gone_leaves() {
    let bench = Bench::start(LIMITS, &[&Bundle::digits("1.0.0")]).await;
    let pid = bench.worker().pid();
    let Bench { started, supervisor, .. } = bench;
    drop((started, supervisor));
    let deadline = tern_agent::clock::Moment::now().after(Duration::from_secs(20));
    while std::path::Path::new(&format!("/proc/{pid}/stat")).exists() {
        assert!(!deadline.remaining().is_zero(), "worker {pid} is still there");
        tokio::task::yield_now().await;
    }
}
