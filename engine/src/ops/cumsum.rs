//! `CumSum`: tract's sum, whose axis may be a list of one, as onnxruntime takes it too.

use super::kernel::{Built, axis};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{array::CumSum, cast::cast},
    tract_hir::internal::{
        DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec, TensorProxy,
        TractResult, TypedModel, anyhow, ensure, expand,
    },
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    exclusive: bool,
    reverse: bool,
}

pub(super) fn running(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name| node.get_attr_opt::<i64>(name).map(|flag| flag == Some(1));
    Ok((expand(Running { exclusive: flag("exclusive")?, reverse: flag("reverse")? }), Vec::new()))
}

impl Expansion for Running {
    fn name(&self) -> StaticName {
        "CumSum".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 2, "takes values and an axis, got {} inputs", inputs.len());
        // tract has a type for sizes, which it does not add up.
        solver.given(&inputs[0].datum_type, move |solver, datum| {
            let datum = if datum == DatumType::TDim { DatumType::I64 } else { datum };
            solver.equals(&outputs[0].datum_type, datum)
        })?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let named = model
            .outlet_fact(inputs[1])?
            .konst
            .as_ref()
            .ok_or_else(|| anyhow!("CumSum wants its axis as a constant"))?;
        ensure!(named.len() == 1, "CumSum wants one axis, got {}", named.len());
        let named = named.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?[0];
        let fact = model.outlet_fact(inputs[0])?;
        let datum = if fact.datum_type == DatumType::TDim { DatumType::I64 } else { fact.datum_type };
        let axis = axis(named, fact.rank())?;
        let Self { exclusive, reverse } = *self;
        let values = model.wire_node(format!("{prefix}.values"), cast(datum), &inputs[..1])?;
        model.wire_node(prefix, CumSum { axis, exclusive, reverse }, &values)
    }
}
