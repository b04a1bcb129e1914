//! Tries a version in a throw-away process before anything depends on it.
//!
//! [`run`] is the parent's side: it starts the probe, hands it the files, and waits for the one frame that it may send. No
//! frame is a failure, whatever the exit code. [`main`] is the process itself. Nothing here keeps the result; the parent
//! never parses ONNX.

mod child;
mod judge;

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};
use tern_engine::sandbox;
use tern_protocol::{
    digest::Digest,
    frames::{ProbeCase, ProbeFacts, ProbeRequest, ProbeResult},
    ids::{ByteCount, DeviceClass},
    manifest::{self, Manifest},
    refusal::RefusalCode,
};

pub use child::main;
pub use judge::judge;

use crate::{
    admit::{Refused, check_reference_length, read_exactly},
    channel::{Channel, ChannelError},
    clock::Moment,
    self_exec::{SelfExec, ending},
};

/// Most bytes of golden vectors; they are held in memory while the probe runs.
const GOLDEN_BYTES: ByteCount = ByteCount(64 << 20);
/// How long the probe may take to leave after its frame.
const LEAVING: Duration = Duration::from_secs(1);

/// What the probe may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeLimits {
    /// Most address space, in bytes.
    pub memory_bytes: u64,
    /// Most processor time, in seconds.
    pub cpu_seconds: u64,
    /// Most time on the wall, from start to result.
    pub wall: Duration,
    /// How often each golden vector is run to measure latency; fewer where that takes long.
    pub repetitions: u32,
}

impl Default for ProbeLimits {
    /// 1 GiB, 60 s of processor time, 120 s on the wall, 20 repetitions.
    fn default() -> Self {
        Self {
            memory_bytes: sandbox::TRIAL_MEMORY_BYTES,
            cpu_seconds: sandbox::TRIAL_CPU_SECONDS,
            wall: sandbox::TRIAL_WALL,
            repetitions: 20,
        }
    }
}

/// A version to try.
#[derive(Debug)]
pub struct ProbeOrder {
    manifest: Manifest,
    request: ProbeRequest,
    model: File,
    golden: File,
    limits: ProbeLimits,
    class: DeviceClass,
}

impl ProbeOrder {
    /// Gathers the files of the version in `manifest` (verified, canonical bytes), which `open` finds.
    ///
    /// # Errors
    /// `manifest` where the bytes are none or name too much, `blob-length` or `blob-digest` where a golden tensor or the
    /// reference profile is not the one that was signed, `contract-mismatch` where the profile is too long to be one, `fetch`
    /// where a file cannot be read. The model file, and whether the profile fits, are checked by the probe.
    pub fn gather(
        bytes: Vec<u8>,
        class: DeviceClass,
        limits: ProbeLimits,
        mut open: impl FnMut(&manifest::File) -> io::Result<File>,
    ) -> Result<Self, Refused> {
        let refused = |e: manifest::ManifestError| Refused::new(RefusalCode::Manifest, e.to_string());
        let manifest = Manifest::from_slice(&bytes).map_err(refused)?;
        let sets = manifest.golden_sets().map_err(refused)?;
        let files = || sets.iter().flat_map(|set| set.inputs.iter().chain(&set.outputs));
        let total = files().fold(0u64, |sum, file| sum.saturating_add(file.length.0));
        if total > GOLDEN_BYTES.0 {
            let message = format!("golden vectors of {total} B are over the limit of {GOLDEN_BYTES}");
            return Err(Refused::new(RefusalCode::Manifest, message));
        }
        let unreadable = |file: &manifest::File, error: io::Error| {
            Refused::new(RefusalCode::Fetch, format!("{} cannot be read: {error}", file.path))
        };
        let failed = |e: io::Error| Refused::new(RefusalCode::Fetch, format!("golden vectors cannot be gathered: {e}"));
        let mut golden = File::from(memfd_create("golden", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?);
        for file in files() {
            let tensor = open(file).map_err(|error| unreadable(file, error))?;
            golden.write_all(&signed_bytes(file, &tensor)?).map_err(failed)?;
        }
        let mut reference = Vec::new();
        if let Some(file) = manifest.reference_file() {
            check_reference_length(file)?;
            reference = signed_bytes(file, &open(file).map_err(|error| unreadable(file, error))?)?;
        }
        let lengths = |files: &[&manifest::File]| files.iter().map(|file| file.length.0).collect();
        let case =
            |set: &manifest::GoldenSet<'_>| ProbeCase { inputs: lengths(&set.inputs), outputs: lengths(&set.outputs) };
        let request = ProbeRequest {
            cases: sets.iter().map(case).collect(),
            tolerance: manifest.golden_tolerance,
            repetitions: limits.repetitions,
            memory_bytes: limits.memory_bytes,
            cpu_seconds: limits.cpu_seconds,
            manifest: bytes,
            reference,
        };
        let model = manifest.model_file();
        let model = open(model).map_err(|error| unreadable(model, error))?;
        Ok(Self { manifest, request, model, golden, limits, class })
    }
}

fn signed_bytes(file: &manifest::File, tensor: &File) -> Result<Vec<u8>, Refused> {
    let bytes = read_exactly(tensor, 0, file.length.0)
        .map_err(|error| Refused::new(RefusalCode::BlobLength, format!("{}: {error}", file.path)))?;
    if Digest::of(&bytes) != file.sha256 {
        return Err(Refused::new(RefusalCode::BlobDigest, format!("{} differs from its signed digest", file.path)));
    }
    Ok(bytes)
}

/// Tries the version; blocks until the verdict, at most the wall limit and a second.
///
/// `Passed` means: it loads, its answers agree with the golden vectors, and it keeps the budget of this device class.
pub fn run(programs: &SelfExec, order: &ProbeOrder) -> ProbeResult {
    match probe(programs, order) {
        Ok(ProbeResult::Passed(facts)) => match judge(&facts, &order.manifest, &order.class) {
            Ok(()) => ProbeResult::Passed(facts),
            Err(Refused { code, message }) => ProbeResult::Failed { code, message },
        },
        Ok(failed) => failed,
        Err(message) => ProbeResult::Failed { code: RefusalCode::ProbeDied, message },
    }
}

fn probe(programs: &SelfExec, order: &ProbeOrder) -> Result<ProbeResult, String> {
    let deadline = Moment::now().after(order.limits.wall);
    let (mut channel, stdin) = Channel::pair().map_err(|error| format!("probe cannot be reached: {error}"))?;
    let child = programs
        .command("probe")
        .stdin(Stdio::from(OwnedFd::from(stdin)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("probe cannot be started: {error}"))?;
    let child = Ended(child);
    let sent = channel
        .limit_sends(order.limits.wall)
        .map_err(ChannelError::from)
        .and_then(|()| channel.send(&order.request, &[order.model.as_fd(), order.golden.as_fd()]));
    let result = sent.and_then(|()| channel.receive_by::<ProbeResult>(Some(deadline)));
    match result {
        Ok((result, _none)) => Ok(bounded(result)),
        Err(ChannelError::TimedOut) => {
            Err(format!("probe gave no result within {} s", order.limits.wall.as_secs_f64()))
        }
        Err(ChannelError::Closed) => Err(format!("probe ended without a result: {}", child.cause(order, LEAVING))),
        Err(error) => Err(format!("probe sent no readable result: {error}")),
    }
}

/// The result as far as a process that may have been taken over is believed: no text without end.
fn bounded(result: ProbeResult) -> ProbeResult {
    match result {
        ProbeResult::Failed { code, message } => {
            let Refused { code, message } = Refused::new(code, message);
            ProbeResult::Failed { code, message }
        }
        ProbeResult::Passed(facts) => ProbeResult::Passed(ProbeFacts {
            lacking: facts.lacking.into_iter().take(16).map(|text| text.chars().take(200).collect()).collect(),
            ..facts
        }),
    }
}

/// A child that is gone when this is.
struct Ended(Child);

impl Ended {
    fn cause(mut self, order: &ProbeOrder, patience: Duration) -> String {
        let deadline = Moment::now().after(patience);
        let status = loop {
            match self.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if !deadline.remaining().is_zero() => std::thread::sleep(Duration::from_millis(2)),
                _ => return "it closed its channel".into(),
            }
        };
        let ending = ending(status);
        match ending.as_str() {
            "signal 6" => format!("{ending}, as when memory runs out; it may use {} B", order.limits.memory_bytes),
            "signal 24" => format!("{ending}: it used up its {} s of processor time", order.limits.cpu_seconds),
            _ => ending,
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only where the child has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
