//! The newest root that the device can verify by itself: from the pinned one along the chain in its cache, without a network.

use std::{path::Path, pin::Pin};

use sigstore_tuf::{Error, Repository, Root, Updater};
use tern_protocol::tuf;

use super::{TrustError, cache::Cache};

/// A repository that is never asked.
struct Nowhere;

type Nothing<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

impl Repository for Nowhere {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> Nothing<'a> {
        Box::pin(async move { Err(Error::transport(format!("{name} is not asked for"))) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> Nothing<'a> {
        self.fetch_metadata(path, limit)
    }
}

/// The newest root that `pinned` and the cache in `state_dir/tuf` lead to.
pub(crate) fn known_root(state_dir: &Path, pinned: &[u8]) -> Result<Root, TrustError> {
    let folder = state_dir.join("tuf");
    let cache = std::sync::Arc::new(Cache::new(&folder, &folder));
    let updater = Updater::new(Nowhere, pinned)?.with_store(cache);
    tuf::check_keys(updater.trusted(), &[])?;
    Ok(updater.trusted().root().clone())
}
