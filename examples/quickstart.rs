//! `cargo run --release --example quickstart`: the main job of Tern with real processes, and nothing to set up.
//!
//! This executable is every program of the story: its first argument says which (`agent`, `server`, `tern`).

use std::process::ExitCode;

use clap::Parser;
use tern_examples::{
    processes::Programs,
    programs,
    quickstart::{Arguments, run},
};

fn main() -> ExitCode {
    if let Some(code) = programs::dispatch(std::env::args_os()) {
        return code;
    }
    let arguments = Arguments::parse();
    let told = || -> anyhow::Result<bool> {
        let programs = Programs::new(std::env::current_exe()?);
        tokio::runtime::Runtime::new()?.block_on(run(arguments, programs))
    };
    match told() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
