//! What the kernel says of the agent's own processes: processor time, memory, bytes written, temperature.
//!
//! Read from `/proc` and `/sys`; what a kernel or a container does not show is zero or none, and nothing depends on it.

use std::{io::Read, path::PathBuf};

use crate::{disk, telemetry::Reading};

/// A tick of `/proc/<pid>/stat`: USER_HZ is 100 on every Linux.
const TICK_MS: u64 = 10;
/// Longest of these files that is read.
const MOST: u64 = 16 << 10;
/// Where thermal zones tell millidegrees.
const THERMAL: &str = "/sys/class/thermal/thermal_zone0/temp";

/// Reads the figures; remembers the processor time of workers that have ended.
#[derive(Debug)]
pub struct Vitals {
    folder: PathBuf,
    worker: Option<u32>,
    worker_cpu_ms: u64,
    ended_cpu_ms: u64,
}

impl Vitals {
    /// For an agent that keeps its files below `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, worker: None, worker_cpu_ms: 0, ended_cpu_ms: 0 }
    }

    /// The figures now, with the worker's process, where there is one.
    pub fn read(&mut self, worker: Option<u32>) -> Reading {
        if worker != self.worker {
            self.ended_cpu_ms = self.ended_cpu_ms.saturating_add(std::mem::take(&mut self.worker_cpu_ms));
            self.worker = worker;
        }
        // A worker that has just died shows nothing any more: its last figure stands.
        let cpu = worker.and_then(|pid| cpu_ms(&pid.to_string()));
        self.worker_cpu_ms = cpu.unwrap_or_default().max(self.worker_cpu_ms);
        Reading {
            worker_cpu_ms: self.ended_cpu_ms.saturating_add(self.worker_cpu_ms),
            control_cpu_ms: cpu_ms("self").unwrap_or_default(),
            written_bytes: field("/proc/self/io", "write_bytes:").unwrap_or_default(),
            worker_rss_bytes: worker.map_or(0, |pid| rss_bytes(&pid.to_string())),
            control_rss_bytes: rss_bytes("self"),
            disk_free_bytes: disk::free_bytes(&self.folder).unwrap_or_default(),
            temperature: temperature(),
        }
    }
}

/// Bytes that the calling thread has handed to the kernel to be written, to whatever; none where the kernel does not say.
pub fn written_by_this_thread() -> Option<u64> {
    field("/proc/thread-self/io", "wchar:")
}

fn text(path: &str) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = text(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_ms(process: &str) -> Option<u64> {
    ticks(&text(&format!("/proc/{process}/stat"))?).map(|ticks| ticks.saturating_mul(TICK_MS))
}

/// User and system time: fields 14 and 15, after a name that may hold anything but ends at the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_add(next()?))
}

fn rss_bytes(process: &str) -> u64 {
    field(&format!("/proc/{process}/status"), "VmRSS:").unwrap_or_default().saturating_mul(1024)
}

fn temperature() -> Option<f32> {
    let degrees = text(THERMAL)?.trim().parse::<f32>().ok()? / 1000.0;
    // Sensors without a chip behind them say absurd things.
    (-100.0..200.0).contains(&degrees).then_some(degrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_hostile_name_is_read_right() {
        let stat = "7 (a) 9 (b) S 1 1 1 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_is_there_and_a_worker_that_ended_stays_counted() {
        let mut vitals = Vitals::new("/".into());
        let own = std::process::id();
        let first = vitals.read(Some(own));
        assert!(first.control_rss_bytes > 1 << 20 && first.worker_rss_bytes > 1 << 20 && first.disk_free_bytes > 0);
        let ended = vitals.read(None);
        assert!(ended.worker_cpu_ms >= first.worker_cpu_ms && ended.worker_rss_bytes == 0);
        assert!(vitals.read(Some(own)).worker_cpu_ms >= ended.worker_cpu_ms);
    }
}
