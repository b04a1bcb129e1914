//! Where TUF metadata and manifests come from: a server's device routes, or a repository by itself.

use std::{pin::Pin, time::Duration};

use sigstore_tuf::{Error, Repository};
use tern_protocol::api;

use crate::http::{Pace, Remote};

type FetchFuture<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

/// Longest time for one file; one that crawls is given up long before.
const DEADLINE: Duration = Duration::from_secs(300);

/// A repository over HTTP.
#[derive(Debug, Clone)]
pub struct HttpRepository {
    remote: Remote,
    metadata: &'static str,
    targets: &'static str,
    pace: Pace,
}

impl HttpRepository {
    /// The repository of a fleet's server, or of another source with the same routes.
    pub fn new(remote: Remote) -> Self {
        Self { remote, metadata: api::TUF_METADATA, targets: api::TUF_TARGETS, pace: Pace::default() }
    }

    /// Metadata that lies right below the address.
    pub(crate) fn bare(remote: Remote) -> Self {
        Self { metadata: "/", targets: "/", ..Self::new(remote) }
    }

    /// The same with another least pace.
    #[must_use]
    pub fn at_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    fn fetch(&self, path: String, limit: u64) -> FetchFuture<'_> {
        Box::pin(async move {
            let fetched = self.remote.get_at(&path, limit, DEADLINE, self.pace).await;
            fetched.map_err(|e| Error::transport_with_source(format!("fetch of {path}"), e))
        })
    }
}

impl Repository for HttpRepository {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        self.fetch(format!("{}{name}", self.metadata), limit)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        self.fetch(format!("{}{path}", self.targets), limit)
    }
}
