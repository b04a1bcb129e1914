//! `tern model profile` on a tiny model: what it writes, and that it writes nothing where it refuses.

use std::fmt::Write as _;

use super::*;

/// A bundle's folder with a model that gives back its two columns, and whatever else is in `toml`.
struct Desk {
    folder: tempfile::TempDir,
}

const DESCRIPTION: &str = r#"
format = 1
model = "demo/echo"
version = "1.0.0"
device_classes = ["*"]
minimum_agent = "0.1.0"
[files]
model = "model.onnx"
reference = "reference.json"
[golden]
sets = 16
absolute_tolerance = 0.0
relative_tolerance = 0.0
[[contract.inputs]]
name = "x"
dtype = "FP32"
shape = [-1, 2]
minimum = 0.0
maximum = 100.0
derive = ["mean"]
[[contract.inputs.features]]
name = "a"
[[contract.inputs.features]]
name = "b"
[[contract.outputs]]
name = "y"
dtype = "FP32"
shape = [-1, 2]
[training]
data_origin = "made up"
"#;

/// An ONNX graph of one Relu from `x` to `y`, both [N, 2]: protobuf by hand, as small as it gets.
pub(super) fn relu() -> Vec<u8> {
    relu_of(&[1 << 3, 2])
}

/// The same, its second dimension as this message says it: 1 is a size, 2 a name.
pub(super) fn relu_of(second: &[u8]) -> Vec<u8> {
    single(b"Relu", 1, second)
}

/// A model of one operator from x to y, both of this element type of ONNX's.
pub(super) fn single(operator: &[u8], element: u8, second: &[u8]) -> Vec<u8> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend(content);
        bytes
    }
    let dimensions = [field(1, &field(2, b"N")), field(1, second)].concat();
    let shape = [vec![1 << 3, element], field(2, &dimensions)].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &shape))].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, operator)].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 13])].concat()
}

fn rows(count: usize) -> String {
    let mut text = String::from("a,b\n");
    for i in 0..count {
        writeln!(text, "{},{}", i * 37 % 101 % 100, i * 53 % 97).unwrap();
    }
    text
}

impl Desk {
    fn new(description: &str, data: &str) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        for (name, bytes) in
            [("tern.toml", description.as_bytes()), ("model.onnx", &relu()), ("rows.csv", data.as_bytes())]
        {
            fs::write(desk.folder.path().join(name), bytes).unwrap();
        }
        desk
    }

    fn profile(&self, more: &[&str]) -> Outcome {
        let (folder, data) = (self.folder.path(), self.folder.path().join("rows.csv"));
        let args = ["model", "profile", folder.to_str().unwrap(), "--data", data.to_str().unwrap()];
        tern(Environment::default(), "", &[&args[..], more].concat())
    }

    fn written(&self) -> Option<Vec<u8>> {
        fs::read(self.folder.path().join("reference.json")).ok()
    }
}

#[test]
fn a_profile_is_fitted_and_the_same_rows_give_the_same_bytes() {
    let desk = Desk::new(DESCRIPTION, &rows(1_005));
    let told = desk.profile(&["--rows", "20", "--output", "json"]).json();
    let first = desk.written().unwrap();
    assert_eq!((&told["windows"], &told["rows"], &told["labelled_rows"]), (&json!(50), &json!(1_005), &json!(0)));
    let names: Vec<_> = told["watched"].as_array().unwrap().iter().map(|w| w["name"].clone()).collect();
    assert_eq!(names, ["x.a", "x.b", "mean(x)"]);
    let warnings = told["warnings"].to_string();
    for told in ["the last 5 rows", "50 windows are enough", "no labels"] {
        assert!(warnings.contains(told), "{told}: {warnings}");
    }
    assert_eq!(desk.profile(&["--rows", "20"]).code, 0);
    assert_eq!(desk.written().unwrap(), first);
}

#[test]
fn what_cannot_be_fitted_is_refused_with_the_reason_and_nothing_is_written() {
    let without = DESCRIPTION.replace("reference = \"reference.json\"\n", "");
    let other = DESCRIPTION.replace("name = \"y\"", "name = \"z\"");
    let outside = rows(1_000).replacen("a,b\n", "a,b\n1,101\n", 1);
    for (description, data, more, reason) in [
        (DESCRIPTION, rows(999), &["--rows", "20"][..], "make 49 of the 50 windows"),
        (DESCRIPTION, rows(1_000), &["--rows", "20", "--label", "b"], "takes 2, and one is the label"),
        (DESCRIPTION, rows(1_000), &["--rows", "20", "--arl", "0.5"], "at least 1"),
        (DESCRIPTION, outside, &["--rows", "20"], "a device would refuse this row"),
        (&without, rows(1_000), &["--rows", "20"], "add `reference = \"reference.json\"`"),
        (&other, rows(1_000), &["--rows", "20"], "the model gives [\"y\"]"),
    ] {
        let desk = Desk::new(description, &data);
        let outcome = desk.profile(more);
        assert!(outcome.refused().contains(reason), "{reason}: {}", outcome.err);
        assert_eq!(desk.written(), None, "{reason}");
    }
}

#[test]
fn a_regressors_answers_are_left_out_by_label_with_a_word() {
    let with_answers = rows(1_000).lines().map(|line| format!("{line},y\n")).collect::<String>();
    let told =
        Desk::new(DESCRIPTION, &with_answers).profile(&["--rows", "20", "--label", "y", "--output", "json"]).json();
    assert!(told["warnings"].to_string().contains("the column of --label is left out"), "{}", told["warnings"]);
    assert_eq!((&told["labelled_rows"], &told["error_rate"]), (&json!(0), &Value::Null));
}

#[test]
fn a_refused_run_leaves_the_profile_that_was_there() {
    let desk = Desk::new(DESCRIPTION, &rows(10));
    fs::write(desk.folder.path().join("reference.json"), b"old").unwrap();
    assert_eq!(desk.profile(&[]).code, 1);
    assert_eq!(desk.written().unwrap(), b"old");
}

#[test]
fn labels_that_are_no_class_are_refused_and_the_error_rate_is_told() {
    let from =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models/meter-digits/1.0.0");
    let pixels = |row: usize| (0..64).map(|at| (row * at * 7 % 17).to_string()).collect::<Vec<_>>().join(",");
    let rows = |label: fn(usize) -> String| {
        let header = (0..64).map(|at| format!("p{}{}", at / 8, at % 8)).collect::<Vec<_>>().join(",");
        (0..1_000).fold(format!("label,{header}\n"), |text, row| format!("{text}{},{}\n", label(row), pixels(row)))
    };
    let desk = Desk::new("", &rows(|row| ["a", "b", "c"][row % 3].into()));
    for name in ["tern.toml", "model.onnx", "card.md"] {
        fs::copy(from.join(name), desk.folder.path().join(name)).unwrap();
    }
    let with = ["--rows", "20", "--label", "label"];
    let outcome = desk.profile(&with);
    assert!(outcome.refused().contains("labels a, b, c, answers "), "{}", outcome.err);
    assert!(outcome.err.contains("write labels as the model's classes are"), "{}", outcome.err);
    assert_eq!(desk.written(), None);
    fs::write(desk.folder.path().join("rows.csv"), rows(|row| (row % 10).to_string())).unwrap();
    let told = desk.profile(&with);
    assert!(told.out.contains("error rate ") && told.out.contains(" of 1000 labelled rows"), "{}", told.out);
    let rate = desk.profile(&[&with[..], &["--output", "json"]].concat()).json()["error_rate"].as_f64().unwrap();
    assert!(rate > 0.0 && rate < 1.0, "{rate}");
}
