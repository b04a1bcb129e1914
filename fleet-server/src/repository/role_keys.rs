//! The keys that count for a team's role, and whether what it has published carries enough of them.

use tern_protocol::keys::{KeyId, KeySet};

use super::{PublishRefusal, Published, TeamRole};
use crate::proposals;

impl Published {
    pub(super) fn role_keys(&self, role: &TeamRole) -> Result<KeySet, PublishRefusal> {
        let unknown = || PublishRefusal::UnknownTeam(role.clone());
        let delegations = self.trusted.targets_role("targets").and_then(|targets| targets.delegations.as_ref());
        let delegations = delegations.ok_or_else(unknown)?;
        let name = role.to_string();
        let delegated = delegations.roles.iter().find(|delegated| delegated.name == name).ok_or_else(unknown)?;
        let key = |id: &String| {
            let key = delegations.keys.get(id).and_then(|key| serde_json::to_value(key).ok())?;
            serde_json::from_value(key).ok().map(|key| (KeyId(id.clone()), key))
        };
        Ok(KeySet::new(delegated.keyids.iter().filter_map(key), delegated.threshold))
    }

    /// Whether what the role has published still carries enough signatures of the keys that count now.
    pub(super) fn counts(&self, role: &TeamRole) -> bool {
        let (Some(bytes), Ok(keys)) = (self.teams.get(role), self.role_keys(role)) else { return false };
        let Ok(envelope) = serde_json::from_slice::<proposals::Envelope>(bytes) else { return false };
        proposals::valid_keys(&envelope, &keys).is_ok_and(|valid| valid.len() >= keys.threshold())
    }
}
