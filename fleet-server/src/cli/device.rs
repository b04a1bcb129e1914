//! `tern device enroll`, `list`, `show`, `revoke` and `reidentify`.

use std::{collections::BTreeMap, time::Duration};

use tern_protocol::{ids::DeviceId, twin::ModelTwin};

use super::{args::Enroll, client::Client, output::Printer, telemetry};
use crate::{
    devices::{Refusal, foremost},
    forms::{DeviceRow, EnrolmentOrder, EnrolmentTicket, Page, Reidentification, Revocation, Revoked},
    wording::{count, state},
};

pub(super) async fn enroll(client: &Client, order: Enroll, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut labels = BTreeMap::new();
    for (key, value) in order.labels {
        anyhow::ensure!(labels.insert(key.clone(), value).is_none(), "label {key} is given twice");
    }
    let form = EnrolmentOrder { device: order.device, labels, valid_seconds: order.valid.as_secs() };
    let route = if order.replace { "/api/v1/enrolments?replace=true" } else { "/api/v1/enrolments" };
    let ticket: EnrolmentTicket = client.post(route, &form).await?;
    show_ticket(&form.device, &ticket, printer)
}

fn show_ticket(device: &DeviceId, ticket: &EnrolmentTicket, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    printer.result(ticket, |p| {
        let when = p.when(ticket.expires);
        p.note(&format!("run this on {device} ({when} at the latest); it is shown only once:"))?;
        p.line(&ticket.command)
    })
}

pub(super) async fn revoke(
    client: &Client,
    device: &DeviceId,
    reason: String,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let revoked: Revoked = client.post(&format!("/api/v1/devices/{device}/revoke"), &Revocation { reason }).await?;
    printer.result(&revoked, |p| {
        let voided = count(revoked.orders_voided, "open order");
        if revoked.never_enrolled {
            return p.line(&format!("{device} was never enrolled; {voided} let nobody in any more"));
        }
        let (by, since) = (&revoked.barred.by, p.when(revoked.barred.since));
        p.line(&format!("{device} is revoked since {since}, by {by}: {}", revoked.barred.reason))?;
        if revoked.orders_voided > 0 {
            p.line(&format!("{voided} let nobody in any more"))?;
        }
        p.line(&format!("{} cut", count(revoked.connections_cut, "connection")))
    })
}

pub(super) async fn reidentify(
    client: &Client,
    device: &DeviceId,
    reason: String,
    valid: Duration,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let form = Reidentification { reason, valid_seconds: valid.as_secs() };
    let ticket: EnrolmentTicket = client.post(&format!("/api/v1/devices/{device}/reidentify"), &form).await?;
    show_ticket(device, &ticket, printer)
}

pub(super) async fn list(client: &Client, selector: Option<&str>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let query: Vec<_> = selector.map(|text| ("selector", text)).into_iter().collect();
    let items: Vec<DeviceRow> = client.list("/api/v1/devices", &query).await?;
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|device| row(device, p)).collect();
        let header = ["DEVICE", "CLASS", "ONLINE", "SEEN", "MODELS", "GENERATION", "LAST ERROR"];
        let empty =
            if selector.is_some() { "no device matches" } else { "no devices: enrol one with `tern device enroll`" };
        p.table(&header, rows, empty)
    })
}

/// `yes`, `no`, or why it cannot be.
fn online(device: &DeviceRow) -> &'static str {
    match device.kept_out() {
        Some((what, _)) => what,
        None if device.online => "yes",
        None => "no",
    }
}

fn row(device: &DeviceRow, printer: &Printer<'_>) -> Vec<String> {
    let models: Vec<_> = device.models.iter().map(model).collect();
    vec![
        device.device.to_string(),
        device.device_class.to_string(),
        online(device).into(),
        device.last_seen.map_or_else(|| "never".into(), |seen| printer.when(seen)),
        if models.is_empty() { "-".into() } else { models.join(", ") },
        generation(device),
        foremost(device.refusals()).map_or_else(|| "-".into(), in_short),
    ]
}

/// `meter-digits 1.0.0 committed`, with what is demanded instead where it differs.
fn model(model: &ModelTwin) -> String {
    let version = model.version.as_ref().map_or_else(|| "none".into(), ToString::to_string);
    let demanded = model.desired.as_ref().filter(|desired| Some(*desired) != model.version.as_ref());
    let demanded = demanded.map(|desired| format!(" (wanted {desired})")).unwrap_or_default();
    format!("{} {version} {}{demanded}", model.model.model, state(model.state))
}

fn generation(device: &DeviceRow) -> String {
    if device.generation == device.desired_generation {
        device.generation.to_string()
    } else {
        format!("{} -> {}", device.generation, device.desired_generation)
    }
}

/// The code; one that is past says so.
fn in_short(refusal: Refusal<'_>) -> String {
    if refusal.stands { refusal.error.code.to_string() } else { format!("{} (past)", refusal.error.code) }
}

pub(super) async fn show(client: &Client, device: &DeviceId, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let row: DeviceRow = client.get(&format!("/api/v1/devices/{device}")).await?;
    // For programs `tern device figures` is the place: this form is the server's, as it is.
    let figures = if printer.is_json() { None } else { telemetry::if_served(client, device).await? };
    printer.result(&row, |p| {
        let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let desired: Vec<_> = row.desired.iter().map(ToString::to_string).collect();
        p.facts(&[
            ("device", row.device.to_string()),
            ("class", row.device_class.to_string()),
            ("labels", labels.join(", ")),
            ("online", online(&row).into()),
            ("seen", row.last_seen.map_or_else(|| "never".into(), |seen| p.when(seen))),
            ("agent", row.agent_version.clone()),
            ("generation", generation(&row)),
            ("wanted", if desired.is_empty() { "nothing".into() } else { desired.join(", ") }),
            ("certificate", format!("ends {}", p.when(row.certificate_expires))),
        ])?;
        if let Some((what, barred)) = row.kept_out() {
            p.line(&format!("{what} since {}, by {}: {}", p.when(barred.since), barred.by, barred.reason))?;
        }
        let models = row.models.iter().map(|m| vec![model(m), m.generation.to_string(), p.when(m.since)]).collect();
        p.line("")?;
        p.table(&["MODEL", "GENERATION", "SINCE"], models, "no models")?;
        if let Some(figures) = figures {
            p.line("")?;
            telemetry::table(&figures, p)?;
        }
        row.refusals().try_for_each(|refusal| {
            let (error, past) = (refusal.error, if refusal.stands { "" } else { ", past" });
            let version = error.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
            let generation = error.generation;
            let when = p.when(error.at);
            p.line(&format!(
                "refused{version} (generation {generation}, {when}{past}): {}: {}",
                error.code, error.message
            ))
        })
    })
}
