//! What the agents' processes weigh and how much they work, from the kernel's own accounting.

use serde::Serialize;

use crate::processes::{Daemon, children};

/// The unit of processor times under /proc: USER_HZ, which the kernel's ABI fixes.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of one process in KiB: resident (RSS), and its share of what processes have in common (PSS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Memory {
    /// Resident set size.
    pub rss_kib: u64,
    /// Proportional set size.
    pub pss_kib: u64,
}

/// Medians over the devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// The control process.
    pub control: Memory,
    /// The worker.
    pub worker: Memory,
}

/// What these agents and their workers weigh now.
pub fn measure(agents: &[Daemon]) -> Footprint {
    let control: Vec<_> = agents.iter().filter_map(Daemon::pid).collect();
    let workers: Vec<_> = control.iter().flat_map(|pid| children(*pid)).collect();
    Footprint { control: median(&control), worker: median(&workers) }
}

/// Processor time that these agents' processes have used since they started, in seconds: control's and the workers'.
pub fn processor_seconds(agents: &[Daemon]) -> (f64, f64) {
    let control: Vec<_> = agents.iter().filter_map(Daemon::pid).collect();
    let workers = control.iter().flat_map(|pid| children(*pid));
    (control.iter().map(|pid| worked(*pid)).sum(), workers.map(worked).sum())
}

fn worked(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, in brackets, is the only one that may hold spaces; user and system time are the 14th and 15th.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn median(pids: &[u32]) -> Memory {
    let mut all: Vec<_> = pids.iter().filter_map(|pid| memory(*pid)).collect();
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn memory(pid: u32) -> Option<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Memory { rss_kib: field(&text, "Rss:")?, pss_kib: field(&text, "Pss:")? })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_weighs_something() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.rss_kib > 0 && own.pss_kib > 0 && own.pss_kib <= own.rss_kib, "{own:?}");
        assert_eq!(memory(u32::MAX), None);
    }

    #[test]
    fn this_process_works() {
        let mut x = 1_u64;
        while worked(std::process::id()) == 0.0 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert_eq!(worked(u32::MAX), 0.0);
    }
}
