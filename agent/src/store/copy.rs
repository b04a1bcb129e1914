//! `state.copy`: the state as JSON under its SHA-256, replaced whole at every change.
//!
//! Format 1: the line `tern-state 1 <sha256>` and then the JSON that the digest covers. Other formats are refused.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tern_protocol::digest::Digest;

use crate::{disk, state::State};

/// Longest copy: a full desired state as hexadecimal and 64 models stay far below.
const MAX_BYTES: u64 = 16 << 20;
const MAGIC: &str = "tern-state 1 ";

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("state.copy")
}

pub(super) fn save(state_dir: &Path, state: &State) -> std::io::Result<()> {
    let body = serde_json::to_vec(state).map_err(std::io::Error::other)?;
    let mut bytes = format!("{MAGIC}{}\n", Digest::of(&body)).into_bytes();
    bytes.extend(body);
    disk::write_file(&path(state_dir), &bytes, disk::SECRET)
}

pub(super) fn load(state_dir: &Path) -> anyhow::Result<State> {
    let bytes = disk::read_bounded(&path(state_dir), MAX_BYTES).context("state.copy")?;
    let bytes = bytes.ok_or_else(|| anyhow!("state.copy is missing"))?;
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| anyhow!("state.copy is cut short"))?;
    let head = std::str::from_utf8(&bytes[..end]).ok().and_then(|h| h.strip_prefix(MAGIC));
    let digest: Digest = head.and_then(|h| h.parse().ok()).ok_or_else(|| anyhow!("state.copy has another format"))?;
    let body = &bytes[end + 1..];
    if Digest::of(body) != digest {
        bail!("state.copy does not match its checksum");
    }
    serde_json::from_slice(body).context("state.copy")
}
