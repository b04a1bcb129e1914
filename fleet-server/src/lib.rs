//! The fleet server, its embedded broker, and the operator's command line.
//!
//! Two entry points: [`server_main`] for `tern-server` and [`cli_main`] for `tern`.

pub mod accesses;
pub mod broker;
pub mod bundle;
pub mod ca;
pub mod ceremony;
mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod decay;
pub mod devices;
pub mod director;
pub mod disk;
pub mod enrolment;
pub mod events;
pub mod figures;
pub mod fleet;
pub mod forms;
pub mod hooks;
pub mod http;
pub mod identity;
pub mod ingest;
pub mod keyfile;
pub mod metrics;
pub mod profiles;
pub mod proposals;
pub mod readers;
pub mod ready;
pub mod repository;
pub mod rollout;
pub mod selector;
pub mod server;
pub mod store;
pub mod transport;
mod trusted;
mod wording;

/// Runs the operator's command line with `args`, which do not begin with the program's name.
pub fn cli_main(args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    cli::main(args)
}

/// Runs the server with `args`, which do not begin with the program's name.
pub fn server_main(args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    server::main(args)
}
