//! Counters of everything that the server does and refuses, as Prometheus text.
//!
//! Refusals are counted per code of a closed list, so every code shows from the start, at zero.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tern_protocol::refusal::RefusalCode;

use crate::{
    broker,
    forms::incident::IncidentKind,
    http::problem::Refusal,
    ingest::Poison,
    transport::{IngestRefusal, Ingested},
};

/// The server's counters.
#[derive(Debug)]
pub struct Metrics {
    http_refused: [AtomicU64; Refusal::ALL.len()],
    device_refused: [AtomicU64; RefusalCode::ALL.len()],
    ingest_refused: [AtomicU64; IngestRefusal::ALL.len()],
    ingested: [AtomicU64; Ingested::ALL.len()],
    quarantined: [AtomicU64; Poison::ALL.len()],
    http_responses: [AtomicU64; 5],
    /// HTTPS connections that passed TLS.
    pub connections: AtomicU64,
    /// HTTPS connections dropped because of a limit.
    pub connections_over_limit: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Desired states sent.
    pub desired_sent: AtomicU64,
    /// Rows of reports that were new.
    pub report_rows: AtomicU64,
    /// Rows of reports that had come before.
    pub report_rows_again: AtomicU64,
    /// Streams that were new: outboxes that began.
    pub streams_begun: AtomicU64,
    /// Watermarks sent.
    pub watermarks_sent: AtomicU64,
    /// Events that were not recorded because the same had just been.
    pub events_muted: AtomicU64,
    /// What the detectors do.
    pub decay: Decay,
}

/// What the detectors do.
#[derive(Debug, Default)]
pub struct Decay {
    /// Open incidents, in the order of [`IncidentKind::ALL`].
    pub open: [AtomicU64; IncidentKind::ALL.len()],
    /// Detection windows judged.
    pub windows: AtomicU64,
    /// Rows of telemetry that the detectors have not read yet.
    pub behind: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        fn zeros<const N: usize>() -> [AtomicU64; N] {
            std::array::from_fn(|_| AtomicU64::new(0))
        }
        Self {
            http_refused: zeros(),
            device_refused: zeros(),
            ingest_refused: zeros(),
            ingested: zeros(),
            quarantined: zeros(),
            http_responses: zeros(),
            connections: AtomicU64::new(0),
            connections_over_limit: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            desired_sent: AtomicU64::new(0),
            report_rows: AtomicU64::new(0),
            report_rows_again: AtomicU64::new(0),
            streams_begun: AtomicU64::new(0),
            watermarks_sent: AtomicU64::new(0),
            events_muted: AtomicU64::new(0),
            decay: Decay::default(),
        }
    }
}

/// Figures that are read at the moment of asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Commits of the store.
    pub commits: u64,
    /// Jobs that wait for the store's writer.
    pub store_waiting: usize,
    /// Devices behind what is demanded of them, of those connected.
    pub lagging: usize,
    /// MQTT connections.
    pub mqtt_connections: usize,
    /// Seconds until snapshot or timestamp expires.
    pub metadata_seconds_left: i64,
}

impl Metrics {
    /// Counts an HTTP response by its status, and the refusal that it carries.
    pub fn responded(&self, status: u16, refusal: Option<Refusal>) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|c| self.http_responses.get(c)) {
            class.fetch_add(1, Relaxed);
        }
        if let Some(refusal) = refusal {
            self.http_refused[refusal as usize].fetch_add(1, Relaxed);
        }
    }

    /// Counts something that a device refused.
    pub fn device_refused(&self, code: RefusalCode) {
        if let Some(index) = RefusalCode::ALL.iter().position(|c| *c == code) {
            self.device_refused[index].fetch_add(1, Relaxed);
        }
    }

    /// Counts a message that was not taken.
    pub fn ingest_refused(&self, refusal: IngestRefusal) {
        self.ingest_refused[refusal as usize].fetch_add(1, Relaxed);
    }

    /// Counts a message that was taken.
    pub fn ingested(&self, what: Ingested) {
        self.ingested[what as usize].fetch_add(1, Relaxed);
    }

    /// Counts something that went into quarantine.
    pub fn quarantined(&self, poison: Poison) {
        self.quarantined[poison as usize].fetch_add(1, Relaxed);
    }

    /// How often `refusal` was answered.
    pub fn http_refusals(&self, refusal: Refusal) -> u64 {
        self.http_refused[refusal as usize].load(Relaxed)
    }

    /// How often a message was not taken for this reason.
    pub fn ingest_refusals(&self, refusal: IngestRefusal) -> u64 {
        self.ingest_refused[refusal as usize].load(Relaxed)
    }

    /// Everything as Prometheus text.
    pub fn render(&self, broker: Option<&broker::Counters>, gauges: Gauges) -> String {
        let mut page = Page(String::with_capacity(16 << 10));
        let codes = RefusalCode::ALL.iter().map(|c| c.as_str()).zip(&self.device_refused);
        page.family("tern_refusals_total", "What devices refused, by code.", "code", loaded(codes));
        let codes = Refusal::ALL.iter().map(|r| r.code()).zip(&self.http_refused);
        page.family("tern_http_refusals_total", "Requests that were refused, by code.", "code", loaded(codes));
        let codes = IngestRefusal::ALL.iter().map(|r| r.code()).zip(&self.ingest_refused);
        page.family("tern_ingest_refusals_total", "Messages that were not taken, by code.", "code", loaded(codes));
        let kinds = Ingested::ALL.iter().map(|k| k.name()).zip(&self.ingested);
        page.family("tern_ingested_total", "Messages that were taken, by kind.", "kind", loaded(kinds));
        let codes = Poison::ALL.iter().map(|p| p.code()).zip(&self.quarantined);
        page.family("tern_quarantined_total", "Reports and rows that cannot be used, by code.", "code", loaded(codes));
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&self.http_responses);
        page.family("tern_http_responses_total", "Responses by class of status.", "class", loaded(classes));
        for (name, help, counter) in [
            ("tern_https_connections_total", "HTTPS connections that passed TLS.", &self.connections),
            ("tern_https_over_limit_total", "HTTPS connections dropped at a limit.", &self.connections_over_limit),
            ("tern_https_handshakes_failed_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("tern_desired_sent_total", "Desired states sent.", &self.desired_sent),
            ("tern_report_rows_total", "Rows of reports that were new.", &self.report_rows),
            ("tern_report_rows_again_total", "Rows of reports that had come before.", &self.report_rows_again),
            ("tern_streams_begun_total", "Streams that were new.", &self.streams_begun),
            ("tern_watermarks_sent_total", "Watermarks sent.", &self.watermarks_sent),
            ("tern_events_muted_total", "Events left out because the same was just recorded.", &self.events_muted),
        ] {
            page.single(name, "counter", help, counter.load(Relaxed));
        }
        page.decay(&self.decay);
        page.broker(broker);
        page.gauges(gauges);
        page.0
    }
}

fn loaded<'a>(pairs: impl Iterator<Item = (&'a str, &'a AtomicU64)>) -> impl Iterator<Item = (&'a str, u64)> {
    pairs.map(|(name, counter)| (name, counter.load(Relaxed)))
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn family<'a>(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (&'a str, u64)>) {
        self.head(name, "counter", help);
        for (value, count) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {count}");
        }
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn decay(&mut self, decay: &Decay) {
        self.head("tern_incidents_open", "gauge", "Open incidents, by kind.");
        for (kind, count) in IncidentKind::ALL.iter().zip(&decay.open) {
            let _ = writeln!(self.0, "tern_incidents_open{{kind=\"{}\"}} {}", kind.as_str(), count.load(Relaxed));
        }
        let windows = decay.windows.load(Relaxed);
        self.single("tern_detection_windows_total", "counter", "Detection windows judged.", windows);
        let behind = decay.behind.load(Relaxed);
        self.single("tern_detector_rows_behind", "gauge", "Telemetry rows not judged yet.", behind);
    }

    fn broker(&mut self, counters: Option<&broker::Counters>) {
        let Some(counters) = counters else { return };
        let refusals = broker::Refusal::ALL.into_iter().map(|r| (r.name(), counters.refused(r)));
        self.family("tern_mqtt_refusals_total", "What the MQTT broker refused, by code.", "code", refusals);
        for (name, help, value) in [
            ("tern_mqtt_admitted_total", "MQTT connections that passed TLS.", counters.admitted()),
            ("tern_mqtt_messages_total", "Messages taken, wills included.", counters.messages()),
            ("tern_mqtt_bytes_total", "Payload bytes of messages taken.", counters.bytes()),
            ("tern_mqtt_local_total", "Messages published by the server.", counters.local()),
            ("tern_mqtt_dropped_total", "Messages dropped at a full queue.", counters.dropped()),
        ] {
            self.single(name, "counter", help, value);
        }
    }

    fn gauges(&mut self, gauges: Gauges) {
        self.single("tern_store_commits_total", "counter", "Transactions committed.", gauges.commits);
        self.single("tern_store_waiting", "gauge", "Jobs that wait for the store's writer.", gauges.store_waiting);
        self.single("tern_devices_lagging", "gauge", "Connected devices behind their demand.", gauges.lagging);
        self.single("tern_mqtt_connections", "gauge", "MQTT connections.", gauges.mqtt_connections);
        let left = gauges.metadata_seconds_left;
        self.single("tern_metadata_seconds_left", "gauge", "Until snapshot or timestamp expires.", left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_shows_and_counts_once() {
        let metrics = Metrics::default();
        for refusal in Refusal::ALL {
            metrics.responded(refusal.status(), Some(*refusal));
        }
        for refusal in IngestRefusal::ALL {
            metrics.ingest_refused(*refusal);
        }
        for code in RefusalCode::ALL {
            metrics.device_refused(*code);
        }
        for poison in Poison::ALL {
            metrics.quarantined(*poison);
        }
        let text = metrics.render(None, Gauges::default());
        for code in Refusal::ALL.iter().map(|r| r.code()) {
            assert!(text.contains(&format!("tern_http_refusals_total{{code=\"{code}\"}} 1\n")), "{code}");
        }
        for code in IngestRefusal::ALL.iter().map(|r| r.code()) {
            assert!(text.contains(&format!("tern_ingest_refusals_total{{code=\"{code}\"}} 1\n")), "{code}");
        }
        for code in Poison::ALL.iter().map(|p| p.code()) {
            assert!(text.contains(&format!("tern_quarantined_total{{code=\"{code}\"}} 1\n")), "{code}");
        }
        for code in RefusalCode::ALL {
            assert!(text.contains(&format!("tern_refusals_total{{code=\"{code}\"}} 1\n")), "{code}");
        }
        assert!(text.lines().all(|line| line.starts_with('#') || line.split(' ').count() == 2));
    }
}
