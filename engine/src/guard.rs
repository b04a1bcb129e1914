//! Runs a closure and turns a panic inside it into an error with the panic's message and place.
//!
//! A process-wide panic hook, installed at the first use, keeps caught panics off stderr and passes every other panic
//! on to the hook that was there before.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    ffi::OsStr,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    path::Path,
    sync::Once,
};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// The closure's result, or what it panicked with and where.
///
/// Callers drop whatever the closure was changing when it panicked: that is what makes the unwind safe here.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(install);
    DEPTH.set(DEPTH.get().saturating_add(1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get().saturating_sub(1));
    outcome.map_err(|payload| {
        let place = PLACE.take();
        // A message may carry a backtrace below its first line.
        let first_line = message(&*payload).lines().next().unwrap_or_default();
        format!("{}{place}", crate::error::brief(first_line))
    })
}

fn install() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if DEPTH.get() == 0 {
            before(panic);
        } else {
            PLACE.set(panic.location().map(|at| place(at.file(), at.line())).unwrap_or_default());
        }
    }));
}

// From the crate's folder on: paths of the build machine stay out of reports.
fn place(file: &str, line: u32) -> String {
    let parts: Vec<_> = Path::new(file).iter().map(OsStr::to_string_lossy).collect();
    let sources = parts.iter().rposition(|part| part == "src").unwrap_or(parts.len());
    format!(" ({}:{line})", parts[sources.saturating_sub(1)..].join("/"))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_place() {
        assert_eq!(guarded(|| 7), Ok(7));
        let what = guarded(|| -> () { panic!("bad {}", 3) }).unwrap_err();
        assert!(what.starts_with("bad 3 (engine/src/guard.rs:"), "{what}");
        let long = guarded(|| -> () { panic!("{}\nbacktrace", "x".repeat(9000)) }).unwrap_err();
        assert!(long.contains("…") && long.contains("(engine/src/guard.rs:") && long.len() < 500, "{long}");
        let nested = guarded(|| (guarded(|| -> () { panic!("inner") }), 5)).unwrap();
        assert!(nested.0.unwrap_err().starts_with("inner") && nested.1 == 5);
        assert_eq!(place("/home/me/registry/src/index/some-0.1.2/src/ops/a.rs", 3), " (some-0.1.2/src/ops/a.rs:3)");
        assert_eq!(place("/home/me/build.rs", 3), " (build.rs:3)");
    }
}
