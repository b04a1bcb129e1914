//! Loading and running through the public API.

use super::*;
use crate::{
    DType,
    fixtures::{self, integer, node, single, tensor_attribute, value},
    tensor_proto::to_proto,
};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, attribute_proto::AttributeType, tensor_proto::DataType, type_proto,
};

fn load(proto: &ModelProto) -> Result<Model, LoadError> {
    Model::load(&fixtures::bytes(proto), &Limits::default())
}

fn rows(n: usize, width: usize) -> Tensor {
    Tensor::new([n, width], (0..n * width).map(|value| value as f32).collect::<Vec<_>>()).unwrap()
}

/// The rows of the first input that plans are made for.
fn batches(model: &Model) -> Vec<usize> {
    model.plans.forms().iter().map(|form| form.shapes[0][0]).collect()
}

#[test]
fn a_linear_model_answers_for_any_number_of_rows() {
    let model = load(&fixtures::linear()).unwrap();
    assert_eq!(model.inputs()[0].shape_text(), "[?, 3]");
    assert_eq!(model.outputs()[0].shape_text(), "[?, 2]");
    for n in [1, 2, 7, 1] {
        let outputs = model.run(&[rows(n, 3)]).unwrap();
        assert_eq!(outputs[0].shape(), [n, 2]);
        for (row, got) in outputs[0].values::<f32>().unwrap().as_chunks::<2>().0.iter().enumerate() {
            let x = [0, 1, 2].map(|column| (row * 3 + column) as f32);
            assert_eq!(*got, [x[0] + 3.0 * x[1] + 5.0 * x[2] + 0.5, 2.0 * x[0] + 4.0 * x[1] + 6.0 * x[2] - 0.5]);
        }
    }
}

#[test]
fn outputs_keep_their_order_and_labels_are_int64() {
    let model = load(&fixtures::softmax()).unwrap();
    assert_eq!(model.outputs().iter().map(|spec| spec.dtype).collect::<Vec<_>>(), [DType::F32, DType::I64]);
    let outputs = model.run(&[Tensor::new([2, 4], vec![0f32, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0]).unwrap()]).unwrap();
    assert_eq!(outputs[1], Tensor::new([2], vec![1i64, 3]).unwrap());
    let total: f32 = outputs[0].values::<f32>().unwrap()[..4].iter().sum();
    assert!((total - 1.0).abs() < 1e-6);
}

#[test]
fn plans_are_kept_for_the_batches_used_last() {
    let limits = Limits { plans: 3, ..Limits::default() };
    let model = Model::load(&fixtures::bytes(&fixtures::linear()), &limits).unwrap();
    for n in [1, 2, 3, 2, 4, 5] {
        model.run(&[rows(n, 3)]).unwrap();
    }
    assert_eq!(batches(&model), [2, 4, 5]);
    model.prepare(2).unwrap();
    assert_eq!(batches(&model), [4, 5, 2]);
}

#[test]
fn a_fixed_batch_has_one_plan_and_one_shape() {
    let mut proto = fixtures::linear();
    proto.graph.as_mut().unwrap().input[0] = value("x", DataType::Float, &[2, 3]);
    let model = load(&proto).unwrap();
    assert!(!model.is_batched());
    assert_eq!(model.outputs()[0].shape_text(), "[2, 2]");
    assert_eq!(model.run(&[rows(2, 3)]).unwrap()[0].shape(), [2, 2]);
    assert!(matches!(model.run(&[rows(1, 3)]), Err(RunError::WrongShape { .. })));
    assert_eq!(model.prepare(77), Ok(()));
    assert_eq!(batches(&model), [2]);
}

#[test]
fn wrong_calls_are_refused_and_leave_the_model_usable() {
    let limits = Limits { batch: 8, ..Limits::default() };
    let model = Model::load(&fixtures::bytes(&fixtures::linear()), &limits).unwrap();
    assert_eq!(model.run(&[]), Err(RunError::WrongInputCount { expected: 1, got: 0 }));
    assert_eq!(model.run(&[rows(9, 3)]), Err(RunError::BatchSize { got: 9, limit: 8 }));
    assert_eq!(model.run(&[rows(0, 3)]).unwrap()[0].shape(), [0, 2], "nothing in, nothing out");
    assert!(matches!(model.run(&[rows(1, 4)]), Err(RunError::WrongShape { .. })));
    let bytes = Tensor::new([1, 3], vec![Vec::<u8>::new(); 3]).unwrap();
    assert!(matches!(model.run(&[bytes]), Err(RunError::WrongDtype { got: DType::Bytes, .. })));
    assert!(model.run(&[rows(1, 3)]).is_ok());
}

#[test]
fn two_inputs_must_agree_on_their_rows() {
    let inputs = ["a", "b"].map(|name| value(name, DataType::Float, &[-1, 3])).to_vec();
    let model = load(&single("Add", inputs)).unwrap();
    assert_eq!(model.run(&[rows(2, 3), rows(2, 3)]).unwrap()[0].shape(), [2, 3]);
    let unequal = model.run(&[rows(2, 3), rows(1, 3)]);
    assert_eq!(unequal, Err(RunError::UnequalBatch { tensor: "b".into(), expected: 2, got: 1 }));
}

#[test]
fn named_inputs_are_put_in_order() {
    let inputs = ["a", "b"].map(|name| value(name, DataType::Float, &[-1, 3])).to_vec();
    let model = load(&single("Sub", inputs)).unwrap();
    let (a, b) = (("a".to_owned(), rows(2, 3)), ("b".to_owned(), rows(1, 3)));
    assert_eq!(model.arrange([b.clone(), a.clone()]), Ok(vec![rows(2, 3), rows(1, 3)]));
    assert_eq!(model.arrange([a.clone()]), Err(RunError::WrongInputCount { expected: 2, got: 1 }));
    assert_eq!(model.arrange([a.clone(), a]), Err(RunError::DuplicateInput { tensor: "a".into() }));
    let foreign = model.arrange([b, ("c".to_owned(), rows(1, 3))]);
    assert_eq!(foreign, Err(RunError::UnknownInput { tensor: "c".into(), known: vec!["a".into(), "b".into()] }));
}

#[test]
fn an_initializer_that_is_also_an_input_is_none_to_give() {
    let mut proto = fixtures::linear();
    proto.graph.as_mut().unwrap().input.insert(0, value("w", DataType::Float, &[3, 2]));
    let model = load(&proto).unwrap();
    assert_eq!(model.inputs().len(), 1);
    assert!(model.run(&[rows(2, 3)]).is_ok());
    let refused = RunError::InputInFile { tensor: "w".into() };
    assert_eq!(model.run(&[rows(3, 2), rows(2, 3)]), Err(refused.clone()));
    assert_eq!(model.arrange([("x".to_owned(), rows(2, 3)), ("w".to_owned(), rows(3, 2))]), Err(refused));
}

#[test]
fn every_choice_of_open_dimensions_has_a_plan() {
    let model = load(&single("Relu", vec![value("x", DataType::Float, &[1, -1, 4])])).unwrap();
    assert_eq!(model.inputs()[0].shape_text(), "[1, ?, 4]");
    assert_eq!(model.outputs()[0].shape_text(), "[?, ?, ?]", "the file says nothing of use");
    assert_eq!((model.is_batched(), model.untried()), (false, None));
    let of = |n: usize| Tensor::new([1, n, 4], vec![-1f32; 4 * n]).unwrap();
    for n in [5, 2, 5] {
        assert_eq!(model.run(&[of(n)]).unwrap()[0].shape(), [1, n, 4]);
    }
    let shapes: Vec<_> = model.plans.forms().into_iter().map(|form| form.shapes).collect();
    assert_eq!(shapes, [[[1, 2, 4]], [[1, 5, 4]]]);
    assert_eq!(model.run(&[of(0)]), Err(RunError::Empty { tensor: "x".into(), got: vec![1, 0, 4] }));
    assert_eq!(model.prepare(3), Ok(()));
}

#[test]
fn an_input_without_a_shape_is_refused() {
    let mut input = value("x", DataType::Float, &[1]);
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().unwrap().value.as_mut() else { panic!() };
    tensor.shape = None;
    assert_eq!(load(&single("Relu", vec![input])).unwrap_err(), LoadError::NoShape { input: "x".into() });
}

#[test]
fn what_only_fits_some_sizes_loads_and_says_so() {
    let inputs = vec![value("x", DataType::Float, &[1, -1]), value("w", DataType::Float, &[37, 2])];
    let mut proto = single("MatMul", inputs);
    let untold = load(&{
        let mut proto = proto.clone();
        proto.graph.as_mut().unwrap().output[0].r#type = None;
        proto
    });
    assert!(matches!(untold, Err(LoadError::NotCompilable { .. })), "{untold:?}");
    proto.graph.as_mut().unwrap().output[0] = value("y", DataType::Float, &[1, 2]);
    let model = load(&proto).unwrap();
    assert!(
        matches!(model.untried(), Some(LoadError::NotCompilable { form: Some(form), .. }) if form == "`x` [1, 64]")
    );
    let (x, w) = (Tensor::new([1, 37], vec![1f32; 37]).unwrap(), Tensor::new([37, 2], vec![1f32; 74]).unwrap());
    assert_eq!(model.run(&[x, w.clone()]).unwrap()[0], Tensor::new([1, 2], vec![37f32, 37.0]).unwrap());
    let refused = model.run(&[Tensor::new([1, 9], vec![1f32; 9]).unwrap(), w]);
    assert!(matches!(&refused, Err(RunError::NotCompilable { form, .. }) if form == "`x` [1, 9]"), "{refused:?}");
}

#[test]
fn small_integers_that_a_plan_depends_on_have_plans_of_their_own() {
    let inputs = vec![value("x", DataType::Float, &[2, 2]), value("axis", DataType::Int64, &[])];
    let mut proto = single("CumSum", inputs);
    proto.graph.as_mut().unwrap().output[0] = value("y", DataType::Float, &[2, 2]);
    let limits = Limits { plans: 2, ..Limits::default() };
    let model = Model::load(&fixtures::bytes(&proto), &limits).unwrap();
    assert!(model.untried().is_some());
    let along = |axis: i64| {
        let x = Tensor::new([2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        model.run(&[x, Tensor::new([], vec![axis]).unwrap()])
    };
    for (axis, wanted) in
        [(0, [1f32, 2.0, 4.0, 6.0]), (1, [1.0, 3.0, 3.0, 7.0]), (-2, [1.0, 2.0, 4.0, 6.0]), (0, [1.0, 2.0, 4.0, 6.0])]
    {
        assert_eq!(along(axis).unwrap()[0].values::<f32>().unwrap(), wanted, "axis {axis}");
    }
    assert!(along(7).is_err());
    let kept = model.plans.forms();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|form| form.has_values() && form.values[0].is_none()));
}

/// `y` is `x` without its first dimension where that is 1, else `x`: written with branches of which one never fits.
fn squeezing() -> ModelProto {
    let graph = |nodes, output: &str| GraphProto {
        name: output.into(),
        node: nodes,
        output: vec![value(output, DataType::Float, &[-1])],
        ..GraphProto::default()
    };
    let branch = |name: &str, graph| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph.into(),
        g: Some(graph),
        ..AttributeProto::default()
    };
    let mut conditional = node("If", &["is_one"], &["y"]);
    conditional.attribute = vec![
        branch("then_branch", graph(vec![node("Squeeze", &["x", "zero"], &["a"])], "a")),
        branch("else_branch", graph(vec![node("Identity", &["x"], &["b"])], "b")),
    ];
    let one = |name, value: i64| to_proto(&Tensor::new([1], vec![value]).unwrap(), name);
    fixtures::model(GraphProto {
        node: vec![
            node("Shape", &["x"], &["shape"]),
            node("Gather", &["shape", "zero"], &["first"]),
            node("Equal", &["first", "one"], &["is_one"]),
            conditional,
        ],
        initializer: vec![one("zero", 0), one("one", 1)],
        input: vec![value("x", DataType::Float, &[-1, 3])],
        output: vec![value("y", DataType::Float, &[-1, 3])],
        ..GraphProto::default()
    })
}

#[test]
fn a_branch_is_taken_by_the_shape() {
    let model = load(&squeezing()).unwrap();
    assert_eq!(model.run(&[rows(1, 3)]).unwrap()[0].shape(), [3]);
    assert_eq!(model.run(&[rows(2, 3)]).unwrap()[0], rows(2, 3));
}

#[test]
fn a_branch_is_taken_by_the_call() {
    let mut proto = squeezing();
    let graph = proto.graph.as_mut().unwrap();
    graph.node.drain(..3);
    let branches = &mut graph.node[0].attribute;
    branches[0].g.as_mut().unwrap().node[0] = node("Neg", &["x"], &["a"]);
    graph.input.push(value("is_one", DataType::Bool, &[]));
    let model = load(&proto).unwrap();
    let call = |is_one: bool| model.run(&[rows(2, 3), Tensor::new([], vec![is_one]).unwrap()]).unwrap().remove(0);
    assert_eq!(call(false), rows(2, 3));
    assert_eq!(
        call(true).values::<f32>().unwrap(),
        rows(2, 3).values::<f32>().unwrap().iter().map(|x| -x).collect::<Vec<_>>()
    );
    assert_eq!(model.plans.forms().len(), 2, "one for a row, one for two, none for a value");
}

#[test]
fn a_huge_tensor_in_a_branch_is_refused_before_a_call_takes_it() {
    let mut proto = squeezing();
    let graph = proto.graph.as_mut().unwrap();
    graph.node.drain(..3);
    graph.node[0].attribute[0].g.as_mut().unwrap().node = vec![
        node("Tile", &["x", "tens"], &["many"]),
        node("ReduceMax", &["many"], &["most"]),
        node("Sub", &["x", "most"], &["a"]),
    ];
    graph.input.push(value("is_one", DataType::Bool, &[]));
    graph.initializer.push(to_proto(&Tensor::new([2], vec![10i64, 1]).unwrap(), "tens"));
    let at = |tensor_bytes| Model::load(&fixtures::bytes(&proto), &Limits { tensor_bytes, ..Limits::default() });
    assert!(at(200).is_ok());
    let refused = at(100).unwrap_err();
    assert!(matches!(&refused, LoadError::TooLarge { got: 120, limit: 100, .. }), "{refused}");
}

#[test]
fn inputs_of_foreign_types_and_huge_inputs_are_refused() {
    let brain = single("Relu", vec![value("x", DataType::Bfloat16, &[-1, 4])]);
    let expected = LoadError::UnsupportedType { tensor: "x".into(), dtype: "BFLOAT16".into() };
    assert_eq!(load(&brain).unwrap_err(), expected);
    for dims in [vec![-1, 1 << 40], vec![i64::MAX, i64::MAX, i64::MAX]] {
        let huge = single("Relu", vec![value("x", DataType::Float, &dims)]);
        assert!(matches!(load(&huge), Err(LoadError::TooLarge { .. })), "{dims:?}");
    }
}

#[test]
fn a_plan_with_a_huge_tensor_is_refused_and_smaller_batches_still_run() {
    let limits = Limits { tensor_bytes: 100, ..Limits::default() };
    let model = Model::load(&fixtures::bytes(&fixtures::linear()), &limits).unwrap();
    assert!(model.run(&[rows(2, 3)]).is_ok());
    let refused = model.run(&[rows(40, 3)]);
    let Err(RunError::NotCompilable { form, cause }) = refused else { panic!("{refused:?}") };
    assert_eq!(form, "40 rows");
    assert!(matches!(*cause, LoadError::TooLarge { limit: 100, .. }));
    assert!(model.run(&[rows(2, 3)]).is_ok());
}

#[test]
fn shapes_of_outputs_come_out_as_int64() {
    let model = load(&single("Shape", vec![value("x", DataType::Float, &[-1, 3])])).unwrap();
    assert_eq!(model.run(&[rows(5, 3)]).unwrap()[0], Tensor::new([2], vec![5i64, 3]).unwrap());
}

#[test]
fn a_graph_that_tract_cannot_type_is_not_compilable() {
    let inputs = vec![value("a", DataType::Float, &[-1, 3]), value("b", DataType::Float, &[5, 4])];
    let error = load(&single("MatMul", inputs)).unwrap_err();
    assert!(matches!(&error, LoadError::NotCompilable { form: Some(form), .. } if form == "1 rows"), "{error:?}");
}

#[test]
fn shapes_that_tract_hopes_will_fit_fail_at_the_call() {
    let inputs = vec![value("a", DataType::Float, &[-1, 3]), value("b", DataType::Float, &[-1, 4])];
    let model = load(&single("Add", inputs)).unwrap();
    assert!(matches!(model.run(&[rows(1, 3), rows(1, 4)]), Err(RunError::Failed { .. })));
}

#[test]
fn operators_may_share_a_name() {
    let mut proto = fixtures::linear();
    for node in &mut proto.graph.as_mut().unwrap().node {
        node.name = "x".into();
    }
    assert_eq!(load(&proto).unwrap().run(&[rows(2, 3)]).unwrap()[0].shape(), [2, 2]);
}

#[test]
fn a_cycle_is_an_error() {
    let proto = fixtures::model(GraphProto {
        node: vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"])],
        input: vec![value("x", DataType::Float, &[-1, 3])],
        output: vec![value("b", DataType::Float, &[-1, 3])],
        ..GraphProto::default()
    });
    assert!(load(&proto).is_err());
}

#[test]
fn constants_count_as_parameters_and_constant_graphs_run() {
    let mut constant = node("Constant", &[], &["y"]);
    let tensor = Tensor::new([2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
    constant.attribute = vec![tensor_attribute("value", to_proto(&tensor, ""))];
    let mut flatten = node("Flatten", &["x"], &["z"]);
    flatten.attribute = vec![integer("axis", 1)];
    let model = load(&fixtures::model(GraphProto {
        node: vec![constant, flatten],
        input: vec![value("x", DataType::Float, &[-1, 3])],
        output: vec![value("y", DataType::Float, &[2, 2]), value("z", DataType::Float, &[-1, 3])],
        ..GraphProto::default()
    }))
    .unwrap();
    assert_eq!(model.facts().parameters, 4);
    assert_eq!(model.outputs()[0].shape_text(), "[2, 2]");
    assert_eq!(model.run(&[rows(2, 3)]).unwrap(), [tensor, rows(2, 3)]);
}

#[test]
fn threads_share_a_model_and_make_each_plan_once() {
    fn shared<T: Send + Sync>(_: &T) {}
    let model = load(&fixtures::linear()).unwrap();
    shared(&model);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in [3, 1, 2, 3, 4] {
                    assert_eq!(model.run(&[rows(n, 3)]).unwrap()[0].shape(), [n, 2]);
                }
            });
        }
    });
    let mut batches = batches(&model);
    batches.sort_unstable();
    assert_eq!(batches, [1, 2, 3, 4]);
}

#[test]
fn a_thousand_operators_in_a_row_load() {
    let nodes = (0..1000).map(|at| node("Tanh", &[&format!("t{at}")], &[&format!("t{}", at + 1)]));
    let proto = fixtures::model(GraphProto {
        node: nodes.collect(),
        input: vec![value("t0", DataType::Float, &[-1, 3])],
        output: vec![value("t1000", DataType::Float, &[-1, 3])],
        ..GraphProto::default()
    });
    assert_eq!(load(&proto).unwrap().run(&[rows(2, 3)]).unwrap()[0].shape(), [2, 3]);
}

/// `y = Gather(x, i)` along `axis`, over rows of `width`; the indices come with the call.
fn gather(axis: i64, width: i64) -> Model {
    let inputs = vec![value("x", DataType::Float, &[-1, width]), value("i", DataType::Int64, &[1])];
    let mut proto = single("Gather", inputs);
    proto.graph.as_mut().unwrap().node[0].attribute = vec![integer("axis", axis)];
    load(&proto).unwrap()
}

#[test]
fn an_index_out_of_range_never_reads_another_row() {
    for axis in [0, 1] {
        let model = gather(axis, 3);
        let call = |index: i64| model.run(&[rows(3, 3), Tensor::new([1], vec![index]).unwrap()]);
        assert!(call(2).is_ok() && call(-3).is_ok());
        for index in [3, 4, 8, -4, -5, -9, i64::MAX, i64::MIN] {
            let answer = call(index);
            assert!(matches!(answer, Err(RunError::Values { .. })), "axis {axis}, index {index}: {answer:?}");
        }
        assert!(call(0).is_ok(), "the model stays usable");
    }
}
