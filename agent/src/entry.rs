//! Which process of the agent this one is: the first argument decides.

use std::{ffi::OsString, process::ExitCode};

use crate::{probe, self_exec::SelfExec, worker};

/// Runs the subcommand in `args` (without the program's own name); `programs` says how to start this binary again.
pub fn main_from(args: impl IntoIterator<Item = OsString>, _programs: SelfExec) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.first().and_then(|word| word.to_str()) {
        Some("worker") => worker::main(),
        Some("probe") => probe::main(),
        _ => ExitCode::from(2),
    }
}
