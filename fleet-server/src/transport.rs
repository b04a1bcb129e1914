//! The one module between MQTT and the fleet: who may connect, publish and subscribe, and what becomes of a message.
//!
//! A message is acknowledged only after its commit. What cannot be read is not acknowledged, counted by code, and noted
//! once a minute a device; reports have rules of their own, see [`crate::ingest`]. It must never send anything: that is `devices::delivery` and [`Fleet::send_desired`].

use std::sync::Arc;

use bytes::Bytes;
use tern_protocol::{
    ids::DeviceId,
    report::ReportError,
    topics::{self, Channel, TopicRefusal},
    twin::{self, Status, Twin},
};

use crate::{
    broker::{Answer, Connection, Denied, End, Identity, Passing, Policy, Publication, Rejected},
    clock,
    devices::{MAX_LABELS, MAX_TWIN_MODELS},
    events::EventKind,
    fleet::Fleet,
    ingest::{self, ledger::LedgerRefusal},
    readers::ReaderName,
    store::{Admittance, BatchRefusal, Gone, Heard, NewEvent, StatusKept, StoreError},
};

/// Longest payload of `m/…`, in bytes.
pub const MAX_FIGURES_BYTES: usize = 16 << 10;

macro_rules! closed {
    ($name:ident, $accessor:ident, $doc:literal, $($variant:ident = $code:literal, $text:literal;)*) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in metrics.
            pub fn $accessor(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

closed! { Ingested, name, "What a taken message was.",
    Status = "status", "A status, or a last will.";
    Twin = "twin", "A twin.";
    Report = "report", "A report.";
    Figures = "figures", "Figures for people.";
}

closed! { IngestRefusal, code, "Why a device is kept out or a message is not taken.",
    UnknownDevice = "unknown-device", "It is not enrolled.";
    RevokedDevice = "revoked-device", "It is revoked.";
    ClonedDevice = "device-cloned", "Two machines live on its certificate.";
    ReplacedCertificate = "replaced-certificate", "It was enrolled anew with another key.";
    TopicUnknown = "topic-unknown", "The topic is none of ours.";
    TopicForeign = "topic-foreign", "The topic is another device's.";
    TopicDirection = "topic-direction", "The topic is the server's to write or read.";
    TopicRetain = "topic-retain", "The retain flag is wrong.";
    Will = "will", "A last will on something else than the own status.";
    StatusMalformed = "status-malformed", "A status that cannot be read.";
    TwinMalformed = "twin-malformed", "A twin that cannot be read.";
    FiguresMalformed = "figures-malformed", "Figures that are too large or no JSON object.";
    FiguresTooMany = "figures-too-many", "Figures on too many topics.";
    ReportFormat = "report-format", "A report of an unknown format version.";
    ReportCodec = "report-codec", "A report of an unknown codec.";
    ReportTooFar = "report-too-far", "A report far ahead of what is committed of its stream.";
    ReportHoles = "report-holes", "A report that leaves too many holes in its stream.";
    ReportStreams = "report-streams", "A report of one stream too many.";
    ReportRate = "report-rate", "A report of a device that has sent too much for now; it is asked for again.";
    Store = "store", "The store failed.";
}

impl From<&TopicRefusal> for IngestRefusal {
    fn from(refusal: &TopicRefusal) -> Self {
        match refusal {
            TopicRefusal::Unknown => Self::TopicUnknown,
            TopicRefusal::Foreign(_) => Self::TopicForeign,
            TopicRefusal::Direction => Self::TopicDirection,
            TopicRefusal::Retain(_) => Self::TopicRetain,
        }
    }
}

impl From<&BatchRefusal> for IngestRefusal {
    fn from(refusal: &BatchRefusal) -> Self {
        match refusal {
            BatchRefusal::Ledger(LedgerRefusal::TooFar { .. }) => Self::ReportTooFar,
            BatchRefusal::Ledger(LedgerRefusal::TooManyHoles(_)) => Self::ReportHoles,
            BatchRefusal::TooManyStreams => Self::ReportStreams,
        }
    }
}

/// Why a message is not taken: the code to count, the words for the event; where they were said before there are none.
struct NotTaken(IngestRefusal, String);

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a message was not stored");
        Self(IngestRefusal::Store, error.to_string())
    }
}

/// The fleet as the broker's policy.
pub struct Transport(Arc<Fleet>);

impl Transport {
    /// The policy of this fleet.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self(fleet)
    }

    /// Counts and records a refusal of an enrolled device.
    fn refuse(&self, device: &DeviceId, kind: EventKind, refusal: IngestRefusal, words: impl Into<String>) {
        self.0.metrics.ingest_refused(refusal);
        let event = NewEvent::new(kind, words).by(device.as_str()).of_device(device).coded(refusal.code());
        self.0.record_refusal(device.as_str(), event);
    }

    fn topic_refused(&self, device: &DeviceId, topic: &str, refusal: &TopicRefusal) {
        let topic: String = topic.chars().take(200).collect();
        self.refuse(device, EventKind::TopicRefused, refusal.into(), format!("{topic}: {refusal}"));
    }

    /// Counts and records what a reader may not; the answer is no.
    fn reader_refused(&self, reader: &str, topic: &str) -> bool {
        self.0.metrics.ingest_refused(IngestRefusal::TopicForeign);
        let topic: String = topic.chars().take(200).collect();
        let event = NewEvent::new(EventKind::TopicRefused, format!("{topic}: dashboards read what is for people only"));
        self.0.record_refusal(reader, event.by(reader).coded(IngestRefusal::TopicForeign.code()));
        false
    }

    async fn take(&self, device: &DeviceId, channel: Channel, message: Publication<'_>) -> Result<Ingested, NotTaken> {
        let heard =
            || Heard { device: device.clone(), topic: message.topic.to_owned(), payload: message.payload.to_vec() };
        match channel {
            Channel::Status => self.take_status(heard(), message.will).await,
            Channel::Twin => self.take_twin(heard()).await,
            Channel::Report => self.take_report(device, message.payload.clone()).await,
            Channel::Model(_) | Channel::System => self.take_figures(heard()).await,
            Channel::Desired | Channel::Watermark => {
                Err(NotTaken(IngestRefusal::TopicDirection, "written by the server only".into()))
            }
        }
    }

    async fn take_status(&self, heard: Heard, is_will: bool) -> Result<Ingested, NotTaken> {
        let malformed = |why: String| NotTaken(IngestRefusal::StatusMalformed, why);
        let status: Status = json(&heard.payload).map_err(malformed)?;
        if is_will && status.online {
            return Err(malformed("a last will that says online".into()));
        }
        let device = heard.device.clone();
        if !status.online {
            self.0.delivery.settled(&device);
        }
        match self.0.store.keep_status(heard, status, clock::now()).await? {
            StatusKept::Kept => {}
            // Both: the other's session, if it has one still, and its downloads.
            StatusKept::Cloned => {
                self.0.cut(&device);
            }
            StatusKept::Refused => return Err(NotTaken(IngestRefusal::UnknownDevice, "not enrolled".into())),
        }
        self.0.pulse.ring();
        Ok(Ingested::Status)
    }

    async fn take_twin(&self, heard: Heard) -> Result<Ingested, NotTaken> {
        let malformed = |why: String| NotTaken(IngestRefusal::TwinMalformed, why);
        let twin: Twin = json(&heard.payload).map_err(malformed)?;
        if twin.models.len() > MAX_TWIN_MODELS || twin.labels.len() > MAX_LABELS {
            return Err(malformed("too many models or labels".into()));
        }
        let device = heard.device.clone();
        let kept = self.0.store.keep_twin(heard, twin, clock::now()).await?;
        let kept = kept.ok_or_else(|| NotTaken(IngestRefusal::UnknownDevice, "not enrolled".into()))?;
        kept.refusals.iter().for_each(|code| self.0.metrics.device_refused(*code));
        self.0.pulse.ring();
        match kept.behind {
            Some(generation) => self.0.delivery.lags(&device, generation),
            None => self.0.delivery.settled(&device),
        }
        Ok(Ingested::Twin)
    }

    async fn take_report(&self, device: &DeviceId, payload: Bytes) -> Result<Ingested, NotTaken> {
        let remarks = ingest::take(&self.0, device, payload).await.map_err(|refused| match refused {
            ingest::Refused::Unknown(error) => {
                let format = matches!(error, ReportError::UnknownFormat(_));
                let code = if format { IngestRefusal::ReportFormat } else { IngestRefusal::ReportCodec };
                NotTaken(code, error.to_string())
            }
            ingest::Refused::TooMuch { is_news } => {
                let words = "it has sent more than it may: its reports are held and taken at a steady rate";
                NotTaken(IngestRefusal::ReportRate, if is_news { words.into() } else { String::new() })
            }
            ingest::Refused::Batch(refusal) => NotTaken((&refusal).into(), refusal.to_string()),
            ingest::Refused::Failed(error) => {
                tracing::error!(error = format!("{error:#}"), "a report was not taken");
                NotTaken(IngestRefusal::Store, format!("{error:#}"))
            }
        })?;
        for (poison, words) in remarks {
            let event = NewEvent::new(EventKind::ReportQuarantined, words).by(device.as_str()).of_device(device);
            self.0.record_refusal(device.as_str(), event.coded(poison.code()));
        }
        Ok(Ingested::Report)
    }

    async fn take_figures(&self, heard: Heard) -> Result<Ingested, NotTaken> {
        let is_object =
            |bytes: &[u8]| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes).is_ok();
        let fits = heard.payload.len() <= MAX_FIGURES_BYTES;
        if !fits || !(heard.payload.is_empty() || is_object(&heard.payload)) {
            return Err(NotTaken(IngestRefusal::FiguresMalformed, "figures are one small JSON object".into()));
        }
        if !self.0.store.keep_figures(heard).await? {
            return Err(NotTaken(IngestRefusal::FiguresTooMany, "too many topics of figures".into()));
        }
        Ok(Ingested::Figures)
    }
}

fn json<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    if payload.len() > twin::MAX_BYTES {
        return Err(format!("{} bytes are over the limit", payload.len()));
    }
    serde_json::from_slice(payload).map_err(|e| e.to_string())
}

impl Policy for Transport {
    fn authenticate<'a>(&'a self, identity: &'a Identity) -> Answer<'a, Result<(), Denied>> {
        Box::pin(async move {
            let denied = |refusal: IngestRefusal| {
                self.0.metrics.ingest_refused(refusal);
                let event = NewEvent::new(EventKind::FrontRefused, format!("MQTT from {}", identity.peer.ip()));
                self.0.record_refusal(&identity.name, event.by(identity.name.clone()).coded(refusal.code()));
                Err(Denied { reason: refusal.code().into() })
            };
            let admittance = match (ReaderName::of_common_name(&identity.name), identity.name.parse::<DeviceId>()) {
                (Some(reader), _) => self.0.store.reader_admittance(reader).await,
                (None, Ok(device)) => self.0.store.admittance(device).await,
                (None, Err(_)) => return denied(IngestRefusal::UnknownDevice),
            };
            match admittance {
                Ok(Admittance::Enrolled { key_sha256, .. }) if key_sha256 == identity.key_sha256 => Ok(()),
                Ok(Admittance::Enrolled { .. }) => denied(IngestRefusal::ReplacedCertificate),
                Ok(Admittance::Revoked) => denied(IngestRefusal::RevokedDevice),
                Ok(Admittance::Cloned) => denied(IngestRefusal::ClonedDevice),
                Ok(Admittance::Unknown) => denied(IngestRefusal::UnknownDevice),
                Err(error) => {
                    tracing::error!(%error, "a client could not be looked up");
                    denied(IngestRefusal::Store)
                }
            }
        })
    }

    fn may_publish(&self, client: &str, topic: &str, retain: bool) -> bool {
        if ReaderName::of_common_name(client).is_some() {
            return self.reader_refused(client, topic);
        }
        let Ok(device) = client.parse::<DeviceId>() else { return false };
        match topics::may_publish(&self.0.settings.fleet, &device, topic, retain) {
            Ok(_) => true,
            Err(refusal) => {
                self.topic_refused(&device, topic, &refusal);
                false
            }
        }
    }

    fn may_subscribe(&self, client: &str, filter: &str) -> bool {
        if ReaderName::of_common_name(client).is_some() {
            return topics::may_read(&self.0.settings.fleet, filter) || self.reader_refused(client, filter);
        }
        let Ok(device) = client.parse::<DeviceId>() else { return false };
        match topics::may_subscribe(&self.0.settings.fleet, &device, filter) {
            Ok(()) => true,
            Err(refusal) => {
                self.topic_refused(&device, filter, &refusal);
                false
            }
        }
    }

    fn may_will(&self, client: &str, topic: &str, retain: bool) -> bool {
        let Ok(device) = client.parse::<DeviceId>() else { return false };
        match topics::may_publish(&self.0.settings.fleet, &device, topic, retain) {
            Ok(Channel::Status) => true,
            Ok(_) => {
                let words = "a last will belongs on the status topic";
                self.refuse(&device, EventKind::TopicRefused, IngestRefusal::Will, words);
                false
            }
            Err(refusal) => {
                self.topic_refused(&device, topic, &refusal);
                false
            }
        }
    }

    fn on_publish<'a>(&'a self, message: Publication<'a>) -> Answer<'a, Result<(), Rejected>> {
        Box::pin(async move {
            let rejected = |reason: &str| Rejected { reason: reason.into(), passing: Passing::Never };
            let device: DeviceId = message.client.parse().map_err(|_| rejected("unknown-device"))?;
            let channel = topics::may_publish(&self.0.settings.fleet, &device, message.topic, message.retain)
                .map_err(|refusal| rejected(&refusal.to_string()))?;
            let kind = if channel == Channel::Report { EventKind::ReportRefused } else { EventKind::PayloadRefused };
            match self.take(&device, channel, message).await {
                Ok(what) => {
                    self.0.metrics.ingested(what);
                    Ok(())
                }
                Err(NotTaken(refusal, words)) => {
                    if words.is_empty() {
                        self.0.metrics.ingest_refused(refusal);
                    } else {
                        self.refuse(&device, kind, refusal, words);
                    }
                    // What passes: dropped connections would only come back at once.
                    let passing = match refusal {
                        IngestRefusal::Store => Passing::Perhaps,
                        IngestRefusal::ReportRate => Passing::Surely,
                        _ => Passing::Never,
                    };
                    Err(Rejected { passing, ..rejected(refusal.code()) })
                }
            }
        })
    }

    fn on_connected(&self, connection: &Connection) {
        if let Ok(device) = connection.identity.name.parse() {
            // Its first twin on this connection is answered at once.
            self.0.delivery.settled(&device);
        }
    }

    fn on_disconnected(&self, connection: &Connection, end: End) {
        let Ok(device) = connection.identity.name.parse::<DeviceId>() else { return };
        if matches!(end, End::TakenOver | End::Stopping) || self.0.is_connected(&device) {
            return;
        }
        self.0.delivery.settled(&device);
        let fleet = self.0.clone();
        self.0.spawn(async move {
            if let Err(error) = fleet.store.offline(Some(device), Gone::Disconnected, clock::now()).await {
                tracing::error!(%error, "a device's end was not recorded");
            }
            fleet.pulse.ring();
        });
    }
}
