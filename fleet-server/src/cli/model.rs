//! `tern model list` and `show`.

use tern_protocol::{
    ids::{ModelName, ModelVersion},
    manifest::Manifest,
};

use super::{client::Client, output::Printer};
use crate::{
    forms::{Page, VersionDetail, VersionRow},
    wording::{count, size},
};

pub(super) async fn list(client: &Client, model: Option<&ModelName>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let path = match model {
        Some(name) => format!("/api/v1/models/{name}"),
        None => "/api/v1/models".into(),
    };
    let items: Vec<VersionRow> = client.list(&path, &[]).await?;
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|v| row(v, p)).collect();
        let header = ["MODEL", "VERSION", "SIGNED", "DEVICES", "SIZE", "PUBLISHED", "BY", "MANIFEST"];
        p.table(&header, rows, "no versions: publish one with `tern model publish`")
    })
}

fn row(version: &VersionRow, printer: &Printer<'_>) -> Vec<String> {
    vec![
        version.model.name.to_string(),
        version.model.version.to_string(),
        standing(version),
        version.devices.to_string(),
        size(version.bytes.0),
        printer.when(version.published),
        version.published_by.clone(),
        version.manifest.to_string()[..12].to_owned(),
    ]
}

/// Whether it may run, in a word.
fn standing(version: &VersionRow) -> String {
    match version {
        VersionRow { recalled: Some(_), .. } => "recalled",
        VersionRow { floor: Some(_), .. } => "below floor",
        VersionRow { signed: true, .. } => "yes",
        VersionRow { candidate: true, .. } => "candidate",
        _ => "no",
    }
    .into()
}

/// The same with what follows from it.
fn signed(version: &VersionRow) -> String {
    match version {
        VersionRow { recalled: Some(why), .. } => format!("recalled, it may run no more: {why}"),
        VersionRow { floor: Some(floor), .. } => format!("it lies below the floor {floor}, it may run no more"),
        VersionRow { signed: true, .. } => "yes".into(),
        VersionRow { candidate: true, .. } => "as a candidate: devices that take candidates run it".into(),
        _ => "no: it cannot be assigned".into(),
    }
}

pub(super) async fn show(client: &Client, model: &ModelVersion, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let detail: VersionDetail = client.get(&format!("/api/v1/models/{}/{}", model.name, model.version)).await?;
    printer.result(&detail, |p| {
        let version = &detail.row;
        p.facts(&[
            ("model", version.model.to_string()),
            ("manifest", version.manifest.to_string()),
            ("signed", signed(version)),
            ("published", format!("{} by {}", p.when(version.published), version.published_by)),
            ("devices", version.devices.to_string()),
            ("size", size(version.bytes.0)),
        ])?;
        // A manifest of a later format is shown by `--output json` only.
        match serde_json::from_value::<Manifest>(detail.manifest_json.clone()) {
            Ok(manifest) => facts(&manifest, p),
            Err(_) => {
                p.note("this manifest is of a form that this tern does not know: see --output json, or update tern")
            }
        }
    })
}

fn facts(manifest: &Manifest, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let side = |tensors: &[tern_protocol::contract::TensorContract]| {
        let told: Vec<_> = tensors.iter().map(|t| format!("{} {} {:?}", t.name, t.datatype.name(), t.shape)).collect();
        told.join(", ")
    };
    let classes: Vec<_> = manifest.device_classes.iter().map(ToString::to_string).collect();
    let golden = manifest.golden_sets().map_or(0, |sets| sets.len());
    let mut facts = vec![
        ("inputs", side(&manifest.contract.inputs)),
        ("outputs", side(&manifest.contract.outputs)),
        ("classes", if classes.is_empty() { "all".into() } else { classes.join(", ") }),
        ("needs agent", manifest.minimum_agent.to_string()),
        ("files", format!("{}, {}", count(manifest.files.len(), "file"), count(golden, "golden vector"))),
        ("data", manifest.training.data_origin.clone()),
    ];
    facts.extend(manifest.parent.as_ref().map(|parent| ("parent", parent.to_string())));
    let metrics: Vec<_> = manifest.training.metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    facts.push(("metrics", metrics.join(", ")));
    facts.retain(|(_, value)| !value.is_empty());
    printer.facts(&facts)
}
