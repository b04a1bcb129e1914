//! `tern key ceremony`: a folder that people carry around, and what each of them does with it.
//!
//! `ceremony.toml` and the public keys lie in the folder, with the root and targets in force; what is to follow lies in
//! `next/` with the signatures so far. `prepare`, `sign` and `status` touch no network.

mod folder;
mod server;

use std::{io::Read, path::PathBuf};

use anyhow::{bail, ensure};
use clap::Subcommand;
use serde::Serialize;
use tern_protocol::digest::Digest;

use super::{
    client::Client,
    keys::Keys,
    output::{self, Printer},
};
use crate::ceremony::{
    signing::{Papers, Tally},
    trust::{Edition, ROOT_LIFE, TARGETS_LIFE},
    words::Names,
};
use folder::Folder;
use server::Pin;

#[derive(Debug, Subcommand)]
pub(super) enum Ceremony {
    /// Write the next root and targets from ceremony.toml, unsigned, and say what changes
    Prepare {
        /// The folder that people carry around
        folder: PathBuf,
        /// Make both anew although nothing but the dates changes
        #[arg(long)]
        renew: bool,
        /// Throw away the signatures over what was prepared before
        #[arg(long)]
        discard: bool,
    },
    /// Say what changes, and sign it with your keys where they count
    Sign {
        /// The folder that people carry around
        folder: PathBuf,
        /// A NAME of `tern key list` or a FILE; may be given again
        #[arg(long = "key", value_name = "KEY", required = true)]
        keys: Vec<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Who has signed, who is missing, and whether devices would take it; exit code 1 until they would
    Status {
        /// The folder that people carry around
        folder: PathBuf,
    },
    /// Send what is complete to the server; needs an administrator's token
    Publish {
        /// The folder that people carry around
        folder: PathBuf,
    },
    /// Get the root and targets in force from the server, checked against the root that is known here
    Fetch {
        /// The folder that people carry around; it is made where it is missing
        folder: PathBuf,
        /// SHA-256 of a root.json that you trust, where none is known here; `tern-server adopt` prints it
        #[arg(long, value_name = "HEX", conflicts_with = "root")]
        root_sha256: Option<Digest>,
        /// A root that you trust, where none is known here: a root.json that you signed, or have from who did
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// Throw away what was prepared and signed, but not published
        #[arg(long)]
        discard: bool,
    },
}

/// `tern key ceremony`.
pub(super) async fn run(
    order: Ceremony,
    keys: &Keys<'_>,
    client: impl FnOnce() -> anyhow::Result<Client>,
    input: &mut dyn Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    match order {
        Ceremony::Prepare { folder, renew, discard } => prepare(&Folder(folder), renew, discard, keys, printer),
        Ceremony::Sign { folder, keys: named, yes } => sign(&Folder(folder), &named, yes, keys, input, printer),
        Ceremony::Status { folder } => status(&Folder(folder), keys, printer),
        Ceremony::Publish { folder } => server::publish(&Folder(folder), keys, &client()?, printer).await,
        Ceremony::Fetch { folder, root_sha256, root, discard } => {
            let pin = root_sha256.map(Pin::Digest).or(root.map(Pin::File));
            server::fetch(&Folder(folder), pin, discard, keys, &client()?, printer).await
        }
    }
}

fn prepare(
    folder: &Folder,
    renew: bool,
    discard: bool,
    keys: &Keys<'_>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let now = printer.now();
    let mut sheets = folder.sheets()?;
    (sheets.next_root, sheets.next_targets) = (None, None);
    let present = Papers::read(&sheets)?;
    ensure!(
        present.root.is_some() == present.targets.is_some(),
        "root.json and targets.json belong together: fetch both with `tern key ceremony fetch`, or, for a first \
         ceremony, remove the one that is there"
    );
    let wanted = folder.wanted()?;
    let (root, targets) = folder.trust(&wanted, &present, keys, printer)?;

    let soon = |edition: Edition| edition.expires <= now.saturating_add(folder::RENEWAL).unwrap_or(now);
    let before = present.root.as_ref().map(|root| &root.content);
    let same_root = before.is_some_and(|(trust, edition)| *trust == root && !soon(*edition)) && !renew;
    let old_targets = present.targets.as_ref().map(|targets| &targets.content);
    let same_targets = old_targets.is_some_and(|(trust, edition)| *trust == targets && !soon(*edition))
        && before.is_some_and(|(trust, _)| trust.targets == root.targets)
        && !renew;
    let next_root = (!same_root).then(|| {
        let edition = Edition::after(before.map(|(_, edition)| *edition), ROOT_LIFE, now);
        root.document(edition)
    });
    let next_targets = (!same_targets).then(|| {
        let edition = Edition::after(old_targets.map(|(_, edition)| *edition), TARGETS_LIFE, now);
        targets.document(edition)
    });
    if next_root.is_none() && next_targets.is_none() {
        folder.keep_signatures(discard)?;
        folder.clear_next()?;
        return printer.step("nothing changes: what is in force says the same already");
    }
    let kept = folder.put_next(next_root, next_targets, discard)?;
    let papers = Papers::read(&folder.sheets()?)?;
    papers.check(now)?;
    say(&papers, &folder.names(keys)?, printer)?;
    if kept {
        printer.step("this was prepared before: its signatures stay")?;
    }
    printer.step(&format!("next: everyone runs `tern key ceremony sign {} --key NAME`", folder.0.display()))
}

fn say(papers: &Papers, names: &Names, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    papers.words(names).iter().try_for_each(|line| printer.step(line))
}

fn sign(
    folder: &Folder,
    named: &[PathBuf],
    yes: bool,
    keys: &Keys<'_>,
    input: &mut dyn Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let mut papers = Papers::read(&folder.sheets()?)?;
    papers.check(printer.now())?;
    let names = folder.names(keys)?;
    still_wanted(folder, &papers, keys, printer)?;
    let signers = keys.open(named)?;
    // Who counts for nothing here need not read it all first.
    signers.iter().try_for_each(|key| papers.counts_for(&key.public().id()).map(drop))?;
    say(&papers, &names, printer)?;
    if !yes {
        output::confirm(input, printer)?;
    }
    for key in signers {
        let documents = papers.sign(&key)?;
        printer.step(&format!("{} has signed {}", names.show(&key.public().id()), documents.join(" and ")))?;
    }
    folder.put_signed(&papers)?;
    let open: Vec<_> = papers.tallies().into_iter().filter(|tally| !tally.is_complete()).collect();
    if open.is_empty() {
        papers.verify(printer.now())?;
        return printer.step("complete: devices would take it");
    }
    open.iter().try_for_each(|tally| printer.step(&in_words(tally, &names)))
}

/// Whether what was prepared is what ceremony.toml asks for, where the folder has one.
fn still_wanted(folder: &Folder, papers: &Papers, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    if !folder.is_declared() {
        return Ok(());
    }
    let (root, targets) = folder.trust(&folder.wanted()?, papers, keys, printer)?;
    let is_root = papers.coming_root().is_none_or(|paper| paper.content.0 == root);
    let is_targets = papers.coming_targets().is_none_or(|paper| paper.content.0 == targets);
    ensure!(
        is_root && is_targets,
        "ceremony.toml, or a key that it names, is another than when this was prepared, so nothing was signed: run `tern key \
         ceremony prepare {}`, and everyone signs what comes of it",
        folder.0.display()
    );
    Ok(())
}

fn in_words(tally: &Tally, names: &Names) -> String {
    tally.in_words(|id| names.show(id))
}

#[derive(Debug, Serialize)]
struct Status {
    complete: bool,
    documents: Vec<Tally>,
    /// Why devices would refuse it, where that is not for want of signatures.
    trouble: Option<String>,
}

fn status(folder: &Folder, keys: &Keys<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let papers = Papers::read(&folder.sheets()?)?;
    let names = folder.names(keys)?;
    let documents = papers.tallies();
    let signed = !documents.is_empty() && documents.iter().all(Tally::is_complete);
    let trouble = match papers.check(printer.now()) {
        Ok(()) if signed => papers.verify(printer.now()).err(),
        Ok(()) => None,
        Err(trouble) => Some(trouble),
    };
    let trouble = trouble.map(|trouble| trouble.to_string());
    let status = Status { complete: signed && trouble.is_none(), documents, trouble };
    printer.result(&status, |p| {
        say(&papers, &names, p)?;
        status.documents.iter().try_for_each(|tally| p.line(&in_words(tally, &names)))
    })?;
    match (status.complete, status.trouble) {
        (true, _) => printer.step("complete: devices would take it"),
        (false, Some(trouble)) => bail!("{trouble}"),
        (false, None) => bail!("signatures are missing: pass the folder on"),
    }
}
