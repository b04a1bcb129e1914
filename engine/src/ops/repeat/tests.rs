//! Loops that are refused, whatever their files say.

use crate::{Limits, LoadError, Model, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType, tensor_proto::DataType};

/// Goes round `most` times with a number `n`, which begins at 1, and what the caller sends; `condition` makes `go`, and `n` grows by
/// `more`.
fn looped(most: i64, condition: Vec<NodeProto>, more: &str) -> Result<Model, LoadError> {
    let number = |value: i64, name: &str| to_proto(&Tensor::new([], vec![value]).unwrap(), name);
    let mut nodes = condition;
    nodes.push(fixtures::node("Add", &["n", more], &["next"]));
    nodes.push(fixtures::node("Neg", &["s"], &["turned"]));
    let body = GraphProto {
        node: nodes,
        input: vec![
            value("round", DataType::Int64, &[]),
            value("went", DataType::Bool, &[]),
            value("n", DataType::Int64, &[]),
            value("s", DataType::Float, &[-1, 3]),
        ],
        output: vec![
            value("go", DataType::Bool, &[]),
            value("next", DataType::Int64, &[]),
            value("turned", DataType::Float, &[-1, 3]),
        ],
        ..GraphProto::default()
    };
    let mut node = fixtures::node("Loop", &["most", "", "one", "x"], &["last", "y"]);
    let (name, r#type) = ("body".into(), AttributeType::Graph.into());
    node.attribute = vec![AttributeProto { name, r#type, g: Some(body), ..AttributeProto::default() }];
    let proto = fixtures::model(GraphProto {
        node: vec![node],
        initializer: vec![number(most, "most"), number(0, "zero"), number(1, "one")],
        input: vec![value("x", DataType::Float, &[-1, 3])],
        output: vec![value("y", DataType::Float, &[-1, 3])],
        ..GraphProto::default()
    });
    Model::load(&fixtures::bytes(&proto), &Limits::default())
}

fn is_refused(verdict: &Result<Model, LoadError>, why: &str) -> bool {
    matches!(verdict, Err(LoadError::NotCompilable { detail, .. }) if detail.contains(why))
}

fn goes_on() -> Vec<NodeProto> {
    vec![fixtures::node("Greater", &["n", "zero"], &["go"])]
}

#[test]
fn a_condition_that_counts_ends_a_loop() {
    let below = vec![fixtures::node("LessOrEqual", &["round", "one"], &["go"])];
    let model = looped(9, below, "one").unwrap();
    let answer = model.run(&[Tensor::new([1, 3], vec![1f32, -2.0, 3.0]).unwrap()]).unwrap();
    assert_eq!(answer[0].data(), &vec![-1f32, 2.0, -3.0].into(), "three rounds");
}

#[test]
fn a_loop_of_too_many_rounds_is_refused() {
    assert!(looped(1 << 16, goes_on(), "one").is_ok());
    let verdict = looped((1 << 16) + 1, goes_on(), "one");
    assert!(is_refused(&verdict, "goes round more than 65536 times"), "{verdict:?}");
}

/// Such a condition would be gone through while the plan is made, with a tensor twice as large in each round.
#[test]
fn a_condition_over_a_tensor_whose_size_a_value_tells_is_refused() {
    let mut condition = vec![
        fixtures::node("Range", &["zero", "n", "one"], &["all"]),
        fixtures::node("ReduceMax", &["all"], &["most_of_all"]),
    ];
    condition[1].attribute = vec![fixtures::integer("keepdims", 0)];
    condition.push(fixtures::node("GreaterOrEqual", &["most_of_all", "zero"], &["go"]));
    let verdict = looped(20, condition, "n");
    assert!(is_refused(&verdict, "is told by a call alone"), "{verdict:?}");
}
