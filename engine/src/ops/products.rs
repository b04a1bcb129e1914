//! `MatMul` of two vectors or of whole numbers, and `MatMulInteger` of vectors; all other products are tract's.

use super::{
    einsum::{Axes, Equation, is_summed_by_tract, sum},
    kernel::{Built, Fact, place},
    stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, TractResult},
    tract_core::ops::{cast::cast, change_axes::wire_with_rank_broadcast, math},
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

/// `MatMulInteger`: tract's of matrices; a vector is a matrix of one row or column, which falls away again. Where a zero point has as many
/// dimensions as what it belongs to, it is taken off first, and what is left are products of whole numbers.
#[derive(Debug, Clone)]
struct MatMulInteger {
    stock: Box<dyn Expansion>,
    /// Where the zero points are among the inputs.
    zeros: [Option<usize>; 2],
}

pub(super) fn mat_mul_integer(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let zeros = [2, 3].map(|at| place(node, at));
    Ok((expand(MatMulInteger { stock: stock_expansion("MatMulInteger", context, node)?, zeros }), Vec::new()))
}

impl MatMulInteger {
    /// Whole numbers of 32 bits less their zero points.
    fn moved(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let whole = |model: &mut TypedModel, part: &str, input: OutletId| -> TractResult<OutletId> {
            Ok(model.wire_node(format!("{prefix}.{part}"), cast(DatumType::I32), &[input])?[0])
        };
        let mut moved = TVec::new();
        for (at, zero) in self.zeros.iter().enumerate() {
            let mut side = whole(model, &format!("whole-{at}"), inputs[at])?;
            if let Some(zero) = zero {
                let zero = whole(model, &format!("zero-{at}"), inputs[*zero])?;
                let name = format!("{prefix}.moved-{at}");
                side = wire_with_rank_broadcast(name, model, math::sub(), &[side, zero])?[0];
            }
            moved.push(side);
        }
        Ok(moved)
    }
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
        for zero in self.zeros.into_iter().flatten() {
            if model.outlet_fact(inputs[zero])?.rank() > 1 {
                let moved = self.moved(prefix, model, inputs)?;
                return sum(MatMul::axes(ranks)?, "MatMulInteger", prefix, model, &moved);
            }
        }
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

#[cfg(test)]
mod tests {
    use crate::{Limits, Model, Tensor, fixtures, tensor_proto::to_proto};
    use tract_onnx::pb::tensor_proto::DataType;

    /// A zero point for each column of each matrix, as `MatMulInteger` takes it off before it multiplies.
    #[test]
    fn each_of_several_matrices_may_have_zero_points_of_its_own() {
        let mut proto = fixtures::single("MatMulInteger", vec![fixtures::value("x", DataType::Uint8, &[-1, 2, 2])]);
        let graph = proto.graph.as_mut().unwrap();
        graph.node[0].input.extend(["w", "", "z"].map(str::to_owned));
        graph.output[0] = fixtures::value("y", DataType::Int32, &[-1]);
        let weights = Tensor::new([2, 2, 1], vec![7u8, 9, 3, 200]).unwrap();
        let zeros = Tensor::new([2, 1, 1], vec![5u8, 100]).unwrap();
        graph.initializer = vec![to_proto(&weights, "w"), to_proto(&zeros, "z")];
        let model = Model::load(&fixtures::bytes(&proto), &Limits::default()).unwrap();
        let rows = Tensor::new([2, 2, 2], vec![1u8, 2, 3, 4, 1, 2, 3, 4]).unwrap();
        let expected = vec![2 + 2 * 4, 3 * 2 + 4 * 4, -97 + 2 * 100, 3 * -97 + 4 * 100];
        assert_eq!(model.run(&[rows]).unwrap(), [Tensor::new([2, 2, 1], expected).unwrap()]);
    }
}
