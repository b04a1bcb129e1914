//! The agent's TUF client as a program of its own, for the public conformance suite.

fn main() -> std::process::ExitCode {
    tern_agent::tuf_client::main_from(std::env::args_os().skip(1))
}
