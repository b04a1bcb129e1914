//! Publishing: manifest, then the blobs that are missing, then the team's signed metadata, which makes it count.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use tern_protocol::{
    digest::Digest,
    ids::{ModelName, ModelVersion, TeamId},
    manifest::{self, Manifest},
};
use tokio::time::timeout;

use super::{
    body,
    caller::{operator_on, permit},
    problem::{Answer, Refusal, Refused},
    query::{self, ListQuery},
    serve_blob,
};
use crate::{
    accesses::{Access, Action, Who},
    clock,
    disk::blobs::{BlobError, Incoming},
    events::EventKind,
    fleet::Fleet,
    forms::{ManifestStored, TeamMetadata, VersionDetail, VersionRow},
    identity::{Operator, Permission, policy::Resource},
    profiles::Reference,
    repository::{self, PublishRefusal},
    store::{ManifestOutcome, NewEvent, NewVersion, SignedVersion},
};

/// Time that an upload may stand still.
const STILL: Duration = Duration::from_secs(30);
/// Bytes that are written to disk at once.
const CHUNK: usize = 256 << 10;

/// `GET /api/v1/models`.
pub(super) async fn versions(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    list(&fleet, &reader, None, &ListQuery::of(query)?).await
}

/// `GET /api/v1/models/{team}/{model}`.
pub(super) async fn versions_of(
    State(fleet): State<Arc<Fleet>>,
    Path((team, model)): Path<(String, String)>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let name = ModelName { team: query::name(&team)?, model: query::name(&model)? };
    permit(&fleet, &reader, Permission::Read, &Resource::team(&name.team))?;
    list(&fleet, &reader, Some(name), &ListQuery::of(query)?).await
}

async fn list(fleet: &Arc<Fleet>, reader: &Operator, of: Option<ModelName>, query: &ListQuery) -> Answer<Response> {
    let rows = fleet.store.versions(of, query.paging()?).await?;
    let keep = |row: &VersionRow| reader.scope.has_team(&row.model.name.team);
    Ok(query::page_of(rows, query.limit()?, |row| row.model.to_string(), keep))
}

/// `GET /api/v1/models/{team}/{model}/{version}`.
pub(super) async fn version(
    State(fleet): State<Arc<Fleet>>,
    path: Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer<Json<VersionDetail>> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let model = query::model_version(path)?;
    permit(&fleet, &reader, Permission::Read, &Resource::team(&model.name.team))?;
    let words = format!("{model} was never published here");
    let found = fleet.store.version(model.clone()).await?;
    let found = found.ok_or_else(|| Refused::new(Refusal::UnknownVersion, words))?;
    let route = "GET /api/v1/models/{team}/{model}/{version}";
    let access = Access::granted(Who::Operator(reader.name), Action::ReadManifest, &model, route);
    fleet.accesses.note(access.of(&model)).await?;
    Ok(Json(found))
}

/// `PUT /api/v1/manifests/{team}/{model}/{version}`.
pub(super) async fn put_manifest(
    State(fleet): State<Arc<Fleet>>,
    path: Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ManifestStored>> {
    let publisher = operator_on(&fleet, &headers, Permission::Publish, &Resource::NONE).await?;
    let model = query::model_version(path)?;
    permit(&fleet, &publisher, Permission::Publish, &Resource::team(&model.name.team))?;
    let bytes = body::whole(body, manifest::MAX_BYTES).await?;
    let (digest, team) = (Digest::of(&bytes), model.name.team.clone());
    if !fleet.repository.teams().contains(&team) {
        return Err(publish_refused(PublishRefusal::UnknownTeam(team)));
    }
    let invalid = |words: String| Refused::new(Refusal::ManifestInvalid, words);
    let manifest = Manifest::from_target(&bytes, &model, &digest).map_err(|e| invalid(e.to_string()))?;
    let mut blobs = BTreeMap::new();
    for file in &manifest.files {
        if blobs.insert(file.sha256, file.length.0).is_some_and(|other| other != file.length.0) {
            return Err(invalid(format!("blob {} has two lengths", file.sha256)));
        }
    }
    let state = blob_states(&fleet, blobs.into_iter().collect()).await?;
    if let Some(digest) = state.other_length.first() {
        return Err(invalid(format!("blob {digest} is here and has another length than the manifest says")));
    }
    room(&fleet).await?;
    let version = NewVersion::new(model, digest, &manifest, bytes.to_vec(), publisher.name);
    match fleet.store.put_manifest(version, clock::now()).await? {
        ManifestOutcome::Exists { manifest } => Err(Refused::new(
            Refusal::VersionExists,
            format!("the version is signed with manifest {manifest} and never changes: publish the next version"),
        )),
        ManifestOutcome::Stored | ManifestOutcome::Same => {
            Ok(Json(ManifestStored { manifest: digest, missing_blobs: state.missing }))
        }
    }
}

/// Refuses uploads before the disk is so full that reports and events find no place.
async fn room(fleet: &Arc<Fleet>) -> Answer<()> {
    if fleet.blocking(|fleet| fleet.blobs.has_room()).await?? {
        return Ok(());
    }
    Err(Refused::new(Refusal::NoSpace, "the server's data disk is nearly full: make room there, then send it again"))
}

#[derive(Default)]
struct BlobStates {
    missing: Vec<Digest>,
    other_length: Vec<Digest>,
}

async fn blob_states(fleet: &Arc<Fleet>, blobs: Vec<(Digest, u64)>) -> Answer<BlobStates> {
    let look = move |fleet: &Fleet| {
        let mut states = BlobStates::default();
        for (digest, length) in blobs {
            match fleet.blobs.length(&digest)? {
                None => states.missing.push(digest),
                Some(found) if found != length => states.other_length.push(digest),
                Some(_) => {}
            }
        }
        Ok::<_, std::io::Error>(states)
    };
    Ok(fleet.blocking(look).await??)
}

/// `PUT /api/v1/blobs/sha256/{digest}`: streamed to disk, checked, then named.
pub(super) async fn put_blob(
    State(fleet): State<Arc<Fleet>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let publisher = operator_on(&fleet, &headers, Permission::Publish, &Resource::NONE).await?;
    let digest: Digest = query::name(&digest)?;
    let limit = fleet.store.blob_limit(digest).await?;
    let limit = limit.ok_or_else(|| Refused::new(Refusal::UnknownBlob, "upload the manifest that names it first"))?;
    of_their_teams(&fleet, &publisher, Permission::Publish, digest).await?;
    if fleet.blocking(move |fleet| fleet.blobs.length(&digest)).await??.is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    if hyper::body::Body::size_hint(&body).lower() > limit {
        return Err(Refused::new(Refusal::BlobLength, format!("the manifest says {limit} bytes")));
    }
    room(&fleet).await?;
    let mut incoming = fleet.blocking(move |fleet| fleet.blobs.receive(digest, limit)).await??;
    let mut body = body;
    while let Some(chunk) = next_chunk(&mut body).await? {
        incoming = write(&fleet, incoming, chunk).await?;
    }
    fleet.blocking(move |_| incoming.finish()).await?.map_err(|e| blob_refused(e, &digest))?;
    Ok(StatusCode::CREATED)
}

/// `GET /api/v1/blobs/sha256/{digest}`: a blob of a bundle, for whoever may read models of its team.
pub(super) async fn read_blob(
    State(fleet): State<Arc<Fleet>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let reader = operator_on(&fleet, &headers, Permission::ReadModel, &Resource::NONE).await?;
    let digest: Digest = query::name(&digest)?;
    let version = of_their_teams(&fleet, &reader, Permission::ReadModel, digest).await?;
    let route = "GET /api/v1/blobs/sha256/{digest}";
    let access = Access::granted(Who::Operator(reader.name), Action::ReadBlob, digest, route);
    fleet.accesses.note(access.of(&version)).await?;
    serve_blob::answer(&fleet.blobs, digest, &headers).await
}

/// A version that names the blob and is of a team that the operator may do this to.
async fn of_their_teams(
    fleet: &Arc<Fleet>,
    operator: &Operator,
    permission: Permission,
    blob: Digest,
) -> Answer<ModelVersion> {
    let versions = fleet.store.versions_with_blob(blob).await?;
    let unknown = || Refused::new(Refusal::UnknownBlob, "no manifest names this blob");
    let first = versions.first().ok_or_else(unknown)?;
    let own = versions.iter().find(|version| operator.scope.has_team(&version.name.team)).unwrap_or(first);
    permit(fleet, operator, permission, &Resource::team(&own.name.team))?;
    Ok(own.clone())
}

/// Some bytes of the body, gathered so that the disk sees few large writes.
async fn next_chunk(body: &mut Body) -> Answer<Option<Bytes>> {
    let mut gathered = Vec::new();
    while gathered.len() < CHUNK {
        let frame = timeout(STILL, body.frame()).await;
        let slow = |_| Refused::new(Refusal::SlowBody, format!("nothing came for {} s", STILL.as_secs()));
        match frame.map_err(slow)? {
            None => break,
            Some(Err(_)) => return Err(Refused::new(Refusal::CutBody, "send it again")),
            Some(Ok(frame)) => gathered.extend(frame.into_data().unwrap_or_default()),
        }
    }
    Ok((!gathered.is_empty()).then(|| gathered.into()))
}

async fn write(fleet: &Arc<Fleet>, mut incoming: Incoming, chunk: Bytes) -> Answer<Incoming> {
    let written = fleet.blocking(move |_| incoming.write(&chunk).map(|()| incoming)).await?;
    written.map_err(|error| match error {
        BlobError::TooLong(limit) => Refused::new(Refusal::BlobLength, format!("the manifest says {limit} bytes")),
        other => Refused::internal(&other.into()),
    })
}

fn blob_refused(error: BlobError, digest: &Digest) -> Refused {
    match error {
        BlobError::WrongDigest { found } => {
            Refused::new(Refusal::BlobDigest, format!("{digest} is wanted, the bytes have {found}: send them again"))
        }
        BlobError::TooLong(limit) => Refused::new(Refusal::BlobLength, format!("the manifest says {limit} bytes")),
        other @ BlobError::Disk(_) => Refused::internal(&other.into()),
    }
}

/// `GET /api/v1/teams/{team}/metadata`.
pub(super) async fn team(
    State(fleet): State<Arc<Fleet>>,
    Path(team): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<TeamMetadata>> {
    let reader = operator_on(&fleet, &headers, Permission::Read, &Resource::NONE).await?;
    let team: TeamId = query::name(&team)?;
    permit(&fleet, &reader, Permission::Read, &Resource::team(&team))?;
    fleet.repository.team(&team, clock::now()).map(Json).map_err(publish_refused)
}

/// `PUT /api/v1/teams/{team}/metadata`: publishes what the team signed.
pub(super) async fn put_team(
    State(fleet): State<Arc<Fleet>>,
    Path(team): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let publisher = operator_on(&fleet, &headers, Permission::Publish, &Resource::NONE).await?;
    let team: TeamId = query::name(&team)?;
    permit(&fleet, &publisher, Permission::Publish, &Resource::team(&team))?;
    let bytes = body::whole(body, repository::MAX_TEAM_BYTES).await?;
    let note = |refusal: PublishRefusal| {
        let refused = publish_code(&refusal);
        if matches!(refusal, PublishRefusal::UnderThreshold { .. } | PublishRefusal::ForeignTarget(_)) {
            let event = NewEvent::new(EventKind::FrontRefused, format!("metadata of {team}: {refusal}"));
            fleet.record_refusal(&publisher.name, event.by(publisher.name.clone()).coded(refused.code()));
        }
        publish_refused(refusal)
    };
    let listed = fleet.repository.inspect(&team, &bytes).map_err(note)?;
    let manifests = complete(&fleet, listed).await?;
    let (of, now) = (team.clone(), clock::now());
    let published = fleet.blocking(move |fleet| fleet.repository.publish(&of, &bytes, &manifests, now)).await?;
    published.map_err(note)?;
    fleet.reconcile(&team, &publisher.name, now).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The manifests of the listed versions, if each is here with all its blobs.
async fn complete(fleet: &Arc<Fleet>, listed: Vec<SignedVersion>) -> Answer<Vec<(SignedVersion, Vec<u8>)>> {
    let mut manifests = Vec::new();
    let mut blobs = BTreeSet::new();
    for version in listed {
        let SignedVersion { model, manifest: digest } = &version;
        let Some((_, bytes)) = fleet.store.manifest(model.clone()).await?.filter(|(found, _)| found == digest) else {
            let words = format!("upload the manifest {digest} of {model} first");
            return Err(Refused::new(Refusal::ManifestMissing, words));
        };
        blobs.extend(blobs_of(model, digest, &bytes)?);
        manifests.push((version, bytes));
    }
    let states = blob_states(fleet, blobs.into_iter().collect()).await?;
    match states.missing.iter().chain(&states.other_length).next() {
        Some(digest) => Err(Refused::new(Refusal::BlobsMissing, format!("upload blob {digest} first"))),
        None => {
            references_fit(fleet, &manifests).await?;
            Ok(manifests)
        }
    }
}

/// Refuses versions whose reference profile no device could count by. What was signed before stays: a list that its
/// team can no longer publish would be worse than a version without detectors.
async fn references_fit(fleet: &Arc<Fleet>, listed: &[(SignedVersion, Vec<u8>)]) -> Answer<()> {
    for (SignedVersion { model, .. }, _) in listed {
        if fleet.store.manifest_state(model.clone()).await?.is_some_and(|(.., is_final)| is_final) {
            continue;
        }
        let known = fleet.profiles.of(fleet, model).await?;
        if let Some(Reference::Unfit(fault)) = known.as_ref().map(|known| &known.reference) {
            return Err(Refused::new(Refusal::ReferenceUnfit, format!("{model}: {fault}")));
        }
    }
    Ok(())
}

fn blobs_of(model: &ModelVersion, digest: &Digest, bytes: &[u8]) -> Answer<Vec<(Digest, u64)>> {
    let manifest = Manifest::from_target(bytes, model, digest);
    let manifest = manifest.map_err(|e| Refused::new(Refusal::ManifestInvalid, e.to_string()))?;
    Ok(manifest.files.iter().map(|file| (file.sha256, file.length.0)).collect())
}

fn publish_code(refusal: &PublishRefusal) -> Refusal {
    match refusal {
        PublishRefusal::UnknownTeam(_) => Refusal::UnknownTeam,
        PublishRefusal::Malformed(_) => Refusal::MetadataMalformed,
        PublishRefusal::Moved { .. } => Refusal::MetadataMoved,
        PublishRefusal::ForeignTarget(_) => Refusal::ForeignTarget,
        PublishRefusal::Delegates => Refusal::MetadataDelegates,
        PublishRefusal::UnderThreshold { .. } => Refusal::UnderThreshold,
        PublishRefusal::Expired(_) => Refusal::MetadataExpired,
        PublishRefusal::Unacceptable(_) => Refusal::MetadataRefused,
        PublishRefusal::Failed(_) => Refusal::Internal,
    }
}

fn publish_refused(refusal: PublishRefusal) -> Refused {
    match refusal {
        PublishRefusal::Failed(error) => Refused::internal(&error),
        other => Refused::new(publish_code(&other), other.to_string()),
    }
}
