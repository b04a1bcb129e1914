//! `MatMul` of two vectors or of whole numbers, and `MatMulInteger` of vectors; all other products are tract's.

use super::{
    einsum::{Axes, Equation, is_summed_by_tract, sum},
    kernel::{Built, Fact},
    stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, TractResult},
    tract_hir::internal::{
        AxisOp, Expansion, InferenceResult, OutletId, Solver, SpecialOps, StaticName, TDim, TVec, TensorProxy,
        TypedModel, bail, ensure, expand,
    },
};

/// `MatMul`: tract's, but for two vectors and for whole numbers.
#[derive(Debug, Clone)]
struct MatMul {
    stock: Box<dyn Expansion>,
}

pub(super) fn mat_mul(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(MatMul { stock: stock_expansion("MatMul", context, node)? }), Vec::new()))
}

impl MatMul {
    /// As an equation.
    fn axes(ranks: [usize; 2]) -> TractResult<Axes> {
        let text = match ranks {
            [0, _] | [_, 0] => bail!("takes no single number"),
            [1, 1] => "k,k->",
            [1, _] => "k,...kn->...n",
            [_, 1] => "...mk,k->...m",
            _ => "...mk,...kn->...mn",
        };
        Equation::read(text)?.axes(&ranks)
    }
}

impl Expansion for MatMul {
    fn name(&self) -> StaticName {
        "MatMul".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 2, "takes two inputs, got {}", inputs.len());
        solver.given(&inputs[0].datum_type, move |solver, datum| {
            solver.equals(&outputs[0].datum_type, Fact::new(datum, []).datum)
        })?;
        solver.given_2(&inputs[0].shape, &inputs[1].shape, move |solver, a, b| {
            let axes = Self::axes([a.len(), b.len()])?;
            let k = |shape: &TVec<TDim>, from_end: usize| shape[shape.len().saturating_sub(from_end)].to_i64().ok();
            let (left, right) = (k(&a, 1), k(&b, 2));
            ensure!(left.zip(right).is_none_or(|(left, right)| left == right), "cannot multiply {a:?} by {b:?}");
            solver.equals(&outputs[0].shape, axes.shape(&[a, b])?)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let (a, b) = (model.outlet_fact(inputs[0])?, model.outlet_fact(inputs[1])?);
        let (ranks, datum) = ([a.rank(), b.rank()], a.datum_type);
        if ranks == [1, 1] || !is_summed_by_tract(datum) {
            return sum(Self::axes(ranks)?, "MatMul", prefix, model, inputs);
        }
        self.stock.wire(prefix, model, inputs)
    }
}

/// `MatMulInteger`: tract's of matrices; a vector is a matrix of one row or column, which falls away again.
#[derive(Debug, Clone)]
struct MatMulInteger {
    stock: Box<dyn Expansion>,
}

pub(super) fn mat_mul_integer(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(MatMulInteger { stock: stock_expansion("MatMulInteger", context, node)? }), Vec::new()))
}

impl Expansion for MatMulInteger {
    fn name(&self) -> StaticName {
        "MatMulInteger".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() >= 2, "takes two matrices");
        solver.equals(&outputs[0].datum_type, DatumType::I32)?;
        solver.given_2(&inputs[0].shape, &inputs[1].shape, move |solver, a, b| {
            if a.len() > 1 && b.len() > 1 {
                return self.stock.rules(solver, inputs, outputs);
            }
            solver.equals(&outputs[0].shape, MatMul::axes([a.len(), b.len()])?.shape(&[a, b])?)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ranks = [model.outlet_fact(inputs[0])?.rank(), model.outlet_fact(inputs[1])?.rank()];
        if !ranks.contains(&1) {
            return self.stock.wire(prefix, model, inputs);
        }
        let mut wires = TVec::from(inputs);
        for (at, rank) in ranks.into_iter().enumerate().filter(|(_, rank)| *rank == 1) {
            wires[at] = model.wire_node(format!("{prefix}.matrix-{at}"), AxisOp::Add(at * rank), &[wires[at]])?[0];
        }
        let mut product = self.stock.wire(&format!("{prefix}.product"), model, &wires)?;
        let rank = model.outlet_fact(product[0])?.rank();
        // The last axis first, so that the other stays where it is.
        for (number, axis) in [rank - 1, rank - 2].into_iter().enumerate().filter(|(at, _)| ranks[1 - at] == 1) {
            let name = if number == 0 && ranks[0] == 1 { format!("{prefix}.column") } else { prefix.to_owned() };
            product = model.wire_node(name, AxisOp::Rm(axis), &product)?;
        }
        Ok(product)
    }
}
