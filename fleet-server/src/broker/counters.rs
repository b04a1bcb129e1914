//! What the broker counts, and the closed list of what it refuses.
//!
//! Counters only rise while the broker runs and are never read to decide anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one broker since its front opened.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    /// TLS connections that passed the front.
    pub(super) admitted: AtomicU64,
    /// Messages that the policy took, wills included.
    pub(super) messages: AtomicU64,
    /// Payload bytes of those messages.
    pub(super) bytes: AtomicU64,
    /// Messages published from inside the process.
    pub(super) local: AtomicU64,
    /// Messages dropped because a client's queue was full.
    pub(super) dropped: AtomicU64,
    /// Wills not published because a newer connection of the client was there.
    pub(super) wills_superseded: AtomicU64,
    /// Retained messages not kept because of the limit on topics.
    pub(super) retained_over_limit: AtomicU64,
}

impl Counters {
    /// Returns how often `refusal` was answered.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Relaxed)
    }

    /// Returns TLS connections that passed the front.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    /// Returns messages that the policy took, wills included.
    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Returns payload bytes of the messages that the policy took.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns messages published from inside the process.
    pub fn local(&self) -> u64 {
        self.local.load(Relaxed)
    }

    /// Returns messages dropped because a subscriber's queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Returns wills withheld because a newer connection of the same client was there.
    pub fn wills_superseded(&self) -> u64 {
        self.wills_superseded.load(Relaxed)
    }

    /// Returns retained messages not kept because of the limit on topics.
    pub fn retained_over_limit(&self) -> u64 {
        self.retained_over_limit.load(Relaxed)
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    /// Forgets what the self-test counted.
    pub(super) fn reset(&self) {
        self.refused.iter().for_each(|count| count.store(0, Relaxed));
        self.local.store(0, Relaxed);
    }
}

/// Everything that the broker refuses, first by the front, then by MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The front holds as many connections as it may.
    Full,
    /// The source address holds as many connections as it may.
    SourceFull,
    /// The certificate name holds as many connections as it may.
    NameFull,
    /// The broker stops.
    Stopping,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// The TLS handshake failed for another reason: no TLS, no common version, closed early.
    Handshake,
    /// The client sent no certificate.
    NoCertificate,
    /// The client certificate is outside its dates.
    ExpiredCertificate,
    /// The client certificate is not for client authentication.
    WrongPurpose,
    /// The client certificate does not verify: foreign CA, bad signature, revoked by list.
    UntrustedCertificate,
    /// The client certificate has not exactly one usable common name.
    BadName,
    /// No loopback connection to the broker core: ports or descriptors used up.
    Loopback,
    /// A connection to the loopback listener that did not come from the front.
    NoTicket,
    /// The MQTT client id is not the certificate name.
    WrongClientId,
    /// The MQTT user name is given and is not the certificate name.
    WrongUserName,
    /// A keep-alive of zero, or of more than an hour.
    KeepAlive,
    /// The policy does not let the client connect.
    Denied,
    /// A last will on a topic that is not the client's.
    Will,
    /// A publish on a topic that is not the client's.
    Publish,
    /// A subscribe to a filter that is not the client's.
    Subscribe,
    /// The policy did not take a message.
    Rejected,
    /// A packet above the size limit.
    Oversize,
    /// A packet that is not MQTT, or no CONNECT in time.
    Malformed,
}

impl Refusal {
    /// Every refusal, in the order of the counters.
    pub const ALL: [Refusal; 23] = [
        Refusal::Full,
        Refusal::SourceFull,
        Refusal::NameFull,
        Refusal::Stopping,
        Refusal::HandshakeTimeout,
        Refusal::Handshake,
        Refusal::NoCertificate,
        Refusal::ExpiredCertificate,
        Refusal::WrongPurpose,
        Refusal::UntrustedCertificate,
        Refusal::BadName,
        Refusal::Loopback,
        Refusal::NoTicket,
        Refusal::WrongClientId,
        Refusal::WrongUserName,
        Refusal::KeepAlive,
        Refusal::Denied,
        Refusal::Will,
        Refusal::Publish,
        Refusal::Subscribe,
        Refusal::Rejected,
        Refusal::Oversize,
        Refusal::Malformed,
    ];

    /// Returns the name of the refusal in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::SourceFull => "source_full",
            Refusal::NameFull => "name_full",
            Refusal::Stopping => "stopping",
            Refusal::HandshakeTimeout => "handshake_timeout",
            Refusal::Handshake => "handshake",
            Refusal::NoCertificate => "no_certificate",
            Refusal::ExpiredCertificate => "expired_certificate",
            Refusal::WrongPurpose => "wrong_purpose",
            Refusal::UntrustedCertificate => "untrusted_certificate",
            Refusal::BadName => "bad_name",
            Refusal::Loopback => "loopback",
            Refusal::NoTicket => "no_ticket",
            Refusal::WrongClientId => "wrong_client_id",
            Refusal::WrongUserName => "wrong_user_name",
            Refusal::KeepAlive => "keep_alive",
            Refusal::Denied => "denied",
            Refusal::Will => "will",
            Refusal::Publish => "publish",
            Refusal::Subscribe => "subscribe",
            Refusal::Rejected => "rejected",
            Refusal::Oversize => "oversize",
            Refusal::Malformed => "malformed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter_and_name() {
        let counters = Counters::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{refusal:?} stands in the order of its declaration");
            counters.refuse(refusal);
            assert_eq!(counters.refused(refusal), 1);
        }
        let names: std::collections::HashSet<_> = Refusal::ALL.into_iter().map(Refusal::name).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
