//! The agent as a program of its own.

fn main() -> std::process::ExitCode {
    let executable = std::env::current_exe().unwrap_or_else(|_| "tern-agent".into());
    tern_agent::main_from(std::env::args_os().skip(1), tern_agent::SelfExec { executable, prefix: Vec::new() })
}
