//! The fleet's page: how many stand where, what is wrong, what is under way, who there is.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::{
    console::{
        parts::{self, link, section, shown, table, time},
        place::Place,
        view::FleetView,
    },
    devices::foremost,
    forms::{DeviceRow, VersionRow},
    store::Counts,
    wording::DIGITS,
};

pub(super) fn page(view: &FleetView, open_incidents: u64, place: &Place, now: Timestamp) -> Markup {
    html! {
        h1 { "Fleet" }
        (counts(&view.counts, open_incidents))
        (section("incidents", "Open incidents", html! {
            @if view.incidents.rows.is_empty() {
                p { "None. That says that nothing was found, not that nothing is wrong: each model's page says how small a change can be seen." }
            } @else { (parts::incidents("incidents", &view.incidents, now)) }
        }))
        (section("rollouts", "Rollouts under way", html! {
            @if view.rollouts.rows.is_empty() { p { "None. " (link(&Place::Rollouts, "Past rollouts")) } }
            @else { (parts::rollouts("rollouts", &view.rollouts, now)) }
        }))
        (section("devices", "Devices", devices(view, place, now)))
        (section("versions", "Versions in service", html! {
            @if view.in_service.rows.is_empty() { p { "No version answers anywhere. Publish one with " code { "tern model publish FOLDER" } "." } }
            @else { (versions(&view.in_service.rows, shown(&view.in_service, "version", link(&Place::Models, "all versions")))) }
        }))
        (section("events", "Newest events", html! {
            @if view.events.rows.is_empty() { p { "Nothing has happened yet." } }
            @else { (parts::events("events", &view.events, link(&Place::Events { before: None }, "all events"), now)) }
        }))
    }
}

fn counts(counts: &Counts, open_incidents: u64) -> Markup {
    html! {
        dl #counts .counts data-key="counts" {
            div { dt { "Devices" } dd { (counts.devices) } }
            div { dt { "Online" } dd { (counts.online) } }
            div { dt { "Offline" } dd { (counts.devices.saturating_sub(counts.online)) } }
            div { dt { "Not yet at the wanted generation" } dd { (counts.behind) } }
            div { dt { "With a refusal" } dd { (counts.refusing) } }
            div { dt { "Open incidents" } dd { (open_incidents) } }
            div { dt { "Versions" } dd { (counts.versions) } }
        }
    }
}

fn devices(view: &FleetView, place: &Place, now: Timestamp) -> Markup {
    let is_first = *place == Place::Fleet { after: String::new() };
    let next = view.devices.rows.last().map(|last| Place::Fleet { after: last.device.to_string() });
    let rest = html! { @if let Some(next) = &next { (link(next, "the next by name")) } };
    let heads = ["Device", "Link", "Last seen", "Models", "Generation", "Class", "Last refusal"];
    html! {
        @if view.devices.rows.is_empty() && is_first {
            p { "No device yet. Enrol one with " code { "tern device enroll ID" } "." }
        } @else {
            @if !is_first { p { (link(&Place::Fleet { after: String::new() }, "Back to the first devices")) } }
            (table("devices", shown(&view.devices, "device", rest), &heads, html! {
                @for device in &view.devices.rows { (device_row(device, now)) }
            }))
        }
    }
}

fn device_row(device: &DeviceRow, now: Timestamp) -> Markup {
    html! {
        tr data-key={"device-" (device.device)} {
            th scope="row" { (parts::device(&device.device)) }
            td { (parts::link_of(device)) }
            td { (parts::perhaps(device.last_seen, now, "never")) }
            td {
                @if device.models.is_empty() { span .quiet { "none" } }
                @else { ul { @for model in &device.models { li { (parts::running_model(model)) } } } }
            }
            td {
                (device.generation)
                @if device.generation != device.desired_generation { span .quiet { " (wanted: " (device.desired_generation) ")" } }
            }
            td { (device.device_class) }
            td { @if let Some(refusal) = foremost(device.refusals()) { (parts::refusal_in_short(refusal, now)) } }
        }
    }
}

fn versions(rows: &[VersionRow], caption: Markup) -> Markup {
    table(
        "versions",
        caption,
        &["Model", "Version", "Devices"],
        html! { @for row in rows {
            tr data-key={"version-" (row.model)} {
                th scope="row" { (parts::model(&row.model.name)) }
                td { (row.model.version) }
                td { (row.devices) }
            }
        } },
    )
}

/// Every column of a version; the models' pages show it too.
pub(super) fn version_cells(row: &VersionRow, now: Timestamp) -> Markup {
    html! {
        td {
            @if let Some(why) = &row.recalled { (parts::mark("bad", "recalled")) " " (parts::word(why)) }
            @else if let Some(floor) = &row.floor { (parts::mark("bad", "below the floor")) " " (floor) }
            @else if row.signed { (parts::mark("good", "signed")) }
            @else if row.candidate { (parts::mark("warn", "candidate")) }
            @else { (parts::mark("bad", "not signed")) }
        }
        td { (row.devices) }
        td { (crate::wording::size(row.bytes.0)) }
        td { (time(row.published, now)) " by " (parts::word(&row.published_by)) }
        td { code title=(row.manifest) { (row.manifest.to_string()[..DIGITS]) } }
    }
}
