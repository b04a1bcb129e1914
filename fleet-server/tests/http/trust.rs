//! Root and targets of a ceremony on a running server: taken as devices take them, refused for what is wrong with them, and
//! followed by desired states and lists that count under them.

use base64::{Engine, prelude::BASE64_STANDARD};
use tern_fleet_server::{
    ceremony::{
        signing::{Envelope, Papers, Sheets},
        trust::{Edition, ROOT_LIFE, RoleKeys, RootTrust, TARGETS_LIFE, TargetsTrust, TeamTrust},
    },
    forms::{
        ClaimTicket,
        proposals::ProposalDetail,
        trust::{TrustNow, TrustPublished, TrustUpload},
    },
    keyfile,
    proposals::ProposalState,
};
use tern_protocol::{
    enrolment::{ClaimResponse, ClaimToken, EnrolmentRequest},
    keys::SigningKey,
};

use super::{
    proposals::{Two, list, propose},
    *,
};

const METADATA: &str = "/api/v1/trust/metadata";
const MODEL: &str = "demo/m@1.0.0";

/// What is in force, and what is to follow.
struct Ceremony {
    papers: Papers,
    root: RootTrust,
    targets: TargetsTrust,
}

impl Ceremony {
    async fn of(rig: &Rig) -> Self {
        let now: TrustNow = rig.admin().get(METADATA).await.ok();
        let bytes = |value: &Value| value.to_string().into_bytes();
        let sheets =
            Sheets { root: now.roots.last().map(bytes), targets: Some(bytes(&now.targets)), ..Sheets::default() };
        let papers = Papers::read(&sheets).unwrap();
        let root = papers.root.as_ref().unwrap().content.0.clone();
        let targets = papers.targets.as_ref().unwrap().content.0.clone();
        Self { papers, root, targets }
    }

    /// Both as they are to follow, signed by these.
    fn upload(&self, signers: &[&SigningKey]) -> TrustUpload {
        let present = |envelope: &Envelope| Some(envelope.to_bytes());
        let (root, targets) = (self.papers.root.as_ref().unwrap(), self.papers.targets.as_ref().unwrap());
        let next_root = Edition::after(Some(root.content.1), ROOT_LIFE, clock::now());
        let next_targets = Edition::after(Some(targets.content.1), TARGETS_LIFE, clock::now());
        let mut papers = Papers::read(&Sheets {
            root: present(&root.envelope),
            targets: present(&targets.envelope),
            next_root: present(&Envelope::unsigned(self.root.document(next_root))),
            next_targets: present(&Envelope::unsigned(self.targets.document(next_targets))),
        })
        .unwrap();
        signers.iter().for_each(|key| drop(papers.sign(key).unwrap()));
        let value = |envelope: &Envelope| Some(serde_json::from_slice(&envelope.to_bytes()).unwrap());
        TrustUpload {
            root: value(&papers.next_root.unwrap().envelope),
            targets: value(&papers.next_targets.unwrap().envelope),
        }
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn server_key(rig: &Rig, name: &str) -> SigningKey {
    keyfile::read(&rig.folder.path().join(format!("data/keys/{name}.key"))).unwrap()
}

async fn put(rig: &Rig, upload: &TrustUpload) -> rig::Reply {
    rig.admin().put(METADATA, serde_json::to_vec(upload).unwrap()).await
}

/// Both make a device that goes from the pinned root to the newest; a root that never was uses none of them up.
async fn early_tokens_count(rig: &Rig, token: &EnrolmentToken, listed: &ClaimTicket) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut request = enrolment_request(token, &key);
    request.root_sha256 = Some(Digest::of(b"never"));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let foreign = EnrolmentRequest { csr_pem: enrolment_request(token, &other).csr_pem, ..request.clone() };
    assert_eq!(rig.stranger().post("/api/v1/enrol", &foreign).await.problem(), (409, "unknown-root".into()));
    request.root_sha256 = Some(token.root_sha256);
    let response: EnrolmentResponse = rig.stranger().post("/api/v1/enrol", &request).await.ok();
    let root = BASE64_STANDARD.decode(&response.root_base64).unwrap();
    assert_eq!(Digest::of(&root), token.root_sha256);
    let device = Enrolled { name: "cam-2".into(), token: token.clone(), key, response };
    assert_eq!(updater(rig, &device).await.trusted().root().version, 2);
    // Who does not say which, as older agents, is given the newest.
    request.root_sha256 = None;
    let newest: EnrolmentResponse = rig.stranger().post("/api/v1/enrol", &request).await.ok();
    assert_ne!(newest.root_base64, device.response.root_base64);

    let claim = ClaimToken::decode(&listed.token).unwrap();
    let mut request = json!({
        "serial": "SN-3", "secret": claim.secret, "csr_pem": request.csr_pem, "device_class": "pi",
        "agent_version": "1.0.0", "root_sha256": Digest::of(b"never"),
    });
    assert_eq!(rig.stranger().post("/api/v1/claim", &request).await.problem(), (409, "unknown-root".into()));
    request["root_sha256"] = json!(claim.root_sha256);
    let claimed: ClaimResponse = rig.stranger().post("/api/v1/claim", &request).await.ok();
    assert_eq!(claimed.enrolment.root_base64, device.response.root_base64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_solo_fleet_becomes_one_of_several_people_and_its_devices_follow() {
    let rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    rig.publish(MODEL, b"weights").await;
    let _: Assigned = assign(&rig, MODEL, "*").await.ok();
    let mut ceremony = Ceremony::of(&rig).await;
    assert!(rig.admin().get(METADATA).await.ok::<TrustNow>().solo);
    let (anna, ben) = (key(), key());
    ceremony.root.root = RoleKeys::new(2, [anna.public(), ben.public()]);
    ceremony.root.targets = RoleKeys::new(2, [anna.public(), ben.public()]);
    let old = server_key(&rig, "root-1");

    // Without those who were, or with one of those who will be, it is no root.
    for signers in [&[&anna, &ben][..], &[&old, &anna]] {
        let (status, code) = put(&rig, &ceremony.upload(signers)).await.problem();
        assert_eq!((status, code.as_str()), (422, "bad-trust"));
    }
    let upload = ceremony.upload(&[&old, &anna, &ben]);
    // Tokens that were ordered before the ceremony pin the root before it.
    let (early, listed) = (rig.order("cam-2").await, json!([{"serial": "SN-3", "device": "cam-3"}]));
    let listed = json!({"devices": listed, "valid_seconds": 600});
    let listed: ClaimTicket = rig.admin().post("/api/v1/claims", &listed).await.ok();
    let published: TrustPublished = put(&rig, &upload).await.ok();
    assert_eq!((published.root_version, published.targets_version, published.solo), (2, 2, false));
    assert_eq!(published.roles_to_sign_again, Vec::<String>::new());
    for file in ["keys/root-1.key", "keys/targets-1.key"] {
        assert!(published.useless_keys.iter().any(|useless| useless == file), "{:?}", published.useless_keys);
    }
    assert!(!published.useless_keys.iter().any(|file| file.contains("director")), "{:?}", published.useless_keys);
    // The answer was lost and it is sent again: nothing is wrong, and nothing changes.
    assert_eq!(put(&rig, &upload).await.ok::<TrustPublished>().root_version, 2);

    early_tokens_count(&rig, &EnrolmentToken::decode(&early.token).unwrap(), &listed).await;

    // From now on nobody releases their own version alone.
    let own = rig.publish_bundle("demo/m@1.0.1", bundle("demo/m@1.0.1", b"weights two")).await;
    assert_eq!(own.reply.problem(), (403, "own-version".into()));

    // A device goes from its pinned root to this one and finds what it ran.
    assert_eq!(updater(&rig, &device).await.trusted().root().version, 2);
    let mut link = agent(&rig, &device, 0).await;
    assert_eq!(admitted(&rig, &device, &link.message().await).await.models[0].model_version(), MODEL.parse().unwrap());
    rig.event("trust-published", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_keys_of_director_and_team_count_from_then_on_and_the_old_ones_do_not() {
    let mut rig = Rig::start().await;
    let device = rig.enrol("cam-1").await;
    rig.publish(MODEL, b"weights").await;
    let before: Assigned = assign(&rig, MODEL, "*").await.ok();
    let (root, targets) = (server_key(&rig, "root-1"), server_key(&rig, "targets-1"));

    // A director's key that does not lie on the server would silence it.
    let mut ceremony = Ceremony::of(&rig).await;
    ceremony.root.director = RoleKeys::one(key().public());
    let missing = put(&rig, &ceremony.upload(&[&root, &targets])).await.problem();
    assert_eq!(missing, (409, "server-key-missing".into()));

    let file = rig.folder.path().join("data/keys/director-2.key");
    let (director, released) = (keyfile::create(&file, None).unwrap(), key());
    // For a ceremony to come.
    keyfile::create(&rig.folder.path().join("data/keys/snapshot-2.key"), None).unwrap();
    ceremony.root.director = RoleKeys::one(director.public());
    let demo = ceremony.targets.teams.get_mut(&"demo".parse().unwrap()).unwrap();
    *demo = TeamTrust { release: RoleKeys::one(released.public()), ..demo.clone() };
    let published: TrustPublished = put(&rig, &ceremony.upload(&[&root, &targets])).await.ok();
    assert_eq!(published.roles_to_sign_again, ["demo"]);
    let own: Vec<_> = published.useless_keys.iter().filter(|file| file.starts_with("keys/")).collect();
    assert_eq!(own, ["keys/director-1.key"]);

    // Desired states are signed anew, under a newer generation, by the key that counts.
    let mut link = agent(&rig, &device, 0).await;
    let state = admitted(&rig, &device, &link.message().await).await;
    assert!(state.generation > before.devices[&device.token.device]);

    // The team's old key signs nothing any more, its new one does; also after a restart.
    rig.restart().await;
    let list = rig.team_role("demo", &[]).await;
    let signed = |key: &SigningKey| sign_value(list.clone(), &[key]).unwrap();
    let path = "/api/v1/teams/demo/metadata";
    let old = rig.admin().put(path, signed(&rig.release_key("demo"))).await.problem();
    assert_eq!(old, (422, "under-threshold".into()));
    rig.admin().put(path, signed(&released)).await.empty();
    assert_eq!(rig.admin().get(METADATA).await.ok::<TrustNow>().roles_to_sign_again, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_new_keys_sign_again_wants_no_second_approval_and_what_was_never_approved_does() {
    let mut two = Two::start().await;
    let (withdrawn, never) = ("demo/m@1.1.0", "demo/m@1.2.0");
    two.published(MODEL).await;
    two.published(withdrawn).await;
    let both = |two: &Two| two.keys.each_ref().map(|key| SigningKey::from_pkcs8(key.to_pkcs8()).unwrap());
    let mut less = list(&two.rig, &[]).await;
    let path = withdrawn.parse::<ModelVersion>().unwrap().target_path();
    let entry = less["targets"].as_object_mut().unwrap().remove(&path).unwrap();
    let [one, other] = both(&two);
    let done: ProposalDetail = propose(&two.ann, &less, &[&one, &other]).await.ok();
    assert_eq!(done.row.state, ProposalState::Published);

    // Both of the team's keys are others from now on.
    two.keys = [key(), key()];
    let mut ceremony = Ceremony::of(&two.rig).await;
    let demo = ceremony.targets.teams.get_mut(&"demo".parse().unwrap()).unwrap();
    let release = RoleKeys::new(2, two.keys.iter().map(SigningKey::public));
    *demo = TeamTrust { release, ..demo.clone() };
    let upload = ceremony.upload(&[&two.rig.operator_key("root"), &two.rig.operator_key("targets")]);
    assert_eq!(put(&two.rig, &upload).await.ok::<TrustPublished>().roles_to_sign_again, ["demo"]);
    assert!(!two.version(MODEL).await.row.signed, "its list does not count");

    let [one, other] = both(&two);
    let keys = [&one, &other];
    // One author with every key: what was never approved, and what was taken off the list, want another's word as ever.
    let mut back = list(&two.rig, &[]).await;
    back["targets"][&path] = entry;
    for (new, signed) in [(never, two.uploaded(never).await), (withdrawn, back)] {
        let put = two.ann.put("/api/v1/teams/demo/metadata", sign_value(signed.clone(), &keys).unwrap()).await;
        assert_eq!(put.problem(), (403, "own-version".into()), "{new}");
        let made: ProposalDetail = propose(&two.ann, &signed, &keys).await.ok();
        assert_eq!(made.row.state, ProposalState::Open, "{new}");
        assert_eq!(made.row.change.adds, [new.parse().unwrap()]);
        let wanted = made.row.wants.unwrap();
        assert!(wanted.contains("other than ann") && wanted.contains(new), "{wanted}");
    }
    // The list as it was needs the threshold, and nobody's word besides.
    let same = list(&two.rig, &[]).await;
    let made: ProposalDetail = propose(&two.ann, &same, &keys[..1]).await.ok();
    assert_eq!(made.row.wants.as_deref(), Some("1 of 2 signatures"));
    let done = two.ann.put("/api/v1/teams/demo/metadata", sign_value(same, &keys).unwrap()).await;
    done.empty();
    assert!(two.version(MODEL).await.row.signed);
    assert!(!two.version(withdrawn).await.row.signed && !two.version(never).await.row.signed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_certificates_that_the_server_lacks_are_not_told_to_devices() {
    let rig = Rig::start().await;
    let mut ceremony = Ceremony::of(&rig).await;
    ceremony.targets.ca_bundle = Some(tern_fleet_server::ceremony::trust::CaBundle::of(b"nowhere"));
    let keys = [&server_key(&rig, "root-1"), &server_key(&rig, "targets-1")];
    assert_eq!(put(&rig, &ceremony.upload(&keys)).await.problem(), (422, "bad-trust".into()));
    let nothing = TrustUpload::default();
    assert_eq!(put(&rig, &nothing).await.ok::<TrustPublished>().root_version, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_signed_document_is_refused_and_nothing_dies_of_it() {
    let rig = Rig::start().await;
    for odd in [json!("text"), json!([]), json!(7), json!({}), json!({"signed": "text", "signatures": []})] {
        for upload in [
            TrustUpload { root: Some(odd.clone()), ..TrustUpload::default() },
            TrustUpload { targets: Some(odd.clone()), ..TrustUpload::default() },
        ] {
            assert_eq!(put(&rig, &upload).await.problem(), (422, "bad-trust".into()), "{odd}");
        }
    }
    assert_eq!(put(&rig, &TrustUpload::default()).await.ok::<TrustPublished>().root_version, 1);
}
