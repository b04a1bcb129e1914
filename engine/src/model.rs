//! A loaded model: knows what it takes and gives, answers calls from any thread.
//!
//! Where the batch is open, each batch size gets its own plan with concrete shapes, compiled at the first call and kept
//! while it is among the most recently used. No state passes from one call to the next.

pub(crate) mod plans;
mod quick;
mod registers;

use crate::{
    check, convert, decode,
    error::{LoadError, RunError, brief},
    facts::{self, Facts},
    guard::guarded,
    limits::Limits,
    rewrite,
    spec::{self, TensorSpec},
    tensor::{Data, Tensor},
};
use plans::{Plan, Plans};
use std::{fmt, sync::Arc};
use tract_onnx::{
    prelude::{IntoTValue, TVec, TractResult},
    tract_core::plan,
};

/// An ONNX model, ready to run; shared between threads by reference or `Arc`.
pub struct Model {
    facts: Facts,
    plans: Plans,
    batch_limit: usize,
}

impl Model {
    /// Loads a model file and compiles its plan: the only one, or the one for a single row if the batch is open.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the file or what it asks too much of; nothing of it is kept then.
    pub fn load(bytes: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        let mut proto = decode::model(bytes, limits)?;
        let opset = proto
            .opset_import
            .iter()
            .find(|import| matches!(&*import.domain, "" | "ai.onnx"))
            .map_or(1, |import| import.version);
        if let Some(graph) = proto.graph.as_mut() {
            rewrite::zip_maps(graph);
            rewrite::backwards(graph, opset);
            check::name_apart(graph);
        }
        let reader = plans::reader();
        let graph = check::graph(&proto, &reader, limits)?;
        let inputs = spec::inputs(graph, limits)?;
        let batched = inputs.iter().any(TensorSpec::is_batched);
        let plans = Plans::new(&reader, &proto, inputs.clone(), limits)?;
        let plan = plans.get(1)?;
        if plan.outputs.len() != graph.output.len() {
            return Err(LoadError::malformed("the plan has another number of outputs than the graph"));
        }
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for (info, fact) in graph.output.iter().zip(&plan.outputs) {
            let dtype = convert::dtype(fact.datum).ok_or_else(|| LoadError::UnsupportedType {
                tensor: brief(&info.name),
                dtype: format!("{:?}", fact.datum).to_uppercase(),
            })?;
            outputs.push(spec::output(info, dtype, &fact.dims, batched));
        }
        let facts = facts::derive(&proto, graph, bytes.len(), inputs, outputs);
        let batch_limit = if batched { limits.batch } else { 1 };
        Ok(Self { facts, plans, batch_limit })
    }

    /// What the model takes, in the order that [`run`](Self::run) wants.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.facts.inputs
    }

    /// What the model gives, in the order that [`run`](Self::run) answers.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.facts.outputs
    }

    /// What the file says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether callers choose the number of rows.
    pub fn is_batched(&self) -> bool {
        self.inputs().iter().any(TensorSpec::is_batched)
    }

    /// Compiles the plan for `batch` rows now, so that the first call does not pay for it. Without effect where the
    /// batch is fixed.
    ///
    /// # Errors
    /// [`RunError::BatchSize`] or [`RunError::NotCompilable`].
    pub fn prepare(&self, batch: usize) -> Result<(), RunError> {
        let batch = if self.is_batched() { batch } else { 1 };
        self.plan(batch).map(|_| ())
    }

    /// Orders named tensors as [`run`](Self::run) wants them.
    ///
    /// # Errors
    /// [`RunError::UnknownInput`], [`RunError::DuplicateInput`] or [`RunError::WrongInputCount`].
    pub fn arrange(&self, named: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<Tensor>, RunError> {
        let mut slots: Vec<Option<Tensor>> = self.inputs().iter().map(|_| None).collect();
        for (name, tensor) in named {
            let Some(slot) = self.inputs().iter().position(|input| input.name == name) else {
                let known = self.inputs().iter().map(|input| input.name.clone()).collect();
                return Err(RunError::UnknownInput { tensor: brief(&name), known });
            };
            if slots[slot].replace(tensor).is_some() {
                return Err(RunError::DuplicateInput { tensor: name });
            }
        }
        let (expected, got) = (slots.len(), slots.iter().flatten().count());
        slots.into_iter().collect::<Option<_>>().ok_or(RunError::WrongInputCount { expected, got })
    }

    /// The outputs for `inputs`, both in declared order. Compiles a plan first if this batch size has none.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable after every one of them.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let batch = self.rows(inputs)?;
        if batch == 0
            && let Some(nothing) = self.nothing()
        {
            return Ok(nothing);
        }
        let plan = self.plan(batch)?;
        let computed = guarded(|| compute(&plan, inputs)).map_err(|what| RunError::Panicked { what })?;
        computed.map_err(|error| RunError::Failed { detail: brief(&format!("{error:#}")) })
    }

    /// Batch size of the call; 1 where it is fixed.
    fn rows(&self, inputs: &[Tensor]) -> Result<usize, RunError> {
        if inputs.len() != self.inputs().len() {
            return Err(RunError::WrongInputCount { expected: self.inputs().len(), got: inputs.len() });
        }
        let mut rows = None;
        for (spec, tensor) in self.inputs().iter().zip(inputs) {
            spec.admit(tensor)?;
            if let (true, Some(&got)) = (spec.is_batched(), tensor.shape().first()) {
                let expected = *rows.get_or_insert(got);
                if got != expected {
                    return Err(RunError::UnequalBatch { tensor: spec.name.clone(), expected, got });
                }
            }
        }
        Ok(rows.unwrap_or(1))
    }

    /// The outputs for no rows, where each output has a row for each row that goes in.
    fn nothing(&self) -> Option<Vec<Tensor>> {
        let empty = |spec: &TensorSpec| {
            let shape = spec.is_batched().then(|| spec.pinned(0))??;
            Tensor::new(shape, Data::none(spec.dtype)).ok()
        };
        self.outputs().iter().map(empty).collect()
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, RunError> {
        if batch == 0 || batch > self.batch_limit {
            return Err(RunError::BatchSize { got: batch, limit: self.batch_limit });
        }
        self.plans.get(batch).map_err(|cause| RunError::NotCompilable { batch, cause: Box::new(cause) })
    }
}

impl fmt::Debug for Model {
    // The plans would print every weight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("facts", &self.facts).finish_non_exhaustive()
    }
}

fn compute(plan: &Plan, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    let inputs = inputs.iter().map(|tensor| Ok(convert::to_tract(tensor)?.into_tvalue()));
    let mut state = plan.runnable.spawn()?;
    let outputs =
        state.run_plan_with_eval(inputs.collect::<TractResult<TVec<_>>>()?, |context, state, node, inputs| {
            let outputs = plan::eval(context, state, node, inputs);
            registers::rest();
            outputs
        })?;
    outputs.iter().map(|tensor| convert::from_tract(tensor)).collect()
}

#[cfg(test)]
mod tests;
