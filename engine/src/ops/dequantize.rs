//! `DequantizeLinear` as whole numbers that lose their zero point and are scaled: tract's own is folded with a `Softmax` and the
//! `QuantizeLinear` behind it into a table that answers wrongly.

use super::kernel::{Built, axis};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{cast::cast, math},
    tract_hir::internal::{
        AxisOp, DatumType, DimLike, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec,
        TensorProxy, TractResult, TypedModel, bail, ensure, expand,
    },
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dequantize {
    /// Along which scales and zero points differ, where there are several.
    axis: i64,
    inputs: usize,
}

pub(super) fn linear(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    ensure!(block == 0, "DequantizeLinear scales blocks of {block}: export with one scale for a tensor or an axis");
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    ensure!(matches!(inputs, 2 | 3), "DequantizeLinear takes values, a scale and a zero point, got {inputs} inputs");
    Ok((expand(Dequantize { axis: node.get_attr_opt("axis")?.unwrap_or(1), inputs }), Vec::new()))
}

impl Dequantize {
    /// A scale or zero point with as many dimensions as the values.
    fn spread(&self, prefix: &str, model: &mut TypedModel, of: OutletId, rank: usize) -> TractResult<OutletId> {
        let fact = model.outlet_fact(of)?.clone();
        let (before, after) = match &*fact.shape.to_tvec() {
            [] => (rank, 0),
            [count] if count.to_usize()? == 1 && rank > 0 => (rank - 1, 0),
            [_] => {
                let axis = axis(self.axis, rank)?;
                (axis, rank - axis - 1)
            }
            other => bail!("takes one scale for a tensor or an axis, got {} dimensions", other.len()),
        };
        let mut wire = of;
        for step in 0..before {
            wire = model.wire_node(format!("{prefix}.before-{step}"), AxisOp::Add(0), &[wire])?[0];
        }
        for step in 0..after {
            let last = model.outlet_fact(wire)?.rank();
            wire = model.wire_node(format!("{prefix}.after-{step}"), AxisOp::Add(last), &[wire])?[0];
        }
        Ok(wire)
    }
}

impl Expansion for Dequantize {
    fn name(&self) -> StaticName {
        "DequantizeLinear".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == self.inputs, "takes {} inputs, got {}", self.inputs, inputs.len());
        solver.equals(&inputs[1].datum_type, DatumType::F32)?;
        solver.equals(&outputs[0].datum_type, DatumType::F32)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let known = [DatumType::I8, DatumType::U8, DatumType::I16, DatumType::U16, DatumType::I32];
        ensure!(known.contains(&fact.datum_type), "takes {known:?}, got {:?}", fact.datum_type);
        let mut wire = model.wire_node(format!("{prefix}.whole"), cast(DatumType::I32), &inputs[..1])?[0];
        if let Some(zero) = inputs.get(2) {
            let zero = model.wire_node(format!("{prefix}.zero"), cast(DatumType::I32), &[*zero])?[0];
            let zero = self.spread(&format!("{prefix}.zero"), model, zero, fact.rank())?;
            wire = model.wire_node(format!("{prefix}.off"), math::sub(), &[wire, zero])?[0];
        }
        let scale = self.spread(&format!("{prefix}.scale"), model, inputs[1], fact.rank())?;
        let wire = model.wire_node(format!("{prefix}.float"), cast(DatumType::F32), &[wire])?[0];
        model.wire_node(prefix, math::mul(), &[wire, scale])
    }
}
