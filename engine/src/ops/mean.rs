//! `Mean` of inputs of unlike numbers of dimensions; tract divides by the wrong one's.

use super::kernel::FLOATS;
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::{broadcast::multi_broadcast, ops::change_axes::wire_rank_broadcast, ops::math},
    tract_hir::internal::{
        Expansion, InferenceOp, InferenceResult, OutletId, ShapeFactoid, Solver, SpecialOps, StaticName, TDim, TVec,
        TensorProxy, TractResult, TypedModel, ensure, expand, tensor0,
    },
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mean;

pub(super) fn mean(_: &ParsingContext<'_>, _: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Mean), Vec::new()))
}

impl Expansion for Mean {
    fn name(&self) -> StaticName {
        "Mean".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(!inputs.is_empty(), "takes at least one input");
        for input in inputs {
            solver.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes: Vec<TVec<TDim>>| {
            solver.equals(&outputs[0].shape, ShapeFactoid::from(multi_broadcast(&shapes)?))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let datum = model.outlet_fact(inputs[0])?.datum_type;
        ensure!(FLOATS.contains(&datum), "takes {FLOATS:?}, got {datum:?}");
        let mut sum = inputs[0];
        for (number, input) in inputs.iter().enumerate().skip(1) {
            let name = format!("{prefix}.sum-{number}");
            let pair = wire_rank_broadcast(&name, model, &[sum, *input])?;
            sum = model.wire_node(name, math::add(), &pair)?[0];
        }
        let rank = model.outlet_fact(sum)?.rank();
        let count = tensor0(u32::try_from(inputs.len())? as f32).cast_to_dt(datum)?.into_owned();
        let count = model.add_const(format!("{prefix}.count"), count.broadcast_into_rank(rank)?)?;
        model.wire_node(prefix, math::div(), &[sum, count])
    }
}
