//! A repository that remembers the timestamp which it served: two that carry one version are an equivocation.
//!
//! TUF keeps the one that it trusted first and drops the other unread, which is safe and silent. Whoever holds the key of
//! timestamp and signs one version twice tells different devices different things, so it is said aloud.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use sigstore_tuf::{Metadata, Repository, Timestamp, TrustedMetadataSet};

type FetchFuture<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

#[derive(Clone)]
pub(super) struct Heard {
    repository: Arc<dyn Repository>,
    timestamp: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Heard {
    pub(super) fn new(repository: Arc<dyn Repository>) -> Self {
        Self { repository, timestamp: Arc::default() }
    }

    /// Says so, and returns true, where another timestamp came than the trusted one under the same version. Only after a
    /// refresh that went well: then its signatures have been verified.
    pub(super) fn compare(&self, trusted: &TrustedMetadataSet) -> bool {
        let heard = self.timestamp.lock().unwrap_or_else(PoisonError::into_inner).take();
        let heard = heard.and_then(|bytes| Metadata::<Timestamp>::from_slice(&bytes).ok()).map(Metadata::into_signed);
        let (Some(heard), Some(kept)) = (heard, trusted.timestamp()) else { return false };
        let differs = heard.version == kept.version && heard != *kept;
        if differs {
            tracing::error!(
                version = kept.version,
                "two timestamps carry one version: somebody signs with its key who should not; the first one is kept"
            );
        }
        differs
    }
}

impl Repository for Heard {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            let fetched = self.repository.fetch_metadata(name, limit).await?;
            if name == "timestamp.json" {
                *self.timestamp.lock().unwrap_or_else(PoisonError::into_inner) = fetched.clone();
            }
            Ok(fetched)
        })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        self.repository.fetch_target(path, limit)
    }
}
