//! The attacker holds the server, every online key, and the key by which the training pipeline signs candidates. A device that
//! did not opt in itself must refuse each of them.

use tern_protocol::{
    desired::DesiredModel,
    refusal::RefusalCode::{CandidateNotAllowed, UnknownTarget},
};

use crate::rig::{
    Rig, refused,
    release::Release,
    repository::{Files, Publication},
};

pub(crate) fn as_candidate(release: &Release) -> DesiredModel {
    DesiredModel { candidate: true, ..release.desired() }
}

/// A publication with this candidate, changed so.
pub(crate) fn publication(rig: &mut Rig, candidate: &Release, change: impl FnOnce(&mut Publication)) -> Files {
    let mut publication = rig.publication_of(&[], &[candidate]);
    change(&mut publication);
    publication.files()
}

#[test]
fn a_device_without_opt_in_takes_no_candidate() {
    let mut rig = Rig::new("candidate");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let candidate = rig.next.renamed("1.2.0-rc.1");
    let files = publication(rig, &candidate, |_| ());
    rig.https.serve(files);
    let expected = refused(CandidateNotAllowed, "does not allow candidates");
    rig.try_demand("a candidate that is signed well", as_candidate(&candidate), expected);
    rig.try_demand("a release, demanded as a candidate", as_candidate(&rig.next.clone()), expected);
    let expected = refused(UnknownTarget, "is not among its team's signed targets");
    rig.try_demand("a candidate, demanded as a release", candidate.desired(), expected);
    rig.restart(|_| ());
    let expected = refused(CandidateNotAllowed, "does not allow candidates");
    rig.try_demand("a candidate after a restart", as_candidate(&candidate), expected);
}
