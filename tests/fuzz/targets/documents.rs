//! Documents whose bytes are named by a digest: manifest, contract, reference profile; and JSON's canonical forms.

use serde_json::{Value, json};
use tern_protocol::{
    canonical,
    contract::Contract,
    digest::Digest,
    manifest::{Manifest, ManifestError, is_plain_path},
    reference,
    watch::Watch,
};
use tern_stats::{
    numeric::Accumulator,
    profile::{Baseline, Kind as Counted, Profile, Spec, fit},
    window::{Sums, Window},
};

use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("manifest", Form::Json, Pace::Call, || Box::new(Manifests)),
        Kind::new("contract", Form::Json, Pace::Call, || Box::new(Contracts)),
        Kind::new("reference", Form::Json, Pace::Slow, || Box::new(References(contract(&small())))),
        Kind::new("canonical-json", Form::Json, Pace::Call, || Box::new(CanonicalJson)),
    ]
}

/// A contract without frills.
pub(super) fn small() -> Value {
    json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "derive": ["mean"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    })
}

/// A contract with everything in it.
fn rich() -> Value {
    json!({
        "inputs": [
            {"name": "table", "datatype": "FP64", "shape": [-1, 3], "nan": "flag",
             "range": {"min": -1.5, "max": 2.5, "outside": "clamp"},
             "features": [{"name": "a", "range": {"min": 0.0, "max": 1.0}}, {"name": "b", "categories": ["1", "2"]},
                 {"name": "c"}]},
            {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8], "derive": ["mean", "contrast", "sharpness"]},
        ],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "p", "datatype": "FP32", "shape": [-1, 10]}],
        "prediction": {"label": "label", "confidence": "p"},
    })
}

pub(super) fn contract(value: &Value) -> Contract {
    let contract: Contract = serde_json::from_value(value.clone()).expect("a contract");
    contract.check().expect("a sound contract");
    contract
}

/// A manifest's bytes; each of its files holds its own path.
pub(super) fn manifest(model: &str, contract: &Value, more: &[(&str, Value)]) -> Vec<u8> {
    let file = |path: &str, role: &str| json!({"path": path, "role": role, "sha256": Digest::of(path.as_bytes()), "length": path.len()});
    let mut manifest = json!({
        "format": 1, "model": model, "minimum_agent": "0.1.0", "contract": contract,
        "golden_tolerance": {"absolute": 0.0001, "relative": 0.001},
        "files": [file("model.onnx", "model"), file("test_data_set_0/input_0.pb", "golden"),
            file("test_data_set_0/output_0.pb", "golden"), file("card.md", "card")],
    });
    for (name, value) in more {
        manifest[*name] = value.clone();
    }
    let read: Manifest = serde_json::from_value(manifest).expect("a manifest");
    read.to_bytes().expect("a sound manifest")
}

struct Manifests;

impl Target for Manifests {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let budgets =
            json!({"*": {"p95_latency_ms": 12.5, "peak_rss_bytes": 1 << 28, "disk_bytes": 1 << 20}, "pi": {}});
        let training = json!({"data_origin": "UCI", "data_rows": 800, "data_sha256": Digest::of(b"d"), "seed": 7,
            "metrics": {"accuracy": 0.97}, "slices": {"site": {"a": 0.5}}});
        let more = [
            ("budgets", budgets),
            ("training", training),
            ("device_classes", json!(["pi", "x86-64"])),
            ("parent", json!("0.9.0")),
        ];
        vec![
            ("small.json".into(), manifest("demo/m@1.0.0", &small(), &[])),
            ("rich.json".into(), manifest("vision/digits@1.0.0-rc.1", &rich(), &more)),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(manifest) = Manifest::from_slice(input) else { return Verdict::Refused };
        let again = manifest.to_bytes().expect("a manifest that was read can be written");
        assert_eq!(Manifest::from_slice(&again).as_ref(), Ok(&manifest), "and means the same");
        assert!(manifest.files.iter().all(|file| is_plain_path(&file.path)));
        assert!(manifest.golden_sets().is_ok_and(|sets| !sets.is_empty()));
        assert!(manifest.model_file().length <= manifest.total_bytes());
        let digest = Digest::of(input);
        assert_eq!(Manifest::from_target(input, &manifest.model, &digest).as_ref(), Ok(&manifest));
        let other = "somebody/else@9.9.9".parse().expect("a version");
        let wrong = Manifest::from_target(input, &other, &digest);
        assert!(matches!(wrong, Err(ManifestError::WrongVersion { .. })), "{wrong:?}");
        let wrong = Manifest::from_target(input, &manifest.model, &Digest::of(b"other"));
        assert_eq!(wrong, Err(ManifestError::DigestMismatch));
        use_contract(&manifest.contract);
        Verdict::Accepted
    }
}

struct Contracts;

impl Target for Contracts {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let bytes = |value: Value| canonical::document(&value).expect("a form");
        vec![("small.json".into(), bytes(small())), ("rich.json".into(), bytes(rich()))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(contract) = serde_json::from_slice::<Contract>(input) else { return Verdict::Refused };
        if contract.check().is_err() {
            return Verdict::Refused;
        }
        let again = serde_json::to_vec(&contract).expect("a contract can be written");
        assert_eq!(serde_json::from_slice::<Contract>(&again).expect("what was written can be read"), contract);
        use_contract(&contract);
        Verdict::Accepted
    }
}

/// What the worker does with a contract as soon as it has one.
fn use_contract(contract: &Contract) {
    let watch = Watch::new(contract);
    assert_eq!(watch.inputs(), contract.watched_inputs());
    assert_eq!(watch.outputs(), contract.watched_outputs());
    assert_eq!(watch.has_label(), contract.prediction.is_some());
    assert!(watch.rows(&[], &[]).is_err(), "a contract has inputs");
    for number in [0.0, -1.0, 1.5, f64::MAX, f64::NAN] {
        watch.label_of(number);
    }
}

/// A profile fitted to the values that `contract` watches.
fn profile() -> Profile {
    let values: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
    let spec = Spec::numeric("mean(x)", &values).expect("values");
    let Counted::Numeric(ruler) = &spec.kind else { panic!("numbers are numbers") };
    let mut sums = Accumulator::new(ruler.clone());
    let window = |chunk: &[f64]| {
        chunk.iter().for_each(|x| sums.update(Some(*x)));
        Window { rows: 10, features: vec![Sums::Numeric(sums.take())], ..Window::default() }
    };
    let windows: Vec<_> = values.chunks(10).map(window).collect();
    fit(&Baseline::new(&[spec], &windows)).expect("a profile")
}

struct References(Contract);

impl Target for References {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![("fitted.json".into(), serde_json::to_vec(&profile()).expect("a profile can be written"))]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(profile) = reference::read(input, &self.0) else { return Verdict::Refused };
        let again = serde_json::to_vec(&profile).expect("a profile can be written");
        assert_eq!(reference::read(&again, &self.0).as_ref(), Ok(&profile), "what was written can be read");
        assert!(profile.threshold(1).is_finite() && profile.threshold(1_000_000).is_finite());
        for feature in profile.watched() {
            assert!((0.0..=1.0).contains(&feature.missing_rate()));
            feature.detector();
        }
        // Counting by it, which a device does with whatever values come.
        let Counted::Numeric(ruler) = &profile.features[0].kind else { panic!("the contract says a number") };
        let mut sums = Accumulator::new(ruler.clone());
        let odd = [0.0, -0.0, 50.0, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE];
        odd.iter().for_each(|x| sums.update(Some(*x)));
        sums.update(None);
        let sums = sums.take();
        assert_eq!(sums.cells.iter().sum::<u64>(), sums.n);
        assert!(sums.s1.is_finite() && sums.s2.is_finite() && sums.sd_sum.is_finite());
        Verdict::Accepted
    }
}

struct CanonicalJson;

impl Target for CanonicalJson {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let odd = json!({"b": [1, -1, true, null, "x\n\"\\\u{7f}é"], "a": {"z": {}, "é": [], "": u64::MAX}});
        vec![("odd.json".into(), odd.to_string().into()), ("small.json".into(), small().to_string().into())]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(value) = serde_json::from_slice::<Value>(input) else { return Verdict::Refused };
        let document = canonical::document(&value).expect("every value has this form");
        let again: Value = serde_json::from_slice(&document).expect("it is JSON");
        assert_eq!(again, value, "the form keeps the meaning");
        assert_eq!(canonical::document(&again).ok(), Some(document), "and is its own form");
        // What is signed: no fraction has a form, and no two values have the same.
        let Ok(message) = canonical::signable(&value) else { return Verdict::Refused };
        let other = json!({"wrapped": value});
        assert_ne!(canonical::signable(&other).ok(), Some(message));
        Verdict::Accepted
    }
}
