//! Waiting for what must come, by polling; and, where that was in vain, what the processes of this test have said last.

use std::{
    cell::RefCell,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tern_fleet_server::clock::Moment;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a log that are shown.
const LINES: usize = 40;

thread_local! {
    /// Logs of the processes that this thread's test has started.
    static LOGS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// From now on a wait in vain on this thread shows the end of this log.
pub(super) fn show_in_vain(log: &Path) {
    LOGS.with_borrow_mut(|logs| logs.push(log.to_owned()));
}

/// Polls until there is something.
#[track_caller]
pub(crate) fn wait<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    wait_saying(what, || poll().ok_or("nothing of it was seen"))
}

/// Polls until there is something; in vain, the last poll's reason is said.
#[track_caller]
pub(crate) fn wait_saying<T, W: Display>(what: &str, mut poll: impl FnMut() -> Result<T, W>) -> T {
    let started = Moment::now();
    loop {
        match poll() {
            Ok(found) => return found,
            Err(why) => assert!(started.elapsed() < PATIENCE, "waited in vain: {what}: {why}{}", ends()),
        }
        std::thread::park_timeout(Duration::from_millis(15));
    }
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn ends() -> String {
    let end = |log: &PathBuf| format!("\n{} ends with\n{}", log.display(), tail(log));
    LOGS.with_borrow(|logs| logs.iter().map(end).collect())
}
