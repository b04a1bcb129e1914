//! Release keys: read from their owner's file, used here, sent nowhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use tern_protocol::keys::SigningKey;

use super::{config, output::Printer};
use crate::disk;

const MAX_BYTES: u64 = 16 << 10;
/// The usual key's name beside the configuration.
const USUAL: &str = "release.key";

/// The keys to sign with: those named, else that of `TERN_RELEASE_KEY`, else the usual one.
pub(super) fn load(
    named: &[PathBuf],
    variable: Option<&Path>,
    folder: Option<&Path>,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Vec<SigningKey>> {
    let places: Vec<PathBuf> = match (named, variable, folder) {
        ([], Some(place), _) => vec![place.to_owned()],
        ([], None, Some(folder)) => vec![folder.join(USUAL)],
        ([], None, None) => bail!("there is no release key to sign with: name it with --key"),
        (named, ..) => named.to_vec(),
    };
    let mut keys: Vec<SigningKey> = Vec::new();
    for place in &places {
        let key = read(place)?;
        if config::is_exposed(place) {
            printer.note(&format!("warning: {0} can be read by others: run `chmod 600 {0}`", place.display()))?;
        }
        // TUF refuses a list that one key signed twice.
        if keys.iter().all(|other| other.public() != key.public()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn read(place: &Path) -> anyhow::Result<SigningKey> {
    let shown = place.display();
    let bytes = disk::read(place, MAX_BYTES)
        .with_context(|| format!("release key {shown}"))?
        .with_context(|| format!("release key {shown} does not exist: name one with --key or TERN_RELEASE_KEY"))?;
    parse(&bytes).with_context(|| {
        format!("{shown} is no release key: an Ed25519 key as PKCS#8 is wanted, in PEM, hexadecimal or DER")
    })
}

fn parse(bytes: &[u8]) -> Option<SigningKey> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if text.starts_with("-----BEGIN") {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
        return SigningKey::from_pkcs8(key.secret_pkcs8_der()).ok();
    }
    match hex::decode(text) {
        Ok(der) if !der.is_empty() => SigningKey::from_pkcs8(&der).ok(),
        _ => SigningKey::from_pkcs8(bytes).ok(),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn a_key_is_read_in_each_of_its_spellings() {
        let key = SigningKey::generate().unwrap();
        let pem = |label| {
            let body = BASE64_STANDARD.encode(key.to_pkcs8());
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
        };
        let hexadecimal = format!("{}\n", hex::encode(key.to_pkcs8())).into_bytes();
        for bytes in [pem("PRIVATE KEY"), hexadecimal, key.to_pkcs8().to_vec()] {
            assert_eq!(parse(&bytes).unwrap().public(), key.public());
        }
        for bytes in [pem("EC PRIVATE KEY"), pem("CERTIFICATE"), b"".to_vec(), b"00ff".to_vec(), b"\xff".to_vec()] {
            assert!(parse(&bytes).is_none());
        }
    }
}
