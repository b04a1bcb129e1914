//! What a process that parses foreign models may do: compute, and talk on the descriptors that it was given.
//!
//! Landlock takes the file system and new connections away, seccomp leaves a short list of system calls, resource limits
//! bound the rest. Whatever the kernel lacks is told, never hidden, and never a reason not to serve. [`enter`] must run
//! before the process has other threads, for they would stay outside.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod calls;

use std::time::Duration;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};

/// How far a process is confined beyond what all of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Most descriptors open at once.
    pub descriptors: u64,
    /// Most address space, in bytes.
    pub memory_bytes: Option<u64>,
    /// Most processor time, in seconds; the kernel ends the process after it.
    pub cpu_seconds: Option<u64>,
}

/// Most address space of a process that tries one version, in bytes, where nothing else is configured.
pub const TRIAL_MEMORY_BYTES: u64 = 1 << 30;
/// Most processor time of such a process, in seconds.
pub const TRIAL_CPU_SECONDS: u64 = 60;
/// Most time on the wall that such a process is given.
pub const TRIAL_WALL: Duration = Duration::from_secs(120);

/// Confines this process for good and returns what is lacking, in words for the log and `doctor`; empty where all holds.
pub fn enter(confinement: &Confinement) -> Vec<String> {
    let mut lacking = Vec::new();
    let limits = [
        (Resource::Core, "core dumps", Some(0)),
        (Resource::Nofile, "descriptors", Some(confinement.descriptors)),
        (Resource::As, "memory", confinement.memory_bytes),
        (Resource::Cpu, "processor time", confinement.cpu_seconds),
    ];
    for (resource, what, most) in limits {
        let Some(most) = most else { continue };
        // At the lower limit on time a signal says why the process ends, at the upper one nothing does.
        let maximum = if resource == Resource::Cpu { most.saturating_add(1) } else { most };
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(maximum) }) {
            lacking.push(format!("limit on {what}: {error}"));
        }
    }
    lacking.extend(restrict_files().err().map(|why| format!("Landlock: {why}")));
    lacking.extend(restrict_calls().err().map(|why| format!("seccomp: {why}")));
    lacking.extend(still_possible().into_iter().map(str::to_owned));
    lacking
}

fn restrict_files() -> Result<(), String> {
    // The newest rules that we know; the crate leaves out what the kernel does not know and says so.
    const NEWEST: ABI = ABI::V6;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced) => Err("this kernel enforces only a part of it".into()),
        Ok(RulesetStatus::NotEnforced) => Err("not in this kernel".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
fn restrict_calls() -> Result<(), String> {
    calls::restrict().map_err(|error| error.to_string())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
fn restrict_calls() -> Result<(), String> {
    Err("no list of system calls for this processor".into())
}

/// Tries what must be impossible now: a list is only believed after a test.
fn still_possible() -> Vec<&'static str> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let mut possible = Vec::new();
    if std::fs::File::open("/proc/self/status").is_ok() || std::fs::read_dir("/").is_ok() {
        possible.push("files can still be opened");
    }
    if [AddressFamily::INET, AddressFamily::UNIX].iter().any(|family| socket(*family, SocketType::STREAM, None).is_ok())
    {
        possible.push("sockets can still be made");
    }
    // Where programs can be started, what fails is that this one does not exist.
    let started = std::process::Command::new("/nonexistent").spawn();
    if started.map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |_| true) {
        possible.push("programs can still be started");
    }
    possible
}
