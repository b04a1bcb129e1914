//! Signed documents: bytes in, [`Verified`] out.
//!
//! The envelope is TUF's (`{"signatures": […], "signed": {…}}`, signatures over OLPC canonical JSON). The `_type` inside
//! the signed part keeps a signature made for one kind of document from counting for another.

use std::{collections::BTreeSet, ops::Deref};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    canonical,
    keys::{KeyId, KeySet, SigningKey},
};

/// A kind of document that is signed.
pub trait Document: Serialize + DeserializeOwned {
    /// The value of `_type` in the signed part.
    const TYPE: &'static str;
    /// Longest accepted envelope, in bytes.
    const MAX_BYTES: usize;
}

/// A document that carried enough valid signatures. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    document: T,
    signers: Vec<KeyId>,
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

impl<T> Verified<T> {
    /// The document itself.
    pub fn into_inner(self) -> T {
        self.document
    }

    /// The keys whose signatures counted, each once.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }
}

/// Why a signed document was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The envelope is larger than its kind may be.
    #[error("signed document of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most accepted.
        limit: usize,
    },
    /// The envelope is not JSON of the expected form.
    #[error("malformed signed document: {0}")]
    Malformed(String),
    /// It is a signed document of another kind.
    #[error("document of type {found:?} where {expected:?} is wanted")]
    WrongType {
        /// The wanted `_type`.
        expected: &'static str,
        /// The `_type` it carries.
        found: String,
    },
    /// One key signed twice, which TUF forbids.
    #[error("key {0} signed more than once")]
    DuplicateKey(KeyId),
    /// Too few of the counting keys signed.
    #[error("{found} of {threshold} needed signatures are valid")]
    UnderThreshold {
        /// Valid signatures by distinct counting keys.
        found: usize,
        /// How many are needed.
        threshold: usize,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: KeyId,
    sig: String,
}

/// The envelope of `document`, signed by each of `keys`.
///
/// # Errors
/// Where the document has no canonical form (it holds a fraction).
pub fn sign<T: Document>(document: &T, keys: &[&SigningKey]) -> Result<Vec<u8>, canonical::CanonicalError> {
    let mut signed = serde_json::to_value(document).map_err(|e| canonical::CanonicalError::NoForm(e.to_string()))?;
    if let Some(members) = signed.as_object_mut() {
        members.insert("_type".into(), T::TYPE.into());
    }
    sign_value(signed, keys)
}

/// The envelope of a signed part that already holds its `_type`: TUF metadata.
///
/// # Errors
/// Where the value holds a fraction.
pub fn sign_value(signed: Value, keys: &[&SigningKey]) -> Result<Vec<u8>, canonical::CanonicalError> {
    let message = canonical::signable(&signed)?;
    let signatures =
        keys.iter().map(|key| Signature { keyid: key.public().id(), sig: hex::encode(key.sign(&message)) }).collect();
    // The envelope itself is plain JSON: the canonical form leaves control characters bare, which JSON readers refuse.
    serde_json::to_vec(&Envelope { signatures, signed }).map_err(|e| canonical::CanonicalError::NoForm(e.to_string()))
}

/// The envelope in `bytes` with the signatures of further keys; those of keys that signed already stay as they are. Nothing is
/// verified: whoever signs must have looked at what it says.
///
/// # Errors
/// Where it is no envelope of such a document, or has no canonical form.
pub fn countersign<T: Document>(bytes: &[u8], keys: &[&SigningKey]) -> Result<Vec<u8>, SignatureError> {
    let malformed = |e: &dyn std::fmt::Display| SignatureError::Malformed(e.to_string());
    let mut envelope: Envelope = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    let found = envelope.signed.get("_type").and_then(Value::as_str).unwrap_or_default();
    if found != T::TYPE {
        return Err(SignatureError::WrongType { expected: T::TYPE, found: found.chars().take(40).collect() });
    }
    let message = canonical::signable(&envelope.signed).map_err(|e| malformed(&e))?;
    for key in keys {
        let keyid = key.public().id();
        if envelope.signatures.iter().all(|known| known.keyid != keyid) {
            envelope.signatures.push(Signature { keyid, sig: hex::encode(key.sign(&message)) });
        }
    }
    serde_json::to_vec(&envelope).map_err(|e| malformed(&e))
}

/// The document in `bytes`, if enough of `keys` signed it.
///
/// # Errors
/// Each cause has its variant of [`SignatureError`]; the size is checked before anything is parsed.
pub fn verify<T: Document>(bytes: &[u8], keys: &KeySet) -> Result<Verified<T>, SignatureError> {
    if bytes.len() > T::MAX_BYTES {
        return Err(SignatureError::TooLarge { bytes: bytes.len(), limit: T::MAX_BYTES });
    }
    let malformed = |e: &dyn std::fmt::Display| SignatureError::Malformed(e.to_string());
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    let found = envelope.signed.get("_type").and_then(Value::as_str).unwrap_or_default();
    if found != T::TYPE {
        return Err(SignatureError::WrongType { expected: T::TYPE, found: found.chars().take(40).collect() });
    }
    let message = canonical::signable(&envelope.signed).map_err(|e| malformed(&e))?;
    let signers = signers(&envelope.signatures, &message, keys)?;
    if signers.len() < keys.threshold() {
        return Err(SignatureError::UnderThreshold { found: signers.len(), threshold: keys.threshold() });
    }
    let document = serde_json::from_value(envelope.signed).map_err(|e| malformed(&e))?;
    Ok(Verified { document, signers })
}

fn signers(signatures: &[Signature], message: &[u8], keys: &KeySet) -> Result<Vec<KeyId>, SignatureError> {
    let mut seen = BTreeSet::new();
    let mut valid = Vec::new();
    for signature in signatures {
        if !seen.insert(&signature.keyid) {
            return Err(SignatureError::DuplicateKey(signature.keyid.clone()));
        }
        let Some(key) = keys.get(&signature.keyid) else { continue };
        if hex::decode(&signature.sig).is_ok_and(|raw| key.verifies(message, &raw)) {
            valid.push(signature.keyid.clone());
        }
    }
    Ok(valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }
    impl Document for Note {
        const TYPE: &'static str = "note";
        const MAX_BYTES: usize = 1000;
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other {
        text: String,
    }
    impl Document for Other {
        const TYPE: &'static str = "other";
        const MAX_BYTES: usize = 1000;
    }

    fn note() -> Note {
        Note { text: "hello".into() }
    }

    fn key_set(keys: &[&SigningKey], threshold: usize) -> KeySet {
        KeySet::new(keys.iter().map(|k| (k.public().id(), k.public())), threshold)
    }

    #[test]
    fn threshold_counts_distinct_known_keys_only() {
        let (a, b, stranger) =
            (SigningKey::generate().unwrap(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let keys = key_set(&[&a, &b], 2);
        assert_eq!(*verify::<Note>(&sign(&note(), &[&a, &b]).unwrap(), &keys).unwrap(), note());
        let under = |found| Err(SignatureError::UnderThreshold { found, threshold: 2 });
        assert_eq!(verify::<Note>(&sign(&note(), &[&a]).unwrap(), &keys), under(1));
        assert_eq!(verify::<Note>(&sign(&note(), &[&a, &stranger]).unwrap(), &keys), under(1));
        let twice = sign(&note(), &[&a, &a]).unwrap();
        assert_eq!(verify::<Note>(&twice, &keys), Err(SignatureError::DuplicateKey(a.public().id())));
    }

    #[test]
    fn signatures_come_from_one_holder_after_the_other() {
        let (a, b) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let one = sign(&note(), &[&a]).unwrap();
        let both = countersign::<Note>(&one, &[&a, &b]).unwrap();
        assert_eq!(*verify::<Note>(&both, &key_set(&[&a, &b], 2)).unwrap(), note());
        let wrong = SignatureError::WrongType { expected: "other", found: "note".into() };
        assert_eq!(countersign::<Other>(&one, &[&b]), Err(wrong));
        assert!(matches!(countersign::<Note>(b"{}", &[&b]), Err(SignatureError::Malformed(_))));
    }

    #[test]
    fn a_signature_for_one_kind_is_worth_nothing_for_another() {
        let key = SigningKey::generate().unwrap();
        let bytes = sign(&note(), &[&key]).unwrap();
        let expected = SignatureError::WrongType { expected: "other", found: "note".into() };
        assert_eq!(verify::<Other>(&bytes, &key_set(&[&key], 1)), Err(expected));
    }

    #[test]
    fn oversize_is_refused_before_parsing() {
        let key = SigningKey::generate().unwrap();
        let expected = SignatureError::TooLarge { bytes: 1001, limit: 1000 };
        assert_eq!(verify::<Note>(&[b'{'; 1001], &key_set(&[&key], 1)), Err(expected));
    }

    proptest! {
        #[test]
        fn one_changed_byte_never_verifies_as_something_else(index in 0usize..400, bit in 0u8..8) {
            let key = SigningKey::from_pkcs8(&fixed_key()).unwrap();
            let mut bytes = sign(&note(), &[&key]).unwrap();
            let index = index % bytes.len();
            bytes[index] ^= 1 << bit;
            if let Ok(document) = verify::<Note>(&bytes, &key_set(&[&key], 1)) {
                prop_assert_eq!(&*document, &note());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let key = SigningKey::from_pkcs8(&fixed_key()).unwrap();
            prop_assert!(verify::<Note>(&bytes, &key_set(&[&key], 1)).is_err());
        }
    }

    /// PKCS#8 version 1 of the seed 00…00.
    fn fixed_key() -> Vec<u8> {
        let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
        der.extend([0; 32]);
        der
    }
}
