//! `serving.json`: what the device serves, for the day on which neither `state.db` nor `state.copy` can be read.
//!
//! Format 1: `{"format": 1, "models": {model: version}, "sha256": …}`, where the digest covers the models as JSON without
//! blanks. Read only when the floors are unreadable, written whenever what is active and proven changes. It is no floor: it
//! says what to go on serving, from files that are compared with their digests, and nothing is installed by it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use tern_protocol::{digest::Digest, ids::ModelName};

use crate::{
    disk,
    state::{State, VersionRef},
};

/// 64 models stay far below.
const MAX_BYTES: u64 = 1 << 20;
const FORMAT: u32 = 1;

/// What serves, by model.
pub(super) type Serving = BTreeMap<ModelName, VersionRef>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    format: u32,
    models: Serving,
    sha256: Digest,
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("serving.json")
}

/// What of a state is to go on serving without it: the active version; where that is not proven, the one before, if any. A
/// model that was stopped stays so.
pub(super) fn of(state: &State) -> Serving {
    let serves = |r: &crate::state::ModelRecord| {
        let active = r.active.as_ref()?;
        Some(r.previous.as_ref().filter(|_| !r.proven).unwrap_or(active).clone())
    };
    state.models.iter().filter_map(|(name, record)| Some((name.clone(), serves(record)?))).collect()
}

pub(super) fn save(state_dir: &Path, serving: &Serving) -> std::io::Result<()> {
    let sha256 = digest(serving)?;
    let page = Page { format: FORMAT, models: serving.clone(), sha256 };
    let bytes = serde_json::to_vec_pretty(&page).map_err(std::io::Error::other)?;
    disk::write_file(&path(state_dir), &bytes, disk::SECRET)
}

pub(super) fn load(state_dir: &Path) -> anyhow::Result<Serving> {
    let bytes = disk::read_bounded(&path(state_dir), MAX_BYTES).context("serving.json")?;
    let bytes = bytes.ok_or_else(|| anyhow!("serving.json is missing"))?;
    let page: Page = serde_json::from_slice(&bytes).context("serving.json")?;
    if page.format != FORMAT {
        bail!("serving.json has format {}, this agent knows {FORMAT}", page.format);
    }
    if digest(&page.models)? != page.sha256 {
        bail!("serving.json does not match its checksum");
    }
    Ok(page.models)
}

fn digest(serving: &Serving) -> std::io::Result<Digest> {
    serde_json::to_vec(serving).map(|bytes| Digest::of(&bytes)).map_err(std::io::Error::other)
}
