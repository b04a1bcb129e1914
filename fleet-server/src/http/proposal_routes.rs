//! Proposals: a list waits here for the signatures that it needs, and is published by the last of them.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tern_protocol::ids::{ModelId, ModelName, ModelVersion, TeamId, Version};

use super::{
    body,
    caller::{operator_on, permit},
    problem::{Answer, Refusal, Refused},
    publishing::{complete, judged, noted, publish, publish_refused},
    query,
};
use crate::{
    clock,
    fleet::Fleet,
    forms::{
        Page,
        proposals::{ListChange, ProposalDetail, ProposalOrder, SignatureOrder, Withdrawal},
    },
    identity::{Operator, Permission, policy::Resource},
    proposals::{self, Envelope, ProposalState, Signature, SignatureRefusal, Signed, Verdict},
    repository::{Listing, PublishRefusal, TeamRole},
    store::{NewProposal, ProposalRefusal, ProposeRefusal},
};

/// Rows of a page where the caller does not say, and most.
const ROWS: usize = 50;
const MAX_ROWS: usize = 500;
/// What an order has besides its list, in bytes, at most.
const SLACK: usize = 64 << 10;

pub(super) fn router() -> Router<Arc<Fleet>> {
    Router::new()
        .route("/api/v1/teams/{team}/proposals", post(propose))
        .route("/api/v1/proposals", get(list))
        .route("/api/v1/proposals/{id}", get(one))
        .route("/api/v1/proposals/{id}/signatures", post(sign))
        .route("/api/v1/proposals/{id}/withdraw", post(withdraw))
}

/// `POST /api/v1/teams/{team}/proposals`: published at once where nothing is missing.
async fn propose(
    State(fleet): State<Arc<Fleet>>,
    Path(team): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let author = operator_on(&fleet, &headers, Permission::Publish, &Resource::NONE).await?;
    let team: TeamId = query::name(&team)?;
    permit(&fleet, &author, Permission::Publish, &Resource::team(&team))?;
    let bytes = body::whole(body, proposals::MAX_BYTES + SLACK).await?;
    let order: ProposalOrder =
        serde_json::from_slice(&bytes).map_err(|e| Refused::new(Refusal::MalformedJson, e.to_string()))?;
    let role = TeamRole { team, kind: order.role };
    let reason = reason(&order.reason)?;
    let Envelope { signatures, signed } = order.envelope;
    let envelope = Envelope { signatures: Vec::new(), signed };
    let unsigned = serde_json::to_vec(&envelope).map_err(|e| Refused::internal(&e.into()))?;
    if unsigned.len() > proposals::MAX_BYTES {
        let words = format!("at most {} bytes are proposed: list live versions only", proposals::MAX_BYTES);
        return Err(Refused::new(Refusal::TooLarge, words));
    }
    let listing = fleet.repository.inspect(&role, &unsigned).map_err(|e| noted(&fleet, &role, &author.name, e))?;
    let keys = fleet.repository.role_keys(&role).map_err(publish_refused)?;
    proposals::admit(&envelope.signed, &BTreeSet::new(), &signatures, &keys).map_err(signature_refused)?;
    let change = change(&role, &fleet.repository.last_listing(&role), &listing);
    let version = envelope.signed["version"].as_u64().unwrap_or(0);
    complete(&fleet, listing.versions).await?;
    let digest = proposals::digest(&envelope.signed).map_err(signature_refused)?;
    let author = author.name;
    let new = NewProposal { role, version, signed: envelope.signed, digest, change, signatures, author, reason };
    let id = fleet.store.propose(new, clock::now()).await?.map_err(|refusal| match refusal {
        ProposeRefusal::TooMany => {
            let words = format!("{} of the team are open: sign or withdraw some", proposals::MAX_OPEN);
            Refused::new(Refusal::TooManyProposals, words)
        }
        ProposeRefusal::Same(id) => {
            Refused::new(Refusal::ProposalExists, format!("it is proposal {id}: sign that one"))
        }
    })?;
    Ok((StatusCode::CREATED, Json(go_on(&fleet, id).await?)).into_response())
}

fn reason(text: &str) -> Answer<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > proposals::MAX_REASON {
        let words = format!("say why: reason must have 1 to {} bytes", proposals::MAX_REASON);
        return Err(Refused::new(Refusal::BadOrder, words));
    }
    Ok(text.to_owned())
}

/// What a list changes.
fn change(role: &TeamRole, before: &Listing, after: &Listing) -> ListChange {
    let lacks = |other: &Listing, model: &ModelVersion| other.versions.iter().all(|version| version.model != *model);
    let less = |one: &Listing, other: &Listing| {
        one.versions.iter().map(|v| v.model.clone()).filter(|model| lacks(other, model)).collect::<Vec<_>>()
    };
    let of = |model: &ModelId, version: &Version| ModelVersion {
        name: ModelName { team: role.team.clone(), model: model.clone() },
        version: version.clone(),
    };
    let mut change = ListChange { adds: less(after, before), removes: less(before, after), ..ListChange::default() };
    for (model, standing) in &after.standings {
        let known = before.standings.get(model).cloned().unwrap_or_default();
        let new = standing.recalled.iter().filter(|(version, _)| !known.recalled.contains_key(*version));
        change.recalls.extend(new.map(|(version, why)| (of(model, version), why.clone())));
        let raised = standing.floor.as_ref().filter(|floor| known.floor.as_ref() != Some(*floor));
        change.floors.extend(raised.map(|floor| of(model, floor)));
    }
    change
}

/// `POST /api/v1/proposals/{id}/signatures`.
async fn sign(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ProposalDetail>> {
    let signer = operator_on(&fleet, &headers, Permission::Approve, &Resource::NONE).await?;
    let id = number(&id)?;
    let order: SignatureOrder = body::json(body).await?;
    let override_reason = order.override_reason.as_deref().map(reason).transpose()?;
    let proposal = visible(&fleet, &signer, Permission::Approve, id).await?;
    let role = role_of(&proposal);
    let Some(signed) = proposal.signed.as_ref().filter(|_| proposal.row.state == ProposalState::Open) else {
        return Err(over(&proposal));
    };
    if order.signatures.is_empty() {
        return Err(signature_refused(SignatureRefusal::Count(0)));
    }
    let keys = fleet.repository.role_keys(&role).map_err(publish_refused)?;
    let before = proposal.row.signatures.iter().map(|signature| signature.keyid.clone()).collect();
    proposals::admit(signed, &before, &order.signatures, &keys).map_err(signature_refused)?;
    let added = fleet.store.sign_proposal(id, order.signatures, signer.name, override_reason, clock::now()).await?;
    added.map_err(|refusal| not_changed(id, refusal))?;
    go_on(&fleet, id).await.map(Json)
}

/// `POST /api/v1/proposals/{id}/withdraw`.
async fn withdraw(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ProposalDetail>> {
    let caller = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let id = number(&id)?;
    let form: Withdrawal = body::json(body).await?;
    let reason = reason(&form.reason)?;
    let proposal = visible(&fleet, &caller, Permission::Read, id).await?;
    if !may_withdraw(&caller, &proposal) {
        let words = format!("{} made it: they or an approver may withdraw it", proposal.row.author);
        return Err(Refused::new(Refusal::NotYours, words));
    }
    let withdrawn = fleet.store.withdraw_proposal(id, caller.name, reason, clock::now()).await?;
    let withdrawn = withdrawn.map_err(|refusal| not_changed(id, refusal))?;
    shown(&fleet, withdrawn).await.map(Json)
}

fn may_withdraw(caller: &Operator, proposal: &ProposalDetail) -> bool {
    caller.name == proposal.row.author || caller.role.allows(Permission::Approve)
}

/// `?team=&cursor=&limit=`.
#[derive(Debug, Default, Deserialize)]
struct ProposalQuery {
    team: Option<String>,
    cursor: Option<i64>,
    limit: Option<usize>,
}

/// `GET /api/v1/proposals`.
async fn list(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ProposalQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let Query(query) = query.map_err(|e| Refused::new(Refusal::BadQuery, e.body_text()))?;
    let team = query.team.as_deref().map(query::name).transpose()?;
    let limit = query.limit.unwrap_or(ROWS);
    if !(1..=MAX_ROWS).contains(&limit) {
        return Err(Refused::new(Refusal::BadQuery, format!("limit must be 1 to {MAX_ROWS}")));
    }
    // What the reader may not see is not counted either.
    let teams = match (team, reader.scope.teams.clone()) {
        (Some(team), Some(own)) => Some(own.into_iter().filter(|one| *one == team).collect()),
        (Some(team), None) => Some([team].into()),
        (None, own) => own,
    };
    let mut found = fleet.store.proposals(teams, query.cursor, limit + 1).await?;
    let goes_on = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| goes_on).map(|last| last.row.id.to_string());
    let mut items = Vec::new();
    for proposal in found {
        // One list at a time: all of a page would be too much at once.
        let is_open = proposal.row.state == ProposalState::Open;
        let whole = if is_open { fleet.store.proposal(proposal.row.id).await? } else { None };
        items.push(shown(&fleet, whole.unwrap_or(proposal)).await?.row);
    }
    Ok(Json(Page { items, next }).into_response())
}

/// `GET /api/v1/proposals/{id}`.
async fn one(
    State(fleet): State<Arc<Fleet>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<ProposalDetail>> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let proposal = visible(&fleet, &reader, Permission::Read, number(&id)?).await?;
    shown(&fleet, proposal).await.map(Json)
}

fn number(text: &str) -> Answer<i64> {
    text.parse().map_err(|_| Refused::new(Refusal::BadName, "a proposal has a number"))
}

/// The proposal as it stands.
async fn current(fleet: &Arc<Fleet>, id: i64) -> Answer<ProposalDetail> {
    let found = fleet.store.proposal(id).await?;
    found.ok_or_else(|| not_changed(id, ProposalRefusal::Unknown))
}

/// The proposal, if the operator may do this to its team's. One of another team is answered like one that is not there:
/// numbers are easily guessed.
async fn visible(fleet: &Arc<Fleet>, operator: &Operator, permission: Permission, id: i64) -> Answer<ProposalDetail> {
    let proposal = current(fleet, id).await?;
    let may = permit(fleet, operator, permission, &Resource::team(&proposal.row.team));
    may.map_err(|_| not_changed(id, ProposalRefusal::Unknown))?;
    Ok(proposal)
}

fn role_of(proposal: &ProposalDetail) -> TeamRole {
    TeamRole { team: proposal.row.team.clone(), kind: proposal.row.role }
}

/// Publishes an open proposal if nothing is missing any more; gives it as it then stands.
async fn go_on(fleet: &Arc<Fleet>, id: i64) -> Answer<ProposalDetail> {
    let proposal = current(fleet, id).await?;
    let role = role_of(&proposal);
    let Some(signed) = proposal.signed.clone() else { return shown(fleet, proposal).await };
    let signatures = proposal.row.signatures.iter();
    let signatures = signatures.map(|s| Signature { keyid: s.keyid.clone(), sig: s.sig.clone() }).collect();
    let bytes = serde_json::to_vec(&Envelope { signatures, signed }).map_err(|e| Refused::internal(&e.into()))?;
    let listing = fleet.repository.inspect(&role, &bytes);
    // Another's last signature may just have published this one, or another list: the record knows which. If neither,
    // the proposal says what it is stuck on.
    let Ok(listing) = listing else { return settled(fleet, id).await };
    let manifests = match complete(fleet, listing.versions).await {
        Err(refused) if !refused.is(Refusal::Internal) => return settled(fleet, id).await,
        complete => complete?,
    };
    let by: Vec<_> = signers(&proposal);
    if judged(fleet, &role, &by, &manifests).await? != Verdict::Ready {
        return shown(fleet, proposal).await;
    }
    let last = by.last().map_or(proposal.row.author.clone(), |signed| signed.by.clone());
    match publish(fleet, &role, bytes, manifests, &last).await {
        Err(refused) if refused.is(Refusal::MetadataMoved) || refused.is(Refusal::MetadataExpired) => {
            settled(fleet, id).await
        }
        Err(refused) => Err(refused),
        Ok(()) => settled(fleet, id).await,
    }
}

/// Publishes what a stop of the server left between the last signature and the publication: nobody would sign it again.
///
/// # Errors
/// Where the store fails; a proposal that cannot be published stays open, and says why.
pub(crate) async fn resume(fleet: &Arc<Fleet>) -> anyhow::Result<()> {
    for id in fleet.store.open_proposals().await? {
        match go_on(fleet, id).await {
            Ok(proposal) => {
                let Some(stuck) = proposal.row.stuck else { continue };
                tracing::warn!(proposal = id, stuck, "a proposal cannot be published");
            }
            Err(refused) => tracing::warn!(proposal = id, ?refused, "a proposal was not gone on with"),
        }
    }
    Ok(())
}

/// The proposal after the catalog has followed the repository.
async fn settled(fleet: &Arc<Fleet>, id: i64) -> Answer<ProposalDetail> {
    let proposal = current(fleet, id).await?;
    fleet.reconcile(&proposal.row.team, "server", clock::now()).await?;
    let proposal = current(fleet, id).await?;
    if proposal.row.state == ProposalState::Void { Err(over(&proposal)) } else { shown(fleet, proposal).await }
}

fn signers(proposal: &ProposalDetail) -> Vec<Signed> {
    let signatures = proposal.row.signatures.iter();
    signatures.map(|s| Signed { key: s.keyid.clone(), by: s.by.clone() }).collect()
}

/// The proposal with what it still wants, and what it is stuck on.
pub(super) async fn shown(fleet: &Arc<Fleet>, mut proposal: ProposalDetail) -> Answer<ProposalDetail> {
    let (role, is_open) = (role_of(&proposal), proposal.row.state == ProposalState::Open);
    let keys = match fleet.repository.role_keys(&role) {
        Ok(keys) => keys,
        Err(refusal) => {
            proposal.row.stuck = is_open.then(|| refusal.to_string());
            return Ok(proposal);
        }
    };
    proposal.row.threshold = keys.threshold() as u64;
    if is_open {
        proposal.row.stuck = hindrance(fleet, &role, &proposal).await?;
        let newcomers = fleet.store.newcomers(proposal.row.change.adds.clone()).await?;
        let exempt = super::publishing::is_exempt(fleet, &role);
        proposal.row.wants = proposals::judge(&keys, &signers(&proposal), &newcomers, exempt).wanted();
    }
    Ok(proposal)
}

/// Why an open proposal cannot be published as it stands, however many sign it.
async fn hindrance(fleet: &Arc<Fleet>, role: &TeamRole, proposal: &ProposalDetail) -> Answer<Option<String>> {
    let Some(signed) = proposal.signed.clone() else { return Ok(None) };
    let expires = signed["expires"].as_str().and_then(|text| text.parse().ok());
    let bytes = serde_json::to_vec(&Envelope { signatures: Vec::new(), signed });
    let bytes = bytes.map_err(|e| Refused::internal(&e.into()))?;
    let listing = match fleet.repository.inspect(role, &bytes) {
        Ok(listing) => listing,
        Err(refusal) => return Ok(Some(publish_refused(refusal).detail().to_owned())),
    };
    if let Some(expires) = expires.filter(|expires| *expires <= clock::now()) {
        return Ok(Some(PublishRefusal::Expired(expires).to_string()));
    }
    match complete(fleet, listing.versions).await {
        Err(refused) if refused.is(Refusal::Internal) => Err(refused),
        complete => Ok(complete.err().map(|refused| refused.detail().to_owned())),
    }
}

fn not_changed(id: i64, refusal: ProposalRefusal) -> Refused {
    match refusal {
        ProposalRefusal::Unknown => {
            let words = format!("no proposal has number {id}: see `tern model proposals`");
            Refused::new(Refusal::UnknownProposal, words)
        }
        ProposalRefusal::Over(proposal) => over(&proposal),
        ProposalRefusal::Twice(key) => signature_refused(SignatureRefusal::Twice(key)),
    }
}

fn over(proposal: &ProposalDetail) -> Refused {
    let why = proposal.row.ended_why.as_deref().unwrap_or_default();
    let (id, role) = (proposal.row.id, role_of(proposal));
    match proposal.row.state {
        ProposalState::Void => {
            let words = format!(
                "{why}: the signatures of proposal {id} are over a list that would undo it, and are void. {} proposes it \
                 again on top of that (`tern model publish`, `recall` or `floor`), and everybody signs the new one",
                proposal.row.author
            );
            Refused::new(Refusal::ProposalVoid, words)
        }
        state => {
            let words = format!("proposal {id} of {role} is {}, {why}: it takes no signature", state.as_str());
            Refused::new(Refusal::ProposalOver, words)
        }
    }
}

fn signature_refused(refusal: SignatureRefusal) -> Refused {
    let code = match refusal {
        SignatureRefusal::Unsignable(_) => Refusal::MetadataMalformed,
        SignatureRefusal::Count(_) => Refusal::BadOrder,
        SignatureRefusal::UnknownKey(_) => Refusal::UnknownKey,
        SignatureRefusal::Twice(_) => Refusal::SignedBefore,
        SignatureRefusal::OtherBytes(_) => Refusal::SignatureMismatch,
    };
    Refused::new(code, refusal.to_string())
}
