//! `tern-tuf-client`: the agent's TUF client under the command line of the public TUF client conformance suite.
//!
//! Metadata lies in the given folder as it came, for others to look at; what is ours (the pinned root, the chain of roots,
//! floors) in the sibling `<folder>.tern`. The code is the daemon's own: updater, cache, floors. Two things differ, because
//! the suite's repositories know nothing of Tern: time is the machine's clock without a floor, and addresses are plain
//! HTTP. Exit code 0 where all was done, else 1.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use sigstore_tuf::{Repository, Updater, UpdaterConfig};
use tern_protocol::digest::Digest;

use crate::{
    clock, disk,
    http::{self, Remote},
    state::State,
    store::Store,
    trust::{HttpRepository, client::Client, target},
};

/// Under this name the pinned root lies in our own folder.
const ROOT: &str = "root.json";

#[derive(Debug, Parser)]
#[command(
    name = "tern-tuf-client",
    version,
    about = "The agent's TUF client by itself, for the public conformance suite"
)]
struct Arguments {
    /// Where trusted metadata lies.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is, over plain HTTP.
    #[arg(long)]
    metadata_url: Option<String>,
    /// A target to bring; may be given again.
    #[arg(long = "target-name")]
    target_names: Vec<String>,
    /// Where to put targets.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Where the repository's targets are, over plain HTTP.
    #[arg(long)]
    target_base_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin with this root. No request is made.
    Init {
        /// The root to trust.
        root: PathBuf,
    },
    /// Bring the top-level metadata up to date.
    Refresh,
    /// Refresh, then bring the targets, in order; the first that fails ends it.
    Download,
}

/// Does what `args` (without the program's own name) say.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = Arguments::try_parse_from(std::iter::once(OsString::from("tern-tuf-client")).chain(args));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    tern_protocol::tuf::install_provider();
    match act(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place::of(&arguments.metadata_dir)?;
    if let Command::Init { root } = &arguments.command {
        return place.init(root);
    }
    let metadata = Remote::without_tls(arguments.metadata_url.as_deref().context("--metadata-url is missing")?)?;
    let wanted = match arguments.command {
        Command::Download => Some(Wanted {
            names: arguments.target_names,
            folder: arguments.target_dir.context("--target-dir is missing")?,
            remote: Remote::without_tls(arguments.target_base_url.as_deref().context("--target-base-url is missing")?)?,
        }),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = Session::start(&place, metadata).await?;
        match wanted {
            Some(wanted) => session.bring(&wanted).await,
            None => Ok(()),
        }
    })
}

/// The two folders.
struct Place {
    metadata: PathBuf,
    own: PathBuf,
}

impl Place {
    fn of(metadata: &Path) -> anyhow::Result<Self> {
        let mut own = metadata.file_name().context("--metadata-dir must end in a name")?.to_owned();
        own.push(".tern");
        Ok(Self { metadata: metadata.into(), own: metadata.with_file_name(own) })
    }

    fn init(&self, root: &Path) -> anyhow::Result<()> {
        let kept = self.own.join(ROOT);
        ensure!(!kept.exists(), "{} is initialised: remove it and its metadata to begin anew", self.own.display());
        let bytes = disk::read_bounded(root, UpdaterConfig::default().root_max_length)?;
        let bytes = bytes.with_context(|| format!("{} is not there", root.display()))?;
        for folder in [&self.metadata, &self.own] {
            disk::make_folder(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Store::create(&self.own, &State::new(Some(Digest::of(&bytes)), Timestamp::UNIX_EPOCH))?;
        disk::write_file(&self.metadata.join(ROOT), &bytes, disk::PLAIN)?;
        // Last: what is there without it is begun anew.
        disk::write_file(&kept, &bytes, disk::PLAIN)?;
        Ok(())
    }

    fn root(&self) -> anyhow::Result<Vec<u8>> {
        let kept = disk::read_bounded(&self.own.join(ROOT), UpdaterConfig::default().root_max_length)?;
        kept.with_context(|| format!("{} is not initialised: run init first", self.metadata.display()))
    }
}

/// Targets that are asked for.
struct Wanted {
    names: Vec<String>,
    folder: PathBuf,
    remote: Remote,
}

/// One run: metadata that was brought up to date.
struct Session {
    client: Client,
    updater: Updater,
    now: Timestamp,
    _lock: std::fs::File,
}

impl Session {
    async fn start(place: &Place, metadata: Remote) -> anyhow::Result<Self> {
        let root = place.root()?;
        let lock = disk::lock(&place.own.join("lock")).context("another tern-tuf-client works here")?;
        let repository: Arc<dyn Repository> = Arc::new(HttpRepository::bare(metadata));
        let store = Store::open(&place.own);
        let client = Client::new(&place.metadata, &place.own, root, store);
        let now = clock::machine_time();
        let (updater, outcome) = client.refresh(&repository, now).await?;
        outcome.map_err(|e| anyhow::anyhow!(http::chain(&e)))?;
        client.hold(&updater, &[], None).await?;
        Ok(Self { client, updater, now, _lock: lock })
    }

    async fn bring(&mut self, wanted: &Wanted) -> anyhow::Result<()> {
        disk::make_folder(&wanted.folder).with_context(|| format!("make {}", wanted.folder.display()))?;
        for name in &wanted.names {
            self.bring_one(wanted, name).await.with_context(|| format!("target {name}"))?;
        }
        Ok(())
    }

    async fn bring_one(&mut self, wanted: &Wanted, name: &str) -> anyhow::Result<()> {
        let found = self.updater.get_target_info(name, self.now).await;
        let found = found.map_err(|e| anyhow::anyhow!(http::chain(&e)))?;
        // The search ends where the target is found: a role that it did not reach is not one that is hidden.
        let trusted = self.updater.trusted();
        let delegations = trusted.targets_role("targets").and_then(|t| t.delegations.as_ref());
        let delegated = delegations.iter().flat_map(|d| &d.roles).map(|r| r.name.as_str());
        let delegated: Vec<&str> = delegated.filter(|role| trusted.targets_role(role).is_some()).collect();
        self.client.hold(&self.updater, &delegated, None).await?;
        let Some(found) = found else { bail!("no trusted role lists it") };
        let file = wanted.folder.join(http::encoded(name, b""));
        let by_hash = self.updater.trusted().root().consistent_snapshot;
        target::bring(&wanted.remote, name, &found, by_hash, &file).await?;
        Ok(())
    }
}

fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tern-tuf-client: {text}");
}
