//! Texts that people write or that stand in addresses: names, topics, selectors, rollout policies, configurations, bundles.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    str::FromStr,
};

use tern_fleet_server::{
    bundle,
    enrolment::serials,
    forms::ClaimOrder,
    identity::cases::{self, Expected},
    rollout::Policy,
    selector::Selector,
};
use tern_protocol::{
    desired::{DesiredModel, Probation, Swap},
    digest::Digest,
    ids::{DeviceId, Labels, ModelVersion, Version},
    manifest::{Manifest, is_plain_path},
    topics::{self, DeviceTopic},
};

use super::telemetry::Spoken;
use crate::{
    corpus::put,
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("names", Form::Text, Pace::Call, || Box::new(Names)),
        Kind::new("topics", Form::Text, Pace::Call, || Box::new(Topics)),
        Kind::new("selector", Form::Text, Pace::Call, || Box::new(Selectors)),
        Kind::new("policy-toml", Form::Text, Pace::Call, || Box::new(Policies)),
        Kind::new("policy-json", Form::Json, Pace::Call, || Box::new(Spoken::<Policy>(policy_json(), use_policy))),
        Kind::new("serials-csv", Form::Text, Pace::Call, || Box::new(Serials)),
        Kind::new("policy-cases", Form::Text, Pace::Call, || Box::new(PolicyCases)),
        Kind::new("agent-toml", Form::Text, Pace::Call, || Box::new(AgentConfigs)),
        Kind::new("server-toml", Form::Text, Pace::Slow, || Box::new(ServerConfigs(scratch()))),
        Kind::new("bundle-toml", Form::Text, Pace::Exchange, || Box::new(Bundles::new())).within(256),
    ]
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

fn example(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn texts(texts: &[&str]) -> Vec<(String, Vec<u8>)> {
    texts.iter().enumerate().map(|(number, text)| (format!("{number}.txt"), text.as_bytes().into())).collect()
}

struct Names;

impl Target for Names {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let digest = Digest::of(b"x").to_string();
        texts(&[
            "cam-01",
            "1.0.0",
            "1.20.300-rc.1",
            "demo/meter-digits",
            "demo/m@1.0.0-a.b.1",
            &digest,
            "models/demo/m/1.0.0/manifest.json",
        ])
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(input);
        let is_version = text.parse::<ModelVersion>().is_ok_and(|version| {
            assert_eq!(ModelVersion::from_target_path(&version.target_path()).as_ref(), Some(&version));
            assert_eq!(ModelVersion::from_candidate_path(&version.candidate_path()).as_ref(), Some(&version));
            assert!(is_plain_path(&version.target_path()), "a name leaves its folder");
            version.to_string() == text
        });
        let known = [
            kept::<DeviceId>(&text),
            kept::<tern_protocol::ids::ModelName>(&text),
            kept::<Version>(&text),
            kept::<Digest>(&text),
            is_version,
            ModelVersion::from_target_path(&text).is_some_and(|version| version.target_path() == text),
        ];
        Verdict::of(known.contains(&true))
    }
}

/// Whether the text is such a name; then it is its only form.
fn kept<T: FromStr + ToString>(text: &str) -> bool {
    let Ok(name) = text.parse::<T>() else { return false };
    assert_eq!(name.to_string(), text);
    assert!(!text.contains(['#', '+', '\0', ' ']) && !text.contains(".."), "{text:?}");
    true
}

struct Topics;

impl Target for Topics {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        texts(&[
            "tern/v1/f/cam-1/status",
            "tern/v1/f/cam-1/m/digits",
            "tern/v1/f/cam-1/m/system",
            "tern/v1/f/cam-1/report",
            "tern/v1/f/cam-1/desired",
        ])
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(input);
        let (fleet, device) = ("f".parse().expect("a name"), "cam-1".parse().expect("a name"));
        for retain in [true, false] {
            if let Ok(channel) = topics::may_publish(&fleet, &device, &text, retain) {
                let topic = DeviceTopic { fleet: fleet.clone(), device: device.clone(), channel };
                assert_eq!(topic.to_string(), text, "only below the device's own name");
                assert_eq!(topic.channel.retained(), retain);
            }
        }
        let _ = topics::may_subscribe(&fleet, &device, &text);
        let _ = topics::may_read(&fleet, &text);
        let Ok(topic) = DeviceTopic::parse(&text) else { return Verdict::Refused };
        assert_eq!(topic.to_string(), text);
        Verdict::Accepted
    }
}

struct Selectors;

impl Target for Selectors {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        texts(&[
            "*",
            "site=hall-2,class!=old,line in (a,b),camera,!spare",
            "device in (cam-1, cam-2)",
            "line notin (c)",
        ])
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(selector) = String::from_utf8_lossy(input).parse::<Selector>() else { return Verdict::Refused };
        let again: Selector = selector.to_string().parse().expect("its text is a selector");
        assert_eq!(again, selector);
        let labels: Labels = serde_json::from_str(r#"{"site":"hall-2","camera":"x"}"#).expect("labels");
        let (device, class) = ("cam-1".parse().expect("a name"), "pi".parse().expect("a name"));
        assert_eq!(selector.matches(&device, &class, &labels), again.matches(&device, &class, &labels));
        Verdict::Accepted
    }
}

struct Policies;

impl Target for Policies {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![
            ("small.toml".into(), b"[[stages]]\nsize = \"100%\"\n".into()),
            ("full.toml".into(), example("deploy/rollout.toml")),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(policy) = toml::from_str::<Policy>(&String::from_utf8_lossy(input)) else { return Verdict::Refused };
        let again = serde_json::to_vec(&policy).expect("a policy can be written");
        let again: Policy = serde_json::from_slice(&again).expect("and be read again");
        assert_eq!(again, policy);
        use_policy(&policy, input);
        Verdict::Accepted
    }
}

fn policy_json() -> Vec<(String, Vec<u8>)> {
    let policy = |toml: &[u8]| {
        let policy: Policy = toml::from_str(&String::from_utf8_lossy(toml)).expect("a policy");
        serde_json::to_vec(&policy).expect("a policy can be written")
    };
    Policies.seeds().iter().map(|(name, toml)| (name.replace("toml", "json"), policy(toml))).collect()
}

fn use_policy(policy: &Policy, _: &[u8]) {
    let target = "1.0.0".parse().expect("a version");
    if policy.check(&target).is_ok() {
        assert!(!policy.stages.is_empty() && (policy.last_stage() as usize) < policy.stages.len() + 1);
    }
}

struct Serials;

impl Target for Serials {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let full = "serial,device,site,line\r\nSN-1,cam-1,hall-1,a\r\n\r\nSN-2,,,\r\nsn.3,cam-3,,b\r\n";
        vec![("small.csv".into(), "serial\nSN-1\n".into()), ("full.csv".into(), full.into())]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(input);
        let everybody = ("site".parse().expect("a key"), "yard".parse().expect("a value"));
        let Ok(rows) = serials::parse(&text, std::slice::from_ref(&everybody)) else { return Verdict::Refused };
        assert!(rows.len() < text.lines().count(), "a line for each, below the header");
        for row in &rows {
            assert!(text.contains(row.serial.as_str()));
            assert!(row.labels.contains_key(&everybody.0), "what is everybody's is everybody's");
        }
        // What is ordered of the server is what was read.
        let order = ClaimOrder { devices: rows, valid_seconds: 60 };
        let bytes = serde_json::to_vec(&order).expect("an order can be written");
        let again: ClaimOrder = serde_json::from_slice(&bytes).expect("and be read again");
        assert_eq!(again.devices, order.devices);
        Verdict::Accepted
    }
}

struct PolicyCases;

impl Target for PolicyCases {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let small = "[[case]]\nrole = \"viewer\"\naction = \"read\"\nresource = \"fleet\"\nexpect = \"allow\"\n";
        vec![("small.toml".into(), small.into()), ("full.toml".into(), example("policy.toml"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(input);
        let Ok(decided) = cases::decide(&text) else { return Verdict::Refused };
        assert!(!decided.is_empty(), "a file without cases proves nothing");
        assert!(
            decided.iter().all(|case| (case.decided == Expected::Deny) == case.why.is_some()),
            "each no has its why"
        );
        let again = cases::decide(&text).expect("it was read before");
        assert!(decided.iter().zip(&again).all(|(a, b)| a.to_string() == b.to_string()), "decided the same each time");
        Verdict::Accepted
    }
}

struct AgentConfigs;

impl Target for AgentConfigs {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![("empty.toml".into(), Vec::new()), ("full.toml".into(), example("deploy/agent.toml"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(input);
        let Ok(config) = tern_agent::config::Config::parse(&text, Path::new("agent.toml")) else {
            return Verdict::Refused;
        };
        let absolute = [config.infer_socket(), config.control_socket(), config.identity_dir()];
        assert!(absolute.iter().all(|path| path.is_absolute()));
        assert!(config.infer_tcp.is_none_or(|address| address.ip().is_loopback()), "the inference API is loopback's");
        let limits = config.limits();
        assert!(limits.threads > 0 && limits.queue > 0 && limits.connections > 0);
        Verdict::Accepted
    }
}

struct ServerConfigs(tempfile::TempDir);

impl Target for ServerConfigs {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![("empty.toml".into(), Vec::new()), ("full.toml".into(), example("deploy/server.toml"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let path = self.0.path().join("server.toml");
        put(&path, input);
        let read = tern_fleet_server::config::Config::read(&path).and_then(|config| config.check().map(|()| config));
        let Ok(config) = read else { return Verdict::Refused };
        assert!(config.console_listen.is_none_or(|address| address.ip().is_loopback()), "the console is loopback's");
        assert!(config.desired_life().is_positive() && config.telemetry_life().is_positive());
        let _ = config.settings();
        Verdict::Accepted
    }
}

/// A bundle of the quickstart whose description is broken.
struct Bundles {
    folder: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Bundles {
    fn new() -> Self {
        let scratch = scratch();
        let folder = scratch.path().join("bundle");
        fs::create_dir(&folder).expect("a folder");
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits/1.0.0");
        copy(&original, &folder);
        // What a path that leaves the bundle would lead to.
        put(&scratch.path().join("outside"), b"outside");
        symlink("../outside", folder.join("link")).expect("a link");
        Self { folder, _scratch: scratch }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let path = entry.expect("an entry").path();
        let place = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            fs::create_dir(&place).expect("a folder");
            copy(&path, &place);
        } else {
            put(&place, &fs::read(&path).expect("a readable file"));
        }
    }
}

impl Target for Bundles {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![("digits.toml".into(), example("quickstart/models/meter-digits/1.0.0/tern.toml"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        put(&self.folder.join(bundle::DESCRIPTION), input);
        let Ok(read) = bundle::read(&self.folder) else { return Verdict::Refused };
        assert_eq!(Manifest::from_slice(&read.bytes).as_ref(), Ok(&read.manifest), "what is published can be read");
        for (digest, blob) in &read.blobs {
            assert!(blob.path.starts_with(&self.folder), "a file outside the bundle");
            let bytes = fs::read(&blob.path).expect("a readable file");
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (*digest, blob.length));
            assert_ne!(bytes, b"outside", "a link was followed");
        }
        let (model, version) = (read.manifest.model.name.clone(), read.manifest.model.version.clone());
        let probation = Probation { min_inferences: 0, min_seconds: 0 };
        let listed =
            DesiredModel { model, version, manifest: read.digest(), swap: Swap::Beside, probation, candidate: false };
        assert_eq!(listed.target_path(), read.manifest.model.target_path());
        Verdict::Accepted
    }
}
