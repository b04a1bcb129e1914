//! The quickstart's command line: tells the story, prints the tables, keeps the world up unless told otherwise.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;

use crate::{
    processes::Programs,
    story::{self, Options},
};

/// One server, eight devices, real digits: Tern's main job on this machine, in a minute, with nothing to set up.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
pub struct Arguments {
    /// End when the story is told; the exit code is 0 only if everything ended as told.
    #[arg(long)]
    once: bool,
    /// Write the facts to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep everything in this folder, which must be empty and have a short path; by default a temporary one.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Kill servers, agents and workers at random while the story runs.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
}

/// Tells the story as the arguments say; whether everything ended as told.
///
/// # Errors
/// Where the story could not be told to its end.
pub async fn run(arguments: Arguments, programs: Programs) -> anyhow::Result<bool> {
    let temporary = tempfile::Builder::new().prefix("tern-").tempdir().context("making a temporary folder")?;
    let scratch = arguments.scratch.unwrap_or_else(|| temporary.path().into());
    let assets = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/quickstart"));
    println!("Tern's quickstart; everything happens in {}\n", scratch.display());
    let options = Options { programs, scratch, assets, chaos: arguments.chaos, aloud: true };
    let told = tokio::select! {
        told = story::tell(options) => told?,
        () = interrupted() => anyhow::bail!("interrupted; all processes were ended"),
    };
    println!("\n{}", told.facts.tables());
    if let Some(file) = arguments.json {
        write(&file, &serde_json::to_string_pretty(&told.facts)?)?;
    }
    for fault in &told.facts.faults {
        println!("not as told: {fault}");
    }
    if !arguments.once {
        println!("Everything is still running. The fleet's page: http://{}/", told.world.console);
        println!("End with Ctrl-C.");
        interrupted().await;
    }
    let stopped =
        tokio::time::timeout(Duration::from_secs(60), told.world.stop()).await.context("stopping the processes")?;
    stopped.context("stopping the processes")?;
    println!(
        "{} in {:.0} s",
        if told.facts.ended_as_told { "ended as told" } else { "did not end as told" },
        told.facts.seconds
    );
    Ok(told.facts.ended_as_told)
}

async fn interrupted() {
    // Without signals there is only `--once` to end by.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of facts need not outlive a power cut")]
fn write(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
