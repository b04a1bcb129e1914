//! A device's page: what it runs, how it stands, what it counted, how its windows went.

use jiff::Timestamp;
use maud::{Markup, html};
use tern_protocol::{ids::ModelVersion, twin::LastError};

use crate::{
    console::{
        chart,
        parts::{self, link, section, table, time},
        place::Place,
        view::{DeviceView, Figures, Listed},
    },
    forms::DeviceRow,
};

pub(super) fn page(view: &DeviceView, now: Timestamp) -> Markup {
    let row = &view.row;
    html! {
        h1 { "Device " (row.device) }
        (facts(row, now))
        (section("models", "What it runs", html! {
            @if row.models.is_empty() { p { "No model yet. Assign one with " code { "tern assign" } " or a rollout." } }
            @else { (models(row, now)) }
            @if let Some(error) = &row.last_error { p { "Last refusal of a desired state: " (refusal(row, error, now)) } }
        }))
        (section("incidents", "Incidents that name it", html! {
            @if view.incidents.rows.is_empty() { p { "None." } } @else { (parts::incidents("incidents", &view.incidents, now)) }
        }))
        (section("windows", "Newest windows", html! {
            @if view.charts.is_empty() { p { "No window has been reported yet." } }
            @else { div .charts { @for one in &view.charts { (chart::figure(one)) } } }
        }))
        (section("figures", "Figures", figures("figures", &view.figures)))
        (section("events", "Newest events", html! {
            @if view.events.rows.is_empty() { p { "None." } }
            @else { (parts::events("events", &view.events, link(&Place::Events { before: None }, "all events"), now)) }
        }))
    }
}

fn facts(row: &DeviceRow, now: Timestamp) -> Markup {
    html! {
        dl #facts .facts data-key="facts" {
            div { dt { "Link" } dd { (parts::link_of(row)) ", last seen " (parts::perhaps(row.last_seen, now, "never")) } }
            @if let Some((what, barred)) = row.kept_out() {
                div { dt { "Kept out" } dd {
                    (what) " since " (time(barred.since, now)) ", by " (barred.by) ": " (barred.reason) ". "
                    @if what == "cloned" { "Give it a new identity with " code { "tern device reidentify" } "." }
                    @else { "Only a new enrolment lets it in again." }
                } }
            }
            div { dt { "Generation" } dd {
                (row.generation)
                @if row.generation != row.desired_generation { " (wanted: " (row.desired_generation) ")" }
            } }
            div { dt { "Wanted" } dd {
                @if row.desired.is_empty() { "nothing" }
                @else { (parts::names(&row.desired, |version: &ModelVersion| parts::version(version))) }
            } }
            div { dt { "Class" } dd { (row.device_class) } }
            div { dt { "Labels" } dd {
                @if row.labels.is_empty() { "none" }
                @for (index, (key, value)) in row.labels.iter().enumerate() { @if index > 0 { ", " } (key) "=" (value) }
            } }
            div { dt { "Agent" } dd { (parts::word(&row.agent_version)) } }
            div { dt { "Certificate ends" } dd { (time(row.certificate_expires, now)) } }
        }
    }
}

/// A refusal of this device's, with whether it stands.
fn refusal(row: &DeviceRow, error: &LastError, now: Timestamp) -> Markup {
    html! { @for one in row.refusals().filter(|one| std::ptr::eq(one.error, error)) { (parts::refusal(one, now)) } }
}

fn models(row: &DeviceRow, now: Timestamp) -> Markup {
    let caption = html! { "By the device's own word (its twin)" };
    let heads = ["Model", "Answers", "Wanted", "State", "Since", "Generation", "Last refusal"];
    table(
        "models",
        caption,
        &heads,
        html! { @for model in &row.models {
            tr data-key={"model-" (model.model)} {
                th scope="row" { (parts::model(&model.model)) }
                td { @match &model.version { Some(version) => (version), None => span .quiet { "none" } } }
                td { @if let Some(desired) = &model.desired { (desired) } }
                td { (parts::standing(model.state)) }
                td { (time(model.since, now)) }
                td { (model.generation) }
                td { @if let Some(error) = &model.last_error { (refusal(row, error, now)) } }
            }
        } },
    )
}

/// The figures of versions; the models' pages show them too.
pub(super) fn figures(id: &str, list: &Listed<Figures>) -> Markup {
    let heads =
        ["Version", "Inferences", "Rows", "Errors", "Windows", "Labels", "Wrong by labels", "Accuracy by labels"];
    let caption = parts::shown(list, "version", html! { "see the API" });
    html! {
        @if list.rows.is_empty() { p { "Nothing was counted yet." } }
        @else { (table(id, caption, &heads, html! { @for row in &list.rows {
            tr data-key={"figures-" (row.version)} {
                th scope="row" { (parts::version(&row.version)) }
                td .number { (row.inferences) }
                td .number { (row.rows) }
                td .number { (row.errors) }
                td .number { (row.windows) }
                td .number { (row.labels) }
                td .number { (row.label_errors) }
                td .number { @match row.accuracy() { Some(share) => (parts::percent(share)), None => span .quiet { "no labels" } } }
            }
        } })) }
    }
}
