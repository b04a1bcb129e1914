//! Proposals: the rules by themselves, with keys that sign what was broken; and a server that is asked to keep them.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tern_fleet_server::{
    forms::proposals::{ProposalDetail, ProposalOrder},
    proposals::{self, Envelope, Newcomer, ProposalState, Signature, SignatureRefusal, Signed, Verdict as Judged},
};
use tern_protocol::keys::{KeySet, SigningKey};

use super::{house::House, key, key_set};
use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("proposal-rules", Form::Json, Pace::Slow, || Box::new(Rules::new())),
        Kind::new("proposals", Form::Json, Pace::Exchange, || Box::new(Kept::new())).within(1536),
    ]
}

fn list(version: u64) -> Value {
    json!({"_type": "targets", "version": version, "spec_version": "1.0.31", "expires": "2030-06-01T00:00:00Z",
        "targets": {}, "x-tern-models": {"m": {"floor": "1.0.0", "recalled": {"1.0.1": "wrong labels"}}}})
}

fn order(role: &str, signed: Value, signatures: Vec<Signature>) -> Vec<u8> {
    json!({"role": role, "reason": "labels were wrong", "envelope": {"signatures": signatures, "signed": signed}})
        .to_string()
        .into()
}

fn signature(key: &SigningKey, signed: &Value) -> Signature {
    let message = proposals::message(signed).expect("it has a canonical form");
    Signature { keyid: key.public().id(), sig: key.sign(&message).iter().map(|byte| format!("{byte:02x}")).collect() }
}

/// Two keys of a role, of which both must sign.
struct Rules {
    keys: [SigningKey; 2],
    role: KeySet,
}

impl Rules {
    fn new() -> Self {
        let keys = [key(8), key(9)];
        let role = key_set(&[&keys[0], &keys[1]], 2);
        Self { keys, role }
    }
}

impl Target for Rules {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let by = |count: usize| self.keys[..count].iter().map(|key| signature(key, &list(2))).collect();
        vec![
            ("nobody.json".into(), order("release", list(2), by(0))),
            ("one.json".into(), order("candidate", list(2), by(1))),
            ("both.json".into(), order("release", list(2), by(2))),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(order) = serde_json::from_slice::<ProposalOrder>(input) else { return Verdict::Refused };
        let Envelope { signatures, signed } = order.envelope;
        let nobody = BTreeSet::new();
        let admitted = proposals::admit(&signed, &nobody, &signatures, &self.role);
        if admitted.is_ok() {
            let named: BTreeSet<_> = signatures.iter().map(|signature| signature.keyid.clone()).collect();
            assert_eq!(named.len(), signatures.len(), "a key counts once");
            let envelope = Envelope { signatures: signatures.clone(), signed: signed.clone() };
            assert_eq!(proposals::valid_keys(&envelope, &self.role).as_ref(), Ok(&named));
            let again = proposals::admit(&signed, &named, &signatures, &self.role);
            assert!(signatures.is_empty() || matches!(again, Err(SignatureRefusal::Twice(_))), "{again:?}");
        }
        if proposals::digest(&signed).is_err() {
            assert!(matches!(admitted, Err(SignatureRefusal::Unsignable(_) | SignatureRefusal::Count(_))));
            return Verdict::Refused;
        }
        // Signed by those who may, each alone is too little, and the author with both keys needs another's word.
        let signatures: Vec<_> = self.keys.iter().map(|key| signature(key, &signed)).collect();
        assert_eq!(proposals::admit(&signed, &nobody, &signatures, &self.role), Ok(()));
        let by = |who: [&str; 2]| -> Vec<Signed> {
            let each = signatures.iter().zip(who);
            each.map(|(signature, by)| Signed { key: signature.keyid.clone(), by: by.into() }).collect()
        };
        let new = Newcomer { model: "demo/m@1.0.0".parse().expect("a version"), published_by: "ann".into() };
        let judged = |signed: &[Signed]| proposals::judge(&self.role, signed, std::slice::from_ref(&new), false);
        assert_eq!(judged(&by(["ann", "bob"])), Judged::Ready);
        assert_eq!(judged(&by(["ann", "bob"])[..1]), Judged::Short { found: 1, threshold: 2 });
        assert_eq!(judged(&by(["ann", "ann"])), Judged::NeedsOther(new.clone()));
        Verdict::of(admitted.is_ok())
    }
}

/// A server that keeps a proposal until it is withdrawn.
struct Kept(House);

impl Kept {
    fn new() -> Self {
        Self(House::start())
    }

    fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
        let (status, body) = self.0.ask(method, path, body);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {}", String::from_utf8_lossy(&body));
        (status, serde_json::from_slice(&body).expect("JSON"))
    }
}

impl Target for Kept {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let stranger = vec![signature(&key(9), &list(1))];
        // What is recalled stands in the list of releases.
        let mut candidates = list(1);
        candidates.as_object_mut().expect("a list").remove("x-tern-models");
        vec![
            ("release.json".into(), order("release", list(1), vec![])),
            ("candidate.json".into(), order("candidate", candidates, vec![])),
            ("refused-recalls.json".into(), order("candidate", list(1), vec![])),
            ("refused-stranger.json".into(), order("release", list(1), stranger)),
            ("refused-version.json".into(), order("release", list(7), vec![])),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let before = self.0.published();
        let (status, answer) = self.ask(Method::POST, "/api/v1/teams/demo/proposals", input.to_vec());
        if status != StatusCode::CREATED {
            assert!(
                status.is_client_error() && answer["type"].as_str().is_some_and(|code| code.starts_with("urn:tern:")),
                "{status} {answer}"
            );
            return Verdict::Refused;
        }
        let proposal: ProposalDetail = serde_json::from_value(answer).expect("a proposal");
        let order: ProposalOrder = serde_json::from_slice(input).expect("it was read");
        assert_eq!(proposal.signed.as_ref(), Some(&order.envelope.signed), "what is signed is what was sent");
        assert_eq!((proposal.row.state, proposal.row.signatures.len()), (ProposalState::Open, 0), "nobody has signed");
        assert!(self.0.published() == before, "nothing is published that nobody signed");
        let path = format!("/api/v1/proposals/{}", proposal.row.id);
        let (status, shown) = self.ask(Method::GET, &path, Vec::new());
        assert_eq!((status, &shown["signed"]), (StatusCode::OK, &order.envelope.signed));
        let (status, _) = self.ask(Method::GET, "/api/v1/proposals?team=demo&limit=3", Vec::new());
        assert_eq!(status, StatusCode::OK);
        let forged = json!({"signatures": [signature(&key(9), &order.envelope.signed)]}).to_string();
        let (status, refused) = self.ask(Method::POST, &format!("{path}/signatures"), forged.into());
        assert_eq!(refused["type"], "urn:tern:unknown-key", "{status} {refused}");
        let (status, ended) = self.ask(Method::POST, &format!("{path}/withdraw"), br#"{"reason":"x"}"#.to_vec());
        assert_eq!((status, &ended["state"]), (StatusCode::OK, &json!("withdrawn")));
        Verdict::Accepted
    }
}
