//! `tern device rescue`: the ticket that gives new floors to a device, signed by holders of root's keys.
//!
//! The floors are what the server publishes now and the generation that it demands of the device. Whoever signs sees them
//! first: a server that understates them could lead the device back to what it has seen since. Root's keys sign here and go
//! nowhere.

use anyhow::{Context, bail, ensure};
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;
use tern_protocol::{
    keys::SigningKey,
    rescue::{FORMAT, RescueTicket},
    signed::{self, Document},
};

use super::{args::Rescue, client::Client, keys::Keys, output::Printer};
use crate::{
    disk::{self, Access},
    forms::{DeviceRow, TrustVersions, WhoAmI},
};

/// What came of it.
#[derive(Debug, Serialize)]
struct Made {
    ticket: RescueTicket,
    signatures: usize,
    /// How many root wants; not known where no server was asked.
    threshold: Option<usize>,
    file: String,
}

pub(super) async fn run(
    client: impl FnOnce() -> anyhow::Result<Client>,
    order: &Rescue,
    keys: &Keys<'_>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let held = keys.open(&order.keys)?;
    let held: Vec<&SigningKey> = held.iter().collect();
    let (bytes, threshold) = match &order.add {
        Some(file) => {
            let read = disk::read(file, RescueTicket::MAX_BYTES as u64)?;
            let bytes = read.with_context(|| format!("{} does not exist", file.display()))?;
            let ticket = ticket(&bytes)?;
            let (device, nonce) = (&ticket.device, &ticket.nonce);
            ensure!(*device == order.device, "this ticket is for device {device}, not for {}", order.device);
            ensure!(*nonce == order.nonce, "this ticket answers nonce {nonce}, not {}", order.nonce);
            (signed::countersign::<RescueTicket>(&bytes, &held)?, None)
        }
        None => {
            let client = client()?;
            let known: TrustVersions = client.get("/api/v1/trust").await?;
            let ticket = floors(&client, order, &known, printer).await?;
            (signed::sign(&ticket, &held)?, Some(known.root_threshold))
        }
    };
    let usual = || order.add.clone().unwrap_or_else(|| format!("{}.ticket", order.device).into());
    let file = order.out.clone().unwrap_or_else(usual);
    disk::write(&file, &bytes, Access::Public).with_context(|| format!("write {}", file.display()))?;
    let made = Made { ticket: ticket(&bytes)?, signatures: count(&bytes), threshold, file: file.display().to_string() };
    show(&made, printer)
}

/// The ticket's floors, as the server publishes them.
async fn floors(
    client: &Client,
    order: &Rescue,
    known: &TrustVersions,
    printer: &Printer<'_>,
) -> anyhow::Result<RescueTicket> {
    let row: DeviceRow = client.get(&format!("/api/v1/devices/{}", order.device)).await?;
    let server: WhoAmI = client.get("/api/v1/whoami").await?;
    let issued = crate::director::whole_seconds(printer.now());
    let expires = issued + SignedDuration::try_from(order.valid).context("the time that the ticket is good for")?;
    let ticket = RescueTicket {
        format: FORMAT,
        fleet: server.fleet,
        device: order.device.clone(),
        nonce: order.nonce.clone(),
        issued,
        expires,
        generation: row.desired_generation,
        roles: known.roles.clone(),
    };
    if let Some(role) = ticket.unfloored() {
        bail!(
            "the server names no version of {role}, so nothing was signed: a ticket without that floor is a way back"
        );
    }
    Ok(ticket)
}

/// What a ticket says; its signatures are for the device to judge.
fn ticket(bytes: &[u8]) -> anyhow::Result<RescueTicket> {
    let envelope: Value = serde_json::from_slice(bytes).context("this is no rescue ticket")?;
    ensure!(envelope["signed"]["_type"] == RescueTicket::TYPE, "this is no rescue ticket");
    let ticket: RescueTicket =
        serde_json::from_value(envelope["signed"].clone()).context("this is no rescue ticket")?;
    ensure!(ticket.format == FORMAT, "this ticket has format {}: update `tern`", ticket.format);
    Ok(ticket)
}

fn count(bytes: &[u8]) -> usize {
    let envelope: Value = serde_json::from_slice(bytes).unwrap_or_default();
    envelope["signatures"].as_array().map_or(0, Vec::len)
}

fn show(made: &Made, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    printer.result(made, |p| {
        let ticket = &made.ticket;
        let roles: Vec<_> = ticket.roles.iter().map(|(role, version)| format!("{role} {version}")).collect();
        let wanted = made.threshold.map_or_else(String::new, |n| format!(" of {n}"));
        p.facts(&[
            ("device", format!("{} in fleet {}", ticket.device, ticket.fleet)),
            ("nonce", ticket.nonce.clone()),
            ("good until", p.when(ticket.expires)),
            ("generation", format!("from {} on", ticket.generation)),
            ("roles from", roles.join(", ")),
            ("signatures", format!("{}{wanted}", made.signatures)),
            ("file", made.file.clone()),
        ])?;
        if made.threshold.is_some_and(|n| made.signatures < n) {
            let (device, nonce, file) = (&ticket.device, &ticket.nonce, &made.file);
            return p.note(&format!(
                "not enough yet: give the file to another holder of a root key for\n  \
                 tern device rescue {device} --nonce {nonce} --add {file} --key FILE"
            ));
        }
        p.note(&format!("then on the device: tern-agent rescue --ticket {}", made.file))
    })
}
