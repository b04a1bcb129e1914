//! Signing keys in files: the one reader and writer of them.
//!
//! A private key is Ed25519 as PKCS#8: in PEM, encrypted with a passphrase (PBES2: scrypt, AES-256-CBC) or plain, and in
//! both cases readable by its owner only, else it is refused. Keys of other tools are read too, as `openssl pkcs8` writes
//! them, and so is the hexadecimal form of earlier versions. A public key is JSON in TUF's form, for everybody.
//! Never: a secret in a message, in `Debug`, or in memory that was given back.

mod passphrase;
mod rotation;

use std::{os::unix::fs::MetadataExt, path::Path};

use pkcs8::{
    EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument,
    der::Decode,
    pkcs5::{
        EncryptionScheme,
        pbes2::{Kdf, Parameters},
        scrypt,
    },
};
use tern_protocol::keys::{PublicKey, SigningKey};
use zeroize::Zeroizing;

use crate::{
    disk::{self, Access},
    identity::random,
};

pub use passphrase::{Ask, Passphrase, PassphraseError};
pub use rotation::KeyRotation;

/// Longest key file, in bytes.
const MAX_BYTES: u64 = 16 << 10;
/// Labels of PEM.
const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// scrypt's cost: 16 MiB five times, as OWASP asks; more memory at once is what openssl refuses to read.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);
/// Most that a file may ask of whoever opens it: bytes that scrypt holds, bytes that it fills, and rounds of PBKDF2.
const MOST: (u64, u64, u32) = (128 << 20, 512 << 20, 4_000_000);

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("key {0} is missing: restore it from a backup, or name another")]
    Missing(String),
    /// Others than its owner may read it.
    #[error("key {0} can be read by others than its owner, so it is not used: run `chmod 600 {0}`")]
    Exposed(String),
    /// There is no key in it, or one of another kind.
    #[error(
        "{0} holds no usable key, or is damaged: an Ed25519 key as PKCS#8 is wanted, in PEM, hexadecimal or DER; restore \
         it from a backup, or name another"
    )]
    Damaged(String),
    /// It is encrypted in a way that is not read here.
    #[error("key {0} is encrypted in a way not known here: run `openssl pkcs8 -topk8 -v2 aes-256-cbc` on it")]
    Unsupported(String),
    /// It is encrypted where nobody can be asked.
    #[error("key {0} is encrypted: keys that the server itself uses must be plain, with mode 0600")]
    Encrypted(String),
    /// The passphrase is not the key's.
    #[error("the passphrase does not open key {0}")]
    WrongPassphrase(String),
    /// The passphrase could not be had.
    #[error("key {0} is encrypted")]
    NoPassphrase(String, #[source] PassphraseError),
    /// It is no public key in TUF's form.
    #[error(
        "{0} holds no public key: `{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":HEX}},\"scheme\":\"ed25519\"}}` is wanted"
    )]
    NotPublic(String),
    /// The key could not be made.
    #[error("make a key: {0}")]
    NotMade(&'static str),
    /// The disk refused.
    #[error("{0}")]
    Io(String, #[source] std::io::Error),
}

/// Makes a new key in the file `path`: encrypted where there is a passphrase.
///
/// # Errors
/// [`KeyFileError::NotMade`] where there is no randomness, [`KeyFileError::Io`] where the disk refuses.
pub fn create(path: &Path, passphrase: Option<&Passphrase>) -> Result<SigningKey, KeyFileError> {
    let key = SigningKey::generate().map_err(|_| KeyFileError::NotMade("no randomness"))?;
    write(path, &key, passphrase)?;
    Ok(key)
}

/// Writes `key` into the file `path`: encrypted where there is a passphrase.
///
/// # Errors
/// As [`create`].
pub fn write(path: &Path, key: &SigningKey, passphrase: Option<&Passphrase>) -> Result<(), KeyFileError> {
    let not_made = |_| KeyFileError::NotMade("it has no PKCS#8 form");
    let (label, document) = match passphrase {
        None => (PLAIN, SecretDocument::try_from(key.to_pkcs8()).map_err(not_made)?),
        Some(passphrase) => (ENCRYPTED, encrypt(key, passphrase)?),
    };
    let text = document.to_pem(label, LineEnding::LF).map_err(not_made)?;
    disk::write(path, text.as_bytes(), Access::Private).map_err(|e| io(path, e))
}

fn encrypt(key: &SigningKey, passphrase: &Passphrase) -> Result<SecretDocument, KeyFileError> {
    let no_randomness = |_| KeyFileError::NotMade("no randomness");
    let (salt, iv) = (random::<16>().map_err(no_randomness)?, random::<16>().map_err(no_randomness)?);
    let (log_n, r, p) = SCRYPT;
    let cost = scrypt::Params::new(log_n, r, p).expect("invariant: scrypt takes these parameters");
    let scheme = Parameters::generate_scrypt_aes256cbc(cost, &salt, iv);
    let scheme = scheme.expect("invariant: a salt of 16 bytes fits");
    let key = PrivateKeyInfoRef::from_der(key.to_pkcs8()).map_err(|_| KeyFileError::NotMade("it is no PKCS#8"))?;
    key.encrypt_with_params(scheme, passphrase.reveal()).map_err(|_| KeyFileError::NotMade("it was not encrypted"))
}

/// The key in the file `path`, which must be plain: the server's own keys.
///
/// # Errors
/// [`KeyFileError`]; [`KeyFileError::Encrypted`] where it wants a passphrase.
pub fn read(path: &Path) -> Result<SigningKey, KeyFileError> {
    match parse(path)? {
        Form::Plain(key) => Ok(key),
        Form::Encrypted(_) => Err(KeyFileError::Encrypted(shown(path))),
    }
}

/// The key in the file `path`; `ask` gives the passphrase where it is encrypted.
///
/// # Errors
/// [`KeyFileError`].
pub fn open(
    path: &Path,
    ask: impl FnOnce() -> Result<Passphrase, PassphraseError>,
) -> Result<SigningKey, KeyFileError> {
    let der = match parse(path)? {
        Form::Plain(key) => return Ok(key),
        Form::Encrypted(der) => der,
    };
    let unsupported = || KeyFileError::Unsupported(shown(path));
    let info = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(|_| unsupported())?;
    if !is_affordable(&info.encryption_algorithm) {
        return Err(unsupported());
    }
    let passphrase = ask().map_err(|e| KeyFileError::NoPassphrase(shown(path), e))?;
    let opened = info.decrypt(passphrase.reveal()).map_err(|_| KeyFileError::WrongPassphrase(shown(path)))?;
    SigningKey::from_pkcs8(opened.as_bytes()).map_err(|_| KeyFileError::Damaged(shown(path)))
}

/// Whether a key that is encrypted so may be opened: the file says what that costs, and it may be a stranger's.
fn is_affordable(scheme: &EncryptionScheme) -> bool {
    let (held, filled, rounds) = MOST;
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Scrypt(cost)) => {
            let memory = cost.cost_parameter.saturating_mul(128 * u64::from(cost.block_size));
            let work = memory.saturating_mul(cost.parallelization.into());
            // A cost of nothing is no cost, and more than scrypt's own arithmetic bears.
            memory > 0 && memory <= held && work <= filled
        }
        Some(Kdf::Pbkdf2(cost)) => cost.iteration_count <= rounds,
        _ => false,
    }
}

/// Whether the private key in the file `path` is encrypted.
///
/// # Errors
/// [`KeyFileError`].
pub fn is_encrypted(path: &Path) -> Result<bool, KeyFileError> {
    Ok(matches!(parse(path)?, Form::Encrypted(_)))
}

/// Writes a public key in TUF's form, for everybody to read.
///
/// # Errors
/// [`KeyFileError::Io`] where the disk refuses.
pub fn write_public(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    let text = format!("{}\n", tuf_form(key));
    disk::write(path, text.as_bytes(), Access::Public).map_err(|e| io(path, e))
}

/// A public key as text in TUF's form.
pub fn tuf_form(key: &PublicKey) -> String {
    serde_json::to_string(key).expect("invariant: a public key holds text only")
}

/// The public key in the file `path`, in TUF's form.
///
/// # Errors
/// [`KeyFileError::Missing`], [`KeyFileError::NotPublic`].
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let bytes = disk::read(path, MAX_BYTES).map_err(|e| io(path, e))?;
    let bytes = bytes.ok_or_else(|| KeyFileError::Missing(shown(path)))?;
    let key: Option<PublicKey> = serde_json::from_slice(&bytes).ok();
    // One key has one spelling, and so one name: capital letters would give it a second.
    let key = key.filter(|key| key.bytes().is_ok_and(|bytes| PublicKey::ed25519(&bytes) == *key));
    key.ok_or_else(|| KeyFileError::NotPublic(shown(path)))
}

enum Form {
    Plain(SigningKey),
    /// An `EncryptedPrivateKeyInfo`.
    Encrypted(Zeroizing<Vec<u8>>),
}

fn parse(path: &Path) -> Result<Form, KeyFileError> {
    let damaged = || KeyFileError::Damaged(shown(path));
    let bytes = disk::read(path, MAX_BYTES).map_err(|e| io(path, e))?;
    let bytes = Zeroizing::new(bytes.ok_or_else(|| KeyFileError::Missing(shown(path)))?);
    let facts = std::fs::metadata(path).map_err(|e| io(path, e))?;
    if facts.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed(shown(path)));
    }
    let text = str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.starts_with("-----BEGIN") {
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| damaged())?;
        return match label {
            PLAIN => SigningKey::from_pkcs8(document.as_bytes()).map(Form::Plain).map_err(|_| damaged()),
            ENCRYPTED => Ok(Form::Encrypted(document.to_bytes())),
            _ => Err(damaged()),
        };
    }
    let decoded = hex::decode(text).map(Zeroizing::new).ok().filter(|der| !der.is_empty());
    let der = decoded.as_ref().unwrap_or(&bytes);
    SigningKey::from_pkcs8(der).map(Form::Plain).map_err(|_| damaged())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn io(path: &Path, error: std::io::Error) -> KeyFileError {
    KeyFileError::Io(shown(path), error)
}

#[cfg(test)]
mod tests;
