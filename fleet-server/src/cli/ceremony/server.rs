//! A ceremony's two ways over the network: what is in force comes, what was agreed on goes. The server is not believed:
//! what comes must follow, root by root, from one that is known here.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use sigstore_tuf::TrustedMetadataSet;
use tern_protocol::{digest::Digest, ids::FleetId, tuf};

use super::super::{client::Client, keys::Keys, output::Printer};
use super::folder::Folder;
use crate::{
    ceremony::signing::{Envelope, Papers, Sheets, Trouble, verify_targets},
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
    if let Err(trouble) = papers.verify(printer.now()) {
        let Trouble::Unsigned(open) = &trouble else { return Err(trouble.into()) };
        let names = folder.names(keys)?;
        let who: Vec<_> = open.iter().map(|tally| super::in_words(tally, &names)).collect();
        bail!("signatures are missing, so nothing was sent: {}", who.join("; "));
    }
    // What is remembered of this fleet must not become what another fleet's ceremony agreed on.
    let there: TrustNow = client.get(PATH).await?;
    let known = known(folder, keys, &there.fleet)?;
    // After a first ceremony that is the one which was agreed on just now.
    let first = papers.coming_root().filter(|_| known.is_empty()).map(|root| root.envelope.to_bytes());
    reached(&known.into_iter().chain(first).collect::<Vec<_>>(), &there)?;
    let value = |envelope: &Envelope| serde_json::to_value(envelope).context("a paper as JSON");
    let upload = TrustUpload {
        root: papers.next_root.as_ref().map(|root| value(&root.envelope)).transpose()?,
        targets: papers.next_targets.as_ref().map(|targets| value(&targets.envelope)).transpose()?,
    };
    let published: TrustPublished = client.put(PATH, serde_json::to_vec(&upload)?).await?;
    let (root, targets) = (papers.coming_root(), papers.coming_targets());
    let (root, targets) = root.zip(targets).context("invariant: verified papers are whole")?;
    folder.settle(&root.envelope.to_bytes(), &targets.envelope.to_bytes())?;
    remember(keys, &there.fleet, &root.envelope.to_bytes())?;
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

/// A root that the operator trusts, said on the command line.
pub(super) enum Pin {
    /// The SHA-256 of its bytes.
    Digest(Digest),
    /// The file that it lies in.
    File(PathBuf),
}

pub(super) async fn fetch(
    folder: &Folder,
    pin: Option<Pin>,
    discard: bool,
    keys: &Keys<'_>,
    client: &Client,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let now: TrustNow = client.get(PATH).await?;
    let mut known = known(folder, keys, &now.fleet)?;
    known.extend(pin.map(|pin| pinned(&pin, &now.roots)).transpose()?);
    let root = reached(&known, &now)?;
    let targets = serde_json::to_vec(&now.targets)?;
    // An expired list is fetched too: how else could it be made anew.
    verify_targets(&root, &targets, jiff::Timestamp::UNIX_EPOCH)
        .map_err(|e| anyhow::anyhow!(chain(&e)))
        .context("the targets that the server shows do not verify under its root: it lies, or is broken")?;
    disk::create_folder(&folder.0).with_context(|| format!("make {}", folder.0.display()))?;
    let sheets = Sheets { root: Some(root.root_bytes().to_vec()), targets: Some(targets.clone()), ..Sheets::default() };
    let papers = Papers::read(&sheets)?;
    let versions = papers.root.zip(papers.targets).map(|(r, t)| (r.content.1.version, t.content.1.version));
    let versions = versions.context("invariant: both were given")?;
    if !folder.is_spent(versions)? {
        folder.keep_signatures(discard)?;
    }
    folder.settle(root.root_bytes(), &targets)?;
    remember(keys, &now.fleet, root.root_bytes())?;
    let (root, targets) = versions;
    printer.step(&format!("root {root} and targets {targets} of fleet {}", now.fleet))?;
    printer.step("they follow from the root that was known here")
}

/// The roots that are trusted here already: the folder's, and the one that this home remembers of the fleet.
fn known(folder: &Folder, keys: &Keys<'_>, fleet: &FleetId) -> anyhow::Result<Vec<Vec<u8>>> {
    let there = if folder.0.is_dir() { folder.sheets()?.root } else { None };
    let kept = known_root(keys, fleet).and_then(|file| disk::read(&file, MAX_BYTES).transpose()).transpose()?;
    Ok(there.into_iter().chain(kept).collect())
}

/// The root that is pinned; by its digest, it is one of those that the server shows.
fn pinned(pin: &Pin, roots: &[Value]) -> anyhow::Result<Vec<u8>> {
    match pin {
        Pin::File(file) => {
            let bytes = disk::read(file, MAX_BYTES).with_context(|| format!("read {}", file.display()))?;
            bytes.with_context(|| format!("{} is missing: --root names a root.json", file.display()))
        }
        Pin::Digest(digest) => {
            let bytes = roots.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
            bytes.into_iter().find(|bytes| Digest::of(bytes) == *digest).with_context(|| {
                format!("no root that the server shows has the SHA-256 {digest}: it lies, or is another fleet's")
            })
        }
    }
}

/// The newest root that the server shows, if it follows from each of `known`.
fn reached(known: &[Vec<u8>], now: &TrustNow) -> anyhow::Result<TrustedMetadataSet> {
    let mut reached = None;
    for root in known {
        reached = Some(follow(root, &now.roots)?);
    }
    reached.with_context(|| {
        format!(
            "no root of fleet {} is known here, and the server's word alone counts for nothing: name the root that you \
             trust, with --root FILE, a root.json that you signed or have from who did, or with --root-sha256 HEX, which \
             `tern-server adopt` printed, and `sha256sum tuf/metadata/1.root.json` prints in the data folder on the \
             server's own machine",
            now.fleet
        )
    })
}

/// The newest of `roots`, reached from `known` by the rules of devices.
fn follow(known: &[u8], roots: &[Value]) -> anyhow::Result<TrustedMetadataSet> {
    tuf::install_provider();
    let told = |e: sigstore_tuf::Error| anyhow::anyhow!(chain(&e));
    let lies = "the roots that the server shows do not follow from the one known here: it lies, or is another fleet's";
    let bytes = roots.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
    let mut trusted = TrustedMetadataSet::from_root(known).map_err(told).context("the root known here")?;
    let signed = |bytes: &[u8]| -> anyhow::Result<Value> {
        let envelope: Value = serde_json::from_slice(bytes)?;
        envelope.get("signed").cloned().context("a root without a signed part")
    };
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
