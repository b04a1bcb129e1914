//! `tern model test`: each outcome, for people and programs, and a model that takes its process down with it.

use super::*;
use crate::cli::confined::Itself;
use tern_engine::{Tensor, tensor_to_pb};

/// A folder of models; each is Relu of two columns, or what is made of it.
struct Zoo(tempfile::TempDir);

impl Zoo {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn model(&self, name: &str, bytes: &[u8], answer: [f32; 2]) {
        self.file(&format!("{name}/model.onnx"), bytes);
        self.case(name, 0, answer);
    }

    fn case(&self, name: &str, number: usize, answer: [f32; 2]) {
        let pb = |values: [f32; 2]| tensor_to_pb(&Tensor::new([1, 2], values.to_vec()).unwrap(), "t");
        self.file(&format!("{name}/test_data_set_{number}/input_0.pb"), &pb([-1.0, 2.0]));
        self.file(&format!("{name}/test_data_set_{number}/output_0.pb"), &pb(answer));
    }

    fn test(&self, itself: Option<Itself>, more: &[&str]) -> Outcome {
        let environment = Environment { itself, ..Environment::default() };
        tern(environment, "", &[&["model", "test", self.0.path().to_str().unwrap()], more].concat())
    }
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn unknown() -> Vec<u8> {
    let mut bytes = profile::relu();
    let at = bytes.windows(4).position(|word| word == b"Relu").unwrap();
    bytes[at] = b'Q';
    bytes
}

/// An ONNX graph of one Resize of `x`, FP32 [2], by the factors that are its third input, FP32 [1]: protobuf by hand.
fn resize() -> Vec<u8> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }
    let value = |name: &[u8], kind: u8, dims: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|dim| field(1, &[1 << 3, *dim])).collect();
        let tensor = [vec![1 << 3, kind], field(2, &dims)].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, b"x"), field(1, b""), field(1, b"s"), field(2, b"y"), field(4, b"Resize")].concat();
    let inputs = [field(11, &value(b"x", 1, &[2])), field(11, &value(b"s", 1, &[1]))].concat();
    let graph = [field(1, &node), field(2, b"g"), inputs, field(12, &value(b"y", 1, &[4]))].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 13])].concat()
}

#[test]
fn factors_that_are_inputs_may_be_tried_as_constants() {
    let zoo = Zoo::new();
    let pb = |tensor: Tensor| tensor_to_pb(&tensor, "t");
    zoo.file("a/model.onnx", &resize());
    zoo.file("a/test_data_set_0/input_0.pb", &pb(Tensor::new([2], vec![1f32, 2.0]).unwrap()));
    zoo.file("a/test_data_set_0/input_1.pb", &pb(Tensor::new([1], vec![2f32]).unwrap()));
    zoo.file("a/test_data_set_0/output_0.pb", &pb(Tensor::new([4], vec![1f32, 1.0, 2.0, 2.0]).unwrap()));
    let without = zoo.test(None, &["--json"]);
    assert_eq!((without.code, &lines(&without)[0]["outcome"]), (1, &json!("error")));
    let with = zoo.test(None, &["--json", "--constants"]);
    let (line, summary) = (&lines(&with)[0], &lines(&with)[1]["summary"]);
    assert_eq!((with.code, &line["outcome"], &line["constants"]), (0, &json!("pass"), &json!(true)));
    assert_eq!((&summary["pass"], &summary["constants"]), (&json!(1), &json!(1)));
    assert!(zoo.test(None, &["--constants"]).out.contains("inputs but the first as constants"));
    // What has an answer as it is does not need them.
    zoo.model("a", &profile::relu(), [0.0, 2.0]);
    fs::remove_file(zoo.0.path().join("a/test_data_set_0/input_1.pb")).unwrap();
    assert_eq!(lines(&zoo.test(None, &["--json", "--constants"]))[0]["constants"], false);
}

#[test]
fn all_that_pass_are_zero() {
    let zoo = Zoo::new();
    zoo.model("a", &profile::relu(), [0.0, 2.0]);
    zoo.case("a", 1, [0.0, 2.0]);
    let outcome = zoo.test(None, &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.ends_with("2 cases of 1 model: 2 pass, 0 wrong, 0 unsupported, 0 error\n"), "{}", outcome.out);
    assert!(outcome.out.starts_with("pass "), "{}", outcome.out);
}

#[test]
fn each_outcome_has_its_line_and_one_is_enough_for_an_exit_of_one() {
    let zoo = Zoo::new();
    zoo.model("good", &profile::relu(), [0.0, 2.0]);
    zoo.model("off", &profile::relu(), [0.0, 2.5]);
    zoo.model("strange", &unknown(), [0.0, 2.0]);
    zoo.model("torn", b"no model", [0.0, 2.0]);
    zoo.model("unfit", &profile::relu(), [0.0, 2.0]);
    zoo.file("unfit/test_data_set_0/input_1.pb", &tensor_to_pb(&Tensor::new([1], vec![1f32]).unwrap(), "t"));
    zoo.model("late", &profile::relu(), [0.0, 2.0]);
    zoo.file("late/test_data_set_0/output_0.pb", b"");
    let outcome = zoo.test(None, &["--json"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("5 of 6 cases did not pass"), "{}", outcome.err);
    let lines = lines(&outcome);
    let of = |model: &str| {
        let named = |line: &&Value| line["model"].as_str().is_some_and(|path| path.ends_with(&format!("/{model}")));
        lines.iter().find(named).unwrap_or_else(|| panic!("no line of {model}"))
    };
    assert_eq!((&of("good")["outcome"], &of("good")["values"]), (&json!("pass"), &json!(2)));
    let off = of("off");
    assert_eq!((&off["outcome"], &off["absolute"], &off["relative"]), (&json!("wrong"), &json!(0.5), &json!(0.2)));
    assert_eq!((&off["far"], &off["labels"], &off["case"]), (&json!(1), &json!(0), &json!("test_data_set_0")));
    assert_eq!((&of("strange")["outcome"], &of("strange")["lacks"]), (&json!("unsupported"), &json!(["Qelu"])));
    for (model, words) in [("torn", "malformed model"), ("unfit", "takes 1 inputs, got 2")] {
        assert_eq!(of(model)["outcome"], "error");
        assert!(of(model)["message"].as_str().unwrap().contains(words), "{}", of(model));
    }
    assert_eq!(of("late")["lacks"], json!(["element type UNDEFINED"]));
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((&summary["models"], &summary["cases"], &summary["pass"]), (&json!(6), &json!(6), &json!(1)));
    assert_eq!(summary["missing"], json!({"Qelu": 1, "element type UNDEFINED": 1}));
    let words = zoo.test(None, &[]).out;
    assert!(words.contains("max abs 5.0e-1, max rel 2.0e-1, 1 floats and 0 labels of 2 values differ"), "{words}");
}

#[test]
fn tolerances_are_those_that_were_asked_for() {
    let zoo = Zoo::new();
    zoo.model("off", &profile::relu(), [0.0, 2.5]);
    for (flags, code) in [
        (&["--tolerance", "0.2"][..], 0),
        (&["--atol", "0.5"], 0),
        (&["--rtol", "0.2"], 0),
        (&["--rtol", "0.19"], 1),
        (&["--tolerance", "0.1"], 1),
    ] {
        assert_eq!(zoo.test(None, flags).code, code, "{flags:?}");
    }
    assert!(zoo.test(None, &["--atol=-1"]).refused().contains("a tolerance is a finite number"));
}

#[test]
fn a_model_whose_process_dies_is_an_error_and_what_it_said_before_counts() {
    let zoo = Zoo::new();
    zoo.model("a", &profile::relu(), [0.0, 2.0]);
    zoo.case("a", 1, [0.0, 2.0]);
    zoo.model("b", &profile::relu(), [0.0, 2.0]);
    let said = r#"{"verdict":{"case":"test_data_set_0","outcome":"pass","values":2,"absolute":0.0,"relative":0.0}}"#;
    let dies = Itself::other("/bin/sh", &["-c", &format!("echo '{said}'; printf torn; kill -9 $$")]);
    let outcome = zoo.test(Some(dies), &["--json"]);
    let lines = lines(&outcome);
    let told: Vec<_> = lines[..3].iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!((outcome.code, told), (1, vec!["pass", "error", "pass"]));
    assert!(lines[1]["message"].as_str().unwrap().contains("signal: 9"), "{}", lines[1]);
    let hangs = Itself::other("/bin/sh", &["-c", "exec sleep 600"]);
    let outcome = zoo.test(Some(hangs), &["--time-limit", "1s"]);
    assert_eq!(outcome.out.matches("it took longer than 1 s").count(), 3, "{}", outcome.out);
}

#[test]
fn where_there_is_nothing_to_test_it_is_said() {
    let zoo = Zoo::new();
    assert!(zoo.test(None, &[]).refused().contains("there is no model.onnx with test_data_set_<n>"));
}
