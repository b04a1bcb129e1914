//! Tokens of operators and the access log: `/api/v1/tokens`, `/api/v1/accesses`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    body,
    caller::operator_on,
    fleet_routes::check_reason,
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery, Why},
};
use crate::{
    clock,
    fleet::Fleet,
    forms::{AccessRow, Page, TokenIssued, TokenOrder, TokenRow},
    identity::{Permission, Role, Scope, Secret, TokenName, policy::Resource},
    store::{AccessQuery, NewToken, TokenRefusal},
};

/// Longest life of a token, in days.
const MAX_DAYS: u64 = 3650;

/// `POST /api/v1/tokens`.
pub(super) async fn create(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<TokenIssued>> {
    // Whoever administers a part of the fleet makes tokens for that part.
    let operator = operator_on(&fleet, &headers, Permission::Administer, &Resource::NONE).await?;
    let order: TokenOrder = body::json(body).await?;
    let bad = |words: String| Refused::new(Refusal::BadOrder, words);
    let role: Role = order.role.parse().map_err(|e: crate::identity::Unknown| bad(e.to_string()))?;
    let scope = Scope::try_from(&order.scope).map_err(|e| Refused::new(Refusal::BadSelector, e.to_string()))?;
    let teams = fleet.repository.teams();
    if let Some(team) = scope.teams.iter().flatten().find(|team| !teams.contains(team)) {
        return Err(Refused::new(Refusal::UnknownTeam, format!("the fleet has no team {team}")));
    }
    if scope.teams.as_ref().is_some_and(|teams| teams.is_empty()) {
        return Err(bad("a token for no team does nothing: leave teams out for all of them".into()));
    }
    let now = clock::now();
    let expires = order.valid_seconds.map(|seconds| ends(now, seconds)).transpose()?;
    let secret = Secret::generate().map_err(|e| Refused::internal(&e.into()))?;
    let token = NewToken { hash: secret.hash(), name: order.name, role, scope, expires };
    let row = fleet.store.create_token(token, operator, now).await?.map_err(|refusal| refused(&refusal))?;
    Ok(Json(TokenIssued { secret: secret.reveal().to_owned(), row }))
}

fn ends(now: Timestamp, seconds: u64) -> Answer<Timestamp> {
    let bad = || {
        Refused::new(Refusal::BadOrder, format!("valid_seconds must be 1 to {} ({MAX_DAYS} days)", MAX_DAYS * 86_400))
    };
    let life = i64::try_from(seconds).ok().filter(|_| (1..=MAX_DAYS * 86_400).contains(&seconds)).ok_or_else(bad)?;
    now.saturating_add(SignedDuration::from_secs(life)).map_err(|_| bad())
}

fn refused(refusal: &TokenRefusal) -> Refused {
    let code = match refusal {
        TokenRefusal::Exists(_) => Refusal::TokenExists,
        TokenRefusal::TooMany => Refusal::BadOrder,
        TokenRefusal::Mightier(_) => Refusal::MightierToken,
        TokenRefusal::Unknown(_) => Refusal::NotFound,
        TokenRefusal::LastAdmin(_) => Refusal::LastAdmin,
    };
    Refused::new(code, refusal.to_string())
}

/// `GET /api/v1/tokens`: all of them on one page, revoked ones too.
pub(super) async fn list(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Answer<Json<Page<TokenRow>>> {
    operator_on(&fleet, &headers, Permission::Administer, &Resource::NONE).await?;
    Ok(Json(Page { items: fleet.store.tokens().await?, next: None }))
}

/// `DELETE /api/v1/tokens/{name}` (`?reason=`).
pub(super) async fn revoke(
    State(fleet): State<Arc<Fleet>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    why: Result<Query<Why>, QueryRejection>,
) -> Answer<StatusCode> {
    let operator = operator_on(&fleet, &headers, Permission::Administer, &Resource::NONE).await?;
    let name: TokenName = query::name(&name)?;
    let Query(Why { reason }) = why.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    check_reason(&reason)?;
    let revoked = fleet.store.revoke_token(name, operator, reason, clock::now()).await?;
    revoked.map_err(|refusal| refused(&refusal))?;
    // Streams that are open ask for their token again.
    fleet.revocations.send_replace(());
    Ok(StatusCode::NO_CONTENT)
}

/// `?device=&actor=&model=team/model&since=&before=`, beside those of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OfQuery {
    device: Option<String>,
    actor: Option<String>,
    model: Option<String>,
    since: Option<Timestamp>,
    before: Option<i64>,
}

/// `GET /api/v1/accesses`: oldest first; `next` is the `after` of the following page. With `before`, newest first; `next` is
/// the next `before`.
pub(super) async fn accesses(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    list: Result<Query<ListQuery>, QueryRejection>,
    of: Result<Query<OfQuery>, QueryRejection>,
) -> Answer<Response> {
    let auditor = operator_on(&fleet, &headers, Permission::Audit, &Resource::DEVICES).await?;
    let list = ListQuery::of(list)?;
    let Query(of) = of.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    let limit = list.limit()?;
    let query = AccessQuery {
        device: of.device.as_deref().map(query::name).transpose()?,
        actor: of.actor,
        model: of.model.as_deref().map(query::name).transpose()?,
        since: of.since,
        after: list.after.unwrap_or(0),
        before: of.before,
        limit: limit + 1,
    };
    let rows = fleet.store.accesses(query).await?;
    // What concerns no model of theirs, an auditor of a team does not see.
    let teams = &auditor.scope.teams;
    let keep = |row: &AccessRow| {
        let Some(teams) = teams else { return true };
        row.model.as_ref().is_some_and(|model| teams.contains(&model.team))
    };
    Ok(query::page_of(rows, limit, |row| row.id.to_string(), keep))
}
