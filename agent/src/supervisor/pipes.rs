//! The two threads between the blocking channel and the task that owns the worker.

use std::{io, os::fd::OwnedFd, thread, time::Duration};

use tern_protocol::frames::FromWorker;
use tokio::sync::mpsc;

use crate::channel::{Channel, ChannelError};

/// Frames of the worker that may wait; the reader waits when it is full, and the worker behind it.
const INCOMING: usize = 64;
/// Orders that may wait to be written; one more means that the worker does not read.
const OUTGOING: usize = 64;
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// An encoded frame and its descriptors.
pub(super) struct Outgoing {
    pub(super) frame: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

pub(super) struct Pipes {
    pub(super) incoming: mpsc::Receiver<Result<FromWorker, ChannelError>>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    channel: Channel,
}

impl Pipes {
    pub(super) fn start(channel: Channel) -> io::Result<Self> {
        let (frames, incoming) = mpsc::channel(INCOMING);
        let (outgoing, orders) = mpsc::channel(OUTGOING);
        let (reader, writer) = (channel.try_clone()?, channel.try_clone()?);
        writer.limit_sends(SEND_LIMIT)?;
        thread::Builder::new().name("worker-frames".into()).spawn(move || read(reader, &frames))?;
        thread::Builder::new().name("worker-orders".into()).spawn(move || write(writer, orders))?;
        Ok(Self { incoming, outgoing, channel })
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.channel.close();
    }
}

fn read(mut channel: Channel, frames: &mpsc::Sender<Result<FromWorker, ChannelError>>) {
    loop {
        // Descriptors from the worker are closed unseen: it has none to give.
        let frame = channel.receive().map(|(frame, _closed)| frame);
        let is_last = frame.is_err();
        if frames.blocking_send(frame).is_err() || is_last {
            return;
        }
    }
}

fn write(mut channel: Channel, mut orders: mpsc::Receiver<Outgoing>) {
    use std::os::fd::AsFd;
    while let Some(Outgoing { frame, descriptors }) = orders.blocking_recv() {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        if channel.send_bytes(&frame, &borrowed).is_err() {
            // The reader sees the same and says so.
            channel.close();
            return;
        }
    }
}
