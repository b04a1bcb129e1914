//! The versions of all roles that are published now: the floors of a rescue ticket.

use super::Repository;
use crate::forms::TrustVersions;

impl Repository {
    /// What is published: root's threshold, and the version of every role, by its name.
    pub fn versions(&self) -> TrustVersions {
        let published = self.lock();
        let root = published.trusted.root();
        let timestamp = published.trusted.timestamp().map(|t| ("timestamp".to_owned(), t.version));
        let snapshot = published.trusted.snapshot();
        let named = snapshot.into_iter().flat_map(|s| &s.meta);
        let named = named.filter_map(|(file, meta)| Some((file.strip_suffix(".json")?.to_owned(), meta.version)));
        let snapshot = snapshot.map(|s| ("snapshot".to_owned(), s.version));
        let roles = [("root".to_owned(), root.version)].into_iter().chain(timestamp).chain(snapshot).chain(named);
        TrustVersions { root_threshold: root.role("root").map_or(0, |role| role.threshold), roles: roles.collect() }
    }
}
