//! Which HTTPS connections are whose, so that a device that is put out loses those that it has, downloads and all.
//!
//! A connection is held here from its handshake on, before its first request asks whether the device may: whoever records
//! first that it may not, and cuts then, leaves no gap.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tern_protocol::ids::DeviceId;

use super::sse::Wire;

/// The connections of devices that are open now. Bounded by the listener's own limits.
#[derive(Debug, Default)]
pub struct Wires {
    table: Mutex<HashMap<DeviceId, Vec<Wire>>>,
}

/// A connection's place in the table, for as long as it lives.
pub(super) struct Held {
    wires: Arc<Wires>,
    device: DeviceId,
    wire: Wire,
}

impl Wires {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Vec<Wire>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(self: &Arc<Self>, device: DeviceId, wire: Wire) -> Held {
        self.lock().entry(device.clone()).or_default().push(wire.clone());
        Held { wires: self.clone(), device, wire }
    }

    /// Cuts every connection of this device; says how many there were.
    pub fn cut(&self, device: &DeviceId) -> usize {
        let table = self.lock();
        let wires = table.get(device).map_or(&[][..], Vec::as_slice);
        wires.iter().for_each(Wire::cut);
        wires.len()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.wires.lock();
        if let Some(wires) = table.get_mut(&self.device) {
            wires.retain(|wire| !wire.is(&self.wire));
            if wires.is_empty() {
                table.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_cut_reaches_every_connection_of_its_device_and_no_other() {
        let (_stop, stopping) = watch::channel(false);
        let wires = Arc::new(Wires::default());
        let [one, two, other] = [(); 3].map(|()| Wire::new(stopping.clone()));
        let (a, b): (DeviceId, DeviceId) = ("cam-1".parse().unwrap(), "cam-2".parse().unwrap());
        let held = [wires.hold(a.clone(), one.clone()), wires.hold(a.clone(), two.clone())];
        let kept = wires.hold(b.clone(), other.clone());
        assert_eq!(wires.cut(&a), 2);
        one.is_cut().await;
        two.is_cut().await;
        drop(held);
        assert_eq!((wires.cut(&a), wires.lock().len()), (0, 1), "who is gone is forgotten");
        drop(kept);
        assert!(wires.lock().is_empty());
    }
}
