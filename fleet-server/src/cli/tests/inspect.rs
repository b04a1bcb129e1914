//! `tern model inspect`: facts of a good file, of one that the engine lacks operators for, and of none.

use super::*;

fn inspect(file: &Path, more: &[&str]) -> Outcome {
    tern(Environment::default(), "", &[&["model", "inspect", file.to_str().unwrap()], more].concat())
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    fs::write(&file, bytes).unwrap();
    (folder, file)
}

#[test]
fn facts_of_a_model_for_people_and_programs() {
    let file = bundle("1.0.0").join("model.onnx");
    let told = inspect(&file, &["--json"]).json();
    assert_eq!(told, inspect(&file, &["--output", "json"]).json(), "both ways to JSON");
    assert_eq!(told["file_bytes"], json!(fs::metadata(&file).unwrap().len()));
    assert_eq!((&told["unsupported"], &told["refusal"]), (&json!([]), &json!(null)));
    assert_eq!((&told["inputs"][0]["name"], &told["inputs"][0]["dtype"]), (&json!("pixels"), &json!("FP32")));
    assert_eq!(told["inputs"][0]["dims"].as_array().unwrap()[1..], [json!(8), json!(8)]);
    assert!(told["macs"]["per_row"].as_u64().unwrap() > 0 && told["macs"]["uncounted"] == json!({}), "{told}");
    let outcome = inspect(&file, &[]);
    for words in ["parameters", "MACs a row", "pixels", "the engine has every operator"] {
        assert!(outcome.out.contains(words), "{words}: {}", outcome.out);
    }
}

#[test]
fn a_model_that_the_engine_cannot_run_has_facts_all_the_same() {
    let relu = profile::relu();
    let at = relu.windows(4).position(|word| word == b"Relu").unwrap();
    let unknown = [&relu[..at], b"Qelu", &relu[at + 4..]].concat();
    let (_folder, file) = written(&unknown);
    assert_eq!(inspect(&file, &["--json"]).json()["unsupported"], json!(["Qelu"]));
    let outcome = inspect(&file, &[]);
    assert!(outcome.code == 0 && outcome.out.contains("the engine lacks Qelu"), "{}", outcome.out);
}

#[test]
fn what_is_no_model_is_refused_with_its_name() {
    let (_folder, file) = written(b"hello");
    let outcome = inspect(&file, &[]);
    assert!(outcome.refused().contains("model.onnx: malformed model"), "{}", outcome.err);
    assert!(inspect(Path::new("/nonexistent.onnx"), &[]).refused().contains("there is no file /nonexistent.onnx"));
}
