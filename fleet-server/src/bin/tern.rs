//! `tern`, the operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tern_fleet_server::cli_main(std::env::args_os().skip(1))
}
