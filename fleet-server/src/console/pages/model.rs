//! The models' pages: versions, who published them, where each runs, what it counted, and what nobody would notice.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{device::figures, fleet::version_cells};
use crate::{
    console::{
        chart,
        parts::{self, section, table},
        view::{BlindSpots, Listed, ModelView, Running, Season},
    },
    forms::VersionRow,
    wording::{count, plain},
};

/// The columns of a version.
const HEADS: [&str; 6] = ["Version", "Signature", "Devices", "Size", "Published", "Manifest"];

pub(super) fn list(list: &Listed<VersionRow>, now: Timestamp) -> Markup {
    let heads = ["Model", "Version", "Signature", "Devices", "Size", "Published", "Manifest"];
    html! {
        h1 { "Models" }
        @if list.rows.is_empty() { p { "No version yet. Publish one with " code { "tern model publish FOLDER" } "." } }
        @else { (table("versions", parts::shown(list, "version", html! { code { "tern model list" } }), &heads, html! {
            @for row in &list.rows { tr data-key={"version-" (row.model)} {
                th scope="row" { (parts::model(&row.model.name)) }
                td { (row.model.version) }
                (version_cells(row, now))
            } }
        })) }
    }
}

pub(super) fn page(view: &ModelView, now: Timestamp) -> Markup {
    let rest = || html! { code { "tern model list " (view.model) } };
    html! {
        h1 { "Model " (view.model) }
        (section("versions", "Versions", table("versions", parts::shown(&view.versions, "version", rest()), &HEADS, html! {
            @for row in &view.versions.rows { tr data-key={"version-" (row.model)} {
                th scope="row" { (row.model.version) }
                (version_cells(row, now))
            } }
        })))
        (section("incidents", "Incidents", html! {
            @if view.incidents.rows.is_empty() { p { "None." } } @else { (parts::incidents("incidents", &view.incidents, now)) }
        }))
        (section("windows", "Newest windows of all devices", html! {
            @if view.charts.is_empty() { p { "No window has been reported yet." } }
            @else { div .charts { @for one in &view.charts { (chart::figure(one)) } } }
        }))
        (section("figures", "Figures of all devices", figures("figures", &view.figures)))
        (section("blind", "What would not be noticed", blind_spots(view.blind_spots.as_ref())))
        (section("running", "Where it answers", running(&view.running)))
        (section("rollouts", "Rollouts", html! {
            @if view.rollouts.rows.is_empty() { p { "None." } } @else { (parts::rollouts("rollouts", &view.rollouts, now)) }
        }))
    }
}

fn running(list: &Listed<Running>) -> Markup {
    let rest = html! { code { "tern device list" } };
    html! {
        @if list.rows.is_empty() { p { "On no device." } }
        @else { (table("running", parts::shown(list, "device", rest), &["Device", "Version"], html! {
            @for row in &list.rows { tr data-key={"running-" (row.device)} {
                th scope="row" { (parts::device(&row.device)) }
                td { (row.version) }
            } }
        })) }
    }
}

fn blind_spots(spots: Option<&BlindSpots>) -> Markup {
    let Some(spots) = spots else { return html! { p { "No version is signed yet." } } };
    let of = html! {
        (spots.version)
        @if spots.devices > 0 { ", which answers on " (count(usize::try_from(spots.devices).unwrap_or(usize::MAX), "device")) "," }
        @else { ", the newest signed version (none answers anywhere)," }
    };
    let Some(known) = &spots.sees else {
        return html! { p {
            (parts::mark("warn", "No reference profile."))
            " Decay of the inputs of " (of) " cannot be seen: build a profile with " code { "tern decay fit" } " and publish it with the next version."
        } };
    };
    let rest = html! { "the profile lists all" };
    html! {
        p {
            strong { "Quiet is never \u{201c}no decay\u{201d}. " }
            "The profile of " (of) " was fitted on " (known.windows) " windows of about "
            (format!("{:.0}", known.window_rows)) " rows. A change smaller than below, or one that lasts fewer than about ten windows, is likely to pass unseen. "
            "One device alarms for nothing once in about " (format!("{:.0}", known.false_alarm_every)) " windows, in expectation."
        }
        (table("blind", parts::shown(&known.features, "watched feature", rest), &["Feature", "Smallest lasting change that is found", "Days of the year that it knows"], html! {
            @for sight in &known.features.rows { tr data-key={"sight-" (plain(&sight.name, 80))} {
                th scope="row" { (parts::word(&sight.name)) }
                td { @match sight.smallest {
                    Some(smallest) => { (format!("{smallest:.2}")) " reference standard deviations" },
                    None if sight.is_category => "no figure for categories",
                    None => (parts::mark("warn", "unknown: the profile names none")),
                } }
                td { @match &sight.season {
                    Season::Whole => "all",
                    Season::Part(days) => { (parts::mark("warn", days)) " only: on others little is looked for" },
                    Season::Timeless => "none: its rows had no times, and a season passes for a change",
                } }
            } }
        }))
    }
}
