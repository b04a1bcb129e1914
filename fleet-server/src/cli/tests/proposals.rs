//! Publishing by two people, recalls, floors and candidates, as the command line sees them.

use std::collections::BTreeSet;

use tern_protocol::{
    digest::Digest,
    ids::{ModelVersion, Version},
    keys::KeyId,
    manifest::Manifest,
};

use super::{
    fake::{Answer, State},
    *,
};
use crate::{
    forms::proposals::{
        ListChange, ProposalDetail, ProposalOrder, ProposalRow, ProposalSignature, SignatureOrder, Withdrawal,
    },
    proposals::{ProposalState, Signature, digest},
    repository::{RoleKind, TeamRole},
};

impl State {
    pub(super) fn propose(&mut self, body: &[u8]) -> Answer {
        if self.moved > 0 {
            self.moved -= 1;
            return Err(Problem::new(409, "metadata-moved", "Metadata moved", "read it again"));
        }
        let order: ProposalOrder = serde_json::from_slice(body).unwrap();
        let signed = order.envelope.signed;
        let role = TeamRole { team: "demo".parse().unwrap(), kind: order.role };
        let present = if order.role == RoleKind::Candidate { &self.candidates } else { &self.list };
        let listed = |list: &Option<Value>| {
            let targets = list.as_ref().and_then(|list| list["targets"].as_object().cloned()).unwrap_or_default();
            targets.keys().map(|path| role.version_at(path).unwrap()).collect::<BTreeSet<_>>()
        };
        let (before, after) = (listed(present), listed(&Some(signed.clone())));
        let adds = after.difference(&before).cloned().collect();
        let said = |list: &Value| crate::cli::versions::standings(list.as_object().unwrap()).unwrap();
        let known = present.as_ref().map(said).unwrap_or_default();
        let (mut recalls, mut floors) = (Vec::new(), Vec::new());
        for (model, standing) in said(&signed) {
            let before = known.get(&model).cloned().unwrap_or_default();
            let of = |version: &Version| format!("demo/{model}@{version}").parse::<ModelVersion>().unwrap();
            let new = standing.recalled.iter().filter(|(version, _)| !before.recalled.contains_key(*version));
            recalls.extend(new.map(|(version, why)| (of(version), why.clone())));
            floors.extend(standing.floor.iter().filter(|floor| before.floor.as_ref() != Some(*floor)).map(of));
        }
        let row = ProposalRow {
            id: self.proposals.len() as i64 + 1,
            team: role.team.clone(),
            role: order.role,
            version: signed["version"].as_u64().unwrap(),
            digest: digest(&signed).unwrap(),
            change: ListChange { adds, recalls, floors, ..ListChange::default() },
            author: "ann".into(),
            reason: order.reason,
            created: crate::clock::now(),
            state: ProposalState::Open,
            stuck: None,
            signatures: vec![],
            threshold: self.needed.max(1) as u64,
            wants: Some("more".into()),
            ended: None,
            ended_why: None,
        };
        self.proposals.push(ProposalDetail { row, signed: Some(signed) });
        let last = self.proposals.len() - 1;
        Ok(self.signed(last, order.envelope.signatures, None))
    }

    fn signed(&mut self, at: usize, signatures: Vec<Signature>, override_reason: Option<String>) -> Value {
        self.lists_signed += 1;
        let proposal = &mut self.proposals[at];
        proposal.row.signatures.extend(signatures.into_iter().map(|Signature { keyid, sig }| ProposalSignature {
            keyid,
            sig,
            by: "ann".into(),
            at: crate::clock::now(),
            override_reason: override_reason.clone(),
        }));
        if proposal.row.signatures.len() as u64 >= proposal.row.threshold {
            (proposal.row.state, proposal.row.wants) = (ProposalState::Published, None);
            proposal.row.ended = Some(crate::clock::now());
            if proposal.row.role == RoleKind::Candidate {
                self.candidates = proposal.signed.clone();
            } else {
                self.list = proposal.signed.clone();
                self.signatures = json!(proposal.row.signatures);
            }
        }
        let published = proposal.clone();
        let row = &published.row;
        let others = self.proposals.iter_mut().map(|other| &mut other.row);
        for other in others.filter(|other| (other.state, other.role) == (ProposalState::Open, row.role)) {
            if row.state == ProposalState::Published {
                (other.state, other.ended) = (ProposalState::Void, row.ended);
            }
        }
        json!(published)
    }

    pub(super) fn proposal(&self, id: &str) -> Result<ProposalDetail, Problem> {
        let found = self.proposals.iter().find(|proposal| proposal.row.id.to_string() == id).cloned();
        found.ok_or_else(|| Problem::new(404, "unknown-proposal", "There is no such proposal", "see the list"))
    }

    pub(super) fn sign_proposal(&mut self, id: &str, body: &[u8]) -> Answer {
        let at = self.proposal(id)?.row.id as usize - 1;
        let order: SignatureOrder = serde_json::from_slice(body).unwrap();
        Ok(self.signed(at, order.signatures, order.override_reason))
    }

    pub(super) fn withdraw(&mut self, id: &str, body: Vec<u8>) -> Answer {
        let at = self.proposal(id)?.row.id as usize - 1;
        let form: Withdrawal = serde_json::from_slice(&body).unwrap();
        let row = &mut self.proposals[at].row;
        (row.state, row.ended_why) = (ProposalState::Withdrawn, Some(form.reason));
        Ok(json!(self.proposals[at]))
    }

    pub(super) fn version(&self, name: &str, version: &str) -> Answer {
        let stored = self.manifests.get(&format!("/api/v1/manifests/{name}/{version}"));
        let bytes = stored.ok_or_else(|| Problem::new(404, "unknown-version", "There is no such version", "x"))?;
        let model: ModelVersion = format!("{name}@{version}").parse().unwrap();
        let lists = |list: &Option<Value>, path: String| list.as_ref().is_some_and(|l| !l["targets"][path].is_null());
        let mut row = json!({
            "model": model, "manifest": Digest::of(bytes), "bytes": bytes.len(), "published": crate::clock::now(),
            "published_by": "ann", "signed": lists(&self.list, model.target_path()), "devices": 0,
            "candidate": lists(&self.candidates, model.candidate_path()),
            "manifest_json": serde_json::from_slice::<Value>(bytes).unwrap(),
        });
        for (name, value) in self.standing.get(&model.to_string()).and_then(Value::as_object).into_iter().flatten() {
            row[name] = value.clone();
        }
        Ok(row)
    }
}

impl Desk {
    /// A second person's key, and the words that use it.
    fn second_key(&self) -> String {
        let place = self.path("second.key");
        crate::keyfile::create(&place, None).unwrap();
        place.to_str().unwrap().to_owned()
    }

    fn approve(&self, more: &[&str]) -> Outcome {
        let mut args = vec!["--output", "json", "model", "approve"];
        args.extend(more);
        self.tern(&args)
    }
}

const FIRST: &str = "demo/meter-digits@1.0.0";
const SECOND: &str = "demo/meter-digits@1.0.1";

#[test]
fn a_second_person_checks_and_signs() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    let folder = bundle("1.0.0");
    let draft = desk.tern(&["model", "publish", folder.to_str().unwrap()]);
    assert_eq!(draft.code, 0, "{}", draft.err);
    let says = format!("draft: 1 of 2 signatures; another holder of a release key runs `tern model approve {FIRST}`");
    assert!(draft.out.contains(&says), "{}", draft.out);
    assert!(draft.out.lines().last().unwrap().starts_with("proposed "), "{}", draft.out);
    // Run again it waits, and proposes nothing twice.
    let again = desk.publish("1.0.0", &[]).json();
    assert_eq!((again["proposal"].as_u64(), desk.state(|s| s.proposals.len())), (Some(1), 1));
    let listed = desk.tern(&["model", "proposals"]).out;
    assert!(listed.contains("+ demo/meter-digits@1.0.0") && listed.contains("open: more"), "{listed}");

    desk.state(|s| s.proposals[0].row.stuck = Some("it expired".into()));
    assert!(desk.tern(&["model", "proposals"]).out.contains("stuck: it expired"));
    desk.state(|s| s.proposals[0].row.stuck = None);

    let second = desk.second_key();
    let done = desk.approve(&[FIRST, "--key", &second, "--yes"]).json();
    assert_eq!((&done["state"], done["signatures"].as_u64()), (&json!("published"), Some(2)));
    let passed = done["checked"][0]["passed"].to_string();
    assert!(passed.contains("the model loads") && passed.contains("golden vectors"), "{passed}");
    assert_eq!(done["checked"][0]["difference"][0], "it is the first version");
    assert!(desk.approve(&[FIRST, "--key", &second, "--yes"]).refused().contains("is published already"));

    // The next one, with what is different, for people.
    desk.publish("1.0.1", &[]).json();
    let told = desk.tern(&["model", "approve", SECOND, "--key", &second, "--yes"]);
    assert_eq!(told.code, 0, "{}", told.err);
    for words in ["proposal 2 of demo's list", "against demo/meter-digits@1.0.0", "ok: the model loads", "compared: "] {
        assert!(told.out.contains(words), "{words}: {}", told.out);
    }
    let list = desk.state(|s| s.list.clone().unwrap());
    assert_eq!((list["version"].as_u64(), list["targets"].as_object().unwrap().len()), (Some(2), 2));
}

#[test]
fn nothing_is_signed_without_a_yes() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    desk.publish("1.0.0", &[]).json();
    let second = desk.second_key();
    let signed = desk.state(|s| s.lists_signed);
    let args = ["model", "approve", FIRST, "--key", second.as_str(), "--output", "json"];
    for answer in ["", "\n", "no\n", "yesterday, and much more than that\n"] {
        let outcome = tern(desk.environment(), answer, &args);
        assert!(outcome.refused().contains("nothing was signed"), "{answer:?}: {}", outcome.err);
    }
    assert_eq!(desk.state(|s| s.lists_signed), signed);
    assert_eq!(tern(desk.environment(), "yes\n", &args).json()["state"], "published");
}

#[test]
fn failed_checks_refuse_and_an_override_is_recorded() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    // 1.0.2 answers other than its golden vectors say.
    desk.publish("1.0.2", &[]).json();
    let second = desk.second_key();
    let words = ["demo/meter-digits@1.0.2", "--key", second.as_str(), "--yes"];
    let refused = desk.approve(&words);
    assert!(refused.refused().contains("1 checks failed, so nothing was signed"), "{}", refused.err);
    assert_eq!(desk.state(|s| s.proposals[0].row.signatures.len()), 1);
    let with: Vec<_> = words.iter().copied().chain(["--override", "known to be off"]).collect();
    let done = desk.approve(&with).json();
    assert_eq!((&done["state"], &done["override_reason"]), (&json!("published"), &json!("known to be off")));
    let noted = desk.state(|s| s.proposals[0].row.signatures[1].override_reason.clone());
    assert_eq!(noted.as_deref(), Some("known to be off"));
    // Where all is well there is nothing to override.
    desk.publish("1.0.1", &[]).json();
    let done = desk.approve(&[SECOND, "--key", &second, "--yes", "--override", "never mind"]);
    assert!(done.err.contains("no check failed") && done.json()["override_reason"].is_null());
}

#[test]
fn a_server_that_shows_other_things_than_it_asks_for_gets_no_signature() {
    let second_signs_nothing = |tamper: &dyn Fn(&mut State), words: &str| {
        let desk = Desk::new();
        desk.state(|s| s.needed = 2);
        desk.publish("1.0.0", &[]).json();
        let second = desk.second_key();
        desk.approve(&[FIRST, "--key", &second, "--yes"]).json();
        desk.publish("1.0.1", &[]).json();
        desk.state(|s| tamper(s));
        let signed = desk.state(|s| s.lists_signed);
        let outcome = desk.approve(&["--proposal", "2", "--key", &second, "--yes"]);
        assert!(outcome.refused().contains(words), "{words}: {}", outcome.err);
        assert_eq!(desk.state(|s| s.lists_signed), signed);
    };
    let proposed = |s: &mut State| s.proposals[1].signed.clone().unwrap();
    let path = SECOND.parse::<ModelVersion>().unwrap().target_path();
    // Another manifest than is shown, also under its own digest.
    second_signs_nothing(
        &|s| {
            let mut list = proposed(s);
            list["targets"][&path]["hashes"]["sha256"] = json!(Digest::of(b"other"));
            s.proposals[1].signed = Some(list);
        },
        "does not match its signed digest",
    );
    second_signs_nothing(
        &|s| {
            let mut list = proposed(s);
            list["targets"][&path]["length"] = json!(7);
            s.proposals[1].signed = Some(list);
        },
        "another length",
    );
    // A version besides the one that is spoken of: it is found, and cannot be shown.
    second_signs_nothing(
        &|s| {
            let mut list = proposed(s);
            list["targets"]["models/demo/meter-digits/6.6.6/manifest.json"] = list["targets"][&path].clone();
            s.proposals[1].signed = Some(list);
        },
        "There is no such version",
    );
    // Other bytes for a blob.
    second_signs_nothing(
        &|s| {
            let manifest = s.manifests.values().find(|m| Manifest::from_slice(m).unwrap().model.to_string() == SECOND);
            let manifest = Manifest::from_slice(manifest.unwrap()).unwrap();
            s.blobs.insert(manifest.model_file().sha256.to_string(), b"other".to_vec());
        },
        "sent other bytes",
    );
    // A list that is not the next one, and one that nobody vouches for.
    second_signs_nothing(&|s| s.list.as_mut().unwrap()["version"] = json!(5), "void");
    second_signs_nothing(
        &|s| {
            let evil = json!({"length": 1, "hashes": {"sha256": "00".repeat(32)}});
            s.list.as_mut().unwrap()["targets"]["models/demo/meter-digits/6.6.6/manifest.json"] = evil;
        },
        "neither this machine nor a trusted key",
    );
    second_signs_nothing(&|s| s.proposals[1].row.state = ProposalState::Void, "is void");
    second_signs_nothing(&|s| s.proposals[1].row.stuck = Some("its manifest is gone".into()), "its manifest is gone");
}

#[test]
fn a_publisher_without_a_key_proposes_unsigned_and_may_withdraw() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    fs::remove_file(desk.path("release.key")).unwrap();
    let made = desk.publish("1.0.0", &["--unsigned", "--reason", "please look"]).json();
    assert_eq!(made["proposal"], 1);
    let row = desk.state(|s| s.proposals[0].row.clone());
    assert_eq!((row.signatures.len(), row.reason.as_str()), (0, "please look"));
    let outcome = desk.tern(&["model", "withdraw", "--proposal", "1", "--reason", "wrong data"]);
    assert_eq!(outcome.out, "proposal 1 is withdrawn\n", "{}", outcome.err);
    let outcome = desk.tern(&["model", "withdraw", "--proposal", "9", "--reason", "x"]);
    assert!(outcome.refused().contains("no such proposal"));
    assert!(desk.tern(&["model", "proposals", "demo"]).out.contains("withdrawn: wrong data"));
    assert!(desk.state(|s| s.requests.iter().any(|r| r.contains("proposals?team=demo"))));
    let second = desk.second_key();
    let outcome = desk.approve(&[FIRST, "--key", &second, "--yes"]);
    assert!(outcome.refused().contains("proposed again"), "{}", outcome.err);
}

#[test]
fn a_recall_and_a_floor_are_signed_and_remembered() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.publish("1.0.1", &[]).json();
    let recall = ["model", "recall", SECOND, "--reason", "wrong labels", "--on-recall", "stop"];
    let outcome = desk.tern(&recall);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(
        outcome.out.ends_with(&format!("{SECOND} is recalled: no device may run it any more\n")),
        "{}",
        outcome.out
    );
    let list = desk.state(|s| s.list.clone().unwrap());
    let standing = json!({"meter-digits": {"recalled": {"1.0.1": "wrong labels"}, "on_recall": "stop"}});
    assert_eq!((list["targets"].as_object().unwrap().len(), &list["x-tern-models"]), (1, &standing));
    // It cannot be published again.
    assert!(desk.publish("1.0.1", &[]).refused().contains("give what you fixed a new number"));
    // A list that has lost it is signed by nobody on this machine.
    desk.state(|s| s.list.as_mut().unwrap().as_object_mut().unwrap().remove("x-tern-models"));
    let refused = desk.publish("1.1.0", &["--accept-existing"]);
    assert!(refused.refused().contains("the recall of meter-digits@1.0.1 is gone"), "{}", refused.err);
    desk.state(|s| s.list = Some(list));

    let floor = |form: &[&str]| {
        let rest = ["--unlisted", "--reason", "old", "--output", "json"];
        desk.tern(&[&["model", "floor"], form, &rest].concat())
    };
    assert!(floor(&["demo/meter-digits"]).refused().contains("write team/model@version"));
    assert!(floor(&[SECOND, "1.0.1"]).refused().contains("is no version of a model"));
    assert_eq!(floor(&["demo/meter-digits", "1.0.1"]).json()["proposal"]["state"], "published");
    assert_eq!(floor(&[SECOND]).json()["proposal"], Value::Null, "the other form says the same, which is so already");
    let list = desk.state(|s| s.list.clone().unwrap());
    assert_eq!(list["x-tern-models"]["meter-digits"]["floor"], "1.0.1");
    assert!(list["targets"].as_object().unwrap().is_empty());
    let lower = desk.tern(&["model", "floor", "demo/meter-digits", "1.0.0", "--reason", "x"]);
    assert!(lower.refused().contains("it only rises"), "{}", lower.err);

    let standing = json!({"recalled": "wrong labels"});
    desk.state(|s| s.standing.insert(SECOND.into(), standing));
    assert!(desk.tern(&["model", "show", SECOND]).out.contains("recalled, it may run no more: wrong labels"));
}

#[test]
fn a_recall_that_needs_two_is_shown_to_the_second() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.state(|s| (s.needed, s.shows_signatures) = (2, true));
    let outcome = desk.tern(&["model", "recall", FIRST, "--reason", "wrong labels"]);
    assert!(outcome.out.contains("runs `tern model approve --proposal 2`"), "{} {}", outcome.out, outcome.err);
    let second = desk.second_key();
    let own = desk.release_key_hex();
    let told = desk.tern(&["model", "approve", "--proposal", "2", "--key", &second, "--trusted-key", &own, "--yes"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.contains("demo/meter-digits: recalls 1.0.0: wrong labels"), "{}", told.out);
    assert!(desk.state(|s| s.list.clone().unwrap())["targets"].as_object().unwrap().is_empty());
}

#[test]
fn what_is_proposed_already_is_not_proposed_again() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.publish("1.0.1", &[]).json();
    desk.state(|s| s.needed = 2);
    let second = desk.second_key();
    let recall = ["model", "recall", SECOND, "--reason", "wrong labels"];
    let floor = ["model", "floor", SECOND, "--reason", "old"];
    for order in [&recall[..], &floor[..]] {
        assert_eq!(desk.tern(order).code, 0);
    }
    assert_eq!(desk.state(|s| (s.proposals.len(), s.lists_signed)), (4, 4));
    for (order, id) in [(&recall[..], 3), (&floor[..], 4)] {
        for more in [&[][..], &["--key", &second][..]] {
            let again = desk.tern(&[order, more].concat());
            assert_eq!(again.code, 0, "{}", again.err);
            assert!(again.out.contains(&format!("proposal {id} proposes this already")), "{}", again.out);
            assert!(again.out.contains(&format!("`tern model approve --proposal {id}`")), "{}", again.out);
        }
    }
    assert_eq!(desk.state(|s| (s.proposals.len(), s.lists_signed)), (4, 4), "nothing was signed again");
    // Another version is another thing.
    assert_eq!(desk.tern(&["model", "recall", FIRST, "--reason", "too"]).code, 0);
    assert_eq!(desk.state(|s| s.proposals.len()), 5);
}

#[test]
fn who_publishes_is_told_what_that_made_void() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.publish("1.0.1", &[]).json();
    desk.state(|s| s.needed = 2);
    for model in [FIRST, SECOND] {
        assert_eq!(desk.tern(&["model", "recall", model, "--reason", "wrong labels"]).code, 0);
    }
    let (own, second) = (desk.release_key_hex(), desk.second_key());
    let approve = ["model", "approve", "--proposal", "3", "--key", &second, "--trusted-key", &own, "--yes"];
    desk.state(|s| s.shows_signatures = true);
    let done = desk.tern(&approve);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("2 of 2 signatures, published"), "{}", done.out);
    let words = format!("warning: that made proposal 4 void (recalls {SECOND}): have it proposed and signed again");
    assert_eq!(done.err.lines().filter(|line| *line == words).count(), 1, "{}", done.err);
    assert!(!done.err.contains("proposal 1") && !done.err.contains("proposal 3"), "{}", done.err);
}

#[test]
fn a_slip_in_a_number_is_shown_to_who_approves_it() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.state(|s| (s.needed, s.shows_signatures) = (2, true));
    let slips = [
        (vec!["recall", "demo/meter-digits@7.0.0"], "demo/meter-digits@7.0.0 was never published here"),
        (vec!["floor", "demo/meter-digits@7.0.0"], "7.0.0 is above every version of demo/meter-digits"),
    ];
    let (own, second) = (desk.release_key_hex(), desk.second_key());
    for (order, words) in slips {
        let asked = desk.state(|s| s.proposals.len());
        let order = [&["model"], order.as_slice(), &["--reason", "x"]].concat();
        assert_eq!(desk.tern(&order).code, 1);
        assert_eq!(desk.state(|s| s.proposals.len()), asked, "a slip is not proposed");
        assert_eq!(desk.tern(&[&order[..], &["--unlisted"]].concat()).code, 0);
        let id = (asked + 1).to_string();
        // Who is shown it need not say yes.
        let shown = desk.tern(&["model", "approve", "--proposal", &id, "--key", &second, "--trusted-key", &own]);
        assert!(shown.code == 1 && shown.err.contains(words), "{}", shown.err);
        let on_trust = "on the word of others: demo/meter-digits@1.0.0 is listed, with manifest ";
        assert!(shown.err.contains(on_trust), "{}", shown.err);
    }
}

#[test]
fn a_list_that_is_only_signed_again_is_shown_whole() {
    let desk = Desk::new();
    desk.publish("1.0.0", &[]).json();
    desk.state(|s| (s.needed, s.shows_signatures) = (2, true));
    assert_eq!(desk.tern(&["model", "sign", "demo", "--reason", "other keys", "--yes"]).code, 0);
    let (own, second) = (desk.release_key_hex(), desk.second_key());
    let done = desk.tern(&["model", "approve", "--proposal", "2", "--key", &second, "--trusted-key", &own, "--yes"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for words in ["nothing changes but its end", "lists models/demo/meter-digits/1.0.0/manifest.json: "] {
        assert!(done.out.contains(words), "{words}: {}", done.out);
    }
}

#[test]
fn a_key_that_counts_for_nothing_is_told_before_anything_is_sent_or_shown() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    desk.publish("1.0.0", &[]).json();
    let (stranger, blobs) = (desk.second_key(), desk.state(|s| s.blobs.len()));
    let own = keyfile::read(&desk.path("release.key")).unwrap().public().id();
    desk.state(|s| s.counting = vec![own]);
    let id = keyfile::read(Path::new(&stranger)).unwrap().public().id();
    let refused = |outcome: &Outcome, wanted: &str| {
        let words = format!("--key {stranger} is key {id}, which is none of those that count for demo");
        assert!(outcome.refused().contains(&words) && outcome.err.contains(wanted), "{}", outcome.err);
    };
    let folder = bundle("1.0.1");
    let publish = ["model", "publish", folder.to_str().unwrap(), "--key", stranger.as_str(), "--output", "json"];
    refused(&desk.tern(&publish), "name a release key of team demo");
    refused(&desk.tern(&[&publish[..], &["--candidate"]].concat()), "name the candidate key of team demo");
    assert_eq!(desk.state(|s| (s.manifests.len(), s.blobs.len())), (1, blobs), "nothing was uploaded");
    refused(&desk.approve(&[FIRST, "--key", &stranger, "--yes"]), "a release key");
    let recall =
        ["model", "recall", FIRST, "--unlisted", "--reason", "x", "--key", stranger.as_str(), "--output", "json"];
    refused(&desk.tern(&recall), "a release key");
    assert_eq!(desk.state(|s| s.proposals.len()), 1);
}

#[test]
fn who_may_not_approve_is_told_before_anything_is_shown() {
    let desk = Desk::new();
    desk.state(|s| s.needed = 2);
    desk.publish("1.0.0", &[]).json();
    desk.state(|s| s.role = Some("publisher"));
    let second = desk.second_key();
    let before = desk.state(|s| s.requests.len());
    let refused = desk.approve(&[FIRST, "--key", &second, "--yes"]);
    assert!(refused.refused().contains("ann (publisher), whose token may not approve"), "{}", refused.err);
    assert!(desk.state(|s| s.requests[before..].iter().all(|r| r.starts_with("GET") && !r.contains("blobs"))));
    desk.state(|s| s.role = Some("approver"));
    assert_eq!(desk.approve(&[FIRST, "--key", &second, "--yes"]).json()["state"], "published");
}

impl Desk {
    fn release_key_hex(&self) -> String {
        let key = crate::keyfile::read(&self.path("release.key")).unwrap();
        hex::encode(key.public().bytes().unwrap())
    }
}

#[test]
fn a_candidate_is_published_by_the_robots_key_and_released_by_approval() {
    let desk = Desk::new();
    let robot = desk.second_key();
    let made = desk.publish("1.0.0", &["--candidate", "--key", &robot]).json();
    assert_eq!((made["list_version"].as_u64(), &made["proposal"]), (Some(1), &Value::Null));
    assert!(desk.state(|s| s.list.is_none() && s.candidates.is_some()));
    let shown = desk.tern(&["model", "show", FIRST]).out;
    assert!(shown.contains("as a candidate"), "{shown}");
    let done = desk.approve(&[FIRST, "--yes"]).json();
    assert_eq!((&done["state"], done["checked"].as_array().unwrap().len()), (&json!("published"), 1));
    let list = desk.state(|s| s.list.clone().unwrap());
    let path = FIRST.parse::<ModelVersion>().unwrap().target_path();
    assert!(list["targets"][path].is_object());
    assert!(desk.approve(&[SECOND, "--yes"]).refused().contains("no such version"));
    let key: KeyId = desk.state(|s| s.proposals[1].row.signatures[0].keyid.clone());
    assert_ne!(key, desk.state(|s| s.proposals[0].row.signatures[0].keyid.clone()), "another key than the robot's");
}
