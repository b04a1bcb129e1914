//! tract's operator, or ours in the forms of it that tract has not or answers wrongly.

use super::{
    kernel::{Built, Kernel, expansion},
    stock_expansion,
};
use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::internal::{
        Expansion, InferenceResult, OutletId, Solver, StaticName, TVec, TensorProxy, TractResult, TypedFact,
        TypedModel, expand,
    },
};

/// By what is given, which of the two it is. Shapes are told by tract's rules for both.
#[derive(Debug, Clone)]
struct Either {
    own: Box<dyn Expansion>,
    stock: Box<dyn Expansion>,
    is_ours: fn(&[&TypedFact]) -> bool,
}

/// An operator of one output.
pub(super) fn either(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    own: impl Kernel,
    is_ours: fn(&[&TypedFact]) -> bool,
) -> Built {
    let stock = stock_expansion(&node.op_type, context, node)?;
    Ok((expand(Either { own: expansion(own), stock, is_ours }), Vec::new()))
}

impl Expansion for Either {
    fn name(&self) -> StaticName {
        self.stock.name()
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
        let is_ours = {
            let facts = inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<TVec<_>>>()?;
            (self.is_ours)(&facts)
        };
        let form = if is_ours { &self.own } else { &self.stock };
        form.wire(prefix, model, inputs)
    }
}
