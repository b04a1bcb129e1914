//! What control orders, carried out: listen, load, swap, drain, keep silent, prove life, stop.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use anyhow::Context;
use tern_protocol::{
    frames::{FromWorker, ListenerKind, Slot, ToWorker},
    refusal::RefusalCode,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    http::{self, Listener},
    loader::{Load, Loader},
    service::Service,
};
use crate::{
    channel::{ChannelError, exactly},
    clock::Moment,
};

/// A version whose requests do not end for longer than this beyond their deadline is dropped from the table anyway.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// Pause before a last increment that control had no room for is offered again.
const AGAIN: Duration = Duration::from_millis(10);

/// A frame with the descriptors that belong to it.
pub(super) enum Order {
    Listen(ListenerKind, OwnedFd),
    Load(Load),
    Swap(Slot),
    Drain(Slot),
    Heartbeat(u64),
    Silent(Vec<(String, String)>),
    Stop,
    /// A configuration that comes twice.
    Nothing,
}

impl Order {
    pub(super) fn new(frame: ToWorker, descriptors: Vec<OwnedFd>) -> Result<Self, ChannelError> {
        let one = |descriptors| exactly::<1>(descriptors).map(|[descriptor]| descriptor);
        Ok(match frame {
            ToWorker::Listen(kind) => Self::Listen(kind, one(descriptors)?),
            ToWorker::Load { slot, manifest, reference } => {
                Self::Load(Load { slot, manifest, reference, model: one(descriptors)?.into() })
            }
            other => {
                let [] = exactly(descriptors)?;
                match other {
                    ToWorker::Swap { slot } => Self::Swap(slot),
                    ToWorker::Drain { slot } => Self::Drain(slot),
                    ToWorker::Heartbeat { nonce } => Self::Heartbeat(nonce),
                    ToWorker::Silent(models) => Self::Silent(models),
                    ToWorker::Stop => Self::Stop,
                    _ => Self::Nothing,
                }
            }
        })
    }
}

/// Follows orders until told to stop or until control is gone; then lets the running requests end.
pub(super) async fn follow(service: Arc<Service>, mut orders: mpsc::Receiver<Order>) -> anyhow::Result<()> {
    let loader = Loader::start(Arc::clone(&service)).context("loader thread")?;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Stop => break,
            order => carry_out(&service, &loader, order),
        }
    }
    service.stopping.send_replace(true);
    // Every connection gives its permit back at its end.
    let all = service.limits.connections.clamp(1, 65_536);
    let grace = Duration::from_millis(service.limits.deadline_ms) + DRAIN_GRACE;
    let _ = timeout(grace, service.connections.acquire_many(all)).await;
    Ok(())
}

fn carry_out(service: &Arc<Service>, loader: &Loader, order: Order) {
    match order {
        Order::Listen(kind, descriptor) => match listener(kind, descriptor) {
            Ok(listener) => drop(tokio::spawn(http::serve(Arc::clone(service), listener))),
            Err(error) => tracing::error!(?kind, %error, "cannot listen"),
        },
        Order::Load(load) => loader.load(load),
        Order::Swap(slot) if service.slots.activate(slot) => drop(service.uplink.offer(FromWorker::Swapped { slot })),
        Order::Swap(slot) => {
            let message = "the version is not loaded".to_owned();
            service.uplink.offer(FromWorker::LoadFailed { slot, code: RefusalCode::SwapFailed, message });
        }
        Order::Drain(slot) => drop(tokio::spawn(drain(Arc::clone(service), slot))),
        Order::Heartbeat(nonce) => service.queue.push_heartbeat(nonce),
        Order::Silent(models) => service.slots.silence(models),
        Order::Stop | Order::Nothing => {}
    }
}

async fn drain(service: Arc<Service>, slot: Slot) {
    if let Some(loaded) = service.slots.retire(slot) {
        let grace = Duration::from_millis(service.limits.deadline_ms) + DRAIN_GRACE;
        if timeout(grace, loaded.idle()).await.is_err() {
            tracing::warn!(slot = slot.0, "a request does not let go of a version that was drained");
        }
        let end = Moment::now().after(DRAIN_GRACE);
        while !loaded.report(&service.uplink) {
            if end.remaining().is_zero() {
                tracing::warn!(slot = slot.0, "control does not take the last increment of a version");
                break;
            }
            sleep(AGAIN).await;
        }
    }
    service.uplink.offer(FromWorker::Drained { slot });
}

fn listener(kind: ListenerKind, descriptor: OwnedFd) -> std::io::Result<Listener> {
    match kind {
        ListenerKind::Unix => {
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Listener::Unix)
        }
        ListenerKind::Tcp => {
            let listener = std::net::TcpListener::from(descriptor);
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Listener::Tcp)
        }
    }
}
