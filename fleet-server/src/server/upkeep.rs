//! What must be done before it expires: snapshot and timestamp, desired states, the server's own certificate; and what is
//! let go when it is old: telemetry.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    broker::BrokerHandle, ca::SERVER_LIFE, clock, events::EventKind, fleet::Fleet, http::listener::TlsSlot,
    store::NewEvent,
};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(60);
/// How often a failure that lasts is recorded; each round logs it.
const REMINDER: SignedDuration = SignedDuration::from_hours(24);
/// Desired states signed in one transaction.
const BATCH: u32 = 256;
/// Rows of telemetry deleted in one transaction: a few milliseconds.
const FORGET: u32 = 500;

/// Looks after everything, for ever.
pub(super) async fn run(fleet: Arc<Fleet>, tls: TlsSlot, broker: BrokerHandle) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut certified = clock::now();
    let mut reminder = Timestamp::MIN;
    let mut looked = None;
    loop {
        rounds.tick().await;
        let now = clock::now();
        if looked.is_none_or(|at: Timestamp| now.duration_since(at) >= REMINDER) {
            warn_of_expiry(&fleet, looked.is_none(), now).await;
            looked = Some(now);
        }
        if let Err(error) = fleet.accesses.settle(false).await {
            tracing::error!(%error, "counts of refused requests were not recorded");
        }
        if let Err(error) = sign_anew(&fleet, now).await
            && now >= reminder
        {
            remind(&fleet, &error, now).await;
            reminder = now.saturating_add(REMINDER).unwrap_or(Timestamp::MAX);
        }
        if let Err(error) = round(&fleet, now).await {
            tracing::error!(error = format!("{error:#}"), "upkeep failed; trying again");
        }
        if now > certified.saturating_add(SERVER_LIFE / 2).unwrap_or(Timestamp::MAX) {
            match recertify(&fleet, &tls, &broker, now) {
                Ok(()) => certified = now,
                Err(error) => tracing::error!(error = format!("{error:#}"), "the certificate was not renewed"),
            }
        }
    }
}

/// Signs the states anew whose settings are no longer those of the configuration, or whose signatures are by keys that are
/// no longer the director's: one new generation each.
pub(crate) async fn settle(fleet: &Arc<Fleet>, now: Timestamp) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let director = fleet.director.clone();
        let differ = move |bytes: &[u8]| director.is_outdated(bytes);
        let last = fleet.store.renew_where(fleet.signer(), differ, after, BATCH as usize, now).await;
        match last.context("sign desired states anew")? {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Deletes telemetry older than `life`, for ever, little by little.
pub(super) async fn forget(fleet: Arc<Fleet>, life: SignedDuration) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let before = clock::now().saturating_sub(life).unwrap_or(Timestamp::MIN);
        // Each batch is a transaction of its own, behind those that devices wait for.
        loop {
            match fleet.store.forget_telemetry(before, FORGET).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "old telemetry was not deleted; trying again");
                    break;
                }
            }
        }
    }
}

/// Signs metadata anew where that is due; a failure is logged and recorded.
pub(super) async fn freshen(fleet: &Arc<Fleet>, now: Timestamp) {
    if let Err(error) = sign_anew(fleet, now).await {
        remind(fleet, &error, now).await;
    }
}

async fn sign_anew(fleet: &Arc<Fleet>, now: Timestamp) -> anyhow::Result<()> {
    let signed = fleet.blocking(move |fleet| fleet.repository.freshen(now)).await.and_then(|signed| signed);
    match &signed {
        Ok(true) => tracing::info!("metadata signed anew"),
        Ok(false) => {}
        Err(error) => tracing::error!(error = format!("{error:#}"), "metadata was not signed anew; trying again"),
    }
    signed.map(drop)
}

async fn remind(fleet: &Fleet, error: &anyhow::Error, now: Timestamp) {
    let event = NewEvent::new(EventKind::MetadataExpiring, format!("metadata was not signed anew: {error:#}"));
    if let Err(error) = fleet.store.record(event, now).await {
        tracing::error!(%error, "an event was not recorded");
    }
}

/// Records which of the roles that people sign end soon: at the start each within 90 days, later on the days of [`is_told`].
async fn warn_of_expiry(fleet: &Fleet, at_start: bool, now: Timestamp) {
    for (role, expires) in fleet.repository.signed_by_people() {
        let days = expires.duration_since(now).as_hours().div_euclid(24);
        if !is_told(days, at_start) {
            continue;
        }
        let mend = match role.as_str() {
            "root" | "targets" => "hold a ceremony: `tern key ceremony prepare`",
            _ => "have its team publish, or run `tern model sign`",
        };
        let when = if days < 0 { "has expired".to_owned() } else { format!("expires in {days} days") };
        let event = NewEvent::new(EventKind::MetadataExpiring, format!("{role} {when}: {mend}"));
        if let Err(error) = fleet.store.record(event, now).await {
            tracing::error!(%error, "an event was not recorded");
        }
    }
}

/// Whether a role with so many whole days left is worth an event today.
fn is_told(days: i64, at_start: bool) -> bool {
    if at_start { days <= 90 } else { matches!(days, 90 | 30 | ..=7) }
}

async fn round(fleet: &Arc<Fleet>, now: Timestamp) -> anyhow::Result<()> {
    let half = now.saturating_add(fleet.director.valid() / 2).unwrap_or(Timestamp::MAX);
    loop {
        let renewed = fleet.store.renew(fleet.signer(), half, BATCH, now).await.context("sign desired states anew")?;
        for device in renewed.iter().filter(|device| fleet.is_connected(device)) {
            if let Some(demand) = fleet.store.demand(device.clone()).await? {
                fleet.delivery.lags(device, demand.generation);
            }
        }
        if renewed.len() < BATCH as usize {
            return Ok(());
        }
    }
}

fn recertify(fleet: &Fleet, tls: &TlsSlot, broker: &BrokerHandle, now: Timestamp) -> anyhow::Result<()> {
    tls.replace(fleet.authority.https(&fleet.settings.names, now)?);
    let mqtt = fleet.authority.mqtt(&fleet.settings.names, now)?;
    broker.reload(&mqtt);
    tracing::info!("the server's certificate was renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_ninety_thirty_and_seven_days_before_and_at_each_start() {
        let told = |at_start| (-2..=400).filter(|days| is_told(*days, at_start)).collect::<Vec<_>>();
        assert_eq!(told(false), [-2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 30, 90]);
        assert_eq!(told(true), (-2..=90).collect::<Vec<_>>());
    }
}
