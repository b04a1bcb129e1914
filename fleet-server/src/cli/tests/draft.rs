//! `tern model check`: what it finds and writes with and without onnxruntime, which a script of ours stands in for here,
//! and that it writes nothing where something is wrong.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine, engine::general_purpose::STANDARD};
use tern_engine::{Tensor, tensor_to_pb};
use tern_protocol::contract::Violation;

use super::*;

/// A folder with the model that gives back its two columns where they are not negative.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.file("relu.onnx", &profile::relu());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A program in Python's place, which says this to every order.
    fn python(&self, said: &str) -> String {
        let said = self.file("said", said.as_bytes());
        let program = self.file("python", format!("#!/bin/sh\ncat > /dev/null\ncat {said}\n").as_bytes());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn check(&self, python: &str, more: &[&str]) -> Outcome {
        let model = self.path("relu.onnx");
        let args = ["model", "check", model.to_str().unwrap(), "--python", python];
        tern(Environment::default(), "", &[&args[..], more].concat())
    }

    fn written(&self) -> bool {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name == "tern.toml" || name.to_string_lossy().starts_with("test_data_set_"))
    }
}

const NO_PYTHON: &str = "/nonexistent/python3";

/// Twenty rows, the label being the second column; every fifth first cell is missing.
fn rows() -> String {
    let row = |i: i32| match i % 5 {
        0 => format!(",{},{}\n", i % 3, i % 3),
        _ => format!("{}.5,{},{}\n", i, i % 3, i % 3),
    };
    format!("a,b,y\n{}", (0..20).map(row).collect::<String>())
}

/// What onnxruntime would say of the golden rows of [`rows`] without holes.
fn answers(offset: f32) -> String {
    let answer = |set: i32| {
        let row = set * 15 / 15;
        let pb = tensor_to_pb(&Tensor::new([1, 2], vec![row as f32 + offset, 1.0]).unwrap(), "");
        vec![STANDARD.encode(pb)]
    };
    json!({ "answers": (0..16).map(answer).collect::<Vec<_>>(), "version": "9.9.9" }).to_string()
}

fn plain_rows() -> String {
    format!("a,b\n{}", (0..16).map(|i| format!("{i},1\n")).collect::<String>())
}

#[test]
fn without_onnxruntime_the_engine_answers_and_that_is_said() {
    let desk = Desk::new();
    let told = desk.check(NO_PYTHON, &["--json", "--name", "demo/echo"]).json();
    assert_eq!((&told["independent"], &told["golden_sets"]), (&json!(false), &json!(16)));
    assert_eq!(told["not_publishable"], json!(null), "{told}");
    assert!(told["calls"].as_u64().unwrap() >= 16, "{told}");
    let warnings = told["warnings"].to_string();
    for words in ["the engine's own answers", "there is no /nonexistent/python3", "inputs were made up"] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    let read = crate::bundle::read(desk.0.path()).unwrap();
    assert_eq!(read.manifest.model.to_string(), "demo/echo@1.0.0");
    let contract = &read.manifest.contract;
    assert_eq!((contract.inputs[0].name.as_str(), contract.inputs[0].shape.as_slice()), ("x", &[-1, 2][..]));
    assert_eq!((contract.outputs[0].shape.as_slice(), &contract.prediction), (&[-1, 2][..], &None));
    assert!(fs::read_to_string(desk.path("tern.toml")).unwrap().contains("by the engine itself, unchecked"));
    let tested = tern(Environment::default(), "", &["model", "test", desk.0.path().to_str().unwrap()]);
    assert!(tested.refused().contains("there is no model.onnx"), "the file has another name");
}

#[test]
fn dimensions_that_the_file_leaves_open_are_said_by_people() {
    let desk = Desk::new();
    desk.file("relu.onnx", &profile::relu_of(b"\x12\x05width"));
    let unsaid = desk.check(NO_PYTHON, &[]);
    assert!(
        unsaid.refused().contains("input x is [N, width]: say what it will be on devices: --dim width=SIZE"),
        "{}",
        unsaid.err
    );
    let unknown = desk.check(NO_PYTHON, &["--dim", "width=3", "--dim", "height=4"]);
    assert!(unknown.refused().contains("no input leaves a dimension \"height\" open"), "{}", unknown.err);
    assert!(!desk.written());
    assert_eq!(desk.check(NO_PYTHON, &["--dim", "x[1]=3"]).code, 0);
    let read = crate::bundle::read(desk.0.path()).unwrap();
    assert_eq!(read.manifest.contract.inputs[0].shape, [-1, 3]);
    assert_eq!(desk.check(NO_PYTHON, &["--force", "--dim", "width=5", "--dim", "N=1"]).code, 0);
    let read = crate::bundle::read(desk.0.path()).unwrap();
    assert_eq!(
        (&*read.manifest.contract.inputs[0].shape, &*read.manifest.contract.outputs[0].shape),
        (&[1, 5][..], &[1, 5][..])
    );
    let fixed = Desk::new().check(NO_PYTHON, &["--dim", "x[1]=3"]);
    assert!(fixed.refused().contains("x[1] is 2 in the file"), "{}", fixed.err);
}

#[test]
fn answers_longer_than_a_device_takes_are_refused_at_once() {
    let desk = Desk::new();
    desk.file("relu.onnx", &profile::relu_of(b"\x12\x05width"));
    let refused = desk.check(NO_PYTHON, &["--dim", "width=1048576"]);
    assert!(refused.refused().contains("its answers to 16 golden vectors take more than"), "{}", refused.err);
    assert!(!desk.written());
}

#[test]
fn a_reference_gives_ranges_and_figures() {
    let desk = Desk::new();
    let reference = desk.file("rows.csv", rows().as_bytes());
    let outcome = desk.check(NO_PYTHON, &["--reference", &reference, "--label", "y"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("neither a class nor a single number"), "{}", outcome.err);
    let read = crate::bundle::read(desk.0.path()).unwrap();
    let input = &read.manifest.contract.inputs[0];
    let range = |at: usize| input.features[at].range.map(|range| (range.min, range.max, range.outside)).unwrap();
    assert_eq!((input.features[0].name.as_str(), range(0)), ("a", (1.5, 19.5, Violation::Flag)));
    assert_eq!((range(1), input.nan), ((0.0, 2.0, Violation::Flag), Violation::Flag));
    let training = &read.manifest.training;
    assert_eq!((training.data_origin.as_str(), training.data_rows), ("rows.csv", Some(20)));
    assert_eq!(training.data_sha256, Some(tern_protocol::digest::Digest::of(rows().as_bytes())));
    assert_eq!(read.manifest.model.to_string(), "my-team/relu@1.0.0");
}

#[test]
fn onnxruntimes_answers_become_the_expected_ones() {
    let desk = Desk::new();
    let (reference, python) = (desk.file("rows.csv", plain_rows().as_bytes()), desk.python(&answers(1e-5)));
    let told = desk.check(&python, &["--reference", &reference, "--json"]).json();
    assert_eq!((&told["independent"], &told["golden_by"]), (&json!(true), &json!("onnxruntime 9.9.9")));
    let unasked = desk.check(&python, &["--reference", &reference, "--json", "--force", "--no-onnxruntime"]).json();
    assert_eq!(
        (&unasked["independent"], unasked["golden_by"].to_string().contains("not asked")),
        (&json!(false), true)
    );
    assert_eq!(desk.check(&python, &["--reference", &reference, "--force"]).code, 0);
    let apart = told["largest_absolute"].as_f64().unwrap();
    assert!(apart > 0.0 && apart < 1e-4, "{apart}");
    let expected = tensor_to_pb(&Tensor::new([1, 2], vec![3.0 + 1e-5f32, 1.0]).unwrap(), "y");
    assert_eq!(fs::read(desk.path("test_data_set_3/output_0.pb")).unwrap(), expected);
}

#[test]
fn what_onnxruntime_says_is_cut_short_in_the_draft() {
    let desk = Desk::new();
    let told = desk.check(&desk.python(&json!({ "failed": "no ".repeat(200) }).to_string()), &[]);
    assert!(told.err.contains(&"no ".repeat(200)), "{}", told.err);
    let drafted = fs::read_to_string(desk.path("tern.toml")).unwrap();
    assert!(drafted.contains("onnxruntime fails: no ") && drafted.lines().all(|line| line.len() < 140), "{drafted}");
    let unasked = desk.check(NO_PYTHON, &["--force", "--no-onnxruntime"]);
    assert!(unasked.err.contains("checks nothing (onnxruntime was not asked)\n"), "{}", unasked.err);
}

#[test]
fn folders_are_told_from_models() {
    let desk = Desk::new();
    let folder = desk.0.path().to_str().unwrap();
    let refused = tern(Environment::default(), "", &["model", "check", folder]);
    assert!(refused.refused().contains("is a folder: name the .onnx file in it"), "{}", refused.err);
    let refused = tern(Environment::default(), "", &["model", "test", desk.path("relu.onnx").to_str().unwrap()]);
    assert!(refused.refused().contains("relu.onnx is a file: name the folder that it is in"), "{}", refused.err);
}

#[test]
fn an_engine_that_disagrees_is_told_and_nothing_is_written() {
    let desk = Desk::new();
    let (reference, python) = (desk.file("rows.csv", plain_rows().as_bytes()), desk.python(&answers(0.5)));
    let outcome = desk.check(&python, &["--reference", &reference]);
    assert!(outcome.refused().contains("disagrees with onnxruntime 9.9.9 on row 0"), "{}", outcome.err);
    assert!(!desk.written());
    assert_eq!(desk.check(&python, &["--reference", &reference, "--atol", "0.6"]).code, 0);
}

#[test]
fn a_python_that_has_no_answer_is_told_by_its_words() {
    for (said, code, words) in [
        (r#"{"missing":"No module named 'onnxruntime'"}"#, 0, "No module named 'onnxruntime'): install onnxruntime"),
        (r#"{"failed":"Fail: no kernel"}"#, 0, "(onnxruntime fails: Fail: no kernel)\n"),
        (r#"{"failed":"Failed to construct locale with name:en_US.UTF-8"}"#, 0, "): generate the locale en_US.UTF-8"),
        (r#"{"answers":[],"version":"1"}"#, 1, "Python answered 0 of 16 cases"),
        ("hello", 1, "what Python said"),
    ] {
        let desk = Desk::new();
        let outcome = desk.check(&desk.python(said), &[]);
        assert!(outcome.code == code && outcome.err.contains(words), "{said}: {}", outcome.err);
        assert_eq!(desk.written(), code == 0, "{said}");
        assert_eq!(
            outcome.err.contains("install onnxruntime"),
            said.contains("onnxruntime'"),
            "{said}: {}",
            outcome.err
        );
    }
}

#[test]
fn what_is_there_is_written_over_only_when_asked() {
    let desk = Desk::new();
    fs::create_dir(desk.path("test_data_set_99")).unwrap();
    let refused = desk.check(NO_PYTHON, &[]);
    assert!(refused.refused().contains("test_data_set_99 is there already"), "{}", refused.err);
    fs::remove_dir(desk.path("test_data_set_99")).unwrap();
    desk.file("tern.toml", b"mine");
    assert!(desk.check(NO_PYTHON, &[]).refused().contains("tern.toml is there already"));
    assert_eq!(fs::read(desk.path("tern.toml")).unwrap(), b"mine");
    fs::create_dir(desk.path("test_data_set_99")).unwrap();
    assert_eq!(desk.check(NO_PYTHON, &["--force"]).code, 0);
    assert!(!desk.path("test_data_set_99").exists() && desk.path("test_data_set_15").exists());
    assert_eq!(crate::bundle::read(desk.0.path()).unwrap().manifest.golden_sets().unwrap().len(), 16);
}

#[test]
fn what_the_engine_lacks_comes_with_advice_and_nothing_is_written() {
    let desk = Desk::new();
    desk.file("relu.onnx", &profile::single(b"ImageDecoder", 1, &[1 << 3, 2]));
    let outcome = desk.check(NO_PYTHON, &[]);
    assert_eq!(outcome.refused(), "error: the engine lacks ImageDecoder");
    assert!(outcome.err.contains("ImageDecoder: cut the model before it"), "{}", outcome.err);
    desk.file("relu.onnx", b"no model");
    assert!(desk.check(NO_PYTHON, &[]).refused().contains("malformed model"));
    assert!(!desk.written());
}

#[test]
fn free_text_is_not_watched() {
    let desk = Desk::new();
    desk.file("relu.onnx", &profile::single(b"Identity", 8, &[1 << 3, 1]));
    let text = |word: fn(usize) -> String| format!("note\n{}", (0..100).map(|i| word(i) + "\n").collect::<String>());
    let features = |text: String, more: &[&str]| {
        let reference = desk.file("rows.csv", text.as_bytes());
        let outcome = desk.check(NO_PYTHON, &[&["--reference", &reference], more].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        crate::bundle::read(desk.0.path()).unwrap().manifest.contract.inputs[0].features.clone()
    };
    assert_eq!(features(text(|i| format!("pump {i} is loud")), &[]), []);
    let drafted = fs::read_to_string(desk.path("tern.toml")).unwrap();
    assert!(drafted.contains("# Free text (note) is not watched"), "{drafted}");
    let by_hand = "[[contract.inputs.features]]\nname = \"note\"\n\n[[contract.outputs]]";
    desk.file("tern.toml", drafted.replacen("[[contract.outputs]]", by_hand, 1).as_bytes());
    let refused = crate::bundle::read(desk.0.path()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "tern.toml: `contract.inputs.x.features.note` is text without `categories`, which nothing can watch: give its categories, or \
         leave out all features of this tensor"
    );
    let words = features(text(|i| ["loud", "mute"][i % 2].into()), &["--force"]);
    assert_eq!((words[0].name.as_str(), &words[0].categories[..]), ("note", &["loud".to_owned(), "mute".into()][..]));
}

#[test]
fn references_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    let python = desk.python(r#"{"missing":"No module named 'pandas'"}"#);
    for (content, more, words) in [
        (&b"a,b,c\n1,2,3\n"[..], &[][..], "the reference has 3 columns"),
        (b"a,b\n1,x\n", &[], "line 2: \"x\" is no FP32"),
        (b"a,b\n1,2\n", &["--label", "y"], "no column \"y\""),
        (
            b"PAR1....",
            &[],
            "Parquet is read by Python's pandas with pyarrow: No module named 'pandas'; write it as CSV",
        ),
    ] {
        let reference = desk.file("reference", content);
        let outcome = desk.check(&python, &[&["--reference", &reference], more].concat());
        assert!(outcome.refused().contains(words), "{words}: {}", outcome.err);
    }
    assert!(
        desk.check(&python, &["--reference", "/nonexistent.csv"]).refused().contains("/nonexistent.csv is not there")
    );
    assert!(!desk.written());
}

#[test]
fn parquet_is_read_by_python() {
    let desk = Desk::new();
    let (rows, answers) = (desk.file("rows", plain_rows().as_bytes()), desk.file("answers", answers(0.0).as_bytes()));
    let script = format!("#!/bin/sh\nif grep -q parquet; then cat {rows}; else cat {answers}; fi\n");
    let python = desk.file("python", script.as_bytes());
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let reference = desk.file("given", b"PAR1....");
    let told = desk.check(&python, &["--reference", &reference, "--json"]).json();
    assert_eq!((&told["reference_rows"], &told["independent"]), (&json!(16), &json!(true)));
    let read = crate::bundle::read(desk.0.path()).unwrap();
    assert_eq!(read.manifest.training.data_sha256, Some(tern_protocol::digest::Digest::of(b"PAR1....")));
}
