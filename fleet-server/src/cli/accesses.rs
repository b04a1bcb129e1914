//! `tern accesses`: who read what, and who was refused.

use std::{collections::VecDeque, time::Duration};

use anyhow::Context;
use clap::Args;
use tern_protocol::ids::{DeviceId, ModelName};

use super::{args, client::Client, output::Printer};
use crate::forms::{AccessRow, Page};

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
    // The server lists from the oldest, people want the newest: only so many are kept on the way.
    let (mut newest, keep) = (VecDeque::new(), order.last as usize);
    client
        .pages("/api/v1/accesses", &query, "after", |page: Vec<AccessRow>| {
            newest.extend(page);
            newest.drain(..newest.len().saturating_sub(keep));
        })
        .await?;
    let page = Page { items: Vec::from(newest), next: None };
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
