//! What the console may see: one read-only picture of the fleet.
//!
//! The console renders it and never reaches the store, the keys or the broker.

use std::{future::Future, pin::Pin};

use tern_protocol::ids::FleetId;

use crate::forms::{DeviceRow, EventRow, VersionRow};

/// The fleet at one moment.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The fleet's name.
    pub fleet: FleetId,
    /// Whether every key lies on this machine (`init --solo`), which a page must say.
    pub solo: bool,
    /// Every enrolled device, by name.
    pub devices: Vec<DeviceRow>,
    /// Every version, by model and version.
    pub versions: Vec<VersionRow>,
    /// The newest events, newest first, at most [`MAX_EVENTS`].
    pub events: Vec<EventRow>,
}

/// Most events in an [`Overview`].
pub const MAX_EVENTS: u32 = 100;

/// A future that a trait object can return.
pub type OverviewFuture<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Overview>> + Send + 'a>>;

/// Where the console gets its picture from; `Arc<dyn ConsoleSource>` is the router's state.
pub trait ConsoleSource: Send + Sync + 'static {
    /// The fleet as the store knows it now.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn overview(&self) -> OverviewFuture<'_>;
}
