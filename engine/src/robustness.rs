//! Broken and hostile model files: every one is an error or a model, and the process lives on.
//! `PROPTEST_CASES` sets how many mutants are tried.

mod bounds;

use crate::{
    Limits, LoadError, Model, Tensor, fixtures, guard::guarded, inspect, model::plans, tensor_proto::to_proto,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tract_onnx::{
    pb::{AttributeProto, GraphProto, ModelProto, attribute_proto::AttributeType, tensor_proto::DataType},
    prelude::Framework,
};

fn models() -> [Vec<u8>; 2] {
    [fixtures::linear(), fixtures::softmax()].map(|proto| fixtures::bytes(&proto))
}

/// Loads and, if it loads, runs once with zeros. What loads must have been told to be without fault before.
fn try_out(bytes: &[u8]) -> Option<LoadError> {
    let limits = Limits { tensor_bytes: 16 << 20, ..Limits::default() };
    let told = inspect(bytes, &limits);
    let model = match Model::load(bytes, &limits) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.to_string().chars().count() < 12_000, "unbounded message");
            return Some(error);
        }
    };
    assert!(told.is_ok_and(|told| told.unsupported.is_empty() && told.refusal.is_none()), "it loads all the same");
    let zeros = model.inputs().iter().map(|spec| {
        let shape: Vec<usize> = spec.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
        Tensor::new(shape.clone(), vec![0f32; shape.iter().product()]).ok()
    });
    if let Some(zeros) = zeros.collect::<Option<Vec<_>>>() {
        let _ = model.run(&zeros);
    }
    None
}

#[test]
fn every_truncation_is_answered() {
    for whole in models() {
        let refused = (0..whole.len()).filter(|length| try_out(&whole[..*length]).is_some()).count();
        assert!(refused > whole.len() / 2, "{refused} of {} truncations refused", whole.len());
        assert_eq!(try_out(&whole), None);
    }
}

#[test]
fn the_panic_of_a_dangling_output_is_caught_even_without_our_check() {
    let mut proto = fixtures::linear();
    proto.graph.as_mut().unwrap().output[0].name = "nothing".into();
    let what = guarded(|| plans::reader().model_for_proto_model(&proto).is_ok()).unwrap_err();
    assert!(what.contains("/src/model.rs:"), "{what}");
    let verdict = Model::load(&fixtures::bytes(&proto), &Limits::default());
    assert!(matches!(verdict, Err(LoadError::Malformed { detail }) if detail.contains("`nothing`")));
    assert!(Model::load(&models()[0], &Limits::default()).is_ok());
}

#[test]
fn a_panic_inside_tract_is_a_load_error() {
    let graph = |output: &str| {
        let outputs = vec![fixtures::value(output, DataType::Float, &[1])];
        GraphProto { name: "branch".into(), output: outputs, ..GraphProto::default() }
    };
    let mut proto = fixtures::single("If", vec![fixtures::value("x", DataType::Bool, &[])]);
    for branch in ["then_branch", "else_branch"] {
        let (name, r#type, g) = (branch.into(), AttributeType::Graph as i32, Some(graph("nothing")));
        let attribute = AttributeProto { name, r#type, g, ..AttributeProto::default() };
        proto.graph.as_mut().unwrap().node[0].attribute.push(attribute);
    }
    let verdict = Model::load(&fixtures::bytes(&proto), &Limits::default());
    assert!(matches!(&verdict, Err(LoadError::Panicked { what }) if what.contains("model.rs:")), "{verdict:?}");
}

#[test]
fn constants_that_would_fill_the_memory_are_refused_before_they_are_made() {
    for (operator, inputs) in [("ConstantOfShape", &["s"][..]), ("Expand", &["x", "s"])] {
        for dims in [vec![1i64 << 40], vec![1 << 20, 1 << 20], vec![i64::MAX, i64::MAX, 4]] {
            let mut proto = fixtures::linear();
            let graph = proto.graph.as_mut().unwrap();
            let shape = Tensor::new([dims.len()], dims).unwrap();
            graph.initializer.push(to_proto(&shape, "s"));
            graph.node.push(fixtures::node(operator, inputs, &["big"]));
            graph.output.push(fixtures::value("big", DataType::Float, &[-1]));
            let verdict = try_out(&fixtures::bytes(&proto));
            assert!(
                matches!(&verdict, Some(LoadError::TooLarge { what, .. }) if what.contains("`big`")),
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn a_product_that_nothing_takes_is_no_harm() {
    let mut proto = fixtures::linear();
    let graph = proto.graph.as_mut().unwrap();
    graph.initializer.push(to_proto(&Tensor::new([2, 2], vec![1u8; 4]).unwrap(), "q"));
    graph.node.push(fixtures::node("MatMulInteger", &["q", "q"], &[]));
    let told = inspect(&fixtures::bytes(&proto), &Limits::default()).unwrap();
    assert_eq!((told.operators["MatMulInteger"], told.refusal), (1, None));
}

#[test]
fn values_may_be_named_like_those_that_rewriting_adds() {
    let mut proto = fixtures::linear();
    let graph = proto.graph.as_mut().unwrap();
    let weights = Tensor::new([2, 2], vec![1u8, 0, 0, 1]).unwrap();
    graph.initializer.push(to_proto(&weights, "q"));
    // Its product is said in floats, by names that begin like these of the file.
    let mut add = fixtures::node("Identity", &["y"], &["~exact.1.p.x"]);
    add.name = "exact.p.x".into();
    let mut cast = fixtures::node("Cast", &["p"], &["exact.p.x"]);
    cast.attribute = vec![fixtures::integer("to", 1)];
    let sum = fixtures::node("Add", &["exact.p.x", "~exact.1.p.x"], &["z"]);
    graph.node.extend([add, fixtures::node("MatMulInteger", &["q", "q"], &["p"]), cast, sum]);
    graph.output[0].name = "z".into();
    let model = Model::load(&fixtures::bytes(&proto), &Limits::default()).unwrap();
    let rows = Tensor::new([2, 3], vec![1f32, 2.0, 3.0, 0.0, 0.0, 0.0]).unwrap();
    let answer = model.run(&[rows]).unwrap();
    assert_eq!(answer, [Tensor::new([2, 2], vec![23.5f32, 27.5, 0.5, 0.5]).unwrap()]);
}

#[test]
fn other_files_are_malformed() {
    for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", b"{\"json\": true}", &[0; 64], &[0xff; 64]] {
        assert!(matches!(try_out(bytes), Some(LoadError::Malformed { .. })), "{bytes:?}");
    }
}

/// One change to a model that leaves it a well-formed message, so that it gets past the decoder.
#[derive(Debug, Clone)]
enum Change {
    Operator(usize, &'static str),
    Attribute(usize, i64),
    DropInput(usize),
    RepeatInput(usize),
    InputDims(Vec<i64>),
    WeightDims(usize, Vec<i64>),
    WeightType(usize, i32),
    Opset(i64),
}

const OPERATORS: [&str; 16] = [
    "Add",
    "ArgMax",
    "Concat",
    "Conv",
    "Flatten",
    "Gather",
    "Gemm",
    "MatMul",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "Softmax",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

fn any_change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![-4i64..8, Just(i64::MIN), Just(i64::MAX)];
    let dims = prop::collection::vec(prop_oneof![4 => -1i64..6, 1 => Just(1 << 40), 1 => Just(i64::MAX)], 0..4);
    prop_oneof![
        (0usize..2, prop::sample::select(&OPERATORS[..])).prop_map(|(node, name)| Change::Operator(node, name)),
        (0usize..2, number).prop_map(|(node, value)| Change::Attribute(node, value)),
        (0usize..2).prop_map(Change::DropInput),
        (0usize..2).prop_map(Change::RepeatInput),
        dims.clone().prop_map(Change::InputDims),
        (0usize..2, dims).prop_map(|(weight, dims)| Change::WeightDims(weight, dims)),
        (0usize..2, 0i32..25).prop_map(|(weight, code)| Change::WeightType(weight, code)),
        (-1i64..30).prop_map(Change::Opset),
    ]
}

fn apply(proto: &mut ModelProto, change: Change) {
    let graph = proto.graph.as_mut().unwrap();
    match change {
        Change::Operator(node, name) => graph.node[node].op_type = name.into(),
        Change::Attribute(node, value) => graph.node[node].attribute = vec![fixtures::integer("axis", value)],
        Change::DropInput(node) => drop(graph.node[node].input.pop()),
        Change::RepeatInput(node) => graph.node[node].input.push("x".into()),
        Change::InputDims(dims) => graph.input[0] = fixtures::value("x", DataType::Float, &dims),
        Change::WeightDims(weight, dims) => {
            if let Some(tensor) = graph.initializer.get_mut(weight) {
                tensor.dims = dims;
            }
        }
        Change::WeightType(weight, code) => {
            if let Some(tensor) = graph.initializer.get_mut(weight) {
                tensor.data_type = code;
            }
        }
        Change::Opset(version) => proto.opset_import[0].version = version,
    }
}

fn mutant(which: usize, changes: Vec<Change>) -> Vec<u8> {
    let mut proto = [fixtures::linear, fixtures::softmax][which]();
    for change in changes {
        apply(&mut proto, change);
    }
    fixtures::bytes(&proto)
}

fn any_mutant() -> impl Strategy<Value = Vec<u8>> {
    (0usize..2, prop::collection::vec(any_change(), 1..4)).prop_map(|(which, changes)| mutant(which, changes))
}

/// Whether tract itself had to judge the file, because nothing of ours refused it first.
fn reached_tract(verdict: Option<&LoadError>) -> bool {
    matches!(verdict, None | Some(LoadError::NotCompilable { .. } | LoadError::Panicked { .. }))
}

#[test]
fn most_well_formed_mutants_get_as_far_as_tract() {
    let mut runner = TestRunner::deterministic();
    let mutants = (0..500).map(|_| any_mutant().new_tree(&mut runner).unwrap().current());
    let reached = mutants.filter(|bytes| reached_tract(try_out(bytes).as_ref())).count();
    assert!(reached > 250, "only {reached} of 500");
}

proptest! {
    #[test]
    fn flipped_bits_never_take_the_process_down(which in 0usize..2, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..3)) {
        let mut bytes = models()[which].clone();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        try_out(&bytes);
    }

    #[test]
    fn moved_and_doubled_pieces_never_take_the_process_down(which in 0usize..2, from in any::<prop::sample::Index>(), length in 1usize..40, to in any::<prop::sample::Index>()) {
        let mut bytes = models()[which].clone();
        let from = from.index(bytes.len());
        let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
        let to = to.index(bytes.len());
        bytes.splice(to..to, piece);
        try_out(&bytes);
    }

    #[test]
    fn well_formed_mutants_never_take_the_process_down(bytes in any_mutant()) {
        try_out(&bytes);
    }
}
