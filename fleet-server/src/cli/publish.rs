//! `tern model publish`: manifest, blobs, the team's signed list.
//!
//! Every step may be repeated, so a publish that was cut short is continued by running it again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tern_protocol::{api::blob_path, digest::Digest, ids::ModelVersion};

use super::{
    args::Publish,
    client::Client,
    config::{Environment, Settings},
    lists::{self, Signer},
    output::Printer,
    upload::Outgoing,
    versions::{Edit, Target},
};
use crate::{
    bundle::{self, Blob, Bundle},
    forms::{ManifestStored, TeamMetadata, proposals::ProposalRow},
    proposals::ProposalState,
    repository::TeamRole,
    wording::{count, size},
};

/// How often blobs are asked for again: more than once only where something removes them meanwhile.
const ROUNDS: usize = 3;

/// The result for programs.
#[derive(Debug, Serialize)]
struct Published {
    model: ModelVersion,
    manifest: Digest,
    uploaded_blobs: usize,
    uploaded_bytes: u64,
    /// The version of the role's list that names it first; none where it was listed before.
    list_version: Option<u64>,
    /// The proposal that waits for more signatures; none where it is published.
    proposal: Option<i64>,
}

pub(super) async fn run(
    order: &Publish,
    environment: &Environment,
    settings: &Settings,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let bundle = bundle::read(&order.folder)?;
    let team = bundle.manifest.model.name.team.clone();
    let role = if order.candidate { TeamRole::candidate(team) } else { TeamRole::release(team) };
    let mut signer = if order.unsigned {
        Signer::without_keys(role)?
    } else {
        Signer::load(&order.signing, role, environment, settings)?
    };
    let client = Client::new(settings)?;
    let model = bundle.manifest.model.clone();
    let files = count(bundle.manifest.files.len(), "file");
    printer.step(&format!("read {model}: {files}, {}", size(bundle.manifest.total_bytes().0)))?;

    let served: TeamMetadata = client.get(&lists::metadata_path(&signer.role)).await?;
    signer.counts(&served)?;
    let (uploaded_blobs, uploaded_bytes) = upload_all(&client, &bundle, printer).await?;
    let listed = list(&client, &mut signer, &bundle, order, printer).await?;
    if let Some(row) = &listed {
        lists::tell(&client, row, &signer, printer).await?;
    }
    let is_draft = listed.as_ref().is_some_and(|row| row.state != ProposalState::Published);
    let published = Published {
        model,
        manifest: bundle.digest(),
        uploaded_blobs,
        uploaded_bytes,
        list_version: listed.as_ref().map(|row| row.version),
        proposal: listed.filter(|_| is_draft).map(|row| row.id),
    };
    let what = if is_draft { "proposed" } else { "published" };
    printer.result(&published, |p| p.line(&format!("{what} {}, manifest {}", published.model, published.manifest)))
}

/// Stores the manifest and every blob that the server lacks; gives their number and bytes.
async fn upload_all(client: &Client, bundle: &Bundle, printer: &mut Printer<'_>) -> anyhow::Result<(usize, u64)> {
    let ModelVersion { name, version } = &bundle.manifest.model;
    let path = format!("/api/v1/manifests/{name}/{version}");
    let mut uploaded = BTreeSet::new();
    for _ in 0..ROUNDS {
        let stored: ManifestStored = client.put(&path, bundle.bytes.clone()).await?;
        ensure!(stored.manifest == bundle.digest(), "the server stored another manifest than was sent: try again");
        let missing: BTreeSet<_> = stored.missing_blobs.into_iter().collect();
        if missing.is_empty() {
            let bytes = uploaded.iter().filter_map(|d| bundle.blobs.get(d)).map(|b| b.length).sum();
            printer.step(&format!("uploaded {}, {}", count(uploaded.len(), "blob"), size(bytes)))?;
            return Ok((uploaded.len(), bytes));
        }
        printer.step(&format!("stored the manifest: {} to upload", count(missing.len(), "blob")))?;
        for (index, digest) in missing.iter().enumerate() {
            let blob = bundle.blobs.get(digest).context("the server asks for a blob that is not in the bundle")?;
            let place = format!("{}/{}", index + 1, missing.len());
            upload(client, digest, blob, &place, printer).await?;
            uploaded.insert(*digest);
        }
    }
    bail!("the server still lacks blobs that it took: see its log")
}

async fn upload(
    client: &Client,
    digest: &Digest,
    blob: &Blob,
    place: &str,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let sent = Arc::new(AtomicU64::new(0));
    let body = Outgoing::file(blob.path.clone(), blob.length, Arc::clone(&sent));
    let path = format!("/api/v1{}", blob_path(digest));
    let upload = client.upload(&path, body, blob.length);
    tokio::pin!(upload);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let result = loop {
        tokio::select! {
            result = &mut upload => break result,
            _ = tick.tick() => {
                let done = size(sent.load(Ordering::Relaxed));
                printer.progress(&format!("blob {place}: {done} of {}", size(blob.length)));
            }
        }
    };
    printer.progress("");
    // A file that changed since it was hashed shows as a refusal of its digest, or as a body that broke off.
    result.with_context(|| format!("uploading {}", blob.path.display()))
}

/// Puts the version into the team's signed list, or proposes that; none where it is listed already.
async fn list(
    client: &Client,
    signer: &mut Signer,
    bundle: &Bundle,
    order: &Publish,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Option<ProposalRow>> {
    let model = bundle.manifest.model.clone();
    if let Some(waits) = lists::waiting(client, signer, |change| change.adds.contains(&model), printer).await? {
        return Ok(Some(waits));
    }
    let reason = order.reason.clone().unwrap_or_else(|| format!("publish {model}"));
    let edit = Edit::List(Target { model, manifest: bundle.digest(), length: bundle.bytes.len() as u64 });
    let made = lists::change(client, signer, &edit, &reason, printer).await?;
    if made.is_none() {
        printer.step(&format!("{}'s list names this version already", signer.role))?;
    }
    Ok(made.map(|made| made.row))
}
