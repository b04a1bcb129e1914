//! Enrolment against answers that are not what the token pins.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use tern_protocol::{
    keys::{KeyId, SigningKey},
    signed::sign_value,
    standing::Standing,
};

use super::*;
use crate::identity::Identity;

struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
    root: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = SigningKey::generate().unwrap();
        let (id, role) = (key.public().id(), json!({"keyids": [key.public().id()], "threshold": 1}));
        let root = json!({
            "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": "2029-01-01T00:00:00Z",
            "consistent_snapshot": true, "keys": {id.0: key.public()}, tuf::DIRECTOR: role,
            "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role},
        });
        Self { ca, root: sign_value(root, &[&key]).unwrap() }
    }

    fn token(&self) -> EnrolmentToken {
        EnrolmentToken {
            server: "https://127.0.0.1:1".into(),
            device: "cam-1".parse().unwrap(),
            secret: "s".into(),
            ca_sha256: Digest::of(self.ca.der()),
            root_sha256: Digest::of(&self.root),
        }
    }

    fn response(&self, name: &str, key: &KeyPair) -> EnrolmentResponse {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 6, 1);
        EnrolmentResponse {
            fleet: "main".parse().unwrap(),
            certificate_pem: params.signed_by(key, &self.ca).unwrap().pem(),
            ca_pem: self.ca.pem(),
            root_base64: BASE64_STANDARD.encode(&self.root),
            mqtt_address: "127.0.0.1:2".into(),
        }
    }
}

fn config(folder: &Path) -> Config {
    let text = format!("state_dir = {:?}\nruntime_dir = {:?}", folder.join("state"), folder.join("run"));
    Config::parse(&text, Path::new("agent.toml")).unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

#[test]
fn an_honest_answer_becomes_an_identity_with_its_record() {
    let (server, key, folder) = (Authority::new(), key(), tempfile::tempdir().unwrap());
    let (config, token) = (config(folder.path()), server.token());
    let response = server.response("cam-1", &key);
    let files = check(&token, &key, &response).unwrap();
    disk::make_folder(&config.state_dir).unwrap();
    settle(&config, &token, &key, &response, false).unwrap();
    let identity = Identity::load(&config.identity_dir()).unwrap().unwrap();
    assert_eq!((identity.enrolment.device.as_str(), &identity.root), ("cam-1", &server.root));
    let state = Store::open(&config.state_dir).state();
    assert_eq!(state.root_pin, Some(token.root_sha256));
    assert_eq!(state.time_floor.to_string(), "2026-06-01T00:00:00Z");
    assert!(files.install(&config.identity_dir(), false).is_err(), "an identity is not replaced unasked");
    assert!(!config.state_dir.join("identity.new").exists());
}

#[test]
fn each_wrong_answer_has_its_error() {
    let (server, other, key) = (Authority::new(), Authority::new(), key());
    let token = server.token();
    let good = server.response("cam-1", &key);
    let wrong_ca = EnrolmentResponse { ca_pem: other.ca.pem(), ..good.clone() };
    assert!(matches!(check(&token, &key, &wrong_ca), Err(EnrolError::CaMismatch { .. })));
    let wrong_root = EnrolmentResponse { root_base64: BASE64_STANDARD.encode(&other.root), ..good.clone() };
    assert!(matches!(check(&token, &key, &wrong_root), Err(EnrolError::RootMismatch { .. })));
    let bad = [
        EnrolmentResponse { ca_pem: "x".into(), ..good.clone() },
        EnrolmentResponse { root_base64: "!".into(), ..good.clone() },
        EnrolmentResponse { certificate_pem: "x".into(), ..good.clone() },
        EnrolmentResponse { certificate_pem: "x".repeat(MAX_PEM_BYTES + 1), ..good.clone() },
        server.response("cam-2", &key),
        server.response("cam-1", &self::key()),
    ];
    for response in bad {
        assert!(matches!(check(&token, &key, &response), Err(EnrolError::BadAnswer(_))), "{response:?}");
    }
}

#[test]
fn another_root_keeps_what_serves_and_every_floor_but_its_own() {
    let (first, second, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let config = config(folder.path());
    disk::make_folder(&config.state_dir).unwrap();
    prepare_record(&config, &first.token(), Timestamp::UNIX_EPOCH).unwrap();
    let store = Store::open(&config.state_dir);
    let floor = |role: &str| tuf::RoleFloor { role: role.into(), key_set: Digest::of(b"k"), version: 9 };
    let (model, keys) = ("vision/digits".parse().unwrap(), Digest::of(b"team"));
    let recalled: Standing = serde_json::from_value(serde_json::json!({"recalled": {"1.0.0": "labels"}})).unwrap();
    let record = crate::state::ModelRecord::new(Timestamp::UNIX_EPOCH);
    store
        .update_blocking(|s| {
            s.raise_floors(&[floor("timestamp"), floor("root")]);
            s.take_standing(&model, keys, &recalled);
            s.models.insert("vision/digits".parse().unwrap(), record);
        })
        .unwrap();
    drop(store);
    prepare_record(&config, &first.token(), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(Store::peek(&config.state_dir).unwrap().floors.len(), 2);
    prepare_record(&config, &second.token(), Timestamp::UNIX_EPOCH).unwrap();
    let state = Store::peek(&config.state_dir).unwrap();
    assert_eq!((state.floors.len(), state.models.len()), (1, 1));
    assert_eq!(state.floor("timestamp", &Digest::of(b"k")), 9, "a ceremony gives tokens another root to pin");
    assert_eq!(state.standing(&"vision/digits".parse().unwrap()), recalled);
}

#[test]
fn enrolment_takes_back_a_time_and_a_generation_that_a_thief_signed() {
    let (server, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (config, token) = (config(folder.path()), server.token());
    disk::make_folder(&config.state_dir).unwrap();
    prepare_record(&config, &token, "2026-06-01T00:00:00Z".parse().unwrap()).unwrap();
    let store = Store::open(&config.state_dir);
    let (end, last) = (Timestamp::MAX, Generation(u64::MAX));
    let mut record = crate::state::ModelRecord { generation: last, ..crate::state::ModelRecord::new(end) };
    record.refused = Some(crate::state::Refused {
        manifest: Digest::of(b"m"),
        generation: last,
        code: tern_protocol::refusal::RefusalCode::LoadFailed,
        agent: "0.1.0".parse().unwrap(),
    });
    store
        .update_blocking(|s| {
            let (digest, envelope) = (Digest::of(b"d"), "{}".into());
            let desired = crate::state::DesiredRecord { generation: last, digest, envelope };
            s.take_desired(desired, &[KeyId("k".into())], end);
            s.models.insert("vision/digits".parse().unwrap(), record);
        })
        .unwrap();
    drop(store);
    prepare_record(&config, &token, "2026-07-01T00:00:00Z".parse().unwrap()).unwrap();
    let state = Store::open(&config.state_dir).state();
    assert_eq!(state.time_floor.to_string(), "2026-07-01T00:00:00Z");
    assert_eq!((state.director_times.len(), state.generations.len(), state.desired), (0, 0, None));
    let record = state.models.values().next().unwrap();
    assert_eq!((record.generation, record.refused.as_ref().unwrap().generation), (Generation(0), Generation(0)));
    assert_eq!(state.sequence, 2, "higher than what it replaces, or a power cut would bring that back");
}

#[test]
fn a_lost_answer_costs_no_token() {
    let (server, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (config, token) = (config(folder.path()), server.token());
    disk::make_folder(&config.state_dir).unwrap();
    let first = pending::key(&config.state_dir, Token::One(token.clone()).digest()).unwrap();
    let path = pending::path(&config.state_dir);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, disk::SECRET);
    // The server has certified the first key; its answer was lost, and the machine started again.
    let key = pending::key(&config.state_dir, Token::One(token.clone()).digest()).unwrap();
    settle(&config, &token, &key, &server.response("cam-1", &first), false).unwrap();
    assert!(!path.exists(), "the identity holds the key now");
    assert!(Identity::load(&config.identity_dir()).unwrap().is_some());
}

#[test]
fn a_pending_key_counts_for_its_token_only_and_if_it_is_whole() {
    let (server, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (token, other) = (server.token(), EnrolmentToken { secret: "other".into(), ..server.token() });
    let key =
        |token| pending::key(folder.path(), Token::One(EnrolmentToken::clone(token)).digest()).unwrap().serialize_pem();
    let first = key(&token);
    assert_eq!(key(&token), first);
    let second = key(&other);
    assert_ne!(second, first);
    disk::write_file(&pending::path(folder.path()), b"rot", disk::SECRET).unwrap();
    assert_ne!(key(&other), second);
}

#[tokio::test]
async fn a_bad_token_or_an_absent_server_leaves_no_identity() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    assert!(matches!(run(&config, "tern-enrol-1.x", None, false).await, Err(EnrolError::Token(_))));
    let token = Authority::new().token().encode();
    let pending = pending::path(&config.state_dir);
    assert!(matches!(run(&config, &token, None, false).await, Err(EnrolError::Unreachable { .. })));
    let key = disk::read_bounded(&pending, 1 << 14).unwrap().expect("the key was durable before the server was asked");
    assert!(matches!(run(&config, &token, None, false).await, Err(EnrolError::Unreachable { .. })));
    assert_eq!(disk::read_bounded(&pending, 1 << 14).unwrap(), Some(key), "the same key is asked with again");
    assert!(!config.identity_dir().exists());
    disk::make_folder(&config.identity_dir()).unwrap();
    assert!(matches!(run(&config, &token, None, false).await, Err(EnrolError::AlreadyEnrolled(_))));
    assert!(!pending.exists());
}
