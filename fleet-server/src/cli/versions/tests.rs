//! What a lying server may not get signed.

use tern_protocol::keys::SigningKey;

use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn target(version: &str) -> Target {
    Target { model: format!("demo/m@{version}").parse().unwrap(), manifest: Digest::of(version.as_bytes()), length: 9 }
}

fn served(signed: Option<Value>, next_version: u64) -> TeamMetadata {
    let expires = now() + SignedDuration::from_hours(24 * 365);
    TeamMetadata { next_version, signed, signatures: vec![], expires }
}

fn record(list: Option<&Value>) -> Record {
    let mut record = Record::load(None, &"demo".parse().unwrap(), &tern_protocol::keys::KeyId("aa".into())).unwrap();
    record.add(&list.map(targets).unwrap_or_default()).unwrap();
    record
}

fn step(served: &TeamMetadata, target: &Target, record: &Record, keys: &[PublicKey]) -> Result<Step, ListError> {
    next(served, target, &Vouchers { record, keys, accept_existing: false }, now())
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
    let accepted = Vouchers { record: &record(None), keys: &[], accept_existing: true };
    assert!(matches!(next(&served, &target("1.0.1"), &accepted, now()), Ok(Step::Sign(_))));
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
