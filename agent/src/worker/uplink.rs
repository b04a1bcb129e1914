//! Frames to control, written by a thread of their own so that nothing here waits for control.
//!
//! The queue is bounded. Full means that control has not read for long: increments wait in their ledgers, other frames
//! are dropped and control's own time limits notice.

use std::{
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use tern_protocol::frames::{FromWorker, Increment};

use crate::channel::Channel;

const FRAMES: usize = 256;
const SEND_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Uplink(SyncSender<FromWorker>);

impl Uplink {
    /// The uplink and the thread that writes; the thread ends when every clone is gone or control is.
    pub(super) fn start(mut channel: Channel) -> std::io::Result<(Self, JoinHandle<()>)> {
        channel.limit_sends(SEND_LIMIT)?;
        let (sender, frames) = sync_channel::<FromWorker>(FRAMES);
        let write = move || {
            while let Ok(frame) = frames.recv() {
                if let Err(error) = channel.send(&frame, &[]) {
                    tracing::warn!(%error, "control does not take frames any more");
                    return;
                }
            }
        };
        Ok((Self(sender), std::thread::Builder::new().name("uplink".into()).spawn(write)?))
    }

    /// Queues a frame; false where there is no room.
    pub(super) fn offer(&self, frame: FromWorker) -> bool {
        self.0.try_send(frame).is_ok()
    }

    /// Queues an increment, or gives it back where there is no room.
    pub(super) fn offer_increment(&self, increment: Box<Increment>) -> Result<(), Box<Increment>> {
        match self.0.try_send(FromWorker::Increment(increment)) {
            Err(
                TrySendError::Full(FromWorker::Increment(back))
                | TrySendError::Disconnected(FromWorker::Increment(back)),
            ) => Err(back),
            _ => Ok(()),
        }
    }
}
