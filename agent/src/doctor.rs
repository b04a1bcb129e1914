//! `tern-agent doctor`: looks at everything that keeps a device from working, and says what to do.
//!
//! One file per check. Checks read; they change nothing. The report is an error where any check is.

use std::path::Path;

use serde::Serialize;

use crate::{
    config::{Config, ConfigError},
    control::StatusPage,
    identity::Identity,
    status,
};

mod clock;
mod configuration;
mod dates;
mod disk;
mod identity;
mod memory;
mod outbox;
mod records;
mod sandbox;
mod server;
mod sockets;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// It keeps the device from working.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is.
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn error(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Error, found: found.into(), remedy: remedy.into() }
    }
}

/// What the checks look at.
struct Patient {
    config: Config,
    identity: Result<Option<Identity>, String>,
    /// The running agent's own words, where one runs.
    page: Option<StatusPage>,
}

/// Every finding about the device that is configured in `path`.
pub async fn examine(path: &Path) -> Vec<Finding> {
    let loaded = Config::load(path);
    let mut findings = vec![configuration::check(path, &loaded)];
    let Ok(config) = loaded else { return findings };
    let identity = Identity::load(&config.identity_dir()).map_err(|e| format!("{e:#}"));
    let page = status::ask(&config.control_socket()).ok().and_then(|answer| serde_json::from_str(&answer).ok());
    let patient = Patient { config, identity, page };
    findings.push(identity::check(&patient));
    findings.extend(dates::check(&patient));
    findings.push(clock::check(&patient));
    findings.extend(disk::check(&patient));
    findings.push(memory::check(&patient));
    findings.extend(records::check(&patient));
    findings.extend(outbox::check(&patient));
    findings.extend(sockets::check(&patient));
    findings.push(sandbox::check(&patient));
    findings.extend(server::check(&patient).await);
    findings
}

/// The findings for people.
pub fn show(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        let verdict = match f.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Warn => "warn ",
            Verdict::Error => "ERROR",
        };
        let remedy = if f.remedy.is_empty() { String::new() } else { format!("\n{:>20}{}", "→ ", f.remedy) };
        format!("{verdict} {:<12} {}{remedy}\n", f.check, f.found)
    };
    findings.iter().map(line).collect()
}

/// Whether any finding is an error.
pub fn is_ill(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict == Verdict::Error)
}

// A check needs what a `ConfigError` says, not the type.
fn reason(error: &ConfigError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
