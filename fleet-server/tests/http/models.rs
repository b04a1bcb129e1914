//! `tern model test` and `check` as real processes, which run models in processes of their own.

#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

const TERN: &str = env!("CARGO_BIN_EXE_tern");

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits")
}

fn said(command: &mut Command) -> String {
    let output = command.env_remove("TERN_CONFIG").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// What it tried after confining itself and must not be able to do.
fn is_confined(lacking: &Value) -> bool {
    let lacking = lacking.to_string();
    !lacking.contains("can still be") && !lacking.contains("seccomp: ")
}

#[test]
fn models_are_tested_in_processes_of_their_own() {
    let folders = ["1.0.0", "1.0.1"].map(|version| models().join(version));
    let out = said(Command::new(TERN).args(["model", "test", "--json"]).args(folders));
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let summary = &summary["summary"];
    assert_eq!((&summary["models"], &summary["cases"], &summary["pass"]), (&json!(2), &json!(32), &json!(32)));
    assert!(is_confined(&summary["lacking"]), "{summary}");
}

#[test]
fn a_bare_model_becomes_a_bundle_and_what_it_costs_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("digits.onnx");
    fs::copy(models().join("1.0.0/model.onnx"), &model).unwrap();
    let header: Vec<String> = (0..64).map(|pixel| format!("p{pixel}")).collect();
    let row = |row: usize| (0..64).map(|pixel| (row * pixel % 17).to_string()).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = (1..=40).map(|at| format!("{},{}", row(at), at % 10)).collect();
    let reference = folder.path().join("rows.csv");
    fs::write(&reference, format!("{},digit\n{}\n", header.join(","), rows.join("\n"))).unwrap();
    let mut check = Command::new(TERN);
    check.args(["model", "check", "--json", "--python", "/nonexistent", "--label", "digit", "--name", "demo/digits"]);
    let told: Value = serde_json::from_str(&said(check.arg(&model).arg("--reference").arg(&reference))).unwrap();
    assert_eq!((&told["not_publishable"], &told["reference_rows"]), (&json!(null), &json!(40)));
    assert!(
        told["peak_rss_bytes"].as_u64().unwrap() > 0 && told["p99_us"].as_u64() >= told["p50_us"].as_u64(),
        "{told}"
    );
    assert_eq!(told["metrics"][0][0], "accuracy");
    assert!(is_confined(&told["warnings"]), "{told}");
    let bundle = tern_fleet_server::bundle::read(folder.path()).unwrap();
    let contract = &bundle.manifest.contract;
    assert_eq!(contract.inputs[0].shape, [-1, 8, 8]);
    assert_eq!(
        contract.inputs[0].range.map(|range| (range.min, range.max)),
        Some((0.0, 16.0)),
        "of an image as a whole"
    );
    let prediction = contract.prediction.as_ref().unwrap();
    assert_eq!((prediction.label.as_str(), prediction.confidence.as_deref()), ("label", Some("probabilities")));
    assert_eq!(bundle.manifest.training.metrics.len(), 1);
}
