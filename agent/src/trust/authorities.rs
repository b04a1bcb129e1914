//! The CAs that the operators' targets role says the server may have.

use tern_protocol::{digest::Digest, tuf};

use super::{Trust, TrustError, path_of};

impl Trust {
    /// The CA bundle that the top-level targets role lists, after a refresh, where it is another than `known`; none where
    /// that is the one, or none is listed.
    ///
    /// # Errors
    /// Each cause has its variant of [`TrustError`].
    pub async fn authorities(&self, known: &Digest) -> Result<Option<Vec<u8>>, TrustError> {
        let _turn = self.turn.lock().await;
        let updater = self.refreshed().await?;
        let listed = updater.trusted().targets_role("targets").and_then(|role| role.targets.get(tuf::CA_BUNDLE));
        let Some(target) = listed else { return Ok(None) };
        let signed = target.hashes.get("sha256").and_then(|text| text.parse::<Digest>().ok());
        let Some(signed) = signed.filter(|_| target.length <= tuf::MAX_CA_BUNDLE_BYTES) else {
            return Err(TrustError::Authorities("it has no SHA-256, or is too long".into()));
        };
        if signed == *known {
            return Ok(None);
        }
        let repository = self.client.repository();
        let found = repository.fetch_target(&path_of(tuf::CA_BUNDLE, &signed), target.length).await?;
        let bytes =
            found.ok_or_else(|| sigstore_tuf::Error::transport("the CA bundle is not on the server".to_owned()))?;
        if Digest::of(&bytes) != signed {
            return Err(TrustError::Authorities("the server's bytes are not the signed ones".into()));
        }
        Ok(Some(bytes))
    }
}
