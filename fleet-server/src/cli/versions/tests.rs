//! What a lying server may not get signed.

use tern_protocol::keys::{PublicKey, SigningKey};

use super::{present::is_signed, *};
use crate::{cli::record::Record, forms::TeamSignature};

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn target(version: &str) -> Target {
    Target { model: format!("demo/m@{version}").parse().unwrap(), manifest: Digest::of(version.as_bytes()), length: 9 }
}

fn served(signed: Option<Value>, next_version: u64) -> TeamMetadata {
    let expires = now() + SignedDuration::from_hours(24 * 365);
    TeamMetadata { next_version, signed, signatures: vec![], keys: vec![], expires }
}

fn role() -> TeamRole {
    "demo".parse().unwrap()
}

pub(super) fn record(list: Option<&Value>) -> Record {
    let mut record = Record::load(None, &role(), &tern_protocol::keys::KeyId("aa".into())).unwrap();
    record.add(&list.map(targets).unwrap_or_default()).unwrap();
    record.saw(list.map(|list| standings(list.as_object().unwrap()).unwrap()).unwrap_or_default()).unwrap();
    record
}

fn step(served: &TeamMetadata, target: &Target, record: &Record, keys: &[PublicKey]) -> Result<Step, ListError> {
    edit(served, &Edit::List(target.clone()), record, keys)
}

fn edit(served: &TeamMetadata, edit: &Edit, record: &Record, keys: &[PublicKey]) -> Result<Step, ListError> {
    next(&role(), served, edit, &Vouchers { record, own: vec![], trusted: keys, accept_existing: false }, now())
}

/// The list with 1.0.0 in it, version 1.
fn first() -> Value {
    match step(&served(None, 1), &target("1.0.0"), &record(None), &[]).unwrap() {
        Step::Sign(list) => list,
        Step::Listed => panic!("nothing was listed"),
    }
}

#[test]
fn a_list_grows_and_keeps_what_it_had() {
    let list = first();
    assert_eq!(list["version"], 1);
    assert_eq!(list["expires"], "2028-01-15T08:00:00Z");
    let Step::Sign(second) = step(&served(Some(list.clone()), 2), &target("1.0.1"), &record(Some(&list)), &[]).unwrap()
    else {
        panic!("1.0.1 is new")
    };
    assert_eq!((second["version"].as_u64(), targets(&second).len()), (Some(2), 2));
    let path = target("1.0.0").model.target_path();
    assert_eq!(second["targets"][&path], list["targets"][&path]);
    let again = step(&served(Some(second.clone()), 3), &target("1.0.1"), &record(Some(&second)), &[]);
    assert_eq!(again, Ok(Step::Listed));
}

#[test]
fn the_list_is_what_a_tuf_client_reads() {
    let key = SigningKey::generate().unwrap();
    let envelope = tern_protocol::signed::sign_value(first(), &[&key]).unwrap();
    let read = sigstore_tuf::Metadata::<sigstore_tuf::Targets>::from_slice(&envelope).unwrap().into_signed();
    assert_eq!((read.version, read.targets.len(), read.delegations.is_none()), (1, 1, true));
    assert!(read.extra.is_empty(), "nothing is signed that the client does not know");
    let value: Value = serde_json::from_slice(&envelope).unwrap();
    let signatures: Vec<TeamSignature> = serde_json::from_value(value["signatures"].clone()).unwrap();
    assert!(is_signed(&value["signed"], &signatures, &[key.public()]));
}

#[test]
fn a_version_never_changes() {
    let list = first();
    let other = Target { manifest: Digest::of(b"other"), ..target("1.0.0") };
    let refused = step(&served(Some(list.clone()), 2), &other, &record(Some(&list)), &[]);
    assert_eq!(refused, Err(ListError::OtherManifest(other.model)));
}

#[test]
fn what_nobody_vouches_for_is_not_signed() {
    let list = first();
    let served = served(Some(list.clone()), 2);
    let refused = ListError::Unvouched("demo/m@1.0.0".into());
    assert_eq!(step(&served, &target("1.0.1"), &record(None), &[]), Err(refused.clone()));

    let mut changed = list.clone();
    changed["targets"][target("1.0.0").model.target_path()]["length"] = 10.into();
    assert_eq!(step(&served, &target("1.0.1"), &record(Some(&changed)), &[]), Err(refused));
    let accepted = Vouchers { record: &record(None), own: vec![], trusted: &[], accept_existing: true };
    assert!(matches!(next(&role(), &served, &Edit::List(target("1.0.1")), &accepted, now()), Ok(Step::Sign(_))));
}

#[test]
fn a_trusted_signature_vouches_for_exactly_what_it_signed() {
    let (key, stranger) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let envelope = tern_protocol::signed::sign_value(first(), &[&key]).unwrap();
    let value: Value = serde_json::from_slice(&envelope).unwrap();
    let mut served = served(Some(value["signed"].clone()), 2);
    served.signatures = serde_json::from_value(value["signatures"].clone()).unwrap();
    assert!(step(&served, &target("1.0.1"), &record(None), &[key.public()]).is_ok());
    let refused = step(&served, &target("1.0.1"), &record(None), &[stranger.public()]);
    assert!(matches!(refused, Err(ListError::Unvouched(_))));
    let list = served.signed.as_mut().unwrap();
    list["targets"]["models/demo/m/9.9.9/manifest.json"] = json!({"length": 1, "hashes": {"sha256": "aa"}});
    let refused = step(&served, &target("1.0.1"), &record(None), &[key.public()]);
    assert!(matches!(refused, Err(ListError::Unvouched(_))));
}

#[test]
fn foreign_paths_members_and_delegations_are_not_signed() {
    let list = first();
    let refused = |edit: fn(&mut Value)| {
        let mut edited = list.clone();
        edit(&mut edited);
        step(&served(Some(edited), 2), &target("1.0.1"), &record(Some(&list)), &[]).unwrap_err()
    };
    let foreign = |l: &mut Value| l["targets"]["models/other/m/1.0.0/manifest.json"] = json!({});
    assert!(matches!(refused(foreign), ListError::ForeignPath(..)));
    assert!(matches!(refused(|l| l["targets"]["ca.pem"] = json!({})), ListError::ForeignPath(..)));
    let delegations = |l: &mut Value| l["delegations"] = json!({"keys": {}, "roles": []});
    assert_eq!(refused(delegations), ListError::ForeignMember("delegations".into()));
    assert_eq!(refused(|l| l["x-tern-recalled"] = json!([])), ListError::ForeignMember("x-tern-recalled".into()));
    assert_eq!(refused(|l| l["_type"] = "root".into()), ListError::Malformed("_type"));
    assert_eq!(refused(|l| l["targets"] = json!([])), ListError::Malformed("targets"));
    assert_eq!(refused(|l| l["version"] = json!("1")), ListError::Malformed("version"));
    assert_eq!(refused(|l| *l = json!([])), ListError::Malformed("signed"));
}

#[test]
fn numbers_and_dates_that_would_bind_the_team_are_not_signed() {
    let list = first();
    let wanting = |version| step(&served(Some(list.clone()), version), &target("1.0.1"), &record(Some(&list)), &[]);
    assert!(wanting(2).is_ok() && wanting(NOW as u64).is_ok());
    for wanted in [0, 1, u64::MAX, NOW as u64 + 90_000] {
        assert_eq!(wanting(wanted), Err(ListError::VersionJump { wanted, present: 1 }));
    }
    for hours in [-1, 24 * 401] {
        let mut served = served(None, 1);
        served.expires = now() + SignedDuration::from_hours(hours);
        let refused = step(&served, &target("1.0.0"), &record(None), &[]);
        assert_eq!(refused, Err(ListError::Expiry(served.expires)));
    }
}

fn recall(version: &str) -> Edit {
    let (model, reason) = (target(version).model, "wrong labels".to_owned());
    Edit::Recall { model, reason, on_recall: Some(OnRecall::Stop), unlisted: false }
}

fn floor(version: &str) -> Edit {
    Edit::Floor { model: "demo/m".parse().unwrap(), version: version.parse().unwrap(), unlisted: false }
}

/// The list after `list` with `edit` done to it.
fn after(list: &Value, change: &Edit) -> Value {
    let next_version = list["version"].as_u64().unwrap() + 1;
    match edit(&served(Some(list.clone()), next_version), change, &record(Some(list)), &[]).unwrap() {
        Step::Sign(next) => next,
        Step::Listed => panic!("it says so already"),
    }
}

#[test]
fn a_recalled_version_leaves_the_list_and_its_recall_stays() {
    let two = after(&first(), &Edit::List(target("1.0.1")));
    let recalled = after(&two, &recall("1.0.1"));
    assert_eq!(targets(&recalled).len(), 1);
    assert_eq!(recalled[MODELS], json!({"m": {"recalled": {"1.0.1": "wrong labels"}, "on_recall": "stop"}}));
    // Said again it is the same; the version cannot come back, others can come.
    let again = edit(&served(Some(recalled.clone()), 4), &recall("1.0.1"), &record(Some(&recalled)), &[]);
    assert_eq!(again, Ok(Step::Listed));
    let back = edit(&served(Some(recalled.clone()), 4), &Edit::List(target("1.0.1")), &record(Some(&recalled)), &[]);
    assert!(matches!(back, Err(ListError::Disallowed(words)) if words.contains("wrong labels")));
    let more = after(&recalled, &Edit::List(target("1.0.2")));
    assert_eq!(more[MODELS], recalled[MODELS]);
    // A version that was never listed is mostly a slip; it can be recalled by who says so.
    let slip = edit(&served(Some(recalled.clone()), 4), &recall("7.0.0"), &record(Some(&recalled)), &[]);
    assert_eq!(slip, Err(ListError::NeverListed(target("7.0.0").model)));
    let Edit::Recall { model, reason, on_recall, .. } = recall("7.0.0") else { unreachable!() };
    let meant = Edit::Recall { model, reason, on_recall, unlisted: true };
    assert_eq!(after(&recalled, &meant)[MODELS]["m"]["recalled"].as_object().unwrap().len(), 2);
}

#[test]
fn a_floor_takes_what_lies_below_and_only_rises() {
    let two = after(&first(), &Edit::List(target("1.0.1")));
    let raised = after(&two, &floor("1.0.1"));
    assert_eq!((targets(&raised).len(), &raised[MODELS]), (1, &json!({"m": {"floor": "1.0.1"}})));
    let change = |edit: &Edit| self::edit(&served(Some(raised.clone()), 4), edit, &record(Some(&raised)), &[]);
    assert_eq!(change(&floor("1.0.1")), Ok(Step::Listed));
    let model: ModelName = "demo/m".parse().unwrap();
    let above = ListError::FloorAboveAll(model.clone(), "9.0.0".parse().unwrap());
    assert_eq!(change(&floor("9.0.0")), Err(above));
    let meant = Edit::Floor { model, version: "9.0.0".parse().unwrap(), unlisted: true };
    assert!(targets(&after(&raised, &meant)).is_empty(), "who means it stops the model");
    let falls = ListError::FloorFalls("demo/m".parse().unwrap(), "1.0.1".parse().unwrap());
    assert_eq!(change(&floor("1.0.0")), Err(falls));
    assert!(matches!(change(&Edit::List(target("1.0.0"))), Err(ListError::Disallowed(_))));
}

#[test]
fn a_list_that_lost_what_this_machine_knows_is_not_signed() {
    let recalled = after(&first(), &recall("1.0.0"));
    let known = record(Some(&recalled));
    let mut forgetting = recalled.clone();
    forgetting.as_object_mut().unwrap().remove(MODELS);
    let lost = |served: &TeamMetadata, accept_existing, keys: &[PublicKey]| {
        let vouchers = Vouchers { record: &known, own: vec![], trusted: keys, accept_existing };
        let refused = next(&role(), served, &Edit::List(target("1.0.1")), &vouchers, now()).unwrap_err();
        assert!(matches!(&refused, ListError::LostStanding(words) if words.contains("m@1.0.0")), "{refused}");
    };
    lost(&served(Some(forgetting.clone()), 3), false, &[]);
    lost(&served(Some(forgetting.clone()), 3), true, &[]);
    lost(&served(None, 1), false, &[]);
    // Not even where a trusted key has signed it.
    let key = SigningKey::generate().unwrap();
    let envelope = tern_protocol::signed::sign_value(forgetting.clone(), &[&key]).unwrap();
    let envelope: Value = serde_json::from_slice(&envelope).unwrap();
    let mut signed = served(Some(forgetting), 3);
    signed.signatures = serde_json::from_value(envelope["signatures"].clone()).unwrap();
    lost(&signed, false, &[key.public()]);
}

#[test]
fn recalls_that_nobody_vouches_for_are_not_signed() {
    let list = first();
    let mut slipped = list.clone();
    slipped[MODELS] = json!({"m": {"floor": "9.0.0"}});
    let refused = step(&served(Some(slipped.clone()), 2), &target("9.0.1"), &record(Some(&list)), &[]);
    assert_eq!(refused, Err(ListError::Unvouched("recalls or floors".into())));
    slipped[MODELS] = json!({"m": {"flor": "9.0.0"}});
    let refused = step(&served(Some(slipped), 2), &target("9.0.1"), &record(Some(&list)), &[]);
    assert_eq!(refused, Err(ListError::Malformed(MODELS)));
}

#[test]
fn candidates_have_a_list_of_their_own() {
    let (role, wanted) = ("demo.candidate".parse::<TeamRole>().unwrap(), target("2.0.0"));
    let vouchers = Vouchers { record: &record(None), own: vec![], trusted: &[], accept_existing: false };
    let step = next(&role, &served(None, 1), &Edit::List(wanted.clone()), &vouchers, now());
    let Ok(Step::Sign(list)) = step else { panic!("{step:?}") };
    assert!(list["targets"][wanted.model.candidate_path()].is_object());
    let release = next(&self::role(), &served(Some(list), 2), &Edit::List(wanted), &vouchers, now());
    assert!(matches!(release, Err(ListError::ForeignPath(..))));
}
