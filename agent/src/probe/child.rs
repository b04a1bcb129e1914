//! The probe process: one request, one verdict, then the end.
//!
//! It confines itself before it looks at a byte of the model. What it measures is its own: time by the monotonic clock,
//! memory as the kernel counts it.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tern_engine::{
    Model,
    golden::{self, Case, GoldenError, GoldenReport, Mismatch, Tolerance},
    sandbox::{self, Confinement},
};
use tern_protocol::{
    frames::{ProbeFacts, ProbeRequest, ProbeResult},
    ids::Version,
    manifest::{GoldenSet, Manifest},
    refusal::RefusalCode,
};

use crate::{
    admit::{Admitted, Refused, admit, read_exactly},
    channel::{Channel, exactly},
    clock::Moment,
    log,
};

/// Stdio, the channel, two files and some air.
const DESCRIPTORS: u64 = 32;
/// Measuring latency ends after this even where repetitions are left.
const MEASURING: Duration = Duration::from_secs(10);

/// The process: tries one version and says how it went.
pub fn main() -> ExitCode {
    log::to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("probe stops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut channel = Channel::from_stdin().context("stdin")?;
    let request = channel.receive().context("the request; this command is started by `tern-agent run`")?;
    let (request, descriptors): (ProbeRequest, Vec<OwnedFd>) = request;
    let [model, golden] = exactly(descriptors)?;
    let memory = Memory::open();
    let confinement = Confinement {
        descriptors: DESCRIPTORS,
        memory_bytes: Some(request.memory_bytes),
        cpu_seconds: Some(request.cpu_seconds),
    };
    let lacking = sandbox::enter(&confinement);
    let result = match try_version(&request, &model.into(), &golden.into(), &memory) {
        Ok(facts) => ProbeResult::Passed(ProbeFacts { lacking, ..facts }),
        Err(Refused { code, message }) => ProbeResult::Failed { code, message },
    };
    channel.send(&result, &[]).context("the result")
}

fn try_version(request: &ProbeRequest, model: &File, golden: &File, memory: &Memory) -> Result<ProbeFacts, Refused> {
    let before = memory.resident_bytes();
    let start = Moment::now();
    let Admitted { manifest, model, .. } = admit(&request.manifest, &request.reference, model)?;
    let load_us = micros(start.elapsed());
    let cases = read_cases(request, &manifest, golden)?;
    let report = check(request, &manifest, &model, &cases)?;
    let latency_us = measure(&model, &cases, request.repetitions)?;
    let version: Version = env!("CARGO_PKG_VERSION").parse().expect("invariant: Cargo's version is a version");
    Ok(ProbeFacts {
        cases: u32::try_from(report.cases).unwrap_or(u32::MAX),
        max_absolute: report.agreement.absolute,
        load_us,
        latency_us,
        peak_rss_bytes: memory.peak_bytes().saturating_sub(before),
        agent_version: version,
        lacking: Vec::new(),
    })
}

fn read_cases(request: &ProbeRequest, manifest: &Manifest, golden: &File) -> Result<Vec<Case>, Refused> {
    let unreadable =
        |why: String| Refused::new(RefusalCode::Malformed, format!("golden vectors cannot be read: {why}"));
    let sets = manifest.golden_sets().map_err(|error| unreadable(error.to_string()))?;
    if sets.len() != request.cases.len() {
        return Err(unreadable("another number than the manifest names".into()));
    }
    let mut offset = 0u64;
    let mut pairs = Vec::new();
    for (set, case) in sets.iter().zip(&request.cases) {
        let GoldenSet { inputs, outputs, .. } = set;
        for (file, length) in inputs.iter().chain(outputs).zip(case.inputs.iter().chain(&case.outputs)) {
            let bytes = read_exactly(golden, offset, *length).map_err(|error| unreadable(error.to_string()))?;
            offset = offset.saturating_add(*length);
            pairs.push((file.path.as_str(), bytes));
        }
    }
    golden::from_pairs(pairs).map_err(|error| unreadable(chain(&error)))
}

fn check(request: &ProbeRequest, manifest: &Manifest, model: &Model, cases: &[Case]) -> Result<GoldenReport, Refused> {
    let tolerance = Tolerance::new(request.tolerance.absolute, request.tolerance.relative);
    let tolerance = tolerance.ok_or_else(|| Refused::new(RefusalCode::Manifest, "golden tolerance is no tolerance"))?;
    golden::check(model, cases, tolerance).map_err(|error| {
        let output = match &error {
            GoldenError::Mismatch {
                cause: Mismatch::Dtype { output, .. } | Mismatch::Shape { output, .. } | Mismatch::Values { output, .. },
                ..
            } => manifest.contract.outputs.get(*output),
            _ => None,
        };
        let named = output.map(|output| format!(" (output `{}`)", output.name)).unwrap_or_default();
        Refused::new(RefusalCode::GoldenMismatch, format!("{}{named}", chain(&error)))
    })
}

/// Median and 95th percentile of one run, in microseconds.
fn measure(model: &Model, cases: &[Case], repetitions: u32) -> Result<(u64, u64), Refused> {
    let end = Moment::now().after(MEASURING);
    let mut runs = Vec::new();
    for round in 0..repetitions.max(1) {
        for case in cases {
            if round > 0 && end.remaining().is_zero() {
                break;
            }
            let start = Moment::now();
            let outcome = model.run(&case.inputs);
            runs.push(micros(start.elapsed()));
            outcome.map_err(|error| Refused::new(RefusalCode::GoldenMismatch, format!("{}: {error}", case.name)))?;
        }
    }
    runs.sort_unstable();
    Ok((percentile(&runs, 50), percentile(&runs, 95)))
}

/// The nearest-rank percentile of sorted values; 0 of none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// This process's memory as the kernel tells it, through a file that was opened before the sandbox closed.
struct Memory(Option<File>);

impl Memory {
    fn open() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    /// 0 where the kernel does not say.
    fn resident_bytes(&self) -> u64 {
        self.line("VmRSS:")
    }

    fn peak_bytes(&self) -> u64 {
        self.line("VmHWM:")
    }

    fn line(&self, name: &str) -> u64 {
        let mut bytes = [0; 8192];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]);
        let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        kilobytes.map_or(0, |kilobytes: u64| kilobytes.saturating_mul(1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (50, 95));
        assert_eq!((percentile(&[7], 95), percentile(&[], 95)), (7, 0));
    }

    #[test]
    fn the_kernel_tells_this_process_its_memory() {
        let memory = Memory::open();
        assert!(memory.peak_bytes() >= memory.resident_bytes() && memory.resident_bytes() > 0);
    }
}
