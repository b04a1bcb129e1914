//! The hooks through which the core asks: who is this, may it, and is the message taken.
//!
//! The core treats a missing answer as yes, so every path here ends in an explicit answer. Fixed rules stand before
//! the policy: a ticket from the front, client id = certificate name, no `$` topics (which covers `$share`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use rmqtt::codec::error::DecodeError;
use rmqtt::codec::types::Publish as Packet;
use rmqtt::codec::v5::SubscribeAckReason;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::net::MqttError;
use rmqtt::types::{
    AuthResult, ConnectInfo, FromType, Id, Publish, PublishAclResult, QoS, Reason, Subscribe, SubscribeAclResult,
};
use tokio::sync::watch;
use tokio::time::timeout;

use super::links::{Kind, Links};
use super::policy::{End, Passing, Policy, Publication};
use super::{Counters, Refusal};

/// Where a withheld will goes: no filter can match it, since `$` filters are refused.
const NOWHERE: &str = "$withheld";

/// Longest keep-alive that a client may ask for, in seconds; longer, or none, would keep dead links for hours.
pub(super) const KEEP_ALIVE_SECONDS: u16 = 3_600;

/// How long a message that may be taken later waits before each further attempt: 30 s together. One that will be taken
/// goes on with the last.
const PAUSES_MILLIS: [u64; 8] = [100, 250, 650, 1_000, 2_000, 4_000, 8_000, 14_000];

/// The hook types that [`Gate`] answers.
pub(super) const HOOKS: [Type; 7] = [
    Type::ClientAuthenticate,
    Type::ClientConnected,
    Type::ClientDisconnected,
    Type::ClientSubscribeCheckAcl,
    Type::MessagePublish,
    Type::MessagePublishCheckAcl,
    Type::MessageDropped,
];

pub(super) struct Gate {
    policy: Arc<dyn Policy>,
    links: Arc<Links>,
    counters: Arc<Counters>,
}

/// Returns whether a message may go to `topic` at all.
pub(super) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.starts_with('$') && !topic.contains(['+', '#', '\0'])
}

fn is_filter(filter: &str) -> bool {
    !filter.is_empty() && !filter.starts_with('$') && !filter.contains('\0')
}

impl Gate {
    pub(super) fn new(policy: Arc<dyn Policy>, links: Arc<Links>, counters: Arc<Counters>) -> Gate {
        Gate { policy, links, counters }
    }

    async fn authenticate(&self, connect: &ConnectInfo) -> Result<(), Refusal> {
        let link = connect.ipaddress().and_then(|from| self.links.redeem(from)).ok_or(Refusal::NoTicket)?;
        if *connect.id().client_id != *link.name() {
            return Err(Refusal::WrongClientId);
        }
        if connect.username().is_some_and(|user| **user != *link.name()) {
            return Err(Refusal::WrongUserName);
        }
        if !(1..=KEEP_ALIVE_SECONDS).contains(&connect.keep_alive()) {
            return Err(Refusal::KeepAlive);
        }
        if let Some(will) = connect.last_will() {
            // Judge what the core would publish, not what the packet says: it rewrites some topics.
            let will = Publish::try_from(will).map_err(|_| Refusal::Will)?;
            if !is_topic(&will.topic) || !self.policy.may_will(link.name(), &will.topic, will.retain) {
                return Err(Refusal::Will);
            }
        }
        if link.kind == Kind::Certificate {
            self.policy.authenticate(&link.connection.identity).await.map_err(|denied| {
                tracing::info!(client = link.name(), %denied, "MQTT client denied");
                Refusal::Denied
            })?;
        }
        self.links.seat(connect.id().clone(), link);
        Ok(())
    }

    fn connected(&self, id: &Id) {
        if let Some(link) = self.links.seated(id) {
            link.report_connected(self.policy.as_ref());
            self.links.end_older(&link);
        }
    }

    fn subscribe(&self, id: &Id, filter: &str) -> Result<(), Refusal> {
        let observes = || self.links.seated(id).is_some_and(|link| link.kind == Kind::Observer);
        if is_filter(filter) && (self.policy.may_subscribe(&id.client_id, filter) || observes()) {
            Ok(())
        } else {
            Err(Refusal::Subscribe)
        }
    }

    async fn publish(&self, id: &Id, message: &Publish) -> Result<(), Refusal> {
        let (client, topic) = (&*id.client_id, &*message.topic);
        if !is_topic(topic) || !self.policy.may_publish(client, topic, message.retain) {
            return Err(Refusal::Publish);
        }
        self.take(client, message, false, self.links.seated(id).map(|link| link.ending())).await
    }

    /// Hands a message over, again and again where the policy says that it may pass. `ending` tells of the end of the
    /// connection that waits for it; without one, as of a last will, nothing is tried again.
    async fn take(
        &self,
        client: &str,
        message: &Publish,
        will: bool,
        mut ending: Option<watch::Receiver<Option<End>>>,
    ) -> Result<(), Refusal> {
        let publication =
            Publication { client, topic: &message.topic, payload: &message.payload, retain: message.retain, will };
        let mut attempts = 0;
        while let Err(rejected) = self.policy.on_publish(publication).await {
            if !stands(pause(rejected.passing, attempts), ending.as_mut()).await {
                tracing::warn!(client, topic = &*message.topic, %rejected, "MQTT message rejected");
                return Err(Refusal::Rejected);
            }
            attempts += 1;
        }
        self.counters.messages.fetch_add(1, Relaxed);
        self.counters.bytes.fetch_add(message.payload.len() as u64, Relaxed);
        Ok(())
    }

    /// Returns what replaces a will that must not be published.
    async fn will(&self, id: &Id, message: &Publish) -> Option<Publish> {
        if self.links.superseded(id) {
            // The client is back on a newer connection: its "offline" must not overwrite the newer "online".
            self.counters.wills_superseded.fetch_add(1, Relaxed);
            return Some(withheld());
        }
        match self.take(&id.client_id, message, true, None).await {
            Ok(()) => None,
            Err(refusal) => {
                self.refuse(refusal, id);
                Some(withheld())
            }
        }
    }

    fn disconnected(&self, id: &Id, reason: &Reason) {
        match reason {
            Reason::Error(text) => {
                if let Some(refusal) = undecodable(text) {
                    self.refuse(refusal, id);
                }
            }
            Reason::MqttError(MqttError::Protocol(_)) | Reason::ProtocolError(_) => {
                self.refuse(Refusal::Malformed, id);
            }
            Reason::Reasons(reasons) => reasons.iter().for_each(|reason| self.disconnected(id, reason)),
            _ => {}
        }
    }

    fn refuse(&self, refusal: Refusal, id: &Id) {
        self.counters.refuse(refusal);
        let peer = self.links.seated(id).map(|link| link.connection.identity.peer);
        tracing::info!(client = &*id.client_id, ?peer, refusal = refusal.name(), "MQTT request refused");
    }

    async fn answer(&self, asked: &Parameter<'_>, so_far: Option<HookResult>) -> ReturnType {
        match asked {
            Parameter::ClientAuthenticate(connect) => {
                let verdict = match self.authenticate(connect).await {
                    Ok(()) => AuthResult::Allow(false, None),
                    Err(refusal) => {
                        self.refuse(refusal, connect.id());
                        AuthResult::NotAuthorized
                    }
                };
                (false, Some(HookResult::AuthResult(verdict)))
            }
            Parameter::ClientSubscribeCheckAcl(session, Subscribe { topic_filter, opts, .. }) => {
                let verdict = match self.subscribe(&session.id, topic_filter) {
                    Ok(()) => SubscribeAclResult::new_success(opts.qos(), None),
                    Err(refusal) => {
                        self.refuse(refusal, &session.id);
                        SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
                    }
                };
                (false, Some(HookResult::SubscribeAclResult(verdict)))
            }
            Parameter::MessagePublishCheckAcl(session, message) => {
                let verdict = match self.publish(&session.id, message).await {
                    Ok(()) => PublishAclResult::allow(),
                    Err(refusal) => {
                        self.refuse(refusal, &session.id);
                        PublishAclResult::rejected(true, None)
                    }
                };
                (false, Some(HookResult::PublishAclResult(verdict)))
            }
            Parameter::MessagePublish(_, origin, message) if matches!(origin.typ(), FromType::LastWill) => {
                match self.will(&origin.id, message).await {
                    Some(replacement) => (false, Some(HookResult::Publish(replacement))),
                    None => (true, so_far),
                }
            }
            Parameter::ClientConnected(session) => {
                self.connected(&session.id);
                (true, so_far)
            }
            Parameter::ClientDisconnected(session, reason) => {
                self.disconnected(&session.id, reason);
                (true, so_far)
            }
            Parameter::MessageDropped(_, _, _, Reason::MessageQueueFull) => {
                self.counters.dropped.fetch_add(1, Relaxed);
                (true, so_far)
            }
            _ => (true, so_far),
        }
    }
}

/// How long a message waits that was rejected after so many others; none where it is given up.
fn pause(passing: Passing, attempts: usize) -> Option<Duration> {
    let last = PAUSES_MILLIS.len() - 1;
    let millis = match passing {
        Passing::Never => None,
        Passing::Perhaps => PAUSES_MILLIS.get(attempts),
        Passing::Surely => PAUSES_MILLIS.get(attempts.min(last)),
    };
    millis.copied().map(Duration::from_millis)
}

/// Waits for `pause`; says whether there was one and the connection still stands after it.
async fn stands(pause: Option<Duration>, ending: Option<&mut watch::Receiver<Option<End>>>) -> bool {
    let (Some(pause), Some(ending)) = (pause, ending) else { return false };
    timeout(pause, ending.wait_for(Option::is_some)).await.is_err()
}

/// Tells from the text of a reason, all that the core passes on, whether a packet could not be decoded.
fn undecodable(text: &str) -> Option<Refusal> {
    // The texts come from the decoder itself, so that a new wording there is followed.
    let oversize = DecodeError::MaxSizeExceeded { size: 0, max: 0 }.to_string();
    if oversize.split_once(':').is_some_and(|(stem, _)| text.starts_with(stem)) {
        return Some(Refusal::Oversize);
    }
    let malformed = [
        DecodeError::InvalidProtocol,
        DecodeError::InvalidLength,
        DecodeError::MalformedPacket,
        DecodeError::UnsupportedPacketType,
        DecodeError::PacketIdRequired,
        DecodeError::InvalidTopicFilter,
        DecodeError::InvalidTopicName,
        DecodeError::Utf8Error,
    ];
    malformed.iter().any(|error| error.to_string() == text).then_some(Refusal::Malformed)
}

fn withheld() -> Publish {
    let packet = Packet {
        dup: false,
        retain: false,
        qos: QoS::AtMostOnce,
        topic: NOWHERE.into(),
        packet_id: None,
        payload: Bytes::new(),
        properties: None,
    };
    packet.into()
}

/// [`Gate`] as the core holds it, once per hook type.
pub(super) struct Hooked(pub(super) Arc<Gate>);

impl Handler for Hooked {
    fn hook<'life0, 'life1, 'async_trait>(
        &'life0 self,
        param: &'life1 Parameter<'_>,
        acc: Option<HookResult>,
    ) -> Pin<Box<dyn Future<Output = ReturnType> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.0.answer(param, acc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_what_may_pass_is_given_up() {
        let waits = |passing| (0..100).map_while(|attempts| pause(passing, attempts)).collect::<Vec<_>>();
        assert!(waits(Passing::Never).is_empty());
        assert_eq!(waits(Passing::Perhaps).iter().sum::<Duration>(), Duration::from_secs(30));
        let surely = waits(Passing::Surely);
        assert_eq!((surely.len(), surely[99]), (100, Duration::from_secs(14)));
        assert_eq!(surely[..8], waits(Passing::Perhaps));
    }

    #[test]
    fn wildcards_reserved_and_empty_topics_are_no_topics() {
        for bad in ["", "$SYS/x", "$share/g/a", "a/+", "#", "a\0"] {
            assert!(!is_topic(bad), "{bad:?}");
        }
        for bad in ["", "$SYS/#", "$share/g/a", "a\0"] {
            assert!(!is_filter(bad), "{bad:?}");
        }
        assert!(is_topic("a/b") && is_filter("a/+/#"));
        assert!(!is_filter(NOWHERE));
    }
}
