//! What windows of a version are held against: its contract and its reference profile, read from the blobs and kept
//! parsed. Ingest, detectors and pages ask this one door.
//!
//! Bounded: profiles of [`KEPT_BYTES`] together; the version that nobody asked for longest gives way. Kept is only what
//! can no longer change, a version that its team has signed. Never: it writes nothing and judges no window.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use tern_protocol::{
    canonical,
    contract::Contract,
    digest::Digest,
    ids::ModelVersion,
    manifest::{File, FileRole, Manifest},
    reference,
};
use tern_stats::profile::Profile;

use crate::fleet::Fleet;

/// Bytes of JSON behind the profiles that are kept: dozens of the largest, thousands of usual ones.
const KEPT_BYTES: u64 = 64 << 20;
/// What a version costs beside its profile, roughly.
const OVERHEAD: u64 = 8 << 10;

/// What a version says about itself.
#[derive(Debug)]
pub struct Known {
    /// What its inputs and outputs must be.
    pub contract: Contract,
    /// SHA-256 of the contract's canonical form: windows name it.
    pub contract_digest: Digest,
    /// What they were like when the version was good.
    pub reference: Reference,
    weight: u64,
}

/// A version's reference profile.
#[derive(Debug)]
pub enum Reference {
    /// The bundle has none: nothing is watched but rows, errors and latency.
    Absent,
    /// The bundle has one that cannot be used, and why.
    Unfit(String),
    /// It counts by the contract.
    Fits(Box<Profile>),
}

impl Known {
    #[cfg(test)]
    pub(crate) fn new(contract: Contract, contract_digest: Digest, reference: Reference) -> Self {
        Self { contract, contract_digest, reference, weight: OVERHEAD }
    }

    /// The reference profile, where there is one that fits.
    pub fn profile(&self) -> Option<&Profile> {
        match &self.reference {
            Reference::Fits(profile) => Some(profile),
            Reference::Absent | Reference::Unfit(_) => None,
        }
    }
}

/// The versions that are kept.
#[derive(Debug, Default)]
pub struct Profiles(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    known: HashMap<ModelVersion, (Arc<Known>, u64)>,
    weight: u64,
    asked: u64,
}

impl Cache {
    fn find(&mut self, model: &ModelVersion) -> Option<Arc<Known>> {
        self.asked += 1;
        let (known, last) = self.known.get_mut(model)?;
        *last = self.asked;
        Some(known.clone())
    }

    fn keep(&mut self, model: ModelVersion, known: Arc<Known>, room: u64) {
        self.weight += known.weight;
        if let Some((before, _)) = self.known.insert(model, (known, self.asked)) {
            self.weight -= before.weight;
        }
        while self.weight > room {
            let oldest = self.known.iter().min_by_key(|(_, (_, last))| *last).map(|(model, _)| model.clone());
            let Some((gone, _)) = oldest.and_then(|model| self.known.remove(&model)) else { break };
            self.weight -= gone.weight;
        }
    }
}

impl Profiles {
    /// What is known of a version; none where it was never published.
    ///
    /// # Errors
    /// Where the store or the disk fails. A profile that does not fit is no error: see [`Reference::Unfit`].
    pub async fn of(&self, fleet: &Arc<Fleet>, model: &ModelVersion) -> anyhow::Result<Option<Arc<Known>>> {
        if let Some(known) = self.lock().find(model) {
            return Ok(Some(known));
        }
        let stored = fleet.store.manifest_state(model.clone()).await.context("read a manifest")?;
        let Some((digest, bytes, is_final)) = stored else { return Ok(None) };
        let manifest = Manifest::from_target(&bytes, model, &digest).with_context(|| format!("manifest of {model}"))?;
        let known = Arc::new(fleet.blocking(move |fleet| read(&manifest, |file| blob(fleet, file))).await??);
        // A profile whose blob is gone may come back; every other fault is signed for good.
        if is_final && known.weight > 0 {
            self.lock().keep(model.clone(), known.clone(), KEPT_BYTES);
        }
        Ok(Some(known))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blob(fleet: &Fleet, file: &File) -> anyhow::Result<Option<Vec<u8>>> {
    let piece = fleet.blobs.read(&file.sha256, 0).context("open a reference profile")?;
    piece.map(|mut piece| piece.next(reference::MAX_BYTES as u64 + 1).context("read a reference profile")).transpose()
}

fn read(manifest: &Manifest, blob: impl FnOnce(&File) -> anyhow::Result<Option<Vec<u8>>>) -> anyhow::Result<Known> {
    let contract = manifest.contract.clone();
    let contract_digest = Digest::of(&canonical::document(&contract).context("write a contract")?);
    let (reference, weight) = match reference_file(manifest) {
        Ok(None) => (Reference::Absent, OVERHEAD),
        Err(words) => (Reference::Unfit(words), OVERHEAD),
        Ok(Some(file)) => match blob(file)? {
            None => (Reference::Unfit("its reference profile is not here".into()), 0),
            Some(bytes) => (judge(&bytes, &contract), OVERHEAD + bytes.len() as u64),
        },
    };
    Ok(Known { contract, contract_digest, reference, weight })
}

fn judge(bytes: &[u8], contract: &Contract) -> Reference {
    match reference::read(bytes, contract) {
        Ok(profile) => Reference::Fits(Box::new(profile)),
        Err(error) => Reference::Unfit(error.to_string()),
    }
}

/// The file of a bundle that holds its reference profile.
///
/// # Errors
/// In words for the publisher, where there are several.
pub fn reference_file(manifest: &Manifest) -> Result<Option<&File>, String> {
    let mut files = manifest.files.iter().filter(|file| file.role == FileRole::Reference);
    match (files.next(), files.next()) {
        (Some(_), Some(second)) => Err(format!("{} is a second reference profile: a bundle has one", second.path)),
        (first, _) => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(weight: u64) -> Arc<Known> {
        let contract = Contract { inputs: vec![], outputs: vec![], prediction: None };
        Arc::new(Known { contract, contract_digest: Digest::of(b""), reference: Reference::Absent, weight })
    }

    #[test]
    fn what_nobody_asks_for_gives_way() {
        let mut cache = Cache::default();
        let version = |n: u32| format!("demo/m@{n}.0.0").parse::<ModelVersion>().unwrap();
        for n in 0..3 {
            assert!(cache.find(&version(n)).is_none());
            cache.keep(version(n), known(10), 30);
        }
        assert!(cache.find(&version(0)).is_some());
        cache.keep(version(3), known(10), 30);
        let left: Vec<_> = (0..4).filter(|n| cache.known.contains_key(&version(*n))).collect();
        assert_eq!((left, cache.weight), (vec![0, 2, 3], 30));
        cache.keep(version(0), known(5), 30);
        assert_eq!(cache.weight, 25);
    }

    #[test]
    fn bytes_that_are_no_profile_are_unfit_with_words() {
        let contract = known(0).contract.clone();
        assert!(matches!(judge(b"{}", &contract), Reference::Unfit(words) if words.contains("malformed")));
    }
}
