//! What a role's metadata says, once it is known to be of its form.

use std::collections::BTreeMap;

use sigstore_tuf::{Metadata, Targets};
use tern_protocol::{ids::ModelId, standing::Standing};

use super::{PublishRefusal, Repository, TeamRole, standing};
use crate::store::SignedVersion;

/// What a role's list says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The versions that it names.
    pub versions: Vec<SignedVersion>,
    /// What it says of models besides.
    pub standings: BTreeMap<ModelId, Standing>,
}

impl Repository {
    /// What the published metadata of a role says.
    pub fn listing(&self, role: &TeamRole) -> Listing {
        self.lock().listing(role)
    }

    /// What the role's metadata said when it was published, although its keys may be others since: what people have
    /// approved of, and what they go on from.
    pub fn last_listing(&self, role: &TeamRole) -> Listing {
        let published = self.lock();
        let last = published.teams.get(role).and_then(|bytes| Metadata::<Targets>::from_slice(bytes).ok());
        last.and_then(|last| listing(role, last.signed()).ok()).unwrap_or_default()
    }
}

/// What a role's metadata says, if it may.
pub(super) fn listing(role: &TeamRole, metadata: &Targets) -> Result<Listing, PublishRefusal> {
    let version = |(path, file): (&String, &sigstore_tuf::TargetFile)| {
        let foreign = || PublishRefusal::ForeignTarget(path.chars().take(200).collect(), role.pattern());
        let model = role.version_at(path).ok_or_else(foreign)?;
        let digest = file.hashes.get("sha256").and_then(|text| text.parse().ok());
        let manifest = digest.ok_or_else(|| PublishRefusal::Malformed(format!("{path} has no SHA-256")))?;
        Ok(SignedVersion { model, manifest })
    };
    let versions = metadata.targets.iter().map(version).collect::<Result<Vec<_>, _>>()?;
    let standings = standing::of(role, &metadata.extra, &versions)?;
    Ok(Listing { versions, standings })
}
