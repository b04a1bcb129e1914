//! The rollouts' pages: stages, where every device stands, and every decision with its grounds.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::{
    console::{
        parts::{self, MAX_MESSAGE, section, table, time},
        view::{Listed, RolloutDevice, RolloutLine, RolloutView, StageLine, VerdictLine},
    },
    wording::plain,
};

pub(super) fn list(list: &Listed<RolloutLine>, now: Timestamp) -> Markup {
    html! {
        h1 { "Rollouts" }
        @if list.rows.is_empty() { p { "None yet. Make one with " code { "tern rollout create" } "." } }
        @else { (parts::rollouts("rollouts", list, now)) }
    }
}

pub(super) fn page(view: &RolloutView, now: Timestamp) -> Markup {
    let line = &view.line;
    html! {
        h1 { "Rollout " (line.id) }
        dl #facts .facts data-key="facts" {
            div { dt { "Version" } dd { (parts::version(&line.target)) } }
            div { dt { "Phase" } dd { (parts::outcome(&line.phase)) @if let Some(cause) = &view.cause { ": " (plain(cause, MAX_MESSAGE)) } } }
            div { dt { "Stage" } dd { (line.stage) " of " (line.stages) } }
            div { dt { "Devices" } dd { (parts::tally(&line.tally)) } }
            div { dt { "For" } dd { code { (plain(&view.selector, MAX_MESSAGE)) } } }
            div { dt { "Made" } dd { (time(line.created, now)) " by " (parts::word(&line.created_by)) ": " (plain(&view.reason, MAX_MESSAGE)) } }
        }
        (section("stages", "Stages", stages(&view.stages)))
        (section("devices", "Devices", devices(&view.devices, now)))
        (section("verdicts", "Verdicts", verdicts(&view.verdicts, now)))
    }
}

fn stages(stages: &[StageLine]) -> Markup {
    let caption = html! { "In this order; devices are chosen by stable hash within their class" };
    table(
        "stages",
        caption,
        &["Stage", "Devices", "State", "Terms"],
        html! { @for stage in stages {
            tr data-key={"stage-" (stage.number)} aria-current=[(stage.state == "current").then_some("step")] {
                th scope="row" { (stage.number) }
                td { (parts::word(&stage.share)) }
                td { (parts::outcome(stage.state)) }
                td { (plain(&stage.terms, MAX_MESSAGE)) }
            }
        } },
    )
}

fn devices(list: &Listed<RolloutDevice>, now: Timestamp) -> Markup {
    let rest = html! { code { "tern rollout status" } };
    html! {
        @if list.rows.is_empty() { p { "No device has the assignment yet." } }
        @else { (table("devices", parts::shown(list, "device", rest), &["Device", "Stage", "Outcome", "Reason", "Assigned"], html! {
            @for row in &list.rows { tr data-key={"device-" (row.device)} {
                th scope="row" { (parts::device(&row.device)) }
                td { @if let Some(stage) = row.stage { (stage) } }
                td { (parts::outcome(&row.outcome)) }
                td { (parts::word(&row.code)) }
                td { (parts::perhaps(row.since, now, "not yet")) }
            } }
        })) }
    }
}

fn verdicts(list: &Listed<VerdictLine>, now: Timestamp) -> Markup {
    let rest = html! { code { "tern rollout verdicts" } };
    html! {
        @if list.rows.is_empty() { p { "None yet." } }
        @else { (table("verdicts", parts::shown(list, "verdict", rest), &["When", "What", "By", "Why", "Evidence"], html! {
            @for row in &list.rows { tr data-key={"verdict-" (row.number)} {
                td { (time(row.at, now)) }
                th scope="row" { (parts::outcome(&row.what)) }
                td { (parts::word(&row.by)) }
                td { (plain(&row.why, MAX_MESSAGE)) }
                td { @if !row.evidence.is_empty() { ul { @for (name, value) in &row.evidence {
                    li { (parts::word(name)) ": " (plain(value, MAX_MESSAGE)) }
                } } } }
            } }
        })) }
    }
}
