//! The CAs that the operators' targets role says the server may have.

use std::sync::Arc;

use sigstore_tuf::{Repository, TargetFile};
use tern_protocol::{digest::Digest, tuf};

use super::{Trust, TrustError, asking::Question};

impl Trust {
    /// The CA bundle that the top-level targets role lists, after a refresh, where it is another than `known`; none where
    /// that is the one, or none is listed.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn authorities(&self, known: &Digest) -> Result<Option<Vec<u8>>, TrustError> {
        let _turn = self.turn.lock().await;
        let Some(target) = self.ask(Question::Authorities).await? else { return Ok(None) };
        let signed = target.hashes.get("sha256").and_then(|text| text.parse::<Digest>().ok());
        let Some(signed) = signed.filter(|_| target.length <= tuf::MAX_CA_BUNDLE_BYTES) else {
            return Err(TrustError::Authorities("it has no SHA-256, or is too long".into()));
        };
        if signed == *known {
            return Ok(None);
        }
        self.fetched(tuf::CA_BUNDLE, &signed, target.length).await.map(Some)
    }

    /// What the top-level targets role says of the bundle: a team is not asked whom devices trust.
    pub(super) async fn listed_authorities(
        &self,
        repository: &Arc<dyn Repository>,
    ) -> Result<Option<TargetFile>, TrustError> {
        let updater = self.refreshed(repository).await?;
        let targets = updater.trusted().targets_role("targets");
        Ok(targets.and_then(|role| role.targets.get(tuf::CA_BUNDLE)).cloned())
    }
}
