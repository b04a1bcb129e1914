//! What every attack on a device shares: the attacker's server, the device, the witness, and what is asserted each time.
//!
//! A rig begins with an honest release installed and answering, and ends with another that is installed well: the device
//! was not merely broken. In between each variant is tried, and must end in exactly the refusal that is expected, while the
//! active version stays what it was and goes on answering.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tern_fleet_server::{ca::Authority, clock};
use tern_protocol::{
    api,
    desired::{DesiredModel, DesiredState, FORMAT, Settings},
    digest::Digest,
    enrolment::{EnrolmentRequest, EnrolmentResponse, EnrolmentToken},
    ids::Generation,
    refusal::RefusalCode,
    signed,
};

pub(crate) mod device;
pub(crate) mod fleet;
pub(crate) mod https;
pub(crate) mod intruder;
mod listener;
pub(crate) mod mqtt;
mod patience;
pub(crate) mod people;
pub(crate) mod release;
pub(crate) mod repository;
pub(crate) mod score;
pub(crate) mod witness;

use device::Device;
use fleet::Fleet;
use https::{Desk, Https};
use mqtt::Mqtt;
pub(crate) use patience::wait;
use release::{MODEL, Release};
use repository::{Files, Key, Keys, Publication, Role};
use score::Score;
use witness::Witness;

pub(crate) const FLEET: &str = "plant";

/// What a demand is to end in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) code: RefusalCode,
    /// The code where the device asked before, and the server's answer to that changed what it holds.
    pub(crate) again: RefusalCode,
    /// Words of the message that tell this refusal from others of its code.
    pub(crate) words: &'static str,
}

pub(crate) fn refused(code: RefusalCode, words: &'static str) -> Expected {
    Expected { code, again: code, words }
}

pub(crate) struct Rig {
    pub(crate) keys: Keys,
    pub(crate) authority: Arc<Authority>,
    /// Roots after the pinned one; every publication has them.
    pub(crate) roots: Vec<Role>,
    pub(crate) https: Https,
    pub(crate) mqtt: Mqtt,
    pub(crate) device: Device,
    /// The version that answers.
    pub(crate) active: Release,
    /// An honest version that is not installed yet.
    pub(crate) next: Release,
    pub(crate) generation: u64,
    pub(crate) version: u64,
    pub(crate) witness: Option<Witness>,
    pub(crate) score: Score,
    variants: u64,
    /// Of witnesses that have ended.
    answers: u64,
    _scratch: tempfile::TempDir,
}

/// The server's part in an enrolment.
fn registrar(authority: Arc<Authority>, root: Vec<u8>, mqtt: Arc<Mutex<String>>) -> Desk {
    Box::new(move |method, path, body| {
        if (method, path) != ("POST", api::ENROL) {
            return None;
        }
        let request: EnrolmentRequest = serde_json::from_slice(body).ok()?;
        let certificate = authority.certify(&request.device, &request.csr_pem, clock::now()).ok()?;
        let answer = EnrolmentResponse {
            fleet: FLEET.parse().ok()?,
            certificate_pem: certificate.pem,
            ca_pem: authority.pem().to_owned(),
            root_base64: BASE64_STANDARD.encode(&root),
            mqtt_address: mqtt.lock().ok()?.clone(),
        };
        serde_json::to_vec(&answer).ok()
    })
}

fn enrol(device: &Device, https: &Https, authority: &Authority, root: &[u8]) {
    let token = EnrolmentToken {
        server: format!("https://localhost:{}", https.address.port()),
        device: device.name.parse().unwrap(),
        secret: "once".into(),
        ca_sha256: authority.sha256(),
        root_sha256: Digest::of(root),
    };
    let (enrolled, said) = device.enrol(&token.encode());
    assert!(enrolled, "{said}");
}

impl Rig {
    /// A device on which the quickstart's 1.0.0 answers, enrolled with the attacker's server.
    pub(crate) fn new(attack: &'static str) -> Self {
        Self::with(attack, "", &[])
    }

    /// The same with more in the device's configuration and in its agent's environment.
    pub(crate) fn with(attack: &'static str, config: &str, environment: &[(&'static str, String)]) -> Self {
        let score = Score::begin(attack);
        let scratch = tempfile::Builder::new().prefix("tern-a").tempdir().unwrap();
        let keys = Keys::new();
        let authority = Arc::new(Authority::create(scratch.path(), "tern attacks", clock::now()).unwrap());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let any = "127.0.0.1:0".parse().unwrap();
        let mqtt = Mqtt::start(any, authority.mqtt(&names, clock::now()).unwrap());
        let root = keys.root(1).bytes();
        let address = Arc::new(Mutex::new(format!("localhost:{}", mqtt.address.port())));
        let desk = registrar(authority.clone(), root.clone(), address);
        let https = Https::start(any, authority.https(&names, clock::now()).unwrap(), desk);
        let mut device = Device::new(scratch.path(), "cam-1", config);
        device.environment = environment.to_vec();
        enrol(&device, &https, &authority, &root);
        device.start();
        let (active, next) = (Release::quickstart("1.0.0"), Release::quickstart("1.1.0"));
        let mut rig = Self {
            keys,
            authority,
            roots: Vec::new(),
            https,
            mqtt,
            device,
            active,
            next,
            generation: 0,
            version: 100,
            witness: None,
            score,
            variants: 0,
            answers: 0,
            _scratch: scratch,
        };
        rig.publish_honestly();
        rig.demand(rig.active.desired());
        rig.await_committed("1.0.0");
        rig.witness = Some(Witness::start(rig.device.socket(), "1.0.0"));
        rig
    }

    /// A real server's device, after its server was replaced on the same addresses by one of the attacker's, who has
    /// a copy of the whole data folder in `stolen`. `keys` are the fleet's by then, and `roots` lead to them.
    pub(crate) fn steal(fleet: Fleet, stolen: &Path, keys: Keys, roots: Vec<Role>) -> Self {
        let Fleet { server, https, mqtt, device, score, witness, scratch, .. } = fleet;
        let generation = device.status()["twin"]["generation"].as_u64().expect("a generation");
        drop(server);
        let authority = Arc::new(Authority::open(&stolen.join("ca")).unwrap());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mqtt = Mqtt::start(mqtt, authority.mqtt(&names, clock::now()).unwrap());
        let https = Https::start(https, authority.https(&names, clock::now()).unwrap(), Box::new(|_, _, _| None));
        // The server counts the versions of its online roles by the clock.
        let version = u64::try_from(clock::now().as_second()).unwrap() + 1000;
        let (active, next) = (Release::quickstart("1.0.0"), Release::quickstart("1.1.0"));
        let variants = 0;
        Self {
            keys,
            authority,
            roots,
            https,
            mqtt,
            device,
            active,
            next,
            generation,
            version,
            witness,
            score,
            variants,
            answers: 0,
            _scratch: scratch,
        }
    }

    /// The version that the next root must have.
    pub(crate) fn next_root(&self) -> u64 {
        self.roots.last().map_or(1, Role::version) + 1
    }

    /// The next publication, honest so far, that lists these beside the active version. Its versions are higher than any before.
    pub(crate) fn publication(&mut self, more: &[&Release]) -> Publication {
        self.publication_of(more, &[])
    }

    /// The same with these candidates.
    pub(crate) fn publication_of(&mut self, more: &[&Release], candidates: &[&Release]) -> Publication {
        self.version += 10;
        let mut releases = vec![&self.active, &self.next];
        releases.extend(more);
        let mut publication = Publication::honest(&self.keys, self.version, &releases, candidates);
        publication.roots.clone_from(&self.roots);
        publication
    }

    pub(crate) fn publish_honestly(&mut self) {
        let files = self.publication(&[]).files();
        self.https.serve(files);
    }

    /// A version that nobody released, unlike any of before; its model file is its own and cannot be loaded.
    pub(crate) fn evil(&mut self) -> Release {
        self.variants += 1;
        self.next.renamed(&format!("6.6.{}", self.variants)).unique(&format!("evil {} ", self.variants))
    }

    /// The next desired state: this demand, beside nothing else.
    pub(crate) fn state(&mut self, demand: DesiredModel) -> DesiredState {
        self.generation += 1;
        DesiredState {
            format: FORMAT,
            fleet: FLEET.parse().unwrap(),
            device: self.device.name.parse().unwrap(),
            generation: Generation(self.generation),
            issued: repository::in_days(0).parse().unwrap(),
            expires: repository::in_days(7).parse().unwrap(),
            models: vec![demand],
            settings: Settings { report_interval_seconds: 1, window_seconds: 1 },
        }
    }

    /// Sends a desired state, signed by these keys; its bytes.
    pub(crate) fn send(&self, state: &DesiredState, signers: &[&Key]) -> Vec<u8> {
        let bytes = signed::sign(state, &signers.iter().map(|key| &***key).collect::<Vec<_>>()).unwrap();
        self.mqtt.send("desired", bytes.clone());
        bytes
    }

    /// Demands a version by the director's own key.
    pub(crate) fn demand(&mut self, demand: DesiredModel) {
        let state = self.state(demand);
        self.send(&state, &[&self.keys.director]);
    }

    /// Has the device run another version honestly, which is then what it takes back to; the witness looks away meanwhile.
    pub(crate) fn install(&mut self, demand: &DesiredModel, version: &str) {
        if let Some(witness) = self.witness.take() {
            self.answers += witness.end();
        }
        self.demand(demand.clone());
        self.await_committed(version);
        if version == self.active.named.version.to_string() {
            self.witness = Some(Witness::start(self.device.socket(), version));
        }
    }

    pub(crate) fn await_committed(&self, version: &str) {
        wait(&format!("{version} is committed"), || {
            // A version is committed by its first answer.
            witness::ask_once(&self.device.socket(), version);
            let model = self.device.model(MODEL);
            (model["version"] == version && model["state"] == "committed").then_some(())
        });
    }

    /// One variant: these files are served, `release` is demanded, and that must be refused so.
    pub(crate) fn attempt(&mut self, variant: &str, files: Files, release: &Release, expected: Expected) {
        self.https.serve(files);
        self.try_demand(variant, release.desired(), expected);
    }

    /// One variant whose files and tricks are laid already.
    pub(crate) fn try_demand(&mut self, variant: &str, demand: DesiredModel, expected: Expected) {
        let version = demand.version.to_string();
        self.demand(demand);
        self.expect_refusal(variant, &version, expected);
    }

    /// The newest demand, of this version, is refused so; the active version is untouched.
    pub(crate) fn expect_refusal(&mut self, variant: &str, version: &str, expected: Expected) {
        self.expect_refusal_of(variant, MODEL, version, expected);
    }

    /// The same for a model of any name.
    pub(crate) fn expect_refusal_of(&mut self, variant: &str, model: &str, version: &str, expected: Expected) {
        let found = wait(&format!("{variant}: {model}@{version} is refused"), || {
            let model = self.device.model(model);
            let error = &model["last_error"];
            let is_it = error["version"] == version && error["generation"] == self.generation;
            is_it.then(|| error.clone())
        });
        self.assert_refusal(variant, &found, expected);
    }

    /// What the device said last of a desired state.
    pub(crate) fn last_error(&self) -> Value {
        self.device.status()["twin"]["last_error"].clone()
    }

    /// The newest desired state is refused so, before anything of it is looked at.
    pub(crate) fn expect_state_refusal(&mut self, variant: &str, before: &Value, expected: Expected) {
        let found = wait(&format!("{variant}: the state is refused"), || {
            let error = self.last_error();
            (!error.is_null() && error != *before).then_some(error)
        });
        self.assert_refusal(variant, &found, expected);
    }

    fn assert_refusal(&mut self, variant: &str, found: &Value, expected: Expected) {
        let (code, message) = (&found["code"], found["message"].as_str().unwrap_or_default());
        let is_it = [expected.code, expected.again].map(|c| c.as_str()).iter().any(|expected| code == expected);
        assert!(is_it, "{variant}: {expected:?}, but {found}; its log ends with\n{}", self.device.log_tail());
        assert!(message.contains(expected.words), "{variant}: {:?} is not in {message:?}", expected.words);
        wait(&format!("{variant}: the server hears of it"), || {
            let twin: Value = serde_json::from_slice(&self.mqtt.twin()).ok()?;
            let models = twin["models"].as_array()?.iter().map(|model| &model["last_error"]["code"]);
            models.chain([&twin["last_error"]["code"]]).any(|heard| heard == code).then_some(())
        });
        self.assert_untouched(variant);
        self.score.refused();
    }

    /// What was tried was refused in another way than by a refusal of a demand, as the test has asserted.
    pub(crate) fn refused_otherwise(&mut self, variant: &str) {
        self.assert_untouched(variant);
        self.score.refused();
    }

    /// The active version is what it was, and answers.
    pub(crate) fn assert_untouched(&self, variant: &str) {
        let model = self.device.model(MODEL);
        let expected = json!([self.active.named.version, self.active.digest()]);
        assert_eq!(json!([model["version"], model["digest"]]), expected, "{variant}: {model}");
        let worker = self.device.status()["worker"].clone();
        assert_eq!(worker["deaths"], 0, "{variant}: {worker}");
        if let Some(witness) = &self.witness {
            witness.still_answered(variant);
        }
    }

    /// Kills and starts the agent; `meanwhile` is done to its disk.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        let witness = self.witness.take().expect("a witness");
        {
            let _silence = witness.silence();
            self.device.kill();
            meanwhile(&self.device.folder.join("state"));
            self.device.start();
        }
        self.witness = Some(witness);
    }

    /// Ends the attack: an honest release is taken over after all of it, so it was the attacks that were refused.
    pub(crate) fn finish(mut self) {
        self.publish_honestly();
        let next = self.next.clone();
        self.take(&next);
    }

    /// Ends the attack: this version, which what is served releases, is taken over after all of it.
    pub(crate) fn take(mut self, release: &Release) {
        assert_eq!(self.https.strangers(), Vec::<String>::new(), "everything is asked for with the certificate");
        let answers = self.witness.take().expect("a witness").end();
        self.demand(release.desired());
        let version = release.named.version.to_string();
        self.await_committed(&version);
        let witness = Witness::start(self.device.socket(), &version);
        witness.still_answered("after the attack");
        self.score.end(self.answers + answers + witness.end());
    }

    /// Ends the attack where it left the device nothing to take over.
    pub(crate) fn leave(mut self) {
        self.assert_untouched("at the end");
        let answers = self.witness.take().expect("a witness").end();
        self.score.end(self.answers + answers);
    }
}
