//! The incidents' pages: what was found, on which grounds, and what was done.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::{
    console::{
        chart,
        parts::{self, MAX_MESSAGE, section, table, time},
        view::{EvidenceLine, IncidentLine, IncidentView, Listed},
    },
    wording::plain,
};

pub(super) fn list(list: &Listed<IncidentLine>, now: Timestamp) -> Markup {
    html! {
        h1 { "Incidents" }
        @if list.rows.is_empty() {
            p { "None. That says that nothing was found, not that nothing is wrong: each model's page says how small a change can be seen." }
        } @else { (parts::incidents("incidents", list, now)) }
    }
}

pub(super) fn page(view: &IncidentView, now: Timestamp) -> Markup {
    let line = &view.line;
    html! {
        h1 { "Incident " (line.number) ": " (parts::word(&line.kind)) }
        dl #facts .facts data-key="facts" {
            div { dt { "State" } dd {
                @if line.is_open { (parts::mark("warn", "open")) } @else { (parts::mark("good", "resolved")) }
                " " (parts::perhaps(line.resolved.or(Some(line.updated)), now, ""))
            } }
            div { dt { "Severity" } dd { (parts::severity(line.severity)) } }
            div { dt { "Model" } dd { (parts::version(&line.version)) } }
            div { dt { "Devices" } dd {
                @if line.devices.is_empty() { "all" } @else { (parts::names(&line.devices, parts::device)) }
            } }
            div { dt { "Features" } dd {
                @if line.features.is_empty() { "none by name" }
                @else { (parts::names(&line.features, |feature| html! { (parts::word(feature)) })) }
            } }
            div { dt { "Since" } dd { (parts::perhaps(view.since, now, "unknown")) ", opened " (time(line.opened, now)) } }
            @if let Some(who) = &view.acknowledged_by { div { dt { "Seen by" } dd { (parts::word(who)) } } }
            @if let Some(until) = view.muted_until { div { dt { "Muted" } dd { "ends " (time(until, now)) @if let Some(why) = &view.mute_reason { ": " (plain(why, MAX_MESSAGE)) } } } }
        }
        (section("cause", "Likely cause", html! {
            p { (plain(&view.summary, 2 * MAX_MESSAGE)) }
            p { @if view.cause.is_empty() { "Not known." } @else { (plain(&view.cause, 2 * MAX_MESSAGE)) } }
        }))
        (section("score", "Score over the windows", html! {
            @if view.charts.is_empty() { p { "No window is at hand." } }
            @else { div .charts { @for one in &view.charts { (chart::figure(one)) } } }
        }))
        (section("evidence", "Evidence", evidence(&view.evidence, now)))
        (section("actions", "What was done", html! {
            @if view.actions.rows.is_empty() { p { "Nothing yet." } }
            @else { ol { @for (at, text) in &view.actions.rows { li { @if let Some(at) = at { (time(*at, now)) ": " } (plain(text, MAX_MESSAGE)) } } } }
        }))
    }
}

fn evidence(list: &Listed<EvidenceLine>, now: Timestamp) -> Markup {
    let rest = html! { "see the API" };
    html! {
        @if list.rows.is_empty() { p { "None was kept." } }
        @else { (table("evidence", parts::shown(list, "finding", rest), &["Detector", "On", "Found", "Newest"], html! {
            @for row in &list.rows { tr {
                th scope="row" { (parts::word(&row.detector)) }
                td { (parts::word(&row.subject)) }
                td { (plain(&row.found, MAX_MESSAGE)) }
                td { (time(row.at, now)) }
            } }
        })) }
    }
}
