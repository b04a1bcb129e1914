//! Ed25519 signing keys in files: PKCS#8 as hexadecimal text, readable by their owner only.

use std::path::Path;

use anyhow::Context;
use tern_protocol::keys::SigningKey;

use crate::disk::{self, Access};

/// Longest key file, in bytes.
const MAX_BYTES: u64 = 4096;

/// Makes a new key in the file `path`.
///
/// # Errors
/// Where there is no randomness or the disk refuses.
pub fn create(path: &Path) -> anyhow::Result<SigningKey> {
    let key = SigningKey::generate().context("make a signing key")?;
    let text = format!("{}\n", hex::encode(key.to_pkcs8()));
    disk::write(path, text.as_bytes(), Access::Private).with_context(|| format!("write {}", path.display()))?;
    Ok(key)
}

/// The key in the file `path`.
///
/// # Errors
/// Where there is none, or it is no Ed25519 key.
pub fn read(path: &Path) -> anyhow::Result<SigningKey> {
    let bytes = disk::read(path, MAX_BYTES).with_context(|| format!("read {}", path.display()))?;
    let bytes = bytes.with_context(|| format!("key {} is missing: restore it from a backup", path.display()))?;
    let text = str::from_utf8(&bytes).unwrap_or_default().trim();
    let damaged = || format!("key {} is damaged: restore it from a backup", path.display());
    SigningKey::from_pkcs8(&hex::decode(text).with_context(damaged)?).with_context(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_damage_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-1.key");
        assert!(read(&path).unwrap_err().to_string().contains("is missing"));
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().public(), key.public());
        disk::write(&path, b"00", Access::Private).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("restore it"));
    }
}
