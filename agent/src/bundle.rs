//! Versions on disk: manifests by digest in `versions/`, their files among the blobs; and the way there.
//!
//! [`Installer::prepare`] verifies before it fetches and fetches before it answers; [`Installer::try_out`] runs the probe.
//! Whoever opens a file of a version gets bytes that were compared with their signed digest just then. Versions share blobs,
//! so one version is fetched at a time, and garbage is collected around whatever is on its way.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tern_protocol::{
    desired::DesiredModel,
    digest::Digest,
    frames::ProbeResult,
    ids::{ByteCount, DeviceClass, Version},
    manifest::{self, Manifest},
    refusal::RefusalCode,
};

use crate::{
    admit::{check_reference_length, read_exactly},
    disk::{self, BlobError, Blobs},
    fetch::{self, FetchError, Rules},
    http::Remote,
    install::Refusal,
    probe::{self, ProbeLimits, ProbeOrder},
    self_exec::SelfExec,
    sources::Sources,
    state::VersionRef,
    trust::Trust,
};

mod needed;
use needed::Needed;

/// Room that a fetch leaves on the disk beside the reserve.
const HEADROOM: u64 = 16 << 20;

/// The versions on this device's disk.
#[derive(Debug, Clone)]
pub struct Bundles {
    folder: PathBuf,
    /// Their files.
    pub blobs: Blobs,
    needed: Needed,
    /// One version is fetched at a time: two would write one part, and count the same room twice.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl Bundles {
    /// The versions of this state folder.
    ///
    /// # Errors
    /// Where a folder cannot be made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("versions");
        disk::make_folder(&folder)?;
        Ok(Self { folder, blobs: Blobs::open(state_dir)?, needed: Needed::default(), fetching: Arc::default() })
    }

    /// Keeps a manifest that was verified.
    ///
    /// # Errors
    /// What the system said.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        disk::write_file(&self.path(digest), bytes, disk::SECRET)
    }

    /// The manifest with this digest, and its bytes.
    ///
    /// # Errors
    /// `fetch` where it cannot be read, `manifest-digest` or `manifest` where it is not what it was.
    pub fn manifest(&self, digest: &Digest) -> Result<(Manifest, Vec<u8>), Refusal> {
        let unreadable =
            |e: &dyn std::fmt::Display| Refusal::new(RefusalCode::Fetch, format!("manifest {digest}: {e}"));
        let bytes = disk::read_bounded(&self.path(digest), manifest::MAX_BYTES as u64).map_err(|e| unreadable(&e))?;
        let bytes = bytes.ok_or_else(|| unreadable(&"it is not on the disk"))?;
        if Digest::of(&bytes) != *digest {
            return Err(Refusal::new(RefusalCode::ManifestDigest, format!("manifest {digest} rotted on the disk")));
        }
        let manifest = Manifest::from_slice(&bytes).map_err(|e| Refusal::new(RefusalCode::Manifest, e))?;
        Ok((manifest, bytes))
    }

    /// What the worker needs of a version, read and found right.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn model(&self, version: &VersionRef) -> Result<Opened, Refusal> {
        let (manifest, bytes) = self.manifest(&version.manifest)?;
        let open = |file: &manifest::File| {
            self.blobs.open_verified(&file.sha256, file.length.0).map_err(|e| Refusal::from(FetchError::from(e)))
        };
        let mut reference = Vec::new();
        if let Some(file) = manifest.reference_file() {
            check_reference_length(file).map_err(|e| Refusal::new(e.code, e.message))?;
            let read = read_exactly(&open(file)?, 0, file.length.0);
            reference = read.map_err(|e| Refusal::new(RefusalCode::Fetch, format!("{}: {e}", file.path)))?;
        }
        Ok(Opened { model: open(manifest.model_file())?, manifest: bytes, reference })
    }

    /// Removes every manifest and blob that neither these versions need nor those that are being fetched.
    ///
    /// Blocks, also until another collection has ended: not for tasks of the runtime.
    ///
    /// # Errors
    /// What the system said; the rest stays for the next time.
    pub fn collect_garbage(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        self.needed.collect(|mut manifests, blobs| {
            manifests.extend(keep);
            self.remove_but(&manifests, blobs)
        })
    }

    fn remove_but(&self, manifests: &BTreeSet<Digest>, mut blobs: BTreeSet<Digest>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Also of one that is being written beside its name.
            let stem = path.file_name().and_then(|name| name.to_str()?.split('.').next());
            let digest = stem.and_then(|s| s.parse::<Digest>().ok());
            match digest.filter(|d| manifests.contains(d)) {
                None => disk::remove_file(&path)?,
                Some(digest) => {
                    let Ok((manifest, _)) = self.manifest(&digest) else { continue };
                    blobs.extend(manifest.files.iter().map(|f| f.sha256));
                }
            }
        }
        self.blobs.collect_garbage(&blobs)?;
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.json"))
    }
}

/// What the worker is given of a version.
#[derive(Debug)]
pub struct Opened {
    /// Its manifest's bytes.
    pub manifest: Vec<u8>,
    /// Its reference profile's bytes; empty where it has none.
    pub reference: Vec<u8>,
    /// Its model file.
    pub model: File,
}

/// Everything that verifying, fetching and probing need.
#[derive(Debug)]
pub struct Installer {
    /// What to believe.
    pub trust: Trust,
    /// Whom to ask for blobs, in turn.
    pub sources: Sources<Remote>,
    /// Where to put it.
    pub bundles: Bundles,
    /// The device's class.
    pub class: DeviceClass,
    /// This agent's version.
    pub agent: Version,
    /// Most bytes that all bundles may take.
    pub disk_bytes: u64,
    /// What a probe may use.
    pub probe: ProbeLimits,
    /// How to start one.
    pub programs: SelfExec,
    /// What sources of blobs must keep to.
    pub rules: Rules,
    /// One probe at a time: two would measure each other.
    pub turn: tokio::sync::Mutex<()>,
}

impl Installer {
    /// Verifies a demanded version and brings all its files onto the disk.
    ///
    /// # Errors
    /// The first refusal in the order: metadata, manifest, class, agent, budget, space, files.
    pub async fn prepare(&self, wanted: &DesiredModel) -> Result<(), Refusal> {
        let (manifest, bytes) = self.trust.manifest(wanted).await?;
        admit(&manifest, &self.class, &self.agent)?;
        self.bring(&wanted.manifest, &manifest, &bytes).await
    }

    /// Brings a verified manifest and its files onto the disk.
    async fn bring(&self, digest: &Digest, manifest: &Manifest, bytes: &[u8]) -> Result<(), Refusal> {
        let coming = self.bundles.needed.coming(digest, manifest).await;
        let _turn = self.bundles.fetching.lock().await;
        self.make_room(manifest)?;
        self.bundles.keep(digest, bytes).map_err(|e| disk_refusal("cannot keep the manifest", &e))?;
        for file in &manifest.files {
            let (sources, blobs) = (&self.sources, &self.bundles.blobs);
            fetch::blob(sources, blobs, &file.sha256, file.length.0, &self.rules).await?;
        }
        coming.came();
        Ok(())
    }

    fn make_room(&self, manifest: &Manifest) -> Result<(), Refusal> {
        let blobs = &self.bundles.blobs;
        let failed = |e: io::Error| disk_refusal("cannot look at the disk", &e);
        let missing = manifest.files.iter().filter(|f| !blobs.has(&f.sha256, f.length.0));
        let missing = missing.fold(0u64, |sum, f| sum.saturating_add(f.length.0));
        let used = blobs.total_bytes().map_err(failed)?;
        if used.saturating_add(missing) > self.disk_bytes {
            let limit = ByteCount(self.disk_bytes);
            let why = format!("{used} B are used and {missing} B are missing, disk_bytes allows {limit}");
            return Err(Refusal::new(RefusalCode::NoSpace, why));
        }
        let free = disk::free_bytes(&self.bundles.folder).map_err(failed)?;
        if missing.saturating_add(HEADROOM) > free {
            let why = format!("{missing} B are missing and {free} B are free: free some space");
            return Err(Refusal::new(RefusalCode::NoSpace, why));
        }
        Ok(())
    }

    /// Tries a version in a throw-away process.
    ///
    /// # Errors
    /// Why it must not run here.
    pub async fn try_out(self: &Arc<Self>, version: &VersionRef) -> Result<(), Refusal> {
        let version = version.clone();
        self.in_turn(move |this| this.try_out_blocking(&version)).await
    }

    /// Does `work` on a thread of its own, one at a time. Work that nobody waits for any more is not begun, and the turn of
    /// what was begun lasts until it has ended, whoever waits.
    async fn in_turn<W>(self: &Arc<Self>, work: W) -> Result<(), Refusal>
    where
        W: FnOnce(&Self) -> Result<(), Refusal> + Send + 'static,
    {
        let (answer, tried) = tokio::sync::oneshot::channel();
        let this = self.clone();
        let thread = tokio::task::spawn_blocking(move || {
            let _turn = this.turn.blocking_lock();
            if !answer.is_closed() {
                // Whoever asked may have left meanwhile.
                let _ = answer.send(work(&this));
            }
        });
        // Cancelled or not, it ends by itself.
        drop(thread);
        tried.await.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::ProbeDied, "the probe's parent panicked")))
    }

    fn try_out_blocking(&self, version: &VersionRef) -> Result<(), Refusal> {
        let (_, bytes) = self.bundles.manifest(&version.manifest)?;
        let open = |file: &manifest::File| {
            let opened = self.bundles.blobs.open_verified(&file.sha256, file.length.0);
            opened.map_err(|e| match e {
                BlobError::Disk { cause, .. } => cause,
                other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
            })
        };
        let order = ProbeOrder::gather(bytes, self.class.clone(), self.probe, open)
            .map_err(|e| Refusal::new(e.code, e.message))?;
        match probe::run(&self.programs, &order) {
            ProbeResult::Passed(facts) => {
                tracing::info!(version = %version.version, ?facts, "probe passed");
                Ok(())
            }
            ProbeResult::Failed { code, message } => Err(Refusal::new(code, message)),
        }
    }
}

/// A failure of the disk: only a full one is called so, anything else may pass.
fn disk_refusal(what: &str, error: &io::Error) -> Refusal {
    let code = if disk::is_full(error) { RefusalCode::NoSpace } else { RefusalCode::Fetch };
    Refusal::new(code, format!("{what}: {error}"))
}

/// Whether a verified version may be tried on this device at all.
///
/// # Errors
/// `wrong-class`, `agent-too-old` or `over-budget`, in this order.
pub fn admit(manifest: &Manifest, class: &DeviceClass, agent: &Version) -> Result<(), Refusal> {
    if !manifest.allows(class) {
        return Err(Refusal::new(RefusalCode::WrongClass, format!("{} does not allow class {class}", manifest.model)));
    }
    if manifest.minimum_agent > *agent {
        let why = format!("{} needs agent {}, this is {agent}: update it", manifest.model, manifest.minimum_agent);
        return Err(Refusal::new(RefusalCode::AgentTooOld, why));
    }
    let limit = manifest.budget(class).and_then(|b| b.disk_bytes);
    if let Some(limit) = limit.filter(|limit| manifest.total_bytes() > *limit) {
        let why = format!("{} takes {}, its budget is {limit}", manifest.model, manifest.total_bytes());
        return Err(Refusal::new(RefusalCode::OverBudget, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
