//! `tern device figures` and `tern device quarantine`: what devices have reported, and what could not be used of it.

use tern_protocol::ids::{DeviceId, ModelName};

use super::{
    client::{CallError, Client},
    output::Printer,
};
use crate::{
    forms::{FiguresRow, Page, QuarantineRow},
    wording::size,
};

const HEADER: [&str; 9] = ["DEVICE", "MODEL", "ROWS", "ERRORS", "LABELS", "ACCURACY", "ESTIMATED", "P95", "UPDATED"];

/// The figures of a device, of a model, or of all.
pub(super) async fn of(
    client: &Client,
    device: Option<&DeviceId>,
    model: Option<&ModelName>,
) -> anyhow::Result<Page<FiguresRow>> {
    let (device, model) = (device.map(ToString::to_string), model.map(ToString::to_string));
    let named = [("device", device.as_deref()), ("model", model.as_deref())];
    let query: Vec<_> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Ok(Page { items: client.list("/api/v1/figures", &query).await?, next: None })
}

/// The figures of a device, where it has any and the server is not older than they are.
pub(super) async fn if_served(client: &Client, device: &DeviceId) -> anyhow::Result<Option<Page<FiguresRow>>> {
    match of(client, Some(device), None).await {
        Ok(page) => Ok(Some(page).filter(|page| !page.items.is_empty())),
        Err(error) if error.downcast_ref::<CallError>().is_some_and(|e| e.is("not-found")) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table of figures.
pub(super) fn table(page: &Page<FiguresRow>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let rows = page.items.iter().map(|figures| row(figures, printer)).collect();
    printer.table(&HEADER, rows, "no figures: devices report them as they serve")
}

pub(super) async fn figures(
    client: &Client,
    device: Option<&DeviceId>,
    model: Option<&ModelName>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let page = of(client, device, model).await?;
    printer.result(&page, |p| table(&page, p))
}

fn row(figures: &FiguresRow, printer: &Printer<'_>) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![
        figures.device.to_string(),
        figures.model.to_string(),
        figures.rows.to_string(),
        figures.errors.to_string(),
        figures.labels.to_string(),
        or_dash(figures.accuracy.map(percent)),
        or_dash(figures.estimated.map(|e| format!("{} ± {:.1}", percent(e.accuracy), e.sd * 100.0))),
        or_dash(figures.p95_ms.map(|p95| format!("{p95:.2} ms"))),
        printer.when(figures.updated),
    ]
}

pub(super) async fn quarantine(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut items: Vec<QuarantineRow> = Vec::new();
    client.pages("/api/v1/quarantine", &[], "after", |page: Vec<QuarantineRow>| items.extend(page)).await?;
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|kept| kept_row(kept, p)).collect();
        p.table(
            &["ID", "DEVICE", "CODE", "RECEIVED", "TIMES", "ROW", "SIZE", "MESSAGE"],
            rows,
            "nothing is in quarantine",
        )
    })
}

fn kept_row(kept: &QuarantineRow, printer: &Printer<'_>) -> Vec<String> {
    vec![
        kept.id.to_string(),
        kept.device.to_string(),
        kept.code.clone(),
        printer.when(kept.received),
        kept.times.to_string(),
        kept.sequence.map_or_else(|| "-".into(), |sequence| sequence.to_string()),
        size(kept.bytes),
        kept.message.clone(),
    ]
}
