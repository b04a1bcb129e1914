//! The quickstart's command line: tells the story, prints the tables, keeps the world up unless told otherwise.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::SignalKind;

use crate::{
    cameras::Address,
    hardships::Hardships,
    processes::Programs,
    story::{self, Options},
};

/// Prints a line; a reader that has gone is no reason to end otherwise than told.
macro_rules! say {
    ($($text:tt)*) => {
        // Nobody reads any more: see above.
        let _ = writeln!(std::io::stdout(), $($text)*);
    };
}

/// One server, eight devices, real digits: Tern's main job on this machine, with nothing to set up.
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
    /// Which images the cameras see, in which order.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Kill servers, agents and workers, and break connections, at random while the story runs.
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
    say!("Tern's quickstart; everything happens in {}\n", scratch.display());
    let hardships = Hardships::default();
    let options =
        Options { programs, scratch, assets, chaos: arguments.chaos, hardships, seed: arguments.seed, aloud: true };
    let told = tokio::select! {
        told = story::tell(options) => told?,
        () = interrupted() => anyhow::bail!("interrupted; all processes were ended"),
    };
    say!("\n{}", told.facts.tables());
    if let Some(file) = arguments.json {
        write(&file, &serde_json::to_string_pretty(&told.facts)?)?;
    }
    for fault in &told.facts.faults {
        say!("not as told: {fault}");
    }
    if !arguments.once {
        say!("Everything is still running. The fleet's page: http://{}/", told.world.console);
        let executable = std::env::current_exe().context("finding this executable")?;
        say!(
            "The operator: TERN_CONFIG={} {} tern device list",
            told.world.operator.config.display(),
            executable.display()
        );
        if let Some(Address::Unix(socket)) = told.world.devices.first().map(|device| &device.address) {
            say!("A device: curl --unix-socket {} http://localhost/v2/models/meter-digits", socket.display());
        }
        say!("End with Ctrl-C.");
        interrupted().await;
    }
    let stopped =
        tokio::time::timeout(Duration::from_secs(60), told.world.stop()).await.context("stopping the processes")?;
    stopped.context("stopping the processes")?;
    say!(
        "{} in {:.0} s",
        if told.facts.ended_as_told { "ended as told" } else { "did not end as told" },
        told.facts.seconds
    );
    Ok(told.facts.ended_as_told)
}

/// Returns at Ctrl-C, when asked to end, and when the terminal closes: the processes must not outlive this one.
async fn interrupted() {
    let signal = |kind| async move {
        match tokio::signal::unix::signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without signals there is only `--once` to end by.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signal(SignalKind::interrupt()) => {}
        () = signal(SignalKind::terminate()) => {}
        () = signal(SignalKind::hangup()) => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of facts need not outlive a power cut")]
fn write(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
