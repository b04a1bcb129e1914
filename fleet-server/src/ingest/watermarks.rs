//! Watermarks on their way to devices: the newest of each stream, sent after its commit, for rows new and known alike.
//!
//! A watermark that is lost costs nothing: the device sends its rows again and is told again. What is committed while one
//! is on its way replaces the one that waits. Bounded by the rows in flight: a stream waits only between commit and send.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use anyhow::Context;
use tern_protocol::{
    ids::DeviceId,
    report::v1::Stream,
    topics::{Channel, DeviceTopic},
    watermark::Watermark,
};
use tokio::sync::Notify;

use crate::{broker::Qos, fleet::Fleet};

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Watermarks {
    waiting: Mutex<HashMap<(DeviceId, Stream), Watermark>>,
    changed: Notify,
}

impl Watermarks {
    /// A commit of the stream is done. The newest counts, even where it is lower: a database that was restored knows less.
    pub fn moved(&self, device: &DeviceId, watermark: Watermark) {
        self.lock().insert((device.clone(), watermark.stream), watermark);
        self.changed.notify_one();
    }

    /// Sends what waits, for ever.
    pub async fn run(&self, fleet: &Arc<Fleet>) {
        loop {
            self.changed.notified().await;
            let due = std::mem::take(&mut *self.lock());
            for ((device, _), watermark) in due {
                if let Err(error) = send(fleet, &device, &watermark).await {
                    tracing::debug!(%device, error = format!("{error:#}"), "a watermark was not sent");
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(DeviceId, Stream), Watermark>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(fleet: &Fleet, device: &DeviceId, watermark: &Watermark) -> anyhow::Result<()> {
    if !fleet.is_connected(device) {
        return Ok(());
    }
    let channel = Channel::Watermark;
    let topic = DeviceTopic { fleet: fleet.settings.fleet.clone(), device: device.clone(), channel }.to_string();
    let payload = serde_json::to_vec(watermark).context("write a watermark")?;
    fleet.live()?.broker.publish_local(topic, payload, Qos::AtLeastOnce, false).await?;
    fleet.metrics.watermarks_sent.fetch_add(1, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_stream_waits() {
        let watermarks = Watermarks::default();
        let device: DeviceId = "cam-1".parse().unwrap();
        for (stream, sequence) in [(1, 5), (2, 9), (1, 7), (1, 6)] {
            watermarks.moved(&device, Watermark { stream: Stream([stream; 16]), sequence, reads: 1 });
        }
        let waiting = watermarks.lock();
        let of = |stream| waiting[&(device.clone(), Stream([stream; 16]))].sequence;
        assert_eq!((waiting.len(), of(1), of(2)), (2, 6, 9));
    }
}
