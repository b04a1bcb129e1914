//! The device's certificate, renewed while it lives and after, for the same key, without a restart; and whom the device
//! trusts, where the operators' targets role says that.
//!
//! It is due once less than a third of its life is left by the device's time, and once the server says that it has expired.
//! A device without a clock may not know either, and the server's word may be lost on the way: where the machine's clock is
//! not believed, a lost link is reason to ask too, at most once an hour. A try that failed, or brought a certificate that is
//! due already, is followed by another after a pause that doubles to an hour, or less once the server says again that it has expired. The new certificate is on the disk before a
//! connection shows it.
//! A CA bundle that targets list is asked for every `trust_refresh_seconds`; it is on the disk before a connection
//! trusts it. A certificate that the newest CA in it did not make is renewed, once an hour at most.
//! Never: the key leaves, or what runs is touched. A session that stands goes on: the server lets it live as long as the
//! newest certificate.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use tern_protocol::{
    api,
    digest::Digest,
    enrolment::{RenewalRequest, RenewalResponse},
};
use tokio::sync::Notify;

use crate::{
    bundle::Installer,
    clock::{DeviceClock, Moment, jittered},
    http::Remote,
    identity::Identity,
    tls::Credentials,
};

/// Longest answer.
const MAX_BYTES: u64 = 64 << 10;
/// How often the time is looked at: clocks are set while the agent runs.
const LOOK: Duration = Duration::from_secs(3600);
/// Shortest and longest pause after a try that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3600));
/// What is left of a pause once the server says that the certificate has expired.
const SHORTEST: Duration = Duration::from_secs(10);
/// Shortest time between two renewals that only a lost link suggests.
const DOUBT: Duration = Duration::from_secs(3600);

/// What the link has seen of the server's mind. Clones share it; the newest of each kind counts.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    expired: Arc<Notify>,
    lost: Arc<Notify>,
}

impl Signs {
    /// The server says that the certificate has expired.
    pub fn expired(&self) {
        self.expired.notify_one();
    }

    /// The server ended a session, or gave none, for whatever reason.
    pub fn lost(&self) {
        self.lost.notify_one();
    }
}

/// When a certificate that counts in this time is renewed.
pub fn due((start, end): (Timestamp, Timestamp)) -> Timestamp {
    let third = end.duration_since(start) / 3;
    end.saturating_sub(third).unwrap_or(start)
}

/// Pauses between tries that did not help.
#[derive(Debug)]
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pauses {
    /// How long to wait after a try that brought a certificate due at `due`, or brought none. Where the clocks of device
    /// and server are far apart each new certificate is due at once, and would be renewed without end.
    fn after(&mut self, due: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        let helped = due.is_some_and(|due| due > now);
        let next = if helped { PAUSES.0 } else { (self.0 * 2).min(PAUSES.1) };
        let pause = std::mem::replace(&mut self.0, next);
        (!helped).then_some(pause)
    }
}

/// A pause, of which only `least` is left once the server says that the certificate has expired: then it can be reached.
async fn rest(signs: &Signs, pause: Duration, least: Duration) {
    tokio::time::sleep(pause.min(least)).await;
    tokio::select! {
        () = tokio::time::sleep(pause.saturating_sub(least)) => {}
        () = signs.expired.notified() => {}
    }
}

/// Looks after the certificate.
#[derive(Debug)]
pub struct Keeper {
    /// The identity, which nobody else changes.
    pub identity: Identity,
    /// Its folder.
    pub folder: PathBuf,
    /// What connections show.
    pub credentials: Credentials,
    /// The server.
    pub remote: Remote,
    /// The device's time.
    pub clock: DeviceClock,
    /// What the link sees.
    pub signs: Signs,
    /// Who knows what the operators say.
    pub installer: Arc<Installer>,
    /// How often they are asked.
    pub refresh: Duration,
}

/// What is to be done.
enum Wanted {
    Renewal,
    Authorities,
}

/// When what was done last.
struct Record {
    renewed: Option<Moment>,
    ask: Moment,
}

impl Keeper {
    /// Renews the certificate and takes CAs over whenever that is due, for ever.
    pub async fn run(mut self) {
        let again = |refresh| Moment::now().after(jittered(refresh, 0.1));
        let (mut pauses, mut record) = (Pauses::default(), Record { renewed: None, ask: again(self.refresh) });
        loop {
            if matches!(self.wanted(&record).await, Wanted::Authorities) {
                record.ask = again(self.refresh);
                match self.take_authorities().await {
                    Ok(true) => record.renewed = None,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "whom to trust is not known anew"),
                }
                continue;
            }
            let due = match self.renew().await {
                Ok(validity) => {
                    let (due, end) = (due(validity), validity.1);
                    tracing::info!(%due, %end, "the device's certificate was renewed");
                    record.renewed = Some(Moment::now());
                    Some(due)
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the device's certificate was not renewed");
                    None
                }
            };
            if let Some(pause) = pauses.after(due, self.clock.now()) {
                rest(&self.signs, jittered(pause, 0.5), SHORTEST).await;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wanted(&self, record: &Record) -> Wanted {
        let is_in_doubt = || record.renewed.is_none_or(|at| at.elapsed() >= DOUBT);
        loop {
            if record.ask.remaining().is_zero() {
                return Wanted::Authorities;
            }
            // A certificate that cannot be read is best replaced.
            let due = self.identity.validity().map_or(Timestamp::MIN, due);
            let left = Duration::try_from(due.duration_since(self.clock.now())).unwrap_or_default();
            if left.is_zero() || !self.identity.is_of_newest_authority() && is_in_doubt() {
                return Wanted::Renewal;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK).min(record.ask.remaining())) => {}
                () = self.signs.expired.notified() => return Wanted::Renewal,
                () = self.signs.lost.notified() => {
                    if !self.clock.is_trusted() && is_in_doubt() {
                        return Wanted::Renewal;
                    }
                }
            }
        }
    }

    /// Takes over the CAs that targets list; says whether they are others than before.
    async fn take_authorities(&mut self) -> anyhow::Result<bool> {
        let Some(pem) = self.installer.trust.authorities(&self.identity.authorities_sha256()).await? else {
            return Ok(false);
        };
        self.identity.replace_authorities(&self.folder, &pem)?;
        self.credentials.trust(self.identity.authorities().to_vec())?;
        tracing::info!(count = self.identity.authorities().len(), "the server's CAs are others now");
        Ok(true)
    }

    async fn renew(&mut self) -> anyhow::Result<(Timestamp, Timestamp)> {
        let authorities = self.identity.authorities().iter().map(|der| Digest::of(der)).collect();
        let request = RenewalRequest { csr_pem: self.identity.signing_request()?, authorities };
        let body = serde_json::to_vec(&request).context("the request")?;
        let answer = self.remote.post_json(api::RENEW, body, MAX_BYTES).await?;
        let answer: RenewalResponse = serde_json::from_slice(&answer).context("the answer")?;
        self.identity.replace_certificate(&self.folder, answer.certificate_pem)?;
        self.credentials.show(self.identity.tls())?;
        self.identity.validity()
    }
}

/// Whether an error of TLS, somewhere among its causes, says that the device's certificate has expired.
pub(crate) fn says_expired(error: &(dyn std::error::Error + 'static)) -> bool {
    let expired = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<rustls::Error>() == Some(&expired) {
            return true;
        }
        // What an input or output error wraps is not among its own causes.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

#[cfg(test)]
mod tests;
