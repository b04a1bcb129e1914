//! The client of `sigstore-tuf` on our provider, against metadata signed by our own keys.

use serde_json::{Value, json};

use super::*;
use crate::{keys::SigningKey, signed::sign_value};

const NOW: &str = "2026-06-01T00:00:00Z";
const LATER: &str = "2027-06-01T00:00:00Z";

fn root(key: &SigningKey, director: Value) -> Value {
    let id = key.public().id();
    let role = json!({"keyids": [id], "threshold": 1});
    json!({
        "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": LATER, "consistent_snapshot": true,
        "keys": {id.0: key.public()},
        "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role},
        DIRECTOR: director,
    })
}

fn trusted(key: &SigningKey) -> TrustedMetadataSet {
    install_provider();
    let director = json!({"keyids": [key.public().id()], "threshold": 1});
    TrustedMetadataSet::from_root(&sign_value(root(key, director), &[key]).unwrap()).unwrap()
}

fn timestamp(key: &SigningKey, version: u64) -> Vec<u8> {
    let signed = json!({
        "_type": "timestamp", "spec_version": "1.0.31", "version": version, "expires": LATER, ISSUED: NOW,
        "meta": {"snapshot.json": {"version": 1}},
    });
    sign_value(signed, &[key]).unwrap()
}

#[test]
fn our_signatures_verify_and_a_flipped_byte_does_not() {
    let key = SigningKey::generate().unwrap();
    let mut set = trusted(&key);
    let now = NOW.parse().unwrap();
    let mut bytes = timestamp(&key, 3);
    set.update_timestamp(&bytes, now).unwrap();
    assert!(matches!(
        set.update_timestamp(&timestamp(&key, 2), now),
        Err(sigstore_tuf::Error::Rollback { trusted: 3, new: 2, .. })
    ));
    let at = bytes.windows(7).position(|w| w == b"\"sig\":\"").unwrap() + 10;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    let fresh = trusted(&key).update_timestamp(&bytes, now).map(|_| ());
    assert!(matches!(fresh, Err(sigstore_tuf::Error::ThresholdNotMet { found: 0, threshold: 1, .. })), "{fresh:?}");
}

#[test]
fn root_names_the_director_or_nothing_is_accepted() {
    let key = SigningKey::generate().unwrap();
    let keys = director_keys(trusted(&key).root()).unwrap();
    assert_eq!(keys.get(&key.public().id()), Some(&key.public()));
    let id = key.public().id();
    let bad = [
        Value::Null,
        json!({"keyids": [id]}),
        json!({"keyids": [id], "threshold": 0}),
        json!({"keyids": [id, id], "threshold": 2}),
        json!({"keyids": ["unknown"], "threshold": 1}),
        json!({"keyids": [], "threshold": 1}),
    ];
    for director in bad {
        let bytes = sign_value(root(&key, director.clone()), &[&key]).unwrap();
        let root = parse_root(&bytes).unwrap();
        assert_eq!(director_keys(&root), Err(TufError::Missing(DIRECTOR)), "{director}");
    }
}

#[test]
fn issued_is_read_from_what_tuf_does_not_know() {
    let extra = |value: serde_json::Value| BTreeMap::from([(ISSUED.to_owned(), value)]);
    assert_eq!(issued(&extra(NOW.into())), Some(NOW.parse().unwrap()));
    for odd in [json!("yesterday"), json!(7), json!(null)] {
        assert_eq!(issued(&extra(odd)), None);
    }
    assert_eq!(issued(&BTreeMap::new()), None);
}

#[test]
fn a_rotation_of_keys_opens_a_new_floor() {
    let (a, b) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let floor = |key: &SigningKey| {
        let mut set = trusted(key);
        set.update_timestamp(&timestamp(key, 7), NOW.parse().unwrap()).unwrap();
        role_floors(&set, &[]).into_iter().find(|f| f.role == "timestamp").unwrap()
    };
    assert_eq!(floor(&a).version, 7);
    assert_eq!(floor(&a).key_set, floor(&a).key_set);
    assert_ne!(floor(&a).key_set, floor(&b).key_set);
}

#[test]
fn one_key_under_two_ids_counts_for_nobody() {
    let key = SigningKey::generate().unwrap();
    let good = json!({"keyids": [key.public().id()], "threshold": 1});
    let twice = json!({"keyids": [key.public().id(), "alias"], "threshold": 2});
    let with = |role: &str, director: &Value| {
        install_provider();
        let mut signed = root(&key, director.clone());
        signed["keys"]["alias"] = json!(key.public());
        if role != DIRECTOR {
            signed["roles"][role] = twice.clone();
        }
        sign_value(signed, &[&key]).unwrap()
    };
    let set = |role| TrustedMetadataSet::from_root(&with(role, &good)).unwrap();
    assert_eq!(check_keys(&set(DIRECTOR), &[]), Ok(()));
    for role in ["timestamp", "snapshot", "targets"] {
        assert_eq!(check_keys(&set(role), &[]), Err(TufError::KeyTwice(role.into())));
    }
    let director = parse_root(&with(DIRECTOR, &twice)).unwrap();
    assert_eq!(director_keys(&director), Err(TufError::Missing(DIRECTOR)));
}
