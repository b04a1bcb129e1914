//! How this binary starts itself again as one of the agent's processes.
//!
//! One binary may be the agent, the server and the tests at once, so the words before the subcommand vary.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus},
};

/// The program and the words that make it the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfExec {
    /// The executable.
    pub executable: PathBuf,
    /// Arguments before the subcommand.
    pub prefix: Vec<OsString>,
}

impl SelfExec {
    /// The running program without words before the subcommand: `tern-agent` itself.
    ///
    /// # Errors
    /// Where the system does not say which file is running.
    pub fn current() -> std::io::Result<Self> {
        Ok(Self { executable: std::env::current_exe()?, prefix: Vec::new() })
    }

    /// The command that starts the agent as `subcommand`, with an environment that holds nothing but the log filter: a
    /// child has no use for tokens, sockets of systemd or paths.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.prefix).arg(subcommand).env_clear();
        if let Some(filter) = std::env::var_os("RUST_LOG") {
            command.env("RUST_LOG", filter);
        }
        command
    }
}

/// How a process ended, for people: `status 1` or `signal 9`.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("status {code}"),
        (None, None) => "an unknown status".into(),
    }
}
