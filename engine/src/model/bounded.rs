//! Bounds on what tract computes while it makes a plan: no tensor beyond the limit on tensors, and none of more dimensions than any
//! operator has a use for.
//!
//! tract computes what is constant as soon as it has inferred the shapes of it. Here each of its operators is asked for shapes alone
//! first, so that what is too large is told by name before it is made.

use crate::{
    check::MAX_RANK,
    error::{LoadError, brief},
    ops,
};
use std::sync::Arc;
use thiserror::Error;
use tract_onnx::tract_hir::internal::{
    EvalContext, EvalOp, Factoid, InferenceFact, InferenceModel, InferenceNode, InferenceOp, Op, OpState, OutletId,
    SpecialOps, StaticName, TDim, TValue, TVec, TractResult, TypedModel, TypedOp, Validation, not_a_typed_op,
};
use tract_onnx::tract_hir::ops::konst::Const;

/// A tensor beyond the bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} takes {got}, more than {limit}")]
pub(crate) struct Beyond {
    what: String,
    got: u64,
    limit: u64,
}

impl From<&Beyond> for LoadError {
    fn from(beyond: &Beyond) -> Self {
        Self::TooLarge { what: beyond.what.clone(), got: beyond.got, limit: beyond.limit }
    }
}

/// Holds every operator of the model, and of those nested in it, to `most` bytes a tensor.
pub(crate) fn bound(model: &mut InferenceModel, most: u64) {
    for node in &mut model.nodes {
        if InferenceModel::is_source(&node.op) || node.op_is::<Const>() {
            continue;
        }
        ops::bodies(node.op.as_op_mut()).into_iter().for_each(|body| bound(body, most));
        node.op = Box::new(Bounded { name: brief(&node.name).into(), inner: node.op.clone(), most });
    }
}

/// One of tract's operators, which stands for itself in all but what it infers.
#[derive(Debug, Clone)]
struct Bounded {
    name: Arc<str>,
    inner: Box<dyn InferenceOp>,
    most: u64,
}

impl PartialEq for Bounded {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Bounded {}

impl Bounded {
    fn hold(&self, outputs: &[InferenceFact]) -> TractResult<()> {
        for output in outputs {
            let Some(shape) = output.shape.concretize() else { continue };
            if shape.len() as u64 > MAX_RANK {
                let what = format!("tensor `{}`, in dimensions,", self.name);
                return Err(Beyond { what, got: shape.len() as u64, limit: MAX_RANK }.into());
            }
            let size = output.datum_type.concretize().map_or(1, |datum| datum.size_of() as u64);
            // What is open, or not even a size, is for others to judge.
            let known = shape.iter().filter_map(|dim: &TDim| u64::try_from(dim.to_i64().ok()?).ok());
            let got = known.fold(size, u64::saturating_mul);
            if got > self.most {
                let what = format!("tensor `{}`, in bytes,", self.name);
                return Err(Beyond { what, got, limit: self.most }.into());
            }
        }
        Ok(())
    }
}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.inner.name()
    }

    fn validation(&self) -> Validation {
        self.inner.validation()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.inner.info()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.inner.mints_runtime_symbols()
    }

    not_a_typed_op!();
}

impl EvalOp for Bounded {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.inner.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.inner.eval_out_of_plan(inputs)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.inner.state(context)
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Bounded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        if !inputs.is_empty() && inputs.iter().all(|input| input.value.is_concrete()) {
            let (_, outputs, _) = self.inner.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
            self.hold(&outputs)?;
        }
        let known = self.inner.infer(inputs, outputs, observed)?;
        self.hold(&known.1)?;
        Ok(known)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<tract_onnx::tract_hir::infer::InferenceModelPatch>> {
        self.inner.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self.inner.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.inner.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &std::collections::HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.inner.to_typed(source, node, target, mapping)
    }
}
