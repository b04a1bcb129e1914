//! Proposals against a real file: bounded, changed only while open, and settled by what was published.

use serde_json::json;

use super::*;
use crate::store::tests::{Scratch, kinds, later, now, scratch, signed, version};

fn role(text: &str) -> TeamRole {
    text.parse().unwrap()
}

fn signature(key: &str) -> Signature {
    Signature { keyid: KeyId(key.into()), sig: "00".into() }
}

fn new(role: &str, version: u64, list: u64) -> NewProposal {
    let signed = json!({"version": version, "list": list});
    NewProposal {
        role: self::role(role),
        version,
        digest: crate::proposals::digest(&signed).unwrap(),
        signed,
        change: ListChange { adds: vec!["demo/m@1.0.0".parse().unwrap()], ..ListChange::default() },
        signatures: vec![signature("a")],
        author: "ann".into(),
        reason: "better".into(),
    }
}

#[tokio::test]
async fn a_proposal_keeps_who_signed_it_and_what_for() {
    let Scratch { store, folder: _folder } = scratch();
    let id = store.propose(new("demo", 1, 1), now()).await.unwrap().unwrap();
    let same = store.propose(new("demo", 1, 1), now()).await.unwrap();
    assert_eq!(same, Err(ProposeRefusal::Same(id)));
    let sign = |key: &str, why: Option<&str>| {
        store.sign_proposal(id, vec![signature(key)], "bob".into(), why.map(ToOwned::to_owned), later(1))
    };
    assert_eq!(sign("a", None).await.unwrap(), Err(ProposalRefusal::Twice(KeyId("a".into()))));
    let proposal = sign("b", Some("known")).await.unwrap().unwrap();
    let told: Vec<_> = proposal.row.signatures.iter().map(|s| (s.by.as_str(), s.override_reason.as_deref())).collect();
    assert_eq!(told, [("ann", None), ("bob", Some("known"))]);
    assert_eq!((proposal.row.created, proposal.row.signatures[1].at), (now(), later(1)));
    assert_eq!(proposal.signed, Some(new("demo", 1, 1).signed));
    assert_eq!(store.proposal(id).await.unwrap(), Some(proposal));
    let unknown = store.sign_proposal(99, vec![], "bob".into(), None, now()).await.unwrap();
    assert_eq!(unknown, Err(ProposalRefusal::Unknown));
    assert_eq!(kinds(&store).await, ["proposal-made", "proposal-signed"]);
}

#[tokio::test]
async fn what_is_over_takes_nothing_and_forgets_its_list() {
    let Scratch { store, folder: _folder } = scratch();
    let id = store.propose(new("demo", 1, 1), now()).await.unwrap().unwrap();
    let withdraw = || store.withdraw_proposal(id, "ann".into(), "again".into(), later(2));
    let gone = withdraw().await.unwrap().unwrap();
    assert_eq!(
        (gone.row.state, gone.signed.as_ref(), gone.row.ended),
        (ProposalState::Withdrawn, None, Some(later(2)))
    );
    assert_eq!(gone.row.ended_why.as_deref(), Some("by ann: again"));
    let over = Err(ProposalRefusal::Over(Box::new(gone.clone())));
    assert_eq!(withdraw().await.unwrap(), over);
    assert_eq!(store.sign_proposal(id, vec![signature("b")], "bob".into(), None, now()).await.unwrap(), over);
    // The same list may be proposed anew.
    store.propose(new("demo", 1, 1), now()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_publication_settles_its_own_role_and_nothing_later() {
    let Scratch { store, folder: _folder } = scratch();
    let mut ids = Vec::new();
    for (role, version, list) in
        [("demo", 1, 1), ("demo", 1, 2), ("demo", 2, 3), ("demo.candidate", 1, 4), ("other", 1, 5)]
    {
        ids.push(store.propose(new(role, version, list), now()).await.unwrap().unwrap());
    }
    let digest = new("demo", 1, 2).digest;
    store.settle_proposals(role("demo"), 1, digest, now()).await.unwrap();
    let mut states = Vec::new();
    for id in ids {
        states.push(store.proposal(id).await.unwrap().unwrap().row.state.as_str());
    }
    assert_eq!(states, ["void", "published", "open", "open", "open"]);
    // Told again it is the same: a start does that.
    store.settle_proposals(role("demo"), 1, digest, now()).await.unwrap();
    let voided = kinds(&store).await.into_iter().filter(|kind| kind == "proposal-void").count();
    assert_eq!(voided, 1);
}

#[tokio::test]
async fn open_ones_and_their_history_are_bounded() {
    let Scratch { store, folder: _folder } = scratch();
    for list in 0..MAX_OPEN as u64 {
        store.propose(new("demo", 1, list), now()).await.unwrap().unwrap();
    }
    assert_eq!(store.propose(new("demo", 1, 99), now()).await.unwrap(), Err(ProposeRefusal::TooMany));
    store.propose(new("other", 1, 99), now()).await.unwrap().unwrap();
    let rounds = KEPT as u64 + 20;
    for list in 0..rounds {
        let oldest = store.proposals(Some(["demo".parse().unwrap()].into()), None, 1000).await.unwrap();
        let oldest = oldest.iter().rev().find(|p| p.row.state == ProposalState::Open).unwrap().row.id;
        store.withdraw_proposal(oldest, "ann".into(), "x".into(), now()).await.unwrap().unwrap();
        store.propose(new("demo", 1, 1000 + list), now()).await.unwrap().unwrap();
    }
    let all = store.proposals(Some(["demo".parse().unwrap()].into()), None, 1000).await.unwrap();
    let open = all.iter().filter(|p| p.row.state == ProposalState::Open).count();
    assert_eq!((open, all.len() - open), (MAX_OPEN, KEPT));
    // Pages go down from a number.
    let page = store.proposals(None, Some(all[1].row.id), 2).await.unwrap();
    assert_eq!(page.iter().map(|p| p.row.id).collect::<Vec<_>>(), [all[2].row.id, all[3].row.id]);
}

#[tokio::test]
async fn newcomers_are_told_with_their_publishers() {
    let Scratch { store, folder: _folder } = scratch();
    signed(&store, "demo/m@1.0.0").await;
    let asked = vec![version("demo/m@1.0.0"), version("demo/m@2.0.0")];
    let wanted = Newcomer { model: version("demo/m@1.0.0"), published_by: "admin".into() };
    assert_eq!(store.newcomers(asked).await.unwrap(), [wanted]);
}
