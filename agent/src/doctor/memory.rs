//! Available memory against what a probe may take.

use sysinfo::{MemoryRefreshKind, System};

use super::{Finding, Patient};

pub(super) fn check(patient: &Patient) -> Finding {
    match available() {
        Ok(available) => judge(available, patient.config.probe_memory_bytes),
        Err(error) => Finding::warn("memory", format!("cannot be read: {error}"), "mount /proc"),
    }
}

fn available() -> Result<u64, sysinfo::Error> {
    let mut system = System::new()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Ok(system.available_memory())
}

fn judge(available: u64, probe: u64) -> Finding {
    let found = format!("{} MiB available, a probe may take {} MiB", available >> 20, probe >> 20);
    if available < probe {
        Finding::warn(
            "memory",
            found,
            "lower probe_memory_bytes, or a large version may drive the machine out of memory",
        )
    } else {
        Finding::ok("memory", found)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_probe_that_may_take_more_than_there_is_warns() {
        assert_eq!(judge(1 << 30, 1 << 29).verdict, Verdict::Ok);
        assert_eq!(judge(1 << 28, 1 << 29).verdict, Verdict::Warn);
    }
}
