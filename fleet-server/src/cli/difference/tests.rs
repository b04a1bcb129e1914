//! What whoever signs is told.

use serde_json::{Value, json};
use tern_protocol::digest::Digest;

use super::*;

fn manifest(edit: impl FnOnce(&mut Value)) -> Manifest {
    let file = |path: &str, role: &str, bytes: &str| json!({"path": path, "role": role, "sha256": Digest::of(bytes.as_bytes()), "length": bytes.len()});
    let mut value = json!({
        "format": 1, "model": "demo/m@1.0.0", "minimum_agent": "0.1.0",
        "golden_tolerance": {"absolute": 0.001, "relative": 0.0},
        "files": [
            file("model.onnx", "model", "weights"),
            file("test_data_set_0/input_0.pb", "golden", "in"),
            file("test_data_set_0/output_0.pb", "golden", "out"),
        ],
        "contract": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2],
                        "features": [{"name": "a"}, {"name": "b", "range": {"min": 0.0, "max": 1.0}}]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        },
        "budgets": {"*": {"p95_latency_ms": 5.0}},
        "training": {"data_origin": "hall 2", "metrics": {"accuracy": 0.9, "loss": 0.5},
                     "slices": {"night": {"accuracy": 0.8}}},
    });
    edit(&mut value);
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_same_manifest_differs_in_nothing() {
    assert_eq!(
        difference(Some(&manifest(|_| {})), &manifest(|m| m["model"] = "demo/m@1.0.1".into())),
        Vec::<String>::new()
    );
}

#[test]
fn every_kind_of_change_has_its_line() {
    let new = manifest(|m| {
        m["parent"] = "1.0.0".into();
        m["minimum_agent"] = "0.2.0".into();
        m["device_classes"] = json!(["pi"]);
        m["golden_tolerance"]["absolute"] = 0.5.into();
        m["contract"]["inputs"][0]["features"] = json!([{"name": "b"}, {"name": "c"}]);
        m["contract"]["outputs"][0]["datatype"] = "FP64".into();
        m["training"]["metrics"] = json!({"accuracy": 0.95, "f1": 0.7});
        m["training"]["slices"] = json!({"night": {"accuracy": 0.7}, "day": {"accuracy": 0.99}});
        m["training"]["data_origin"] = "hall 3".into();
        m["budgets"] = json!({"*": {"p95_latency_ms": 9.0}, "pi": {"disk_bytes": 1000}});
        m["files"][0] = json!({"path": "model.onnx", "role": "model", "sha256": Digest::of(b"w"), "length": 1});
        m["files"][1]["sha256"] = json!(Digest::of(b"other"));
        m["files"]
            .as_array_mut()
            .unwrap()
            .push(json!({"path": "card.md", "role": "card", "sha256": Digest::of(b"c"), "length": 1}));
    });
    let lines = difference(Some(&manifest(|_| {})), &new);
    for wanted in [
        "parent: none → 1.0.0",
        "minimum agent: 0.1.0 → 0.2.0",
        "device classes: all → pi",
        "golden tolerance: 0.001 + 0 relative → 0.5 + 0 relative",
        "contract: input x: feature a is gone",
        "contract: input x: feature c is new",
        "contract: output y: type: FP32 → FP64",
        "accuracy: 0.9 → 0.95 ↑ +0.0500",
        "loss: 0.5 → not given any more",
        "f1: 0.7, new",
        "night: accuracy: 0.8 → 0.7 ↓ -0.1000",
        "day: accuracy: 0.99, new",
        "data: hall 2 → hall 3",
        "size: 12 B → 7 B (-41.7 %)",
        "budget on *: 5 ms → 9 ms",
        "budget on pi: none → 1.0 kB on disk",
        "file model.onnx: other bytes, 1 B",
        "file card.md: new, 1 B",
        "golden vectors: 1 files are new or have other bytes",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("contract: input x: feature b: range: Some")), "{lines:#?}");
    let gone = difference(Some(&new), &manifest(|_| {}));
    assert!(gone.iter().any(|line| line == "file card.md: gone"), "{gone:#?}");
}

#[test]
fn renamed_inputs_and_reordered_features_are_told() {
    let renamed = manifest(|m| m["contract"]["inputs"][0]["name"] = "z".into());
    let lines = difference(Some(&manifest(|_| {})), &renamed);
    assert_eq!(lines, ["contract: inputs x → z"]);
    let reordered = manifest(|m| m["contract"]["inputs"][0]["features"].as_array_mut().unwrap().reverse());
    let lines = difference(Some(&manifest(|_| {})), &reordered);
    assert_eq!(lines, ["contract: input x: its features come in another order"]);
}

#[test]
fn a_first_version_is_described() {
    let lines = difference(None, &manifest(|_| {}));
    assert_eq!(lines[0], "it is the first version");
    for wanted in ["inputs: x FP32 [-1, 2]", "accuracy: 0.9", "night: accuracy: 0.8", "budget on *: none → 5 ms"] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
    }
}
