//! The event log's page.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::{
    console::{
        parts::{self, link},
        place::Place,
        view::Listed,
    },
    forms::EventRow,
};

pub(super) fn page(list: &Listed<EventRow>, now: Timestamp) -> Markup {
    let older = list.rows.last().map(|last| Place::Events { before: Some(last.id) });
    let rest = html! { @if let Some(older) = &older { (link(older, "older ones")) } };
    html! {
        h1 { "Events" }
        @if list.rows.is_empty() { p { "None here. " (link(&Place::Events { before: None }, "The newest events")) } }
        @else { (parts::events("events", list, rest, now)) }
    }
}
