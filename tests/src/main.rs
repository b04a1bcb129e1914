//! `tern-under-test`: every program in one executable, so that the system tests start real processes that are always
//! as fresh as the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    tern_examples::programs::dispatch(std::env::args_os()).unwrap_or_else(|| {
        eprintln!("usage: tern-under-test agent|server|tern ARGUMENTS");
        ExitCode::from(2)
    })
}
