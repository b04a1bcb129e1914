//! `tern device claim`: a list of serial numbers becomes one token that turns each of these machines into its device, once.

use std::path::Path;

use anyhow::{Context, anyhow};
use tern_protocol::ids::{LabelKey, LabelValue};

use super::{args::Claim, client::Client, output::Printer};
use crate::{
    disk,
    enrolment::serials,
    forms::{ClaimOrder, ClaimTicket, ClaimedDevice},
    wording::count,
};

/// Longest list, in bytes.
const MAX_BYTES: u64 = 1 << 20;

pub(super) async fn claim(client: &Client, order: Claim, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let devices = read(&order.serials, &order.labels)?;
    let form = ClaimOrder { devices, valid_seconds: order.valid.as_secs() };
    let ticket: ClaimTicket = client.post("/api/v1/claims", &form).await?;
    printer.result(&ticket, |p| {
        let (machines, when) = (count(ticket.devices, "machine"), p.when(ticket.expires));
        p.note(&format!(
            "run this on each of the {machines}, with its own serial ({when} at the latest); it is shown only once:"
        ))?;
        p.line(&ticket.command)
    })
}

fn read(file: &Path, labels: &[(LabelKey, LabelValue)]) -> anyhow::Result<Vec<ClaimedDevice>> {
    let name = file.display();
    let bytes = disk::read(file, MAX_BYTES)?.with_context(|| format!("{name} is missing"))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{name} is not UTF-8"))?;
    serials::parse(text.trim_start_matches('\u{feff}'), labels).with_context(|| format!("read {name}"))
}
