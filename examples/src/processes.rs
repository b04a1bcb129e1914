//! Real processes for a story: started, kept alive as an init system would keep them, and stopped by pid.
//!
//! It knows nothing of what the processes do. Every process writes to a log file of its own; an error quotes its end.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// How often a process that ends by itself is started again before it counts as broken.
const MAX_RESTARTS: u32 = 60;

/// The programs of a story: one executable that is all of them (its first argument says which).
#[derive(Debug, Clone)]
pub struct Programs {
    executable: PathBuf,
}

/// One of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The device daemon.
    Agent,
    /// The fleet server.
    Server,
    /// The operator's command line.
    Tern,
}

impl Programs {
    /// The programs in this executable.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self { executable: executable.into() }
    }

    /// A command that starts `program`, with nothing on its standard input.
    pub fn command(&self, program: Program) -> Command {
        let [executable, word] = self.words(program);
        let mut command = Command::new(executable);
        command.stdin(Stdio::null()).kill_on_drop(true).arg(word);
        command
    }

    /// The words that start `program` from a shell.
    pub fn words(&self, program: Program) -> [String; 2] {
        let word = match program {
            Program::Agent => "agent",
            Program::Server => "server",
            Program::Tern => "tern",
        };
        [self.executable.display().to_string(), word.into()]
    }
}

/// A process that is started again whenever it ends unasked.
pub struct Daemon {
    name: String,
    log: PathBuf,
    pid: watch::Receiver<Option<u32>>,
    stop: mpsc::Sender<Duration>,
    task: JoinHandle<anyhow::Result<ExitStatus>>,
}

impl Daemon {
    /// Starts the process that `command` makes; its output is appended to `log`.
    ///
    /// # Errors
    /// Where the log cannot be opened.
    pub fn start(name: &str, log: &Path, command: impl Fn() -> Command + Send + 'static) -> anyhow::Result<Self> {
        let (pid_sender, pid) = watch::channel(None);
        let (stop, stop_receiver) = mpsc::channel(1);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).context("opening a log file")?;
        let task = tokio::spawn(keep_alive(name.to_owned(), command, file, pid_sender, stop_receiver));
        Ok(Self { name: name.into(), log: log.into(), pid, stop, task })
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Kills the process as a power cut would; it is started again.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            // A process that has just ended by itself is as dead as one that was killed.
            let _ = signal(pid, Signal::KILL);
        }
    }

    /// The end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Asks the process to end and waits.
    ///
    /// # Errors
    /// Where it did not end within `grace` (it is then killed), or ended other than with success.
    pub async fn stop(self, grace: Duration) -> anyhow::Result<()> {
        // A closed channel means that the process is gone already; the task then says why.
        let _ = self.stop.send(grace).await;
        let status =
            self.task.await.context("joining a process")?.with_context(|| format!("stopping {}", self.name))?;
        // As for an init system: who dies of the signal that asks it to end, has ended. It was still starting.
        let by_request = status.signal() == Some(Signal::TERM.as_raw());
        if !status.success() && !by_request {
            bail!("{} ended with {status} when asked to stop", self.name);
        }
        Ok(())
    }
}

async fn keep_alive(
    name: String,
    command: impl Fn() -> Command,
    log: std::fs::File,
    pid: watch::Sender<Option<u32>>,
    mut stop: mpsc::Receiver<Duration>,
) -> anyhow::Result<ExitStatus> {
    for _ in 0..MAX_RESTARTS {
        let mut command = command();
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        pid.send_replace(child.id());
        tokio::select! {
            status = child.wait() => {
                pid.send_replace(None);
                let status = status?;
                tracing::info!(%name, %status, "ended unasked, starting again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            grace = stop.recv() => {
                let status = end(&mut child, grace.unwrap_or(Duration::from_secs(5))).await;
                pid.send_replace(None);
                return status;
            }
        }
    }
    bail!("{name} ended {MAX_RESTARTS} times");
}

async fn end(child: &mut Child, grace: Duration) -> anyhow::Result<ExitStatus> {
    if let Some(pid) = child.id() {
        signal(pid, Signal::TERM)?;
    }
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(status) => Ok(status?),
        Err(_) => {
            child.kill().await?;
            bail!("it did not end within {grace:?}");
        }
    }
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("reading a process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Kills a process that some daemon started, such as an agent's worker.
pub fn kill(pid: u32) {
    // It may have ended in between, which is what was wanted.
    let _ = signal(pid, Signal::KILL);
}

/// The children of a process, whichever of its threads started them, from the kernel.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}
