//! `tern decay`: detection of decay on a desk, by the very code that the server runs. It asks no server and loads no key.

mod answers;
mod company;
mod cutter;
mod fit;
mod plot;
mod replay;
mod said;
mod standard;
mod survey;
pub(super) mod table;

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::ensure;

use super::{args::decay::Decay, output::Printer};

pub(super) fn run(order: &Decay, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match order {
        Decay::Fit(order) => fit::run(order, printer),
        Decay::Replay(order) => replay::run(order, printer),
        Decay::Plot(order) => plot::run(order, printer),
    }
}

/// Refuses, before hours of reading, a place for the result that cannot be written or that is one of the files `read`.
fn check_place(out: &Path, read: &[&Path]) -> anyhow::Result<()> {
    let file = out.display();
    ensure!(!out.is_dir(), "writing {file}: it is a folder: name a file in it");
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        ensure!(folder.is_dir(), "writing {file}: there is no folder {}: make it first", folder.display());
    }
    let same = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let own = same(out);
    let is_read = own.is_some() && read.iter().any(|path| same(path) == own);
    ensure!(!is_read, "writing {file}: it is one of the files to read, and would be lost: name another");
    Ok(())
}
