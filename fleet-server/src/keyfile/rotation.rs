//! A key's successor, named by the key itself: what a person brings to the next ceremony.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tern_protocol::{
    canonical::CanonicalError,
    keys::{KeySet, PublicKey, SigningKey},
    signed::{self, Document, SignatureError, Verified},
};

/// The format written here.
const FORMAT: u32 = 1;

/// One key hands over to another. It changes nothing by itself: a ceremony does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotation {
    /// Always 1; a reader refuses what it does not know.
    pub format: u32,
    /// The keys' name.
    pub name: String,
    /// The key that goes.
    pub old: PublicKey,
    /// The key that follows.
    pub new: PublicKey,
    /// When it was made.
    pub at: Timestamp,
}

impl Document for KeyRotation {
    const TYPE: &'static str = "x-tern-key-rotation";
    const MAX_BYTES: usize = 8 << 10;
}

impl KeyRotation {
    /// The signed statement that `new` follows `old`.
    ///
    /// # Errors
    /// Where it has no canonical form.
    pub fn sign(name: &str, old: &SigningKey, new: &PublicKey, at: Timestamp) -> Result<Vec<u8>, CanonicalError> {
        let rotation = Self { format: FORMAT, name: name.into(), old: old.public(), new: new.clone(), at };
        signed::sign(&rotation, &[old])
    }

    /// The statement in `bytes`, if the key that goes has signed it.
    ///
    /// # Errors
    /// Where it is malformed, of another format, or not signed by that key.
    pub fn verify(bytes: &[u8]) -> Result<Verified<Self>, SignatureError> {
        #[derive(Deserialize)]
        struct Envelope {
            signed: KeyRotation,
        }
        let malformed = |e: &dyn std::fmt::Display| SignatureError::Malformed(e.to_string());
        let claimed: Envelope = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
        if claimed.signed.format != FORMAT {
            return Err(malformed(&format!("rotation format {} is not known", claimed.signed.format)));
        }
        let old = claimed.signed.old;
        signed::verify(bytes, &KeySet::new([(old.id(), old)], 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_goes_names_its_successor() {
        let (old, new, other) =
            (SigningKey::generate().unwrap(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let at = "2026-06-01T00:00:00Z".parse().unwrap();
        let signed = KeyRotation::sign("anna", &old, &new.public(), at).unwrap();
        let rotation = KeyRotation::verify(&signed).unwrap();
        assert_eq!((rotation.old.clone(), rotation.new.clone()), (old.public(), new.public()));

        let forged = KeyRotation { old: old.public(), ..rotation.clone().into_inner() };
        let forged = signed::sign(&forged, &[&other]).unwrap();
        assert_eq!(
            KeyRotation::verify(&forged).unwrap_err(),
            SignatureError::UnderThreshold { found: 0, threshold: 1 }
        );
        let altered = String::from_utf8(signed).unwrap().replace("anna", "anne");
        let altered = KeyRotation::verify(altered.as_bytes()).unwrap_err();
        assert_eq!(altered, SignatureError::UnderThreshold { found: 0, threshold: 1 });
        let future = KeyRotation { format: 2, ..rotation.into_inner() };
        let future = signed::sign(&future, &[&old]).unwrap();
        assert!(matches!(KeyRotation::verify(&future), Err(SignatureError::Malformed(_))));
    }
}
