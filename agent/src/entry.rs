//! The command line: which process of the agent this one is, and what it is to do.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. What went wrong is said once, here, with its whole chain.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tern_protocol::{enrolment::Serial, rescue::RescueTicket, signed::Document};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, DEFAULT_PATH},
    control, disk, doctor, enroll, probe, rescue,
    self_exec::SelfExec,
    status, worker,
};

#[derive(Debug, Parser)]
#[command(name = "tern-agent", version, about = "Keeps signed models on this device fresh, and serves them")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, and take over what the fleet's server demands.
    Run {
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Make this machine a device of a fleet.
    Enroll {
        /// The one-time token that `tern device enroll` printed.
        #[arg(long, env = "TERN_ENROL_TOKEN", hide_env_values = true)]
        token: String,
        /// The machine's serial number, where the token is for a list of them.
        #[arg(long)]
        serial: Option<Serial>,
        /// This machine is a device already: give it the new identity in place of the one that it has.
        #[arg(long)]
        replace: bool,
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Ask the running agent what it does.
    Status {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Give a device new floors that lost its own: prints a nonce, or takes the ticket that was signed for it.
    Rescue {
        /// The ticket that `tern device rescue` made and holders of root's keys signed.
        #[arg(long)]
        ticket: Option<PathBuf>,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Look for everything that keeps this device from working.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
}

/// Runs the subcommand in `args` (without the program's own name); `programs` says how to start this binary again.
pub fn main_from(args: impl IntoIterator<Item = OsString>, programs: SelfExec) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The two that only the agent itself starts; they answer through their channel and parse no arguments.
    match args.first().and_then(|word| word.to_str()) {
        Some("worker") => return worker::main(),
        Some("probe") => return probe::main(),
        _ => {}
    }
    let parsed = Arguments::try_parse_from(std::iter::once(OsString::from("tern-agent")).chain(args));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and exits 0, a usage error to stderr and exits 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    tern_protocol::tuf::install_provider();
    match act(arguments.command, programs) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command, programs: SelfExec) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { config } => {
            let config = Config::load(&config)?;
            log_to_stderr(&config.log);
            runtime()?.block_on(control::run(config, programs))?;
        }
        Command::Enroll { token, serial, replace, config } => {
            let config = Config::load(&config)?;
            log_to_stderr(&config.log);
            let enrolled = runtime()?.block_on(enroll::run(&config, &token, serial, replace))?;
            say(&format!(
                "enrolled as {} in fleet {}; start it with `tern-agent run`",
                enrolled.device, enrolled.fleet
            ));
        }
        Command::Status { json, config } => {
            let answer = status::ask(&Config::load(&config)?.control_socket())?;
            say(if json { answer } else { status::show(&answer)? }.trim_end());
        }
        Command::Rescue { ticket, json, config } => {
            let config = Config::load(&config)?;
            log_to_stderr("warn");
            let request = match ticket {
                None => rescue::Request::Nonce,
                Some(path) => rescue::Request::Ticket(read_ticket(&path)?),
            };
            let answer = rescue::run(&config, &request)?;
            say(&if json { serde_json::to_string(&answer)? } else { rescue::show(&answer) });
        }
        Command::Doctor { json, config } => {
            let findings = runtime()?.block_on(doctor::examine(&config));
            let report = if json { serde_json::to_string_pretty(&findings)? } else { doctor::show(&findings) };
            say(report.trim_end());
            if doctor::is_ill(&findings) {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_ticket(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = disk::read_bounded(path, RescueTicket::MAX_BYTES as u64);
    let bytes = read.with_context(|| format!("read {}", path.display()))?;
    bytes.with_context(|| format!("{} does not exist", path.display()))
}

/// Two threads carry control: what is heavy runs in other processes or on the blocking pool.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn log_to_stderr(filter: &str) {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(filter));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    // Set already only where a test runs several commands in one process.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).try_init();
}

fn say(text: &str) {
    use std::io::Write;
    // A reader that closed its end wants no more.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tern-agent: {text}");
}
