//! What publishing a list takes, whoever brings the signatures: everything that it names is here, its references can be
//! counted by, and nobody released their own version alone.

use std::{collections::BTreeSet, sync::Arc};

use tern_protocol::{digest::Digest, ids::ModelVersion, manifest::Manifest};

use super::{
    problem::{Answer, Refusal, Refused},
    proposal_routes::shown,
    publish_routes::blob_states,
};
use crate::{
    clock,
    events::EventKind,
    fleet::Fleet,
    forms::proposals::{ProposalDetail, ProposalRow},
    profiles::Reference,
    proposals::{self, ProposalState, Signed, Verdict, judge},
    repository::{PublishRefusal, RoleKind, TeamRole},
    store::{NewEvent, SignedVersion},
};

/// The manifests of a list.
pub(super) type Manifests = Vec<(SignedVersion, Vec<u8>)>;

/// Publishes the role's list, and makes the catalog follow.
pub(super) async fn publish(
    fleet: &Arc<Fleet>,
    role: &TeamRole,
    bytes: Vec<u8>,
    manifests: Manifests,
    actor: &str,
) -> Answer<()> {
    let (of, now) = (role.clone(), clock::now());
    let published = fleet.blocking(move |fleet| fleet.repository.publish(&of, &bytes, &manifests, now)).await?;
    published.map_err(|refusal| noted(fleet, role, actor, refusal))?;
    fleet.reconcile(&role.team, actor, now).await?;
    Ok(())
}

/// Whether a list with these manifests may be published once these have signed it.
pub(super) async fn judged(
    fleet: &Arc<Fleet>,
    role: &TeamRole,
    signed: &[Signed],
    manifests: &[(SignedVersion, Vec<u8>)],
) -> Answer<Verdict> {
    // Versions of a list that new keys only sign again were approved before.
    let before = fleet.repository.last_listing(role).versions;
    let new = manifests.iter().map(|(version, _)| version).filter(|version| !before.contains(version));
    let newcomers = fleet.store.newcomers(new.map(|version| version.model.clone()).collect()).await?;
    let keys = fleet.repository.role_keys(role).map_err(publish_refused)?;
    Ok(judge(&keys, signed, &newcomers, is_exempt(fleet, role)))
}

/// Whether nobody needs another's word: all keys lie on one machine, or devices opt in.
pub(super) fn is_exempt(fleet: &Fleet, role: &TeamRole) -> bool {
    fleet.repository.is_solo() || role.kind == RoleKind::Candidate
}

pub(super) fn needs_other(verdict: &Verdict) -> Refused {
    let wanted = verdict.wanted().unwrap_or_default();
    let words = format!("{wanted} is needed: propose the list, and have them run `tern model approve`");
    Refused::new(Refusal::OwnVersion, words)
}

/// What to say of a version that the team's list does not name: whose signature is missing where it is a draft.
pub(super) async fn unsigned(fleet: &Arc<Fleet>, model: &ModelVersion) -> Refused {
    match why_unsigned(fleet, model).await {
        Ok(words) => Refused::new(Refusal::VersionUnsigned, words),
        Err(refused) => refused,
    }
}

async fn why_unsigned(fleet: &Arc<Fleet>, model: &ModelVersion) -> Answer<String> {
    let most = proposals::KEPT + proposals::MAX_OPEN;
    let all = fleet.store.proposals(Some([model.name.team.clone()].into()), None, most).await?;
    let is_draft = |proposal: &ProposalDetail| {
        let row = &proposal.row;
        row.state == ProposalState::Open && row.role == RoleKind::Release && row.change.adds.contains(model)
    };
    let Some(draft) = all.into_iter().find(is_draft) else {
        return Ok(format!("the team's signed metadata does not list {model}: publish it with its release key"));
    };
    let ProposalRow { id, wants, .. } = shown(fleet, draft).await?.row;
    let wants = wants.map_or(String::new(), |wants| format!(", {wants}"));
    Ok(format!(
        "{model} is a draft, proposal {id}{wants}: another holder of a release key runs `tern model approve {model}`"
    ))
}

/// The refusal, as the answer and, where it concerns the fleet, as an event.
pub(super) fn noted(fleet: &Arc<Fleet>, role: &TeamRole, party: &str, refusal: PublishRefusal) -> Refused {
    let code = publish_code(&refusal);
    let concerns = matches!(
        refusal,
        PublishRefusal::UnderThreshold { .. } | PublishRefusal::ForeignTarget(..) | PublishRefusal::StandingLowered(_)
    );
    if concerns {
        let event = NewEvent::new(EventKind::FrontRefused, format!("metadata of {role}: {refusal}"));
        fleet.record_refusal(party, event.by(party).coded(code.code()));
    }
    publish_refused(refusal)
}

/// The manifests of the listed versions, if each is here with all its blobs.
pub(super) async fn complete(fleet: &Arc<Fleet>, listed: Vec<SignedVersion>) -> Answer<Manifests> {
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
        PublishRefusal::ForeignTarget(..) => Refusal::ForeignTarget,
        PublishRefusal::Delegates => Refusal::MetadataDelegates,
        PublishRefusal::UnderThreshold { .. } => Refusal::UnderThreshold,
        PublishRefusal::Standing(_) => Refusal::StandingInvalid,
        PublishRefusal::StandingLowered(_) => Refusal::StandingLowered,
        PublishRefusal::Expired(_) => Refusal::MetadataExpired,
        PublishRefusal::Unacceptable(_) => Refusal::MetadataRefused,
        PublishRefusal::Failed(_) => Refusal::Internal,
    }
}

pub(super) fn publish_refused(refusal: PublishRefusal) -> Refused {
    match refusal {
        PublishRefusal::Failed(error) => Refused::internal(&error),
        other => Refused::new(publish_code(&other), other.to_string()),
    }
}
