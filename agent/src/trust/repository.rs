//! Where TUF metadata and manifests come from: the server's device routes.

use std::{pin::Pin, sync::Arc, time::Duration};

use sigstore_tuf::{Error, Repository};
use tern_protocol::api;

use crate::http::Remote;

type FetchFuture<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

/// Longest time for one file.
const DEADLINE: Duration = Duration::from_secs(60);

/// The repository of the server.
#[derive(Debug, Clone)]
pub struct HttpRepository(Remote);

impl HttpRepository {
    /// The repository of this server.
    pub fn new(remote: Remote) -> Self {
        Self(remote)
    }

    fn fetch(&self, path: String, limit: u64) -> FetchFuture<'_> {
        Box::pin(async move {
            let fetched = self.0.get_bounded(&path, limit, DEADLINE).await;
            fetched.map_err(|e| Error::transport_with_source(format!("fetch of {path}"), e))
        })
    }
}

impl Repository for HttpRepository {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        self.fetch(format!("{}{name}", api::TUF_METADATA), limit)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        self.fetch(format!("{}{path}", api::TUF_TARGETS), limit)
    }
}

/// One repository behind several updaters.
pub(super) struct Shared(pub(super) Arc<dyn Repository>);

impl Repository for Shared {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        self.0.fetch_metadata(name, limit)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        self.0.fetch_target(path, limit)
    }
}
