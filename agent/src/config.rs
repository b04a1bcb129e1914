//! `/etc/tern/agent.toml`: every key, its default, and what is wrong with a bad one.
//!
//! Bytes become types here. An unknown key, a path that is not absolute or an address that is not loopback is refused with
//! the key's name and the remedy; nothing is silently corrected.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tern_protocol::{
    desired::Probation,
    frames::Limits,
    ids::{DeviceClass, Labels},
};

use crate::{http, sources::MAX_SOURCES};

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/tern/agent.toml";

/// The device's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Durable state: identity, floors, blobs.
    #[serde(default = "defaults::state_dir")]
    pub state_dir: PathBuf,
    /// Sockets.
    #[serde(default = "defaults::runtime_dir")]
    pub runtime_dir: PathBuf,
    /// The kind of hardware, by which versions are allowed and budgets chosen.
    #[serde(default = "defaults::device_class")]
    pub device_class: DeviceClass,
    /// Labels that selectors match, 64 at most.
    #[serde(default)]
    pub labels: Labels,
    /// The inference API's Unix socket; `infer.sock` in `runtime_dir` where absent.
    #[serde(default)]
    pub infer_socket: Option<PathBuf>,
    /// The inference API's loopback TCP address; off where absent. Port 0 takes a free one.
    #[serde(default)]
    pub infer_tcp: Option<SocketAddr>,
    /// Threads that run models.
    #[serde(default = "defaults::threads")]
    pub threads: NonZeroU32,
    /// Requests that may wait for a thread.
    #[serde(default = "defaults::queue")]
    pub queue: NonZeroU32,
    /// Connections at once.
    #[serde(default = "defaults::connections")]
    pub connections: NonZeroU32,
    /// Longest request body.
    #[serde(default = "defaults::request_bytes")]
    pub request_bytes: u64,
    /// Longest time for one inference.
    #[serde(default = "defaults::deadline_ms")]
    pub deadline_ms: u64,
    /// Most bytes that bundles may take on disk, all together.
    #[serde(default = "defaults::disk_bytes")]
    pub disk_bytes: u64,
    /// Most bytes that windows and events may take on disk until the server has them.
    #[serde(default = "defaults::outbox_bytes")]
    pub outbox_bytes: u64,
    /// How often open windows are written down.
    #[serde(default = "defaults::checkpoint_interval_seconds")]
    pub checkpoint_interval_seconds: u64,
    /// Address space of a probe.
    #[serde(default = "defaults::probe_memory_bytes")]
    pub probe_memory_bytes: u64,
    /// Processor time of a probe.
    #[serde(default = "defaults::probe_cpu_seconds")]
    pub probe_cpu_seconds: u64,
    /// Wall time of a probe.
    #[serde(default = "defaults::probe_wall_seconds")]
    pub probe_wall_seconds: u64,
    /// Where to write the addresses once everything listens.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
    /// Longest pause between two attempts to reach the server.
    #[serde(default = "defaults::reconnect_max_seconds")]
    pub reconnect_max_seconds: u64,
    /// How often the device asks what the teams say of their models: recalls and floors.
    #[serde(default = "defaults::trust_refresh_seconds")]
    pub trust_refresh_seconds: u64,
    /// The shortest probation, whatever the server says.
    #[serde(default = "defaults::least_probation_seconds")]
    pub least_probation_seconds: u64,
    /// Candidates: versions that a team's robot signed, and nobody approved.
    #[serde(default)]
    pub candidates: Candidates,
    /// Further places for metadata, manifests and blobs, in order, with the server's routes and CA; 8 at most. The server
    /// of the enrolment is always one as well.
    #[serde(default)]
    pub sources: Vec<SourceConfig>,
    /// A source that brings less than 60 KiB of a blob in this time, or less than 1 KiB of metadata in a quarter of it, is
    /// given up for the next.
    #[serde(default = "defaults::source_patience_seconds")]
    pub source_patience_seconds: u64,
    /// The log's filter, in the syntax of `RUST_LOG`.
    #[serde(default = "defaults::log")]
    pub log: String,
}

/// The section `[candidates]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidates {
    /// Whether this device takes candidates. Set back to false it takes no more of them; one that runs goes on until another
    /// version is demanded.
    #[serde(default)]
    pub allow: bool,
}

/// A section `[[sources]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its address, such as `https://cache.example:8443`.
    pub url: String,
}

mod defaults {
    use super::{DeviceClass, NonZeroU32, PathBuf};

    pub(super) fn state_dir() -> PathBuf {
        "/var/lib/tern-agent".into()
    }
    pub(super) fn runtime_dir() -> PathBuf {
        "/run/tern".into()
    }
    pub(super) fn device_class() -> DeviceClass {
        "generic".parse().expect("invariant: the default class is a valid name")
    }
    pub(super) fn threads() -> NonZeroU32 {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        NonZeroU32::new(cores as u32).unwrap_or(NonZeroU32::MIN)
    }
    pub(super) fn queue() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(31)
    }
    pub(super) fn connections() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(63)
    }
    pub(super) fn request_bytes() -> u64 {
        16 << 20
    }
    pub(super) fn deadline_ms() -> u64 {
        10_000
    }
    pub(super) fn disk_bytes() -> u64 {
        2 << 30
    }
    /// A year of hourly windows of one model with eight features; reading all of it at a start takes slow flash 2 s.
    pub(super) fn outbox_bytes() -> u64 {
        32 << 20
    }
    /// For the flash: at 15 minutes a day of one model with eight features writes 2.4 MB (`outbox/tests/day.rs`).
    pub(super) fn checkpoint_interval_seconds() -> u64 {
        900
    }
    pub(super) fn probe_memory_bytes() -> u64 {
        2 << 30
    }
    pub(super) fn probe_cpu_seconds() -> u64 {
        60
    }
    pub(super) fn probe_wall_seconds() -> u64 {
        120
    }
    pub(super) fn reconnect_max_seconds() -> u64 {
        60
    }
    pub(super) fn source_patience_seconds() -> u64 {
        60
    }

    pub(super) fn trust_refresh_seconds() -> u64 {
        3600
    }
    pub(super) fn least_probation_seconds() -> u64 {
        super::Probation::LEAST_SECONDS
    }
    pub(super) fn log() -> String {
        "info".into()
    }
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}; create it or name another with --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no configuration: syntax, an unknown key, a value of a wrong kind.
    #[error("{path} is not valid: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, key and reason.
        message: String,
    },
    /// A value that cannot be used.
    #[error("{key} {problem}; {remedy}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl Config {
    /// The configuration in `path`. The default path may be absent: then every default holds.
    ///
    /// # Errors
    /// Each cause has its variant of [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => String::new(),
            Err(cause) => return Err(ConfigError::Unreadable { path: path.into(), cause }),
        };
        Self::parse(&text, path)
    }

    /// The configuration in `text`, which came from `path`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] or [`ConfigError::BadValue`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let message = e.to_string().trim_end().to_owned();
            ConfigError::Malformed { path: path.into(), message }
        })?;
        config.check()?;
        Ok(config)
    }

    /// The inference API's Unix socket.
    pub fn infer_socket(&self) -> PathBuf {
        self.infer_socket.clone().unwrap_or_else(|| self.runtime_dir.join("infer.sock"))
    }

    /// The socket that `tern-agent status` asks.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// The folder of key and certificates.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    /// The limits of the inference API.
    pub fn limits(&self) -> Limits {
        Limits {
            threads: self.threads.get(),
            queue: self.queue.get(),
            connections: self.connections.get(),
            request_bytes: self.request_bytes,
            deadline_ms: self.deadline_ms,
            increment_ms: 1000,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, problem: String, remedy| Err(ConfigError::BadValue { key, problem, remedy });
        let paths = [
            ("state_dir", Some(&self.state_dir)),
            ("runtime_dir", Some(&self.runtime_dir)),
            ("infer_socket", self.infer_socket.as_ref()),
            ("ready_file", self.ready_file.as_ref()),
        ];
        for (key, path) in paths {
            if let Some(path) = path.filter(|p| !p.is_absolute()) {
                return bad(key, format!("is {}", path.display()), "write an absolute path");
            }
        }
        if let Some(address) = self.infer_tcp.filter(|a| !a.ip().is_loopback()) {
            let remedy = "use 127.0.0.1 or [::1]; the inference API has no authentication of its own";
            return bad("infer_tcp", format!("is {address}, which other machines can reach"), remedy);
        }
        let socket = self.infer_socket();
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return bad("infer_socket", format!("is longer than {MAX_SOCKET_PATH} bytes"), "choose a shorter path");
        }
        if self.control_socket().as_os_str().len() > MAX_SOCKET_PATH {
            return bad("runtime_dir", format!("is longer than {MAX_SOCKET_PATH} bytes"), "choose a shorter path");
        }
        if self.labels.len() > MAX_LABELS {
            return bad("labels", format!("has {} labels, more than {MAX_LABELS}", self.labels.len()), "remove some");
        }
        if self.sources.len() > MAX_SOURCES {
            let problem = format!("has {} sources, more than {MAX_SOURCES}", self.sources.len());
            return bad("sources", problem, "remove some");
        }
        if let Some(source) = self.sources.iter().find(|source| !http::is_address(&source.url)) {
            return bad("sources", format!("has the url {:?}", source.url), "write it as https://host:port");
        }
        let ranges = [
            ("threads", u64::from(self.threads.get()), 1, 256),
            ("queue", u64::from(self.queue.get()), 1, 65_536),
            ("connections", u64::from(self.connections.get()), 1, 65_536),
            ("request_bytes", self.request_bytes, 1 << 10, 1 << 30),
            ("deadline_ms", self.deadline_ms, 10, 600_000),
            ("disk_bytes", self.disk_bytes, 1 << 20, u64::MAX),
            // Below, there is no room to merge in; above, nobody meant it.
            ("outbox_bytes", self.outbox_bytes, 1 << 20, 1 << 40),
            ("checkpoint_interval_seconds", self.checkpoint_interval_seconds, 1, 86_400),
            ("probe_memory_bytes", self.probe_memory_bytes, 64 << 20, u64::MAX),
            ("probe_cpu_seconds", self.probe_cpu_seconds, 1, 3600),
            ("probe_wall_seconds", self.probe_wall_seconds, 1, 3600),
            ("reconnect_max_seconds", self.reconnect_max_seconds, 1, 3600),
            ("trust_refresh_seconds", self.trust_refresh_seconds, 1, 86_400),
            ("source_patience_seconds", self.source_patience_seconds, 1, 3600),
            (
                "least_probation_seconds",
                self.least_probation_seconds,
                Probation::LEAST_SECONDS,
                Probation::MOST_SECONDS,
            ),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return bad(key, format!("is {value}, outside {least} to {most}"), "choose a value inside");
            }
        }
        Ok(())
    }
}

/// Most labels: as many as the server takes, and a twin with them stays below its own limit.
const MAX_LABELS: usize = 64;
/// Longest path of a Unix socket that Linux takes, in bytes.
const MAX_SOCKET_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/tern/agent.toml"))
    }

    #[test]
    fn every_key_has_a_default() {
        let config = parse("").unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/tern-agent"));
        assert_eq!(config.infer_socket(), Path::new("/run/tern/infer.sock"));
        assert_eq!(config.infer_tcp, None);
        assert_eq!((config.candidates.allow, config.trust_refresh_seconds), (false, 3600));
        assert!(parse("[candidates]\nallow = true").unwrap().candidates.allow);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = parse("thread = 2").unwrap_err();
        assert!(matches!(&error, ConfigError::Malformed { message, .. } if message.contains("thread")), "{error}");
    }

    #[test]
    fn a_bad_value_names_its_key() {
        for (text, wanted) in [
            ("infer_tcp = \"0.0.0.0:8080\"", "infer_tcp"),
            ("infer_tcp = \"192.168.1.4:0\"", "infer_tcp"),
            ("state_dir = \"var\"", "state_dir"),
            ("ready_file = \"x\"", "ready_file"),
            ("request_bytes = 0", "request_bytes"),
            ("outbox_bytes = 4096", "outbox_bytes"),
            ("checkpoint_interval_seconds = 0", "checkpoint_interval_seconds"),
            ("reconnect_max_seconds = 0", "reconnect_max_seconds"),
            ("least_probation_seconds = 0", "least_probation_seconds"),
            ("least_probation_seconds = 2592001", "least_probation_seconds"),
            ("trust_refresh_seconds = 0", "trust_refresh_seconds"),
            ("source_patience_seconds = 0", "source_patience_seconds"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, ConfigError::BadValue { key, .. } if key == wanted), "{text}: {error}");
        }
        let sources = |n: usize| "[[sources]]\nurl = \"https://cache.example:8443/tern\"\n".repeat(n);
        assert_eq!(parse(&sources(MAX_SOURCES)).unwrap().sources.len(), MAX_SOURCES);
        assert!(matches!(parse(&sources(MAX_SOURCES + 1)), Err(ConfigError::BadValue { key: "sources", .. })));
        for url in
            ["http://cache.example", "cache.example:8443", "https://", "https://you@cache.example", "https://c/?q"]
        {
            let error = parse(&format!("[[sources]]\nurl = \"{url}\"")).unwrap_err();
            assert!(matches!(error, ConfigError::BadValue { key: "sources", .. }), "{url}: {error}");
        }
        let long = format!("runtime_dir = \"/{}\"", "x".repeat(120));
        assert!(matches!(parse(&long), Err(ConfigError::BadValue { .. })));
        assert!(matches!(parse("threads = 0"), Err(ConfigError::Malformed { .. })));
        assert!(matches!(parse("device_class = \"Pi 4\""), Err(ConfigError::Malformed { .. })));
        assert!(parse("infer_tcp = \"[::1]:0\"").is_ok());
        let labels = |n: usize| (0..n).fold("[labels]\n".to_owned(), |text, i| format!("{text}k{i} = \"v\"\n"));
        assert!(parse(&labels(MAX_LABELS)).is_ok());
        assert!(matches!(parse(&labels(MAX_LABELS + 1)), Err(ConfigError::BadValue { key: "labels", .. })));
    }
}
