//! The papers of a ceremony: what is in force, what follows, who has signed, and whether devices would take it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::{Metadata, Targets, TrustedMetadataSet};
use tern_protocol::{
    canonical,
    keys::{KeyId, SigningKey},
    tuf,
};

use super::{
    faults::{self, Fault},
    trust::{Edition, ROOT_LIFE, RoleKeys, RootTrust, TARGETS_LIFE, TargetsTrust, Unreadable},
    words::{self, Names},
};

/// How far clocks of people may differ.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(48);
/// How far the clock of who prepares a root may be ahead: devices take over what root says of the time.
const ISSUED_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// Why papers are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It is no signed document.
    #[error("{0} is no signed document: {1}")]
    NotSigned(&'static str, String),
    /// It is not of the form that ceremonies write.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It breaks a rule.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is nothing to decide on.
    #[error("{0} is missing: {1}")]
    Missing(&'static str, &'static str),
    /// The number does not follow.
    #[error("the next {document} has version {found} where {wanted} is next: prepare it anew from what is in force")]
    Version {
        /// `root` or `targets`.
        document: &'static str,
        /// Its version.
        found: u64,
        /// The version that follows.
        wanted: u64,
    },
    /// The date cannot be right.
    #[error("the next {document} expires {expires}: that is past, or later than the {days} days that it may live")]
    Expiry {
        /// `root` or `targets`.
        document: &'static str,
        /// Its end.
        expires: Timestamp,
        /// Its life in days.
        days: i64,
    },
    /// Devices would take the day for a later one, for good.
    #[error("the next root says that it was made at {0}, which is to come: correct the clock and prepare it anew")]
    Early(Timestamp),
    /// A key that nobody asked.
    #[error("key {0} counts for nothing here: it is in no role that signs this root or these targets")]
    CountsForNothing(KeyId),
    /// Documents are not signed by enough.
    #[error("signatures are missing, so nothing is done: {}", .0.iter().map(Tally::in_ids).collect::<Vec<_>>().join("; "))]
    Unsigned(Vec<Tally>),
    /// A device would refuse it.
    #[error("devices would refuse this: {0}")]
    Refused(String),
}

/// A document with the signatures so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    signatures: Vec<Signature>,
    /// What is signed.
    pub signed: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// A document that nobody has signed yet.
    pub fn unsigned(signed: Value) -> Self {
        Self { signatures: Vec::new(), signed }
    }

    /// How many signatures it carries, valid or not.
    pub fn given(&self) -> usize {
        self.signatures.len()
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: it came from JSON")
    }

    /// Those keys of `role` whose signatures are valid.
    fn signers(&self, role: &RoleKeys) -> Vec<KeyId> {
        let Ok(message) = canonical::signable(&self.signed) else { return Vec::new() };
        let is_valid = |(id, key): &(&KeyId, &tern_protocol::keys::PublicKey)| {
            let mut signatures = self.signatures.iter().filter(|signature| signature.keyid == **id);
            signatures.any(|s| hex::decode(&s.sig).is_ok_and(|raw| key.verifies(&message, &raw)))
        };
        role.keys.iter().filter(is_valid).map(|(id, _)| id.clone()).collect()
    }

    fn add(&mut self, key: &SigningKey) -> Result<(), String> {
        let message = canonical::signable(&self.signed).map_err(|e| e.to_string())?;
        let id = key.public().id();
        self.signatures.retain(|signature| signature.keyid != id);
        self.signatures.push(Signature { keyid: id, sig: hex::encode(key.sign(&message)) });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }
}

/// A document, read.
#[derive(Debug, Clone)]
pub struct Paper<T> {
    /// With its signatures.
    pub envelope: Envelope,
    /// What it says, and its figures.
    pub content: (T, Edition),
}

fn envelope(name: &'static str, bytes: &[u8]) -> Result<Envelope, Trouble> {
    serde_json::from_slice(bytes).map_err(|e| Trouble::NotSigned(name, e.to_string()))
}

/// The bytes of the papers as they lie in a folder.
#[derive(Debug, Clone, Default)]
pub struct Sheets {
    /// The root in force.
    pub root: Option<Vec<u8>>,
    /// The targets in force.
    pub targets: Option<Vec<u8>>,
    /// The root that is to follow.
    pub next_root: Option<Vec<u8>>,
    /// The targets that are to follow.
    pub next_targets: Option<Vec<u8>>,
}

/// The papers of a ceremony.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The root in force.
    pub root: Option<Paper<RootTrust>>,
    /// The targets in force.
    pub targets: Option<Paper<TargetsTrust>>,
    /// The root that is to follow.
    pub next_root: Option<Paper<RootTrust>>,
    /// The targets that are to follow.
    pub next_targets: Option<Paper<TargetsTrust>>,
}

/// Who must sign a document, and who has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// `root` or `targets`.
    pub document: &'static str,
    /// Whose keys these are, for people.
    pub whose: &'static str,
    /// How many must sign.
    pub threshold: usize,
    /// Who has.
    pub signed: Vec<KeyId>,
    /// Who else could.
    pub missing: Vec<KeyId>,
}

impl Tally {
    fn new(document: &'static str, whose: &'static str, envelope: &Envelope, role: &RoleKeys) -> Self {
        let signed = envelope.signers(role);
        let missing = role.keys.keys().filter(|id| !signed.contains(id)).cloned().collect();
        Self { document, whose, threshold: role.threshold, signed, missing }
    }

    /// The tally in words, for people; `show` names a key.
    pub fn in_words(&self, show: impl Fn(&KeyId) -> String) -> String {
        let listed = |ids: &[KeyId]| match ids {
            [] => "nobody".to_owned(),
            ids => ids.iter().map(&show).collect::<Vec<_>>().join(", "),
        };
        format!(
            "{}, {}: {} of {} signed: {}; not yet: {}",
            self.document,
            self.whose,
            self.signed.len(),
            self.threshold,
            listed(&self.signed),
            listed(&self.missing)
        )
    }

    fn in_ids(&self) -> String {
        self.in_words(ToString::to_string)
    }

    /// Whether enough have signed.
    pub fn is_complete(&self) -> bool {
        self.signed.len() >= self.threshold
    }
}

impl Papers {
    /// Reads what lies in a folder. What is in force was agreed on before; what follows must hold nothing unseen.
    ///
    /// # Errors
    /// [`Trouble`] where a paper is not of its form.
    pub fn read(sheets: &Sheets) -> Result<Self, Trouble> {
        let present = |bytes: &Vec<u8>| {
            let envelope = envelope("root.json", bytes)?;
            Ok::<_, Trouble>(Paper { content: RootTrust::read(&envelope.signed)?, envelope })
        };
        let root = sheets.root.as_ref().map(present).transpose()?;
        let present = |bytes: &Vec<u8>| {
            let envelope = envelope("targets.json", bytes)?;
            Ok::<_, Trouble>(Paper { content: TargetsTrust::read(&envelope.signed)?, envelope })
        };
        let targets = sheets.targets.as_ref().map(present).transpose()?;
        let next = |bytes: &Vec<u8>| {
            let envelope = envelope("next/root.json", bytes)?;
            Ok::<_, Trouble>(Paper { content: RootTrust::read_exact(&envelope.signed)?, envelope })
        };
        let next_root = sheets.next_root.as_ref().map(next).transpose()?;
        let next = |bytes: &Vec<u8>| {
            let envelope = envelope("next/targets.json", bytes)?;
            Ok::<_, Trouble>(Paper { content: TargetsTrust::read_exact(&envelope.signed)?, envelope })
        };
        let next_targets = sheets.next_targets.as_ref().map(next).transpose()?;
        Ok(Self { root, targets, next_root, next_targets })
    }

    /// The root that will be in force.
    pub fn coming_root(&self) -> Option<&Paper<RootTrust>> {
        self.next_root.as_ref().or(self.root.as_ref())
    }

    /// The targets that will be in force.
    pub fn coming_targets(&self) -> Option<&Paper<TargetsTrust>> {
        self.next_targets.as_ref().or(self.targets.as_ref())
    }

    /// Holds what follows against every rule that needs no signature.
    ///
    /// # Errors
    /// The first trouble.
    pub fn check(&self, now: Timestamp) -> Result<(), Trouble> {
        if self.next_root.is_none() && self.next_targets.is_none() {
            return Err(Trouble::Missing("next/", "run `tern key ceremony prepare` on the folder first"));
        }
        let first = "a first ceremony makes both root and targets: prepare it anew";
        let root = self.coming_root().ok_or(Trouble::Missing("root", first))?;
        let targets = self.coming_targets().ok_or(Trouble::Missing("targets", first))?;
        faults::check(&root.content.0, &targets.content.0)?;
        self.check_present()?;
        let edition = |document, before: Option<Edition>, after: Edition, life: SignedDuration| {
            let wanted = before.map_or(1, |before| before.version.saturating_add(1));
            if after.version != wanted {
                return Err(Trouble::Version { document, found: after.version, wanted });
            }
            let latest = now.saturating_add(life + CLOCK_SLACK).unwrap_or(Timestamp::MAX);
            let (expires, days) = (after.expires, life.as_hours() / 24);
            if (now..=latest).contains(&expires) { Ok(()) } else { Err(Trouble::Expiry { document, expires, days }) }
        };
        if let Some(next) = &self.next_root {
            edition("root", self.root.as_ref().map(|root| root.content.1), next.content.1, ROOT_LIFE)?;
            let latest = now.saturating_add(ISSUED_SLACK).unwrap_or(Timestamp::MAX);
            if let Some(issued) = next.content.1.issued.filter(|issued| *issued > latest) {
                return Err(Trouble::Early(issued));
            }
        }
        if let Some(next) = &self.next_targets {
            edition("targets", self.targets.as_ref().map(|t| t.content.1), next.content.1, TARGETS_LIFE)?;
        }
        Ok(())
    }

    /// Holds what is said to be in force against its own signatures: words are made from it.
    fn check_present(&self) -> Result<(), Trouble> {
        tuf::install_provider();
        let refused = |e: sigstore_tuf::Error| Trouble::Refused(crate::repository::chain(&e));
        let Some(root) = &self.root else { return Ok(()) };
        let trusted = TrustedMetadataSet::from_root(&root.envelope.to_bytes()).map_err(refused)?;
        let Some(targets) = &self.targets else { return Ok(()) };
        verify_targets(&trusted, &targets.envelope.to_bytes(), Timestamp::UNIX_EPOCH).map_err(refused)
    }

    /// What changes, in words.
    pub fn words(&self, names: &Names) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(next) = &self.next_root {
            lines.extend(words::root(self.root.as_ref().map(|root| &root.content), &next.content, names));
        }
        if let Some(next) = &self.next_targets {
            lines.extend(words::targets(self.targets.as_ref().map(|t| &t.content), &next.content, names));
        }
        lines
    }

    /// Who must sign, and who has.
    pub fn tallies(&self) -> Vec<Tally> {
        let mut tallies = Vec::new();
        if let Some(next) = &self.next_root {
            let own = &next.content.0.root;
            let before = self.root.as_ref().map(|root| &root.content.0.root);
            if let Some(before) = before.filter(|before| *before != own) {
                tallies.push(Tally::new("root", "keys of the root in force", &next.envelope, before));
            }
            tallies.push(Tally::new("root", "keys of the next root", &next.envelope, own));
        }
        if let (Some(next), Some(root)) = (&self.next_targets, self.coming_root()) {
            tallies.push(Tally::new("targets", "targets keys of root", &next.envelope, &root.content.0.targets));
        }
        tallies
    }

    /// The names of the documents that a key counts for.
    ///
    /// # Errors
    /// [`Trouble::CountsForNothing`].
    pub fn counts_for(&self, id: &KeyId) -> Result<Vec<&'static str>, Trouble> {
        let counts = |tally: &Tally| tally.signed.contains(id) || tally.missing.contains(id);
        let mut documents: Vec<_> = self.tallies().iter().filter(|t| counts(t)).map(|t| t.document).collect();
        documents.dedup();
        if documents.is_empty() { Err(Trouble::CountsForNothing(id.clone())) } else { Ok(documents) }
    }

    /// Signs what the key counts for; gives the names of those documents.
    ///
    /// # Errors
    /// [`Trouble::CountsForNothing`].
    pub fn sign(&mut self, key: &SigningKey) -> Result<Vec<&'static str>, Trouble> {
        let documents = self.counts_for(&key.public().id())?;
        let refused = Trouble::Refused;
        for document in &documents {
            match (*document, &mut self.next_root, &mut self.next_targets) {
                ("root", Some(root), _) => root.envelope.add(key).map_err(refused)?,
                (_, _, Some(targets)) => targets.envelope.add(key).map_err(refused)?,
                _ => {}
            }
        }
        Ok(documents)
    }

    /// Walks through the device's own rules from the root in force to what follows.
    ///
    /// # Errors
    /// [`Trouble::Unsigned`], [`Trouble::Refused`], and what [`Papers::check`] finds.
    pub fn verify(&self, now: Timestamp) -> Result<(), Trouble> {
        self.check(now)?;
        let open: Vec<_> = self.tallies().into_iter().filter(|tally| !tally.is_complete()).collect();
        if !open.is_empty() {
            return Err(Trouble::Unsigned(open));
        }
        tuf::install_provider();
        let refused = |e: sigstore_tuf::Error| Trouble::Refused(crate::repository::chain(&e));
        let (Some(root), Some(targets)) = (self.coming_root(), self.coming_targets()) else {
            return Err(Trouble::Missing("root", "prepare it anew"));
        };
        let first = self.root.as_ref().unwrap_or(root);
        let mut trusted = TrustedMetadataSet::from_root(&first.envelope.to_bytes()).map_err(refused)?;
        if let (Some(_), Some(next)) = (&self.root, &self.next_root) {
            trusted.update_root(&next.envelope.to_bytes()).map_err(refused)?;
        }
        trusted.check_root_expired(now).map_err(refused)?;
        tuf::director_keys(trusted.root()).map_err(|e| Trouble::Refused(e.to_string()))?;
        verify_targets(&trusted, &targets.envelope.to_bytes(), now).map_err(refused)
    }
}

/// Holds targets against root without a snapshot between them: signatures and date.
///
/// # Errors
/// As a device.
pub fn verify_targets(trusted: &TrustedMetadataSet, bytes: &[u8], now: Timestamp) -> Result<(), sigstore_tuf::Error> {
    let targets = Metadata::<Targets>::from_slice(bytes)?;
    let root = trusted.root();
    let role = root.role("targets").ok_or_else(|| sigstore_tuf::Error::UnknownRole("targets".into()))?;
    targets.verify_threshold(&root.keys, role, "targets")?;
    let expires = targets.signed().expires;
    if expires <= now {
        return Err(sigstore_tuf::Error::Expired { role: "targets".into(), expires });
    }
    Ok(())
}
