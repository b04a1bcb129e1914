//! What must be done before it expires: snapshot and timestamp, desired states, the server's own certificate.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::{broker::BrokerHandle, ca::SERVER_LIFE, clock, fleet::Fleet, http::listener::TlsSlot};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(60);
/// Desired states signed in one transaction.
const BATCH: u32 = 256;

/// Looks after everything, for ever.
pub(super) async fn run(fleet: Arc<Fleet>, tls: TlsSlot, broker: BrokerHandle) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut certified = clock::now();
    loop {
        rounds.tick().await;
        let now = clock::now();
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

async fn round(fleet: &Arc<Fleet>, now: Timestamp) -> anyhow::Result<()> {
    let signed = fleet.blocking(move |fleet| fleet.repository.freshen(now)).await?.context("sign metadata anew")?;
    if signed {
        tracing::info!("snapshot and timestamp signed anew");
    }
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
