//! The log of the agent's short-lived and confined processes: lines on stderr, which control's journal takes in.

use tracing_subscriber::EnvFilter;

/// Logs to stderr, filtered by `RUST_LOG` (`info` where it is not set). Without effect where a log is set up already.
pub(crate) fn to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).try_init();
}
