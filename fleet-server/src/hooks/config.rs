//! The table `[hooks]` of `server.toml`: which incidents call what.

use std::path::PathBuf;

use anyhow::ensure;
use hyper::Uri;
use serde::Deserialize;

use crate::forms::incident::{IncidentKind, Severity};

/// What policy calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The smallest severity that `notify_command` and the webhook hear of.
    pub notify_from: Severity,
    /// Program and arguments; the incident's JSON on standard input. None where empty.
    pub notify_command: Vec<String>,
    /// Kinds of incidents that call `retrain_command`.
    pub retrain_on: Vec<IncidentKind>,
    /// Program and arguments, likewise.
    pub retrain_command: Vec<String>,
    /// Time for `retrain_command`; it is killed at its end.
    pub retrain_timeout_seconds: u32,
    /// Names of the server's environment variables that commands see, beside PATH and HOME.
    pub environment: Vec<String>,
    /// Where incidents are posted, as JSON.
    pub webhook_url: Option<String>,
    /// The file that holds the key of the webhook's signature.
    pub webhook_secret_file: Option<PathBuf>,
    /// Certificates, PEM, that the webhook's server is trusted by.
    pub webhook_ca_file: PathBuf,
    /// First pause before a hook that failed is tried again; doubles to an hour, six tries in all.
    pub retry_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            notify_from: Severity::Alarm,
            notify_command: Vec::new(),
            retrain_on: vec![IncidentKind::ModelBroken],
            retrain_command: Vec::new(),
            retrain_timeout_seconds: 3600,
            environment: Vec::new(),
            webhook_url: None,
            webhook_secret_file: None,
            webhook_ca_file: "/etc/ssl/certs/ca-certificates.crt".into(),
            retry_seconds: 30,
        }
    }
}

impl Config {
    /// Checks what types alone cannot say.
    ///
    /// # Errors
    /// The first fault, with the key's name.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_program = |words: &[String]| words.first().is_none_or(|program| program.starts_with('/'));
        ensure!(is_program(&self.notify_command), "hooks.notify_command must begin with a program's absolute path");
        ensure!(is_program(&self.retrain_command), "hooks.retrain_command must begin with a program's absolute path");
        let day = 86_400;
        ensure!((1..=day).contains(&self.retrain_timeout_seconds), "hooks.retrain_timeout_seconds must be 1 to {day}");
        ensure!((1..=3600).contains(&self.retry_seconds), "hooks.retry_seconds must be 1 to 3600");
        let Some(url) = &self.webhook_url else { return Ok(()) };
        ensure!(
            is_allowed(url),
            "hooks.webhook_url must be https://..., or http://... of a loopback address, without a user"
        );
        ensure!(self.webhook_secret_file.is_some(), "hooks.webhook_secret_file is wanted where webhook_url is given");
        Ok(())
    }
}

/// HTTPS anywhere, plain HTTP on this machine only.
fn is_allowed(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty() && !authority.contains('@'),
        Some("http") => is_here && !authority.contains('@'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for url in ["https://hooks.example/x?y=1", "http://127.0.0.1:9/x", "http://[::1]:9", "http://localhost:80/"] {
            assert!(is_allowed(url), "{url}");
        }
        for url in ["http://hooks.example/", "http://10.0.0.1/", "https://u:p@hooks.example/", "ftp://localhost", "/x"]
        {
            assert!(!is_allowed(url), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |config: Config| config.check().unwrap_err().to_string();
        assert!(wrong(Config { notify_command: vec!["mail".into()], ..Config::default() }).contains("notify_command"));
        assert!(wrong(Config { retry_seconds: 0, ..Config::default() }).contains("retry_seconds"));
        let url = Some("https://hooks.example".to_owned());
        assert!(wrong(Config { webhook_url: url, ..Config::default() }).contains("webhook_secret_file"));
        Config::default().check().unwrap();
    }
}
