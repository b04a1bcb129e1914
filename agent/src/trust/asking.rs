//! A question to the sources in turn: the first that answers well is believed as far as signatures go, and no further.
//!
//! A source that fails, lies or is behind is passed over for the next; one that merely does not list a version is too, and
//! is not blamed. What publishers signed, and what the device's own disk says, is final. Where all fail, the answer is that
//! failure after which it is tried again, if there is one among them: what one source lacks another may have once it can be
//! reached.

use std::sync::Arc;

use sigstore_tuf::{Repository, TargetFile};
use tern_protocol::{desired::DesiredModel, digest::Digest, ids::ModelName, manifest::ManifestError};

use super::{Trust, TrustError, path_of};

/// What is asked of a source, after a refresh from it.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    /// Nothing more.
    Newest,
    /// What the teams of these models say of them.
    Standings(&'a [ModelName]),
    /// What the team of this version says of it.
    Version(&'a DesiredModel),
}

impl Trust {
    /// What the first source says that answers well; a target where a version is asked for.
    ///
    /// # Errors
    /// What is final, or what all sources together come to.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Option<TargetFile>, TrustError> {
        let mut kept = None;
        for source in self.metadata.in_turn() {
            let answer = match self.ask_one(source, question).await {
                Err(error) if error.may_differ_elsewhere() => error,
                answer => {
                    if answer.is_ok() {
                        source.worked();
                    }
                    return answer;
                }
            };
            if answer.blames_the_source() {
                source.failed(&answer);
            }
            keep(&mut kept, answer);
        }
        Err(kept.expect("invariant: there is at least one source"))
    }

    async fn ask_one(
        &self,
        source: &Arc<dyn Repository>,
        question: Question<'_>,
    ) -> Result<Option<TargetFile>, TrustError> {
        match question {
            Question::Newest => self.refreshed(source).await.map(|_| None),
            Question::Standings(models) => self.said(source, models).await.map(|()| None),
            Question::Version(wanted) => self.listed(source, wanted).await.map(Some),
        }
    }

    /// The bytes of a manifest, from the first source that has them.
    ///
    /// # Errors
    /// What all sources together come to.
    pub(super) async fn fetched(&self, wanted: &DesiredModel, length: u64) -> Result<Vec<u8>, TrustError> {
        let path = wanted.target_path();
        let mut kept = None;
        for source in self.targets.in_turn() {
            let error = match source.fetch_target(&path_of(&path, &wanted.manifest), length).await {
                Ok(Some(bytes)) if Digest::of(&bytes) == wanted.manifest => {
                    source.worked();
                    return Ok(bytes);
                }
                Ok(Some(_)) => ManifestError::DigestMismatch.into(),
                Ok(None) => sigstore_tuf::Error::transport(format!("{path} is not there")).into(),
                Err(error) => TrustError::from(error),
            };
            source.failed(&error);
            keep(&mut kept, error);
        }
        Err(kept.expect("invariant: there is at least one source"))
    }
}

impl TrustError {
    /// Whether another source may answer otherwise.
    fn may_differ_elsewhere(&self) -> bool {
        match self {
            Self::Tuf(sigstore_tuf::Error::Io { .. }) => false,
            Self::Tuf(_) | Self::BelowFloor { .. } | Self::ImplausibleTime { .. } | Self::Lacking(_) => true,
            Self::UnknownTarget(_) | Self::OtherManifest { .. } => true,
            _ => false,
        }
    }

    /// Whether the source did something wrong, as opposed to knowing less.
    fn blames_the_source(&self) -> bool {
        !matches!(self, Self::UnknownTarget(_) | Self::OtherManifest { .. })
    }
}

/// Of several failures the first whose refusal is tried again, else the first.
fn keep(kept: &mut Option<TrustError>, error: TrustError) {
    if kept.as_ref().is_none_or(|kept| !kept.code().is_retryable() && error.code().is_retryable()) {
        *kept = Some(error);
    }
}
