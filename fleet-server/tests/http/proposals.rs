//! Publishing by more than one person, recalls, floors and candidates, over real TLS.

use jiff::SignedDuration;

use super::{
    rig::{Reply, Uploads},
    rollouts::token,
    tokens::holder,
    *,
};
use tern_fleet_server::{
    forms::{
        TeamMetadata, VersionDetail,
        proposals::{ProposalDetail, ProposalRow},
    },
    proposals::{Envelope, ProposalState, Signature, message},
    repository::TeamRole,
    store::NewProposal,
};
use tern_protocol::keys::SigningKey;

const NEXT: &str = "demo/m@1.1.0";

/// A list that lists these besides what is there; of releases.
pub(super) async fn list(rig: &Rig, new: &[(&str, &Uploads)]) -> Value {
    let new: Vec<_> = new.iter().map(|(model, (manifest, _))| (*model, manifest.as_slice())).collect();
    rig.team_role("demo", &new).await
}

/// A time so many days ahead, in whole seconds.
fn in_days(days: i64) -> String {
    let at = clock::now() + SignedDuration::from_hours(days * 24);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn signature(key: &SigningKey, signed: &Value) -> Signature {
    Signature { keyid: key.public().id(), sig: hex::encode(key.sign(&message(signed).unwrap())) }
}

fn order(signed: &Value, keys: &[&SigningKey]) -> Value {
    let signatures = keys.iter().map(|key| signature(key, signed)).collect();
    json!({"role": "release", "reason": "better", "envelope": Envelope { signatures, signed: signed.clone() }})
}

pub(super) async fn propose(caller: &Caller, signed: &Value, keys: &[&SigningKey]) -> Reply {
    caller.post("/api/v1/teams/demo/proposals", &order(signed, keys)).await
}

async fn sign(caller: &Caller, proposal: &ProposalDetail, key: &SigningKey) -> Reply {
    let signatures = [signature(key, proposal.signed.as_ref().unwrap())];
    let path = format!("/api/v1/proposals/{}/signatures", proposal.row.id);
    caller.post(&path, &json!({"signatures": signatures})).await
}

/// A fleet of two people: ann, who publishes, and bob, who approves.
pub(super) struct Two {
    pub(super) rig: Rig,
    pub(super) ann: Caller,
    pub(super) bob: Caller,
    pub(super) keys: [SigningKey; 2],
}

impl Two {
    pub(super) async fn start() -> Self {
        let rig = Rig::of_two_people().await;
        let (ann, bob) = (token(&rig, "ann", Role::Publisher).await, token(&rig, "bob", Role::Approver).await);
        let keys = [rig.operator_key("release-demo"), rig.operator_key("release-demo-2")];
        Self { rig, ann, bob, keys }
    }

    /// Uploads a version as ann and gives the list with it.
    pub(super) async fn uploaded(&self, model: &str) -> Value {
        let uploads = bundle(model, model.as_bytes());
        self.rig.upload(&self.ann, model, uploads.clone()).await;
        list(&self.rig, &[(model, &uploads)]).await
    }

    /// Publishes a version by both.
    pub(super) async fn published(&self, model: &str) {
        let signed = self.uploaded(model).await;
        let made: ProposalDetail = propose(&self.ann, &signed, &[&self.keys[0]]).await.ok();
        let done: ProposalDetail = sign(&self.bob, &made, &self.keys[1]).await.ok();
        assert_eq!(done.row.state, ProposalState::Published);
    }

    pub(super) async fn version(&self, model: &str) -> VersionDetail {
        self.rig.admin().get(&format!("/api/v1/models/{}", model.replace('@', "/"))).await.ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_a_draft_until_two_people_have_signed() {
    let two = Two::start().await;
    let signed = two.uploaded(MODEL).await;
    let made: ProposalDetail = propose(&two.ann, &signed, &[&two.keys[0]]).await.ok();
    assert_eq!((made.row.state, made.row.threshold, made.row.signatures.len()), (ProposalState::Open, 2, 1));
    assert_eq!(made.row.wants.as_deref(), Some("1 of 2 signatures"));
    assert_eq!(made.row.change.adds, [MODEL.parse().unwrap()]);
    assert!(!two.version(MODEL).await.row.signed, "a draft");
    let early = assign(&two.rig, MODEL, "*").await;
    let why = String::from_utf8(early.body.to_vec()).unwrap();
    assert_eq!(early.problem(), (409, "version-unsigned".into()));
    let words = format!(
        "{MODEL} is a draft, proposal {}, 1 of 2 signatures: another holder of a release key runs `tern model approve {MODEL}`",
        made.row.id
    );
    assert!(why.contains(&words), "{why}");
    let terms: TeamMetadata = two.rig.admin().get("/api/v1/teams/demo/metadata").await.ok();
    let counting: Vec<_> = two.keys.iter().map(|key| key.public().id()).collect();
    assert!(terms.keys.len() == 2 && counting.iter().all(|id| terms.keys.contains(id)), "{:?}", terms.keys);
    let listed: Value = two.bob.get("/api/v1/proposals?team=demo").await.ok();
    assert_eq!((listed["items"][0]["id"].as_i64(), &listed["items"][0]["author"]), (Some(made.row.id), &json!("ann")));
    assert!(two.bob.get("/api/v1/proposals?team=other").await.ok::<Value>()["items"].as_array().unwrap().is_empty());
    let shown: ProposalDetail = two.bob.get(&format!("/api/v1/proposals/{}", made.row.id)).await.ok();
    assert_eq!(shown.signed.as_ref(), Some(&signed));

    let done: ProposalDetail = sign(&two.bob, &shown, &two.keys[1]).await.ok();
    assert_eq!((done.row.state, done.row.signatures.len(), done.row.wants), (ProposalState::Published, 2, None));
    assert!(two.version(MODEL).await.row.signed);
    let now: TeamMetadata = two.rig.admin().get("/api/v1/teams/demo/metadata").await.ok();
    assert_eq!((now.signatures.len(), now.signed.as_ref()), (2, Some(&signed)));
    assert_eq!(sign(&two.bob, &shown, &two.keys[1]).await.problem(), (409, "proposal-over".into()));
    for kind in ["proposal-made", "proposal-signed", "version-published"] {
        two.rig.event(kind, "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_author_alone_publishes_nothing_however_many_keys_they_hold() {
    let two = Two::start().await;
    let signed = two.uploaded(MODEL).await;
    let both: Vec<_> = two.keys.iter().collect();
    let put = sign_value(signed.clone(), &both).unwrap();
    let reply = two.ann.put("/api/v1/teams/demo/metadata", put.clone()).await;
    assert_eq!(reply.problem(), (403, "own-version".into()));
    let made: ProposalDetail = propose(&two.ann, &signed, &both).await.ok();
    assert_eq!(made.row.state, ProposalState::Open);
    assert!(made.row.wants.unwrap().contains("other than ann"));
    assert!(!two.version(MODEL).await.row.signed);
    // With one key less, the approver's word is what is missing, and it publishes.
    let withdrawn: ProposalDetail =
        two.ann.post(&format!("/api/v1/proposals/{}/withdraw", made.row.id), &json!({"reason": "again"})).await.ok();
    assert_eq!(withdrawn.row.state, ProposalState::Withdrawn);
    let made: ProposalDetail = propose(&two.ann, &signed, &both[..1]).await.ok();
    let done: ProposalDetail = sign(&two.bob, &made, &two.keys[1]).await.ok();
    assert_eq!(done.row.state, ProposalState::Published);
    // In one step, by somebody who did not upload it.
    let next = two.uploaded(NEXT).await;
    two.rig.admin().put("/api/v1/teams/demo/metadata", sign_value(next, &both).unwrap()).await.empty();
    assert!(two.version(NEXT).await.row.signed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_are_void_once_the_list_has_moved() {
    let two = Two::start().await;
    let (first, second) = (two.uploaded(MODEL).await, two.uploaded(NEXT).await);
    let first: ProposalDetail = propose(&two.ann, &first, &[&two.keys[0]]).await.ok();
    let second: ProposalDetail = propose(&two.ann, &second, &[&two.keys[0]]).await.ok();
    let done: ProposalDetail = sign(&two.bob, &first, &two.keys[1]).await.ok();
    assert_eq!(done.row.state, ProposalState::Published);
    let reply = sign(&two.bob, &second, &two.keys[1]).await;
    let words = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(words.contains("version 1 of demo's list was published meanwhile") && words.contains("void"), "{words}");
    assert_eq!(reply.problem(), (409, "proposal-void".into()));
    let shown: ProposalDetail = two.ann.get(&format!("/api/v1/proposals/{}", second.row.id)).await.ok();
    assert_eq!((shown.row.state, shown.signed), (ProposalState::Void, None));
    two.rig.event("proposal-void", "").await;
    // A list in one step voids those that wait, too.
    let again = two.uploaded(NEXT).await;
    let waits: ProposalDetail = propose(&two.ann, &again, &[&two.keys[0]]).await.ok();
    let mut other = again.clone();
    other["expires"] = json!(in_days(40));
    let both: Vec<_> = two.keys.iter().collect();
    two.rig.admin().put("/api/v1/teams/demo/metadata", sign_value(other, &both).unwrap()).await.empty();
    assert_eq!(sign(&two.bob, &waits, &two.keys[1]).await.problem(), (409, "proposal-void".into()));
    // And so does a base that has moved before the proposal came.
    assert_eq!(propose(&two.ann, &again, &[&two.keys[0]]).await.problem(), (409, "metadata-moved".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_a_proposal_is_refused_by_its_own_name() {
    let two = Two::start().await;
    let uploads = bundle(MODEL, b"weights");
    let early = list(&two.rig, &[(MODEL, &uploads)]).await;
    assert_eq!(propose(&two.ann, &early, &[]).await.problem(), (422, "manifest-missing".into()));
    let signed = two.uploaded(MODEL).await;
    let [mine, theirs] = &two.keys;
    let stranger = SigningKey::generate().unwrap();
    let code = async |signed: &Value, keys: &[&SigningKey]| propose(&two.ann, signed, keys).await.problem().1;
    assert_eq!(code(&signed, &[&stranger]).await, "unknown-key");
    assert_eq!(code(&signed, &[mine, mine]).await, "signed-before");
    let mut changed = signed.clone();
    changed["version"] = json!(7);
    assert_eq!(code(&changed, &[mine]).await, "metadata-moved");
    let mut foreign = signed.clone();
    foreign["targets"]["models/other/m/1.0.0/manifest.json"] =
        foreign["targets"]["models/demo/m/1.0.0/manifest.json"].clone();
    assert_eq!(code(&foreign, &[mine]).await, "foreign-target");
    let mut delegating = signed.clone();
    delegating["delegations"] = json!({"keys": {}, "roles": []});
    assert_eq!(code(&delegating, &[mine]).await, "metadata-delegates");
    let mut standing = signed.clone();
    standing["x-tern-models"] = json!({"m": {"recalled": {"1.0.0": "x"}}});
    assert_eq!(code(&standing, &[mine]).await, "standing-invalid");
    let mut large = signed.clone();
    large["x-padding"] = json!("x".repeat(1 << 20));
    assert_eq!(code(&large, &[mine]).await, "too-large");
    let post = async |path: &str, body: Value| two.ann.post(path, &body).await.problem().1;
    let mut order = order(&signed, &[mine]);
    assert_eq!(post("/api/v1/teams/nobody/proposals", order.clone()).await, "unknown-team");
    order["envelope"]["signatures"][0]["sig"] = json!("00".repeat(64));
    assert_eq!(post("/api/v1/teams/demo/proposals", order.clone()).await, "signature-mismatch");
    order["reason"] = json!(" ");
    assert_eq!(post("/api/v1/teams/demo/proposals", order.clone()).await, "bad-order");
    order["role"] = json!("both");
    assert_eq!(post("/api/v1/teams/demo/proposals", order).await, "malformed-json");

    let made: ProposalDetail = propose(&two.ann, &signed, &[mine]).await.ok();
    assert_eq!(code(&signed, &[]).await, "proposal-exists");
    assert_eq!(sign(&two.bob, &made, mine).await.problem(), (409, "signed-before".into()));
    assert_eq!(sign(&two.bob, &made, &stranger).await.problem(), (422, "unknown-key".into()));
    let other = ProposalDetail { signed: Some(changed), ..made.clone() };
    assert_eq!(sign(&two.bob, &other, theirs).await.problem(), (422, "signature-mismatch".into()));
    let path = format!("/api/v1/proposals/{}", made.row.id);
    let none = two.bob.post(&format!("{path}/signatures"), &json!({"signatures": []})).await;
    assert_eq!(none.problem(), (422, "bad-order".into()));
    let nobody = two.bob.post("/api/v1/proposals/99/signatures", &json!({"signatures": []})).await;
    assert_eq!(nobody.problem(), (404, "unknown-proposal".into()));
    assert_eq!(two.bob.get("/api/v1/proposals/x").await.problem(), (400, "bad-name".into()));
    assert_eq!(two.bob.get("/api/v1/proposals?limit=0").await.problem(), (400, "bad-query".into()));
    let viewer = token(&two.rig, "eve", Role::Viewer).await;
    assert_eq!(sign(&viewer, &made, theirs).await.problem(), (403, "wrong-role".into()));
    let withdraw = async |caller: &Caller| caller.post(&format!("{path}/withdraw"), &json!({"reason": "x"})).await;
    assert_eq!(withdraw(&viewer).await.problem(), (403, "not-yours".into()));
    withdraw(&two.bob).await.ok::<ProposalDetail>();
    assert_eq!(withdraw(&two.ann).await.problem(), (409, "proposal-over".into()));
    two.rig.event("proposal-withdrawn", "").await;

    // At most so many wait.
    for n in 0..16 {
        let mut one = signed.clone();
        one["expires"] = json!(in_days(40 + n));
        propose(&two.ann, &one, &[]).await.ok::<ProposalDetail>();
    }
    assert_eq!(code(&signed, &[]).await, "too-many-proposals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_published_stays_open_and_says_why() {
    let two = Two::start().await;
    let mut signed = two.uploaded(MODEL).await;
    signed["expires"] = json!("2020-01-01T00:00:00Z");
    let late: ProposalDetail = propose(&two.ann, &signed, &[&two.keys[0]]).await.ok();
    let is_late = |row: &ProposalRow| {
        let stuck = row.stuck.as_deref().unwrap_or_default();
        assert!(row.state == ProposalState::Open && stuck.contains("expires at 2020-01-01"), "{row:?}");
    };
    is_late(&late.row);
    // The last signature is kept, publishes nothing, and is told why.
    let full: ProposalDetail = sign(&two.bob, &late, &two.keys[1]).await.ok();
    is_late(&full.row);
    assert_eq!((full.row.signatures.len(), full.row.wants), (2, None));
    is_late(&two.bob.get(&format!("/api/v1/proposals/{}", late.row.id)).await.ok::<ProposalDetail>().row);

    // A draft whose manifest was replaced since.
    let signed = two.uploaded(MODEL).await;
    let draft: ProposalDetail = propose(&two.ann, &signed, &[&two.keys[0]]).await.ok();
    assert_eq!(draft.row.stuck, None);
    two.rig.upload(&two.ann, MODEL, bundle(MODEL, b"others")).await;
    let full: ProposalDetail = sign(&two.bob, &draft, &two.keys[1]).await.ok();
    assert!(full.row.stuck.is_some_and(|why| why.contains("upload the manifest")));
    let listed: Page<ProposalRow> = two.bob.get("/api/v1/proposals").await.ok();
    assert!(listed.items.iter().all(|row| row.stuck.is_some()) && listed.items.len() == 2, "{:?}", listed.items);
    // With the manifest back nothing hinders it any more: the next start publishes it.
    two.uploaded(MODEL).await;
    let Two { mut rig, .. } = two;
    rig.restart().await;
    let done: ProposalDetail = rig.admin().get(&format!("/api/v1/proposals/{}", draft.row.id)).await.ok();
    assert_eq!((done.row.state, done.row.stuck), (ProposalState::Published, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_of_another_team_is_answered_like_none() {
    let two = Two::start().await;
    let signed = two.uploaded(MODEL).await;
    let made: ProposalDetail = propose(&two.ann, &signed, &[&two.keys[0]]).await.ok();
    let foreign = holder(&two.rig, "fay", "approver", json!({"teams": ["other"]})).await;
    let signatures = json!({"signatures": [signature(&two.keys[1], &signed)]});
    let (path, none) = (format!("/api/v1/proposals/{}", made.row.id), "/api/v1/proposals/99".to_owned());
    let ask = async |path: &str| {
        [
            foreign.get(path).await,
            foreign.post(&format!("{path}/signatures"), &signatures).await,
            foreign.post(&format!("{path}/withdraw"), &json!({"reason": "x"})).await,
        ]
    };
    for (there, absent) in ask(&path).await.into_iter().zip(ask(&none).await) {
        let words = String::from_utf8(there.body.to_vec()).unwrap();
        let same = words.replace(&format!("number {}:", made.row.id), "number 99:");
        assert_eq!(same, String::from_utf8(absent.body.to_vec()).unwrap());
        assert_eq!(there.problem(), (404, "unknown-proposal".into()));
    }
    // Nor do pages tell of it.
    let mut later = signed.clone();
    later["expires"] = json!(in_days(40));
    propose(&two.ann, &later, &[]).await.ok::<ProposalDetail>();
    let seen = async |caller: &Caller, query: &str| {
        let page: Page<ProposalRow> = caller.get(&format!("/api/v1/proposals?limit=1{query}")).await.ok();
        (page.items.len(), page.next.is_some())
    };
    assert_eq!((seen(&foreign, "").await, seen(&foreign, "&team=demo").await), ((0, false), (0, false)));
    assert_eq!(seen(&two.bob, "").await, (1, true));
    let shown: ProposalDetail = two.bob.get(&path).await.ok();
    assert_eq!((shown.row.state, shown.row.signatures.len()), (ProposalState::Open, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_check_that_was_overridden_is_on_record() {
    let two = Two::start().await;
    let signed = two.uploaded(MODEL).await;
    let made: ProposalDetail = propose(&two.ann, &signed, &[&two.keys[0]]).await.ok();
    let form = json!({"signatures": [signature(&two.keys[1], &signed)], "override_reason": "known, and harmless"});
    let done: ProposalDetail = two.bob.post(&format!("/api/v1/proposals/{}/signatures", made.row.id), &form).await.ok();
    let noted: Vec<_> = done.row.signatures.iter().map(|s| (s.by.as_str(), s.override_reason.as_deref())).collect();
    assert!(noted.contains(&("ann", None)) && noted.contains(&("bob", Some("known, and harmless"))), "{noted:?}");
    let words = two.rig.event("proposal-signed", "").await;
    assert!(words.contains("the checks failed: known, and harmless"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_takes_a_version_out_of_service_and_stays() {
    let two = Two::start().await;
    for model in [MODEL, NEXT, "demo/m@1.2.0"] {
        two.published(model).await;
    }
    let device = two.rig.enrol("cam-1").await;
    assign(&two.rig, MODEL, "*").await.ok::<Assigned>();
    assign(&two.rig, "demo/m@1.2.0", "*").await.ok::<Assigned>();
    let mut recall = list(&two.rig, &[]).await;
    recall["targets"].as_object_mut().unwrap().remove("models/demo/m/1.2.0/manifest.json");
    recall["x-tern-models"] = json!({"m": {"recalled": {"1.2.0": "wrong labels"}, "on_recall": "stop"}});
    let made: ProposalDetail = propose(&two.ann, &recall, &[&two.keys[0]]).await.ok();
    let change = &made.row.change;
    assert_eq!(change.recalls, [("demo/m@1.2.0".parse().unwrap(), "wrong labels".to_owned())]);
    assert_eq!(change.removes, ["demo/m@1.2.0".parse().unwrap()]);
    // Nothing new is listed, so the threshold is enough.
    let both: Vec<_> = two.keys.iter().collect();
    two.ann.post(&format!("/api/v1/proposals/{}/withdraw", made.row.id), &json!({"reason": "x"})).await.ok::<Value>();
    let done: ProposalDetail = propose(&two.ann, &recall, &both).await.ok();
    assert_eq!(done.row.state, ProposalState::Published);

    let row = two.version("demo/m@1.2.0").await.row;
    assert_eq!((row.signed, row.recalled.as_deref()), (false, Some("wrong labels")));
    assert_eq!(two.rig.event("version-recalled", "").await, "wrong labels");
    // What the device had before is demanded of it, under a newer generation.
    let demanded: DeviceRow = two.rig.admin().get("/api/v1/devices/cam-1").await.ok();
    assert_eq!(demanded.desired, [MODEL.parse().unwrap()]);
    let mut link = agent(&two.rig, &device, 0).await;
    let state = admitted(&two.rig, &device, &link.message().await).await;
    assert_eq!(state.models[0].model_version(), MODEL.parse().unwrap());
    two.rig.event("demands-settled", "").await;
    // It cannot come back: not by assignment, not by a rollout, not by a list that forgets it.
    assert_eq!(assign(&two.rig, "demo/m@1.2.0", "*").await.problem().1, "version-recalled");
    let mut forgetting = list(&two.rig, &[]).await;
    forgetting.as_object_mut().unwrap().remove("x-tern-models");
    assert_eq!(propose(&two.ann, &forgetting, &both).await.problem(), (409, "standing-lowered".into()));
    let put = two.rig.admin().put("/api/v1/teams/demo/metadata", sign_value(forgetting, &both).unwrap()).await;
    assert_eq!(put.problem(), (409, "standing-lowered".into()));
    // Nor after a start.
    let mut two = two;
    two.rig.restart().await;
    assert!(two.version("demo/m@1.2.0").await.row.recalled.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_ends_what_lies_below_and_a_rollout_of_it_is_aborted() {
    let two = Two::start().await;
    for model in [MODEL, NEXT, "demo/m@1.2.0"] {
        two.published(model).await;
    }
    let device = two.rig.enrol("cam-1").await;
    let assigned: Assigned = assign(&two.rig, MODEL, "*").await.ok();
    let _link = agent(&two.rig, &device, assigned.devices[&device.token.device].0).await;
    let policy = json!({"stages": [{"size": "100%"}], "max_unavailable": "100%"});
    let rollout = json!({"model": NEXT, "selector": "*", "policy": policy, "reason": "better", "start": true});
    two.rig.admin().post("/api/v1/rollouts", &rollout).await.ok::<Value>();
    let demanded = async |wanted: Option<&str>| {
        eventually(async || {
            let row: DeviceRow = two.rig.admin().get("/api/v1/devices/cam-1").await.ok();
            let demanded: Vec<_> = row.desired.iter().map(ToString::to_string).collect();
            (demanded == wanted.into_iter().collect::<Vec<_>>()).then_some(())
        })
        .await
    };
    demanded(Some(NEXT)).await;
    let mut raised = list(&two.rig, &[]).await;
    let targets = raised["targets"].as_object_mut().unwrap();
    targets.retain(|path, _| path.contains("1.2.0"));
    raised["x-tern-models"] = json!({"m": {"floor": "1.2.0"}});
    let both: Vec<_> = two.keys.iter().collect();
    let done: ProposalDetail = propose(&two.ann, &raised, &both).await.ok();
    assert_eq!(
        (done.row.state, done.row.change.floors),
        (ProposalState::Published, vec!["demo/m@1.2.0".parse().unwrap()])
    );
    // No version that may run was ever demanded of the device: the model is not demanded any more.
    demanded(None).await;
    let words = eventually(async || {
        let detail: Value = two.rig.admin().get("/api/v1/rollouts/m-1-1-0").await.ok();
        (detail["phase"] == "aborted").then(|| detail["why"].to_string())
    })
    .await;
    two.rig.event("floor-raised", "").await;
    let history: Value = two.rig.admin().get("/api/v1/rollouts/m-1-1-0/verdicts").await.ok();
    assert!(history.to_string().contains("below the floor 1.2.0"), "{words}");
    assert_eq!(two.version(NEXT).await.row.floor, Some("1.2.0".parse().unwrap()));
    let again = two.rig.admin().post("/api/v1/rollouts", &rollout).await;
    assert_eq!(again.problem(), (409, "version-unsigned".into()));
    // A list without it cannot raise it again.
    let mut lower = list(&two.rig, &[]).await;
    lower["x-tern-models"] = json!({"m": {"floor": "1.1.0"}});
    assert_eq!(propose(&two.ann, &lower, &both).await.problem(), (409, "standing-lowered".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_signed_by_the_robot_and_released_by_people() {
    let two = Two::start().await;
    let robot = token(&two.rig, "pipeline", Role::Publisher).await;
    let key = two.rig.operator_key("candidate-demo");
    let uploads = bundle(MODEL, b"weights");
    two.rig.upload(&robot, MODEL, uploads.clone()).await;
    let now: TeamMetadata = robot.get("/api/v1/teams/demo/metadata?role=candidate").await.ok();
    let path = MODEL.parse::<ModelVersion>().unwrap().candidate_path();
    let target = json!({"length": uploads.0.len(), "hashes": {"sha256": Digest::of(&uploads.0)}});
    let signed = json!({
        "_type": "targets", "spec_version": "1.0.31", "version": now.next_version, "expires": now.expires,
        "targets": {path.clone(): target},
    });
    let mut form = order(&signed, &[&two.keys[0]]);
    form["role"] = json!("candidate");
    assert_eq!(robot.post("/api/v1/teams/demo/proposals", &form).await.problem(), (422, "unknown-key".into()));
    let mut form = order(&signed, &[&key]);
    form["role"] = json!("candidate");
    let done: ProposalDetail = robot.post("/api/v1/teams/demo/proposals", &form).await.ok();
    assert_eq!(done.row.state, ProposalState::Published, "one robot, one key, nobody else's word");
    let row = two.version(MODEL).await.row;
    assert!(row.candidate && !row.signed);
    two.rig.event("candidate-published", "").await;

    let device = two.rig.enrol("cam-1").await;
    assign(&two.rig, MODEL, "*").await.ok::<Assigned>();
    let mut link = agent(&two.rig, &device, 0).await;
    let state = admitted(&two.rig, &device, &link.message().await).await;
    assert!(state.models[0].candidate, "the device decides");
    let mut client = updater(&two.rig, &device).await;
    let bytes = client.get_target(&state.models[0].target_path(), clock::now()).await.unwrap();
    assert_eq!(bytes, uploads.0);

    // Released by two people, whoever uploaded it; from then on it is demanded as a release.
    let release = list(&two.rig, &[(MODEL, &uploads)]).await;
    let made: ProposalDetail = propose(&two.ann, &release, &[&two.keys[0]]).await.ok();
    sign(&two.bob, &made, &two.keys[1]).await.ok::<ProposalDetail>();
    let row = two.version(MODEL).await.row;
    assert!(row.candidate && row.signed);
    assign(&two.rig, MODEL, "*").await.ok::<Assigned>();
    let state = admitted(&two.rig, &device, &link.message().await).await;
    assert!(!state.models[0].candidate);
    // A recall counts for candidates too.
    let again = sign_value(signed, &[&key]).unwrap();
    let put = two.rig.admin().put("/api/v1/teams/demo/metadata?role=candidate", again).await;
    assert_eq!(put.problem(), (409, "metadata-moved".into()));
    assert_eq!(robot.get("/api/v1/teams/demo/metadata?role=x").await.problem(), (400, "bad-query".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reviews_reads_the_blobs_that_manifests_name() {
    let two = Two::start().await;
    two.uploaded(MODEL).await;
    let path = |bytes: &[u8]| format!("/api/v1/blobs/sha256/{}", Digest::of(bytes));
    assert_eq!(two.bob.get(&path(MODEL.as_bytes())).await.body.as_ref(), MODEL.as_bytes());
    assert_eq!(two.bob.get(&path(b"nobody's")).await.problem(), (404, "unknown-blob".into()));
    assert_eq!(two.rig.stranger().get(&path(MODEL.as_bytes())).await.problem(), (401, "missing-token".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_a_stop_left_with_all_its_signatures_is_published_at_the_next_start() {
    let mut rig = Rig::start().await;
    let uploads = bundle("demo/m@1.0.0", b"weights");
    let manifest = uploads.0.clone();
    rig.upload(&rig.admin(), "demo/m@1.0.0", uploads).await;
    let list = rig.team_metadata("demo", &[("demo/m@1.0.0", &manifest)]).await;
    let Envelope { signatures, signed } = serde_json::from_slice(&list).unwrap();
    let new = NewProposal {
        role: TeamRole::release("demo".parse().unwrap()),
        version: 1,
        digest: tern_fleet_server::proposals::digest(&signed).unwrap(),
        signed,
        change: Default::default(),
        signatures,
        author: "admin".into(),
        reason: "publish".into(),
    };
    // What the server does before it publishes; then it is stopped.
    rig.server().fleet().store.propose(new, clock::now()).await.unwrap().unwrap();
    assert_eq!(assign(&rig, "demo/m@1.0.0", "*").await.problem().1, "version-unsigned");
    rig.restart().await;
    assert_eq!(assign(&rig, "demo/m@1.0.0", "*").await.problem().1, "no-device-matched");
    assert!(rig.server().fleet().store.open_proposals().await.unwrap().is_empty());
}
