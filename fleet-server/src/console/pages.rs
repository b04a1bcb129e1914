//! The pages: from what is shown and the time to HTML. Pure.
//!
//! Every page is whole without scripts: landmarks, one heading of the first level, tables with captions and scopes.

mod device;
mod events;
mod fleet;
mod incident;
mod model;
mod rollout;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::{
    place::Place,
    view::{Shown, View},
};
use crate::wording::count;

/// The navigation: addresses and names.
const PAGES: [(&str, &str); 5] = [
    ("/", "Fleet"),
    ("/models", "Models"),
    ("/rollouts", "Rollouts"),
    ("/incidents", "Incidents"),
    ("/events", "Events"),
];

/// The whole page.
pub(super) fn page(shown: &Shown, place: &Place, now: Timestamp, refresh: Option<u32>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (place.title()) " \u{b7} " (shown.fleet) " \u{b7} Tern" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
                script src="/console.js" defer {}
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                header {
                    p .brand { "Tern" span .quiet { " fleet " } strong { (shown.fleet) } }
                    nav aria-label="Pages" { ul { @for (address, name) in PAGES { li {
                        a href=(address) aria-current=[current(place, address)] {
                            (name) @if address == "/incidents" && shown.open_incidents > 0 { " (" (shown.open_incidents) " open)" }
                        }
                    } } } }
                    (live(place, refresh))
                }
                (content(shown, place, now))
                p #news .unseen role="status" {}
                footer { p { "As of " time #as-of datetime=(now) { (now.strftime("%Y-%m-%d %H:%M:%S UTC")) } ". Read-only: change things with " code { "tern" } "." } }
            }
        }
    }
}

/// What changes while one looks: the main part.
pub(super) fn content(shown: &Shown, place: &Place, now: Timestamp) -> Markup {
    html! {
        main #main tabindex="-1" data-news=(news(shown)) {
            @if shown.solo {
                p #solo .warning role="note" {
                    strong { "Unsafe keys. " }
                    "The keys of root or targets lie on this server, as " code { "init --solo" }
                    " made them: whoever holds this machine can sign any model."
                }
            }
            @match &shown.view {
                View::Fleet(view) => (fleet::page(view, shown.open_incidents, place, now)),
                View::Device(view) => (device::page(view, now)),
                View::Models(list) => (model::list(list, now)),
                View::Model(view) => (model::page(view, now)),
                View::Rollouts(list) => (rollout::list(list, now)),
                View::Rollout(view) => (rollout::page(view, now)),
                View::Incidents(list) => (incident::list(list, now)),
                View::Incident(view) => (incident::page(view, now)),
                View::Events(list) => (events::page(list, now)),
            }
        }
    }
}

fn current(place: &Place, address: &str) -> Option<&'static str> {
    (place.section() == address).then_some(if place.to_string() == address { "page" } else { "true" })
}

/// The state of live updates: the script fills it, and without one there is a link.
fn live(place: &Place, refresh: Option<u32>) -> Markup {
    html! {
        div #live .live {
            span #live-state hidden {}
            button #live-pause type="button" aria-pressed="false" hidden { "Pause updates" }
            noscript { @match refresh {
                Some(seconds) => { "Refreshes every " (seconds) " s. " a href=(place) { "Stop" } },
                None => a href={(place) (if place.to_string().contains('?') { "&" } else { "?" }) "refresh=on"} { "Refresh by itself" },
            } }
        }
    }
}

/// What a screen reader hears when the page has changed: one line, and only if it differs.
fn news(shown: &Shown) -> String {
    let incidents = format!("{} open", count(usize::try_from(shown.open_incidents).unwrap_or(usize::MAX), "incident"));
    match &shown.view {
        View::Fleet(view) => format!("{} of {} devices online, {incidents}", view.counts.online, view.counts.devices),
        View::Device(view) => {
            let link = if view.row.online { "online" } else { "offline" };
            format!("{} is {link}, generation {}, {incidents}", view.row.device, view.row.generation)
        }
        View::Rollout(view) => {
            format!("rollout {}, stage {} of {}, {incidents}", view.line.phase, view.line.stage, view.line.stages)
        }
        View::Incident(view) => {
            let state = if view.line.is_open { "open" } else { "resolved" };
            format!("incident {state}, {}, {incidents}", view.line.severity.as_str())
        }
        _ => incidents,
    }
}
