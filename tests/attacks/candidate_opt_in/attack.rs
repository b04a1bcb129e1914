//! The attacker holds the server and every online key, and the device has opted in to candidates of its team's pipeline. Those
//! it takes; but no candidate by another key, no release by the pipeline's, and none that the team has taken back.

use serde_json::json;
use tern_protocol::{
    refusal::RefusalCode::{Metadata, Recalled, UnknownTarget},
    standing,
};

use crate::{
    candidate::{as_candidate, publication},
    rig::{Rig, refused, repository::key},
};

#[test]
fn a_device_with_opt_in_takes_what_it_opted_for() {
    let mut rig = Rig::with("candidate_opt_in", "[candidates]\nallow = true\n", &[]);
    let unknown = refused(UnknownTarget, "is not among its team's signed targets");
    let evil = rig.evil();
    let files = publication(&mut rig, &evil, |p| p.candidate.signers = vec![key()]);
    rig.https.serve(files);
    let expected = refused(Metadata, "role demo.candidate");
    rig.try_demand("a candidate signed by a stranger", as_candidate(&evil), expected);
    let evil = rig.evil();
    let online = [&rig.keys.snapshot, &rig.keys.timestamp, &rig.keys.director].map(Clone::clone);
    let files = publication(&mut rig, &evil, |p| p.candidate.signers = online.to_vec());
    rig.https.serve(files);
    rig.try_demand("a candidate signed by every online key", as_candidate(&evil), expected);
    let evil = rig.evil();
    let path = evil.path();
    let files = publication(&mut rig, &evil, |p| p.candidate.signed["targets"][&path] = evil.target());
    rig.https.serve(files);
    rig.try_demand("a release in the candidates' role", evil.desired(), unknown);
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.https.serve(files);
    rig.try_demand("a release, demanded as a candidate", as_candidate(&evil), unknown);
    let evil = rig.evil();
    let version = evil.named.version.to_string();
    let said = json!({"meter-digits": {"recalled": {version: "it diverges"}}});
    let files = publication(&mut rig, &evil, |p| p.team.set(standing::MODELS, said));
    rig.https.serve(files);
    let expected = refused(Recalled, "was recalled by its team: it diverges");
    rig.try_demand("a candidate that its team took back", as_candidate(&evil), expected);
    // What it opted for.
    let candidate = rig.next.renamed("1.2.0-rc.1");
    let files = publication(&mut rig, &candidate, |_| ());
    rig.https.serve(files);
    rig.install(&as_candidate(&candidate), "1.2.0-rc.1");
    rig.install(&rig.active.desired(), "1.0.0");
    rig.finish();
}
