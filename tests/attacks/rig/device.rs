//! The device under attack: a real agent process, enrolled by the real command line.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::patience::{show_in_vain, tail, wait, wait_saying};

/// The class that the device has.
pub(crate) const CLASS: &str = "camera";

pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    config: PathBuf,
    child: Option<Child>,
    /// Set for the agent's process.
    pub(crate) environment: Vec<(&'static str, String)>,
}

pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
    command.arg(name).stdin(Stdio::null());
    command
}

/// Runs a command to its end; what it said.
pub(crate) fn ended(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(bytes)).unwrap();
}

impl Device {
    /// A machine that is to become a device, below `scratch`. `more` is added to its configuration.
    pub(crate) fn new(scratch: &Path, name: &str, more: &str) -> Self {
        let folder = scratch.join(name);
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("agent.toml");
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "state_dir = {:?}\nruntime_dir = {:?}\nready_file = {:?}\ndevice_class = {CLASS:?}\nlog = \"debug\"\n\
             reconnect_max_seconds = 1\nthreads = 1\ncheckpoint_interval_seconds = 1\n{more}",
            path("state"),
            path("run"),
            path("ready.json"),
        );
        put(&config, text.as_bytes());
        show_in_vain(&folder.join("log"));
        Self { name: name.into(), folder, config, child: None, environment: Vec::new() }
    }

    /// Adds to its configuration, which counts from its next start.
    pub(crate) fn configure(&self, more: &str) {
        File::options().append(true).open(&self.config).and_then(|mut file| file.write_all(more.as_bytes())).unwrap();
    }

    /// Enrols the machine with a token.
    pub(crate) fn enrol(&self, token: &str) -> (bool, String) {
        let mut command = program("agent");
        command.args(["enroll", "--token", token, "--config"]).arg(&self.config);
        ended(command)
    }

    /// Asks for a rescue, or brings a ticket; whether it was granted, and what was said.
    pub(crate) fn rescue(&self, ticket: Option<&[u8]>) -> (bool, String) {
        let mut command = program("agent");
        command.args(["rescue", "--json"]);
        if let Some(bytes) = ticket {
            let file = self.folder.join("ticket.json");
            put(&file, bytes);
            command.arg("--ticket").arg(&file);
        }
        command.arg("--config").arg(&self.config);
        ended(command)
    }

    /// Starts the agent and waits until it serves what it has.
    pub(crate) fn start(&mut self) {
        let ready = self.folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = program("agent");
        command.args(["run", "--config"]).arg(&self.config).stdout(Stdio::null()).stderr(log);
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).process_group(0);
        self.child = Some(command.spawn().unwrap());
        wait("the agent serves", || {
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "the agent ended: {}", self.log_tail());
            ready.exists().then_some(())
        });
    }

    /// Ends the agent as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("a running agent");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state").join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run/infer.sock")
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> Value {
        wait_saying("the agent answers", || {
            let answer = tern_agent::status::ask(&self.folder.join("run/control.sock"));
            let answer = answer.map_err(|error| format!("{error:#}; {}", self.process()))?;
            serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
        })
    }

    /// What the kernel says of the agent's process.
    fn process(&self) -> String {
        let Some(child) = &self.child else { return "nothing was started".into() };
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("State:") || line.starts_with("Threads:")).collect()
    }

    /// What it says of one model; null where it knows none.
    pub(crate) fn model(&self, name: &str) -> Value {
        let models = self.status()["twin"]["models"].as_array().cloned().unwrap_or_default();
        models.into_iter().find(|model| model["model"] == name).unwrap_or_default()
    }

    /// Bytes on its disk below its state folder.
    pub(crate) fn disk_bytes(&self) -> u64 {
        bytes_below(&self.folder.join("state"))
    }

    /// Resident memory of control: now, and at most since [`Self::forget_peak`].
    pub(crate) fn memory(&self) -> (u64, u64) {
        memory(self.child.as_ref().expect("a running agent").id())
    }

    /// Lets the kernel's peak of resident memory begin anew.
    pub(crate) fn forget_peak(&self) {
        let pid = self.child.as_ref().expect("a running agent").id();
        File::options().write(true).open(format!("/proc/{pid}/clear_refs")).unwrap().write_all(b"5").unwrap();
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.folder.join("log"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only where it has left already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Resident memory of a process: now, and at its peak.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a figure of the kernel");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// Bytes of all files below; those that are gone meanwhile do not count.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}
