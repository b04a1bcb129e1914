//! `tern accesses`: who read what, and who was refused.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tern_protocol::ids::{DeviceId, ModelName};

use super::{
    args,
    client::{Client, with_query},
    output::Printer,
};
use crate::forms::{AccessRow, Page};

/// Rows of a page.
const PAGE_ROWS: usize = 1000;

/// Which accesses to show.
#[derive(Debug, Args)]
pub(super) struct Accesses {
    /// Of this device only
    #[arg(long)]
    pub device: Option<DeviceId>,
    /// Of this token or device only; - for callers without a name
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// To this model only: team/model
    #[arg(long)]
    pub model: Option<ModelName>,
    /// Not older than this: a number and s, m, h or d
    #[arg(long, value_name = "AGE", value_parser = args::age)]
    pub since: Option<Duration>,
    /// Only the newest so many of them
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub last: u32,
}

pub(super) async fn run(client: &Client, order: Accesses, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let since =
        order.since.map(|age| printer.now().checked_sub(age).context("--since is before all time")).transpose()?;
    let named = [
        ("device", order.device.map(|device| device.to_string())),
        ("actor", order.actor),
        ("model", order.model.map(|model| model.to_string())),
        ("since", since.map(|since| since.to_string())),
    ];
    let query: Vec<_> = named.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let (mut items, mut before): (Vec<AccessRow>, _) = (Vec::new(), i64::MAX.to_string());
    let most = order.last as usize;
    while items.len() < most {
        let limit = (most - items.len()).min(PAGE_ROWS).to_string();
        let paging = [("before", before.as_str()), ("limit", &limit)];
        let path = with_query("/api/v1/accesses", &[&query[..], &paging].concat());
        let page: Page<AccessRow> = client.get(&path).await?;
        items.extend(page.items);
        match page.next {
            Some(next) if next != before => before = next,
            _ => break,
        }
    }
    items.truncate(most);
    // Newest first from the server, oldest first for people.
    items.reverse();
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|access| row(access, p)).collect();
        p.table(&["ID", "AT", "WHO", "WHAT", "OF", "WHY", "OUTCOME", "TIMES"], rows, "no accesses")
    })
}

fn row(access: &AccessRow, printer: &Printer<'_>) -> Vec<String> {
    let version = access.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
    let of = access.model.as_ref().map(|model| format!(" ({model}{version})")).unwrap_or_default();
    let is_named = access.model.as_ref().is_some_and(|model| access.resource.starts_with(&model.to_string()));
    vec![
        access.id.to_string(),
        printer.when(access.at),
        format!("{} {} {}", access.kind, access.actor, access.address).trim_end().into(),
        access.action.clone(),
        format!("{}{}", access.resource, if is_named { "" } else { &of }),
        access.reason.clone(),
        if access.code.is_empty() { access.outcome.clone() } else { format!("{}: {}", access.outcome, access.code) },
        access.times.to_string(),
    ]
}
