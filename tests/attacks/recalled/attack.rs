//! The attacker holds the server, the network and every online key. He demands versions that the team released and took
//! back since, or that only its robot signed, and he hides the list that says so. None may run; and what runs stops, once
//! its team recalls it.

use serde_json::json;
use tern_protocol::{
    desired::DesiredModel,
    refusal::RefusalCode::{BelowFloor, CandidateNotAllowed, Recalled},
    standing::MODELS,
};

use crate::rig::{
    Rig, refused,
    release::MODEL,
    repository::{Files, Publication},
    wait,
};

/// A publication in which the team says this of its model.
fn saying(rig: &mut Rig, said: &serde_json::Value) -> Publication {
    let mut publication = rig.publication(&[]);
    publication.team.set(MODELS, json!({"meter-digits": said}));
    publication
}

#[test]
fn what_a_team_took_back_does_not_run() {
    let mut rig = Rig::with("recalled", "trust_refresh_seconds = 1\n", &[]);
    let (next, active) = (rig.next.named.version.to_string(), rig.active.named.version.to_string());
    let files = saying(&mut rig, &json!({"recalled": {&next: "wrong labels"}})).files();
    rig.https.serve(files);
    let expected = refused(Recalled, "was recalled by its team: wrong labels");
    rig.try_demand("a recalled version", rig.next.desired(), expected);
    rig.restart(|_| ());
    rig.https.serve(Files::new());
    rig.try_demand("a recalled version, and the list is hidden", rig.next.desired(), expected);
    candidates(&mut rig);
    floor(&mut rig);
    let answers = rig.witness.take().expect("a witness").end();
    stop(&mut rig, &active);
    rig.score.end(answers);
}

/// A robot's version, on a device whose owner takes none.
fn candidates(rig: &mut Rig) {
    let evil = rig.evil();
    let mut publication = rig.publication(&[]);
    publication.candidate.signed["targets"][evil.candidate_path()] = evil.target();
    evil.add_to(&mut publication.content);
    rig.https.serve(publication.files());
    let demand = DesiredModel { candidate: true, ..evil.desired() };
    let expected = refused(CandidateNotAllowed, "does not allow candidates");
    rig.try_demand("a candidate", demand, expected);
    assert_eq!(rig.https.traffic(&evil.manifest_path()).requests, 0, "nothing of it is fetched");
}

/// The floor of the same keys never falls, whatever the newest list says.
fn floor(rig: &mut Rig) {
    let old = rig.next.renamed("0.9.0");
    for (variant, said) in
        [("a version below the floor", json!({"floor": "1.0.0"})), ("and the floor is gone", json!({}))]
    {
        let mut publication = saying(rig, &said);
        publication.team.signed["targets"][old.path()] = old.target();
        old.add_to(&mut publication.content);
        rig.https.serve(publication.files());
        rig.try_demand(variant, old.desired(), refused(BelowFloor, "lies below the floor 1.0.0"));
    }
}

/// The team recalls what runs: it stops, stays so over a restart, and comes back with a version that may run.
fn stop(rig: &mut Rig, active: &str) {
    let files = saying(rig, &json!({"recalled": {active: "it burns the boiler"}})).files();
    rig.https.serve(files);
    let is_stopped = |rig: &Rig| {
        wait("the model stops", || {
            let model = rig.device.model(MODEL);
            let is_stopped = model["state"] == "stopped" && model["version"].is_null();
            is_stopped.then(|| assert_eq!(model["last_error"]["code"], "recalled", "{model}"))
        });
    };
    is_stopped(rig);
    rig.device.kill();
    rig.https.serve(Files::new());
    rig.device.start();
    is_stopped(rig);
    rig.score.refused();
    let files = saying(rig, &json!({"recalled": {active: "it burns the boiler"}})).files();
    rig.https.serve(files);
    rig.demand(rig.next.desired());
    rig.await_committed(&rig.next.named.version.to_string());
}
