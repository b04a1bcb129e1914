//! An `LSTM` that gives its last memory and begins with one tensor as state and memory, or with two constants, which tract may make one
//! of: it turns the axes of one and not of the other, and the call fails. Such a node is ours, others are tract's.

use super::super::{
    as_expansion,
    kernel::{Built, place},
    stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::internal::{
        Expansion, InferenceOp, InferenceResult, OutletId, Solver, StaticName, TVec, TensorProxy, TractResult,
        TypedModel, anyhow, expand,
    },
};

/// tract's operator but where its states clash.
#[derive(Debug, Clone)]
struct Apart {
    own: Box<dyn Expansion>,
    stock: Box<dyn Expansion>,
    /// Where the first state and the first memory stand, if they are given.
    begins: [Option<usize>; 2],
}

pub(super) fn apart(context: &ParsingContext<'_>, node: &NodeProto, own: Box<dyn InferenceOp>) -> Built {
    let own = as_expansion(&*own).ok_or_else(|| anyhow!("our LSTM is not what it was"))?;
    let begins = [place(node, 5), place(node, 6)];
    Ok((expand(Apart { own, stock: stock_expansion("LSTM", context, node)?, begins }), Vec::new()))
}

impl Apart {
    fn clash(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<bool> {
        let [state, memory] = self.begins.map(|at| at.and_then(|at| inputs.get(at)));
        let is_constant = |given: Option<&OutletId>| {
            given.map_or(Ok(true), |given| {
                Ok::<_, tract_onnx::prelude::TractError>(model.outlet_fact(*given)?.konst.is_some())
            })
        };
        Ok(state == memory || (is_constant(state)? && is_constant(memory)?))
    }
}

impl Expansion for Apart {
    fn name(&self) -> StaticName {
        "LSTM".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.stock.nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.stock.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let form = if self.clash(model, inputs)? { &self.own } else { &self.stock };
        form.wire(prefix, model, inputs)
    }
}
