//! Keeps the last retained message of each topic, in memory and bounded.
//!
//! `rmqtt`'s own storage only warns and keeps nothing; this one puts its topic tree to use. It never outlives the
//! process: the store's owner sees retained messages in the policy and hands them back at the next start.

use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::topic::Topic;
use rmqtt::types::{Retain, TopicFilter, TopicName};

use super::Counters;

/// A boxed future as `rmqtt`'s traits want it, which are declared through a macro.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(super) struct Retained {
    tree: DefaultRetainStorage,
    topics: usize,
    counters: Arc<Counters>,
}

impl Retained {
    pub(super) fn new(topics: usize, counters: Arc<Counters>) -> Retained {
        Retained { tree: DefaultRetainStorage::new(), topics, counters }
    }

    async fn keep(&self, topic: &TopicName, retain: Retain, expiry: Option<Duration>) -> rmqtt::Result<()> {
        if !retain.publish.payload.is_empty() && self.is_full().await && !self.holds(topic).await? {
            self.counters.retained_over_limit.fetch_add(1, Relaxed);
            tracing::warn!(%topic, limit = self.topics, "retained message not kept: too many topics");
            return Ok(());
        }
        // Zero means "never" in the listener's settings, but "at once" to the tree.
        self.tree.set_with_timeout(topic, retain, expiry.filter(|expiry| !expiry.is_zero())).await
    }

    async fn is_full(&self) -> bool {
        usize::try_from(self.tree.count().await).unwrap_or(0) >= self.topics
    }

    async fn holds(&self, topic: &TopicName) -> rmqtt::Result<bool> {
        let topic = Topic::from_str(topic)?;
        Ok(!self.tree.messages.read().await.matches(&topic).is_empty())
    }
}

impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    fn set<'life0, 'life1, 'async_trait>(
        &'life0 self,
        topic: &'life1 TopicName,
        retain: Retain,
        expiry_interval: Option<Duration>,
    ) -> Boxed<'async_trait, rmqtt::Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.keep(topic, retain, expiry_interval))
    }

    fn get<'life0, 'life1, 'async_trait>(
        &'life0 self,
        topic_filter: &'life1 TopicFilter,
    ) -> Boxed<'async_trait, rmqtt::Result<Vec<(TopicName, Retain)>>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.tree.get_message(topic_filter))
    }

    fn count<'life0, 'async_trait>(&'life0 self) -> Boxed<'async_trait, isize>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        self.tree.count()
    }

    fn max<'life0, 'async_trait>(&'life0 self) -> Boxed<'async_trait, isize>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        self.tree.max()
    }
}
