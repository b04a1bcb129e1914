//! `LogSoftmax`, from the values themselves: tract's takes the logarithm of a softmax, which is infinite where that rounds to 0, as it
//! does some 100 below the greatest value.

use super::kernel::{Built, axis};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::nn::{Softmax, SoftmaxKind},
    tract_hir::internal::{
        Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, TensorProxy, TractResult,
        TypedModel, ensure, expand, tvec,
    },
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct LogSoftmax {
    axis: i64,
    /// Whether it goes over all axes from that one, as before opset 13.
    is_flat: bool,
}

pub(super) fn log_softmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let is_flat = context.onnx_operator_set_version < 13;
    let axis = node.get_attr_opt("axis")?.unwrap_or(if is_flat { 1 } else { -1 });
    Ok((expand(LogSoftmax { axis, is_flat }), Vec::new()))
}

impl Expansion for LogSoftmax {
    fn name(&self) -> StaticName {
        "LogSoftmax".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1 && outputs.len() == 1, "takes one input, got {}", inputs.len());
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        let rank = fact.rank();
        ensure!(fact.datum_type.is_float(), "takes floats, got {:?}", fact.datum_type);
        let axis = axis(self.axis, rank)?;
        let axes = if self.is_flat { (axis..rank).collect() } else { tvec![axis] };
        model.wire_node(prefix, Softmax { axes, quant_output_dt: None, kind: SoftmaxKind::LogSoftmax }, inputs)
    }
}
