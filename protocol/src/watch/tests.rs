//! What is watched of small requests, value by value.

use tern_stats::profile::Spec;

use super::*;
use crate::contract::{DataType, Feature, Prediction, Violation};

fn tensor(name: &str, datatype: DataType, shape: &[i64]) -> TensorContract {
    TensorContract {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
        range: None,
        nan: Violation::Reject,
        features: vec![],
        derive: vec![],
    }
}

fn feature(name: &str, categories: &[&str]) -> Feature {
    Feature { name: name.into(), range: None, categories: categories.iter().map(|c| (*c).to_owned()).collect() }
}

/// A table of a number and a category, a small image in bytes, and a class with its probabilities.
fn contract() -> Contract {
    let mut table = tensor("x", DataType::Fp32, &[-1, 2]);
    table.features = vec![feature("a", &[]), feature("kind", &["1.0", "2"])];
    let mut image = tensor("image", DataType::Uint8, &[-1, 2, 2]);
    image.derive = vec![Derived::Mean, Derived::Contrast, Derived::Sharpness];
    Contract {
        inputs: vec![table, image],
        outputs: vec![tensor("label", DataType::Int64, &[-1]), tensor("p", DataType::Fp32, &[-1, 2])],
        prediction: Some(Prediction { label: "label".into(), confidence: Some("p".into()) }),
    }
}

const TABLE: [f32; 4] = [0.5, 1.0, f32::NAN, 7.5];
const IMAGE: [u8; 8] = [0, 4, 0, 4, 9, 9, 9, 9];
const CLASSES: [i64; 2] = [3, i64::MAX];
const SURE: [f32; 4] = [0.25, 0.75, f32::NAN, 0.5];

fn inputs() -> [Tensor<'static>; 2] {
    [Tensor { shape: &[2, 2], values: Values::F32(&TABLE) }, Tensor { shape: &[2, 2, 2], values: Values::U8(&IMAGE) }]
}

fn outputs() -> [Tensor<'static>; 2] {
    [Tensor { shape: &[2], values: Values::I64(&CLASSES) }, Tensor { shape: &[2, 2], values: Values::F32(&SURE) }]
}

/// What is seen, as text: NaN and missing are told apart by it.
fn seen(rows: &Rows<'_>, row: usize) -> Vec<String> {
    let (mut all, mut scratch) = (Vec::new(), Scratch::default());
    let mut take = |value: Value<'_>| {
        all.push(match value {
            Value::Number(number) => format!("{number:?}"),
            Value::Category(text) => text.unwrap_or("none").to_owned(),
        });
    };
    (0..rows.watch.inputs().len()).for_each(|at| rows.input(row, at, &mut scratch, &mut take));
    (0..rows.watch.outputs().len()).for_each(|at| rows.output(row, at, &mut scratch, &mut take));
    all
}

#[test]
fn each_row_shows_what_is_watched_in_order() {
    let watch = Watch::new(&contract());
    let rows = watch.rows(&inputs(), &outputs()).unwrap();
    assert_eq!(rows.count(), 2);
    assert_eq!(seen(&rows, 0), ["Some(0.5)", "1.0", "Some(2.0)", "Some(2.0)", "Some(2.0)", "3"]);
    assert_eq!(seen(&rows, 1), ["Some(NaN)", "7.5", "Some(9.0)", "Some(0.0)", "Some(0.0)", "9223372036854775807"]);
    assert_eq!(rows.label(0, &mut Scratch::default()), Some("3"));
    assert_eq!(rows.confidence(0), Some(0.75));
    assert!(rows.confidence(1).unwrap().is_nan(), "what is not finite is not sure");
    assert_eq!((watch.label_of(3.0), watch.label_of(2.5)), ("3".to_owned(), "2.5".to_owned()));
}

#[test]
fn a_tensor_without_a_batch_is_one_row() {
    let mut contract = contract();
    contract.inputs[1] = TensorContract { shape: vec![2, 4], ..contract.inputs[1].clone() };
    let watch = Watch::new(&contract);
    let inputs = [inputs()[0], Tensor { shape: &[2, 4], values: Values::U8(&IMAGE) }];
    let rows = watch.rows(&inputs, &outputs()).unwrap();
    // Two rows of the table; the image belongs to the request and is counted once.
    assert_eq!((rows.count(), seen(&rows, 0).len(), seen(&rows, 1).len()), (2, 6, 3));
    assert_eq!(seen(&rows, 0)[2], "Some(5.5)");
}

#[test]
fn axes_between_batch_and_columns_are_more_values() {
    let mut contract = contract();
    contract.inputs = vec![TensorContract { shape: vec![-1, 2, 2], ..contract.inputs[0].clone() }];
    contract.inputs[0].features[1].categories.clear();
    contract.prediction = None;
    let watch = Watch::new(&contract);
    let inputs = [Tensor { shape: &[1, 2, 2], values: Values::F32(&[1.0, 2.0, 3.0, 4.0]) }];
    let outputs =
        [Tensor { shape: &[1], values: Values::I64(&[3]) }, Tensor { shape: &[1, 2], values: Values::F32(&SURE[..2]) }];
    let rows = watch.rows(&inputs, &outputs).unwrap();
    assert_eq!(seen(&rows, 0), ["Some(1.0)", "Some(3.0)", "Some(2.0)", "Some(4.0)"]);
    assert_eq!((rows.label(0, &mut Scratch::default()), rows.confidence(0)), (None, None));
}

#[test]
fn text_and_flags_are_categories_too() {
    let mut contract = contract();
    let mut text = tensor("t", DataType::Bytes, &[-1, 1]);
    text.features = vec![feature("word", &["yes", "no"])];
    let mut flag = tensor("f", DataType::Bool, &[-1, 1]);
    flag.features = vec![feature("set", &["true", "false"])];
    contract.inputs = vec![text, flag];
    let watch = Watch::new(&contract);
    let words = [b"yes".to_vec(), vec![0xff]];
    let inputs = [
        Tensor { shape: &[2, 1], values: Values::Bytes(&words) },
        Tensor { shape: &[2, 1], values: Values::Bool(&[true, false]) },
    ];
    let rows = watch.rows(&inputs, &outputs()).unwrap();
    assert_eq!(seen(&rows, 0)[..2], ["yes", "true"]);
    assert_eq!(seen(&rows, 1)[..2], ["\u{fffd}", "false"]);
}

#[test]
fn other_tensors_are_refused() {
    let watch = Watch::new(&contract());
    let [table, image] = inputs();
    let count = watch.rows(&[table], &outputs()).unwrap_err();
    assert_eq!(count, Misfit::Count { side: "inputs", expected: 2, found: 1 });
    let flat = Tensor { shape: &[4], ..table };
    assert_eq!(watch.rows(&[flat, image], &outputs()).unwrap_err(), Misfit::Shape("x".into()));
    let long = Tensor { shape: &[2, 3], ..table };
    assert_eq!(watch.rows(&[long, image], &outputs()).unwrap_err(), Misfit::Shape("x".into()));
    let endless = Tensor { shape: &[usize::MAX, 2], ..table };
    assert_eq!(watch.rows(&[endless, image], &outputs()).unwrap_err(), Misfit::Shape("x".into()));
    let short = Tensor { shape: &[1, 2, 2], values: Values::U8(&IMAGE[..4]) };
    assert_eq!(watch.rows(&[table, short], &outputs()).unwrap_err(), Misfit::Rows("image".into()));
    let none = Tensor { shape: &[0, 2], values: Values::F32(&[]) };
    let no_image = Tensor { shape: &[0, 2, 2], values: Values::U8(&[]) };
    let nothing = [Tensor { shape: &[0], values: Values::I64(&[]) }, none];
    assert_eq!(watch.rows(&[none, no_image], &nothing).unwrap().count(), 0);
}

#[test]
fn rows_are_folded_whole() {
    let watch = Watch::new(&contract());
    let number = |name: &str| Spec::numeric(name, &[0.0, 1.0, 9.0]).unwrap();
    let kind = Spec::categorical("x.kind", ["1.0", "2"]);
    let features = [number("x.a"), kind, number("mean(image)"), number("contrast(image)"), number("sharpness(image)")];
    let edges = tern_stats::cells::Edges::new(vec![0.5]).unwrap();
    let mut recorder = Recorder::new(&features, &[Spec::categorical("label", ["3"])], Some(&edges));
    let rows = watch.rows(&inputs(), &outputs()).unwrap();
    let mut bins = Vec::new();
    rows.fold(&mut recorder, &mut Scratch::default(), |row, bin| bins.push((row, bin)));
    assert_eq!(bins, [(0, 1), (1, 0)]);
    let window = recorder.take();
    assert_eq!((window.rows, &window.confidence[..]), (2, &[1, 1][..]));
    assert!(window.watched().all(|sums| sums.rows() == 2), "{window:?}");
    // One NaN among the numbers, and a category that is not known is no missing one.
    assert_eq!(window.watched().map(|sums| sums.absent()).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0]);
}
