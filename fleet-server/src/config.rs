//! What the server is told: a TOML file, flags over it. An unknown key is refused by its name.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use jiff::SignedDuration;
use serde::Deserialize;
use tern_protocol::desired::Settings;

use crate::{disk, hooks};

/// Longest configuration file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Address of HTTPS; port 0 takes any free one.
    pub https_listen: SocketAddr,
    /// Address of MQTT; port 0 takes any free one.
    pub mqtt_listen: SocketAddr,
    /// Address of the plain HTTP console: loopback only; absent for none.
    pub console_listen: Option<SocketAddr>,
    /// The name under which devices reach this machine; the first of `init --name` where absent.
    pub public_host: Option<String>,
    /// Where the addresses are written once everything listens.
    pub ready_file: Option<PathBuf>,
    /// Life of a desired state; it is signed anew when half of it is gone.
    pub desired_valid_days: u32,
    /// First delay before a desired state is sent again; doubles to an hour.
    pub desired_resend_seconds: u32,
    /// How often devices send reports.
    pub report_interval_seconds: u32,
    /// How long a device's windows are.
    pub window_seconds: u32,
    /// How long windows are kept; figures are kept for ever.
    pub telemetry_days: u32,
    /// Life of a device's certificate; its agent renews it while a third is left.
    pub certificate_life_seconds: u32,
    /// Requests that a device, or an address where machines enrol, may make at once, and in each minute from then on.
    pub requests_at_once: u32,
    /// Log filter, such as `info` or `info,tern_fleet_server=debug`.
    pub log: String,
    /// What incidents call.
    pub hooks: hooks::config::Config,
}

impl Default for Config {
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            data_dir: "/var/lib/tern-server".into(),
            https_listen: SocketAddr::new(any, 8443),
            mqtt_listen: SocketAddr::new(any, 8883),
            console_listen: None,
            public_host: None,
            ready_file: None,
            desired_valid_days: 7,
            desired_resend_seconds: 30,
            report_interval_seconds: Settings::default().report_interval_seconds,
            window_seconds: Settings::default().window_seconds,
            telemetry_days: 30,
            certificate_life_seconds: 365 * 86_400,
            requests_at_once: 600,
            log: "info".into(),
            hooks: hooks::config::Config::default(),
        }
    }
}

impl Config {
    /// The configuration in the file `path`.
    ///
    /// # Errors
    /// Where it cannot be read, or holds a key or value that is not valid: the message names it and its line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = disk::read(path, MAX_BYTES).with_context(|| format!("read {}", path.display()))?;
        let bytes = bytes.with_context(|| format!("{} is missing", path.display()))?;
        let text = str::from_utf8(&bytes).with_context(|| format!("{} is no UTF-8", path.display()))?;
        Self::parse(text).with_context(|| format!("read {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types alone cannot say; flags may have changed a value since the file was read.
    ///
    /// # Errors
    /// The first fault, with the key's name.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(address) = self.console_listen {
            ensure!(address.ip().is_loopback(), "console_listen must be a loopback address: it is plain HTTP");
        }
        ensure!((1..=90).contains(&self.desired_valid_days), "desired_valid_days must be 1 to 90");
        ensure!((1..=3600).contains(&self.desired_resend_seconds), "desired_resend_seconds must be 1 to 3600");
        ensure!((1..=86_400).contains(&self.report_interval_seconds), "report_interval_seconds must be 1 to 86400");
        ensure!((1..=86_400).contains(&self.window_seconds), "window_seconds must be 1 to 86400");
        ensure!((1..=3650).contains(&self.telemetry_days), "telemetry_days must be 1 to 3650");
        ensure!(self.requests_at_once > 0, "requests_at_once must not be 0");
        ensure!(self.certificate_life_seconds > 0, "certificate_life_seconds must not be 0");
        if let Some(host) = &self.public_host {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
            let good = (1..=253).contains(&host.len()) && host.chars().all(plain);
            ensure!(good, "public_host must be a host name or an address, without a port");
        }
        self.hooks.check()
    }

    /// What is signed for every device beside its models.
    pub fn settings(&self) -> Settings {
        let Self { report_interval_seconds, window_seconds, .. } = *self;
        Settings { report_interval_seconds, window_seconds }
    }

    /// Life of a device's certificate.
    pub fn certificate_life(&self) -> SignedDuration {
        SignedDuration::from_secs(self.certificate_life_seconds.into())
    }

    /// How long telemetry is kept.
    pub fn telemetry_life(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.telemetry_days) * 24)
    }

    /// Life of a desired state.
    pub fn desired_life(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.desired_valid_days) * 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        format!("{:#}", Config::parse(text).unwrap_err())
    }

    #[test]
    fn a_file_sets_what_it_names_and_leaves_the_rest() {
        let config = Config::parse("https_listen = \"127.0.0.1:0\"\ndesired_valid_days = 3").unwrap();
        assert_eq!(config.https_listen, "127.0.0.1:0".parse().unwrap());
        assert_eq!(config.desired_life(), SignedDuration::from_hours(72));
        assert_eq!(config.mqtt_listen, Config::default().mqtt_listen);
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("htps_listen = 1").contains("htps_listen"));
        assert!(refused("https_listen = \"nonsense\"").contains("https_listen"));
        assert!(refused("console_listen = \"0.0.0.0:8080\"").contains("console_listen"));
        assert!(refused("desired_valid_days = 0").contains("desired_valid_days"));
        assert!(refused("desired_resend_seconds = 0").contains("desired_resend_seconds"));
        assert!(refused("report_interval_seconds = 0").contains("report_interval_seconds"));
        assert!(refused("window_seconds = 86401").contains("window_seconds"));
        assert!(refused("telemetry_days = 0").contains("telemetry_days"));
        assert!(refused("requests_at_once = 0").contains("requests_at_once"));
        assert!(refused("certificate_life_seconds = 0").contains("certificate_life_seconds"));
        assert!(refused("public_host = \"a/b\"").contains("public_host"));
    }
}
