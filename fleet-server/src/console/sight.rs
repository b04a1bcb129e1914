//! The fleet as the console sees it: fills each page's contents from the store, every list bounded.
//!
//! Only reads. Pictures that cost something are made of windows by `windows`; rollouts and incidents are told by `told`.

use std::sync::Arc;

use anyhow::Context;
use tern_protocol::ids::{DeviceId, ModelName};
use tokio::sync::watch;

use super::{
    ConsoleSource, Showing,
    chart::MAX_POINTS,
    place::Place,
    view::{
        BlindSpots, DeviceView, Figures, FleetView, IncidentLine, IncidentView, Listed, ModelView, RolloutLine,
        RolloutView, Running, Sees, Shown, Sight, View,
    },
};
use crate::{
    clock,
    fleet::Fleet,
    forms::VersionRow,
    profiles::Known,
    rollout::{RolloutId, plan},
    selector::Selector,
    store::{Around, FiguresQuery, IncidentsOf, Paging, Telemetry},
};

mod told;
mod windows;

/// Most rows of a list that is a page's matter.
const ROWS: usize = 200;
/// Most rows of a list that is beside it.
const FEW: usize = 25;
/// Most rollouts whose devices are counted for one page: each count reads the fleet.
const COUNTED: usize = 5;
/// Windows that an incident's page draws before it began, and after it ended.
const BESIDE: usize = 15;
/// Most devices whose windows are drawn on one page.
const DRAWN: usize = 8;

/// A fleet that the console shows.
pub struct Window(pub Arc<Fleet>);

impl ConsoleSource for Window {
    fn show<'a>(&'a self, place: &'a Place) -> Showing<'a> {
        Box::pin(async move {
            let Some(view) = self.view(place).await? else { return Ok(None) };
            let open = self.0.store.open_incidents().await.context("count incidents")?;
            let (fleet, solo) = (self.0.settings.fleet.clone(), self.0.repository.is_solo());
            Ok(Some(Shown { fleet, solo, open_incidents: open.values().sum(), view }))
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.store.changes()
    }
}

impl Window {
    async fn view(&self, place: &Place) -> anyhow::Result<Option<View>> {
        let store = &self.0.store;
        Ok(match place {
            Place::Fleet { after } => Some(View::Fleet(Box::new(self.whole(after.clone()).await?))),
            Place::Device(device) => self.device(device).await?.map(|view| View::Device(Box::new(view))),
            Place::Models => {
                let rows = store.versions(None, first(ROWS)).await.context("read versions")?;
                Some(View::Models(Listed::of(rows, ROWS)))
            }
            Place::Model(model) => self.model(model).await?.map(|view| View::Model(Box::new(view))),
            Place::Rollouts => {
                let rows = store.rollouts(first(ROWS)).await.context("read rollouts")?;
                Some(View::Rollouts(Listed::of(rows.iter().map(told::rollout).collect(), ROWS)))
            }
            Place::Rollout(id) => self.rollout(id).await?.map(|view| View::Rollout(Box::new(view))),
            Place::Incidents => Some(View::Incidents(self.incidents(IncidentsOf::All, ROWS).await?)),
            Place::Incident(number) => self.incident(*number).await?.map(|view| View::Incident(Box::new(view))),
            Place::Events { before } => {
                let before = before.unwrap_or(i64::MAX);
                let rows = store.events_before(before, more(ROWS)).await.context("read events")?;
                Some(View::Events(Listed::of(rows, ROWS)))
            }
        })
    }

    async fn whole(&self, after: String) -> anyhow::Result<FleetView> {
        let store = &self.0.store;
        let page = Paging { after, limit: ROWS + 1 };
        let devices = store.devices(Selector::all(), page).await.context("read devices")?;
        let mut rollouts = Vec::new();
        let open = store.open_rollouts().await.context("read rollouts")?;
        for id in open.iter().rev().take(FEW + 1) {
            rollouts.extend(self.counted(id, rollouts.len() < COUNTED).await?);
        }
        Ok(FleetView {
            counts: store.counts().await.context("count devices")?,
            devices: Listed::of(devices, ROWS),
            in_service: Listed::of(store.versions_in_service(FEW + 1).await.context("read versions")?, FEW),
            incidents: self.incidents(IncidentsOf::Open, FEW).await?,
            rollouts: Listed::of(rollouts, FEW),
            events: Listed::of(store.newest_events(more(FEW)).await.context("read events")?, FEW),
        })
    }

    async fn device(&self, device: &DeviceId) -> anyhow::Result<Option<DeviceView>> {
        let store = &self.0.store;
        let Some(row) = store.device(device.clone()).await.context("read the device")? else { return Ok(None) };
        let query = FiguresQuery { device: Some(device.clone()), limit: FEW + 1, ..FiguresQuery::default() };
        let figures = store.figures(query).await.context("read figures")?;
        let mut charts = Vec::new();
        for model in row.models.iter().take(2) {
            let windows = self.windows(device, &model.model).await?;
            let known = self.known(&windows).await?;
            charts.extend(windows::of_device(&model.model, &windows, known.as_deref()));
        }
        let events = store.events_of(device.clone(), more(FEW)).await.context("read events")?;
        Ok(Some(DeviceView {
            row,
            figures: Listed::of(figures.into_iter().map(|row| told::figures(row.model, &row.tally)).collect(), FEW),
            charts,
            incidents: self.incidents(IncidentsOf::Device(device.clone()), FEW).await?,
            events: Listed::of(events, FEW),
        }))
    }

    async fn model(&self, model: &ModelName) -> anyhow::Result<Option<ModelView>> {
        let store = &self.0.store;
        let mut versions = store.versions(Some(model.clone()), first(ROWS)).await.context("read versions")?;
        if versions.is_empty() {
            return Ok(None);
        }
        versions.sort_by(|a, b| b.model.version.cmp(&a.model.version));
        let running = store.running(model.clone(), ROWS + 1).await.context("read where it answers")?;
        let figures = store.figures_of_versions(model.clone(), FEW + 1).await.context("read figures")?;
        let figures: Vec<Figures> =
            figures.into_iter().map(|(version, tally)| told::figures(version, &tally)).collect();
        let mut rollouts = Vec::new();
        for id in store.rollouts_of(model.clone(), more(FEW)).await.context("read rollouts")? {
            rollouts.extend(self.counted(&id, false).await?);
        }
        Ok(Some(ModelView {
            model: model.clone(),
            blind_spots: self.blind_spots(&versions).await?,
            versions: Listed::of(versions, ROWS),
            figures: Listed::of(figures, FEW),
            charts: windows::of_fleet(&self.windows_of(model, running.iter().map(|(device, _)| device)).await?),
            running: Listed::of(
                running.into_iter().map(|(device, version)| Running { version, device }).collect(),
                ROWS,
            ),
            incidents: self.incidents(IncidentsOf::Model(model.clone()), FEW).await?,
            rollouts: Listed::of(rollouts, FEW),
        }))
    }

    /// What the profile of the version that answers can see.
    async fn blind_spots(&self, versions: &[VersionRow]) -> anyhow::Result<Option<BlindSpots>> {
        let Some(row) = judged(versions) else { return Ok(None) };
        let known = self.0.profiles.of(&self.0, &row.model).await.context("read the reference profile")?;
        let sees = known.as_deref().and_then(Known::profile).map(|profile| {
            let sights = profile.watched().map(|feature| Sight {
                name: feature.name.clone(),
                is_category: matches!(feature.kind, tern_stats::profile::Kind::Categorical(_)),
                smallest: feature.mde,
                season: told::season(profile.calendar.as_ref(), &feature.covered),
            });
            Sees {
                windows: profile.windows.into(),
                window_rows: profile.rows,
                false_alarm_every: profile.arl,
                features: Listed::of(sights.take(ROWS + 1).collect(), ROWS),
            }
        });
        Ok(Some(BlindSpots { version: row.model.version.clone(), devices: row.devices, sees }))
    }

    /// A rollout's line; with the numbers of its devices where they are wanted.
    async fn counted(&self, id: &RolloutId, with_devices: bool) -> anyhow::Result<Option<RolloutLine>> {
        if !with_devices {
            let record = self.0.store.rollout(id.clone()).await.context("read a rollout")?;
            return Ok(record.as_ref().map(told::rollout));
        }
        let since = self.0.pulse.hearing_since();
        let found = self.0.store.rollout_snapshot(id.clone(), since).await.context("read a rollout")?;
        Ok(found.map(|(record, snapshot)| {
            let tally = plan(&record.policy, &snapshot, clock::now()).verdict.evidence.tally;
            RolloutLine { tally: told::tally(&tally), ..told::rollout(&record) }
        }))
    }

    async fn rollout(&self, id: &str) -> anyhow::Result<Option<RolloutView>> {
        let Ok(id) = id.parse::<RolloutId>() else { return Ok(None) };
        let since = self.0.pulse.hearing_since();
        let found = self.0.store.rollout_snapshot(id.clone(), since).await.context("read a rollout")?;
        let Some((record, snapshot)) = found else { return Ok(None) };
        let newest = self.0.store.newest_rollout_history(id, more(ROWS)).await.context("read verdicts")?;
        Ok(Some(told::rollout_view(&record, &snapshot, newest, ROWS, clock::now())))
    }

    async fn incidents(&self, of: IncidentsOf, most: usize) -> anyhow::Result<Listed<IncidentLine>> {
        let rows = self.0.store.incidents_of(of, more(most)).await.context("read incidents")?;
        Ok(Listed::of(rows.iter().map(told::incident).collect(), most))
    }

    async fn incident(&self, number: u64) -> anyhow::Result<Option<IncidentView>> {
        let Some(row) = self.0.store.incident(number).await.context("read the incident")? else { return Ok(None) };
        let devices = self.0.store.running(row.model.name.clone(), ROWS).await.context("read where it answers")?;
        let others = devices.iter().map(|(device, _)| device).filter(|device| !row.devices.contains(device));
        // Those that it names come first; of the rest as many as there is room for.
        let drawn: Vec<&DeviceId> = row.devices.iter().take(DRAWN / 2).chain(others).take(DRAWN).collect();
        let span = Around { since: row.since, until: row.resolved, within: MAX_POINTS - 2 * BESIDE, beside: BESIDE };
        let mut windows = Vec::new();
        for device in drawn {
            let around = self.0.store.windows_around(device.clone(), row.model.clone(), span).await;
            windows.push((device.clone(), around.context("read windows")?));
        }
        let known = self.0.profiles.of(&self.0, &row.model).await.context("read the reference profile")?;
        let charts = windows::of_incident(&row, &windows, known.as_deref());
        Ok(Some(told::incident_view(&row, charts)))
    }

    async fn windows(&self, device: &DeviceId, model: &ModelName) -> anyhow::Result<Vec<Telemetry>> {
        let windows = self.0.store.windows(device.clone(), model.clone(), None, MAX_POINTS);
        windows.await.context("read windows")
    }

    /// The windows of the first [`DRAWN`] of these devices.
    async fn windows_of<'a>(
        &self,
        model: &ModelName,
        devices: impl Iterator<Item = &'a DeviceId>,
    ) -> anyhow::Result<Vec<(DeviceId, Vec<Telemetry>)>> {
        let mut all = Vec::new();
        for device in devices.take(DRAWN) {
            all.push((device.clone(), self.windows(device, model).await?));
        }
        Ok(all)
    }

    /// What the newest window is held against.
    async fn known(&self, windows: &[Telemetry]) -> anyhow::Result<Option<Arc<Known>>> {
        let Some(version) = windows::version(windows) else { return Ok(None) };
        self.0.profiles.of(&self.0, &version).await.context("read the reference profile")
    }
}

/// The version that answers on most devices, the newest of equals; the newest signed one where none answers.
fn judged(newest_first: &[VersionRow]) -> Option<&VersionRow> {
    let answering = newest_first.iter().filter(|row| row.devices > 0).rev();
    answering.max_by_key(|row| row.devices).or_else(|| newest_first.iter().find(|row| row.signed))
}

/// The first page of so many rows, and one more that says whether the list goes on.
fn first(rows: usize) -> Paging {
    Paging { after: String::new(), limit: more(rows) as usize }
}

/// So many rows, and one more.
fn more(rows: usize) -> u32 {
    u32::try_from(rows + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_most_devices_run_is_the_one_to_speak_of() {
        let row = |version: &str, devices, signed| VersionRow {
            model: format!("demo/m@{version}").parse().unwrap(),
            manifest: tern_protocol::digest::Digest::of(b"m"),
            bytes: tern_protocol::ids::ByteCount(1),
            published: jiff::Timestamp::UNIX_EPOCH,
            published_by: "admin".into(),
            signed,
            devices,
            candidate: false,
            recalled: None,
            floor: None,
        };
        let of = |rows: &[VersionRow]| judged(rows).map(|row| row.model.version.to_string());
        let refused = row("1.3.0", 0, true);
        assert_eq!(of(&[refused.clone(), row("1.1.0", 6, true), row("1.0.0", 2, true)]).as_deref(), Some("1.1.0"));
        assert_eq!(of(&[refused.clone(), row("1.1.0", 4, true), row("1.0.0", 4, true)]).as_deref(), Some("1.1.0"));
        assert_eq!(of(&[row("1.4.0", 0, false), refused]).as_deref(), Some("1.3.0"), "it would be the first");
        assert_eq!(of(&[row("1.4.0", 0, false)]), None);
    }
}
