//! What a file or a call asks for beyond all measure is refused by name before it is made, and values that an operator has no answer for
//! are the caller's.

use crate::{
    Data, Limits, LoadError, Model, RunError, Tensor, fixtures,
    fixtures::{node, value},
    tensor_proto::to_proto,
};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let (name, r#type) = (name.into(), AttributeType::Ints as i32);
    AttributeProto { name, r#type, ints: ints.to_vec(), ..AttributeProto::default() }
}

fn text(name: &str, text: &str) -> AttributeProto {
    let (name, r#type) = (name.into(), AttributeType::String as i32);
    AttributeProto { name, r#type, s: text.into(), ..AttributeProto::default() }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute = vec![attribute];
    node
}

/// A model of rows of `x`, four floats or whole numbers each, with these constants.
fn model(dtype: DataType, nodes: Vec<NodeProto>, constants: Vec<(&str, Tensor)>) -> ModelProto {
    fixtures::model(GraphProto {
        node: nodes,
        initializer: constants.iter().map(|(name, tensor)| to_proto(tensor, name)).collect(),
        input: vec![value("x", dtype, &[-1, 4])],
        output: vec![value("y", dtype, &[-1])],
        ..GraphProto::default()
    })
}

fn tensor<T>(shape: &[usize], values: Vec<T>) -> Tensor
where
    Data: From<Vec<T>>,
{
    Tensor::new(shape, values).unwrap()
}

fn load(proto: &ModelProto) -> Result<Model, LoadError> {
    let limits = Limits { tensor_bytes: 16 << 20, ..Limits::default() };
    Model::load(&fixtures::bytes(proto), &limits)
}

/// What is too large, of a model that is refused for it.
fn beyond(nodes: Vec<NodeProto>, constants: Vec<(&str, Tensor)>) -> String {
    match load(&model(DataType::Float, nodes, constants)) {
        Err(LoadError::TooLarge { what, .. }) => what,
        other => panic!("not too large: {other:?}"),
    }
}

#[test]
fn constants_that_would_fill_the_memory_are_told_before_they_are_computed() {
    let [tall, wide] = [[4000, 1], [1, 4000]].map(|shape| tensor(&shape, vec![1f32; 4000]));
    let product = vec![node("MatMul", &["a", "b"], &["c"]), node("Add", &["x", "c"], &["y"])];
    assert_eq!(beyond(product, vec![("a", tall), ("b", wide)]), "tensor `MatMul_node`, in bytes,");
    let many = tensor(&[], vec![1i64 << 30]);
    let mel = vec![node("MelWeightMatrix", &["n", "n", "n", "f", "f"], &["m"]), node("Add", &["x", "m"], &["y"])];
    let rate = tensor(&[], vec![1f32]);
    assert_eq!(beyond(mel, vec![("n", many), ("f", rate)]), "tensor `MelWeightMatrix_node`, in bytes,");
    let scales = tensor(&[2], vec![1f32, 1e9]);
    let resized = vec![node("Resize", &["x", "", "s"], &["y"])];
    assert_eq!(beyond(resized, vec![("s", scales)]), "tensor `Resize_node`, in bytes,");
}

#[test]
fn tensors_of_more_dimensions_than_anything_needs_are_refused() {
    let deep = tensor(&[1; 65], vec![1f32]);
    assert_eq!(beyond(vec![node("Add", &["x", "w"], &["y"])], vec![("w", deep)]), "tensor `w`, in dimensions,");
    let axes = tensor(&[100], (2..102).collect::<Vec<i64>>());
    let deep = vec![node("Unsqueeze", &["x", "a"], &["y"])];
    assert_eq!(beyond(deep, vec![("a", axes)]), "tensor `Unsqueeze_node`, in dimensions,");
    let shape = tensor(&[65], vec![1i64; 65]);
    let deep = vec![node("Expand", &["x", "s"], &["y"])];
    assert_eq!(beyond(deep, vec![("s", shape)]), "tensor `y`, in dimensions,");
}

#[test]
fn a_transposition_is_an_order_of_all_axes() {
    for (perm, is_sound) in [(&[1, 0][..], true), (&[0, 0], false), (&[1, 2], false), (&[0, -1], false)] {
        let transpose = with(node("Transpose", &["x"], &["y"]), ints("perm", perm));
        let loaded = load(&model(DataType::Float, vec![transpose], Vec::new()));
        let is_refused = matches!(&loaded, Err(LoadError::Malformed { detail }) if detail.contains("`y` has perm"));
        assert_eq!((loaded.is_ok(), is_refused), (is_sound, !is_sound), "{perm:?} {loaded:?}");
    }
}

#[test]
fn a_sum_over_many_dimensions_takes_no_memory_for_their_product() {
    let cube = |width: i64| {
        let sum = with(node("Einsum", &["x", "x", "x"], &["y"]), text("equation", "bi,bj,bk->"));
        let mut proto = model(DataType::Float, vec![sum], Vec::new());
        proto.graph.as_mut().unwrap().input[0] = value("x", DataType::Float, &[-1, width]);
        load(&proto)
    };
    let row: Vec<f32> = (0..300).map(|at| [1.0, 0.0, 2.0][at % 3]).collect();
    let answer = cube(300).unwrap().run(&[tensor(&[1, 300], row)]).unwrap();
    assert_eq!(answer, [tensor(&[], vec![300f32 * 300.0 * 300.0])]);
    let told = cube(3000).unwrap_err().to_string();
    assert!(told.contains("would sum 27000000000 products"), "{told}");
}

#[test]
fn what_an_operator_cannot_do_is_told_by_its_name() {
    let bounds = ["a", "b", "c", "d"].map(|name| (name, tensor(&[1], vec![i64::from(name == "b")])));
    let slice = model(DataType::Float, vec![node("Slice", &["x", "a", "b", "c", "d"], &["y"])], bounds.to_vec());
    let tile = vec![node("Tile", &["x", "r"], &["y"])];
    let tile = model(DataType::Float, tile, vec![("r", tensor(&[2], vec![-1i64, 2]))]);
    let axis = vec![node("Squeeze", &["x", "a"], &["y"])];
    let axis = model(DataType::Float, axis, vec![("a", tensor(&[1], vec![9i64]))]);
    for (proto, operator) in [(slice, "\"Slice_node\" Slice"), (tile, "`Tile_node`"), (axis, "`Squeeze_node`")] {
        match load(&proto) {
            Err(LoadError::NotCompilable { detail, .. }) => assert!(detail.contains(operator), "{detail}"),
            other => panic!("{operator}: {other:?}"),
        }
    }
}

#[test]
fn values_that_an_operator_has_no_answer_for_are_the_callers() {
    let pick = vec![node("Gather", &["w", "x"], &["y"])];
    let pick = model(DataType::Int64, pick, vec![("w", tensor(&[5], vec![1i64; 5]))]);
    let elements = vec![node("GatherElements", &["w", "x"], &["y"])];
    let elements = model(DataType::Int64, elements, vec![("w", tensor(&[1, 4], vec![1i64; 4]))]);
    let quotient =
        model(DataType::Int64, vec![node("Div", &["w", "x"], &["y"])], vec![("w", tensor(&[1, 4], vec![9i64; 4]))]);
    let rest =
        model(DataType::Int64, vec![node("Mod", &["w", "x"], &["y"])], vec![("w", tensor(&[1, 4], vec![9i64; 4]))]);
    for (proto, operator, good, bad) in [
        (pick, "Gather_node", 1, 1 << 40),
        (elements, "GatherElements_node", 0, 7),
        (quotient, "Div_node", 3, 0),
        (rest, "Mod_node", 3, 0),
    ] {
        let model = load(&proto).unwrap();
        let row = |number: i64| [tensor(&[1, 4], vec![number; 4])];
        match model.run(&row(bad)) {
            Err(RunError::Values { operator: named, .. }) => assert_eq!(named, operator),
            other => panic!("{operator}: {other:?}"),
        }
        assert!(model.run(&row(good)).is_ok(), "{operator} stays usable");
    }
}

#[test]
fn means_of_nothing_take_no_memory() {
    let nodes = vec![with(node("MeanVarianceNormalization", &["c"], &["y"]), ints("axes", &[1]))];
    let mut proto = model(DataType::Float, nodes, Vec::new());
    let dims = vec![1 << 40, 0, 2];
    let nothing = TensorProto { name: "c".into(), data_type: DataType::Float.into(), dims, ..TensorProto::default() };
    proto.graph.as_mut().unwrap().initializer.push(nothing);
    let verdict = load(&proto);
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[test]
fn steps_over_an_open_size_are_not_0_and_of_32_bits() {
    for step in [0, i64::MAX, i64::MIN] {
        let nodes = vec![node("NonZero", &["x"], &["n"]), node("Slice", &["n", "one", "far", "one", "step"], &["y"])];
        let one = |value: i64| tensor(&[1], vec![value]);
        let constants = vec![("one", one(1)), ("far", one(i64::MAX)), ("step", one(step))];
        let told = load(&model(DataType::Float, nodes, constants)).unwrap_err().to_string();
        assert!(told.contains("takes steps of 32 bits other than 0"), "{step}: {told}");
    }
}
