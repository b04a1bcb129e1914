//! A ceremony's two ways over the network: what is in force comes, what was agreed on goes. The server is not believed:
//! what comes must follow, root by root, from one that is known here.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;
use sigstore_tuf::TrustedMetadataSet;
use tern_protocol::{ids::FleetId, tuf};

use super::super::{client::Client, keys::Keys, output::Printer};
use super::folder::Folder;
use crate::{
    ceremony::{
        signing::{Envelope, Papers, Sheets, verify_targets},
        trust::RootTrust,
    },
    disk::{self, Access},
    forms::trust::{TrustNow, TrustPublished, TrustUpload},
    repository::chain,
};

const PATH: &str = "/api/v1/trust/metadata";
const MAX_BYTES: u64 = 1 << 20;

pub(super) async fn publish(
    folder: &Folder,
    keys: &Keys<'_>,
    client: &Client,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let papers = Papers::read(&folder.sheets()?)?;
    papers.verify(printer.now())?;
    let value = |envelope: &Envelope| serde_json::to_value(envelope).context("a paper as JSON");
    let upload = TrustUpload {
        root: papers.next_root.as_ref().map(|root| value(&root.envelope)).transpose()?,
        targets: papers.next_targets.as_ref().map(|targets| value(&targets.envelope)).transpose()?,
    };
    let published: TrustPublished = client.put(PATH, serde_json::to_vec(&upload)?).await?;
    let (root, targets) = (papers.coming_root(), papers.coming_targets());
    let (root, targets) = root.zip(targets).context("invariant: verified papers are whole")?;
    folder.settle(&root.envelope.to_bytes(), &targets.envelope.to_bytes())?;
    let now: TrustNow = client.get(PATH).await?;
    remember(keys, &now.fleet, &root.envelope.to_bytes())?;
    printer.result(&published, |p| {
        let (root, targets) = (published.root_version, published.targets_version);
        p.line(&format!("in force: root {root}, targets {targets}"))?;
        for role in &published.roles_to_sign_again {
            p.note(&format!(
                "warning: the list of {role} does not count until its new keys sign it again, see `tern model sign`: devices \
                 keep what they run, and install nothing of it"
            ))?;
        }
        if published.solo {
            p.note("warning: keys that lie on the server still suffice for root or targets, which is unsafe")?;
        }
        if published.useless_keys.is_empty() {
            return Ok(());
        }
        p.line("these files in the server's data folder count for nothing any more; delete them there:")?;
        published.useless_keys.iter().try_for_each(|file| p.line(&format!("  {file}")))
    })
}

pub(super) async fn fetch(
    folder: &Folder,
    keys: &Keys<'_>,
    client: &Client,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let now: TrustNow = client.get(PATH).await?;
    let there = if folder.0.is_dir() { folder.sheets()?.root } else { None };
    let known = match there {
        Some(root) => Some(root),
        None => known_root(keys, &now.fleet).and_then(|file| disk::read(&file, MAX_BYTES).transpose()).transpose()?,
    };
    let root = follow(known.as_deref(), &now.roots)?;
    let targets = serde_json::to_vec(&now.targets)?;
    // An expired list is fetched too: how else could it be made anew.
    verify_targets(&root, &targets, jiff::Timestamp::UNIX_EPOCH)
        .map_err(|e| anyhow::anyhow!(chain(&e)))
        .context("the targets that the server shows do not verify under its root: it lies, or is broken")?;
    disk::create_folder(&folder.0).with_context(|| format!("make {}", folder.0.display()))?;
    folder.settle(root.root_bytes(), &targets)?;
    remember(keys, &now.fleet, root.root_bytes())?;
    let sheets = Sheets { root: Some(root.root_bytes().to_vec()), targets: Some(targets), ..Sheets::default() };
    let papers = Papers::read(&sheets)?;
    let versions = papers.root.zip(papers.targets).map(|(r, t)| (r.content, t.content.1.version));
    let ((trust, edition), targets) = versions.context("invariant: both were given")?;
    printer.step(&format!("root {} and targets {targets} of fleet {}", edition.version, now.fleet))?;
    if known.is_some() {
        return printer.step("they follow from the root that was known here");
    }
    unverified(&trust, folder, keys, printer)
}

fn unverified(trust: &RootTrust, folder: &Folder, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let names = folder.names(keys)?;
    let shown: Vec<_> = trust.root.keys.keys().map(|id| names.show(id)).collect();
    printer.note(&format!(
        "warning: no root was known here, so this one is the server's word: compare its keys with what their holders say: {}",
        shown.join(", ")
    ))
}

/// The newest of `roots`, reached from `known` by the rules of devices.
fn follow(known: Option<&[u8]>, roots: &[Value]) -> anyhow::Result<TrustedMetadataSet> {
    tuf::install_provider();
    let told = |e: sigstore_tuf::Error| anyhow::anyhow!(chain(&e));
    let lies = "the roots that the server shows do not follow from the one known here: it lies, or is another fleet's";
    let bytes = roots.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
    let first = known.or(bytes.first().map(Vec::as_slice)).context("the server shows no root")?;
    let mut trusted = TrustedMetadataSet::from_root(first).map_err(told).context("the root known here")?;
    let signed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map(|mut value| value["signed"].take());
    let mut met = false;
    for root in &bytes {
        let version = signed(root)?["version"].as_u64().context("a root without a version")?;
        if version > trusted.root().version {
            trusted.update_root(root).map_err(told).context(lies)?;
        } else if version == trusted.root().version {
            ensure!(signed(root)? == signed(trusted.root_bytes())?, "{lies}");
            met = true;
        }
    }
    ensure!(met, "{lies}");
    Ok(trusted)
}

fn known_root(keys: &Keys<'_>, fleet: &FleetId) -> Option<PathBuf> {
    let folder = keys.store().ok()?.parent()?;
    Some(folder.join(format!("root-{fleet}.json")))
}

fn remember(keys: &Keys<'_>, fleet: &FleetId, root: &[u8]) -> anyhow::Result<()> {
    let Some(file) = known_root(keys, fleet) else { return Ok(()) };
    disk::write(&file, root, Access::Public).with_context(|| format!("write {}", file.display()))
}
