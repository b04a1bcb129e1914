//! The attacker holds the server, the network and every online key, and knows a fault of a version that its team has released
//! once, and recalled since, or left below its floor. It may even lie on the device's disk, proven. He demands it, with and
//! without the team's word in reach, and serves what was signed before the recall. It must not run again. And
//! when its team takes back what runs, that stops, whatever the server demands.

use serde_json::{Value, json};
use tern_protocol::{
    refusal::RefusalCode::{BelowFloor, Recalled, Rollback, UnknownTarget},
    standing,
};

use crate::rig::{Rig, https::Trick, refused, release::MODEL, repository::Files, wait};

const REASON: &str = "it reads sevens as ones";

/// A publication of everything with this said of the model by its team.
fn saying(rig: &mut Rig, said: Value) -> Files {
    let old = rig.next.renamed("0.9.0");
    let mut publication = rig.publication(&[&old]);
    publication.team.set(standing::MODELS, json!({"meter-digits": said}));
    publication.files()
}

#[test]
fn what_its_team_took_back_does_not_run_again() {
    let mut rig = Rig::new("recalled");
    tried(&mut rig);
    rig.finish();
}

/// The team recalls what runs: it stops, stays so over a restart, and a version that may run takes its place.
#[test]
fn what_runs_stops_when_its_team_takes_it_back() {
    let mut rig = Rig::with("recalled", "trust_refresh_seconds = 1\n", &[]);
    let answers = rig.witness.take().expect("a witness").end();
    let recalled = saying(&mut rig, json!({"recalled": {"1.0.0": REASON}}));
    rig.https.serve(recalled.clone());
    let is_stopped = |rig: &Rig| {
        wait("the model stops", || {
            let model = rig.device.model(MODEL);
            let is_stopped = model["state"] == "stopped" && model["version"].is_null();
            is_stopped.then(|| assert_eq!(model["last_error"]["code"], "recalled", "{model}"))
        });
    };
    is_stopped(&rig);
    rig.score.refused();
    rig.device.kill();
    rig.https.serve(Files::new());
    rig.device.start();
    is_stopped(&rig);
    rig.score.refused();
    rig.demand(rig.active.desired());
    wait("the demand for it is taken over", || {
        (rig.device.status()["twin"]["generation"] == rig.generation).then_some(())
    });
    is_stopped(&rig);
    rig.score.refused();
    rig.https.serve(recalled);
    rig.demand(rig.next.desired());
    rig.await_committed("1.1.0");
    rig.score.end(answers);
}

pub(crate) fn tried(rig: &mut Rig) {
    let (next, old) = (rig.next.clone(), rig.next.renamed("0.9.0"));
    // It was installed once, and has answered; so it lies on the disk as what a take-back returns to.
    let before_recall = saying(rig, json!({}));
    let past = rig.version;
    rig.https.serve(before_recall.clone());
    rig.install(&next.desired(), "1.1.0");
    rig.install(&rig.active.desired(), "1.0.0");
    let said = json!({"recalled": {"1.1.0": REASON}, "floor": "1.0.0"});
    let recalled = refused(Recalled, "version 1.1.0 was recalled by its team: it reads sevens as ones");
    let below = refused(BelowFloor, "version 0.9.0 lies below the floor 1.0.0");
    // The device hears of it: until then nothing could tell it, and the version on its disk is its own to go back to.
    let (evil, files) = (rig.evil(), saying(rig, said.clone()));
    rig.attempt("a version nobody released", files.clone(), &evil, refused(UnknownTarget, "signed targets"));
    rig.attempt("a recalled version that lies on the disk", files, &next, recalled);
    let files = saying(rig, said.clone());
    rig.attempt("a version below the floor", files, &old, below);
    // The same again, and nobody to ask.
    rig.https.play("", Trick::Status(503));
    rig.try_demand("a recalled version, and no word of its team", next.desired(), recalled);
    rig.restart(|_| ());
    rig.try_demand("the same after a restart", next.desired(), recalled);
    rig.try_demand("a version below the floor, and no word of its team", old.desired(), below);
    // What was signed before the recall; by the online keys under higher numbers of theirs.
    let evil = rig.evil();
    rig.attempt("the metadata before the recall", before_recall.clone(), &evil, refused(Rollback, "timestamp"));
    rig.attempt("a recalled version, with the metadata before the recall", before_recall, &next, recalled);
    let evil = rig.evil();
    let mut publication = rig.publication(&[]);
    publication.team.set("version", past);
    publication.snapshot.signed["meta"]["demo.json"]["version"] = (past).into();
    rig.attempt("the team's word before the recall", publication.files(), &evil, refused(Rollback, ""));
    // The newest word counts as it stands: the team gives the version free, but its floor stays where it was.
    let files = saying(rig, json!({"floor": "0.1.0"}));
    rig.attempt("a lower floor under the same keys", files, &old, below);
}
