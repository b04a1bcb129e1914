//! Root and targets: what is in force, and what a ceremony agreed on.

use std::sync::Arc;

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    body,
    caller::operator_on,
    problem::{Answer, Refusal, Refused},
};
use crate::{
    clock,
    events::EventKind,
    fleet::Fleet,
    forms::trust::{TrustNow, TrustPublished, TrustUpload},
    identity::{Permission, policy::Resource},
    repository::{TrustChange, TrustRefusal},
    server::upkeep,
    store::NewEvent,
};

/// `GET /api/v1/trust/metadata`.
pub(super) async fn metadata(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<TrustNow>> {
    operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let now = fleet
        .blocking(|fleet| -> anyhow::Result<TrustNow> {
            let trust = fleet.repository.trust()?;
            let value = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes);
            Ok(TrustNow {
                fleet: fleet.settings.fleet.clone(),
                solo: fleet.repository.is_solo(),
                roots: trust.roots.iter().map(value).collect::<Result<_, _>>()?,
                targets: value(&trust.targets)?,
                roles_to_sign_again: trust.to_sign_again.iter().map(ToString::to_string).collect(),
            })
        })
        .await??;
    Ok(Json(now))
}

/// `PUT /api/v1/trust/metadata`.
pub(super) async fn publish(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<TrustPublished>> {
    let operator = operator_on(&fleet, &headers, Permission::Administer, &Resource::FLEET).await?;
    let upload: TrustUpload = body::json(body).await?;
    let bytes = |value: Option<Value>| value.map(|value| value.to_string().into_bytes());
    let change = TrustChange { root: bytes(upload.root), targets: bytes(upload.targets) };
    let now = clock::now();
    // In one piece, and the rest in a task: whoever asked may be gone before it is done.
    let work = move |fleet: &Fleet| -> Result<(), TrustRefusal> {
        fleet.repository.publish_trust(&change, now)?;
        fleet.director.use_keys(fleet.repository.director()?);
        Ok(())
    };
    fleet.blocking(work).await?.map_err(refused)?;
    let after = tokio::spawn(followed(fleet, operator.name, now));
    let published = after.await.map_err(|e| anyhow::Error::new(e).context("what follows a ceremony died"))??;
    Ok(Json(published))
}

/// Has everything else follow: desired states under the director's present keys, the catalog, the record.
async fn followed(fleet: Arc<Fleet>, operator: String, now: Timestamp) -> anyhow::Result<TrustPublished> {
    let published = fleet
        .blocking(|fleet| -> anyhow::Result<TrustPublished> {
            let trust = fleet.repository.trust()?;
            Ok(TrustPublished {
                root_version: trust.root_version,
                targets_version: trust.targets_version,
                solo: fleet.repository.is_solo(),
                roles_to_sign_again: trust.to_sign_again.iter().map(ToString::to_string).collect(),
                useless_keys: fleet.repository.useless_keys()?,
            })
        })
        .await??;
    let text = format!("root {}, targets {}", published.root_version, published.targets_version);
    fleet.store.record(NewEvent::new(EventKind::TrustPublished, text).by(operator), now).await?;
    // Devices refuse what a key signed that root names no more.
    upkeep::settle(&fleet, now).await?;
    for team in fleet.repository.teams() {
        fleet.reconcile(&team, "server", now).await?;
    }
    Ok(published)
}

fn refused(refusal: TrustRefusal) -> Refused {
    let code = match &refusal {
        TrustRefusal::Trouble(_) | TrustRefusal::BundleMissing => Refusal::BadTrust,
        TrustRefusal::KeyMissing(_) => Refusal::ServerKeyMissing,
        TrustRefusal::Failed(_) => return anyhow::Error::new(refusal).into(),
    };
    Refused::new(code, refusal.to_string())
}
