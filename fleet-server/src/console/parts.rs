//! Pieces that several pages share: sections, tables, links, times, and words with their marks.
//!
//! maud escapes every text; foreign text goes through [`plain`] as well, which takes out what could turn the direction of
//! reading.

use jiff::Timestamp;
use maud::{Markup, html};
use tern_protocol::{
    ids::{DeviceId, ModelName, ModelVersion},
    twin::{ModelState, ModelTwin},
};

use super::{
    place::Place,
    view::{IncidentLine, Listed, RolloutLine, Severity},
};
use crate::{
    devices::Refusal,
    forms::{DeviceRow, EventRow},
    wording::{count, plain, relative, short_digests, state},
};

/// Longest message on a page, in characters.
pub(super) const MAX_MESSAGE: usize = 300;
/// Longest word that is foreign, in characters.
const MAX_WORD: usize = 80;
/// Most names in one cell.
const MAX_NAMES: usize = 12;

/// A part of a page with its heading.
pub(super) fn section(id: &str, title: &str, body: Markup) -> Markup {
    html! {
        section #(id) data-key=(id) aria-labelledby={(id) "-title"} {
            h2 #{(id) "-title"} { (title) }
            (body)
        }
    }
}

/// A table that may be wider than the screen: it scrolls by itself, with the keyboard too.
pub(super) fn wide(labelled_by: &str, table: Markup) -> Markup {
    html! { div .wide role="region" tabindex="0" aria-labelledby=(labelled_by) { (table) } }
}

/// A table of `rows` below these column headings.
pub(super) fn table(id: &str, caption: Markup, heads: &[&str], rows: Markup) -> Markup {
    let label = format!("{id}-caption");
    wide(
        &label,
        html! { table {
            caption #(label) { (caption) }
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { (rows) }
        } },
    )
}

/// How many rows follow, and where the rest is.
pub(super) fn shown<T>(list: &Listed<T>, noun: &str, rest: Markup) -> Markup {
    html! { (count(list.rows.len(), noun)) @if list.more { " shown, there are more: " (rest) } }
}

pub(super) fn time(then: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(then) title=(then.strftime("%Y-%m-%d %H:%M:%S UTC")) { (relative(then, now)) } }
}

pub(super) fn perhaps(then: Option<Timestamp>, now: Timestamp, otherwise: &str) -> Markup {
    html! { @match then { Some(then) => (time(then, now)), None => (otherwise) } }
}

pub(super) fn link(place: &Place, text: impl std::fmt::Display) -> Markup {
    html! { a href=(place) { (text) } }
}

pub(super) fn device(device: &DeviceId) -> Markup {
    link(&Place::Device(device.clone()), device)
}

pub(super) fn model(model: &ModelName) -> Markup {
    link(&Place::Model(model.clone()), model)
}

pub(super) fn version(version: &ModelVersion) -> Markup {
    html! { (model(&version.name)) " " (version.version) }
}

/// Foreign text in a cell.
pub(super) fn word(text: &str) -> String {
    plain(text, MAX_WORD)
}

/// A state: its word, and a mark that says good or bad by its shape.
pub(super) fn mark(class: &'static str, text: impl std::fmt::Display) -> Markup {
    let shape = match class {
        "good" => "\u{2713}",
        "bad" => "\u{2715}",
        "warn" => "\u{25b2}",
        _ => "\u{25cb}",
    };
    html! { span .(class) { span .shape aria-hidden="true" { (shape) } " " (text) } }
}

/// A device's link, or why it can have none.
pub(super) fn link_of(device: &DeviceRow) -> Markup {
    match device.kept_out() {
        Some((what, _)) => mark("bad", what),
        None => online(device.online),
    }
}

pub(super) fn online(is_online: bool) -> Markup {
    if is_online { mark("good", "online") } else { mark("quiet", "offline") }
}

/// Names, as links made by `each`, cut where they are many.
pub(super) fn names<T>(all: &[T], each: impl Fn(&T) -> Markup) -> Markup {
    html! {
        @for (index, name) in all.iter().take(MAX_NAMES).enumerate() { @if index > 0 { ", " } (each(name)) }
        @if all.len() > MAX_NAMES { " and " (all.len() - MAX_NAMES) " more" }
    }
}

/// A share as percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub(super) fn standing(standing: ModelState) -> Markup {
    let class = match standing {
        ModelState::Committed => "good",
        ModelState::Rejected | ModelState::RolledBack | ModelState::Stopped => "bad",
        _ => "quiet",
    };
    mark(class, state(standing))
}

pub(super) fn running_model(twin: &ModelTwin) -> Markup {
    html! {
        (model(&twin.model)) " "
        @match &twin.version { Some(version) => (version), None => "no version" }
        " " (standing(twin.state))
        @if let Some(desired) = twin.desired.as_ref().filter(|d| Some(*d) != twin.version.as_ref()) {
            span .quiet { " (wanted: " (desired) ")" }
        }
    }
}

/// A refusal with all that the device said.
pub(super) fn refusal(refusal: Refusal<'_>, now: Timestamp) -> Markup {
    told(refusal, &plain(&refusal.error.message, MAX_MESSAGE), now)
}

/// A refusal for a table: one that is past keeps to its code.
pub(super) fn refusal_in_short(refusal: Refusal<'_>, now: Timestamp) -> Markup {
    let message = if refusal.stands { refusal.error.message.as_str() } else { "" };
    told(refusal, &plain(&short_digests(message), MAX_MESSAGE), now)
}

fn told(refusal: Refusal<'_>, message: &str, now: Timestamp) -> Markup {
    let error = refusal.error;
    html! {
        @if refusal.stands { (mark("bad", error.code)) } @else { (mark("quiet", format!("past: {}", error.code))) }
        @if let Some(version) = &error.version { " of " (version) }
        ", " (time(error.at, now))
        @if !message.is_empty() { ": " (message) }
    }
}

pub(super) fn severity(severity: Severity) -> Markup {
    let class = match severity {
        Severity::Notice => "quiet",
        Severity::Alarm => "warn",
        Severity::Critical => "bad",
    };
    mark(class, severity.as_str())
}

/// A phase or an outcome: the words of rollouts, with their marks.
pub(super) fn outcome(text: &str) -> Markup {
    let class = match text {
        "finished" | "survived" | "done" | "approve" => "good",
        "aborted" | "undone" | "denied" | "failed" | "silent" | "abort" | "deny" => "bad",
        "held" | "paused" | "rejected" | "pause" => "warn",
        _ => "quiet",
    };
    mark(class, word(text))
}

pub(super) fn incidents(id: &str, list: &Listed<IncidentLine>, now: Timestamp) -> Markup {
    let rest = link(&Place::Incidents, "all incidents");
    let heads = ["Incident", "State", "Severity", "Kind", "Model", "Devices", "Features", "Opened"];
    table(
        id,
        shown(list, "incident", rest),
        &heads,
        html! { @for incident in &list.rows {
            tr data-key={"incident-" (incident.number)} {
                th scope="row" { (link(&Place::Incident(incident.number), incident.number)) }
                td { @if incident.is_open { (mark("warn", "open")) } @else { (mark("good", "resolved")) } }
                td { (severity(incident.severity)) }
                td { (word(&incident.kind)) }
                td { (version(&incident.version)) }
                td { @if incident.devices.is_empty() { "all" } @else { (names(&incident.devices, device)) } }
                td { (names(&incident.features, |feature| html! { (word(feature)) })) }
                td { (time(incident.opened, now)) }
            }
        } },
    )
}

pub(super) fn rollouts(id: &str, list: &Listed<RolloutLine>, now: Timestamp) -> Markup {
    let rest = link(&Place::Rollouts, "all rollouts");
    // Devices are not counted for long lists: the column is left out there.
    let counted = list.rows.iter().any(|rollout| !rollout.tally.is_empty());
    let mut heads = vec!["Rollout", "Version", "Phase", "Stage", "Made"];
    if counted {
        heads.insert(4, "Devices");
    }
    table(
        id,
        shown(list, "rollout", rest),
        &heads,
        html! { @for rollout in &list.rows {
            tr data-key={"rollout-" (rollout.id)} {
                th scope="row" { (link(&Place::Rollout(rollout.id.clone()), &rollout.id)) }
                td { (version(&rollout.target)) }
                td { (outcome(&rollout.phase)) }
                td { (rollout.stage) " of " (rollout.stages) }
                @if counted { td { (tally(&rollout.tally)) } }
                td { (time(rollout.created, now)) " by " (word(&rollout.created_by)) }
            }
        } },
    )
}

pub(super) fn tally(tally: &[(String, u64)]) -> Markup {
    html! { @for (index, (what, number)) in tally.iter().filter(|(_, number)| *number > 0).enumerate() {
        @if index > 0 { ", " } (number) " " (word(what))
    } }
}

pub(super) fn events(id: &str, list: &Listed<EventRow>, rest: Markup, now: Timestamp) -> Markup {
    let heads = ["When", "What", "By", "Device", "Model", "Code", "Message"];
    let caption = html! { (shown(list, "event", rest)) @if !list.more { ", newest first" } };
    table(
        id,
        caption,
        &heads,
        html! { @for event in &list.rows {
            tr data-key={"event-" (event.id)} {
                td { (time(event.at, now)) }
                th scope="row" { (word(&event.kind)) }
                td { (word(&event.actor)) }
                td { @if let Some(id) = &event.device { (device(id)) } }
                td {
                    @if let Some(name) = &event.model { (model(name)) }
                    @if let Some(version) = &event.version { " " (version) }
                }
                td { (word(&event.code)) }
                td { (plain(&event.message, MAX_MESSAGE)) }
            }
        } },
    )
}
