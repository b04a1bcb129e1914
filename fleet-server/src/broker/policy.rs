//! What the broker asks its owner: the one trait between MQTT and the fleet.
//!
//! Nothing here may name a device, a fleet, a database or the meaning of a topic.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use tern_protocol::digest::Digest;

/// An answer that may take time, such as a commit.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides what clients may do, and takes what they publish.
///
/// A client is named by its certificate's common name, which the broker has bound to its MQTT client id. All methods
/// run on the broker's threads: the plain ones must not block, the others may wait. A panic drops the connection.
/// The start-up self-test asks about the client `$probe`, to which every method must answer like to any stranger.
pub trait Policy: Send + Sync + 'static {
    /// May this certificate hold a connection? Revocation and replaced keys belong here.
    ///
    /// # Errors
    /// [`Denied`] answers CONNECT with "not authorized".
    fn authenticate<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Result<(), Denied>>;

    /// May `client` publish on `topic`? The topic has no wildcards and does not start with `$`.
    /// A refusal drops the connection: MQTT 3.1.1 has no other no.
    fn may_publish(&self, client: &str, topic: &str, retain: bool) -> bool;

    /// May `client` subscribe to `filter`, which may hold wildcards and does not start with `$`?
    fn may_subscribe(&self, client: &str, filter: &str) -> bool;

    /// May `client` leave a last will on `topic`? A refusal answers CONNECT with "not authorized".
    fn may_will(&self, client: &str, topic: &str, retain: bool) -> bool;

    /// Takes an allowed message; the acknowledgement is sent, and subscribers served, only after `Ok`.
    ///
    /// Messages of one client come one after the other. Waiting here holds back that client alone.
    ///
    /// # Errors
    /// [`Rejected`]; the message is not acknowledged. Where the reason may pass, the broker holds the connection and asks
    /// again, as [`Passing`] says; otherwise it drops the connection. A last will is asked about once.
    fn on_publish<'a>(&'a self, message: Publication<'a>) -> Answer<'a, Result<(), Rejected>>;

    /// A client is connected. After a take-over the new connection comes before the end of the old one: compare
    /// [`Connection::number`].
    fn on_connected(&self, connection: &Connection);

    /// A connection that was reported by [`Policy::on_connected`] has ended.
    fn on_disconnected(&self, connection: &Connection, end: End);
}

/// A verified client certificate and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's only common name.
    pub name: String,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    pub key_sha256: Digest,
    /// The real address of the peer, as the front saw it.
    pub peer: SocketAddr,
    /// The end of the certificate, when the connection is cut.
    pub not_after: SystemTime,
}

/// One connection of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Counts up from 1 through the life of the broker.
    pub number: u64,
    /// Who is connected.
    pub identity: Identity,
}

/// One message from a client.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The certificate name of the sender.
    pub client: &'a str,
    /// The topic, already allowed by [`Policy::may_publish`] or [`Policy::may_will`].
    pub topic: &'a str,
    /// The payload; at most the packet limit.
    pub payload: &'a Bytes,
    /// Whether the broker keeps it as the topic's retained message; an empty payload clears that.
    pub retain: bool,
    /// Whether it is the last will of a client that is gone.
    pub will: bool,
}

/// The policy does not let a client connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// For the log; the client learns only that it is not authorized.
    pub reason: String,
}

/// The policy does not take a message, so it is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    /// For the log; the client sees only the connection drop.
    pub reason: String,
    /// Whether the same message may be taken a little later.
    pub passing: Passing,
}

/// Whether what stands against a message passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Never: the message is wrong.
    Never,
    /// It may, as where a disk is full: the broker asks again for half a minute.
    Perhaps,
    /// It does, as where a client sent too much: the broker asks again for as long as the client waits.
    Surely,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed, with or without DISCONNECT and TLS close.
    ClientClosed,
    /// The broker closed: keep-alive passed, a refusal, a malformed packet.
    BrokerClosed,
    /// A newer connection of the same client took over.
    TakenOver,
    /// `BrokerHandle::cut`.
    Cut,
    /// The client certificate reached its end.
    Expired,
    /// The client left the front's writes unread for too long.
    Stalled,
    /// The broker stops.
    Stopping,
}
