//! The thread that tells control what happened, once a period: neither the network nor a model waits for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::service::Service;
use crate::clock::Moment;

/// Pause before what control had no room for is offered again, at the end.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the last increments are offered; control that has not read for so long is gone.
const LAST: Duration = Duration::from_secs(5);

pub(super) struct Reporter {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Reporter {
    pub(super) fn start(service: Arc<Service>) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let period = Duration::from_millis(service.limits.increment_ms.max(10));
        let report = move || {
            // Without this thread nothing would be counted any more, and nobody would see it: what a ledger leaves
            // half-closed is one increment.
            catch_unwind(AssertUnwindSafe(|| service.report())).unwrap_or_else(|_| {
                tracing::error!("telling control what was counted panicked; please report it");
                false
            })
        };
        let work = move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                report();
            }
            let end = Moment::now().after(LAST);
            while !report() && !end.remaining().is_zero() {
                std::thread::sleep(PAUSE);
            }
        };
        Ok(Self { stop, thread: std::thread::Builder::new().name("reporter".into()).spawn(work)? })
    }

    /// Tells the rest and ends. Nothing may be counted any more.
    pub(super) fn finish(self) {
        drop(self.stop);
        // A panic in there was printed; there is nobody left to tell.
        let _ = self.thread.join();
    }
}
