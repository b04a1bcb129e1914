//! The worker: serves models to local programs over the Open Inference Protocol v2.
//!
//! It holds no keys, opens no file and makes no connection: listeners and model files come as descriptors beside frames
//! from control, and the sandbox takes everything else away before the first foreign byte is read. It stops when control
//! says so or is gone, after the requests that it holds have been answered.
//!
//! Threads: the main one runs the network and the orders of control, one reads control's frames, one writes frames, one
//! closes increments, one loads models, the rest run them. An answer goes out before anything is counted.

mod answer;
mod counters;
mod failure;
mod feedback;
mod head;
mod http;
mod ids;
mod infer;
mod label;
mod ledger;
mod loader;
mod orders;
mod pages;
mod predictions;
mod queue;
mod reply;
mod reporter;
mod routes;
mod rules;
mod service;
mod slots;
mod uplink;
mod values;

use std::{process::ExitCode, sync::Arc, thread, time::Duration};

use anyhow::Context;
use tern_engine::sandbox::{self, Confinement};
use tern_protocol::frames::{FromWorker, Limits, ToWorker};
use tokio::sync::mpsc;

use crate::{
    channel::{Channel, ChannelError, exactly},
    log,
};
use orders::Order;
use reporter::Reporter;
use service::Service;
use uplink::Uplink;

/// Orders of control that may wait; the reader waits when it is full, and control behind it.
const ORDERS: usize = 16;
/// Descriptors beside those of connections: stdio, channel, listeners, models while they load, the runtime's own.
const SPARE_DESCRIPTORS: u64 = 64;

/// The process: serves until told to stop.
pub fn main() -> ExitCode {
    log::to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("worker stops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut channel = Channel::from_stdin().context("stdin")?;
    let limits = match channel.receive().context("the first frame; this command is started by `tern-agent run`")? {
        (ToWorker::Configure(limits), none) => exactly::<0>(none).map(|_| limits)?,
        _ => anyhow::bail!("the first frame is not the configuration"),
    };
    // Before the sandbox, which allows no new descriptors for it; it starts no thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    let descriptors = u64::from(limits.connections) + SPARE_DESCRIPTORS;
    let lacking = sandbox::enter(&Confinement { descriptors, memory_bytes: None, cpu_seconds: None });
    let (uplink, writer) = Uplink::start(channel.try_clone()?).context("frames to control")?;
    uplink.offer(FromWorker::Ready { lacking });
    serve(&runtime, channel, limits, uplink)?;
    // With the runtime go the tasks that still hold the uplink: the writer ends only when nobody does.
    drop(runtime);
    // Ends when the last frame is written or control no longer reads.
    let _ = writer.join();
    Ok(())
}

fn serve(runtime: &tokio::runtime::Runtime, channel: Channel, limits: Limits, uplink: Uplink) -> anyhow::Result<()> {
    let service = Arc::new(Service::new(limits, uplink));
    let (orders, queue) = mpsc::channel(ORDERS);
    thread::Builder::new()
        .name("orders".into())
        .spawn(move || read_orders(channel, &orders))
        .context("order thread")?;
    let mut threads = Vec::new();
    for number in 0..limits.threads.clamp(1, 256) as usize {
        let service = Arc::clone(&service);
        let work = move || {
            service.queue.work(number, |nonce| {
                service.uplink.offer(FromWorker::Heartbeat { nonce });
            });
        };
        threads.push(thread::Builder::new().name(format!("model-{number}")).spawn(work).context("model thread")?);
    }
    let reporter = Reporter::start(Arc::clone(&service)).context("reporter thread")?;
    runtime.block_on(orders::follow(Arc::clone(&service), queue))?;
    service.queue.close();
    let grace = Duration::from_millis(limits.deadline_ms) + Duration::from_secs(1);
    runtime.block_on(async {
        // A thread that is stuck in a model is left behind: the process ends with its main thread.
        let all_done = async {
            while threads.iter().any(|thread| !thread.is_finished()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(grace, all_done).await;
    });
    reporter.finish();
    if threads.iter().any(|thread| !thread.is_finished()) {
        anyhow::bail!("a model did not end in time");
    }
    Ok(())
}

fn read_orders(mut channel: Channel, orders: &mpsc::Sender<Order>) {
    loop {
        let order = match channel.receive() {
            Ok((frame, descriptors)) => Order::new(frame, descriptors),
            Err(ChannelError::Closed) => return,
            Err(error) => Err(error),
        };
        match order {
            Ok(order) => {
                if orders.blocking_send(order).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "control sends what cannot be read");
                return;
            }
        }
    }
}
