//! `identity/`: the device's key, its certificate, the CA, and what enrolment settled.
//!
//! The folder appears whole by one rename or not at all; its files are never changed in place. The key never leaves it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tern_protocol::{
    digest::Digest,
    ids::{DeviceId, FleetId},
};

use crate::{
    disk,
    tls::{self, Authority},
};

const MAX_FILE_BYTES: u64 = 1 << 20;

/// What enrolment settled: `enrolment.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// 1.
    pub format: u32,
    /// The device.
    pub device: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// Base address of the server's HTTPS.
    pub server: String,
    /// Where MQTT is, as `host:port`.
    pub mqtt_address: String,
    /// SHA-256 of the TUF root that the token pinned.
    pub root_sha256: Digest,
    /// That root, base64.
    pub root_base64: String,
}

/// The device's identity.
#[derive(Debug)]
pub struct Identity {
    /// What enrolment settled.
    pub enrolment: Enrolment,
    /// The pinned root's bytes.
    pub root: Vec<u8>,
    /// The device's certificate, PEM.
    pub certificate_pem: Vec<u8>,
    ca: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The four files of an identity, before they are one.
#[derive(Debug)]
pub struct Files {
    /// The private key, PEM.
    pub key_pem: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The CA, PEM.
    pub ca_pem: String,
    /// The rest.
    pub enrolment: Enrolment,
}

impl Identity {
    /// The identity in this folder; none where the device is not enrolled.
    ///
    /// # Errors
    /// Where a file is missing or is not what it should be.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        if !folder.exists() {
            return Ok(None);
        }
        let read = |name: &str| {
            disk::read_bounded(&folder.join(name), MAX_FILE_BYTES)
                .and_then(|bytes| bytes.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound)))
                .with_context(|| format!("read {}", folder.join(name).display()))
        };
        let enrolment: Enrolment = serde_json::from_slice(&read("enrolment.json")?).context("enrolment.json")?;
        let (key_pem, certificate_pem, ca_pem) = (read("device.key")?, read("device.pem")?, read("ca.pem")?);
        Self::from_parts(enrolment, &key_pem, certificate_pem, &ca_pem).map(Some)
    }

    fn from_parts(enrolment: Enrolment, key: &[u8], certificate_pem: Vec<u8>, ca: &[u8]) -> anyhow::Result<Self> {
        if enrolment.format != 1 {
            return Err(anyhow!("enrolment.json has format {}: update the agent", enrolment.format));
        }
        let root = BASE64_STANDARD.decode(&enrolment.root_base64).context("the root in enrolment.json")?;
        if Digest::of(&root) != enrolment.root_sha256 {
            return Err(anyhow!("the root in enrolment.json differs from its pin"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| anyhow!("device.key: {e:?}"))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate_pem).collect();
        let chain = chain.map_err(|e| anyhow!("device.pem: {e:?}"))?;
        let ca = CertificateDer::from_pem_slice(ca).map_err(|e| anyhow!("ca.pem: {e:?}"))?;
        Ok(Self { enrolment, root, certificate_pem, ca, chain, key })
    }

    /// The CA, as TLS wants it.
    pub fn authority(&self) -> Authority {
        Authority::Certificate(self.ca.clone())
    }

    /// Certificate and key, as TLS wants them.
    pub fn tls(&self) -> tls::Identity {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl Files {
    /// Checks that the files belong together and makes them the identity of `folder`, which must not exist.
    ///
    /// # Errors
    /// Where they do not, or the disk refuses; nothing remains then.
    pub fn install(&self, folder: &Path) -> anyhow::Result<()> {
        let key = self.key_pem.as_bytes();
        let certificate = self.certificate_pem.clone().into_bytes();
        let identity = Identity::from_parts(self.enrolment.clone(), key, certificate, self.ca_pem.as_bytes())?;
        // Building a configuration proves that key and certificate belong together.
        let clock = crate::clock::DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
        tls::client_config(identity.authority(), Some(identity.tls()), clock)?;
        let new = staging(folder)?;
        let written =
            self.write(&new).and_then(|()| disk::publish_folder(&new, folder).context("publish the identity"));
        if written.is_err() {
            // Best effort: the next enrolment clears it too.
            let _ = std::fs::remove_dir_all(&new);
        }
        written
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).context("clear what an interrupted enrolment left")?;
        }
        disk::make_folder(folder)?;
        let enrolment = serde_json::to_vec_pretty(&self.enrolment)?;
        let files = [
            ("device.key", self.key_pem.as_bytes()),
            ("device.pem", self.certificate_pem.as_bytes()),
            ("ca.pem", self.ca_pem.as_bytes()),
            ("enrolment.json", &enrolment),
        ];
        for (name, bytes) in files {
            disk::write_file(&folder.join(name), bytes, disk::SECRET).with_context(|| format!("write {name}"))?;
        }
        Ok(())
    }
}

fn staging(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().ok_or_else(|| anyhow!("the identity folder has no name"))?;
    Ok(folder.with_file_name(format!("{}.new", name.to_string_lossy())))
}
