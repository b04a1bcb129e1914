//! `identity/`: the device's key, its certificate, the CA, and what enrolment settled.
//!
//! The folder appears whole by one rename or not at all. Later a renewal replaces `device.pem`, and a rotation of the
//! server's CA replaces `ca.pem`: one file each, whole, of the same key and name, so that a power cut leaves the old one or
//! the new one beside files that both belong to. The key never leaves the folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tern_protocol::{
    digest::Digest,
    enrolment::MAX_PEM_BYTES,
    ids::{DeviceId, FleetId},
};

use crate::{
    disk,
    tls::{self, Authority, Credentials},
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
    authorities: Vec<CertificateDer<'static>>,
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
        let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca).collect();
        let authorities = authorities.map_err(|e| anyhow!("ca.pem: {e:?}"))?;
        if chain.is_empty() || authorities.is_empty() {
            return Err(anyhow!("device.pem or ca.pem holds no certificate"));
        }
        Ok(Self { enrolment, root, certificate_pem, authorities, chain, key })
    }

    /// The CAs, as TLS wants them.
    pub fn authority(&self) -> Authority {
        Authority::Certificates(self.authorities.clone())
    }

    /// The CAs, of which any may end the server's chain.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The same as credentials that may change while the agent runs.
    ///
    /// # Errors
    /// Where certificate, key and CAs cannot be used.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        Credentials::new(self.authorities.clone(), self.tls())
    }

    /// From when to when the certificate counts.
    ///
    /// # Errors
    /// Where it cannot be parsed.
    pub fn validity(&self) -> anyhow::Result<(Timestamp, Timestamp)> {
        let der = self.chain.first().context("device.pem holds no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(der).context("device.pem")?;
        let (start, end) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        Ok((Timestamp::from_second(start)?, Timestamp::from_second(end)?))
    }

    /// A request for a certificate of this name and key.
    ///
    /// # Errors
    /// Where the key signs nothing.
    pub fn signing_request(&self) -> anyhow::Result<String> {
        signing_request(self.enrolment.device.as_str(), &self.key_pair()?)
    }

    fn key_pair(&self) -> anyhow::Result<KeyPair> {
        KeyPair::try_from(&self.key).context("device.key")
    }

    /// Makes `certificate_pem` the certificate of the identity in `folder`, which is this one.
    ///
    /// # Errors
    /// Where it is not of this key and name, or no connection could show it, or the disk refuses; the old one stays then.
    pub fn replace_certificate(&mut self, folder: &Path, certificate_pem: String) -> anyhow::Result<()> {
        if certificate_pem.len() > MAX_PEM_BYTES {
            return Err(anyhow!("the certificate is too long"));
        }
        check_certificate(&certificate_pem, &self.enrolment.device, &self.key_pair()?).map_err(|what| anyhow!(what))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect();
        let chain = chain.map_err(|e| anyhow!("the certificate: {e:?}"))?;
        // With one that TLS does not take, the agent would not start again.
        Credentials::new(self.authorities.clone(), (chain.clone(), self.key.clone_key()))?;
        disk::write_file(&folder.join("device.pem"), certificate_pem.as_bytes(), disk::SECRET)
            .context("write device.pem")?;
        (self.chain, self.certificate_pem) = (chain, certificate_pem.into_bytes());
        Ok(())
    }

    /// Certificate and key, as TLS wants them.
    pub fn tls(&self) -> tls::Identity {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl Files {
    /// Checks that the files belong together and makes them the identity of `folder`; one that is there is `replaced`, or
    /// is an error.
    ///
    /// # Errors
    /// Where they do not, or the disk refuses; nothing remains then.
    pub fn install(&self, folder: &Path, replaced: bool) -> anyhow::Result<()> {
        let key = self.key_pem.as_bytes();
        let certificate = self.certificate_pem.clone().into_bytes();
        let identity = Identity::from_parts(self.enrolment.clone(), key, certificate, self.ca_pem.as_bytes())?;
        // Building a configuration proves that key and certificate belong together.
        let clock = crate::clock::DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
        tls::client_config(identity.authority(), Some(identity.tls()), clock)?;
        let new = staging(folder)?;
        let publish = if replaced && folder.exists() { disk::exchange_folders } else { disk::publish_folder };
        let written = self.write(&new).and_then(|()| publish(&new, folder).context("publish the identity"));
        if written.is_err() || replaced {
            // What is left there failed, or is the identity before. Best effort: the next enrolment clears it too.
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

/// A request for a certificate of this name.
pub(crate) fn signing_request(name: &str, key: &KeyPair) -> anyhow::Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key).and_then(|csr| csr.pem()).context("the certificate request")
}

/// Whether the certificate is of this name and key; if not, what is wrong.
pub(crate) fn check_certificate(pem: &str, device: &DeviceId, key: &KeyPair) -> Result<(), String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the certificate is none".to_owned())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| "the certificate is none".to_owned())?;
    let name = parsed.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    if name != Some(device.as_str()) {
        return Err(format!("the certificate is for {:?}, not for {device}", name.unwrap_or_default()));
    }
    let ours = rcgen::PublicKeyData::subject_public_key_info(key);
    if parsed.public_key().raw != ours {
        return Err("the certificate is for another key".into());
    }
    Ok(())
}

fn staging(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().ok_or_else(|| anyhow!("the identity folder has no name"))?;
    Ok(folder.with_file_name(format!("{}.new", name.to_string_lossy())))
}
