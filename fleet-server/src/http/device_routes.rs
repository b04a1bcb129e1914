//! What devices ask for: enrolment, TUF metadata, manifests, blobs.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use tern_protocol::{
    digest::Digest,
    enrolment::{ClaimRequest, ClaimResponse, EnrolmentRequest, EnrolmentResponse},
    ids::{DeviceId, ModelVersion},
};

use super::{
    body,
    caller::{Caller, Device},
    problem::{Answer, Refusal, Refused},
    query, serve_blob,
};
use crate::{
    accesses::{Access, Action, Who},
    clock,
    enrolment::{self, EnrolRefusal},
    events::EventKind,
    fleet::Fleet,
    repository::RoleKind,
    store::NewEvent,
};

/// `POST /api/v1/enrol`: open to all, because the one-time token is the proof.
pub(super) async fn enrol(
    State(fleet): State<Arc<Fleet>>,
    Caller(address): Caller,
    body: Body,
) -> Answer<Json<EnrolmentResponse>> {
    let request: EnrolmentRequest = body::json(body).await?;
    let device = request.device.clone();
    let enrolled = enrolment::enrol(&fleet, request).await?;
    enrolled.map(Json).map_err(|refusal| turned_away(&fleet, address, Some(device), &refusal))
}

/// `POST /api/v1/claim`: open to all, because token and serial together are the proof.
pub(super) async fn claim(
    State(fleet): State<Arc<Fleet>>,
    Caller(address): Caller,
    body: Body,
) -> Answer<Json<ClaimResponse>> {
    let request: ClaimRequest = body::json(body).await?;
    let claimed = enrolment::claim(&fleet, request).await?;
    claimed.map(Json).map_err(|refusal| turned_away(&fleet, address, None, &refusal))
}

/// The refusal, once an event tells of it.
fn turned_away(fleet: &Arc<Fleet>, address: SocketAddr, device: Option<DeviceId>, refusal: &EnrolRefusal) -> Refused {
    let (refused, code) = refused(refusal);
    let event = NewEvent::new(EventKind::EnrolmentRefused, format!("from {}: {refusal}", address.ip()));
    let event = NewEvent { device, ..event.by("somebody").coded(code.code()) };
    fleet.record_refusal(&address.ip().to_string(), event);
    refused
}

fn refused(refusal: &EnrolRefusal) -> (Refused, Refusal) {
    let code = match refusal {
        EnrolRefusal::Unknown => Refusal::UnknownEnrolment,
        EnrolRefusal::UnknownSerial => Refusal::UnknownSerial,
        EnrolRefusal::Used => Refusal::UsedEnrolment,
        EnrolRefusal::Expired => Refusal::ExpiredEnrolment,
        EnrolRefusal::AlreadyEnrolled => Refusal::DeviceEnrolled,
        EnrolRefusal::UnknownRoot => Refusal::UnknownRoot,
        EnrolRefusal::Csr(_) => Refusal::BadCsr,
        EnrolRefusal::Labels => Refusal::BadLabels,
    };
    (Refused::new(code, refusal.to_string()), code)
}

/// `GET /tuf/metadata/{name}`.
pub(super) async fn metadata(State(fleet): State<Arc<Fleet>>, _: Device, Path(name): Path<String>) -> Answer<Response> {
    let is_versioned = name.starts_with(|c: char| c.is_ascii_digit());
    let bytes = fleet.blocking(move |fleet| fleet.repository.metadata(&name)).await??;
    let bytes = bytes.ok_or_else(|| Refused::new(Refusal::NotFound, "the repository has no such file"))?;
    let caching = if is_versioned { "private, immutable, max-age=31536000" } else { "no-store" };
    Ok(document(bytes, caching))
}

/// `GET /tuf/targets/…`: manifests, only of versions that are demanded of the device; the CA bundle, for every device.
pub(super) async fn target(
    State(fleet): State<Arc<Fleet>>,
    Device(device): Device,
    Path(path): Path<String>,
) -> Answer<Response> {
    if let Some(digest) = authorities(&path) {
        let bytes = fleet.blocking(move |fleet| fleet.repository.authorities(&digest)).await??;
        let bytes = bytes.ok_or_else(|| Refused::new(Refusal::NotFound, "there is no such CA bundle"))?;
        return Ok(document(bytes, "private, immutable, max-age=31536000"));
    }
    let not_demanded = || Refused::new(Refusal::BlobNotDemanded, "nothing demanded of this device has this manifest");
    let (version, digest, kind) = consistent_target(&path).ok_or_else(not_demanded)?;
    let generation = fleet.store.demand_of_version(device.clone(), version.clone()).await?.ok_or_else(not_demanded)?;
    let reason = format!("generation {generation}");
    let access = Access::granted(Who::Device(device.clone()), Action::ReadManifest, &version, reason).of(&version);
    let fetches = fleet.store.fetches_manifest(device, version.clone(), clock::now());
    tokio::try_join!(fleet.accesses.note(access), fetches)?;
    let bytes = fleet.blocking(move |fleet| fleet.repository.manifest(&version, &digest, kind)).await??;
    Ok(document(bytes.ok_or_else(not_demanded)?, "private, immutable, max-age=31536000"))
}

/// The digest in `ca/<sha256>.bundle.pem`.
fn authorities(path: &str) -> Option<Digest> {
    path.strip_prefix("ca/")?.strip_suffix(".bundle.pem")?.parse().ok()
}

/// The version and digest in `models/<team>/<model>/<version>/<sha256>.manifest.json`, or below `candidates`.
fn consistent_target(path: &str) -> Option<(ModelVersion, Digest, RoleKind)> {
    let (folder, name) = path.rsplit_once('/')?;
    let (digest, name) = name.split_once('.')?;
    let (path, digest) = (format!("{folder}/{name}"), digest.parse().ok()?);
    let release = ModelVersion::from_target_path(&path).map(|version| (version, digest, RoleKind::Release));
    release.or_else(|| Some((ModelVersion::from_candidate_path(&path)?, digest, RoleKind::Candidate)))
}

/// `GET /blobs/sha256/{digest}`: only blobs of bundles that are demanded of the device.
pub(super) async fn blob(
    State(fleet): State<Arc<Fleet>>,
    Device(device): Device,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let digest: Digest = query::name(&digest)?;
    let demand = fleet.store.demand_of_blob(device.clone(), digest).await?;
    let not_demanded = || Refused::new(Refusal::BlobNotDemanded, "nothing demanded of this device holds this blob");
    let (version, generation) = demand.ok_or_else(not_demanded)?;
    let reason = format!("generation {generation}");
    let access = Access::granted(Who::Device(device.clone()), Action::ReadBlob, digest, reason).of(&version);
    tokio::try_join!(fleet.accesses.note(access), fleet.store.fetches_blob(device, digest, clock::now()))?;
    serve_blob::answer(&fleet.blobs, digest, &headers).await
}

fn document(bytes: Vec<u8>, caching: &'static str) -> Response {
    let mut response = bytes.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consistent_target_names_version_and_digest() {
        let digest = Digest::of(b"m");
        let path = tern_protocol::api::target_path("models/demo/m/1.0.0/manifest.json", &digest);
        let path = path.strip_prefix(tern_protocol::api::TUF_TARGETS).unwrap();
        assert_eq!(consistent_target(path), Some(("demo/m@1.0.0".parse().unwrap(), digest, RoleKind::Release)));
        let path = path.replace("models/", "candidates/");
        assert_eq!(consistent_target(&path), Some(("demo/m@1.0.0".parse().unwrap(), digest, RoleKind::Candidate)));
        for path in ["", "x", "models/demo/m/1.0.0/manifest.json", "models/../m/1.0.0/00.manifest.json"] {
            assert_eq!(consistent_target(path), None, "{path}");
        }
    }
}
