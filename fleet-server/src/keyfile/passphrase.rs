//! Passphrases: from a file that only its owner reads, or typed on the terminal unseen.

use std::{os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

use crate::disk;

/// Longest passphrase, in bytes.
const MAX_BYTES: u64 = 1024;
/// Fewest characters of a new one.
const LEAST: usize = 8;

/// A passphrase that is not empty. It is never printed, and erased when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Who asks somebody for a passphrase, with this question.
pub type Ask = fn(&str) -> Result<Passphrase, PassphraseError>;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing was given.
    #[error("an empty passphrase protects nothing: give one, or leave the key plain with --no-passphrase")]
    Empty,
    /// It would be guessed by whoever finds the file.
    #[error(
        "a passphrase of less than 8 characters is soon guessed: take several words, or leave the key plain with --no-passphrase"
    )]
    Short,
    /// The second time it was another.
    #[error("the passphrase was typed differently the second time: run it again")]
    Differs,
    /// Others than its owner may read the file.
    #[error("passphrase file {0} can be read by others than its owner, so it is not used: run `chmod 600 {0}`")]
    Exposed(String),
    /// The file cannot be read.
    #[error("passphrase file {0} cannot be read")]
    Unreadable(String),
    /// Nobody can be asked.
    #[error("there is no terminal to ask for the passphrase: name a file that holds it in TERN_KEY_PASSPHRASE_FILE")]
    NoTerminal,
}

impl Passphrase {
    /// The passphrase in `text`.
    ///
    /// # Errors
    /// [`PassphraseError::Empty`].
    pub fn new(text: Zeroizing<String>) -> Result<Self, PassphraseError> {
        if text.is_empty() { Err(PassphraseError::Empty) } else { Ok(Self(text)) }
    }

    /// The passphrase in a file: its content without the end of the line.
    ///
    /// # Errors
    /// Where others may read the file, it cannot be read, or it is empty.
    pub fn of_file(path: &Path) -> Result<Self, PassphraseError> {
        let unreadable = || PassphraseError::Unreadable(path.display().to_string());
        let facts = std::fs::metadata(path).map_err(|_| unreadable())?;
        if facts.mode() & 0o077 != 0 {
            return Err(PassphraseError::Exposed(path.display().to_string()));
        }
        let bytes = disk::read(path, MAX_BYTES).ok().flatten().map(Zeroizing::new).ok_or_else(unreadable)?;
        let text = str::from_utf8(&bytes).map_err(|_| unreadable())?;
        Self::new(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The passphrase that somebody types on the terminal, unseen.
    ///
    /// # Errors
    /// Where there is no terminal, or nothing is typed.
    pub fn of_terminal(question: &str) -> Result<Self, PassphraseError> {
        let typed = rpassword::prompt_password(format!("{question}: ")).map_err(|_| PassphraseError::NoTerminal)?;
        Self::new(Zeroizing::new(typed))
    }

    /// The same, where it is long enough for a key that is to be made.
    ///
    /// # Errors
    /// [`PassphraseError::Short`].
    pub fn long_enough(self) -> Result<Self, PassphraseError> {
        if self.0.chars().count() < LEAST { Err(PassphraseError::Short) } else { Ok(self) }
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is the same as `other`.
    pub fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, write};

    #[test]
    fn a_passphrase_file_is_private_and_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        assert!(matches!(Passphrase::of_file(&path), Err(PassphraseError::Unreadable(_))));
        write(&path, b"correct horse\r\n", Access::Private).unwrap();
        assert_eq!(Passphrase::of_file(&path).unwrap().reveal(), "correct horse");
        write(&path, b"correct horse", Access::Public).unwrap();
        let refused = Passphrase::of_file(&path).unwrap_err();
        assert!(matches!(refused, PassphraseError::Exposed(_)) && refused.to_string().contains("chmod 600"));
        write(&path, b"\n", Access::Private).unwrap();
        assert!(matches!(Passphrase::of_file(&path), Err(PassphraseError::Empty)));
    }

    #[test]
    fn a_new_passphrase_has_eight_characters() {
        let new = |text: &str| Passphrase::new(Zeroizing::new(text.into())).unwrap().long_enough();
        assert!(matches!(new("1234567"), Err(PassphraseError::Short)));
        assert!(matches!(new("äöüäöüä"), Err(PassphraseError::Short)), "characters, not bytes");
        assert!(new("12345678").is_ok());
    }

    #[test]
    fn a_passphrase_is_never_printed() {
        let secret = Passphrase::new(Zeroizing::new("correct horse".into())).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Passphrase Some(Passphrase)");
    }
}
