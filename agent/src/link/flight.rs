//! What was published and is not acknowledged: `rumqttc` tells packet ids apart from what they carry.

use std::collections::{BTreeMap, VecDeque};

/// What was published, from the request to its PUBACK.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) requested: VecDeque<Published>,
    sent: BTreeMap<u16, Published>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    Status,
    Twin,
    Report,
}

impl Flight {
    pub(super) fn is_empty(&self) -> bool {
        self.requested.is_empty() && self.sent.is_empty()
    }

    pub(super) fn holds(&self, what: Published) -> bool {
        self.requested.contains(&what) || self.sent.values().any(|p| *p == what)
    }

    /// Reports that are not acknowledged; at most a few, so that counting them costs nothing.
    pub(super) fn reports(&self) -> usize {
        let all = self.requested.iter().chain(self.sent.values());
        all.filter(|what| **what == Published::Report).count()
    }

    /// Packet ids come in the order of the requests; a known one is a repetition.
    pub(super) fn sent(&mut self, packet: u16) {
        if packet != 0
            && !self.sent.contains_key(&packet)
            && let Some(what) = self.requested.pop_front()
        {
            self.sent.insert(packet, what);
        }
    }

    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<Published> {
        self.sent.remove(&packet)
    }

    pub(super) fn clear(&mut self) {
        self.requested.clear();
        self.sent.clear();
    }
}
