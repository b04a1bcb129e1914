//! What no garbage collection may remove though no record need name it: versions that are being brought here.
//!
//! A collection works from what the records named some time ago. So it spares what is under way, and once more what came
//! since the last collection; and no version begins to rely on what is there while a collection removes. Never: the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tern_protocol::{digest::Digest, manifest::Manifest};

/// The versions that are needed beside those of the records.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Held while a collection removes, and while a version is added.
    pass: tokio::sync::Mutex<()>,
    versions: Mutex<Versions>,
}

#[derive(Debug, Default)]
struct Versions {
    /// Under way: how many want it, and its blobs.
    coming: BTreeMap<Digest, (usize, BTreeSet<Digest>)>,
    /// Brought since the last collection began; that one may know nothing of them.
    came: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Needed {
    /// Keeps a version from being collected for as long as the answer lives. Waits for a collection to end.
    pub(super) async fn coming(&self, digest: &Digest, manifest: &Manifest) -> Coming {
        let _pass = self.0.pass.lock().await;
        let blobs = manifest.files.iter().map(|f| f.sha256).collect();
        self.versions().coming.entry(*digest).or_insert((0, blobs)).0 += 1;
        Coming { needed: self.clone(), digest: *digest }
    }

    /// Runs a collection, which must spare these manifests and these blobs. Blocks: for threads outside the runtime.
    pub(super) fn collect<T>(&self, remove: impl FnOnce(BTreeSet<Digest>, BTreeSet<Digest>) -> T) -> T {
        let _pass = self.0.pass.blocking_lock();
        let (manifests, blobs) = {
            let mut versions = self.versions();
            let came = std::mem::take(&mut versions.came);
            let coming = versions.coming.iter().map(|(digest, (_, blobs))| (*digest, blobs.clone()));
            let spared: Vec<_> = coming.chain(came).collect();
            (spared.iter().map(|(digest, _)| *digest).collect(), spared.into_iter().flat_map(|(_, b)| b).collect())
        };
        remove(manifests, blobs)
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.0.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version that is under way.
#[derive(Debug)]
pub(super) struct Coming {
    needed: Needed,
    digest: Digest,
}

impl Coming {
    /// It is there, whole: the collection that comes next spares it as well.
    pub(super) fn came(self) {
        let mut versions = self.needed.versions();
        let blobs = versions.coming.get(&self.digest).map(|(_, blobs)| blobs.clone());
        versions.came.extend(blobs.map(|blobs| (self.digest, blobs)));
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut versions = self.needed.versions();
        if let Some((count, _)) = versions.coming.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                versions.coming.remove(&self.digest);
            }
        }
    }
}
