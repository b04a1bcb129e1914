//! What a device that lost its record goes on serving: versions whose every byte is still there.
//!
//! Only reached with floors unreadable, when nothing is installed. The files are content-addressed and were verified when
//! they came; which of several versions was active is not known any more, so the newest whole one answers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tern_protocol::{ids::ModelName, twin::ModelState};

use crate::{
    bundle::Bundles,
    state::{ModelRecord, VersionRef},
};

/// A record for each model of which a whole version is on the disk.
pub(super) fn records(bundles: &Bundles, now: Timestamp) -> BTreeMap<ModelName, ModelRecord> {
    let mut found: BTreeMap<ModelName, VersionRef> = BTreeMap::new();
    for (manifest, digest) in bundles.whole() {
        let version = VersionRef { version: manifest.model.version.clone(), manifest: digest };
        let best = found.entry(manifest.model.name).or_insert_with(|| version.clone());
        if version.version > best.version {
            *best = version;
        }
    }
    let record = |active| ModelRecord {
        active: Some(active),
        proven: true,
        state: ModelState::Committed,
        ..ModelRecord::new(now)
    };
    found.into_iter().map(|(name, active)| (name, record(active))).collect()
}
