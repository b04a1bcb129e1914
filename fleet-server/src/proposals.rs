//! Rules of proposals: a role's next list while its signatures are gathered. Pure.
//!
//! A proposal holds one `signed` part and the signatures over exactly it. It is published once enough keys of the role
//! have signed and, outside solo fleets, somebody other than the uploader of each newly released version has sent one of
//! those signatures. New is what the role's last list did not name with the same manifest, also where that list's keys
//! count no more since a ceremony: what was approved is not approved again. It is void as soon as the role has another list
//! of its version: signatures are over that version and count for no other. Candidates need the threshold alone: one robot
//! makes them, and devices opt in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tern_protocol::{
    canonical,
    digest::Digest,
    ids::ModelVersion,
    keys::{KeyId, KeySet},
};

/// Most proposals of a team that wait for signatures at once.
pub const MAX_OPEN: usize = 16;
/// Longest list that is proposed, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Proposals of a team that are kept once they are over.
pub const KEPT: usize = 200;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 500;
/// Most signatures of one request.
pub const MAX_SIGNATURES: usize = 64;

/// TUF's envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The signatures over the signed part.
    pub signatures: Vec<Signature>,
    /// The signed part.
    pub signed: Value,
}

/// One signature over a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key.
    pub keyid: KeyId,
    /// The signature, hexadecimal.
    pub sig: String,
}

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProposalState {
    /// It waits for signatures.
    Open,
    /// It is the role's list, or was.
    Published,
    /// Another list of this version was published: its signatures count for nothing.
    Void,
    /// Somebody took it back.
    Withdrawn,
}

impl ProposalState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Published, Self::Void, Self::Withdrawn];

    /// The state as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Published => "published",
            Self::Void => "void",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl std::str::FromStr for ProposalState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("no state is called {text:?}"))
    }
}

/// Why signatures are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    /// The list has no canonical form.
    #[error("what is proposed cannot be signed: {0}")]
    Unsignable(String),
    /// None was sent, or too many.
    #[error("{0} signatures were sent: send 1 to {MAX_SIGNATURES}")]
    Count(usize),
    /// The key is none of the role's.
    #[error("key {0} is none of the keys that count for this role: sign with a key that its targets name")]
    UnknownKey(KeyId),
    /// One key twice.
    #[error("key {0} has signed this already: a signature of another key of the role is wanted")]
    Twice(KeyId),
    /// It is over other bytes, or no signature at all.
    #[error("the signature of key {0} is not over what is proposed: fetch the proposal again and sign that")]
    OtherBytes(KeyId),
}

/// The keys of `keys` that validly signed the envelope, each once.
///
/// # Errors
/// Where the signed part has no canonical form.
pub fn valid_keys(envelope: &Envelope, keys: &KeySet) -> Result<BTreeSet<KeyId>, SignatureRefusal> {
    let message = message(&envelope.signed)?;
    let valid = envelope.signatures.iter().filter(|signature| counts(signature, &message, keys));
    Ok(valid.map(|signature| signature.keyid.clone()).collect())
}

/// The bytes that are signed.
///
/// # Errors
/// [`SignatureRefusal::Unsignable`].
pub fn message(signed: &Value) -> Result<Vec<u8>, SignatureRefusal> {
    canonical::signable(signed).map_err(|e| SignatureRefusal::Unsignable(e.to_string()))
}

/// The digest of the bytes that are signed: what tells one list from another.
///
/// # Errors
/// [`SignatureRefusal::Unsignable`].
pub fn digest(signed: &Value) -> Result<Digest, SignatureRefusal> {
    message(signed).map(|message| Digest::of(&message))
}

fn counts(signature: &Signature, message: &[u8], keys: &KeySet) -> bool {
    let Some(key) = keys.get(&signature.keyid) else { return false };
    hex::decode(&signature.sig).is_ok_and(|raw| key.verifies(message, &raw))
}

/// Whether each of `new` is a valid signature over `signed` by a key of the role that has not signed it before.
///
/// # Errors
/// The first refusal found.
pub fn admit(
    signed: &Value,
    before: &BTreeSet<KeyId>,
    new: &[Signature],
    keys: &KeySet,
) -> Result<(), SignatureRefusal> {
    if new.len() > MAX_SIGNATURES {
        return Err(SignatureRefusal::Count(new.len()));
    }
    let message = message(signed)?;
    let mut seen = before.clone();
    for signature in new {
        if keys.get(&signature.keyid).is_none() {
            return Err(SignatureRefusal::UnknownKey(KeyId(signature.keyid.0.chars().take(64).collect())));
        }
        if !seen.insert(signature.keyid.clone()) {
            return Err(SignatureRefusal::Twice(signature.keyid.clone()));
        }
        if !counts(signature, &message, keys) {
            return Err(SignatureRefusal::OtherBytes(signature.keyid.clone()));
        }
    }
    Ok(())
}

/// A signature and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The key.
    pub key: KeyId,
    /// The operator.
    pub by: String,
}

/// A version that the list names and the role's last one does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Which.
    pub model: ModelVersion,
    /// Who uploaded it.
    pub published_by: String,
}

/// Whether a list may be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Ready,
    /// Too few keys have signed.
    Short {
        /// How many have.
        found: usize,
        /// How many must.
        threshold: usize,
    },
    /// Nobody but the author of this version has signed.
    NeedsOther(Newcomer),
}

impl Verdict {
    /// What is still missing, for people; none where nothing is.
    pub fn wanted(&self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::Short { found, threshold } => Some(format!("{found} of {threshold} signatures")),
            Self::NeedsOther(Newcomer { model, published_by }) => {
                Some(format!("a signature from somebody other than {published_by}, who uploaded {model}"))
            }
        }
    }
}

/// Whether a list that these have signed may be published. `exempt` where nobody needs another's word: solo fleets, and
/// candidates.
pub fn judge(keys: &KeySet, signed: &[Signed], newcomers: &[Newcomer], exempt: bool) -> Verdict {
    // Keys may have been taken from the role since they signed.
    let counting: Vec<_> = signed.iter().filter(|signed| keys.get(&signed.key).is_some()).collect();
    let (found, threshold) = (counting.len(), keys.threshold());
    if found < threshold {
        return Verdict::Short { found, threshold };
    }
    let lacks = |newcomer: &&Newcomer| counting.iter().all(|signed| signed.by == newcomer.published_by);
    match newcomers.iter().find(|newcomer| !exempt && lacks(newcomer)) {
        Some(newcomer) => Verdict::NeedsOther(newcomer.clone()),
        None => Verdict::Ready,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tern_protocol::keys::SigningKey;

    use super::*;

    fn key_set(keys: &[&SigningKey], threshold: usize) -> KeySet {
        KeySet::new(keys.iter().map(|key| (key.public().id(), key.public())), threshold)
    }

    fn signature(key: &SigningKey, signed: &Value) -> Signature {
        Signature { keyid: key.public().id(), sig: hex::encode(key.sign(&message(signed).unwrap())) }
    }

    fn newcomer(by: &str) -> Newcomer {
        Newcomer { model: "demo/m@1.0.0".parse().unwrap(), published_by: by.into() }
    }

    fn by(key: &SigningKey, who: &str) -> Signed {
        Signed { key: key.public().id(), by: who.into() }
    }

    #[test]
    fn each_signature_that_is_not_taken_has_its_reason() {
        let [a, b, stranger] = [(); 3].map(|()| SigningKey::generate().unwrap());
        let keys = key_set(&[&a, &b], 2);
        let (list, other) = (json!({"version": 1}), json!({"version": 2}));
        let none = BTreeSet::new();
        let check = |before: &BTreeSet<KeyId>, new: &[Signature]| admit(&list, before, new, &keys);
        assert_eq!(check(&none, &[]), Ok(()));
        assert_eq!(check(&none, &[signature(&a, &list), signature(&b, &list)]), Ok(()));
        let before = BTreeSet::from([a.public().id()]);
        assert_eq!(check(&before, &[signature(&a, &list)]), Err(SignatureRefusal::Twice(a.public().id())));
        let twice = [signature(&b, &list), signature(&b, &list)];
        assert_eq!(check(&none, &twice), Err(SignatureRefusal::Twice(b.public().id())));
        let unknown = Err(SignatureRefusal::UnknownKey(stranger.public().id()));
        assert_eq!(check(&none, &[signature(&stranger, &list)]), unknown);
        let elsewhere = Err(SignatureRefusal::OtherBytes(b.public().id()));
        assert_eq!(check(&none, &[signature(&b, &other)]), elsewhere);
        assert_eq!(check(&none, &[Signature { sig: "zz".into(), ..signature(&b, &list) }]), elsewhere);
        let many = vec![signature(&a, &list); MAX_SIGNATURES + 1];
        assert_eq!(check(&none, &many), Err(SignatureRefusal::Count(MAX_SIGNATURES + 1)));
        let fraction = json!({"version": 0.5});
        assert!(matches!(admit(&fraction, &none, &[], &keys), Err(SignatureRefusal::Unsignable(_))));
    }

    #[test]
    fn valid_keys_are_those_of_the_role_that_signed_these_bytes() {
        let [a, b, stranger] = [(); 3].map(|()| SigningKey::generate().unwrap());
        let signed = json!({"version": 1});
        let wrong = Signature { keyid: b.public().id(), ..signature(&a, &signed) };
        let signatures = vec![signature(&a, &signed), signature(&a, &signed), signature(&stranger, &signed), wrong];
        let envelope = Envelope { signatures, signed };
        let valid = valid_keys(&envelope, &key_set(&[&a, &b], 1)).unwrap();
        assert_eq!(valid, BTreeSet::from([a.public().id()]));
    }

    #[test]
    fn enough_keys_and_somebody_elses_word_publish() {
        let [a, b, gone] = [(); 3].map(|()| SigningKey::generate().unwrap());
        let two = key_set(&[&a, &b], 2);
        let short = |found| Verdict::Short { found, threshold: 2 };
        assert_eq!(judge(&two, &[], &[], false), short(0));
        assert_eq!(judge(&two, &[by(&a, "ann"), by(&gone, "bob")], &[], false), short(1));
        // The author with both keys, and with a colleague.
        let alone = [by(&a, "ann"), by(&b, "ann")];
        assert_eq!(judge(&two, &alone, &[newcomer("ann")], false), Verdict::NeedsOther(newcomer("ann")));
        let both = [by(&a, "ann"), by(&b, "bob")];
        assert_eq!(judge(&two, &both, &[newcomer("ann"), newcomer("bob")], false), Verdict::Ready);
        // What needs no other's word: recalls and floors list nothing new, and solo fleets have one person.
        assert_eq!(judge(&two, &alone, &[], false), Verdict::Ready);
        assert_eq!(judge(&two, &alone, &[newcomer("ann")], true), Verdict::Ready);
        // A word whose key does not count any more is none.
        let one = key_set(&[&a], 1);
        let stale = [by(&a, "ann"), by(&gone, "bob")];
        assert_eq!(judge(&one, &stale, &[newcomer("ann")], false), Verdict::NeedsOther(newcomer("ann")));
        assert_eq!(judge(&one, &[by(&a, "bob")], &[newcomer("ann")], false), Verdict::Ready);
    }

    #[test]
    fn states_are_text_in_the_store() {
        for state in ProposalState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("done".parse::<ProposalState>().is_err());
    }
}
