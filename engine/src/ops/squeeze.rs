//! `Squeeze` of no named axes, which takes away every dimension of one value; up to opset 12 tract wants them named.

use super::{kernel::Built, stock};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::internal::{
        AxisOp, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec, TensorProxy,
        TractResult, TypedModel, ensure, expand, tvec,
    },
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct All;

pub(super) fn squeeze(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_named = node.input.len() > 1 || node.attribute.iter().any(|attribute| attribute.name == "axes");
    if is_named { stock("Squeeze")?(context, node) } else { Ok((expand(All), Vec::new())) }
}

fn is_one(dim: &TDim) -> bool {
    *dim == TDim::from(1)
}

impl Expansion for All {
    fn name(&self) -> StaticName {
        "Squeeze".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1 && outputs.len() == 1, "takes one input and gives one output");
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            let left: TVec<TDim> = shape.into_iter().filter(|dim| !is_one(dim)).collect();
            solver.equals(&outputs[0].shape, left)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let ones = (0..shape.len()).rev().filter(|axis| is_one(&shape[*axis]));
        let mut wire = tvec!(inputs[0]);
        for axis in ones {
            wire = model.wire_node(format!("{prefix}.axis-{axis}"), AxisOp::Rm(axis), &wire)?;
        }
        Ok(wire)
    }
}
