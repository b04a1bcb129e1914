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
use serde::{Serialize, de::IgnoredAny};
use tern_protocol::{api::blob_path, digest::Digest, ids::ModelVersion, keys::SigningKey, signed};

use super::{
    args::Publish,
    client::{CallError, Client},
    config::{Environment, Settings},
    keys,
    output::Printer,
    record::Record,
    upload::Outgoing,
    versions::{self, Step, Target, Vouchers},
};
use crate::{
    bundle::{self, Blob, Bundle},
    forms::{ManifestStored, TeamMetadata},
    wording::{count, size},
};

/// How often the list is signed anew when another publisher was faster.
const TRIES: usize = 5;
/// How often blobs are asked for again: more than once only where something removes them meanwhile.
const ROUNDS: usize = 3;

/// The result for programs.
#[derive(Debug, Serialize)]
struct Published {
    model: ModelVersion,
    manifest: Digest,
    uploaded_blobs: usize,
    uploaded_bytes: u64,
    /// The version of the team's list that names it first; none where it was listed before.
    list_version: Option<u64>,
}

pub(super) async fn run(
    order: &Publish,
    environment: &Environment,
    settings: &Settings,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let bundle = bundle::read(&order.folder)?;
    let folder = settings.folder.as_deref();
    let keys = keys::load(&order.keys, environment, folder)?;
    let client = Client::new(settings)?;
    let model = bundle.manifest.model.clone();
    let files = count(bundle.manifest.files.len(), "file");
    printer.step(&format!("read {model}: {files}, {}", size(bundle.manifest.total_bytes().0)))?;

    let (uploaded_blobs, uploaded_bytes) = upload_all(&client, &bundle, printer).await?;
    let list_version = list(&client, &bundle, order, &keys, folder, printer).await?;
    let published = Published { model, manifest: bundle.digest(), uploaded_blobs, uploaded_bytes, list_version };
    printer.result(&published, |p| p.line(&format!("published {}, manifest {}", published.model, published.manifest)))
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

/// Puts the version into the team's signed list; gives the list's version where that was needed.
async fn list(
    client: &Client,
    bundle: &Bundle,
    order: &Publish,
    keys: &[SigningKey],
    folder: Option<&std::path::Path>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Option<u64>> {
    let model = bundle.manifest.model.clone();
    let path = format!("/api/v1/teams/{}/metadata", model.name.team);
    let signer = keys.iter().map(|key| key.public().id()).min().context("there is no key to sign with")?;
    let mut record = Record::load(folder, &model.name.team, &signer)?;
    let trusted: Vec<_> = keys.iter().map(SigningKey::public).chain(order.trusted_keys.iter().cloned()).collect();
    let team = model.name.team.clone();
    let target = Target { model, manifest: bundle.digest(), length: bundle.bytes.len() as u64 };
    for _ in 0..TRIES {
        let served: TeamMetadata = client.get(&path).await?;
        let vouchers = Vouchers { record: &record, keys: &trusted, accept_existing: order.accept_existing };
        let next = match versions::next(&served, &target, &vouchers, printer.now())? {
            Step::Listed => {
                printer.step(&format!("team {team} has signed this version already"))?;
                return Ok(None);
            }
            Step::Sign(next) => next,
        };
        record.add(&versions::targets(&next))?;
        let version = next["version"].as_u64();
        let envelope = signed::sign_value(next, &keys.iter().collect::<Vec<_>>())?;
        match client.put::<IgnoredAny>(&path, envelope).await {
            Ok(_) => {
                let signers = count(keys.len(), "key");
                printer
                    .step(&format!("signed version {} of team {team}'s list with {signers}", version.unwrap_or(0)))?;
                return Ok(version);
            }
            Err(error) if error.downcast_ref::<CallError>().is_some_and(|e| e.is("metadata-moved")) => {
                printer.step("someone else published meanwhile: signing again on top of it")?;
            }
            Err(error) => return Err(error),
        }
    }
    bail!("others published at the same moment {TRIES} times: run it again")
}
