//! The page itself: from an overview and the time to HTML. Pure; maud escapes every text.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use tern_protocol::twin::{LastError, ModelState, ModelTwin};

use crate::{
    forms::{DeviceRow, EventRow, VersionRow},
    overview::Overview,
    wording::{count, plain, relative, size, state},
};

/// Most devices and versions on the page; the command line lists them all.
const MAX_ROWS: usize = 1_000;
/// Longest message, in characters.
const MAX_MESSAGE: usize = 300;

pub(super) fn page(overview: &Overview, now: Timestamp, refresh: Option<u32>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { "Fleet " (overview.fleet) " · Tern" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                a .skip href="#main" { "Skip to the fleet" }
                header {
                    h1 { "Fleet " (overview.fleet) }
                    nav aria-label="Page" { (refresh_link(refresh)) }
                }
                main #main {
                    @if overview.solo {
                        p .warning role="note" {
                            strong { "Unsafe keys. " }
                            "This server was made with " code { "init --solo" }
                            ": every signing key was made on one machine, so whoever holds that machine can sign any model."
                        }
                    }
                    (figures(overview))
                    (devices(&overview.devices, now))
                    (versions(&overview.versions, now))
                    (events(&overview.events, now))
                }
                footer { p { "As of " (time(now, now)) ", " code { (now.strftime("%Y-%m-%d %H:%M:%S UTC")) } } }
            }
        }
    }
}

fn refresh_link(refresh: Option<u32>) -> Markup {
    html! {
        @match refresh {
            Some(seconds) => { "Refreshes every " (seconds) " s. " a href="/" { "Stop" } },
            None => a href="/?refresh=on" { "Refresh by itself" },
        }
    }
}

fn figures(overview: &Overview) -> Markup {
    let online = overview.devices.iter().filter(|d| d.online).count();
    let behind = overview.devices.iter().filter(|d| d.generation != d.desired_generation).count();
    let refused = overview.devices.iter().filter(|d| newest_error(d).is_some()).count();
    html! {
        dl {
            div { dt { "Devices" } dd { (overview.devices.len()) } }
            div { dt { "Online" } dd { (online) } }
            div { dt { "Not yet at the wanted generation" } dd { (behind) } }
            div { dt { "With a refusal" } dd { (refused) } }
            div { dt { "Versions" } dd { (overview.versions.len()) } }
        }
    }
}

fn devices(devices: &[DeviceRow], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="devices" {
            h2 #devices { "Devices" }
            @if devices.is_empty() {
                p { "No device yet. Enrol one with " code { "tern device enroll ID" } "." }
            } @else {
                div .wide { table {
                    caption { (shown(devices.len(), "device", "tern device list")) }
                    thead { tr {
                        @for name in ["Device", "Class", "Link", "Last seen", "Models", "Generation", "Last refusal"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for device in devices.iter().take(MAX_ROWS) { (device_row(device, now)) } }
                } }
            }
        }
    }
}

fn device_row(device: &DeviceRow, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" { (device.device) }
            td { (device.device_class) }
            td { @if device.online { span .good { "online" } } @else { span .quiet { "offline" } } }
            td { @match device.last_seen { Some(seen) => (time(seen, now)), None => "never" } }
            td {
                @if device.models.is_empty() { span .quiet { "none" } }
                @else { ul { @for model in &device.models { li { (model_state(model)) } } } }
            }
            td {
                (device.generation)
                @if device.generation != device.desired_generation { span .quiet { " of " (device.desired_generation) } }
            }
            td { @if let Some(error) = newest_error(device) { (refusal(error, now)) } }
        }
    }
}

fn model_state(model: &ModelTwin) -> Markup {
    let class = match model.state {
        ModelState::Committed => "good",
        ModelState::Rejected | ModelState::RolledBack => "bad",
        _ => "quiet",
    };
    html! {
        (model.model) " "
        @match &model.version { Some(version) => (version), None => "no version" }
        " " span class=(class) { (state(model.state)) }
        @if let Some(desired) = model.desired.as_ref().filter(|d| Some(*d) != model.version.as_ref()) {
            span .quiet { " (wanted: " (desired) ")" }
        }
    }
}

fn refusal(error: &LastError, now: Timestamp) -> Markup {
    html! {
        span .bad { (error.code) }
        @if let Some(version) = &error.version { " of " (version) }
        " " (time(error.at, now)) ": " (plain(&error.message, MAX_MESSAGE))
    }
}

fn newest_error(device: &DeviceRow) -> Option<&LastError> {
    let of_models = device.models.iter().filter_map(|m| m.last_error.as_ref());
    device.last_error.iter().chain(of_models).max_by_key(|error| error.at)
}

fn versions(versions: &[VersionRow], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="versions" {
            h2 #versions { "Models and versions" }
            @if versions.is_empty() {
                p { "No version yet. Publish one with " code { "tern model publish FOLDER" } "." }
            } @else {
                div .wide { table {
                    caption { (shown(versions.len(), "version", "tern model list")) }
                    thead { tr {
                        @for name in ["Model", "Version", "Signed", "Devices", "Size", "Published", "Manifest"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for version in versions.iter().take(MAX_ROWS) { (version_row(version, now)) } }
                } }
            }
        }
    }
}

fn version_row(version: &VersionRow, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" { (version.model.name) }
            td { (version.model.version) }
            td { @if version.signed { span .good { "signed" } } @else { span .bad { "not signed" } } }
            td { (version.devices) }
            td { (size(version.bytes.0)) }
            td { (time(version.published, now)) " by " (plain(&version.published_by, 80)) }
            td { code title=(version.manifest) { (version.manifest.to_string()[..12]) } }
        }
    }
}

fn events(events: &[EventRow], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="events" {
            h2 #events { "Recent events" }
            @if events.is_empty() {
                p { "Nothing has happened yet." }
            } @else {
                div .wide { table {
                    caption { (count(events.len(), "newest event")) ", newest first; all of them: " code { "tern events" } }
                    thead { tr {
                        @for name in ["When", "What", "By", "Device", "Model", "Code", "Message"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for event in events { (event_row(event, now)) } }
                } }
            }
        }
    }
}

fn event_row(event: &EventRow, now: Timestamp) -> Markup {
    html! {
        tr {
            td { (time(event.at, now)) }
            th scope="row" { (plain(&event.kind, 80)) }
            td { (plain(&event.actor, 80)) }
            td { @if let Some(device) = &event.device { (device) } }
            td {
                @if let Some(model) = &event.model { (model) }
                @if let Some(version) = &event.version { " " (version) }
            }
            td { (plain(&event.code, 80)) }
            td { (plain(&event.message, MAX_MESSAGE)) }
        }
    }
}

/// How many rows follow, and where the rest is.
fn shown(number: usize, noun: &str, command: &str) -> Markup {
    html! {
        (count(number, noun))
        @if number > MAX_ROWS { ", the first " (MAX_ROWS) " shown; all of them: " code { (command) } }
    }
}

fn time(then: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(then) title=(then) { (relative(then, now)) } }
}
