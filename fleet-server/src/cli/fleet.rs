//! `tern assign` and `tern events`.

use std::collections::VecDeque;

use tern_protocol::desired::Probation;

use super::{args::Assign, client::Client, output::Printer};
use crate::{
    forms::{Assigned, Assignment, EventRow, Page},
    wording::count,
};

pub(super) async fn assign(client: &Client, order: Assign, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let probation = order
        .probation_inferences
        .zip(order.probation_seconds)
        .map(|(min_inferences, min_seconds)| Probation { min_inferences, min_seconds });
    let form = Assignment { model: order.model, selector: order.to, reason: order.reason, probation };
    let assigned: Assigned = client.post("/api/v1/assignments", &form).await?;
    printer.result(&assigned, |p| {
        let rows = assigned.devices.iter().map(|(device, generation)| vec![device.to_string(), generation.to_string()]);
        p.table(&["DEVICE", "GENERATION"], rows.collect(), "no device matches: nothing was assigned")?;
        p.line(&format!("{} assigned to {}", form.model, count(assigned.devices.len(), "device")))
    })
}

pub(super) async fn events(
    client: &Client,
    after: Option<u64>,
    last: u32,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let after = after.map(|id| id.to_string());
    let query: Vec<_> = after.as_deref().map(|id| ("after", id)).into_iter().collect();
    // The server lists from the oldest, people want the newest: only so many are kept on the way.
    let mut newest = VecDeque::new();
    let keep = last as usize;
    client
        .pages("/api/v1/events", &query, "after", |page: Vec<EventRow>| {
            newest.extend(page);
            newest.drain(..newest.len().saturating_sub(keep));
        })
        .await?;
    let page = Page { items: Vec::from(newest), next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|event| row(event, p)).collect();
        p.table(&["ID", "AT", "KIND", "ACTOR", "DEVICE", "MODEL", "CODE", "MESSAGE"], rows, "no events")
    })
}

fn row(event: &EventRow, printer: &Printer<'_>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into());
    let version = event.version.as_ref().map(|v| format!("@{v}")).unwrap_or_default();
    vec![
        event.id.to_string(),
        printer.when(event.at),
        event.kind.clone(),
        event.actor.clone(),
        or_dash(event.device.as_ref().map(ToString::to_string)),
        or_dash(event.model.as_ref().map(|model| format!("{model}{version}"))),
        or_dash(Some(event.code.clone())),
        event.message.clone(),
    ]
}
