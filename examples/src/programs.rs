//! One executable that is every program: what the quickstart and the system tests start as separate processes.
//!
//! The first argument says which program; the rest belongs to it. It must never do anything that the programs'
//! own `main` would not do.

use std::{ffi::OsString, process::ExitCode};

use tern_agent::SelfExec;

/// Runs the program that `args` (with the executable's own name first, as the system gives them) ask for, and returns its
/// exit code; nothing where they name none of `agent`, `server`, `tern`, `tern-tuf-client`, so that the caller goes on as itself.
pub fn dispatch(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    match args.next()?.to_str()? {
        "agent" => Some(agent(args)),
        "server" => Some(tern_fleet_server::server_main(args)),
        "tern-tuf-client" => Some(tern_agent::tuf_client::main_from(args)),
        "tern" => Some(tern_fleet_server::cli_main(args)),
        _ => None,
    }
}

fn agent(args: impl Iterator<Item = OsString>) -> ExitCode {
    match SelfExec::current() {
        Ok(programs) => tern_agent::main_from(args, SelfExec { prefix: vec!["agent".into()], ..programs }),
        Err(error) => {
            eprintln!("cannot tell which file is running: {error}; is /proc mounted?");
            ExitCode::FAILURE
        }
    }
}
