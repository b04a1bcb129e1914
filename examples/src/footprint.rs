//! What the agents' processes weigh, from the kernel's own accounting.

use serde::Serialize;

use crate::processes::{Daemon, children};

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
}
