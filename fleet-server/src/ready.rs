//! The ready-file: where everything listens, written when everything does.

use std::{net::SocketAddr, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::disk::{self, Access};

/// The addresses of a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// HTTPS.
    pub https: SocketAddr,
    /// MQTT.
    pub mqtt: SocketAddr,
    /// The console, where there is one.
    pub console: Option<SocketAddr>,
}

/// The content of the ready-file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The process.
    pub pid: u32,
    /// Where it listens.
    #[serde(flatten)]
    pub addresses: Addresses,
}

/// Writes the ready-file of this process.
///
/// # Errors
/// Where the disk refuses.
pub fn write(path: &Path, addresses: Addresses) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        disk::create_folder(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let ready = Ready { pid: std::process::id(), addresses };
    let json = serde_json::to_vec(&ready).context("write the addresses as JSON")?;
    disk::write(path, &json, Access::Public).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_console_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/ready.json");
        let (https, mqtt) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        write(&path, Addresses { https, mqtt, console: None }).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let pid = std::process::id();
        assert_eq!(text, format!(r#"{{"pid":{pid},"https":"127.0.0.1:1","mqtt":"127.0.0.1:2","console":null}}"#));
    }
}
