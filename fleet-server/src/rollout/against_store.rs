//! The reconciler against a real store, with devices that are made up: what they say goes in as their twins do.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tern_protocol::{
    desired::DesiredModel,
    digest::Digest,
    ids::{DeviceId, Generation, ModelVersion, Version},
    refusal::RefusalCode,
    twin::{LastError, ModelState, ModelTwin, Status, Twin},
};

use super::{reconciler::attend, tests::policy, *};
use crate::{
    director::SignedState,
    selector::Selector,
    store::{
        AssignRefusal, AssignmentOrder, CreateRefusal, Heard, NewEnrolment, NewRollout, NewVersion, Paging,
        RolloutRecord, SignState, SignedVersion, StatusKept, Store, UsedToken, VerbRefusal,
    },
};

const OLD: &str = "demo/m@1.0.0";
const NEW: &str = "demo/m@1.1.0";
const CANARY: &str = "stages = [{ size = 2 }, { size = \"100%\" }]";

/// A store, its devices, and a clock that only tests move.
struct World {
    store: Store,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn version(text: &str) -> ModelVersion {
    text.parse().unwrap()
}

fn sign() -> SignState {
    Arc::new(|device: &DeviceId, generation, models: Vec<DesiredModel>, now| {
        let names: Vec<_> = models.iter().map(|model| model.model_version().to_string()).collect();
        let bytes = format!("{device} {generation} {}", names.join(" ")).into_bytes();
        Ok(SignedState { bytes, expires: now + SignedDuration::from_hours(1) })
    })
}

impl World {
    /// `count` devices that are online and run 1.0.0, and a signed 1.1.0.
    async fn new(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("server.db")).unwrap();
        let world = Self { store, now: "2026-06-01T00:00:00Z".parse().unwrap(), _folder: folder };
        for model in [OLD, NEW] {
            world.publish(model).await;
        }
        for n in 0..count {
            world.enrol(&format!("d{n}")).await;
        }
        if count > 0 {
            world.assign(OLD, "*").await.unwrap();
        }
        for n in 0..count {
            world.say(&format!("d{n}"), ModelState::Committed, None).await;
        }
        world
    }

    async fn publish(&self, text: &str) {
        let model = version(text);
        let new = NewVersion {
            model: model.clone(),
            manifest: Digest::of(text.as_bytes()),
            bytes: b"{}".to_vec(),
            total: Default::default(),
            blobs: vec![(Digest::of(format!("blob of {text}").as_bytes()), 4)],
            published_by: "admin".into(),
        };
        self.store.put_manifest(new, self.now).await.unwrap();
        let all = self.store.versions(None, Paging { after: String::new(), limit: 100 }).await.unwrap();
        let listed = all.into_iter().map(|row| SignedVersion { model: row.model, manifest: row.manifest }).collect();
        self.store
            .set_signed(crate::repository::TeamRole::release(model.name.team), listed, "admin".into(), self.now)
            .await
            .unwrap();
    }

    async fn enrol(&self, name: &str) {
        let secret_hash = Digest::of(name.as_bytes());
        let order = NewEnrolment {
            secret_hash,
            device: device(name),
            labels: Default::default(),
            ordered_by: "admin".into(),
            expires: self.now + SignedDuration::from_hours(1),
            replaces: false,
        };
        self.store.order_enrolment(order, self.now).await.unwrap().unwrap();
        let token = UsedToken {
            secret_hash,
            device: device(name),
            key_sha256: Digest::of(name.as_bytes()),
            device_class: "pi".parse().unwrap(),
            labels: Default::default(),
            agent_version: "1.0.0".into(),
            certificate_expires: self.now + SignedDuration::from_hours(9000),
        };
        self.store.enrol(token, self.now).await.unwrap().unwrap();
        self.status(name, true).await;
    }

    async fn status(&self, name: &str, online: bool) {
        let status = Status { online, boot: "b".into(), agent_version: "1.0.0".into(), since: self.now };
        let heard = self.heard(name, "status", &status);
        assert_eq!(self.store.keep_status(heard, status, self.now).await.unwrap(), StatusKept::Kept);
    }

    fn heard(&self, name: &str, channel: &str, value: &impl serde::Serialize) -> Heard {
        let payload = serde_json::to_vec(value).unwrap();
        Heard { device: device(name), topic: format!("tern/v1/f/{name}/{channel}"), payload }
    }

    async fn assign(&self, model: &str, selector: &str) -> Result<(), AssignRefusal> {
        let order = AssignmentOrder {
            model: version(model),
            selector: selector.parse().unwrap(),
            probation: Default::default(),
            reason: "test".into(),
            actor: "ann".into(),
        };
        self.store.assign(order, sign(), self.now).await.unwrap().map(drop)
    }

    async fn generation(&self, name: &str) -> Generation {
        self.store.device(device(name)).await.unwrap().unwrap().desired_generation
    }

    /// The version that is demanded of a device.
    async fn demanded(&self, name: &str) -> Option<String> {
        let row = self.store.device(device(name)).await.unwrap().unwrap();
        row.desired.first().map(|model| model.version.to_string())
    }

    async fn all_demanded(&self) -> Vec<Option<String>> {
        let mut all = Vec::new();
        for row in self.devices().await {
            all.push(self.demanded(&row).await);
        }
        all
    }

    async fn devices(&self) -> Vec<String> {
        let rows = self.store.devices(Selector::all(), Paging { after: String::new(), limit: 100 }).await.unwrap();
        rows.into_iter().map(|row| row.device.to_string()).collect()
    }

    /// The device has taken its newest demand over and says where that stands.
    async fn say(&self, name: &str, state: ModelState, code: Option<RefusalCode>) {
        let demanded = self.demanded(name).await.map(|text| text.parse::<Version>().unwrap());
        let generation = self.generation(name).await;
        let answers = matches!(state, ModelState::Committed | ModelState::OnProbation | ModelState::Idle);
        let last_error = code.map(|code| LastError {
            code,
            message: "no".into(),
            version: demanded.clone(),
            generation,
            at: self.now,
            count: 1,
        });
        let model = ModelTwin {
            model: "demo/m".parse().unwrap(),
            version: if answers { demanded.clone() } else { Some("1.0.0".parse().unwrap()) },
            digest: None,
            state,
            desired: demanded,
            generation,
            since: self.now,
            last_error,
        };
        let twin = Twin {
            generation,
            models: vec![model],
            device_class: "pi".parse().unwrap(),
            labels: Default::default(),
            agent_version: "1.0.0".into(),
            last_error: None,
        };
        let heard = self.heard(name, "twin", &twin);
        self.store.keep_twin(heard, twin, self.now).await.unwrap().unwrap();
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn new_rollout(&self, terms: &str) -> NewRollout {
        NewRollout {
            model: version(NEW),
            selector: Selector::all(),
            policy: policy(terms),
            reason: "better digits".into(),
            who: "ann".into(),
            start: true,
            request: None,
        }
    }

    async fn start(&self, terms: &str) -> RolloutId {
        self.store.create_rollout(self.new_rollout(terms), self.now).await.unwrap().unwrap().id
    }

    async fn order(&self, id: &RolloutId, verb: Verb, who: &str) -> Result<RolloutRecord, VerbRefusal> {
        let order = Order { verb, who: who.into(), why: "because".into(), if_phase: None };
        self.store.order_rollout(id.clone(), order, self.now).await.unwrap()
    }

    /// One round of the reconciler.
    async fn round(&self, id: &RolloutId) -> RolloutRecord {
        let hearing = "2026-06-01T00:00:00Z".parse().unwrap();
        attend(&self.store, &sign(), id, hearing, self.now).await.unwrap().unwrap().record
    }

    async fn snapshot(&self, id: &RolloutId) -> (RolloutRecord, FleetSnapshot) {
        let hearing = "2026-06-01T00:00:00Z".parse().unwrap();
        self.store.rollout_snapshot(id.clone(), hearing).await.unwrap().unwrap()
    }

    async fn stands(&self, id: &RolloutId, name: &str) -> &'static str {
        let (record, snapshot) = self.snapshot(id).await;
        let all = standings(&record.policy, &snapshot, self.now);
        all.into_iter().find(|(device, _)| device.as_str() == name).unwrap().1.word
    }

    /// Devices of which 1.1.0 is demanded.
    async fn reached(&self) -> Vec<String> {
        let mut reached = Vec::new();
        for name in self.devices().await {
            if self.demanded(&name).await.as_deref() == Some("1.1.0") {
                reached.push(name);
            }
        }
        reached
    }

    /// Every device that is behind its demand takes it over and commits it, until the rollout is over.
    async fn all_survive(&mut self, id: &RolloutId) -> RolloutRecord {
        for _ in 0..20 {
            let record = self.round(id).await;
            if record.state.phase.is_over() {
                return record;
            }
            for name in self.reached().await {
                self.say(&name, ModelState::Committed, None).await;
            }
            self.pass(1);
        }
        panic!("it does not end: {:?}", self.round(id).await);
    }

    async fn kinds(&self) -> Vec<String> {
        let events = self.store.events_after(0, 1000).await.unwrap();
        events.into_iter().map(|event| event.kind).filter(|kind| kind.starts_with("rollout-")).collect()
    }
}

#[tokio::test]
async fn a_canary_of_two_and_then_the_rest_finishes() {
    let mut world = World::new(6).await;
    let id = world.start(CANARY).await;
    assert_eq!(id.as_str(), "m-1-1-0");
    world.round(&id).await;
    let canary = world.reached().await;
    assert_eq!(canary.len(), 1, "a quarter of six is one at a time");
    let record = world.all_survive(&id).await;
    assert_eq!((record.state.phase, record.closed.is_some()), (Phase::Finished, true));
    assert_eq!(world.reached().await.len(), 6);
    let history = world.store.rollout_history(id.clone(), 0, 100).await.unwrap();
    let verdicts: Vec<_> = history.iter().filter_map(|h| h.verdict.as_ref()).map(|v| v.kind).collect();
    assert_eq!(verdicts, [VerdictKind::Bake, VerdictKind::Promote, VerdictKind::Bake, VerdictKind::Finish]);
    let last = history.last().unwrap().verdict.as_ref().unwrap();
    assert_eq!((last.evidence.tally.survived, last.evidence.members), (6, 6));
    let revisions: Vec<_> = history.iter().map(|h| h.entry.revision).collect();
    assert_eq!(revisions, [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        world.kinds().await,
        [
            "rollout-created",
            "rollout-started",
            "rollout-baking",
            "rollout-promoted",
            "rollout-baking",
            "rollout-finished"
        ]
    );
    assert_eq!(world.store.rollout_phases().await.unwrap(), [("finished".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_failed_canary_aborts_and_everything_goes_back() {
    let mut world = World::new(8).await;
    let id = world.start(&format!("max_unavailable = \"100%\"\n{CANARY}")).await;
    world.round(&id).await;
    let canary = world.reached().await;
    assert_eq!(canary.len(), 2);
    world.say(&canary[0], ModelState::Committed, None).await;
    world.say(&canary[1], ModelState::RolledBack, Some(RefusalCode::ProbationFailed)).await;
    world.pass(1);
    let before = world.generation(&canary[0]).await;
    let record = world.round(&id).await;
    assert_eq!((record.state.phase, record.closed.is_some()), (Phase::Aborted, true));
    assert!(world.all_demanded().await.iter().all(|v| v.as_deref() == Some("1.0.0")), "everything is demanded back");
    assert!(world.generation(&canary[0]).await > before, "back is a newer generation");
    let (_, snapshot) = world.snapshot(&id).await;
    let assignment = snapshot.devices[&device(&canary[1])].assignment.clone().unwrap();
    assert_eq!(
        assignment.settled.map(|s| (s.outcome, s.code)),
        Some((Outcome::Failed, Some(RefusalCode::ProbationFailed)))
    );
    assert_eq!(assignment.taken_back, Some(TakeBackCause::Aborted));
    let aborted = world.store.rollout_history(id.clone(), 0, 100).await.unwrap().pop().unwrap();
    assert_eq!(aborted.verdict.unwrap().evidence.troubles[0].device, device(&canary[1]));
    // What is over never touches a device again, even where somebody demands the version by hand.
    world.assign(NEW, "*").await.unwrap();
    world.pass(100_000);
    world.round(&id).await;
    assert_eq!(world.reached().await.len(), 8);
}

#[tokio::test]
async fn a_model_that_was_not_there_is_removed_when_it_goes_back() {
    let world = World::new(0).await;
    world.enrol("d0").await;
    let id = world.start("stages = [{ size = \"100%\" }]").await;
    world.round(&id).await;
    assert_eq!(world.demanded("d0").await.as_deref(), Some("1.1.0"));
    world.order(&id, Verb::Abort, "ann").await.unwrap();
    world.round(&id).await;
    assert_eq!(world.demanded("d0").await, None);
}

#[tokio::test]
async fn a_device_that_fetches_and_then_says_nothing_counts_as_failed() {
    let mut world = World::new(4).await;
    let id = world.start(&format!("max_unavailable = \"100%\"\nsilence_seconds = 600\n{CANARY}")).await;
    world.round(&id).await;
    let canary = world.reached().await;
    world.say(&canary[0], ModelState::Committed, None).await;
    world.pass(300);
    let blob = Digest::of(format!("blob of {NEW}").as_bytes());
    for _ in 0..3 {
        world.store.fetches_blob(device(&canary[1]), blob, world.now).await.unwrap();
        world.pass(1);
    }
    world.status(&canary[1], false).await;
    world.pass(590);
    assert_eq!(world.round(&id).await.state.phase, Phase::Running, "the deadline runs from the first fetch");
    assert_eq!(world.stands(&id, &canary[1]).await, "pending");
    world.pass(10);
    assert_eq!(world.round(&id).await.state.phase, Phase::Aborted);
    assert_eq!(world.stands(&id, &canary[1]).await, "silent");
}

#[tokio::test]
async fn a_device_that_tries_in_vain_again_and_again_makes_no_progress() {
    let mut world = World::new(4).await;
    let id = world.start(&format!("max_unavailable = \"100%\"\nsilence_seconds = 600\n{CANARY}")).await;
    world.round(&id).await;
    let canary = world.reached().await;
    for _ in 0..30 {
        for name in &canary {
            world.say(name, ModelState::Fetching, None).await;
            world.say(name, ModelState::Rejected, Some(RefusalCode::NoSpace)).await;
        }
        world.pass(30);
        world.round(&id).await;
    }
    assert_eq!(world.stands(&id, &canary[0]).await, "failed");
    assert_eq!(world.round(&id).await.state.phase, Phase::Aborted);
}

#[tokio::test]
async fn a_paused_rollout_assigns_nothing_and_goes_on_when_resumed() {
    let mut world = World::new(4).await;
    let id = world.start(CANARY).await;
    world.order(&id, Verb::Pause, "ann").await.unwrap();
    world.round(&id).await;
    assert!(world.reached().await.is_empty());
    world.order(&id, Verb::Resume, "bob").await.unwrap();
    assert_eq!(world.all_survive(&id).await.state.phase, Phase::Finished);
}

#[tokio::test]
async fn undoing_takes_every_device_back_but_those_that_others_have_since() {
    let mut world = World::new(4).await;
    let id = world.start(CANARY).await;
    world.all_survive(&id).await;
    world.pass(10);
    world.assign(NEW, "device=d0").await.unwrap();
    world.order(&id, Verb::Undo, "ann").await.unwrap();
    let record = world.round(&id).await;
    assert_eq!((record.state.phase, record.closed.is_some()), (Phase::Undone, true));
    assert_eq!(world.reached().await, ["d0"], "somebody else demanded it there");
}

#[tokio::test]
async fn a_failed_device_is_tried_again_when_a_human_says_so() {
    let mut world = World::new(2).await;
    let terms = "max_unavailable = \"100%\"\nstages = [{ size = \"100%\" }]\nfailures = { most = 1 }";
    let id = world.start(terms).await;
    world.round(&id).await;
    world.say("d0", ModelState::Committed, None).await;
    world.say("d1", ModelState::RolledBack, Some(RefusalCode::ProbationFailed)).await;
    world.pass(1);
    world.order(&id, Verb::Pause, "ann").await.unwrap();
    world.round(&id).await;
    assert_eq!(world.demanded("d1").await.as_deref(), Some("1.0.0"), "what failed is withdrawn");
    world.say("d1", ModelState::Committed, None).await;
    world.round(&id).await;
    assert_eq!(world.demanded("d1").await.as_deref(), Some("1.0.0"), "nobody has said so");
    world.order(&id, Verb::Retry, "ann").await.unwrap();
    world.order(&id, Verb::Resume, "ann").await.unwrap();
    world.round(&id).await;
    assert_eq!(world.demanded("d1").await.as_deref(), Some("1.1.0"));
    assert_eq!(world.all_survive(&id).await.state.phase, Phase::Finished);
}

#[tokio::test]
async fn a_model_has_one_rollout_and_no_assignment_meanwhile() {
    let mut world = World::new(2).await;
    let waiting = NewRollout { start: false, ..world.new_rollout(CANARY) };
    let id = world.store.create_rollout(waiting, world.now).await.unwrap().unwrap().id;
    world.assign(OLD, "*").await.expect("a rollout that was not started is in nobody's way");
    let other = world.store.create_rollout(world.new_rollout(CANARY), world.now).await.unwrap();
    assert_eq!(other.unwrap_err(), CreateRefusal::Active(id.clone()));
    world.order(&id, Verb::Start, "ann").await.unwrap();
    assert_eq!(world.assign(OLD, "*").await, Err(AssignRefusal::UnderRollout { rollout: id.clone() }));
    world.all_survive(&id).await;
    let next = NewRollout { model: version(OLD), ..world.new_rollout(CANARY) };
    let next = world.store.create_rollout(next, world.now).await.unwrap().unwrap().id;
    assert_eq!(world.order(&id, Verb::Undo, "ann").await.unwrap_err(), VerbRefusal::Active(next.clone()));
    world.order(&next, Verb::Abort, "ann").await.unwrap();
    world.round(&next).await;
    let again = world.start(CANARY).await;
    assert_eq!(again.as_str(), "m-1-1-0-2", "a name is never used again");
}

#[tokio::test]
async fn nobody_approves_their_own_rollout_and_it_waits_for_others() {
    let world = World::new(2).await;
    let terms = format!("approvals = 1\n{CANARY}");
    let refused = world.store.create_rollout(world.new_rollout(&terms), world.now).await.unwrap();
    let missing = VerbError::NeedsApproval { have: 0, need: 1 };
    assert_eq!(refused.unwrap_err(), CreateRefusal::Verb(missing.clone()));
    assert!(world.store.open_rollouts().await.unwrap().is_empty(), "what cannot be started is not made");
    let waiting = NewRollout { start: false, ..world.new_rollout(&terms) };
    let id = world.store.create_rollout(waiting, world.now).await.unwrap().unwrap().id;
    assert_eq!(world.order(&id, Verb::Start, "ann").await.unwrap_err(), VerbRefusal::Verb(missing));
    let own = world.order(&id, Verb::Approve, "ann").await.unwrap_err();
    assert_eq!(own, VerbRefusal::Verb(VerbError::OwnRollout("ann".into())));
    world.order(&id, Verb::Approve, "bob").await.unwrap();
    world.order(&id, Verb::Start, "ann").await.unwrap();
}

#[tokio::test]
async fn killed_after_any_action_it_ends_the_same_and_assigns_each_device_once() {
    let mut ends = Vec::new();
    for keep in 1..=6 {
        let mut world = World::new(6).await;
        let id = world.start(&format!("max_unavailable = \"100%\"\n{CANARY}")).await;
        let mut assigned = std::collections::BTreeMap::<DeviceId, u32>::new();
        for turn in 0.. {
            assert!(turn < 200, "it does not end");
            let (record, snapshot) = world.snapshot(&id).await;
            if record.state.phase.is_over() {
                break;
            }
            // Only so many actions are carried out; the rest dies with the process, and the next one plans anew.
            let plan = plan(&record.policy, &snapshot, world.now);
            let actions: Vec<_> = plan.actions.iter().take(keep).cloned().collect();
            for action in &actions {
                if let Action::Assign { device, .. } = action {
                    *assigned.entry(device.clone()).or_default() += 1;
                }
            }
            let of = (id.clone(), plan.revision);
            world.store.carry_out(of, actions, plan.verdict.clone(), sign(), world.now).await.unwrap();
            for name in world.reached().await {
                if turn % 3 == 2 {
                    world.say(&name, ModelState::Committed, None).await;
                }
            }
            world.pass(1);
        }
        assert!(assigned.values().all(|times| *times == 1) && assigned.len() == 6, "{assigned:?}");
        ends.push((world.round(&id).await.state.phase, world.all_demanded().await));
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[tokio::test]
async fn a_plan_that_is_carried_out_twice_changes_nothing_the_second_time() {
    let world = World::new(4).await;
    let id = world.start(&format!("max_unavailable = \"100%\"\n{CANARY}")).await;
    let (record, snapshot) = world.snapshot(&id).await;
    let plan = plan(&record.policy, &snapshot, world.now);
    let act = async || {
        let of = (id.clone(), plan.revision);
        world.store.carry_out(of, plan.actions.clone(), plan.verdict.clone(), sign(), world.now).await.unwrap()
    };
    let first = act().await;
    assert!(first.iter().all(|c| matches!(c, crate::store::Carried::Demanded(..))), "{first:?}");
    let reached = world.all_demanded().await;
    let second = act().await;
    assert!(second.iter().all(|c| *c == crate::store::Carried::Void), "{second:?}");
    // A verb in between voids the rest of a plan too.
    world.order(&id, Verb::Pause, "ann").await.unwrap();
    assert!(act().await.iter().all(|c| *c == crate::store::Carried::Void));
    assert_eq!(world.all_demanded().await, reached);
}

#[tokio::test]
async fn an_order_that_cannot_be_signed_hinders_no_other_device() {
    let world = World::new(4).await;
    let id = world.start(&format!("max_unavailable = \"100%\"\n{CANARY}")).await;
    let (record, snapshot) = world.snapshot(&id).await;
    let plan = plan(&record.policy, &snapshot, world.now);
    let Some(Action::Assign { device: first, .. }) = plan.actions.first().cloned() else { panic!("{plan:?}") };
    let good = sign();
    let lame = first.clone();
    let sign: SignState = Arc::new(move |device, generation, models, now| {
        anyhow::ensure!(*device != lame, "too large");
        good(device, generation, models, now)
    });
    let hearing = world.now;
    attend(&world.store, &sign, &id, hearing, world.now).await.unwrap().unwrap();
    assert_eq!(world.demanded(first.as_str()).await.as_deref(), Some("1.0.0"));
    assert_eq!(world.reached().await.len(), 1);
}

#[tokio::test]
async fn what_failed_is_withdrawn_although_the_rollout_ends_with_it() {
    let mut world = World::new(3).await;
    let stages = "stages = [{ size = \"100%\", min_survivors = 2 }]";
    let id = world.start(&format!("max_unavailable = \"100%\"\n{stages}\nfailures = {{ most = 1 }}")).await;
    world.round(&id).await;
    for name in ["d0", "d1"] {
        world.say(name, ModelState::Committed, None).await;
    }
    world.say("d2", ModelState::RolledBack, Some(RefusalCode::ProbationFailed)).await;
    world.pass(1);
    assert_eq!(world.round(&id).await.state.phase, Phase::Finished);
    assert_eq!(world.reached().await, ["d0", "d1"], "the demand follows what the device did by itself");
}

#[tokio::test]
async fn a_device_that_is_gone_for_good_is_not_waited_for_once_a_human_says_so() {
    let mut world = World::new(3).await;
    world.status("d2", false).await;
    let terms = "max_unavailable = \"100%\"\nstages = [{ size = \"100%\" }]";
    let id = world.start(terms).await;
    world.round(&id).await;
    for name in ["d0", "d1"] {
        world.say(name, ModelState::Committed, None).await;
    }
    world.pass(100_000);
    assert_eq!(world.round(&id).await.state.phase, Phase::Running, "it may come back");
    world.order(&id, Verb::Promote, "ann").await.unwrap();
    let record = world.round(&id).await;
    assert_eq!((record.state.phase, record.closed.is_some()), (Phase::Finished, true));
    assert_eq!(world.reached().await, ["d0", "d1"]);
    let last = world.store.newest_rollout_history(id, 1).await.unwrap().remove(0);
    assert_eq!(last.entry.why, "by hand: 2 survived, 1 away");
}

#[tokio::test]
async fn a_device_that_a_later_rollout_gave_back_is_undone_with_the_others() {
    let mut world = World::new(4).await;
    let id = world.start(CANARY).await;
    world.all_survive(&id).await;
    world.pass(10);
    world.assign(NEW, "device=d0").await.unwrap();
    world.publish("demo/m@1.2.0").await;
    let terms = "max_unavailable = \"100%\"\nstages = [{ size = \"100%\" }]";
    let later = NewRollout { model: version("demo/m@1.2.0"), ..world.new_rollout(terms) };
    let later = world.store.create_rollout(later, world.now).await.unwrap().unwrap().id;
    world.round(&later).await;
    assert_eq!(world.demanded("d1").await.as_deref(), Some("1.2.0"));
    world.order(&later, Verb::Abort, "ann").await.unwrap();
    world.round(&later).await;
    assert_eq!(world.reached().await.len(), 4, "each has what it had before");
    world.order(&id, Verb::Undo, "ann").await.unwrap();
    world.round(&id).await;
    assert_eq!(world.reached().await, ["d0"], "there somebody had demanded it by hand");
}
