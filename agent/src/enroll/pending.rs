//! The key of an enrolment that has not ended: `device.key.pending`, durable before the server sees its public half.
//!
//! A token counts for the first key that the server saw with it. Were that key lost with the server's answer, so would be the
//! token; as it is, the next try with the same token asks with the same key and is answered again. Never: a key for another
//! token, or one that outlives the identity which it became.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use tern_protocol::digest::Digest;

use crate::disk;

const MAX_BYTES: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    /// 1.
    format: u32,
    /// SHA-256 of the token.
    token: Digest,
    key_pem: String,
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("device.key.pending")
}

/// The key for the token of this digest: the one that an earlier try left, or a new one.
pub(super) fn key(state_dir: &Path, token: Digest) -> anyhow::Result<KeyPair> {
    let path = path(state_dir);
    if let Some(key) = left(&path, &token) {
        tracing::info!("this token was tried before: its key is used again");
        return Ok(key);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
    let bytes = serde_json::to_vec(&Pending { format: 1, token, key_pem: key.serialize_pem() })?;
    disk::write_file(&path, &bytes, disk::SECRET).with_context(|| format!("write {}", path.display()))?;
    Ok(key)
}

/// A file that cannot be read holds no key that any server could still want.
fn left(path: &Path, token: &Digest) -> Option<KeyPair> {
    let bytes = disk::read_bounded(path, MAX_BYTES).ok()??;
    let pending: Pending = serde_json::from_slice(&bytes).ok()?;
    let counts = pending.format == 1 && pending.token == *token;
    counts.then(|| KeyPair::from_pem(&pending.key_pem).ok())?
}

/// Removes the key, once it has its place in the identity.
pub(super) fn forget(state_dir: &Path) {
    if let Err(error) = disk::remove_file(&path(state_dir)) {
        tracing::warn!(%error, "device.key.pending, a second copy of the device's key, cannot be removed");
    }
}
