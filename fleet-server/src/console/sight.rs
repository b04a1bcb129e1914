//! The fleet as the console sees it: fills each page's contents from the store, every list bounded.

use anyhow::Context;
use tern_protocol::ids::{DeviceId, ModelName};
use tokio::sync::watch;

use super::{
    ConsoleSource, Showing,
    place::Place,
    view::{DeviceView, FleetView, Listed, ModelView, Running, Shown, View},
};
use crate::{fleet::Fleet, selector::Selector, store::Paging};

/// Most rows of a list that is a page's matter.
const ROWS: usize = 200;
/// Most rows of a list that is beside it.
const FEW: usize = 25;

impl ConsoleSource for Fleet {
    fn show<'a>(&'a self, place: &'a Place) -> Showing<'a> {
        Box::pin(async move {
            let Some(view) = self.view(place).await? else { return Ok(None) };
            Ok(Some(Shown { fleet: self.settings.fleet.clone(), solo: self.settings.solo, open_incidents: 0, view }))
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }
}

impl Fleet {
    async fn view(&self, place: &Place) -> anyhow::Result<Option<View>> {
        Ok(Some(match place {
            Place::Fleet { after } => View::Fleet(Box::new(self.whole(after.clone()).await?)),
            Place::Device(device) => match self.one_device(device).await? {
                Some(view) => View::Device(Box::new(view)),
                None => return Ok(None),
            },
            Place::Models => {
                let rows = self.store.versions(None, first(ROWS)).await.context("read versions")?;
                View::Models(Listed::of(rows, ROWS))
            }
            Place::Model(model) => match self.one_model(model).await? {
                Some(view) => View::Model(Box::new(view)),
                None => return Ok(None),
            },
            Place::Rollouts => View::Rollouts(Listed::none()),
            Place::Rollout(_) => return Ok(None),
            Place::Incidents => View::Incidents(Listed::none()),
            Place::Incident(_) => return Ok(None),
            Place::Events { before } => {
                let before = before.unwrap_or(i64::MAX);
                let rows = self.store.events_before(before, limit(ROWS)).await.context("read events")?;
                View::Events(Listed::of(rows, ROWS))
            }
        }))
    }

    async fn whole(&self, after: String) -> anyhow::Result<FleetView> {
        let page = Paging { after, limit: ROWS + 1 };
        let devices = self.store.devices(Selector::all(), page).await.context("read devices")?;
        Ok(FleetView {
            counts: self.store.counts().await.context("count devices")?,
            devices: Listed::of(devices, ROWS),
            in_service: Listed::of(self.store.versions_in_service(FEW + 1).await.context("read versions")?, FEW),
            incidents: Listed::none(),
            rollouts: Listed::none(),
            events: Listed::of(self.store.newest_events(limit(FEW)).await.context("read events")?, FEW),
        })
    }

    async fn one_device(&self, device: &DeviceId) -> anyhow::Result<Option<DeviceView>> {
        let Some(row) = self.store.device(device.clone()).await.context("read the device")? else { return Ok(None) };
        let events = self.store.events_of(device.clone(), limit(FEW)).await.context("read events")?;
        Ok(Some(DeviceView {
            row,
            figures: Listed::none(),
            charts: Vec::new(),
            incidents: Listed::none(),
            events: Listed::of(events, FEW),
        }))
    }

    async fn one_model(&self, model: &ModelName) -> anyhow::Result<Option<ModelView>> {
        let versions = self.store.versions(Some(model.clone()), first(ROWS)).await.context("read versions")?;
        if versions.is_empty() {
            return Ok(None);
        }
        let running = self.store.running(model.clone(), ROWS + 1).await.context("read where it answers")?;
        let running = running.into_iter().map(|(device, version)| Running { version, device }).collect();
        Ok(Some(ModelView {
            model: model.clone(),
            versions: Listed::of(versions, ROWS),
            figures: Listed::none(),
            running: Listed::of(running, ROWS),
            blind_spots: None,
            charts: Vec::new(),
            incidents: Listed::none(),
            rollouts: Listed::none(),
        }))
    }
}

/// The first page of so many rows, and one more that says whether the list goes on.
fn first(rows: usize) -> Paging {
    Paging { after: String::new(), limit: rows + 1 }
}

/// So many rows, and one more.
fn limit(rows: usize) -> u32 {
    u32::try_from(rows + 1).unwrap_or(u32::MAX)
}
