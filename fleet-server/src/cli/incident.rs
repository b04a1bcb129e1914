//! `tern incident list`, `show`, `ack` and `mute`.

use super::{args::Incident, client::Client, output::Printer};
use crate::forms::{
    Page,
    incident::{Acknowledgement, Action, Evidence, IncidentRow, Mute},
};

pub(super) async fn run(client: &Client, order: Incident, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match order {
        Incident::List { all } => list(client, all, printer).await,
        Incident::Show { number } => {
            let row: IncidentRow = client.get(&format!("/api/v1/incidents/{number}")).await?;
            printer.result(&row, |p| show(&row, p))
        }
        Incident::Ack { number, reason } => {
            let form = Acknowledgement { reason };
            let row: IncidentRow = client.post(&format!("/api/v1/incidents/{number}/acknowledge"), &form).await?;
            printer.result(&row, |p| p.line(&format!("incident {number} acknowledged")))
        }
        Incident::Mute { number, hours, reason } => {
            let form = Mute { reason, hours };
            let row: IncidentRow = client.post(&format!("/api/v1/incidents/{number}/mute"), &form).await?;
            printer.result(&row, |p| p.line(&format!("incident {number} muted for {hours} h: its hooks keep quiet")))
        }
    }
}

async fn list(client: &Client, all: bool, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let query: &[_] = if all { &[] } else { &[("state", "open")] };
    let items: Vec<IncidentRow> = client.list("/api/v1/incidents", query).await?;
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|row| line(row, p)).collect();
        // Detectors see what their profiles let them: silence is no proof.
        let empty =
            if all { "no incidents" } else { "no open incidents; that is not proof of none: see each model's MDE" };
        p.table(&["NUMBER", "SEVERITY", "KIND", "STATE", "SINCE", "MODEL", "WHAT"], rows, empty)
    })
}

fn line(row: &IncidentRow, printer: &Printer<'_>) -> Vec<String> {
    vec![
        row.number.to_string(),
        row.severity.as_str().into(),
        row.kind.as_str().into(),
        row.state.clone(),
        printer.when(row.since),
        row.model.to_string(),
        row.summary.clone(),
    ]
}

fn show(row: &IncidentRow, p: &mut Printer<'_>) -> anyhow::Result<()> {
    let names = |names: Vec<String>| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let resolved = row.resolved.map(|at| {
        let why = row.resolution.map_or("", |why| why.says());
        format!("{} ({why})", p.when(at))
    });
    let muted = row.muted_until.map(|until| {
        let by = row.muted_by.as_deref().unwrap_or("-");
        format!("until {until} by {by}: {}", row.mute_reason.as_deref().unwrap_or("-"))
    });
    p.facts(&[
        ("incident", row.number.to_string()),
        ("kind", format!("{}: {}", row.kind.as_str(), row.kind.says())),
        ("severity", format!("{}: {}", row.severity.as_str(), row.severity.says())),
        ("state", row.state.clone()),
        ("model", row.model.to_string()),
        ("what", row.summary.clone()),
        ("cause", row.cause.says().into()),
        ("devices", names(row.devices.iter().map(ToString::to_string).collect())),
        ("features", names(row.features.clone())),
        ("since", p.when(row.since)),
        ("opened", p.when(row.opened)),
        ("updated", p.when(row.updated)),
        ("resolved", resolved.unwrap_or_else(|| "-".into())),
        ("seen by", row.acknowledged_by.clone().unwrap_or_else(|| "nobody".into())),
        ("muted", muted.unwrap_or_else(|| "no".into())),
    ])?;
    p.line("")?;
    let evidence = row.evidence.iter().map(|piece| proof(piece, p)).collect();
    p.table(&["DETECTOR", "DEVICE", "FEATURE", "MEASURE", "STRENGTH", "SHARE", "SEEN"], evidence, "no evidence")?;
    if row.actions.is_empty() {
        return Ok(());
    }
    p.line("")?;
    let actions = row.actions.iter().map(|action| done(action, p)).collect();
    p.table(&["HOOK", "OCCASION", "STATE", "TRIES", "AT", "DETAIL"], actions, "")
}

fn proof(piece: &Evidence, printer: &Printer<'_>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let direction = piece.direction.map_or("", |way| match way {
        tern_stats::step::Direction::Up => " up",
        tern_stats::step::Direction::Down => " down",
    });
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let share = piece.share.map(|share| match (piece.limit, piece.of) {
        (Some(limit), Some(of)) => format!("{} of {of}, at most {}", percent(share), percent(limit)),
        (None, Some(of)) => format!("{} of {of}", percent(share)),
        _ => percent(share),
    });
    vec![
        piece.layer.as_str().into(),
        or_dash(piece.device.as_ref().map(ToString::to_string)),
        or_dash(piece.feature.clone()),
        format!("{}{direction}", piece.measure),
        or_dash(piece.strength.map(|strength| format!("10^{strength:.1}"))),
        or_dash(share),
        printer.when(piece.at),
    ]
}

fn done(action: &Action, printer: &Printer<'_>) -> Vec<String> {
    vec![
        action.hook.clone(),
        action.occasion.clone(),
        action.state.clone(),
        action.attempts.to_string(),
        printer.when(action.at),
        if action.detail.is_empty() { "-".into() } else { action.detail.clone() },
    ]
}
