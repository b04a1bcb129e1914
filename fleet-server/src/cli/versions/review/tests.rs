//! What a proposal may slip past nobody.

use serde_json::json;
use tern_protocol::{digest::Digest, keys::SigningKey, standing::MODELS};

use super::*;
use crate::cli::{record::Record, versions::targets};

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn role() -> TeamRole {
    "demo".parse().unwrap()
}

fn path(version: &str) -> String {
    format!("models/demo/m/{version}/manifest.json")
}

fn entry(version: &str) -> Value {
    json!({"length": 9, "hashes": {"sha256": Digest::of(version.as_bytes())}})
}

fn list(version: u64, versions: &[&str]) -> Value {
    let targets: Map<_, _> = versions.iter().map(|v| (path(v), entry(v))).collect();
    let expires = "2028-01-15T08:00:00Z";
    json!({"_type": "targets", "spec_version": "1.0.31", "version": version, "expires": expires, "targets": targets})
}

fn reviewed(present: &Value, proposed: &Value) -> Result<Review, ListError> {
    let mut record = Record::load(None, &role(), &tern_protocol::keys::KeyId("aa".into())).unwrap();
    record.add(&targets(present)).unwrap();
    record.saw(standings(present.as_object().unwrap()).unwrap()).unwrap();
    let next_version = present["version"].as_u64().unwrap() + 1;
    let expires = now() + jiff::SignedDuration::from_hours(24 * 365);
    let served =
        TeamMetadata { next_version, signed: Some(present.clone()), signatures: vec![], keys: vec![], expires };
    review(
        &role(),
        &served,
        proposed,
        &Vouchers { record: &record, own: vec![], trusted: &[], accept_existing: false },
        now(),
    )
}

#[test]
fn everything_that_changes_is_named() {
    let mut proposed = list(4, &["1.0.0", "1.2.0"]);
    proposed[MODELS] = json!({"m": {"recalled": {"1.1.0": "labels"}}});
    let review = reviewed(&list(3, &["1.0.0", "1.1.0", "1.1.1"]), &proposed).unwrap();
    let names = |models: &[ModelVersion]| models.iter().map(|m| m.version.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&review.adds.iter().map(|t| t.model.clone()).collect::<Vec<_>>()), ["1.2.0"]);
    assert_eq!(names(&review.withdraws), ["1.1.1"], "1.1.0 goes because it is recalled");
    assert_eq!(names(&review.keeps.iter().map(|t| t.model.clone()).collect::<Vec<_>>()), ["1.0.0"]);
    assert_eq!(review.on_trust, [""; 0], "all of it was signed here");
    assert_eq!(review.standings.len(), 1);
    assert_eq!((review.adds[0].length, review.adds[0].manifest), (9, Digest::of(b"1.2.0")));
}

#[test]
fn what_is_mostly_a_slip_in_a_number_is_named() {
    let slips = |before: &Value, standing: Value, versions: &[&str]| {
        let mut proposed = list(4, versions);
        proposed[MODELS] = json!({"m": standing});
        reviewed(before, &proposed).unwrap().slips
    };
    let present = list(3, &["1.0.0", "1.1.0"]);
    assert!(slips(&present, json!({"recalled": {"1.1.0": "labels"}}), &["1.0.0"]).is_empty());
    assert!(slips(&present, json!({"floor": "1.1.0"}), &["1.1.0"]).is_empty());
    let never = slips(&present, json!({"recalled": {"1.1.1": "labels"}}), &["1.0.0", "1.1.0"]);
    assert!(never.len() == 1 && never[0].starts_with("demo/m@1.1.1 was never published here"), "{never:?}");
    let above = slips(&present, json!({"floor": "1.1.1"}), &[]);
    assert!(above.len() == 1 && above[0].starts_with("1.1.1 is above every version of demo/m"), "{above:?}");
    // What was said before is not said again.
    let mut said = list(3, &["1.0.0"]);
    said[MODELS] = json!({"m": {"floor": "1.0.0", "recalled": {"7.0.0": "labels"}}});
    let more = json!({"floor": "1.0.0", "recalled": {"1.0.0": "light", "7.0.0": "labels"}});
    assert!(slips(&said, more, &[]).is_empty());
}

#[test]
fn what_is_not_as_it_looks_is_not_signed() {
    let present = list(3, &["1.0.0"]);
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut proposed = list(4, &["1.0.0", "1.1.0"]);
        edit(&mut proposed);
        reviewed(&present, &proposed).unwrap_err()
    };
    let stale = |proposed_after| ListError::Stale { proposed_after, present: 3 };
    assert_eq!(refused(&|l| l["version"] = 9.into()), stale(8));
    assert_eq!(refused(&|l| l["version"] = 3.into()), stale(2));
    assert_eq!(
        refused(&|l| l["targets"][path("1.0.0")] = entry("other")),
        ListError::OtherManifest("demo/m@1.0.0".parse().unwrap())
    );
    assert_eq!(refused(&|l| l["targets"][path("1.1.0")]["custom"] = json!({})), ListError::Malformed("targets"));
    assert_eq!(
        refused(&|l| l["targets"][path("1.1.0")]["hashes"]["sha512"] = "aa".into()),
        ListError::Malformed("targets")
    );
    assert!(matches!(
        refused(&|l| l["targets"]["models/other/m/1.0.0/manifest.json"] = entry("x")),
        ListError::ForeignPath(..)
    ));
    assert_eq!(refused(&|l| l["x-more"] = json!(1)), ListError::ForeignMember("x-more".into()));
    assert_eq!(
        refused(&|l| l["delegations"] = json!({"keys": {}, "roles": []})),
        ListError::ForeignMember("delegations".into())
    );
    assert_eq!(refused(&|l| l["_type"] = "root".into()), ListError::Malformed("_type"));
    assert_eq!(refused(&|l| l[MODELS] = json!([])), ListError::Malformed(MODELS));
    assert!(matches!(refused(&|l| l["expires"] = "2126-01-01T00:00:00Z".into()), ListError::Expiry(_)));
    assert!(matches!(refused(&|l| l["expires"] = "2020-01-01T00:00:00Z".into()), ListError::Expiry(_)));
    assert_eq!(refused(&|l| *l = json!([])), ListError::Malformed("signed"));
    // A proposal that forgets a recall.
    let mut recalled = list(3, &["1.0.0"]);
    recalled[MODELS] = json!({"m": {"recalled": {"1.1.0": "labels"}}});
    assert!(matches!(reviewed(&recalled, &list(4, &["1.0.0"])), Err(ListError::LostStanding(_))));
}

#[test]
fn the_present_list_must_be_vouched_for() {
    let record = Record::load(None, &role(), &tern_protocol::keys::KeyId("aa".into())).unwrap();
    let expires = now() + jiff::SignedDuration::from_hours(24);
    let served =
        TeamMetadata { next_version: 4, signed: Some(list(3, &["1.0.0"])), signatures: vec![], keys: vec![], expires };
    let vouchers = |accept_existing| Vouchers { record: &record, own: vec![], trusted: &[], accept_existing };
    let proposed = list(4, &["1.0.0", "1.1.0"]);
    let refused = review(&role(), &served, &proposed, &vouchers(false), now());
    assert_eq!(refused, Err(ListError::Unvouched("demo/m@1.0.0".into())));
    assert!(review(&role(), &served, &proposed, &vouchers(true), now()).is_ok());
}

#[test]
fn what_rests_on_anothers_word_is_told_whoever_gave_it() {
    let [own, other] = [(), ()].map(|()| SigningKey::generate().unwrap());
    let mut record = Record::load(None, &role(), &own.public().id()).unwrap();
    record.add(&targets(&list(3, &["1.0.0"]))).unwrap();
    let mut present = list(3, &["1.0.0", "6.6.6"]);
    present[MODELS] = json!({"m": {"recalled": {"1.1.0": "labels"}}});
    let (present, proposed) = (present.clone(), {
        let mut proposed = present;
        (proposed["version"], proposed["targets"][path("2.0.0")]) = (4.into(), entry("2.0.0"));
        proposed
    });
    let told = |signer: &SigningKey, accept_existing| {
        let envelope = tern_protocol::signed::sign_value(present.clone(), &[signer]).unwrap();
        let envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let served = TeamMetadata {
            next_version: 4,
            signed: Some(present.clone()),
            signatures: serde_json::from_value(envelope["signatures"].clone()).unwrap(),
            keys: vec![],
            expires: now() + jiff::SignedDuration::from_hours(24),
        };
        let trusted = [other.public()];
        let vouchers = Vouchers { record: &record, own: vec![own.public()], trusted: &trusted, accept_existing };
        review(&role(), &served, &proposed, &vouchers, now()).unwrap().on_trust
    };
    let hidden = format!("demo/m@6.6.6 is listed, with manifest {}", Digest::of(b"6.6.6"));
    let both = [hidden, "demo/m: recalls 1.1.0: labels".to_owned()];
    assert_eq!(told(&other, false), both, "one key that is trusted may be a thief's");
    assert_eq!(told(&SigningKey::generate().unwrap(), true), both);
    assert_eq!(told(&own, false), [""; 0]);
}
