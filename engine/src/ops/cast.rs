//! `Cast` to whole numbers of 64 bits, which tract takes for sizes, of which it keeps 32 bits. Here only sizes stay sizes.

use super::kernel::Built;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::f16,
    tract_core::ops::{cast::cast, element_wise::ElementWiseMiniOp, element_wise::ElementWiseOp},
    tract_hir::internal::{
        Datum, DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, Tensor,
        TensorProxy, TractResult, TypedModel, bail, ensure, expand,
    },
};

pub(super) fn to(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if node.get_attr::<DatumType>("to")? != DatumType::I64 {
        return super::stock("Cast")?(context, node);
    }
    Ok((expand(ToInt64), Vec::new()))
}

/// `CastLike`, whose second input has the type.
#[derive(Debug, Clone)]
struct Like {
    stock: Box<dyn Expansion>,
}

pub(super) fn like(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Like { stock: super::stock_expansion("CastLike", context, node)? }), Vec::new()))
}

fn is_whole(like: DatumType) -> bool {
    matches!(like, DatumType::I64 | DatumType::TDim)
}

impl Expansion for Like {
    fn name(&self) -> StaticName {
        "CastLike".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 2, "takes two inputs, got {}", inputs.len());
        solver.given(&inputs[1].datum_type, move |solver, like| {
            let rules = if is_whole(like) { &ToInt64 as &dyn Expansion } else { &*self.stock };
            rules.rules(solver, if is_whole(like) { &inputs[..1] } else { inputs }, outputs)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match is_whole(model.outlet_fact(inputs[1])?.datum_type) {
            true => ToInt64.wire(prefix, model, &inputs[..1]),
            false => self.stock.wire(prefix, model, inputs),
        }
    }
}

/// What `Cast` gives for values of this type.
fn given(datum: DatumType) -> DatumType {
    if datum == DatumType::TDim { datum } else { DatumType::I64 }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ToInt64;

impl Expansion for ToInt64 {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1, "takes one input, got {}", inputs.len());
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, datum| solver.equals(&outputs[0].datum_type, given(datum)))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match model.outlet_fact(inputs[0])?.datum_type {
            datum if datum.is_float() => model.wire_node(prefix, ElementWiseOp(Box::new(Truncated), None), inputs),
            datum => model.wire_node(prefix, cast(given(datum)), inputs),
        }
    }
}

/// Floats without what is behind the point. What no number of 64 bits is near to becomes the least one, as x86 has it and onnxruntime
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Truncated;

/// The first number above all of 64 bits.
const END: f64 = -(i64::MIN as f64);

fn truncated(value: f64) -> i64 {
    if (-END..END).contains(&value) { value as i64 } else { i64::MIN }
}

impl ElementWiseMiniOp for Truncated {
    fn name(&self) -> String {
        "Cast".into()
    }

    fn output_type(&self, _: DatumType) -> Option<DatumType> {
        Some(DatumType::I64)
    }

    fn eval_out_of_place(&self, tensor: &Tensor, _: Option<DatumType>) -> TractResult<Tensor> {
        whole(tensor)
    }
}

/// Such values as numbers of 64 bits.
pub(super) fn whole(floats: &Tensor) -> TractResult<Tensor> {
    fn of<T: Datum + Copy + Into<f64>>(tensor: &Tensor) -> TractResult<Tensor> {
        let values = super::kernel::values::<T>(tensor)?;
        let ints: Vec<i64> = values.iter().map(|value| truncated((*value).into())).collect();
        Tensor::from_shape(tensor.shape(), &ints)
    }
    match floats.datum_type() {
        DatumType::F16 => of::<f16>(floats),
        DatumType::F32 => of::<f32>(floats),
        DatumType::F64 => of::<f64>(floats),
        other => bail!("takes floats, got {other:?}"),
    }
}
