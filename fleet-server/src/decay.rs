//! Decay: from committed telemetry to incidents.
//!
//! Rows go in the order of their commits through [`detector`], which keeps one [`watch`] a version: detection [`windows`] by
//! rows or by the calendar, detectors by device and feature, rounds of devices held against one another ([`marks`], [`verdict`]), and
//! [`incidents`] opened once, updated, resolved. All of that is pure. [`task`] reads rows, has [`keeping`] write down what
//! they changed together with the cursor, in one transaction, and says on MQTT what is kept: so each row counts exactly
//! once, whenever the server is killed.
//!
//! Windows of a version without a reference profile are not judged, and its status says so. What is promised of a version, its
//! objective, stands in the profile.

pub mod alone;
pub mod beside;
pub mod calls;
pub mod detector;
pub mod device;
pub mod incidents;
pub mod judge;
pub mod jury;
pub mod keeping;
pub mod marks;
pub mod pace;
pub mod task;
pub mod verdict;
pub mod watch;
pub mod windows;

#[cfg(test)]
pub(crate) mod simulation;

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes who works on what was just committed. Who listens also looks by itself after some seconds, so a bell that nobody
/// heard costs time only.
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// Telemetry was committed.
    pub telemetry: Arc<Notify>,
    /// Hooks were ordered.
    pub hooks: Arc<Notify>,
}
