//! `Gemm`: `alpha · A · B + beta · C`, with either matrix turned round. tract has it for single precision only; 16 bits are computed as
//! 32 here, as onnxruntime does.

use super::{arithmetic, kernel::Built};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_core::ops::{cast::cast, einsum::EinSum, math},
    tract_hir::internal::{
        AxesMapping, AxisOp, DatumType, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TVec,
        TensorProxy, TractResult, TypedModel, ensure, expand, tensor0,
    },
};

#[derive(Debug, Clone)]
struct Gemm {
    alpha: f32,
    beta: f32,
    turned: [bool; 2],
    inputs: usize,
}

impl PartialEq for Gemm {
    fn eq(&self, other: &Self) -> bool {
        let bits = |gemm: &Self| (gemm.alpha.to_bits(), gemm.beta.to_bits(), gemm.turned, gemm.inputs);
        bits(self) == bits(other)
    }
}

impl Eq for Gemm {}

pub(super) fn product(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    ensure!(matches!(inputs, 2 | 3), "Gemm takes two matrices and what is added, got {inputs} inputs");
    let factor = |name| node.get_attr_opt::<f32>(name).map(|factor| factor.unwrap_or(1.0));
    let turned = |name| node.get_attr_opt::<i64>(name).map(|turned| turned.unwrap_or(0) != 0);
    let gemm =
        Gemm { alpha: factor("alpha")?, beta: factor("beta")?, turned: [turned("transA")?, turned("transB")?], inputs };
    Ok((expand(gemm), Vec::new()))
}

impl Gemm {
    fn scaled(&self, name: String, model: &mut TypedModel, wire: OutletId, factor: f32) -> TractResult<OutletId> {
        if factor == 1.0 {
            return Ok(wire);
        }
        if arithmetic::is_extreme(factor.into()) {
            return Ok(model.wire_node(name, arithmetic::times(factor.into()), &[wire])?[0]);
        }
        let fact = model.outlet_fact(wire)?;
        let factor = tensor0(factor).cast_to_dt(fact.datum_type)?.into_owned().broadcast_into_rank(fact.rank())?;
        let factor = model.add_const(format!("{name}.factor"), factor)?;
        Ok(model.wire_node(name, math::mul(), &[wire, factor])?[0])
    }
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == self.inputs, "takes {} inputs, got {}", self.inputs, inputs.len());
        for input in inputs {
            solver.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        for matrix in inputs[..2].iter().chain(outputs) {
            solver.equals(&matrix.rank, 2)?;
        }
        // Of each matrix, the axis that stays and the one that is summed over.
        let [a, b] = self.turned.map(usize::from);
        solver.equals(&inputs[0].shape[a], &outputs[0].shape[0])?;
        solver.equals(&inputs[1].shape[1 - b], &outputs[0].shape[1])?;
        solver.equals(&inputs[0].shape[1 - a], &inputs[1].shape[b])
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let datum = model.outlet_fact(inputs[0])?.datum_type;
        let known = [DatumType::F16, DatumType::F32, DatumType::F64];
        ensure!(known.contains(&datum), "takes {known:?}, got {datum:?}");
        let inner = if datum == DatumType::F16 { DatumType::F32 } else { datum };
        let mut wires = TVec::from(inputs);
        if inner != datum {
            for (at, wire) in wires.iter_mut().enumerate() {
                *wire = model.wire_node(format!("{prefix}.wide-{at}"), cast(inner), &[*wire])?[0];
            }
        }
        let axes = AxesMapping::for_numpy_matmul(2, self.turned[0], self.turned[1], false)?;
        let mut wire = model.wire_node(format!("{prefix}.ab"), EinSum::new(axes, inner), &wires[..2])?[0];
        wire = self.scaled(format!("{prefix}.alpha"), model, wire, self.alpha)?;
        if let (Some(added), true) = (wires.get(2), self.beta != 0.0) {
            let mut added = *added;
            while model.outlet_fact(added)?.rank() < 2 {
                let name = format!("{prefix}.rank-{}", model.outlet_fact(added)?.rank());
                added = model.wire_node(name, AxisOp::Add(0), &[added])?[0];
            }
            added = self.scaled(format!("{prefix}.beta"), model, added, self.beta)?;
            wire = model.wire_node(format!("{prefix}.c"), math::add(), &[wire, added])?[0];
        }
        model.wire_node(prefix, cast(datum), &[wire])
    }
}
