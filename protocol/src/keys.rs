//! Ed25519 signing keys, in TUF's form.
//!
//! Keys of certificates are not here: they belong to the TLS code of each side.

use std::collections::BTreeMap;

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::canonical;

/// The name of a key: SHA-256 of its TUF key object in canonical form, as TUF and securesystemslib compute it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that is not usable here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is of a type or scheme other than ed25519.
    #[error("key type {keytype:?} with scheme {scheme:?} is not supported: make an ed25519 key")]
    Unsupported {
        /// TUF's `keytype`.
        keytype: String,
        /// TUF's `scheme`.
        scheme: String,
    },
    /// The bytes are no Ed25519 key.
    #[error("malformed ed25519 key")]
    Malformed,
    /// The system gave no random bytes.
    #[error("no randomness to make a key from")]
    NoRandomness,
}

/// A public key as TUF metadata writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyValue {
    public: String,
}

impl PublicKey {
    /// The key with these 32 bytes.
    pub fn ed25519(bytes: &[u8; 32]) -> Self {
        let keyval = KeyValue { public: hex::encode(bytes) };
        Self { keytype: "ed25519".into(), scheme: "ed25519".into(), keyval }
    }

    /// The 32 bytes of the key.
    ///
    /// # Errors
    /// Where it is no Ed25519 key.
    pub fn bytes(&self) -> Result<[u8; 32], KeyError> {
        if self.keytype != "ed25519" || self.scheme != "ed25519" {
            return Err(KeyError::Unsupported { keytype: self.keytype.clone(), scheme: self.scheme.clone() });
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.keyval.public, &mut bytes).map_err(|_| KeyError::Malformed)?;
        Ok(bytes)
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        let form = canonical::signable(self).expect("invariant: a key holds text only");
        KeyId(crate::digest::Digest::of(&form).to_string())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.bytes().is_ok_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
    }
}

/// What stands before the 32 secret bytes in an Ed25519 key as PKCS#8, version 1 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// A private signing key. It is never printed; [`SigningKey::to_pkcs8`] is the only way out, and those bytes are erased
/// when the key is dropped.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        // Version 1, which every tool reads; ring's own documents are of version 2.
        let mut pkcs8 = Zeroizing::new([0; PKCS8_HEAD.len() + 32]);
        let (head, seed) = pkcs8.split_at_mut(PKCS8_HEAD.len());
        head.copy_from_slice(&PKCS8_HEAD);
        SystemRandom::new().fill(seed).map_err(|_| KeyError::NoRandomness)?;
        Self::from_pkcs8(pkcs8.as_slice())
    }

    /// The key in this PKCS#8 document (version 1 or 2).
    ///
    /// # Errors
    /// Where the bytes hold no Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError::Malformed)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// The key as PKCS#8: secret bytes, for a file that only its owner reads.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey::ed25519(bytes.try_into().expect("invariant: an Ed25519 public key has 32 bytes"))
    }

    /// The signature over `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Which keys count for a role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: BTreeMap<KeyId, PublicKey>,
    threshold: usize,
}

impl KeySet {
    /// A set of keys of which `threshold` must sign. A threshold of 0 is raised to 1: nothing unsigned is accepted.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, PublicKey)>, threshold: usize) -> Self {
        Self { keys: keys.into_iter().collect(), threshold: threshold.max(1) }
    }

    /// How many of the keys must sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The names of the keys that count.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }

    /// The key of this name, if it counts.
    pub fn get(&self, id: &KeyId) -> Option<&PublicKey> {
        self.keys.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_message_and_key() {
        let (a, b) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = a.sign(b"message");
        assert!(a.public().verifies(b"message", &signature));
        assert!(!a.public().verifies(b"massage", &signature));
        assert!(!b.public().verifies(b"message", &signature));
        assert!(!a.public().verifies(b"message", &signature[..63]));
    }

    #[test]
    fn a_key_survives_its_file_and_never_prints_itself() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().id()));
        assert_eq!(SigningKey::from_pkcs8(b"x").unwrap_err(), KeyError::Malformed);
    }

    #[test]
    fn the_key_id_is_the_one_other_tuf_tools_compute() {
        // python-tuf's securesystemslib: sha256 of {"keytype":"ed25519","keyval":{"public":…},"scheme":"ed25519"}.
        let key = PublicKey::ed25519(&[0; 32]);
        let form = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#, "00".repeat(32));
        assert_eq!(key.id().0, crate::digest::Digest::of(form.as_bytes()).to_string());
    }

    #[test]
    fn a_threshold_of_zero_still_wants_a_signature() {
        assert_eq!(KeySet::new([], 0).threshold(), 1);
    }
}
