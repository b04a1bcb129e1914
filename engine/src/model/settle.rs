//! What a graph has to be before tract's optimiser sees it, and the optimiser.
//!
//! It looks at the only value of what is constant without a look whether there is one, and to tract all is constant that has no values:
//! such tensors stand by themselves here, and an operator that would make values of one and another is refused.
//!
//! Of a convolution that takes steps along a dimension of one value, where there is nothing to step over, it makes another operator, and
//! fails where that meets a dimension that was only added, as Keras adds one to signals. Such steps are steps of 1 here.

use super::quick;
use crate::error::brief;
use tract_onnx::{
    prelude::{TVec, Tensor, TractResult, TypedFact, TypedModel},
    tract_core::{
        internal::{IntoArcTensor, bail, ensure},
        ops::{
            binary::TypedBinOp,
            cnn::{Conv, MaxPool, PaddingSpec, PoolSpec, SumPool},
            konst::Const,
            logic::Iff,
            scan::Scan,
        },
    },
};

/// The graph as it will be run.
pub(crate) fn optimised(mut model: TypedModel) -> TractResult<TypedModel> {
    settle(&mut model)?;
    let mut model = if are_single(&model)? { by_products(model)? } else { model.into_optimized()? };
    quick::exchange(&mut model)?;
    Ok(model)
}

/// Whether every convolution is of one image: of several tract would write out all patches at once.
fn are_single(model: &TypedModel) -> TractResult<bool> {
    for node in &model.nodes {
        if let (Some(conv), Some(input)) = (node.op.downcast_ref::<Conv>(), node.inputs.first()) {
            let shape = conv.pool_spec.data_format.shape(model.outlet_fact(*input)?.shape.to_tvec())?;
            if shape.n().is_some_and(|images| *images != 1.into()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Where a processor multiplies 16 numbers at once, convolutions as products of matrices outdo tract's direct ones, which multiply 8: those
/// of large images took a third less, and none took longer (docs/engine.md).
fn by_products(model: TypedModel) -> TractResult<TypedModel> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        let scope = tract_onnx::tract_core::knobs::KnobScope::new([("TRACT_DISABLE_DIRECT_SPATIAL", "true")])?;
        return scope.enter(|| model.into_optimized());
    }
    model.into_optimized()
}

fn settle(model: &mut TypedModel) -> TractResult<()> {
    for at in model.eval_order()? {
        if let Some(scan) = model.node_mut(at).op.downcast_mut::<Scan>() {
            settle(&mut scan.body)?;
        }
        within(model, at)?;
        hollow(model, at)?;
        steps(model, at)?;
    }
    Ok(())
}

fn is_empty(fact: &TypedFact) -> bool {
    fact.shape.as_concrete().is_some_and(|shape| shape.contains(&0))
}

/// Has what gives no values stand by itself.
fn hollow(model: &mut TypedModel, at: usize) -> TractResult<()> {
    let node = model.node(at);
    if node.inputs.is_empty() {
        return Ok(());
    }
    if let [output] = &*node.outputs
        && is_empty(&output.fact)
    {
        let nothing = Tensor::zero_dt(output.fact.datum_type, output.fact.shape.as_concrete().unwrap_or(&[0]))?;
        let inputs = std::mem::take(&mut model.node_mut(at).inputs);
        for input in inputs {
            let made = &mut model.node_mut(input.node).outputs[input.slot];
            made.successors.retain(|inlet| inlet.node != at);
        }
        model.node_mut(at).op = Box::new(Const::new(nothing.into_arc_tensor())?);
        return Ok(());
    }
    let joins = node.op.is::<TypedBinOp>() || node.op.is::<Iff>();
    if joins && model.node_input_facts(at)?.into_iter().any(is_empty) {
        bail!("operator `{}` ({}) meets a tensor without values", brief(&node.name), node.op.name());
    }
    Ok(())
}

/// Refuses a window that is wider than the image with what it is padded by: tract gives one value of a pool all the same. So does onnxruntime
/// where the pool's step is wider than what is lacking.
fn within(model: &TypedModel, at: usize) -> TractResult<()> {
    let node = model.node(at);
    let conv = node.op.downcast_ref::<Conv>().map(|op| &op.pool_spec);
    let pool = node.op.downcast_ref::<MaxPool>().map(|op| &op.pool_spec);
    let sum = node.op.downcast_ref::<SumPool>().map(|op| &op.pool_spec);
    let Some(spec) = conv.or(pool).or(sum) else { return Ok(()) };
    let Some(shape) = model.node_input_facts(at)?.first().and_then(|fact| fact.shape.as_concrete()) else {
        return Ok(());
    };
    let shape = spec.data_format.shape(shape)?;
    let (name, kind) = (brief(&node.name), node.op.name());
    let (windows, sides) = (spec.kernel_shape.len(), shape.hw_rank());
    ensure!(windows == sides, "operator `{name}` ({kind}) has windows of {windows} dimensions over images of {sides}");
    let dilations = spec.dilations();
    let sides = shape.hw_dims().iter().zip(&spec.kernel_shape).zip(dilations.iter()).enumerate();
    for (axis, ((side, kernel), dilation)) in sides {
        let padded = match &spec.padding {
            PaddingSpec::Valid => *side,
            PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                let padded = side.checked_add(before[axis]).and_then(|padded| padded.checked_add(after[axis]));
                let Some(padded) = padded else {
                    bail!("operator `{name}` ({kind}) has pads of {} and {}", before[axis], after[axis])
                };
                padded
            }
            // As much as it takes.
            PaddingSpec::SameUpper | PaddingSpec::SameLower => continue,
        };
        let window = kernel.saturating_sub(1).saturating_mul(*dilation).saturating_add(1);
        let lacking = window.saturating_sub(padded);
        if lacking > 0 && (conv.is_some() || lacking >= spec.stride(axis)) {
            bail!(
                "operator `{name}` ({kind}) has windows of {window} over {padded} places: send a larger input, or pad it"
            );
        }
    }
    Ok(())
}

fn steps(model: &mut TypedModel, at: usize) -> TractResult<()> {
    let Some(conv) = model.node(at).op.downcast_ref::<Conv>() else { return Ok(()) };
    let Some(shape) = model.node_input_facts(at)?.first().and_then(|fact| fact.shape.as_concrete()) else {
        return Ok(());
    };
    let Some(needed) = needed(&conv.pool_spec, shape)? else { return Ok(()) };
    let mut conv = conv.clone();
    conv.pool_spec.strides = Some(needed);
    model.node_mut(at).op = Box::new(conv);
    Ok(())
}

/// The steps that a window takes, where some that it is given are needless.
fn needed(spec: &PoolSpec, shape: &[usize]) -> TractResult<Option<TVec<usize>>> {
    let shape = spec.data_format.shape(shape)?;
    let sides = shape.hw_dims();
    let lists = [Some(spec.kernel_shape.len()), spec.strides.as_ref().map(|steps| steps.len())];
    if lists.into_iter().flatten().any(|length| length != sides.len()) {
        return Ok(None);
    }
    let paddings = spec.computed_padding(sides);
    let is_needless = |axis: usize| {
        let padding = &paddings[axis];
        sides[axis] == 1 && spec.kernel_shape[axis] == 1 && padding.pad_before + padding.pad_after == 0
    };
    let given = spec.strides();
    let steps = given.iter().enumerate().map(|(axis, step)| if is_needless(axis) { 1 } else { *step });
    let steps: TVec<usize> = steps.collect();
    Ok((*steps != *given).then_some(steps))
}

#[cfg(test)]
mod tests {
    use crate::{Limits, LoadError, Model, RunError, Tensor, fixtures, fixtures::value, tensor_proto::to_proto};
    use tract_onnx::pb::{
        AttributeProto, GraphProto, ModelProto, attribute_proto::AttributeType, tensor_proto::DataType,
    };

    fn powers(exponents: Option<Tensor>, rows: &[i64], reduced: bool) -> ModelProto {
        let mut nodes = vec![fixtures::node("Pow", &["x", "e"], &[if reduced { "p" } else { "y" }])];
        if reduced {
            nodes.push(fixtures::node("ReduceSum", &["p"], &["y"]));
        }
        let mut input = vec![value("x", DataType::Float, rows)];
        if exponents.is_none() {
            input.push(value("e", DataType::Float, &[-1]));
        }
        fixtures::model(GraphProto {
            node: nodes,
            initializer: exponents.iter().map(|exponents| to_proto(exponents, "e")).collect(),
            input,
            output: vec![value("y", DataType::Float, &[-1])],
            ..GraphProto::default()
        })
    }

    fn load(proto: &ModelProto) -> Result<Model, LoadError> {
        Model::load(&fixtures::bytes(proto), &Limits::default())
    }

    #[test]
    fn a_constant_without_values_is_refused_where_it_would_be_read() {
        let nothing = Tensor::new([0], Vec::<f32>::new()).unwrap();
        let verdict = load(&powers(Some(nothing), &[1, 3, 5], false));
        let told = |detail: &str| detail.contains("(Pow) meets a tensor without values");
        assert!(matches!(&verdict, Err(LoadError::NotCompilable { detail, .. }) if told(detail)), "{verdict:?}");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn convolutions_are_products_where_those_are_wide() -> tract_onnx::prelude::TractResult<()> {
        use tract_onnx::{
            prelude::{DatumExt, Tensor, TypedModel, tvec},
            tract_core::ops::{
                cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec},
                nn::DataFormat,
            },
            tract_hir::internal::SpecialOps,
        };
        let is_direct = |images: usize| -> tract_onnx::prelude::TractResult<bool> {
            let pool_spec = PoolSpec::new(DataFormat::NCHW, tvec!(3, 3), PaddingSpec::Valid, None, None, 8, 8);
            let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
            let mut model = TypedModel::default();
            let image = model.add_source("image", f32::fact([images, 8, 16, 256]))?;
            let weights = model.add_const("weights", Tensor::zero::<f32>(&[8, 8, 3, 3])?)?;
            let bias = model.add_const("bias", Tensor::zero::<f32>(&[8])?)?;
            let made = model.wire_node("conv", conv, &[image, weights, bias])?;
            model.select_output_outlets(&made)?;
            Ok(super::optimised(model)?.nodes.iter().any(|node| node.op.name() == "DirectSpatialConv"))
        };
        assert_ne!(is_direct(1)?, std::arch::is_x86_feature_detected!("avx512f"));
        assert!(is_direct(2)?, "of several images all patches would be written out");
        Ok(())
    }

    #[test]
    fn a_window_wider_than_what_it_slides_over_is_refused() {
        let pool = |operator: &str, pads: [i64; 2], width: i64| {
            let ints = |name: &str, values: &[i64]| AttributeProto {
                name: name.into(),
                r#type: AttributeType::Ints.into(),
                ints: values.to_vec(),
                ..AttributeProto::default()
            };
            let mut node = fixtures::node(operator, &["x"], &["y"]);
            node.attribute = vec![ints("kernel_shape", &[5]), ints("pads", &pads)];
            load(&fixtures::model(GraphProto {
                node: vec![node],
                input: vec![value("x", DataType::Float, &[1, 3, width])],
                output: vec![value("y", DataType::Float, &[])],
                ..GraphProto::default()
            }))
        };
        for operator in ["MaxPool", "AveragePool", "LpPool"] {
            assert!(pool(operator, [0, 0], 5).is_ok() && pool(operator, [1, 0], 4).is_ok(), "{operator}");
            let told = pool(operator, [0, 0], 4).unwrap_err().to_string();
            assert!(told.contains("windows of 5 over 4 places"), "{operator}: {told}");
            let told = pool(operator, [i64::MAX; 2], 4).unwrap_err().to_string();
            assert!(told.contains("pads"), "{operator}: {told}");
            assert!(!told.contains("panicked"), "{operator}: {told}");
        }
    }

    #[test]
    fn callers_send_no_values_and_are_answered_or_refused() {
        let model = load(&powers(None, &[3, 4], false)).unwrap();
        let x = Tensor::new([3, 4], vec![1f32; 12]).unwrap();
        let answer = model.run(&[x, Tensor::new([0], Vec::<f32>::new()).unwrap()]);
        assert!(matches!(answer, Err(RunError::BatchSize { got: 0, .. })), "{answer:?}");
        let two = Tensor::new([1], vec![2f32]).unwrap();
        let model = load(&powers(Some(two), &[-1, 4], true)).unwrap();
        let sum = model.run(&[Tensor::new([0, 4], Vec::<f32>::new()).unwrap()]).unwrap();
        assert_eq!(sum[0].data(), &vec![0f32].into(), "the sum of nothing");
    }
}
