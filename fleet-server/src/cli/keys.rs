//! The operator's keys: names in the store beside the configuration, or files. Read here, used here, sent nowhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tern_protocol::keys::SigningKey;

use super::config::Environment;
use crate::keyfile::{self, Passphrase, PassphraseError};

/// The usual release key's name beside the configuration.
const USUAL: &str = "release.key";

/// Where the operator's keys are, and how they are opened.
pub(super) struct Keys<'a> {
    environment: &'a Environment,
    /// The store's folder; none where there is no home.
    store: Option<PathBuf>,
}

impl<'a> Keys<'a> {
    /// The keys beside the configuration file `place`.
    pub(super) fn beside(environment: &'a Environment, place: Option<&Path>) -> Self {
        Self::in_folder(environment, place.and_then(Path::parent))
    }

    /// The keys in the configuration's folder.
    pub(super) fn in_folder(environment: &'a Environment, folder: Option<&Path>) -> Self {
        Self { environment, store: folder.map(|folder| folder.join("keys")) }
    }

    /// The store's folder.
    pub(super) fn store(&self) -> anyhow::Result<&Path> {
        self.store.as_deref().context("there is no home folder to keep keys in: name a configuration with --config")
    }

    /// The file of a key that is named, as a NAME of the store or a FILE; `ending` is `key` or `pub`.
    pub(super) fn file(&self, named: &Path, ending: &str) -> PathBuf {
        let is_name = named.components().count() == 1 && !named.as_os_str().to_string_lossy().contains('/');
        let kept = self.store.as_ref().map(|store| store.join(format!("{}.{ending}", named.display())));
        kept.filter(|file| is_name && file.exists()).unwrap_or_else(|| named.to_owned())
    }

    /// The keys that are named, each once.
    pub(super) fn open(&self, named: &[PathBuf]) -> anyhow::Result<Vec<SigningKey>> {
        let mut keys: Vec<SigningKey> = Vec::new();
        for name in named {
            let file = self.file(name, "key");
            let key = keyfile::open(&file, || self.passphrase(&format!("passphrase of {}", file.display())))?;
            // TUF refuses a list that one key signed twice.
            if keys.iter().all(|other| other.public() != key.public()) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The passphrase of a key that there is: from the file of `TERN_KEY_PASSPHRASE_FILE`, else from the terminal.
    fn passphrase(&self, question: &str) -> Result<Passphrase, PassphraseError> {
        match (&self.environment.passphrase_file, self.environment.ask) {
            (Some(file), _) => Passphrase::of_file(file),
            (None, Some(ask)) => ask(question),
            (None, None) => Err(PassphraseError::NoTerminal),
        }
    }

    /// The passphrase of a key that is to be made; on the terminal it is typed twice.
    pub(super) fn new_passphrase(&self, name: &str) -> Result<Passphrase, PassphraseError> {
        let first = self.passphrase(&format!("new passphrase of {name}"))?.long_enough()?;
        if self.environment.passphrase_file.is_none() && !first.same(&self.passphrase("the same again")?) {
            return Err(PassphraseError::Differs);
        }
        Ok(first)
    }
}

/// The release keys to sign with: those named, else that of `TERN_RELEASE_KEY`, else the usual one.
pub(super) fn load(
    named: &[PathBuf],
    environment: &Environment,
    folder: Option<&Path>,
) -> anyhow::Result<Vec<SigningKey>> {
    let keys = Keys::in_folder(environment, folder);
    let places: Vec<PathBuf> = match (named, &environment.release_key, folder) {
        ([], Some(place), _) => vec![place.clone()],
        ([], None, Some(folder)) => vec![folder.join(USUAL)],
        ([], None, None) => bail!("there is no release key to sign with: name it with --key"),
        (named, ..) => named.to_vec(),
    };
    keys.open(&places).context("release key: name it with --key or TERN_RELEASE_KEY")
}
